"""Folders of runs, whole and damaged: each is read or named, none is fatal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.files import write_json
from bbrl_exp.records.tables import SweepRow, write_sweep_table
from bbrl_exp.reports.run_folder import find_runs, read_run

WriteRun = Callable[..., Path]


def names(folder: Path) -> list[str]:
    return [run.name for run in find_runs([folder])[0]]


def test_runs_are_found_at_any_depth_and_each_once(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "b" / "c" / "one")
    write_run(tmp_path / "a")
    assert names(tmp_path) == ["a", "one"]
    assert [run.name for run in find_runs([tmp_path / "b", tmp_path, tmp_path / "a"])[0]] == ["one", "a"]
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
    (folder,) = find_runs([tmp_path])[0]
    run = read_run(folder)
    assert (run.status, run.error) == ("damaged", "no summary.json")


def test_a_sweep_with_files_of_its_own_is_no_run(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "seed=1")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "multirun.yaml").write_text("", encoding="utf-8")
    assert names(tmp_path) == ["seed=1"]


def test_jobs_that_never_made_a_folder_are_told_by_the_sweeps_table(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "seed=1")
    write_run(tmp_path / "seed=3", status="failed", error="killed")
    rows = [
        SweepRow("seed=1", "completed", 1.0, None, None, "seed=1"),
        SweepRow("seed=2", "failed", None, None, None, "seed=2", "out of memory"),
        SweepRow("seed=3", "failed", None, None, None, "seed=3", "killed"),
    ]
    write_sweep_table(tmp_path, rows)
    _, problems = find_runs([tmp_path])
    assert [problem.words for problem in problems] == ["failed: seed=2: out of memory"]
    table = tmp_path / "sweep.json"
    table.write_bytes(table.read_bytes()[:15])
    words = [problem.words for problem in find_runs([tmp_path])[1]]
    assert words == ["sweep.json is not JSON, or only a part of it"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a")
    (tmp_path / "b").mkdir(mode=0)
    assert [problem.words for problem in find_runs([tmp_path])[1]] == ["cannot be read: Permission denied"]
    (tmp_path / "b").chmod(0o700)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "summary.json is empty"),
        (lambda data: data[:20], "summary.json is not JSON, or only a part of it"),
        (lambda data: b"[" * 100_000 + data, "summary.json is not JSON, or only a part of it"),
        (lambda data: b"[" + data + b"]", "summary.json holds no keys"),
        (lambda data: b"\xff\xfe" + data, "summary.json is not UTF-8"),
        (
            lambda data: data.replace(b'"status"', b'"state"'),
            "summary.json has status null, not one of running, completed, paused, interrupted, failed, diverged",
        ),
        (
            lambda data: data.replace(b'"completed"', b"[]"),
            "summary.json has status [], not one of running, completed, paused, interrupted, failed, diverged",
        ),
    ],
)
def test_a_damaged_summary_is_named(
    tmp_path: Path, write_run: WriteRun, damage: Callable[[bytes], bytes], words: str
) -> None:
    path = write_run(tmp_path / "one") / "summary.json"
    path.write_bytes(damage(path.read_bytes()))
    run = read_run(tmp_path / "one")
    assert (run.status, run.error) == ("damaged", words)


def test_a_summary_of_another_version_gives_what_it_has(tmp_path: Path) -> None:
    contents = {"status": "completed", "return_mean": "?", "new": 3, "seed": "one", "env_steps": "??", "versions": "5"}
    write_json(tmp_path / "summary.json", contents)
    path = tmp_path / "summary.json"  # Python's own writer would have written the numbers like this
    path.write_text(path.read_text().replace('"??"', "1e999").replace('"?"', "NaN"), encoding="utf-8")
    run = read_run(tmp_path)
    assert run.numbers == {"new": 3.0}
    assert (run.agent, run.seed, run.texts) == (None, None, {})
    assert run.faults == ("summary.json names no environment", "no .hydra/config.yaml", "no metrics.csv")


def test_an_integer_beyond_all_floats_is_no_number(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", {"status": "completed", "return_mean": 10**400})
    assert read_run(tmp_path).numbers == {}


def test_a_run_without_its_configuration_is_known_by_its_overrides(tmp_path: Path, write_run: WriteRun) -> None:
    folder = write_run(tmp_path / "one", overrides=["agent=ppo", "+agent.members.x=1", "~tracking", "batch_size=4"])
    (folder / ".hydra" / "config.yaml").unlink()
    run = read_run(folder)
    assert not run.has_config
    assert run.config == {"agent": "ppo", "env": "cartpole", "agent.members.x": "1", "batch_size": "4", "seed": "0"}
