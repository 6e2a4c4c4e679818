"""How the end of a job's process is told, and what is recorded of it."""

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bbrl_exp.records.summary import Summary
from bbrl_exp.runs.ending import JobEnding, record_death

RUNNING = Summary("running", "ppo", "cartpole", "CartPole-v1", 1, 8, env_steps=64, versions={"python": "3"})
OVERRIDES = ("agent=ppo", "tracking=none")


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (JobEnding(7), "its process ended with exit code 7"),
        (JobEnding(1, "key 'seed' = -1: must be 0 or more"), "key 'seed' = -1: must be 0 or more"),
        (JobEnding(-signal.SIGTERM), "stopped by SIGTERM"),
        (JobEnding(-signal.SIGSEGV), "its process was killed by SIGSEGV"),
        (JobEnding(-signal.SIGKILL), "its process was killed by SIGKILL, perhaps for lack of memory"),
    ],
)
def test_the_reason_names_code_signal_or_refusal(ending: JobEnding, reason: str) -> None:
    assert ending.reason == reason


def recorded(folder: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return contents


@pytest.mark.parametrize(
    ("code", "status"), [(-signal.SIGKILL, "failed"), (3, "failed"), (-signal.SIGUSR2, "interrupted")]
)
def test_the_summary_of_a_job_that_died_in_its_run_is_completed(code: int, status: str, tmp_path: Path) -> None:
    RUNNING.write(tmp_path)
    record_death(tmp_path, JobEnding(code), OVERRIDES)
    expected = asdict(replace(RUNNING, status=status, error=JobEnding(code).reason))  # type: ignore[arg-type]
    assert recorded(tmp_path) == json.loads(json.dumps(expected))
    assert JobEnding(code).reason in (tmp_path / "run.log").read_text()


def test_a_job_that_told_its_end_itself_is_left_as_it_is(tmp_path: Path) -> None:
    told = replace(RUNNING, status="diverged", error="a loss is nan")
    told.write(tmp_path)
    record_death(tmp_path, JobEnding(3), OVERRIDES)
    assert recorded(tmp_path)["error"] == "a loss is nan"
    assert not (tmp_path / "run.log").exists()


def test_a_job_that_died_before_its_summary_leaves_one_that_says_so(tmp_path: Path) -> None:
    record_death(tmp_path / "job", JobEnding(-signal.SIGKILL), OVERRIDES)
    assert recorded(tmp_path / "job")["status"] == "failed"
    assert recorded(tmp_path / "job")["overrides"] == list(OVERRIDES)


@pytest.mark.parametrize("ending", [JobEnding(-signal.SIGTERM), JobEnding(2, "in use by process 7")])
def test_a_job_that_was_asked_to_stop_or_refused_before_it_began_leaves_nothing(
    ending: JobEnding, tmp_path: Path
) -> None:
    record_death(tmp_path, ending, OVERRIDES)
    assert list(tmp_path.iterdir()) == []
