"""What the pictures of a report share: style, colours, panels, a legend, axes."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from bbrl_exp.reports.readable import short

_MOST_PANELS = 12
_SINGLE_WIDTH = 5.6

# Okabe and Ito's palette without black and yellow: distinct with every common colour vision, and on white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#666666")
_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D")

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.dpi": 100,
    "savefig.dpi": 140,
    "text.parse_math": False,
    "svg.hashsalt": "report",
    "svg.fonttype": "path",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draws in this style inside the block, whatever the user's settings of matplotlib are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        # Names may have any letters: a box is drawn where the font lacks one.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def saved(figure: Figure, form: str) -> bytes:
    """A file of the figure, ``svg`` or ``png``: the same bytes for the same figure."""
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    figure.savefig(file, format=form, metadata=metadata)
    return file.getvalue()


@dataclass(frozen=True)
class Look:
    """How one setting is drawn, in every picture."""

    colour: str
    dashes: str
    marker: str


def looks(settings: Sequence[str]) -> dict[str, Look]:
    """A look for each setting: colour and dashes both change, for curves that coincide and for grey prints."""
    return {
        name: Look(
            _COLOURS[index % len(_COLOURS)],
            _DASHES[index % len(_DASHES)],
            _MARKERS[index // len(_COLOURS) % len(_MARKERS)],
        )
        for index, name in enumerate(settings)
    }


def panels(count: int, height: float, most: int, width: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, twelve at most, ``most`` of them in a row; a panel's size is in inches."""
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
    """Setting → its name and how many runs it has in an environment, from these two for each environment."""
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
