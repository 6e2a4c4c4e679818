"""Pruning: at which environment steps trials are compared, by what, and who gives up."""

from __future__ import annotations

from pathlib import Path

import optuna

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.search_settings import SearchSettings
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.metrics import evaluations_of, read_points
from bbrl_exp.runs.evaluations import EvaluationPlan
from bbrl_exp.settings import bad_value

_PERCENTILE, _HALF = 25, 50


class HalvingPruner(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al., 2020, algorithm 2), at whatever steps trials report.

    Of the n trials that have a value at a rung, the best max(1, ⌊n · fraction⌋) continue. What a trial of a batch is
    compared with includes the others of its batch, and later ones do not count: a trial that was given up stays so.

    Args:
        fraction: of the trials, above 0 and below 1; 1/η in the paper.
    """

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the trial is not among the best at the newest step that it reported."""
        step = trial.last_step
        if step is None:
            return False
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        values = sorted(
            (
                sign * other.intermediate_values[step]
                for other in study.get_trials(deepcopy=False)
                if step in other.intermediate_values
            ),
            reverse=True,
        )
        n_kept = max(1, int(len(values) * self._fraction))
        return sign * trial.intermediate_values[step] < values[n_kept - 1]


def make_pruner(settings: SearchSettings) -> optuna.pruners.BasePruner:
    """The pruner that the settings name."""
    startup, kept = settings.startup_trials, settings.keep_percent
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=startup)
    if settings.pruner == "percentile":
        return optuna.pruners.PercentilePruner(float(kept or _PERCENTILE), n_startup_trials=startup)
    if settings.pruner == "halving":
        return HalvingPruner((kept or _HALF) / 100)
    return optuna.pruners.NopPruner()


def rungs_of(settings: SearchSettings, run: CheckedRun) -> tuple[int, ...]:
    """The environment steps at which trials are compared, none without a pruner.

    Raises:
        ConfigurationError: they are not evaluated one by one, or the run is not longer than they are.
    """
    if settings.pruner == "none":
        return ()
    total_steps, every = run.size.total_steps, EvaluationPlan.of(run).every
    quarter = total_steps // 4
    rungs = tuple(settings.rungs) if settings.rungs is not None else (quarter, 2 * quarter)
    if not every:
        raise bad_value("eval.every", run.root.eval["every"], "1 or more to compare trials at hydra.sweeper.rungs")
    if rungs[-1] >= total_steps:
        raise bad_value("hydra.sweeper.rungs", list(rungs), f"below total_steps, which is {total_steps:,}")
    if len({rung // every for rung in (0, *rungs)}) <= len(rungs):
        raise bad_value(
            "hydra.sweeper.rungs",
            list(rungs),
            f"with an evaluation up to the first and between any two; eval.every is {every:,}",
        )
    if not run.checkpoint_every:
        raise ConfigurationError("key 'checkpoint.every' = 0: must be more to prune: runs resume from rung to rung")
    if not run.tracking.writes_csv:
        raise ConfigurationError("key 'tracking.sinks.csv': must be on to prune by what metrics.csv holds")
    return rungs


def evaluation_at(folder: Path, due: int, acting: str = "mode", *, is_complete: bool = False) -> float | None:
    """The mean return of the evaluation that was due at an environment step, None where it has not been done.

    Args:
        folder: of the run.
        due: a multiple of ``eval.every``; the evaluation is done after the chunk in which the run comes to it.
        acting: how the policy acts in the evaluations that the run is judged by.
        is_complete: whether the run does no more; where it stopped early (``stop_when``), its last evaluation counts.
    """
    evaluations = read_points(folder, evaluations_of(acting))
    last = evaluations[-1].value if evaluations and is_complete else None
    return next((point.value for point in evaluations if point.env_steps >= due), last)
