"""One run, from its claimed folder to its summary."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.graph import env_spec_of
from bbrl_exp.config.preparation import PreparedRun
from bbrl_exp.config.project import current_project
from bbrl_exp.config.targets import allowed_packages
from bbrl_exp.envs.told_warnings import forget_told_warnings
from bbrl_exp.errors import BbrlExpError, DivergedError, described, ends_silently
from bbrl_exp.records.config import write_config
from bbrl_exp.records.layout import LOG
from bbrl_exp.records.provenance import command, git_commit, record_end, record_start, repositories, versions
from bbrl_exp.records.summary import PAUSED, Status, Summary, read_summary
from bbrl_exp.runs.console import SeveralConsoles, Terminal, end_lines, open_log, show_error
from bbrl_exp.runs.resume import ResumePoint
from bbrl_exp.runs.session import RunProgress, run_session
from bbrl_exp.runs.stop import STOPPED_BY, StopSignal

if TYPE_CHECKING:
    from bbrl_exp.tracking.console import Console


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        folder: of the run.
        summary: the contents of ``summary.json``.
        error: what ended the run before its end.
        exit_code: what the command line ends with.
        signal: that asked to stop, even if there was nothing left to do.
    """

    folder: Path
    summary: Summary
    error: BaseException | None = None
    exit_code: int = 0
    signal: int | None = None


def execute(prepared: PreparedRun, folder: Path, before: ResumePoint, *, in_sweep: bool = False) -> RunResult:
    """Runs what is prepared in a folder that this process has claimed; a failure is recorded, not raised.

    Args:
        prepared: graph and learner, with the configuration.
        folder: the claimed folder.
        before: where the run begins or resumes.
        in_sweep: print only a few lines on standard output; everything is in ``run.log``.
    """
    stop = StopSignal()
    with contextlib.chdir(folder) if prepared.run.hydra["job"]["chdir"] else contextlib.nullcontext():
        execution = Execution(prepared, folder, before, stop, Terminal(), in_sweep=in_sweep)
        with execution.log as log, warnings_in(log), stop.caught():
            try:
                run_session(prepared, folder, execution.console, execution.progress, stop, before)
            except BaseException as caught:
                execution.fail(caught)
            return execution.end()


