"""The table of a sweep: one row a job, on the screen and as ``sweep.json`` and ``sweep.csv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bbrl_exp.records.folder import is_in_use
from bbrl_exp.records.summary import read_summary, write_json
from bbrl_exp.runs.console import Terminal
from bbrl_exp.runs.execution import PAUSED


@dataclass(frozen=True)
class Row:
    """One line of a sweep's table: a job and what came of it."""

    overrides: str
    status: str
    return_mean: float | None
    eval_return_mean: float | None
    steps_per_second: float | None
    folder: str
    error: str | None = None

    @property
    def is_fine(self) -> bool:
        """Whether the job did all that it was asked to."""
        return self.status == "completed" or (self.error or "").startswith(PAUSED)


def row_of(sweep: Path, folder: str, varied: Sequence[str], error: str | None, *, is_stopped: bool) -> Row:
    """The row of one job, from what its folder holds.

    Args:
        sweep: the sweep's folder.
        folder: the name of the job's folder in it.
        varied: the overrides in which jobs differ.
        error: why the job did not run, None where it did.
        is_stopped: whether a signal stopped the sweep.
    """
    summary = read_summary(sweep / folder) or {}
    status = str(summary.get("status", "failed"))
    if error is not None:
        status = "failed"
    elif is_stopped and not summary:
        status, error = "interrupted", "not begun"
    elif status == "running" and is_in_use(sweep / folder):
        error = "it still runs"
    elif status == "running" or not summary:
        status, error = ("interrupted" if is_stopped else "failed"), "its process ended without a word"
    else:
        error = summary.get("error")
    return Row(
        overrides=" ".join(varied),
        status=status,
        return_mean=summary.get("return_mean"),
        eval_return_mean=summary.get("eval_return_mean"),
        steps_per_second=summary.get("steps_per_second"),
        folder=folder,
        error=error,
    )


def other_rows(sweep: Path, known: Collection[str]) -> list[Row]:
    """The rows of jobs that are in the sweep's folder and not among the ``known`` ones: those of earlier commands."""
    earlier = {row.get("folder"): row for row in _earlier_rows(sweep) if isinstance(row, dict)}
    rows = []
    for folder in sorted(sweep.iterdir()):
        if folder.name in known or (summary := read_summary(folder)) is None:
            continue
        varied = earlier.get(folder.name, {}).get("overrides") or " ".join(map(str, summary.get("overrides", ())))
        rows.append(row_of(sweep, folder.name, [varied], None, is_stopped=False))
    return rows


def _earlier_rows(sweep: Path) -> list[Any]:
    try:
        jobs = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return jobs if isinstance(jobs, list) else []


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """Writes ``sweep.json`` and ``sweep.csv`` in the sweep's folder."""
    contents: list[dict[str, Any]] = [asdict(row) for row in rows]
    write_json(folder / "sweep.json", {"jobs": contents})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(contents)
    (folder / "sweep.csv").write_text(text.getvalue(), encoding="utf-8")


def show_table(rows: Sequence[Row], folder: Path) -> None:
    """Prints the table, and below it the reason of every job that did not complete."""
    console = Terminal()
    console.table(
        "sweep",
        ("overrides", "status", "return", "evaluation", "steps/s", "folder"),
        [
            (
                row.overrides,
                row.status,
                _number(row.return_mean, ".4g"),
                _number(row.eval_return_mean, ".4g"),
                _number(row.steps_per_second, ",.0f"),
                row.folder,
            )
            for row in rows
        ],
    )
    for row in rows:
        if row.error is not None:
            console.line(f"{row.status}: {row.overrides or row.folder}: {row.error}")
    console.line(f"folder: {folder}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
