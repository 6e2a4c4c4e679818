"""Folders of runs, whole and damaged: each is read or named, none is fatal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config_file import UnreadableConfigError, overridden, read_config
from bbrl_exp.records.metrics_file import EVALUATIONS, TRAINING_RETURNS, read_metrics
from bbrl_exp.reports.run_folder import read_run
from bbrl_exp.reports.search import find_runs

WriteRun = Callable[..., Path]


def names(folder: Path) -> list[str]:
    return [run.name for run in find_runs([folder]).runs]


def test_runs_are_found_at_any_depth_and_each_once(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "b" / "c" / "one")
    write_run(tmp_path / "a")
    assert names(tmp_path) == ["a", "one"]
    assert [run.name for run in find_runs([tmp_path / "b", tmp_path, tmp_path / "a"]).runs] == ["one", "a"]
    assert names(tmp_path / "a") == ["a"]


def test_symbolic_links_are_followed_and_their_loops_are_not(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "runs" / "one")
    (tmp_path / "runs" / "again").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "runs" / "itself").symlink_to("itself")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to(tmp_path / "runs" / "one")
    assert names(tmp_path / "runs") == ["one"]
    assert names(tmp_path / "other") == ["link"]


def test_a_folder_that_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    with pytest.raises(ConfigurationError, match=r"swep': no such folder; did you mean 'sweep'\?"):
        find_runs([tmp_path / "swep"])
    with pytest.raises(ConfigurationError, match=r"no runs below .*sweep"):
        find_runs([tmp_path / "sweep"])


def test_a_folder_that_was_begun_and_has_no_summary_is_named(tmp_path: Path) -> None:
    (tmp_path / "one" / ".hydra").mkdir(parents=True)
    (folder,) = find_runs([tmp_path]).runs
    run = read_run(folder)
    assert (run.status, run.error) == ("damaged", "no summary.json")


def test_a_sweep_with_files_of_its_own_is_no_run(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "seed=1")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "multirun.yaml").write_text("", encoding="utf-8")
    assert names(tmp_path) == ["seed=1"]


def test_jobs_that_never_made_a_folder_are_told_by_the_sweeps_table(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "seed=1")
    jobs = [
        {"overrides": "seed=1", "status": "completed", "folder": "seed=1"},
        {"overrides": "seed=2", "status": "failed", "folder": "seed=2", "error": "out of memory"},
        {"overrides": "seed=3", "status": "failed", "folder": "seed=3", "error": "killed"},
    ]
    write_run(tmp_path / "seed=3", status="failed", error="killed")
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": jobs}), encoding="utf-8")
    found = find_runs([tmp_path])
    assert [problem.words for problem in found.problems] == ["failed: seed=2: out of memory"]
    (tmp_path / "sweep.json").write_text('{"jobs": [{"over', encoding="utf-8")
    assert [problem.words for problem in find_runs([tmp_path]).problems] == ["sweep.json cannot be read"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a")
    (tmp_path / "b").mkdir(mode=0)
    assert [problem.words for problem in find_runs([tmp_path]).problems] == ["cannot be read: Permission denied"]
    (tmp_path / "b").chmod(0o700)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "summary.json is empty"),
        (b'{"status": "comp', "summary.json is not JSON, or only a part of it"),
        (b"[" * 100_000, "summary.json is not JSON, or only a part of it"),
        (b"[1, 2]", "summary.json holds no keys"),
        (b"\xff\xfe{}", "summary.json is not UTF-8"),
        (b"{}", "summary.json has status null, not one of running, completed, interrupted, failed, diverged"),
        (b'{"status": []}', "summary.json has status [], not one of running, completed, interrupted, failed, diverged"),
    ],
)
def test_a_damaged_summary_is_named(tmp_path: Path, write_run: WriteRun, contents: bytes, words: str) -> None:
    folder = write_run(tmp_path / "one")
    (folder / "summary.json").write_bytes(contents)
    run = read_run(folder)
    assert (run.status, run.error) == ("damaged", words)


def test_a_summary_of_another_version_gives_what_it_has(tmp_path: Path) -> None:
    contents = (
        '{"status": "completed", "return_mean": NaN, "new": 3, "seed": "one", "env_steps": 1e999, "versions": "5"}'
    )
    (tmp_path / "summary.json").write_text(contents, encoding="utf-8")
    run = read_run(tmp_path)
    assert run.numbers == {"new": 3.0}
    assert (run.agent, run.seed, run.texts) == (None, None, {})
    assert run.faults == ("summary.json names no environment", "no .hydra/config.yaml", "no metrics.csv")


def test_an_integer_beyond_all_floats_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(f'{{"status": "completed", "return_mean": 1{"0" * 400}}}', encoding="utf-8")
    assert read_run(tmp_path).numbers == {}


def test_a_run_without_its_configuration_is_known_by_its_overrides(tmp_path: Path, write_run: WriteRun) -> None:
    folder = write_run(tmp_path / "one", overrides=["agent=ppo", "+agent.members.x=1", "~tracking", "batch_size=4"])
    (folder / ".hydra" / "config.yaml").unlink()
    run = read_run(folder)
    assert not run.has_config
    assert run.config == {"agent": "ppo", "env": "cartpole", "agent.members.x": "1", "batch_size": "4", "seed": "0"}


def test_overrides_are_read_as_hydra_writes_them() -> None:
    assert overridden(["a.b=1", "++c=x=y", "~d", "~e=1", "f@g=h"]) == {"a.b": "1", "c": "x=y", "f@g": "h"}


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"a: [1, 2", "is not YAML"),
        (b"\xff\xfe\xfa", "is not YAML"),
        (b"a: &x [1]\nb: *x\n", "holds aliases, or is nested too deeply"),
        (b"[" * 60, "holds aliases, or is nested too deeply"),
        (b"- 1\n", "is not a mapping"),
        (b"", "is not a mapping"),
        (b"a: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        (b"? [1]\n: 2\n? {a: 1}\n: 3\n", "is not YAML"),
        (b"a: 2026-13-01\n", "is not YAML"),
        (b"a: [{1: 2, b: 3}]\n", "is not YAML"),
        (b"#" * 1_000_001, "has more than 1,000,000 bytes"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, contents: bytes, words: str) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_bytes(contents)
    with pytest.raises(UnreadableConfigError) as error:
        read_config(tmp_path)
    assert str(error.value) == f".hydra/config.yaml {words}"


def test_a_configuration_is_dotted_keys_and_texts(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    text = "a:\n  b: 0.001\n  c: [1, x]\n  d: {}\n  e: null\nf: true\ng: ${a.b}\n1: 2026-01-01\n"
    (tmp_path / ".hydra" / "config.yaml").write_text(text, encoding="utf-8")
    assert read_config(tmp_path) == {
        "a.b": "0.001",
        "a.c": '[1, "x"]',
        "a.d": "{}",
        "a.e": "null",
        "f": "true",
        "g": "${a.b}",
        "1": '"2026-01-01"',
    }


def test_metrics_are_read_with_the_episodes_in_the_order_of_steps(tmp_path: Path) -> None:
    text = "env_steps,name,value,environment\n20,train/return,3.0,1\n10,train/return,2.0,0\n10,time/x,7.5,\n"
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    metrics = read_metrics(tmp_path)
    assert metrics.faults == ()
    assert metrics.last == {"train/return": 2.0, "time/x": 7.5}
    assert metrics.series[TRAINING_RETURNS].env_steps.tolist() == [10, 20]
    assert metrics.series[TRAINING_RETURNS].values.tolist() == [2, 3]
    assert EVALUATIONS not in metrics.series


@pytest.mark.parametrize(
    ("contents", "faults"),
    [
        (None, ("no metrics.csv",)),
        (b"", ("metrics.csv is empty",)),
        (b"time,what\n1,2\n", ("the columns of metrics.csv are not env_steps,name,value",)),
        (b"env_steps,name,value,environment\n1,eval/return_mean,12", ("the last row of metrics.csv is not whole",)),
        (b"env_steps,name,value,environment\n\xff\n1,b\nx,a,1,\n", ("3 rows of metrics.csv cannot be read",)),
        (
            b"env_steps,name,value,environment\n1,eval/return_mean,nan,\n2,eval/return_mean,-1e308,\n",
            ("2 returns in metrics.csv are not finite, or beyond 1e+100",),
        ),
    ],
)
def test_damaged_metrics_are_named(tmp_path: Path, contents: bytes | None, faults: tuple[str, ...]) -> None:
    if contents is not None:
        (tmp_path / "metrics.csv").write_bytes(contents)
    metrics = read_metrics(tmp_path)
    assert metrics.faults == faults
    assert not metrics.series


def test_metrics_that_are_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    assert read_metrics(tmp_path).faults == ("metrics.csv cannot be read: Is a directory",)
