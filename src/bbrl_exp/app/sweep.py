"""A sweep: its jobs, the checks before it, and the table after it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from bbrl_exp.app.check import CheckedRun, check
from bbrl_exp.app.compose import Composer, is_named, quoted
from bbrl_exp.app.folder import SWEEP_FILE, FolderClaim, check_sweep_folder, claim_new_folder, job_folder_name
from bbrl_exp.app.identity import identity_hash
from bbrl_exp.app.job import execute
from bbrl_exp.app.plan import Plan
from bbrl_exp.app.provenance import command
from bbrl_exp.app.report import Terminal
from bbrl_exp.app.resume import AUTO, NEVER, is_complete, standing
from bbrl_exp.app.schema import bad_value
from bbrl_exp.app.stop import CAUGHT
from bbrl_exp.app.summary import Summary, read_summary
from bbrl_exp.app.sweep_table import row_of, show_table, write_tables
from bbrl_exp.errors import BbrlExpError, ConfigurationError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_SIGNALLED = 128
_EXCLUDED = "hydra.job.config.override_dirname.exclude_keys"


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


def expand(parsed: Sequence[Override]) -> list[Job]:
    """The jobs of a sweep over the product of all lists, ranges and choices.

    Raises:
        ConfigurationError: a sweep that is not over a list of values.
    """
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigurationError(f"override '{override.input_line}': intervals need a sweeper of their own")
    batches = BasicSweeper.split_arguments(list(parsed), None)[0]
    constant = {text for text in batches[0] if all(text in batch for batch in batches)} if len(batches) > 1 else set()
    jobs: dict[str, Job] = {}
    for batch in batches:
        varied = tuple(text for text in batch if text not in constant)
        folder = job_folder_name(",".join(sorted(varied)))
        jobs.setdefault(folder, Job(tuple(batch), varied, folder))
    return list(jobs.values())


def run_sweep(composer: Composer, overrides: Sequence[str]) -> int:
    """Runs a sweep from the command line, prints its table and gives the exit code.

    Raises:
        ConfigurationError: an error that all jobs have; nothing was made.
    """
    own = [text for text in overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    jobs = expand(composer.parse([text for text in overrides if text not in own]))
    master = composer.compose(overrides, multirun=True)
    jobs = _check_jobs(composer, master, jobs)
    HydraConfig.instance().set_config(master)
    wanted = Path(master.hydra.sweep.dir).absolute()
    with FolderClaim(wanted) if is_named(master, "sweep") else claim_new_folder(wanted) as claim:
        folder = claim.folder
        check_sweep_folder(folder)
        jobs = [_with_folder_state(job, folder) for job in jobs]
        runnable = [job for job in jobs if job.error is None and not job.is_complete]
        OmegaConf.save(master, folder / SWEEP_FILE)
        for job in jobs:
            if job.error is not None:
                _record_failure(folder / job.folder, job)
        Terminal().line(f"sweep: {len(jobs)} jobs, {len(runnable)} to run, in {folder}")
        stopped = _launch(composer, [*overrides, f"hydra.sweep.dir={quoted(str(folder))}"], runnable)
        rows = [row_of(folder, job.folder, job.varied, job.error, is_stopped=stopped > 0) for job in jobs]
        write_tables(folder, rows)
        show_table(rows, folder)
    return 0 if all(row.status == "completed" for row in rows) else stopped or 1


def run_job_of_sweep(config: DictConfig) -> int:
    """Hydra's task function for one job, wherever the launcher runs it; every failure is recorded, none is raised.

    Raises:
        SystemExit: a signal stopped the job, and so stops the sweep.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = tuple(hydra.overrides.task)
    with open_dict(config):
        config.hydra = hydra
    try:
        with FolderClaim(folder):
            try:
                run = check(config)
                before = standing(folder, run)
            except BbrlExpError as error:
                _record_failure(folder, Job(overrides, overrides, folder.name, str(error)))
                return error.exit_code
            result = execute(run, folder, overrides, before, in_sweep=True)
    except _Stopped:
        raise
    except (Exception, SystemExit) as error:
        sys.stderr.write(f"error: job {folder.name}: {type(error).__name__}: {error}\n")
        return error.exit_code if isinstance(error, BbrlExpError) else 1
    if result.signal is not None:
        raise SystemExit(_SIGNALLED + result.signal)
    return result.exit_code


