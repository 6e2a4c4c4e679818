"""What a search will do, checked before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from omegaconf import DictConfig

from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.preparation import prepare
from bbrl_exp.config.schema import success_variable
from bbrl_exp.config.search_settings import TRIALS, SearchSettings
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.evaluations import EvaluationPlan
from bbrl_exp.search.pruning import rungs_of
from bbrl_exp.search.space import Parameter, Value, grid, read_space
from bbrl_exp.search.study import check_storage
from bbrl_exp.settings import bad_value

_OF_EVALUATIONS = {
    "eval_return_mean": ("final_episodes", "eval.final_episodes"),
    "eval_success_rate": ("final_episodes", "eval.final_episodes"),
    "eval_curve_mean": ("every", "eval.every"),
    "best_eval_return_mean": ("every", "eval.every"),
}


@dataclass(frozen=True)
class SearchPlan:
    """A search, ready to begin or to resume.

    Attributes:
        settings: the keys below ``hydra.sweeper``.
        space: what is searched.
        constant: the overrides that all runs have.
        n_trials: of the whole search.
        points: those of a grid, in the order in which they are tried; empty for other samplers.
        rungs: environment steps at which trials are compared, none without a pruner.
        evaluate_every: environment steps between two evaluations of a run.
        judged_by: how the policy acts in those evaluations that a run is judged by.
        base_hash: of the configuration that all trials share.
        compose: gives the configuration of a run of the search from its overrides.
        compose_alone: gives that of a run alone.
        extra_dir: the user's own folder of options, None for none.
    """

    settings: SearchSettings
    space: tuple[Parameter, ...]
    constant: tuple[str, ...]
    n_trials: int
    points: tuple[Mapping[str, Value], ...]
    rungs: tuple[int, ...]
    evaluate_every: int
    judged_by: str
    base_hash: str
    compose: Callable[[Sequence[str]], DictConfig]
    compose_alone: Callable[[Sequence[str]], DictConfig]
    extra_dir: Path | None

    def runs_of(self, params: Mapping[str, Value], pause_after: int | None = None) -> list[list[str]]:
        """The overrides of the runs of a trial, one per seed, with ``params`` as the sampler proposed them."""
        varied = [parameter.override(params[parameter.key]) for parameter in self.space]
        pause = [] if pause_after is None else [f"pause_after={pause_after}"]
        return [[*self.constant, *varied, f"seed={seed}", *pause] for seed in self.settings.seeds]

    def due(self, rung: int) -> int:
        """The environment steps at which the evaluation was due by which trials are compared at a rung."""
        return rung // self.evaluate_every * self.evaluate_every

    @property
    def facts(self) -> dict[str, object]:
        """What must not change when a search resumes."""
        return {
            **{f"space of {parameter.key}": parameter.written for parameter in self.space},
            "what all trials share": self.base_hash,
            **{f"hydra.sweeper.{name}": getattr(self.settings, name) for name in _FIXED},
        }


_FIXED = ("seeds", "objective", "aggregate", "direction")


def plan_of(composer: Composer, config: SweepConfig) -> SearchPlan:
    """Checks a search: its settings, its space, and its runs at the first and the last value of each parameter.

    Raises:
        ConfigurationError: something cannot be used.
    """
    settings = SearchSettings(**{key.name: config.sweeper[key.name] for key in fields(SearchSettings)})
    settings.check()
    check_storage(settings.storage)
    space, constant = read_space(settings.params, config.typed)

    def compose(job: Sequence[str]) -> DictConfig:
        return composer.compose([*config.of_hydra, *job], is_job=True)

    runs = []
    for end in (0, -1):
        job = [*constant, *(parameter.ends[end] for parameter in space), f"seed={settings.seeds[0]}"]
        with prepare(check(compose(job)), without_environments=True) as prepared:
            runs.append(prepared.run)
            names = {variable.name for variable in prepared.variables}
        success = success_variable(prepared.run.root.eval)
        if settings.objective == "eval_success_rate" and success not in names:
            recorded = success.removeprefix("env/info/")
            allowed = f"about returns; for success rates record the key of info: env.info_keys=[{recorded}]"
            raise bad_value("hydra.sweeper.objective", settings.objective, allowed)
    run = runs[0]
    _check_objective(settings, run)
    rungs = rungs_of(settings, run)
    if rungs:
        _check_same_length(settings, space)
    points = grid(space) if settings.sampler == "grid" else []
    n_trials = settings.n_trials or len(points) or TRIALS
    if points and n_trials > len(points):
        raise bad_value("hydra.sweeper.n_trials", n_trials, f"at most {len(points)}, the size of the grid")
    return SearchPlan(
        settings=settings,
        space=space,
        constant=constant,
        n_trials=n_trials,
        points=tuple(points),
        rungs=rungs,
        evaluate_every=EvaluationPlan.of(run).every,
        judged_by=EvaluationPlan.of(run).judged_by,
        base_hash=run.config_hash,
        compose=compose,
        compose_alone=composer.compose,
        extra_dir=composer.extra_dir,
    )


def _check_objective(settings: SearchSettings, run: CheckedRun) -> None:
    if settings.objective in _OF_EVALUATIONS:
        name, key = _OF_EVALUATIONS[settings.objective]
        if not getattr(EvaluationPlan.of(run), name):
            raise bad_value(
                "hydra.sweeper.objective", settings.objective, f"return_mean, which is measured without {key}"
            )


def _check_same_length(settings: SearchSettings, space: Sequence[Parameter]) -> None:
    for parameter in space:
        if parameter.key.lstrip("+") in ("total_steps", "eval.every"):
            raise ConfigurationError(
                f"key '{parameter.key}' cannot be searched with hydra.sweeper.pruner={settings.pruner}: trials are "
                "compared at the same steps"
            )
