"""Whole runs: what they leave, how they end."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import prepared
import pytest
import torch

from bbrl_exp.errors import ConfigurationError, NonFiniteError
from bbrl_exp.records import provenance
from bbrl_exp.runs.run import build_graph, run
from bbrl_exp.workspace import Workspace

from .conftest import CommandLine

SCRIPT = Path(__file__).parents[2] / "scripts" / "run.py"
SHORT = ["total_steps=512", "agent.steps_per_chunk=32"]


def summary_of(folder: Path) -> dict[str, Any]:
    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(), parse_constant=refuse)
    return found


def test_the_front_door_leaves_the_folder_that_is_promised(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "agent=random", "env=cartpole", "total_steps=4096"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    (folder,) = (tmp_path / "outputs").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {".hydra", "summary.json", "run.log", "metrics.csv"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert ".lock" not in names
    assert {path.name for path in (folder / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    log = (folder / "run.log").read_text()
    assert "\x1b" not in done.stdout + log
    for text in ("TemporalAgent", "env/env_obs", "RandomAgent 'policy'", "4,096", "completed", str(folder)):
        assert text in done.stdout
        assert text in log
    summary = summary_of(folder)
    expected = {
        "status": "completed",
        "agent": "random",
        "env": "cartpole",
        "env_id": "CartPole-v1",
        "seed": 0,
        "batch_size": 8,
        "env_steps": 4096,
        "eval_return_mean": None,
        "eval_return_std": None,
        "best_eval_return_mean": None,
        "error": None,
    }
    assert {key: summary[key] for key in expected} == expected
    assert summary["episodes"] > 50
    assert 15 < summary["return_mean"] < 30
    assert summary["wall_seconds"] > 0
    assert summary["steps_per_second"] > 0
    assert summary["command"].endswith("agent=random env=cartpole total_steps=4096")
    assert {"python", "torch", "gymnasium"} <= set(summary["versions"])
    assert {"git_commit", "config_hash"} <= set(summary)


def test_what_only_prints_does_not_load_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from bbrl_exp.commands.run import main; code = main(sys.argv[1:]);"
        "assert code == 0; assert not {'torch', 'gymnasium'} & set(sys.modules)"
    )
    for arguments in (["--help"], ["--cfg", "job"], ["--info", "defaults"]):
        subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_the_same_seed_are_equal_and_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two, other = (run([*SHORT, f"seed={seed}"]) for seed in (1, 1, 2))
    assert len({one.folder, two.folder, other.folder}) == 3
    assert (one.summary.return_mean, one.summary.episodes) == (two.summary.return_mean, two.summary.episodes)
    assert one.summary.config_hash == two.summary.config_hash != other.summary.config_hash
    assert (one.summary.return_mean, one.summary.episodes) != (other.summary.return_mean, other.summary.episodes)


def test_a_run_asks_for_the_commit_of_its_checkout_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provenance, "_repository_of_this_package", lambda: tmp_path)
    monkeypatch.setattr(provenance, "_commit", lambda root: asked.append(root))
    run(SHORT)
    assert asked == [tmp_path]  # for summary.json and for provenance.json


def test_a_named_run_that_is_complete_is_left_as_it_is(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line("name=mine", *SHORT).code == 0
    folder = tmp_path / "outputs" / "mine"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = command_line("name=mine", *SHORT)
    assert again.code == 0
    assert "already complete" in again.out
    other = command_line("name=mine", *SHORT, "seed=5")
    assert other.code == 2
    assert "another configuration" in other.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_without_tracking_only_summary_and_log_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run(["tracking=none", *SHORT]).folder
    assert {path.name for path in folder.iterdir()} == {
        ".hydra",
        "checkpoints",
        "provenance.json",
        "run.log",
        "summary.json",
    }


def test_debug_shortens_the_run(command_line: CommandLine) -> None:
    ended = command_line("debug=true", "name=x")
    assert ended.code == 0
    assert "2,048 environment steps" in ended.out


@pytest.mark.usefixtures("users_package")
def test_an_agent_of_the_users_package_joins_the_graph(command_line: CommandLine, tmp_path: Path) -> None:
    node = "{_target_: users_own.Doubler, variable: env/reward, after: env}"
    ended = command_line(f"+agent.members.doubler={node}", *SHORT)
    assert ended.code == 0
    assert "env/reward/double" in ended.out
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    (tmp_path / "mine" / "agent" / "doubling.yaml").write_text(
        "# Mine.\ndefaults: [random, _self_]\nmembers:\n  doubler:\n    _target_: users_own.Doubler\n"
        "    variable: env/reward\n    after: env\n"
    )
    ended = command_line("--config-dir", "mine", "agent=doubling", *SHORT)
    assert ended.code == 0
    assert "env/reward/double" in ended.out


@pytest.mark.usefixtures("users_package")
def test_a_reward_that_is_no_number_ends_the_run_with_3(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("env=gym", "env.id=UsersNotANumber-v0", "name=x", "batch_size=2")
    assert ended.code == 3
    summary = summary_of(tmp_path / "outputs" / "x")
    assert summary["status"] == "diverged"
    for part in ("env/reward", "environment 0", "t=5", "nan"):
        assert part in summary["error"]
    assert "Traceback" in (tmp_path / "outputs" / "x" / "run.log").read_text()
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.usefixtures("users_package")
def test_a_failing_agent_is_recorded_and_told(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("+agent.members.broken={_target_: users_own.Broken, at: 7}", "name=x")
    assert ended.code == 1
    assert summary_of(tmp_path / "outputs" / "x")["status"] == "failed"
    error = summary_of(tmp_path / "outputs" / "x")["error"]
    assert re.fullmatch(r"ZeroDivisionError: the agent is broken \(in Broken 'broken', users_own\.py:\d+\)", error)
    assert "ZeroDivisionError" in (tmp_path / "outputs" / "x" / "run.log").read_text()


@pytest.mark.usefixtures("users_package")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_environment_is_told_in_one_line(command_line: CommandLine, workers: int) -> None:
    wrapper = "+env.wrappers.x={_target_: users_own.Unplugged, at: 300}"
    ended = command_line(wrapper, f"env.workers={workers}", "batch_size=2", "name=x")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    for part in ("error: ", "RuntimeError: unplugged", "in environment 1, episode", "at t="):
        assert part in ended.err
    assert "Traceback" in Path("outputs/x/run.log").read_text()


@pytest.mark.usefixtures("users_package")
def test_agents_are_checked_with_the_batch_size_of_the_run(command_line: CommandLine, tmp_path: Path) -> None:
    node = "+agent.members.two={_target_: users_own.NeedsTwo}"
    assert command_line(node, "batch_size=2", "name=x", *SHORT).code == 0
    assert summary_of(tmp_path / "outputs" / "x")["status"] == "completed"


@pytest.mark.usefixtures("users_package")
def test_warnings_stand_in_the_log(command_line: CommandLine, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="old news"):  # from the checks before the run
        ended = command_line("+agent.members.w={_target_: users_own.Warns}", "name=x", *SHORT, "tracking=none")
    assert ended.code == 0
    assert "UserWarning: old news" in (tmp_path / "outputs" / "x" / "run.log").read_text()


@pytest.mark.usefixtures("users_package")
def test_a_signal_in_the_last_chunk_leaves_a_completed_run(command_line: CommandLine, tmp_path: Path) -> None:
    node = "+agent.members.stops={_target_: users_own.Stops, at: 20}"
    ended = command_line(node, "name=x", "batch_size=8", "total_steps=256", "agent.steps_per_chunk=32")
    assert ended.code == 0
    assert summary_of(tmp_path / "outputs" / "x")["status"] == "completed"
    assert summary_of(tmp_path / "outputs" / "x")["error"] is None


def test_a_run_goes_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "name=x", *SHORT], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), errors) == (0, b"")
    assert summary_of(tmp_path / "outputs" / "x")["status"] == "completed"
    assert "completed" in (tmp_path / "outputs" / "x" / "run.log").read_text()


def test_a_folder_chosen_by_its_path_is_used_as_it_is(command_line: CommandLine, tmp_path: Path) -> None:
    for said in ("completed", "already complete"):
        assert said in command_line("hydra.run.dir=a", *SHORT, "tracking=none").out
        assert "sweep: 1 job, " in command_line("-m", "hydra.sweep.dir=s", "seed=1", *SHORT, "tracking=none").out
    assert {path.name for path in tmp_path.iterdir()} == {"a", "s"}


@pytest.mark.parametrize("keys", ["[lives]", "{lives: float32}"])
def test_info_is_recorded_by_a_list_of_keys_or_a_mapping_to_dtypes(keys: str) -> None:
    graph = build_graph([f"env.info_keys={keys}"])
    workspace = Workspace()
    graph(workspace, t=0, n_steps=2)
    graph.close()
    assert workspace["env/info/lives"].dtype == torch.float32


def test_from_python_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users_package: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="batch_size"):
        run(["batch_size=0"])
    with pytest.raises(NonFiniteError):
        run(["env=gym", "env.id=UsersNotANumber-v0"])
    with pytest.raises(ZeroDivisionError):
        run([f"+agent.members.broken={{_target_: {users_package}.Broken, at: 7}}"])


def test_a_signal_stops_the_run_and_a_second_run_in_its_folder_is_refused(
    command_line: CommandLine, tmp_path: Path
) -> None:
    arguments = ["name=x", "total_steps=100_000_000", "tracking=none"]
    process = prepared.start([*prepared.RUN, *arguments], tmp_path)
    try:
        process.wait_for("\n  folder")
        second = command_line(*arguments)
        assert second.code == 2
        assert f"in use by process {process.pid}" in second.err
    finally:
        process.send(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    summary = summary_of(tmp_path / "outputs" / "x")
    assert summary["status"] == "interrupted"
    assert summary["env_steps"] > 0
