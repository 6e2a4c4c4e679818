"""The keys below ``hydra.sweeper`` of a search: their defaults, what is allowed, and one line of help each.

Hydra imports this module at every start: it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bbrl_exp.config.schema import bad_value

SWEEPER = "bbrl_exp.search"  # names the sweeper; Hydra never makes it
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "percentile", "halving")
AGGREGATES = ("iqm", "mean", "median", "min")
DIRECTIONS = ("maximize", "minimize")
OBJECTIVES = ("eval_return_mean", "eval_curve_mean", "best_eval_return_mean", "return_mean")
TRIALS = 50


def _key(help_line: str, allowed: str, accepts: Callable[[Any], bool]) -> dict[str, Any]:
    return {"help": help_line, "allowed": allowed, "accepts": accepts}


def _one_of(help_line: str, names: Collection[str]) -> dict[str, Any]:
    return _key(help_line, f"one of {', '.join(names)}", lambda value: value in names)


def _at_least(lowest: int) -> tuple[str, Callable[[Any], bool]]:
    return f"an integer of at least {lowest}", lambda value: _is_int(value, lowest)


def _is_int(value: object, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _is_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low < value < high


def _are_different_ints(value: object, lowest: int) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(_is_int(item, lowest) for item in value)
        and len(set(value)) == len(value)
    )


def _are_growing_ints(value: object) -> bool:
    return isinstance(value, list) and _are_different_ints(value, 1) and value == sorted(value)


@dataclass
class SearchSettings:
    """What stands below ``hydra.sweeper`` of a search."""

    params: Any = field(
        default_factory=dict,
        metadata=_key(
            "the space: key -> choice(...), range(...), interval(...) or tag(log, ...), also typed as key=choice(...)",
            "a mapping of keys to texts",
            lambda value: isinstance(value, dict),
        ),
    )
    n_trials: Any = field(
        default=None,
        metadata=_key(
            f"trials of the whole search; null: {TRIALS}, or the whole grid",
            "null or an integer of at least 1",
            lambda value: value is None or _is_int(value, 1),
        ),
    )
    sampler: Any = field(default="tpe", metadata=_one_of("what proposes settings", SAMPLERS))
    sampler_seed: Any = field(default=0, metadata=_key("root of the sampler's random streams", *_at_least(0)))
    seeds: Any = field(
        default_factory=lambda: [1, 2, 3],
        metadata=_key(
            "seeds of the runs of each trial",
            "a list of different integers of 0 or more",
            lambda value: _are_different_ints(value, 0),
        ),
    )
    objective: Any = field(
        default="eval_return_mean", metadata=_one_of("key of summary.json that a run is judged by", OBJECTIVES)
    )
    aggregate: Any = field(default="iqm", metadata=_one_of("how the runs of a trial make one value", AGGREGATES))
    direction: Any = field(default="maximize", metadata=_one_of("which values are better", DIRECTIONS))
    pruner: Any = field(default="none", metadata=_one_of("what gives up trials at a rung", PRUNERS))
    startup_trials: Any = field(
        default=5,
        metadata=_key("complete trials before median and percentile give up others", *_at_least(1)),
    )
    keep_percent: Any = field(
        default=None,
        metadata=_key(
            "of trials that go on: of the complete ones (percentile, null: 25), of those there (halving, null: 50)",
            "null or a number above 0 and below 100",
            lambda value: value is None or _is_between(value, 0, 100),
        ),
    )
    rungs: Any = field(
        default=None,
        metadata=_key(
            "environment steps at which trials are compared; null: a quarter and half of total_steps",
            "null or a growing list of integers of at least 1",
            lambda value: value is None or _are_growing_ints(value),
        ),
    )
    parallel_trials: Any = field(
        default=1,
        metadata=_key("trials proposed together; the launcher gets all their runs at once", *_at_least(1)),
    )
    storage: Any = field(
        default=None,
        metadata=_key(
            "null: a journal in the search's folder; else a database, such as sqlite:///study.db",
            "null or the URL of a database",
            lambda value: value is None or (isinstance(value, str) and "://" in value),
        ),
    )

    def check(self) -> None:
        """Refuses values that are not allowed, and those that would have no effect.

        Raises:
            ConfigurationError: there is one.
        """
        for key in fields(SearchSettings):
            value = getattr(self, key.name)
            if not key.metadata["accepts"](value):
                raise bad_value(f"hydra.sweeper.{key.name}", value, key.metadata["allowed"])
        defaults = SearchSettings()
        needs = (
            ("rungs", ("median", "percentile", "halving")),
            ("startup_trials", ("median", "percentile")),
            ("keep_percent", ("percentile", "halving")),
        )
        for name, pruners in needs:
            if self.pruner not in pruners and getattr(self, name) != getattr(defaults, name):
                raise bad_value(
                    f"hydra.sweeper.{name}",
                    getattr(self, name),
                    f"left out with hydra.sweeper.pruner={self.pruner}; it is for {', '.join(pruners)}",
                )
        if self.sampler == "grid" and self.sampler_seed != defaults.sampler_seed:
            raise bad_value("hydra.sweeper.sampler_seed", self.sampler_seed, "left out with hydra.sweeper.sampler=grid")


SWEEPER_NODE = {"_target_": SWEEPER, **asdict(SearchSettings())}
