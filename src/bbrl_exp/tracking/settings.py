"""The keys under ``tracking`` in a configuration, checked, and the plan for thinning a long run."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.settings import NODE, NODES, TRUE_OR_FALSE, Allowed, bad_value, check_settings, integer, setting

_PATTERNS = Allowed(
    "a list of patterns such as 'env/*'",
    lambda value: isinstance(value, list | tuple) and all(isinstance(pattern, str) for pattern in value),
)


_SINKS = "bbrl_exp.tracking.sinks"
# The sinks of a configuration that names none, as in conf/tracking/default.yaml.
STANDARD_SINKS: Mapping[str, str] = {
    "tensorboard": f"{_SINKS}.TensorBoardSink",
    "csv": f"{_SINKS}.CsvSink",
    "console": f"{_SINKS}.ConsoleSink",
}
# By whether the agent learns. A learner's run is judged by its curves, which are kept whole.
_FULL_STEPS = {True: 10_000, False: 100_000}
_THINNED_STEPS = {True: 2_000, False: 100_000}


def _standard_nodes() -> dict[str, Any]:
    return {name: {"_target_": target} for name, target in STANDARD_SINKS.items()}


@dataclass(frozen=True)
class TrackingSettings:
    """What a run records of itself: the keys below ``tracking``, each with the line that ``--help`` shows."""

    enabled: bool = setting("false: no sink at all, whatever the other keys say", TRUE_OR_FALSE, default=True)
    sinks: Mapping[str, Any] = setting(
        "where it is recorded: name -> node; null switches one off", NODES, default_factory=_standard_nodes
    )
    tensorboard: bool | None = setting("false: as sinks.tensorboard=null", TRUE_OR_FALSE.or_null, default=None)
    csv: bool | None = setting("false: as sinks.csv=null", TRUE_OR_FALSE.or_null, default=None)
    console: bool | None = setting("false: as sinks.console=null", TRUE_OR_FALSE.or_null, default=None)
    workspace: bool = setting(
        "every workspace variable as curves, thinned by the next two keys", TRUE_OR_FALSE, default=True
    )
    workspace_full_steps: int | None = setting(
        "the first time steps, which are never thinned; null: 10,000 for agents that learn, else 100,000",
        integer(0).or_null,
        default=None,
    )
    workspace_thinned_steps: int | None = setting(
        "how many more time steps are kept, evenly, of the rest; null: 2,000 for agents that learn, else 100,000",
        integer(0).or_null,
        default=None,
    )
    workspace_bands: bool | None = setting(
        "minimum and maximum over the batch beside each mean; null: false for agents that learn",
        TRUE_OR_FALSE.or_null,
        default=None,
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
        for name, node in self.sinks.items():
            if node is not None and not isinstance(node, Mapping):
                raise bad_value(f"tracking.sinks.{name}", node, f"null or {NODE.words}")
        for key in ("include", "exclude"):
            object.__setattr__(self, key, tuple(getattr(self, key)))

    @property
    def active_sinks(self) -> dict[str, Any]:
        """The nodes of the sinks that are on, by name."""
        if not self.enabled:
            return {}
        asked = {name: node for name, node in _standard_nodes().items() if getattr(self, name)}
        off = {name for name in STANDARD_SINKS if getattr(self, name) is False}
        nodes = {**asked, **self.sinks}
        return {name: node for name, node in nodes.items() if node is not None and name not in off}

    @property
    def writes_csv(self) -> bool:
        """Whether there is a ``metrics.csv``."""
        return self._has(STANDARD_SINKS["csv"])

    @property
    def writes_events(self) -> bool:
        """Whether there is an event file for TensorBoard."""
        return self._has(STANDARD_SINKS["tensorboard"])

    @property
    def films(self) -> bool:
        """Whether the last policy is filmed: where a sink may take pictures."""
        targets = {node.get("_target_") for node in self.active_sinks.values()}
        return self.animation_steps > 0 and bool(targets - {STANDARD_SINKS["csv"], STANDARD_SINKS["console"]})

    def to_measure(self) -> TrackingSettings:
        """For a run whose speed is measured: its speed goes to ``metrics.csv``, and nothing to other machines."""
        nodes = _standard_nodes()
        local = {"csv": nodes["csv"], **({"tensorboard": nodes["tensorboard"]} if self.writes_events else {})}
        return replace(self, enabled=True, sinks=local, tensorboard=None, csv=None, console=None, speed_every=1)

    def _has(self, target: str) -> bool:
        return any(node.get("_target_") == target for node in self.active_sinks.values())

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
    def of(cls, settings: TrackingSettings, planned_steps: int, *, learns: bool) -> Thinning:
        """The plan for a run of ``planned_steps`` time steps, of an agent that learns or of another."""
        full, kept = settings.workspace_full_steps, settings.workspace_thinned_steps
        full = _FULL_STEPS[learns] if full is None else full
        kept = _THINNED_STEPS[learns] if kept is None else kept
        return cls(full, max(math.ceil(max(planned_steps - full, 0) / kept), 1) if kept else None)

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