class Execution:
    """The records of one run from its claimed folder to its summary, around the session that does the work.

    Args:
        prepared: graph and learner, with the configuration.
        folder: the claimed folder.
        before: where the run begins or resumes.
        stop: whether the run was asked to stop.
        terminal: where a few lines are printed; None for nothing.
        in_sweep: print no more than the result there.
        n_others: jobs that are trained beside it; None for a run on its own.

    Attributes:
        progress: how far the run is.
        log: ``run.log``, open; for the caller to close after :meth:`end`.
        console: where the session reports.
        error: what ended the run before its end.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        folder: Path,
        before: ResumePoint,
        stop: StopSignal,
        terminal: Terminal | None,
        *,
        in_sweep: bool,
        n_others: int | None = None,
    ) -> None:
        from bbrl_exp.tracking.console import PlainConsole

        started, run = time.perf_counter(), prepared.run
        runtime = {**run.hydra["runtime"], "output_dir": str(folder)}
        write_config(folder, run.written, {**run.hydra, "runtime": runtime}, run.overrides)
        earlier = (read_summary(folder) or {}) if before.checkpoint is not None else {}
        seconds_before = earlier.get("wall_seconds", 0.0)

        def wall_seconds() -> float:
            return float(seconds_before + time.perf_counter() - started)

        spec, found = env_spec_of(prepared.graph), repositories(allowed_packages())
        self._summary = replace(
            first_summary(run, None if spec is None else spec.env_id, git_commit(found)),
            wall_seconds=seconds_before,
            extended_from=_extended_from(earlier),
            side_by_side_with=earlier.get("side_by_side_with") if n_others is None else n_others,
        )
        self._summary.write(folder)
        seeds = {"run": run.root.seed, "eval": run.root.eval["seed"]}
        project = current_project()
        record_start(
            folder,
            run.overrides,
            seeds,
            run.root.num_threads,
            run.device,
            run.config_hash,
            found,
            run.root.total_steps,
            None if project is None else asdict(project),
        )
        self._run, self._folder, self._stop, self._in_sweep = run, folder, stop, in_sweep
        self.progress = RunProgress(wall_seconds, self._summary.git_commit, self._summary.side_by_side_with)
        self.error: BaseException | None = None
        self.log = open_log(folder / LOG)
        self._terminal, self._log_console = terminal, PlainConsole(self.log)
        self.console: Console = self._log_console
        if terminal is not None and not in_sweep:
            self.console = SeveralConsoles(terminal, self._log_console)

    def fail(self, error: BaseException) -> None:
        """Notes what has ended the run."""
        self.error = error
        traceback.print_exception(error, file=self.log)
        if self._run.root.debug:
            traceback.print_exception(error, file=sys.stderr)

    def end(self) -> RunResult:
        """Closes the records, writes the summary and prints what came of the run."""
        from bbrl_exp.tracking.hparams import mark_failed

        progress, stop, folder, console = self.progress, self._stop, self._folder, self.console
        refused = _close_records(progress, _outcome(self.error, stop, progress)[0], self.log)
        error = self.error or refused
        status, exit_code = _outcome(error, stop, progress)
        summary = replace(
            progress.put_in(self._summary),
            status=status,
            error=_reason(error, stop, progress) if status != "completed" else None,
            wall_seconds=progress.wall_seconds(),
        )
        try:
            summary.write(folder)
            record_end(folder, status, {"env_steps": summary.env_steps, "stopped_because": summary.stopped_because})
            if status in ("failed", "diverged"):
                mark_failed(folder, progress.env_steps, self._run.shown_hparams)
        except BbrlExpError as caught:
            error, exit_code = error or caught, exit_code or caught.exit_code
            console.line(f"error: {caught}")
        console.close()
        lines = end_lines(summary, folder, is_saved=progress.is_saved)
        for line in lines:
            if line.startswith("error: ") and not self._in_sweep:
                self._log_console.line(line)
                show_error(line)
            else:
                console.line(line)
        if self._in_sweep and self._terminal is not None:
            self._terminal.line(f"{folder.name}: {'; '.join(lines[:-1])}")
        return RunResult(folder, summary, error, exit_code, stop.number)


def first_summary(run: CheckedRun, env_id: str | None, commit: str | None) -> Summary:
    """The summary of a run before its first step, in the environments ``env_id``, by the code of ``commit``."""
    return Summary(
        status="running",
        agent=run.choices["agent"],
        env=run.choices["env"],
        env_id=env_id,
        seed=run.root.seed,
        batch_size=run.root.batch_size,
        command=command(),
        overrides=run.overrides,
        git_commit=commit,
        versions=dict(versions()),
        config_hash=run.config_hash,
    )


def _extended_from(earlier: Mapping[str, Any]) -> tuple[int, ...]:
    """Where a run was complete before, given what its summary said."""
    before = tuple(earlier.get("extended_from", ()))
    return (*before, earlier["env_steps"]) if earlier.get("status") == "completed" else before


def _close_records(progress: RunProgress, status: Status, log: TextIO) -> BaseException | None:
    """Closes the records of a run that ends so; gives what that raised."""
    try:
        if progress.tracker is not None:
            progress.tracker.close(status)
    except BaseException as caught:
        traceback.print_exception(caught, file=log)
        return caught
    return None


def _outcome(error: BaseException | None, stop: StopSignal, progress: RunProgress) -> tuple[Status, int]:
    is_typed = isinstance(error, KeyboardInterrupt) and not ends_silently(error)
    if is_typed or (error is None and stop.number is not None and not progress.is_done):
        return "interrupted", STOPPED_BY + (stop.number or signal.SIGINT)
    if error is None:
        return "paused" if progress.is_paused else "completed", 0
    if isinstance(error, DivergedError):
        return "diverged", error.exit_code
    return "failed", error.exit_code if isinstance(error, BbrlExpError) else 1


def _reason(error: BaseException | None, stop: StopSignal, progress: RunProgress) -> str | None:
    if error is None and stop.number is None and progress.is_paused:
        return f"{PAUSED} {progress.env_steps:,} environment steps (pause_after)"
    is_typed = isinstance(error, KeyboardInterrupt) and not ends_silently(error)
    if stop.number is not None and (error is None or is_typed):
        return f"stopped by {signal.Signals(stop.number).name}"
    if error is None or isinstance(error, BbrlExpError):
        return None if error is None else str(error)
    said = described(error)
    where = [*getattr(error, "__notes__", ()), *_place(error)][:1]
    return f"{said} ({where[0]})" if where else said


def _place(error: BaseException) -> Iterator[str]:
    """The agent or the learner that failed, and where in its file."""
    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.agents.failure import failing_module, place_of
    from bbrl_exp.learners.learner import Learner

    module = failing_module(error, (Agent, Learner))
    if module is not None:
        label = module.label if isinstance(module, Agent) else type(module).__name__
        yield f"in {label}, {place_of(error, module)}"


@contextlib.contextmanager
def warnings_in(log: TextIO) -> Iterator[None]:
    """Writes warnings, and what other packages log, to ``run.log``."""
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    forget_told_warnings()
    with warnings.catch_warnings():  # also forgets which warnings the checks before the run have shown already
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)