def _check_jobs(composer: Composer, master: DictConfig, jobs: Sequence[Job]) -> list[Job]:
    """Checks every job; of jobs that differ in their seed alone only the first."""
    checked: list[Job] = []
    errors_by_kind: dict[tuple[str, ...], str | None] = {}
    plans_by_kind: dict[tuple[str, ...], Plan] = {}
    for job in jobs:
        kind = tuple(text for text in job.overrides if not _is_plain_seed(text))
        try:
            config = composer.compose_job(master, job.overrides)
            job = replace(job, config_hash=identity_hash(config))
            run = check(config, graph_too=kind not in errors_by_kind)
            if run.root.resume not in (AUTO, NEVER):
                raise bad_value("resume", run.root.resume, "auto or never in a sweep, which goes on by its name")
            job = replace(job, run=replace(run, plan=plans_by_kind.setdefault(kind, run.plan)))
            errors_by_kind.setdefault(kind, None)
            job = replace(job, error=errors_by_kind[kind])
        except BbrlExpError as error:
            errors_by_kind.setdefault(kind, str(error))
            job = replace(job, error=str(error))
        checked.append(job)
    errors = list(dict.fromkeys(job.error for job in checked if job.error is not None))
    if all(job.error is not None for job in checked):
        if len(errors) == 1:
            raise ConfigurationError(errors[0])
        raise ConfigurationError(f"no job of the sweep can run: {'; '.join(errors)}")
    return checked


def _is_plain_seed(text: str) -> bool:
    key, _, value = text.partition("=")
    return key == "seed" and value.isdigit()


def _with_folder_state(job: Job, sweep: Path) -> Job:
    if job.error is not None or job.run is None:
        return job
    try:
        return replace(job, is_complete=is_complete(sweep / job.folder, job.run))
    except ConfigurationError as error:
        return replace(job, error=str(error))


def _record_failure(folder: Path, job: Job) -> None:
    """Leaves the reason of a job that could not start in its folder, unless that folder holds a run."""
    if read_summary(folder) is None:
        folder.mkdir(parents=True, exist_ok=True)
        Summary(
            status="failed",
            agent=None,
            env=None,
            env_id=None,
            seed=None,
            batch_size=None,
            error=job.error,
            command=command(),
            overrides=job.overrides,
            config_hash=job.config_hash,
        ).write(folder)
        (folder / "run.log").write_text(f"error: {job.error}\n", encoding="utf-8")


def _launch(composer: Composer, overrides: Sequence[str], runnable: Sequence[Job]) -> int:
    """Hands the jobs to Hydra's launcher; gives 128+n where signal n stopped it, else 0."""
    constant = [text for text in runnable[0].overrides if text not in runnable[0].varied] if runnable else []
    keys = ",".join(quoted(text.partition("=")[0].lstrip("+~")) for text in constant)
    master = composer.compose([*overrides, f"{_EXCLUDED}=[{keys}]"], multirun=True)
    callbacks = Callbacks(master)
    callbacks.on_multirun_start(config=master, config_name=composer.config_name)
    context = HydraContext(config_loader=composer.hydra.config_loader, callbacks=callbacks)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=run_job_of_sweep, config=master
    )
    before = {number: signal.signal(number, _stop) for number in CAUGHT if number != signal.SIGINT}
    try:
        if runnable:
            launcher.launch([list(job.overrides) for job in runnable], initial_job_idx=0)
    except KeyboardInterrupt:
        return _SIGNALLED + signal.SIGINT
    except SystemExit as stopped:
        return int(stopped.code or 1)
    except Exception as error:
        Terminal().line(f"the launcher gave up: {type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        callbacks.on_multirun_end(config=master, config_name=composer.config_name)
    return 0


class _Stopped(SystemExit):
    """A signal came between two jobs, or before a job had begun."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise _Stopped(_SIGNALLED + number)
