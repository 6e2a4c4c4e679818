"""The keys under ``tracking`` in a configuration, checked, and the plan for thinning a long run."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.errors import ConfigurationError

_BOOLEAN = "true or false"
_PATTERNS = "a list of patterns such as 'env/*'"


def _key(default: Any, help_line: str, allowed: str) -> Any:
    return field(default=default, metadata={"help": help_line, "allowed": allowed})


def _at_least(least: int) -> str:
    return f"a whole number, at least {least}"


@dataclass(frozen=True)
class TrackingSettings:
    """What a run records of itself: the keys below ``tracking``, each with the line that ``--help`` shows."""

    enabled: bool = _key(True, "false: no files at all, whatever the other keys say", _BOOLEAN)
    tensorboard: bool = _key(True, "write an event file for TensorBoard", _BOOLEAN)
    csv: bool = _key(True, "write metrics.csv: episodes, evaluations, losses, speed", _BOOLEAN)
    console: bool = _key(True, "show the run's progress", _BOOLEAN)
    workspace: bool = _key(True, "every workspace variable as curves, at every time step", _BOOLEAN)
    workspace_full_steps: int = _key(100_000, "the first time steps, which are never thinned", _at_least(0))
    workspace_thinned_steps: int = _key(100_000, "how many more time steps are kept, evenly, of the rest", _at_least(0))
    max_components: int = _key(8, "vectors of at most so many components have a curve for each", _at_least(1))
    include: tuple[str, ...] = _key(("*",), "the variables that have curves and histograms", _PATTERNS)
    exclude: tuple[str, ...] = _key((), "variables that have none, even if included", _PATTERNS)
    histogram_every: int = _key(20_000, "environment steps between histograms; 0: none", _at_least(0))
    animation_steps: int = _key(0, "steps of the last policy in a moving picture on the IMAGES page", _at_least(0))
    metrics_every: int = _key(1_000, "environment steps between two records of what the learner tells", _at_least(1))
    speed_every: int = _key(10_000, "environment steps between two measurements of speed", _at_least(1))

    def __post_init__(self) -> None:
        for key in ("enabled", "tensorboard", "csv", "console", "workspace"):
            if not isinstance(value := getattr(self, key), bool):
                raise ConfigurationError(f"tracking.{key}={value!r}: must be true or false")
        lowest = {
            "workspace_full_steps": 0,
            "workspace_thinned_steps": 0,
            "max_components": 1,
            "histogram_every": 0,
            "animation_steps": 0,
            "metrics_every": 1,
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
