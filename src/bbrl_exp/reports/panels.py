"""What the pictures of a report share: panels, a legend, axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from bbrl_exp.reports.readable import short

_MOST_PANELS = 12
_SINGLE_WIDTH = 5.6


def panels(count: int, height: float, most: int, width: float) -> tuple[Figure, list[Axes]]:
    """A figure of at most twelve panels, row by row.

    Args:
        count: how many are wanted.
        height: of a panel, in inches.
        most: panels in a row.
        width: of a panel, in inches.
    """
    count = min(count, _MOST_PANELS)
    columns = min(count, most)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(width * columns, 6.8), height * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def add_legend(figure: Figure, axes: Sequence[Axes], names: Sequence[str]) -> None:
    """One legend for all panels: beside a single one, below several."""
    handles: dict[str, Artist] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    shown = [name for name in dict.fromkeys(names) if name in handles]
    longest = max((len(name) for name in shown), default=0)
    if len(axes) == 1:
        figure.set_figwidth(_SINGLE_WIDTH + 0.6 + 0.066 * longest)
        figure.legend([handles[name] for name in shown], shown, loc="outside right upper")
        return
    columns = max(1, min(len(shown), int(figure.get_figwidth() / (0.6 + 0.066 * longest))))
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(shown) / columns))
    figure.legend([handles[name] for name in shown], shown, loc="outside lower center", ncols=columns)


def with_runs(counts: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Setting → its name and how many runs it has in an environment.

    Args:
        counts: setting and number of runs, once per environment.
    """
    found: dict[str, set[int]] = {}
    for name, n_runs in counts:
        found.setdefault(name, set()).add(n_runs)
    spans = {name: sorted({min(of), max(of)}) for name, of in found.items()}
    return {name: f"{short(name)}  (n={' to '.join(map(str, span))})" for name, span in spans.items()}


def steps_axis(axes: Axes) -> None:
    """Makes the x axis one of environment steps."""
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5))
