"""The keys below ``hydra.sweeper`` of a search: their defaults, what is allowed, and one line of help each.

Hydra imports this module at every start: it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bbrl_exp.settings import MAPPING, Allowed, bad_value, check_settings, integer, number_between, one_of, setting

SWEEPER = "bbrl_exp.search"  # names the sweeper; Hydra never makes it
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "percentile", "halving")
AGGREGATES = ("iqm", "mean", "median", "min")
DIRECTIONS = ("maximize", "minimize")
OBJECTIVES = ("eval_return_mean", "eval_success_rate", "eval_curve_mean", "best_eval_return_mean", "return_mean")
TRIALS = 50


def _are_different_ints(value: object, lowest: int) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(map(integer(lowest).accepts, value))
        and len(set(value)) == len(value)
    )


def _are_growing_ints(value: object) -> bool:
    return isinstance(value, list) and _are_different_ints(value, 1) and value == sorted(value)


@dataclass
class SearchSettings:
    """The keys below ``hydra.sweeper`` of a search."""

    params: Any = setting(
        "the space: key -> choice(...), range(...), interval(...) or tag(log, ...), also typed as key=choice(...)",
        Allowed("a mapping of keys to texts", MAPPING.accepts),
        default_factory=dict,
    )
    n_trials: Any = setting(
        f"trials of the whole search; null: {TRIALS}, or the whole grid", integer(1).or_null, default=None
    )
    sampler: Any = setting("what proposes settings", one_of(SAMPLERS), default="tpe")
    sampler_seed: Any = setting("root of the sampler's random streams", integer(0), default=0)
    seeds: Any = setting(
        "seeds of the runs of each trial",
        Allowed("a list of different integers of 0 or more", lambda value: _are_different_ints(value, 0)),
        default_factory=lambda: [1, 2, 3],
    )
    objective: Any = setting(
        "key of summary.json that a run is judged by", one_of(OBJECTIVES), default="eval_return_mean"
    )
    aggregate: Any = setting("how the runs of a trial make one value", one_of(AGGREGATES), default="iqm")
    direction: Any = setting("which values are better", one_of(DIRECTIONS), default="maximize")
    pruner: Any = setting("what gives up trials at a rung", one_of(PRUNERS), default="none")
    startup_trials: Any = setting("complete trials before median and percentile give up others", integer(1), default=5)
    keep_percent: Any = setting(
        "of trials that continue: of the complete ones (percentile, null: 25), of those there (halving, null: 50)",
        number_between("a number above 0 and below 100", 0, 100).or_null,
        default=None,
    )
    rungs: Any = setting(
        "environment steps at which trials are compared; null: a quarter and half of total_steps",
        Allowed("a growing list of integers of at least 1", _are_growing_ints).or_null,
        default=None,
    )
    parallel_trials: Any = setting(
        "trials proposed together; the launcher gets all their runs at once", integer(1), default=1
    )
    storage: Any = setting(
        "null: a journal in the search's folder; else a database, such as sqlite:///study.db",
        Allowed("the URL of a database", lambda value: isinstance(value, str) and "://" in value).or_null,
        default=None,
    )

    def check(self) -> None:
        """Refuses values that are not allowed, and those that would have no effect.

        Raises:
            ConfigurationError: there is one.
        """
        check_settings(SearchSettings, vars(self), "hydra.sweeper")
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
