"""What the live table shows of jobs, from what lies in their folders."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.records.metrics import MetricsFile
from bbrl_exp.records.summary import Status, Summary
from bbrl_exp.sweeps.jobs import Job, JobChecks, named_jobs
from bbrl_exp.sweeps.watch import SweepWatch

SUMMARY = Summary("running", "mlp", "cartpole", "CartPole-v1", 1, 8)
STEPS = 1024


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    with Composer(default_config_dir()) as composer:
        checks = JobChecks(composer, [])
        batches = [["agent=mlp", f"seed={seed}", f"total_steps={STEPS}"] for seed in range(4)]
        return checks(named_jobs(batches))


def stand(sweep: Path, seed: int, status: Status, error: str | None = None, steps: int = 0) -> None:
    folder = sweep / f"seed={seed}"
    folder.mkdir(exist_ok=True)
    replace(SUMMARY, status=status, error=error).write(folder)
    if steps:
        with contextlib.closing(MetricsFile(folder)) as metrics:
            metrics.episodes([8, steps], [0, 3], [9.0, 21.5], [9, 21])
            metrics.scalars(steps, {"losses/policy": 0.5})


def test_the_table_tells_how_many_jobs_stand_where_and_how_far_they_are(tmp_path: Path, jobs: list[Job]) -> None:
    watch = SweepWatch(tmp_path, jobs)
    assert watch.lines(0.0) == ["0 of 4 jobs completed, 0 failed, 0 running, 4 waiting; 0:00"]
    stand(tmp_path, 0, "completed")
    stand(tmp_path, 1, "failed", "the agent is broken")
    stand(tmp_path, 2, "running", steps=512)
    watch._look()
    watch._look()  # the progress of a job is read once it is known to run
    steps = 2 * STEPS + 512
    left = round(60 * (4 * STEPS - steps) / steps)
    assert watch.lines(60.0) == [
        f"1 of 4 jobs completed, 1 failed, 1 running, 1 waiting; 1:00, about 0:{left} left",
        "  seed=2   50 %  512 / 1,024 steps  return 21.5",
        "  failed: seed=1: the agent is broken",
    ]


def test_paused_jobs_have_not_failed(tmp_path: Path, jobs: list[Job]) -> None:
    watch = SweepWatch(tmp_path, jobs)
    stand(tmp_path, 0, "completed")
    stand(tmp_path, 1, "paused", "paused after 512 environment steps (pause_after)")
    stand(tmp_path, 2, "interrupted", "paused after 512 environment steps (pause_after)")  # of version 0.1.0
    watch._look()
    assert watch.lines(0.0)[0].startswith("1 of 4 jobs completed, 2 paused, 0 failed, 0 running, 1 waiting; ")


def test_the_table_follows_a_job_while_it_writes(tmp_path: Path, jobs: list[Job]) -> None:
    watch = SweepWatch(tmp_path, jobs)
    stand(tmp_path, 0, "running")
    watch._look()
    with contextlib.closing(MetricsFile(tmp_path / "seed=0")) as metrics:
        for steps, value in ((256, 10.0), (1024, 12.0)):
            metrics.scalars(steps, {"eval/return_mean": value, "a name, with\na line break": 7.0})
            watch._look()
            assert watch.lines(1.0)[1] == (
                f"  seed=0  {100 * steps // STEPS:3d} %  {steps:,} / 1,024 steps  return {value:.4g}"
            )


def test_a_job_that_goes_on_waits_until_its_summary_is_written_anew(tmp_path: Path, jobs: list[Job]) -> None:
    stand(tmp_path, 0, "interrupted", "stopped by SIGTERM")
    watch = SweepWatch(tmp_path, jobs)
    watch._look()
    assert watch.lines(0.0)[0].startswith("0 of 4 jobs completed, 0 failed, 0 running, 4 waiting")
    stand(tmp_path, 0, "running")
    watch._look()
    assert watch.lines(0.0)[0].startswith("0 of 4 jobs completed, 0 failed, 1 running, 3 waiting")


def test_a_damaged_or_empty_record_shows_no_progress(tmp_path: Path, jobs: list[Job]) -> None:
    watch = SweepWatch(tmp_path, jobs)
    stand(tmp_path, 0, "running", steps=512)
    metrics = tmp_path / "seed=0" / "metrics.csv"
    metrics.write_bytes(metrics.read_bytes().replace(b"8,", b"\xff,").replace(b"512", b"x"))
    stand(tmp_path, 1, "running")
    summary = tmp_path / "seed=1" / "summary.json"
    summary.write_bytes(summary.read_bytes()[:1])
    watch._look()
    watch._look()
    assert watch.lines(0.0)[1:] == ["  seed=0    0 %  0 / 1,024 steps"]


def test_jobs_that_are_not_to_run_count_as_they_are(tmp_path: Path, jobs: list[Job]) -> None:
    watch = SweepWatch(tmp_path, [replace(jobs[0], is_complete=True), replace(jobs[1], error="bad"), *jobs[2:]])
    assert watch.lines(0.0)[0].startswith("0 of 2 jobs completed (and 2 that were complete or cannot run), 0 failed")
