"""The keys under ``tracking`` in a configuration, checked, and the plan for thinning a long run."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.errors import ConfigurationError


@dataclass(frozen=True)
class TrackingSettings:
    """What a run records of itself.

    Attributes:
        enabled: false: no files at all, whatever the other keys say.
        tensorboard: write an event file for TensorBoard.
        csv: write ``metrics.csv``.
        console: show the run's progress.
        workspace: every workspace variable as curves, at every time step (in TensorBoard's file only).
        workspace_full_steps: the first time steps, which are never thinned.
        workspace_thinned_steps: how many more time steps are kept, evenly, of all the rest of the run; 0: none.
        max_components: vectors of at most so many components have curves for each component.
        include: patterns (``env/*``) of the variables that have curves and histograms.
        exclude: patterns of variables that have none, even if included.
        histogram_every: environment steps between histograms of observations, actions and rewards; 0: none.
        speed_every: environment steps between two measurements of speed.
    """

    enabled: bool = True
    tensorboard: bool = True
    csv: bool = True
    console: bool = True
    workspace: bool = True
    workspace_full_steps: int = 100_000
    workspace_thinned_steps: int = 100_000
    max_components: int = 8
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    histogram_every: int = 20_000
    speed_every: int = 10_000

    def __post_init__(self) -> None:
        for key in ("enabled", "tensorboard", "csv", "console", "workspace"):
            if not isinstance(value := getattr(self, key), bool):
                raise ConfigurationError(f"tracking.{key}={value!r}: must be true or false")
        lowest = {
            "workspace_full_steps": 0,
            "workspace_thinned_steps": 0,
            "max_components": 1,
            "histogram_every": 0,
            "speed_every": 1,
        }
        for key, least in lowest.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigurationError(f"tracking.{key}={value!r}: must be a whole number, at least {least}")
        for key in ("include", "exclude"):
            value = getattr(self, key)
            if not isinstance(value, (list, tuple)) or not all(isinstance(pattern, str) for pattern in value):
                raise ConfigurationError(f"tracking.{key}={value!r}: must be a list of patterns such as 'env/*'")
            object.__setattr__(self, key, tuple(value))

    def selects(self, variable: str) -> bool:
        """Whether ``include`` and ``exclude`` let this variable be recorded."""
        return any(fnmatch.fnmatchcase(variable, pattern) for pattern in self.include) and not any(
            fnmatch.fnmatchcase(variable, pattern) for pattern in self.exclude
        )


@dataclass(frozen=True)
class Thinning:
    """Which time steps have a point on the per-step curves: the first ``full_steps``, then one in ``stride``.

    ``stride`` is None where nothing is kept after the first ones.
    """

    full_steps: int
    stride: int | None

    @classmethod
    def of(cls, settings: TrackingSettings, planned_steps: int) -> Thinning:
        """The plan for a run of ``planned_steps`` time steps."""
        rest = max(planned_steps - settings.workspace_full_steps, 0)
        kept = settings.workspace_thinned_steps
        return cls(settings.workspace_full_steps, max(math.ceil(rest / kept), 1) if kept else None)

    def kept(self, first: int, count: int) -> NDArray[np.int64]:
        """Of the time steps ``first … first + count − 1``, those that are kept, counted from ``first``."""
        if first + count <= self.full_steps:
            return np.arange(count)
        beyond = np.arange(first, first + count) - self.full_steps
        return np.flatnonzero((beyond < 0) | (beyond % self.stride == 0) if self.stride else beyond < 0)

    def n_kept(self, steps: int) -> int:
        """How many of the first ``steps`` time steps are kept."""
        beyond = max(steps - self.full_steps, 0)
        return min(steps, self.full_steps) + (math.ceil(beyond / self.stride) if self.stride else 0)
