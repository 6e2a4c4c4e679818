"""The picture of a memory over an episode: what was seen and done, the states, and how long inputs matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from bbrl_exp.functional.influence import Influence, memory_length
from bbrl_exp.records.metrics import ACTIONS_IN_WORDS, Acting
from bbrl_exp.reports.panels import saved, style
from bbrl_exp.reports.readable import readable, short

_WIDTH = 12.0
_SMALL, _LARGE = 0.95, 1.9  # heights of panels in inches
_MOST_LINES, _MOST_ROWS = 8, 512
_FEW = 30
_SCALE = "{x:g}"
_LEAST = 1e-4  # of the largest gradient: smaller ones have the same colour
_BLUE, _RED = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class SeenMemory:
    """What was seen of a memory in an episode of R rows, in R − 1 of which an action was taken.

    Attributes:
        name: of the agent whose memory it is.
        cell: what it is, in words; None for a memory of which nothing but its states is known.
        states: with which each row was processed, ``[R, S]``.
        saturation: the fraction of its units that were saturated after the first row; None where none can be.
        head: what the gradients are of, in words.
        influence: of the inputs of the R − 1 rows; None where it cannot be known.
    """

    name: str
    cell: str | None
    states: NDArray[Any]
    saturation: float | None = None
    head: str = ""
    influence: Influence | None = None

    @property
    def norms(self) -> NDArray[np.float64]:
        """The norms of the states, ``[R]``."""
        return np.asarray(np.linalg.norm(self.states.astype(np.float64), axis=1))


@dataclass(frozen=True)
class SeenEpisode:
    """An episode of R rows; in the last one no action is taken.

    Attributes:
        env_id: name of the environment.
        acting: whether the most likely actions were taken or actions sampled.
        env_steps: after how many environment steps of its run the policy was kept; None where nothing was.
        total_reward: the return.
        observations: by variable, ``[R, …]`` each.
        actions: by variable, ``[R − 1, …]`` each.
        rewards: ``[R]``; the first is 0.
        memories: of the agents of the graph.
    """

    env_id: str
    acting: Acting
    env_steps: int | None
    total_reward: float
    observations: Mapping[str, NDArray[Any]]
    actions: Mapping[str, NDArray[Any]]
    rewards: NDArray[Any]
    memories: tuple[SeenMemory, ...]

    @property
    def length(self) -> int:
        """Number of steps."""
        return len(self.rewards) - 1

    @property
    def in_words(self) -> str:
        """Return, length and how the policy acted."""
        return f"return {self.total_reward:.6g} in {self.length:,} steps, {ACTIONS_IN_WORDS[self.acting]}"


def draw_memories(episode: SeenEpisode) -> bytes:
    """A PNG file of an episode."""
    with style():
        return saved(_figure(episode), "png")


def _figure(episode: SeenEpisode) -> Figure:
    variables = {**episode.observations, **episode.actions, "env/reward": episode.rewards}
    heights = [_SMALL] * len(variables) + [_LARGE, _SMALL] * len(episode.memories)
    influences = {each.name: each for each in episode.memories if each.influence is not None}
    figure = Figure(figsize=(_WIDTH, 0.6 + max(sum(heights), 3.6 * len(influences))), layout="constrained")
    when = "" if episode.env_steps is None else f" after {episode.env_steps:,} environment steps"
    figure.suptitle(readable(f"{episode.env_id}{when}: {episode.in_words}"), fontsize=11)
    parts = figure.subfigures(1, 2, squeeze=False, width_ratios=[3, 2])[0] if influences else [figure, figure]
    panels = list(parts[0].subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    last = panels[-1]
    for name, rows in variables.items():
        _draw_variable(panels.pop(0), name, rows)
    for memory in episode.memories:
        _draw_states(panels.pop(0), memory)
        _draw_norms(panels.pop(0), memory)
    last.set_xlabel("time step")
    last.set_xlim(-0.5, episode.length + 0.5)
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    if influences:
        n_panels = 2 * len(influences)
        right = iter(parts[1].subplots(n_panels, 1, squeeze=False, height_ratios=[5, 3] * len(influences))[:, 0])
        for memory in influences.values():
            assert memory.influence is not None
            _draw_triangle(next(right), memory.influence, f"{short(memory.name)}: gradient of the {memory.head}")
            _draw_lags(next(right), memory.influence)
    return figure


def _draw_variable(axes: Axes, name: str, rows: NDArray[Any]) -> None:
    """Lines for a few components, an image for more, the mean of very many."""
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    n_components = flat.shape[1]
    axes.set_title(short(name), loc="left", fontsize=9)
    if n_components <= _MOST_LINES:
        axes.plot(flat, drawstyle="steps-mid", linewidth=1.2, marker=_marker(flat))
    elif n_components <= _MOST_ROWS:
        _image(axes, flat.T)
    else:
        axes.plot(flat.mean(axis=1), drawstyle="steps-mid", linewidth=1.2, color=_BLUE)
        axes.set_title(f"{short(name)}: mean of {n_components:,} components", loc="left", fontsize=9)
    if not np.issubdtype(rows.dtype, np.floating):
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _draw_states(axes: Axes, memory: SeenMemory) -> None:
    image = _image(axes, memory.states.T)
    axes.set_title(f"{short(memory.name)}/state", loc="left", fontsize=9)
    axes.set_ylabel("unit")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _bar(axes, image)


def _draw_norms(axes: Axes, memory: SeenMemory) -> None:
    axes.plot(memory.norms, color=_BLUE, marker=_marker(memory.norms))
    axes.set_title(f"norm of {short(memory.name)}/state", loc="left", fontsize=9)
    axes.set_ylim(bottom=0)


def _image(axes: Axes, values: NDArray[Any]) -> AxesImage:
    """Red above 0 and blue below; a column per row of the episode."""
    limit = float(np.abs(values).max(initial=0.0)) or 1.0
    axes.grid(visible=False)
    return axes.imshow(
        values, aspect="auto", origin="lower", interpolation="nearest", cmap="RdBu_r", vmin=-limit, vmax=limit
    )


def _bar(axes: Axes, colours: AxesImage | QuadMesh) -> None:
    """The scale of the colours, outside the panel, whose width it leaves alone."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(colours, cax=axes.inset_axes((1.015, 0.0, 0.02, 1.0)), format=_SCALE)
    if isinstance(colours.norm, LogNorm):
        _number_decades(bar.ax)


