"""The keys under ``tracking`` in a configuration, checked, and the plan for thinning a long run."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.settings import TRUE_OR_FALSE, Allowed, check_settings, integer, setting

_PATTERNS = Allowed(
    "a list of patterns such as 'env/*'",
    lambda value: isinstance(value, list | tuple) and all(isinstance(pattern, str) for pattern in value),
)


@dataclass(frozen=True)
class TrackingSettings:
    """What a run records of itself: the keys below ``tracking``, each with the line that ``--help`` shows."""

    enabled: bool = setting("false: no files at all, whatever the other keys say", TRUE_OR_FALSE, default=True)
    tensorboard: bool = setting("write an event file for TensorBoard", TRUE_OR_FALSE, default=True)
    csv: bool = setting("write metrics.csv: episodes, evaluations, losses, speed", TRUE_OR_FALSE, default=True)
    console: bool = setting("show the run's progress", TRUE_OR_FALSE, default=True)
    workspace: bool = setting("every workspace variable as curves, at every time step", TRUE_OR_FALSE, default=True)
    workspace_full_steps: int = setting("the first time steps, which are never thinned", integer(0), default=100_000)
    workspace_thinned_steps: int = setting(
        "how many more time steps are kept, evenly, of the rest", integer(0), default=100_000
    )
    max_components: int = setting("vectors of at most so many components have a curve for each", integer(1), default=8)
    include: tuple[str, ...] = setting("the variables that have curves and histograms", _PATTERNS, default=("*",))
    exclude: tuple[str, ...] = setting("variables that have none, even if included", _PATTERNS, default=())
    histogram_every: int = setting("environment steps between histograms; 0: none", integer(0), default=20_000)
    animation_steps: int = setting(
        "steps of the last policy in a moving picture on the IMAGES page", integer(0), default=0
    )
    metrics_every: int = setting(
        "environment steps between two records of the learner's metrics", integer(1), default=1_000
    )
    speed_every: int = setting("environment steps between two measurements of speed", integer(1), default=10_000)

    def __post_init__(self) -> None:
        check_settings(TrackingSettings, vars(self), "tracking")
        for key in ("include", "exclude"):
            object.__setattr__(self, key, tuple(getattr(self, key)))

    @property
    def films(self) -> bool:
        """Whether the last policy is filmed."""
        return self.enabled and self.tensorboard and self.animation_steps > 0

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
