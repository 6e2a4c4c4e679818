"""The tables of a sweep and of a search: ``sweep.json`` and ``search.json``, each with its rows as CSV beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.files import read_json, write_json
from bbrl_exp.records.layout import SEARCH_TABLE, SWEEP_TABLE, UnreadableError
from bbrl_exp.text import csv_table


@dataclass(frozen=True)
class SweepRow:
    """One job of a sweep and its result, as in the summary of its run.

    Attributes:
        overrides: those in which the jobs differ.
        folder: its name in the sweep's folder.
    """

    overrides: str
    status: str
    return_mean: float | None
    eval_return_mean: float | None
    steps_per_second: float | None
    folder: str
    error: str | None = None
    eval_success_rate: float | None = None
    stopped_because: str | None = None
    side_by_side_with: int | None = None


def write_sweep_table(sweep: Path, rows: Sequence[SweepRow]) -> None:
    """Writes ``sweep.json`` and ``sweep.csv``.

    Raises:
        BbrlExpError: the disk refuses.
    """
    contents = [dataclasses.asdict(row) for row in rows]
    columns = [field.name for field in dataclasses.fields(SweepRow)]
    _write(sweep / SWEEP_TABLE, {"jobs": contents}, columns, (row.values() for row in contents))


def read_sweep_table(sweep: Path) -> list[SweepRow]:
    """The rows of ``sweep.json``.

    Raises:
        UnreadableError: the file is missing or damaged.
    """
    jobs = read_json(sweep / SWEEP_TABLE).get("jobs")
    columns = [field.name for field in dataclasses.fields(SweepRow)]
    try:
        rows = [SweepRow(**{name: job.get(name) for name in columns}) for job in jobs or ()]
    except (AttributeError, TypeError) as error:
        raise UnreadableError(f"{SWEEP_TABLE} cannot be read") from error
    if jobs is None or not all(isinstance(row.folder, str) and isinstance(row.status, str) for row in rows):
        raise UnreadableError(f"{SWEEP_TABLE} cannot be read")
    return rows


def write_search_table(
    search: Path, contents: Mapping[str, Any], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Writes ``search.json`` with ``contents``, and ``search.csv`` with one row per trial.

    Raises:
        BbrlExpError: the disk refuses.
    """
    _write(search / SEARCH_TABLE, contents, columns, rows)


def _write(path: Path, contents: Mapping[str, Any], columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    write_json(path, contents)
    table = path.with_suffix(".csv")
    try:
        table.write_text(csv_table(columns, rows), encoding="utf-8")
    except OSError as error:
        raise BbrlExpError(f"cannot write '{table}': {error.strerror or error}") from error
