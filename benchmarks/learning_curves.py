"""Draws the learning curves of the records, a panel a pair: every seed of this project and of the peer.

python benchmarks/learning_curves.py [--out docs/images/learning_curves.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from learning_records import THRESHOLDS, Record, env_of, read_records
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "learning_curves.png"
_COLOURS = {"bbrl_exp": "#1f6fb2", "stable-baselines3": "#d9822b"}
_COLUMNS = 5


def draw(axes: Axes, pair: str, runs: Mapping[str, Sequence[Record]]) -> None:
    """One pair: thin lines for the seeds, a thick one for their mean, the threshold dotted."""
    for who in reversed(_COLOURS):
        records = runs.get(who, ())
        for record in records:
            env_steps, means = np.transpose(record.curve)
            axes.plot(env_steps / 1000, means, color=_COLOURS[who], linewidth=0.6, alpha=0.45)
        if records:
            n_points = min(len(record.curve) for record in records)
            curves = np.array([record.curve[:n_points] for record in records])
            env_steps, means = curves.mean(axis=0).T
            axes.plot(env_steps / 1000, means, color=_COLOURS[who], linewidth=2.0)
    axes.axhline(THRESHOLDS[env_of(pair)], color="#888888", linewidth=0.8, linestyle=":")
    axes.set_title(pair.replace("_", " "), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def picture(records: Mapping[tuple[str, str, int], Record]) -> Figure:
    """All pairs, environment by environment."""
    environments = list(THRESHOLDS)
    pairs = sorted({key[0] for key in records}, key=lambda pair: (environments.index(env_of(pair)), pair))
    n_rows = -(-len(pairs) // _COLUMNS)
    figure = Figure(figsize=(3.0 * _COLUMNS, 2.1 * n_rows + 0.6), dpi=100, layout="constrained")
    panels = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for pair, axes in zip(pairs, panels, strict=False):
        runs = {who: [record for key, record in records.items() if key[:2] == (pair, who)] for who in _COLOURS}
        draw(axes, pair, runs)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    lines = [matplotlib.lines.Line2D([], [], color=colour, linewidth=2.0) for colour in _COLOURS.values()]
    figure.legend(lines, list(_COLOURS), loc="outside upper left", ncols=2, frameon=False)
    figure.supxlabel("thousands of environment steps", fontsize=9)
    figure.supylabel("mean return of an evaluation", fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE)
    picture(read_records()).savefig(parser.parse_args().out)


if __name__ == "__main__":
    main()
