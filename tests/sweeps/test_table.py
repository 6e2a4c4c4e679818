"""The rows of a sweep's table, from what the folders hold."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bbrl_exp.records.claim import FolderClaim
from bbrl_exp.records.summary import Status, Summary
from bbrl_exp.records.tables import SweepRow, write_sweep_table
from bbrl_exp.sweeps.table import is_job_fine, other_rows, row_of, show_table

SUMMARY = Summary(
    "completed", "ppo", "cartpole", "CartPole-v1", 1, 8, return_mean=20.0, overrides=("agent=ppo", "seed=1")
)


def write(sweep: Path, name: str, status: Status = "completed", error: str | None = None) -> None:
    (sweep / name).mkdir()
    replace(SUMMARY, status=status, error=error).write(sweep / name)


def test_jobs_of_earlier_commands_keep_the_overrides_they_were_listed_with(tmp_path: Path) -> None:
    for name in ("seed=1", "seed=2", "seed=3"):
        write(tmp_path, name)
    (tmp_path / "report").mkdir()
    write_sweep_table(tmp_path, [SweepRow("seed=1", "completed", 20.0, None, None, "seed=1")])
    rows = other_rows(tmp_path, {"seed=3"})
    assert [(row.folder, row.overrides) for row in rows] == [("seed=1", "seed=1"), ("seed=2", "agent=ppo seed=1")]
    assert {row.return_mean for row in rows} == {20.0}


def test_a_damaged_table_is_read_as_if_there_were_none(tmp_path: Path) -> None:
    write(tmp_path, "seed=1")
    write_sweep_table(tmp_path, [SweepRow("seed=1", "completed", 20.0, None, None, "seed=1")])
    path = tmp_path / "sweep.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert [row.overrides for row in other_rows(tmp_path, ())] == ["agent=ppo seed=1"]


@pytest.mark.parametrize(
    ("status", "is_stopped", "expected"),
    [
        ("completed", True, ("completed", None)),
        ("running", False, ("failed", "its process ended without saying why")),
        ("running", True, ("interrupted", "its process ended without saying why")),
        (None, True, ("interrupted", "not started")),
        (None, False, ("failed", "its process ended without saying why")),
    ],
)
def test_a_row_tells_how_a_job_stands(
    status: Status | None, is_stopped: bool, expected: tuple[str, str | None], tmp_path: Path
) -> None:
    if status is not None:
        write(tmp_path, "job", status)
    row = row_of(tmp_path, "job", ["seed=1"], None, is_stopped=is_stopped)
    assert (row.status, row.error) == expected


def test_speeds_of_stacked_jobs_are_marked_as_shares_and_added_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*with_others: int | None, env_steps: Sequence[int] = (1000,) * 4) -> list[str]:
        rows = []
        for seed, (number, steps) in enumerate(zip(with_others, env_steps, strict=False)):
            (tmp_path / f"seed={seed}").mkdir(exist_ok=True)
            changed = replace(SUMMARY, side_by_side_with=number, steps_per_second=500.0, env_steps=steps)
            changed.write(tmp_path / f"seed={seed}")
            rows.append(row_of(tmp_path, f"seed={seed}", [f"seed={seed}"], None, is_stopped=False))
        show_table(rows, tmp_path, stacks=stacks)
        return capsys.readouterr().out.splitlines()

    stacks = [("seed=0", "seed=1")]
    assert said(1, 1, None)[2:] == [
        "  seed=0     completed  20      -           500*     seed=0",
        "  seed=1     completed  20      -           500*     seed=1",
        "  seed=2     completed  20      -           500      seed=2",
        "* trained side by side with 1 other: the number is its share",
        "stack of 2: 1,000 steps/s together",
        f"folder: {tmp_path}",
    ]
    # One job has stopped early, after half of the time.
    assert said(1, 0, env_steps=(1000, 2000))[-3:-1] == [
        "* trained side by side with 0 to 1 others: the number is its share",
        "stack of 2: 750 steps/s together",
    ]
    # Each alone in its stack, as they resumed at different steps: there is no speed together.
    assert said(0, 0)[-2] == "* trained side by side, with no other left at the end: the number is its share"
    stacks = [("seed=0", "seed=1"), ("seed=2", "seed=3")]
    assert said(1, 1, 1, 1)[-4:-1] == [
        "* trained side by side with 1 other: the number is its share",
        "stack of 2 (seed=0 and 1 more): 1,000 steps/s together",
        "stack of 2 (seed=2 and 1 more): 1,000 steps/s together",
    ]
    stacks = []
    assert said(None)[-2:] == ["  seed=0     completed  20      -           500      seed=0", f"folder: {tmp_path}"]


def test_a_job_whose_folder_is_held_still_runs(tmp_path: Path) -> None:
    write(tmp_path, "job", "running")
    with FolderClaim(tmp_path / "job"):
        row = row_of(tmp_path, "job", ["seed=1"], None, is_stopped=False)
    assert (row.status, row.error, is_job_fine(row)) == ("running", "still running", False)


def test_a_job_that_was_paused_has_done_what_it_was_asked_to(tmp_path: Path) -> None:
    write(tmp_path, "job", "interrupted", "paused after 64 environment steps (pause_after)")
    assert is_job_fine(row_of(tmp_path, "job", ["seed=1"], None, is_stopped=False))
