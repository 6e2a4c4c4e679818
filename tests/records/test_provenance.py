"""Where a run comes from."""

import datetime
import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from bbrl_exp.records.provenance import (
    distributions,
    git_commit,
    machine,
    read_sessions,
    record_end,
    record_run_id,
    record_start,
    run_id_of,
)
from bbrl_exp.records.provenance import repositories as found_repositories


def start(folder: Path) -> None:
    record_start(folder, ["seed=3"], {"run": 3, "eval": 0}, 1, "cpu", "abc")


def commit_of(folder: Path) -> str:
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_every_start_of_a_run_is_an_entry_with_its_times(tmp_path: Path) -> None:
    start(tmp_path)
    (session,) = read_sessions(tmp_path)
    assert (session["status"], session["ended"]) == ("running", None)
    record_end(tmp_path, "interrupted")
    start(tmp_path)
    record_end(tmp_path, "completed")
    one, two = read_sessions(tmp_path)
    assert [one["status"], two["status"]] == ["interrupted", "completed"]
    for entry in (one, two):
        began, ended = (datetime.datetime.fromisoformat(entry[key]) for key in ("started", "ended"))
        assert began.tzinfo is not None
        assert began <= ended
    assert one["process"] == os.getpid()
    assert one["directory"] == os.getcwd()
    assert (one["seeds"], one["threads"], one["config_hash"]) == ({"run": 3, "eval": 0}, 1, "abc")
    assert one["packages"]["torch"] == torch.__version__
    assert {path.name for path in tmp_path.iterdir()} == {"provenance.json"}


def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text("{")
    record_end(tmp_path, "completed")
    start(tmp_path)
    assert len(read_sessions(tmp_path)) == 1


def test_the_machine_is_described() -> None:
    found = machine()
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert found["logical_cores"] == os.cpu_count()
    assert all(found[key] for key in ("host", "system"))


def test_the_repository_of_the_current_directory_is_named_with_its_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "file").write_text("1")
    commit = commit_of(tmp_path)
    monkeypatch.chdir(tmp_path / "below")
    (tmp_path / "untracked").touch()
    assert found_repositories()[-1] == {"folder": str(tmp_path), "commit": commit, "changes": False}
    (tmp_path / "file").write_text("2")
    assert found_repositories()[-1]["changes"] is True


def test_the_repository_of_a_users_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_provenance.py").write_text("")
    commit = commit_of(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    __import__("of_provenance")
    assert commit in [found["commit"] for found in found_repositories(["of_provenance", "not_imported"])]


def test_without_git_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert found_repositories() == []
    assert git_commit(found_repositories()) is None


def test_installed_packages_are_named_with_their_versions() -> None:
    assert distributions()["torch"] == torch.__version__


def test_to_record_a_start_costs_a_moment(tmp_path: Path) -> None:
    durations = []
    for _ in range(3):
        begun = time.perf_counter()
        start(tmp_path)
        durations.append(time.perf_counter() - begun)
    assert min(durations) < 0.5  # about 10 ms; what is tested is that it is not a second


def test_the_repository_of_the_current_directory_runs_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("1")
    commit = commit_of(tmp_path)
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    (tmp_path / ".gitattributes").write_text("* filter=a=b\n* filter=c\n")
    for key in ("core.fsmonitor", "filter.a=b.clean", "filter.c.clean", "filter.c.process"):
        subprocess.run(["git", "config", key, str(trap)], cwd=tmp_path, check=True)
    (tmp_path / "file").write_text("2")
    monkeypatch.chdir(tmp_path)
    assert found_repositories()[-1] == {"folder": str(tmp_path), "commit": commit, "changes": True}
    assert not (tmp_path / "sprung").exists()


def test_the_id_of_a_run_is_the_one_noted_last_or_made_of_its_first_start(tmp_path: Path) -> None:
    start(tmp_path)
    made = run_id_of(tmp_path, {"seed": 3})
    start(tmp_path)
    assert run_id_of(tmp_path, {"seed": 3}) == made != run_id_of(tmp_path, {"seed": 4})
    assert len(made) == 16
    record_run_id(tmp_path, "0123456789abcdef")
    start(tmp_path)
    assert run_id_of(tmp_path, {"seed": 3}) == "0123456789abcdef"
    assert [session.get("run_id") for session in read_sessions(tmp_path)] == [None, "0123456789abcdef", None]
