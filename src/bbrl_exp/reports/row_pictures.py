"""Pictures of rows, one per setting, in the same order in every panel: scores, probability of improvement, speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from bbrl_exp.reports.contents import Report
from bbrl_exp.reports.panels import Look, panels, with_runs
from bbrl_exp.reports.readable import short
from bbrl_exp.reports.statistics import Array, Estimate

MOST_ROWS = 25
_PANELS_A_ROW = 3


@dataclass(frozen=True)
class _Mark:
    """A value with its ends, and the runs behind it."""

    of: Estimate
    runs: Array | None = None


@dataclass(frozen=True)
class _Panel:
    """The marks of the settings, and what they are."""

    title: str
    words: str
    marks: Mapping[str, _Mark]


def draw_scores(report: Report, looks: Mapping[str, Look]) -> Figure | None:
    """Interquartile means with their intervals; each run is a stroke."""
    tables = [report.aggregate, *report.tables] if report.aggregate else list(report.tables)
    found = []
    for table in tables:
        marks = {row.setting: _Mark(row.iqm, np.concatenate(row.scores)) for row in table.rows}
        words = f"{short(report.metric)}{', normalised' if table is report.aggregate else ''}"
        found.append(_Panel(table.name, words, marks))
    counts = ((row.setting, len(scores)) for table in tables for row in table.rows for scores in row.scores)
    return _rows(found, report.best_first, with_runs(counts), looks)[0]


def draw_improvement(report: Report, looks: Mapping[str, Look]) -> Figure | None:
    """How probably a run of each setting does better than one of the reference."""
    of = [item for item in report.improvements if item.other == report.reference]
    marks = {item.one: _Mark(item.probability) for item in of}
    words = f"probability of doing better than {short(report.reference or '')}"
    names = {item.one: short(item.one) for item in of}
    figure, plots = _rows([_Panel("", words, marks)], list(marks), names, looks)
    for axes in plots:
        axes.axvline(0.5, color="#444444", linewidth=0.8, linestyle="--")
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    return figure


def draw_speed(report: Report, looks: Mapping[str, Look]) -> Figure | None:
    """Environment steps per second: median, slowest and fastest run; a star marks runs that are a part of a stack."""
    marks: dict[str, dict[str, _Mark]] = {}
    for speed in report.speeds:
        if speed.steps_per_second:
            marks.setdefault(speed.environment, {})[speed.setting] = _Mark(Estimate(*speed.steps_per_second))
    counts = ((speed.setting, speed.n_runs) for speed in report.speeds if speed.steps_per_second)
    beside = {speed.setting for speed in report.speeds if speed.side_by_side}
    words = f"environment steps per second{' (*: share of a stack)' if beside else ''}"
    found = [_Panel(environment, words, of) for environment, of in marks.items()]
    names = {name: f"{text}*" if name in beside else text for name, text in with_runs(counts).items()}
    figure, plots = _rows(found, report.best_first, names, looks)
    for axes in plots:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return figure


def _rows(
    found: Sequence[_Panel], order: Sequence[str], names: Mapping[str, str], looks: Mapping[str, Look]
) -> tuple[Figure | None, list[Axes]]:
    """The figure and its panels; none where there is nothing to show."""
    found = [panel for panel in found if panel.marks]
    order = [name for name in order if name in names][:MOST_ROWS]
    if not found:
        return None, []
    figure, plots = panels(len(found), 0.75 + 0.3 * len(order), _PANELS_A_ROW, 3.8)
    for index, (panel, axes) in enumerate(zip(found, plots, strict=False)):
        shown = {name: panel.marks[name] for name in order if name in panel.marks}
        _intervals(axes, shown, order, looks)
        for name, mark in shown.items():
            axes.plot(mark.of.value, order.index(name), looks[name].marker, color=looks[name].colour, markersize=6)
        # Only the first panel of a row of them names the settings: all have the same order.
        labels = [names[name] for name in order] if index % _PANELS_A_ROW == 0 else [""] * len(order)
        axes.set_yticks(range(len(order)), labels)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(short(panel.title), loc="left")
        axes.set_xlabel(panel.words)
    return figure, plots


def _intervals(axes: Axes, marks: Mapping[str, _Mark], order: Sequence[str], looks: Mapping[str, Look]) -> None:
    """Bars from end to end, and a stroke for each run: few artists, as each costs a millisecond."""
    bars = [
        (order.index(name), mark.of.lower, mark.of.upper, looks[name].colour)
        for name, mark in marks.items()
        if mark.of.lower is not None and mark.of.upper is not None
    ]
    if bars:
        places, lower, upper, colours = zip(*bars, strict=True)
        axes.hlines(places, lower, upper, colors=colours, linewidth=5, alpha=0.35)
    runs = [(name, score) for name, mark in marks.items() if mark.runs is not None for score in mark.runs.tolist()]
    axes.scatter(
        [score for _, score in runs],
        [order.index(name) for name, _ in runs],
        c=[looks[name].colour for name, _ in runs],
        marker="|",
        s=49,
        linewidths=1,
        alpha=0.45,
    )
