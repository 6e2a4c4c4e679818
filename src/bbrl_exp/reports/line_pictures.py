"""Pictures of lines: performance profiles, learning curves, sample efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bbrl_exp.records.metrics import EVALUATIONS
from bbrl_exp.reports.contents import Report
from bbrl_exp.reports.panels import Look, add_legend, panels, steps_axis, with_runs
from bbrl_exp.reports.readable import short
from bbrl_exp.reports.statistics import Array, draw, has_interval, interval, performance_profile

MOST_LINES = 14
_MOST_STEPS = 400
_RESAMPLES = 2_000


@dataclass(frozen=True)
class _Line:
    """The line of a setting, ``[X]`` each, and the ends of its interval."""

    x: Array
    y: Array
    band: tuple[Array, Array] | None = None


def draw_profiles(report: Report, looks: Mapping[str, Look]) -> Figure | None:
    """The fraction of runs above each score."""
    tables = [report.aggregate] if report.aggregate else list(report.tables)
    tables = [table for table in tables if table.rows]
    found: dict[str, dict[str, _Line]] = {}
    for table in tables:
        rows = table.rows[:MOST_LINES]
        scores = np.concatenate([np.concatenate(row.scores) for row in rows])
        margin = 0.03 * (scores.max() - scores.min()) or 0.5
        steps = np.unique(scores)
        if len(steps) > _MOST_STEPS:
            steps = np.linspace(scores.min(), scores.max(), _MOST_STEPS)
        grid = np.concatenate([[scores.min() - margin], steps, [scores.max() + margin]])
        lines = found[table.name] = {}
        for row in rows:
            band = None
            if has_interval(row.scores):
                drawn = [of[:_RESAMPLES] for of in draw(row.scores, row.setting)]
                resampled = [of[which] for of, which in zip(row.scores, drawn, strict=True)]
                band = interval(performance_profile(resampled, grid))
            lines[row.setting] = _Line(grid, performance_profile(row.scores, grid), band)
    names = with_runs((row.setting, len(scores)) for table in tables for row in table.rows for scores in row.scores)
    figure, plots = _lines(found, list(names), names, looks, "fraction of runs above", is_stepped=True)
    for axes in plots:
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(f"{short(report.metric)}{', normalised' if report.aggregate else ''}")
    return figure


def draw_curves(report: Report, looks: Mapping[str, Look]) -> Figure | None:
    """Returns over environment steps."""
    shown = report.best_first[:MOST_LINES]
    found: dict[str, dict[str, _Line]] = {}
    for curve in report.curves:
        lines = found.setdefault(curve.environment, {})
        if curve.setting in shown:
            band = None if curve.lower is None or curve.upper is None else (curve.lower, curve.upper)
            lines[curve.setting] = _Line(curve.env_steps, curve.center, band)
    words = "evaluation return" if report.source == EVALUATIONS else "training return, last 100 episodes"
    figure, plots = _lines(found, shown, _names(report), looks, words)
    for environment, axes in zip(found, plots, strict=False):
        if environment in report.thresholds:
            axes.axhline(report.thresholds[environment], color="#444444", linewidth=0.8, linestyle=(0, (1, 2)))
        steps_axis(axes)
    return figure


def draw_efficiency(report: Report, looks: Mapping[str, Look]) -> Figure | None:
    """The fraction of runs that have reached the threshold, over environment steps."""
    shown = report.best_first[:MOST_LINES]
    found: dict[str, dict[str, _Line]] = {}
    for of in report.efficiencies:
        lines = found.setdefault(f"{short(of.environment)}: return {of.threshold:g}", {})
        if of.setting in shown:
            reached = of.steps[np.isfinite(of.steps)]
            fractions = np.concatenate([[0], np.arange(1, len(reached) + 1), [len(reached)]]) / len(of.steps)
            lines[of.setting] = _Line(np.concatenate([[0.0], reached, [of.budget]]), fractions)
    words = "fraction of runs that reached it"
    figure, plots = _lines(found, shown, _names(report), looks, words, height=2.8, is_stepped=True)
    for axes in plots:
        axes.set_ylim(-0.03, 1.03)
        steps_axis(axes)
    return figure


def _lines(
    found: Mapping[str, Mapping[str, _Line]],
    order: Sequence[str],
    names: Mapping[str, str],
    looks: Mapping[str, Look],
    y_label: str,
    *,
    height: float = 3.0,
    is_stepped: bool = False,
) -> tuple[Figure | None, list[Axes]]:
    """The figure and its panels from ``found``, title → setting → line; none where there is nothing to show."""
    if not found:
        return None, []
    figure, plots = panels(len(found), height, 3, 3.6)
    for (title, lines), axes in zip(found.items(), plots, strict=False):
        for setting, line in lines.items():
            look = looks[setting]
            axes.plot(
                line.x,
                line.y,
                color=look.colour,
                linestyle=look.dashes,
                drawstyle="steps-post" if is_stepped else "default",
                marker=look.marker if len(line.x) == 1 else "",
                label=names[setting],
            )
            if line.band is not None:
                step: Literal["post"] | None = "post" if is_stepped else None
                axes.fill_between(line.x, *line.band, color=look.colour, alpha=0.15, linewidth=0, step=step)
        axes.set_title(short(title), loc="left")
    plots[0].set_ylabel(y_label)
    add_legend(figure, plots, [names[name] for name in order if name in names])
    return figure, plots


def _names(report: Report) -> dict[str, str]:
    return with_runs((curve.setting, curve.n_runs) for curve in report.curves)
