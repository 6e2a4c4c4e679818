"""The jobs of a sweep: what it is over, and what is wrong with each before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import DictConfig

from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.identity import identity
from bbrl_exp.config.run_size import Plan
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.records.layout import job_folder_name
from bbrl_exp.records.provenance import config_hash
from bbrl_exp.runs.resume import AUTO, NEVER
from bbrl_exp.settings import bad_value

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_PAUSE = "pause_after="


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        overrides: all of them.
        varied: those that differ from job to job.
        folder: the name of its folder in the sweep's.
        error: why it cannot run, found before the sweep began.
        config_hash: of its configuration; None where it has none.
        run: its configuration, checked; None where it cannot run.
        is_complete: whether its folder holds a completed run of the same configuration.
    """

    overrides: tuple[str, ...]
    varied: tuple[str, ...]
    folder: str
    error: str | None = None
    config_hash: str | None = None
    run: CheckedRun | None = None
    is_complete: bool = False

    @property
    def is_runnable(self) -> bool:
        """Whether there is something to do, and nothing against it."""
        return self.error is None and not self.is_complete


def expand(parsed: Sequence[Override]) -> list[Job]:
    """The jobs of a sweep over the product of all lists, ranges and choices.

    Raises:
        ConfigurationError: a sweep that is not over a list of values, or over an empty one.
    """
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigurationError(
                f"override '{override.input_line}': an interval has no list of values; search=<agent> searches in it"
            )
    for override in parsed:
        if override.is_sweep_override() and not list(override.sweep_iterator()):
            raise ConfigurationError(f"override '{override.input_line}': has no values")
    return named_jobs(BasicSweeper.split_arguments(list(parsed), None)[0])


def named_jobs(batches: Sequence[Sequence[str]], constant: Iterable[str] | None = None) -> list[Job]:
    """Jobs with these overrides, each of them once, in folders named by what varies.

    Args:
        batches: the overrides of each job.
        constant: those that do not vary; None for those that all jobs have, if there are several.
    """
    if constant is None:
        constant = [text for text in batches[0] if all(text in batch for batch in batches)] if len(batches) > 1 else []
    fixed = set(constant)
    jobs: dict[str, Job] = {}
    for batch in batches:
        varied = tuple(text for text in batch if text not in fixed)
        naming = sorted(text for text in varied if not text.startswith(_PAUSE))
        folder = job_folder_name(",".join(naming))
        jobs.setdefault(folder, Job(tuple(batch), varied, folder))
    return list(jobs.values())


class JobChecks:
    """Composes and checks jobs; of those that differ in their seed alone only the first is built for a try.

    Args:
        composer: of their configurations.
        master: the configuration of the sweep itself.
    """

    def __init__(self, composer: Composer, master: DictConfig) -> None:
        self._composer, self._master = composer, master
        self._errors: dict[tuple[str, ...], str | None] = {}
        self._plans: dict[tuple[str, ...], Plan] = {}

    def __call__(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, each with its configuration or with what is wrong with it."""
        return [self._checked(job) for job in jobs]

    def _checked(self, job: Job) -> Job:
        kind = kind_of(job)
        try:
            config = self._composer.compose_job(self._master, job.overrides)
            same = identity(config)
            job = replace(job, config_hash=config_hash(same))
            run = check(config, same, graph_too=kind not in self._errors)
            if run.root.resume not in (AUTO, NEVER):
                raise bad_value("resume", run.root.resume, "auto or never in a sweep, which goes on by its name")
            job = replace(job, run=replace(run, plan=self._plans.setdefault(kind, run.plan)))
            return replace(job, error=self._errors.setdefault(kind, None))
        except BbrlExpError as error:
            self._errors.setdefault(kind, str(error))
            return replace(job, error=str(error))


def kind_of(job: Job) -> tuple[str, ...]:
    """Equal for jobs that differ in their seed alone."""
    return tuple(text for text in job.overrides if not _is_plain_seed(text))


def refuse_if_none_can_run(jobs: Sequence[Job]) -> None:
    """Refuses a sweep of which no job can run.

    Raises:
        ConfigurationError: with the error that all jobs have, or with all their errors.
    """
    if all(job.error is not None for job in jobs):
        errors = list(dict.fromkeys(job.error for job in jobs if job.error is not None))
        raise ConfigurationError(errors[0] if len(errors) == 1 else f"no job of the sweep can run: {'; '.join(errors)}")


def _is_plain_seed(text: str) -> bool:
    key, _, value = text.partition("=")
    return key == "seed" and value.isdigit()
