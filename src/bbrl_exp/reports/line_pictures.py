"""Pictures of lines: performance profiles, learning curves, sample efficiency."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from bbrl_exp.records.metrics import EVALUATIONS
from bbrl_exp.reports.contents import Report
from bbrl_exp.reports.panels import add_legend, panels, steps_axis, with_runs
from bbrl_exp.reports.readable import short
from bbrl_exp.reports.statistics import draw, has_interval, interval, performance_profile
from bbrl_exp.reports.style import Look

MOST_LINES = 14
_MOST_STEPS = 400
_RESAMPLES = 2_000


def draw_profiles(report: Report, looks_of: Mapping[str, Look]) -> Figure | None:
    """The fraction of runs above each score."""
    tables = [report.aggregate] if report.aggregate else list(report.tables)
    tables = [table for table in tables if table.rows]
    if not tables:
        return None
    counts: dict[str, set[int]] = {}
    for table in tables:
        for row in table.rows:
            counts.setdefault(row.setting, set()).update(len(scores) for scores in row.scores)
    names = with_runs(counts)
    figure, plots = panels(len(tables), 3.0, 3, 3.6)
    for table, axes in zip(tables, plots, strict=False):
        rows = table.rows[:MOST_LINES]
        scores = np.concatenate([np.concatenate(row.scores) for row in rows])
        margin = 0.03 * (scores.max() - scores.min()) or 0.5
        steps = np.unique(scores)
        if len(steps) > _MOST_STEPS:
            steps = np.linspace(scores.min(), scores.max(), _MOST_STEPS)
        grid = np.concatenate([[scores.min() - margin], steps, [scores.max() + margin]])
        for row in rows:
            look = looks_of[row.setting]
            axes.plot(
                grid,
                performance_profile(row.scores, grid),
                color=look.colour,
                linestyle=look.dashes,
                drawstyle="steps-post",
                label=names[row.setting],
            )
            if has_interval(row.scores):
                drawn = [of[:_RESAMPLES] for of in draw(row.scores, row.setting)]
                resampled = [of[which] for of, which in zip(row.scores, drawn, strict=True)]
                lower, upper = interval(performance_profile(resampled, grid))
                axes.fill_between(grid, lower, upper, color=look.colour, alpha=0.13, linewidth=0, step="post")
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(short(table.name), loc="left")
        axes.set_xlabel(f"{short(report.metric)}{', normalised' if report.aggregate else ''}")
    plots[0].set_ylabel("fraction of runs above")
    add_legend(figure, plots, [names[row.setting] for table in tables for row in table.rows])
    return figure


def draw_curves(report: Report, looks_of: Mapping[str, Look]) -> Figure | None:
    """Returns over environment steps."""
    shown = report.best_first[:MOST_LINES]
    environments = list(dict.fromkeys(curve.environment for curve in report.curves))
    names = _names(report)
    if not environments:
        return None
    figure, plots = panels(len(environments), 3.0, 3, 3.6)
    for environment, axes in zip(environments, plots, strict=False):
        for curve in report.curves:
            if curve.environment != environment or curve.setting not in shown:
                continue
            look = looks_of[curve.setting]
            is_point = len(curve.env_steps) == 1
            axes.plot(
                curve.env_steps,
                curve.center,
                color=look.colour,
                linestyle=look.dashes,
                marker=look.marker if is_point else "",
                label=names[curve.setting],
            )
            if curve.lower is not None and curve.upper is not None:
                axes.fill_between(curve.env_steps, curve.lower, curve.upper, color=look.colour, alpha=0.16, linewidth=0)
        if environment in report.thresholds:
            axes.axhline(report.thresholds[environment], color="#444444", linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_title(short(environment), loc="left")
        steps_axis(axes)
    plots[0].set_ylabel("evaluation return" if report.source == EVALUATIONS else "training return, last 100 episodes")
    add_legend(figure, plots, [names[name] for name in shown if name in names])
    return figure


def draw_efficiency(report: Report, looks_of: Mapping[str, Look]) -> Figure | None:
    """The fraction of runs that have reached the threshold, over environment steps."""
    shown = report.best_first[:MOST_LINES]
    environments = list(dict.fromkeys(found.environment for found in report.efficiencies))
    names = _names(report)
    if not environments:
        return None
    figure, plots = panels(len(environments), 2.8, 3, 3.6)
    for environment, axes in zip(environments, plots, strict=False):
        of = [found for found in report.efficiencies if found.environment == environment]
        for found in of:
            if found.setting not in shown:
                continue
            look = looks_of[found.setting]
            reached = found.steps[np.isfinite(found.steps)]
            steps = np.concatenate([[0.0], reached, [found.budget]])
            fractions = np.concatenate([[0], np.arange(1, len(reached) + 1), [len(reached)]]) / len(found.steps)
            axes.plot(
                steps,
                fractions,
                color=look.colour,
                linestyle=look.dashes,
                drawstyle="steps-post",
                label=names[found.setting],
            )
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(f"{short(environment)}: return {report.thresholds[environment]:g}", loc="left")
        steps_axis(axes)
    plots[0].set_ylabel("fraction of runs that reached it")
    add_legend(figure, plots, [names[name] for name in shown if name in names])
    return figure


def _names(report: Report) -> dict[str, str]:
    counts: dict[str, set[int]] = {}
    for curve in report.curves:
        counts.setdefault(curve.setting, set()).add(curve.n_runs)
    return with_runs(counts)
