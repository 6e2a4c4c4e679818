"""The table of a sweep: one row a job, as it is shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from bbrl_exp.records.claim import is_in_use
from bbrl_exp.records.layout import UnreadableError
from bbrl_exp.records.summary import PAUSED, beside_in_words, read_summary, status_of
from bbrl_exp.records.tables import SweepRow, read_sweep_table
from bbrl_exp.runs.console import Terminal


def is_job_fine(row: SweepRow) -> bool:
    """Whether the job did all that it was asked to."""
    return row.status in ("completed", "paused") or (row.error or "").startswith(PAUSED)


def row_of(sweep: Path, folder: str, varied: Sequence[str], error: str | None, *, is_stopped: bool) -> SweepRow:
    """The row of one job, from what its folder holds, unless an ``error`` kept it from running."""
    summary = read_summary(sweep / folder) or {}
    status = status_of(summary) or "failed"
    if error is not None:
        status = "failed"
    elif is_stopped and not summary:
        status, error = "interrupted", "not started"
    elif status == "running" and is_in_use(sweep / folder):
        error = "still running"
    elif status == "running" or not summary:
        status, error = ("interrupted" if is_stopped else "failed"), "its process ended without saying why"
    else:
        error = summary.get("error")
    return SweepRow(
        overrides=" ".join(varied),
        status=status,
        return_mean=summary.get("return_mean"),
        eval_return_mean=summary.get("eval_return_mean"),
        steps_per_second=summary.get("steps_per_second"),
        folder=folder,
        error=error,
        eval_success_rate=summary.get("eval_success_rate"),
        stopped_because=summary.get("stopped_because"),
        side_by_side_with=summary.get("side_by_side_with"),
    )


def other_rows(sweep: Path, known: Collection[str]) -> list[SweepRow]:
    """The rows of jobs that are in the sweep's folder and not among the ``known`` ones: those of earlier commands."""
    try:
        earlier = {row.folder: row.overrides for row in read_sweep_table(sweep)}
    except UnreadableError:
        earlier = {}
    rows = []
    for folder in sorted(sweep.iterdir()):
        if folder.name in known or (summary := read_summary(folder)) is None:
            continue
        varied = earlier.get(folder.name) or " ".join(map(str, summary.get("overrides", ())))
        rows.append(row_of(sweep, folder.name, [varied], None, is_stopped=False))
    return rows


def show_table(
    rows: Sequence[SweepRow], folder: Path, again: str | None = None, stacks: Sequence[Sequence[str]] = ()
) -> None:
    """Prints the table, and below it the speeds of stacks and the reason of every job that did not complete.

    Args:
        rows: one per job.
        folder: of the sweep.
        again: the command that resumes it, which is shown where a job was interrupted.
        stacks: the folders of the jobs that ran side by side.
    """
    console = Terminal()
    has_successes = any(row.eval_success_rate is not None for row in rows)
    console.table(
        "sweep",
        ("overrides", "status", "return", "evaluation", *(["success"] if has_successes else []), "steps/s", "folder"),
        [
            (
                row.overrides,
                row.status,
                _number(row.return_mean, ".4g"),
                _number(row.eval_return_mean, ".4g"),
                *([_number(row.eval_success_rate, ".3g")] if has_successes else []),
                _number(row.steps_per_second, ",.0f") + ("" if row.side_by_side_with is None else "*"),
                row.folder,
            )
            for row in rows
        ],
    )
    for line in _of_stacks(rows, folder, stacks):
        console.line(line)
    for row in rows:
        if row.error is not None:
            console.line(f"{row.status}: {row.overrides or row.folder}: {row.error}")
        elif row.stopped_because is not None:
            console.line(f"stopped early: {row.overrides or row.folder}: {row.stopped_because}")
    if again is not None and any(row.status in ("interrupted", "paused") for row in rows):
        console.line(f"to resume: {again}")
    console.line(f"folder: {folder}")


def _of_stacks(rows: Sequence[SweepRow], sweep: Path, stacks: Sequence[Sequence[str]]) -> list[str]:
    """What the mark in the table means, and how fast each stack was whose jobs were together from start to end."""
    counts = [row.side_by_side_with for row in rows if row.side_by_side_with is not None]
    lines = [f"* {beside_in_words(counts)}: the number is its share"] if counts else []
    for folders in stacks:
        jobs = [row for row in rows if row.folder in folders and row.side_by_side_with is not None]
        timed = [
            (steps, steps / row.steps_per_second)
            for row in jobs
            if row.steps_per_second and (steps := (read_summary(sweep / row.folder) or {}).get("env_steps"))
        ]
        if timed and max(row.side_by_side_with or 0 for row in jobs) == len(jobs) - 1 > 0:
            speed = sum(steps for steps, _ in timed) / max(seconds for _, seconds in timed)
            which = f" ({jobs[0].overrides} and {len(jobs) - 1} more)" if len(stacks) > 1 else ""
            lines.append(f"stack of {len(jobs)}{which}: {speed:,.0f} steps/s together")
    return lines


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
