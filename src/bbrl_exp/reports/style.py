"""How pictures look: one style and one set of colours for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
