"""Draws the learning curves of the memory benchmark: a panel per task, a line per cell, the mean over its seeds."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from learning_records import Record
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from memory_tasks import CONTESTANTS, TASKS

_STYLES = {
    "gru": ("#1f6fb2", "-"),
    "lstm": ("#2a9d5c", "-"),
    "min_gru": ("#7b4fb5", "-"),
    "lru": ("#c8372d", "-"),
    "stack": ("#8c6d31", "--"),
    "gtrxl": ("#d16ba5", "-"),
    "feed_forward": ("#777777", "--"),
    "sb3_contrib": ("#d9822b", ":"),
}
_COLUMNS = 4


def draw(axes: Axes, name: str, records: Mapping[tuple[str, str, int], Record]) -> None:
    """One task: the mean over seeds of each contestant, and a thin line at the best return."""
    for contestant in reversed(CONTESTANTS):
        curves = [record.curve for key, record in records.items() if key[:2] == (name, contestant) and record.curve]
        if curves:
            n_points = min(len(curve) for curve in curves)
            env_steps, means = np.mean([curve[:n_points] for curve in curves], axis=0).T
            colour, style = _STYLES[contestant]
            axes.plot(env_steps / 1000, means, color=colour, linestyle=style, linewidth=1.5)
    axes.axhline(TASKS[name].best, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_title(TASKS[name].title, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def picture(records: Mapping[tuple[str, str, int], Record]) -> Figure:
    """All tasks that have a record."""
    names = [name for name in TASKS if any(key[0] == name for key in records)]
    n_rows = max(1, -(-len(names) // _COLUMNS))
    figure = Figure(figsize=(3.0 * _COLUMNS, 2.2 * n_rows + 0.7), dpi=100, layout="constrained")
    panels = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for name, axes in zip(names, panels, strict=False):
        draw(axes, name, records)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    lines = [
        matplotlib.lines.Line2D([], [], color=colour, linestyle=style, linewidth=1.8)
        for colour, style in _STYLES.values()
    ]
    labels = [contestant.replace("_", " ") for contestant in _STYLES]
    figure.legend(lines, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=9)
    figure.supxlabel("thousands of environment steps", fontsize=9)
    figure.supylabel("mean return of an evaluation, mean over seeds", fontsize=9)
    return figure
