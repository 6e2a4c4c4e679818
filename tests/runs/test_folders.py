"""Where runs and sweeps lie: any path, long overrides, foreign files, a full disk."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from bbrl_exp.config.compose import quoted
from bbrl_exp.runs.run import run
from bbrl_exp.training.checkpoint import read_checkpoint

from .conftest import CommandLine

SCRIPT = Path(__file__).parents[2] / "scripts" / "run.py"
SHORT = ["total_steps=64", "batch_size=2", "agent.steps_per_chunk=16", "tracking=none"]
STRANGE = "a=b, %s $HOME [1]{2} 'q\" \\' b\\c é e\u0301 🦜\n#;~(x)\\"


@pytest.mark.parametrize(
    "text",
    ["", "a'b", "a\\b", "a\\", "a\\\\", "\\'x", "new\nline", "$", STRANGE],
)
def test_a_quoted_text_is_read_as_it_is_written(text: str) -> None:
    value = OverridesParser.create().parse_override(f"key={quoted(text)}").value()
    assert str(value) == text


@pytest.mark.parametrize("arguments", [[], ["name='été_8'"], ["-m", "seed=1,2"]], ids=["date", "name", "sweep"])
def test_a_run_may_lie_below_any_path(
    arguments: list[str], command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / STRANGE).mkdir()
    monkeypatch.chdir(tmp_path / STRANGE)
    ended = command_line(*arguments, *SHORT)
    assert ended.code == 0, ended.err
    summaries = list((tmp_path / STRANGE / "outputs").rglob("summary.json"))
    assert len(summaries) == (2 if "-m" in arguments else 1)
    for path in summaries:
        assert json.loads(path.read_text())["status"] == "completed"
        assert (path.parent / ".hydra" / "config.yaml").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [STRANGE]
    if "name='été_8'" in arguments:
        assert "already complete" in command_line(*arguments, *SHORT).out


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_the_one_path_that_hydra_cannot_use_is_refused(
    arguments: list[str], command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "${seed}").mkdir()
    monkeypatch.chdir(tmp_path / "${seed}")
    ended = command_line(*arguments, *SHORT)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "Hydra takes ${ in a path for a reference" in ended.err
    assert list((tmp_path / "${seed}").iterdir()) == []


def test_jobs_of_very_long_overrides_have_folders_of_their_own(command_line: CommandLine, tmp_path: Path) -> None:
    nodes = [
        f"{{_target_: bbrl_exp.agents.tools.CopyTAgent, input_name: env/reward, output_name: {'x' * 4000}{number}}}"
        for number in range(2)
    ]
    ended = command_line("-m", "name=long", f"+agent.members.copy={','.join(nodes)}", *SHORT)
    assert ended.code == 0, ended.err
    folders = [path for path in (tmp_path / "outputs" / "multirun" / "long").iterdir() if path.is_dir()]
    assert len(folders) == 2
    assert all(len(path.name.encode()) < 120 for path in folders)
    again = command_line("-m", "name=long", f"+agent.members.copy={','.join(nodes)}", *SHORT)
    assert (again.code, "2 jobs, 0 to run" in again.out) == (0, True)


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_a_folder_of_foreign_files_is_refused_and_left_as_it_is(
    arguments: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("mine")
    key = "hydra.sweep.dir" if arguments else "hydra.run.dir"
    ended = command_line(*arguments, f"{key}=thesis", *SHORT)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "holds other files than those of a" in ended.err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_a_file_where_the_folder_should_be_is_named(
    arguments: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "outputs").write_text("a file")
    ended = command_line(*arguments, *SHORT)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "cannot be used: Not a directory" in ended.err
    assert (tmp_path / "outputs").read_text() == "a file"


def test_provenance_stands_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(["seed=3", "eval.seed=4", *SHORT])
    (session,) = json.loads((result.folder / "provenance.json").read_text())["sessions"]
    assert (session["status"], session["seeds"]) == ("completed", {"run": 3, "eval": 4})
    assert session["config_hash"] == result.summary.config_hash
    assert session["overrides"] == ["seed=3", "eval.seed=4", *SHORT]


def a_small_disk(folder: Path, kilobytes: int) -> list[str]:
    """The start of a command that runs the rest in ``folder`` on a disk of that size, and keeps a copy in ``kept``."""
    script = (
        'mount -t tmpfs -o size="$1" tmpfs "$2" && cd "$2" && shift 2 && "$@"; code=$?; cp -r . ../kept; exit $code'
    )
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", f"{kilobytes}k", str(folder)]


def may_mount() -> bool:
    """Whether this machine lets us mount a disk of our own."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs user namespaces, to mount a small disk")
@pytest.mark.parametrize("tracking", ["default", "none"])
def test_a_full_disk_is_named_and_the_last_whole_checkpoint_is_kept(tracking: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    arguments = [f"tracking={tracking}", "total_steps=40000", "batch_size=2", "eval.every=0"]
    checkpoints = ["checkpoint.every=64", "checkpoint.keep=100", "agent.steps_per_chunk=32"]
    ended = subprocess.run(
        [
            *a_small_disk(tmp_path / "disk", 600),
            *(sys.executable, str(SCRIPT), "agent=reinforce", "name=x"),
            *(*arguments, *checkpoints),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "No space left on device" in ended.stdout + ended.stderr
    assert "cannot write '" in ended.stdout + ended.stderr
    kept = sorted((tmp_path / "kept" / "outputs" / "x" / "checkpoints").glob("step_*.pt"))
    assert kept
    for path in kept:
        assert set(read_checkpoint(path)) == {"state", "meta"}
