"""The tables of a report as CSV: numbers in full, one file per table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from bbrl_exp.reports.contents import Report
from bbrl_exp.reports.courses import MEASURES
from bbrl_exp.reports.readable import readable, relative
from bbrl_exp.reports.statistics import Estimate
from bbrl_exp.text import csv_table

Cell = str | float | int | None
_ESTIMATE = ("", "_lower", "_upper")


def csv_files(report: Report, folder: Path) -> dict[str, str]:
    """The tables, file name → contents; paths of runs are relative to ``folder``, where the files will be."""
    return {
        "settings.csv": _settings(report),
        "improvement.csv": _improvement(report),
        "curves.csv": _curves(report),
        "efficiency.csv": _efficiency(report),
        "speed.csv": _speed(report),
        "courses.csv": _courses(report),
        "runs.csv": _runs(report, folder),
        "differences.csv": _differences(report),
    }


def _settings(report: Report) -> str:
    names = [f"{name}{end}" for name in ("iqm", "mean", "median") for end in _ESTIMATE]
    tables = [report.aggregate, *report.tables] if report.aggregate else report.tables
    rows = [
        [table.name, row.setting, row.n_runs, row.n_seeds, *_ends(row.iqm), *_ends(row.mean), *_ends(row.median)]
        for table in tables
        for row in table.rows
    ]
    return _text(["environment", "setting", "runs", "seeds", *names], rows)


def _improvement(report: Report) -> str:
    names = ["setting", "over", "environments", *(f"probability{end}" for end in _ESTIMATE)]
    return _text(
        names, ([item.one, item.other, item.n_environments, *_ends(item.probability)] for item in report.improvements)
    )


def _curves(report: Report) -> str:
    rows: list[list[Cell]] = []
    for curve in report.curves:
        none = [None] * len(curve.env_steps)
        columns = (
            none if of is None else of.tolist() for of in (curve.env_steps, curve.center, curve.lower, curve.upper)
        )
        rows += ([curve.environment, curve.setting, curve.n_runs, *point] for point in zip(*columns, strict=True))
    return _text(["environment", "setting", "runs", "env_steps", *(f"iqm{end}" for end in _ESTIMATE)], rows)


def _efficiency(report: Report) -> str:
    names = ["environment", "setting", "threshold", "runs", "reached", *(f"env_steps{end}" for end in _ESTIMATE)]
    rows = (
        [of.environment, of.setting, of.threshold, len(of.steps), of.n_reached, *_ends(of.median)]
        for of in report.efficiencies
    )
    return _text(names, rows)


def _speed(report: Report) -> str:
    names = [f"{name}{end}" for name in ("steps_per_second", "wall_seconds") for end in ("", "_least", "_most")]
    none = (None, None, None)
    rows = (
        [
            of.environment,
            of.setting,
            of.n_runs,
            *(of.steps_per_second or none),
            *(of.wall_seconds or none),
            len(of.side_by_side),
        ]
        for of in report.speeds
    )
    return _text(["environment", "setting", "runs", *names, "runs_side_by_side"], rows)


def _courses(report: Report) -> str:
    names = ["runs", "judged_by", "least_steps", "most_steps", "stopped_early", "extended"]
    ends = [f"{key.removeprefix('eval_')}{end}" for key in MEASURES for end in _ESTIMATE]
    rows: list[list[Cell]] = []
    for of in report.courses:
        row: list[Cell] = [of.environment, of.setting, of.n_runs, of.judged_by, of.least_steps, of.most_steps]
        row += [of.n_stopped, of.n_extended]
        rows.append(row + [end for key in MEASURES for end in _ends(of.measures.get(key, Estimate(math.nan)))])
    return _text(["environment", "setting", *names, *ends], rows)


def _runs(report: Report, folder: Path) -> str:
    names = ["setting", "environment", "seed", "score", "env_steps", "steps_per_second", "wall_seconds"]
    names.append("side_by_side_with")
    rows: list[list[Cell]] = [
        [
            relative(line.folder, folder),
            line.status,
            "yes" if line.counts else "no",
            *(getattr(line, name) for name in names),
            line.words,
            line.course,
        ]
        for line in report.lines
    ]
    rows += [
        [relative(item.folder, folder), "none", "no", *[None] * len(names), item.words, ""] for item in report.problems
    ]
    return _text(["folder", "status", "counts", *names, "what_is_wrong", "course"], rows)


def _differences(report: Report) -> str:
    rows = (
        [key, setting, " | ".join(values)]
        for key, of in report.groups.differences.items()
        for setting, values in of.items()
    )
    return _text(["key", "setting", "values"], rows)


def _ends(estimate: Estimate) -> list[Cell]:
    return [estimate.value, estimate.lower, estimate.upper]


def _text(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    return csv_table(columns, ([_cell(cell) for cell in row] for row in rows))


def _cell(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    return readable(cell) if isinstance(cell, str) else repr(cell)
