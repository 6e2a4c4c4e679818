"""The jobs of a sweep: what it is over, and what is wrong with each before it begins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.identity import is_free
from bbrl_exp.config.overrides import Override
from bbrl_exp.config.preparation import PreparedRun, prepare
from bbrl_exp.config.run_size import RunSize
from bbrl_exp.config.sweep_config import refusal_of_all, values_of
from bbrl_exp.errors import BbrlExpError, ConfigurationError, described
from bbrl_exp.records.layout import job_folder_name
from bbrl_exp.runs.resume import AUTO, NEVER
from bbrl_exp.settings import bad_value

_PAUSE = "pause_after="
_SEED = re.compile(r"seed=\d+")


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
        not_stackable: why it cannot be trained side by side with jobs that are built alike; None where it can, or
            where nobody asked.
    """

    overrides: tuple[str, ...]
    varied: tuple[str, ...]
    folder: str
    error: str | None = None
    config_hash: str | None = None
    run: CheckedRun | None = None
    is_complete: bool = False
    not_stackable: str | None = None

    @property
    def is_runnable(self) -> bool:
        """Whether there is something to do, and nothing against it."""
        return self.error is None and not self.is_complete


def expand(parsed: Sequence[Override]) -> list[Job]:
    """The jobs of a sweep over the product of all lists, ranges and choices; of two overrides of a key the last counts.

    Raises:
        ConfigurationError: a sweep that is not over a list of values, or over an empty one.
    """
    texts: dict[str, list[str]] = {}
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigurationError(
                f"override '{override.input_line}': an interval has no list of values; search=<agent> searches in it"
            )
        texts[override.get_key_element()] = values_of(override)
    return named_jobs(list(product(*texts.values())))


def named_jobs(
    batches: Sequence[Sequence[str]], constant: Iterable[str] | None = None, folders: Sequence[str] = ()
) -> list[Job]:
    """Jobs with these overrides, each of them once.

    Args:
        batches: the overrides of each job.
        constant: those that do not vary; None for those that all jobs have. Of a single job, its seed counts as what
            varies; where it has none, all of its overrides that change its numbers do.
        folders: the name of each job's folder; empty for names that say what varies.
    """
    if constant is None and len(batches) == 1:
        names = [text for text in batches[0] if _SEED.fullmatch(text)] or [*filter(names_job, batches[0])]
        constant = [text for text in batches[0] if text not in names]
    elif constant is None:
        constant = [text for text in batches[0] if all(text in batch for batch in batches)]
    fixed = set(constant)
    jobs: dict[str, Job] = {}
    for index, batch in enumerate(batches):
        varied = tuple(text for text in batch if text not in fixed)
        naming = ",".join(sorted(text for text in varied if not text.startswith(_PAUSE)))
        folder = folders[index] if folders else job_folder_name(naming or "job")
        jobs.setdefault(naming, Job(tuple(batch), varied, folder))
    return list(jobs.values())


def names_job(text: str) -> bool:
    """Whether an override is a part of what a job is, and not only says where and how it runs."""
    key = text.lstrip("+~").partition("=")[0]
    return key != "launcher" and not is_free(key)


class JobChecks:
    """Composes and checks the jobs of a sweep; of those that differ in their seed alone only the first is built.

    Args:
        composer: of their configurations.
        of_hydra: the overrides that all of them have.
        are_stacked: whether to ask why a job cannot be trained side by side with others.
    """

    def __init__(self, composer: Composer, of_hydra: Sequence[str], *, are_stacked: bool = False) -> None:
        self._composer, self._of_hydra = composer, of_hydra
        self._errors: dict[tuple[str, ...], str | None] = {}
        self._sizes: dict[tuple[str, ...], RunSize] = {}
        self._are_stacked = are_stacked
        self._not_stackable: dict[tuple[str, ...], str | None] = {}

    def __call__(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, each with its configuration or with what is wrong with it."""
        return [self._checked(job) for job in jobs]

    def _checked(self, job: Job) -> Job:
        kind = kind_of(job)
        try:
            run = check(self._composer.compose([*self._of_hydra, *job.overrides], is_job=True))
            job = replace(job, overrides=run.overrides, config_hash=run.config_hash)
            if run.root.resume not in (AUTO, NEVER):
                raise bad_value("resume", run.root.resume, "auto or never in a sweep, which resumes by its name")
            if kind not in self._errors:
                with prepare(run, without_environments=True) as prepared:
                    self._sizes[kind] = prepared.run.size
                    if self._are_stacked:
                        self._not_stackable[kind] = _why_not_stackable(prepared)
            reason = self._not_stackable.get(kind)
            job = replace(job, run=replace(run, size=self._sizes.get(kind, run.size)), not_stackable=reason)
            return replace(job, error=self._errors.setdefault(kind, None))
        except Exception as error:  # user code may raise anything
            reason = str(error) if isinstance(error, BbrlExpError) else described(error)
            self._errors.setdefault(kind, reason)
            return replace(job, error=reason)


def _why_not_stackable(prepared: PreparedRun) -> str | None:
    from bbrl_exp.stacked.stack import why_not

    run = prepared.run
    settings = {
        "debug": run.root.debug,
        "hydra.job.chdir": run.hydra["job"]["chdir"],
        "eval.workers": run.root.eval["workers"],
        "env.workers": run.config["env"].get("workers", 0),
    }
    for key, value in settings.items():
        if value:
            return f"{key}={str(value).lower()} is for a process that has one job"
    if run.root.compile:
        return "compile=true and side_by_side exclude each other; leave one of them out"
    return why_not(prepared.graph, prepared.learner)


def kind_of(job: Job) -> tuple[str, ...]:
    """Equal for jobs that differ in their seed alone."""
    return tuple(text for text in job.overrides if not _SEED.fullmatch(text))


def refuse_if_none_can_run(jobs: Sequence[Job]) -> None:
    """Raises the error that all jobs have, or all their errors, where no job can run."""
    if all(job.error is not None for job in jobs):
        raise refusal_of_all(list(dict.fromkeys(job.error for job in jobs if job.error is not None)))