def _draw_triangle(axes: Axes, influence: Influence, title: str) -> None:
    """Norms of gradients, inputs to the right and outputs upwards."""
    norms, times, n_steps = influence.norms, np.array(influence.times), influence.norms.shape[1]
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel("with respect to the input at time step s")
    axes.set_ylabel("output at time step t")
    axes.grid(visible=False)
    axes.set_xlim(-0.5, n_steps - 0.5)
    axes.set_ylim(-0.5, n_steps - 0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    largest = float(norms.max())
    if largest > 0:
        between = (times[1:] + times[:-1]) / 2
        edges = np.concatenate(([times[0] - 0.5], between, [times[-1] + 0.5]))
        inputs = np.arange(n_steps)
        is_later = inputs[None] > times[:, None]
        least = float(np.clip(norms[~is_later].min(), largest * _LEAST, largest / 10))
        shown = np.ma.masked_where(is_later, np.maximum(norms, least))
        scale = LogNorm(least, largest)
        _bar(axes, axes.pcolormesh(np.arange(n_steps + 1) - 0.5, edges, shown, norm=scale, cmap="viridis"))


def _draw_lags(axes: Axes, influence: Influence) -> None:
    """Norms over the lag between input and output, and within which lag most of them lie."""
    axes.set_xlabel("lag t − s in steps")
    axes.set_ylabel("norm of the gradient")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    largest, lags = float(influence.norms.max()), [1]
    for name, norms, colour in (("mean over t", influence.by_lag, _BLUE), ("last t", influence.of_last, _RED)):
        if (length := memory_length(norms)) is not None:
            shown = np.where(norms >= largest * _LEAST, norms, np.nan)
            axes.plot(shown, color=colour, marker=_marker(norms), label=f"{name}: 90 % within {length:,}")
            axes.axvline(length, color=colour, linewidth=0.8, linestyle=(0, (1, 2)))
            lags += [length, *np.flatnonzero(~np.isnan(shown)).tolist()]
    if largest > 0:
        axes.set_yscale("log")
        axes.set_ylim(min(axes.get_ylim()[0], largest / 10), largest * 2)
        _number_decades(axes)
        axes.set_xlim(-0.03 * max(lags), 1.03 * max(lags))
        axes.legend(loc="best")


def _number_decades(axes: Axes) -> None:
    """Plain numbers on a logarithmic scale, more than one per decade where it has few decades."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
    axes.yaxis.set_major_formatter(_SCALE)
    axes.yaxis.set_minor_formatter(NullFormatter())


def _marker(values: NDArray[Any]) -> str:
    """Dots where there are so few that a line would hide them."""
    return "." if len(values) <= _FEW else ""
