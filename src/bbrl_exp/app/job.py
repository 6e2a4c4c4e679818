"""One run, from its claimed folder to its summary."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from omegaconf import OmegaConf

from bbrl_exp.app.check import CheckedRun
from bbrl_exp.app.evaluations import Evaluations
from bbrl_exp.app.graph import env_spec_of
from bbrl_exp.app.learner import build_graph_and_learner
from bbrl_exp.app.provenance import command, git_commit, versions
from bbrl_exp.app.report import SeveralConsoles, Terminal, end_lines, show_start
from bbrl_exp.app.stop import StopSignal
from bbrl_exp.app.summary import Status, Summary
from bbrl_exp.errors import BbrlExpError, DivergedError
from bbrl_exp.seeding import seed_global_generators

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.tracking.console import Console
    from bbrl_exp.tracking.tracker import Tracker

LOG_NAME = "run.log"


@dataclass
class _Progress:
    """What has been done so far, kept for the summary whatever happens."""

    env_steps: int = 0
    loop_seconds: float = 0.0
    is_done: bool = False
    tracker: Tracker | None = None
    evaluations: Evaluations | None = None

    @property
    def return_mean(self) -> float | None:
        return self.tracker.episodes.return_mean if self.tracker else None

    @property
    def results(self) -> dict[str, float | None]:
        """What the run is judged by."""
        evaluations = self.evaluations
        final = evaluations.final if evaluations else None
        return {
            "return_mean": self.return_mean,
            "eval_return_mean": final.return_mean if final else None,
            "eval_return_std": final.return_std if final else None,
            "eval_curve_mean": evaluations.curve_mean if evaluations else None,
            "best_eval_return_mean": evaluations.best_mean if evaluations else None,
        }

    def put_in(self, summary: Summary) -> Summary:
        final = self.evaluations.final if self.evaluations else None
        return replace(
            summary,
            env_steps=self.env_steps,
            episodes=self.tracker.episodes.finished if self.tracker else 0,
            eval_returns=final.returns if final else None,
            steps_per_second=self.env_steps / self.loop_seconds if self.env_steps and self.loop_seconds else None,
            **self.results,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        folder: where it lies.
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


def execute(run: CheckedRun, folder: Path, overrides: Sequence[str], *, in_sweep: bool = False) -> RunResult:
    """Runs a checked configuration in a folder that this process has claimed; a failure is recorded, not raised.

    Args:
        run: the configuration.
        folder: the claimed folder.
        overrides: of this job, for the record.
        in_sweep: say only a few lines on standard output; everything is in ``run.log``.
    """
    from bbrl_exp.tracking.console import PlainConsole

    started = time.perf_counter()
    summary = first_summary(run, overrides)
    summary.write(folder)
    progress, stop = _Progress(), StopSignal()
    error: BaseException | None = None
    with (folder / LOG_NAME).open("a", encoding="utf-8") as log, _warnings_in(log), stop.caught():
        terminal, log_console = Terminal(), PlainConsole(log)
        console = log_console if in_sweep else SeveralConsoles(terminal, log_console)
        try:
            _loop(run, folder, console, progress, stop)
        except BaseException as caught:
            error = caught
            traceback.print_exception(caught, file=log)
            if run.root.debug:
                traceback.print_exception(caught, file=sys.stderr)
        status, exit_code = _outcome(error, stop, progress.is_done)
        summary = replace(
            progress.put_in(summary),
            status=status,
            error=_reason(error, stop) if status != "completed" else None,
            wall_seconds=time.perf_counter() - started,
        )
        summary.write(folder)
        console.close()
        lines = end_lines(summary, folder)
        for line in lines:
            console.line(line)
        if in_sweep:
            terminal.line(f"{folder.name}: {'; '.join(lines[:-1])}")
    return RunResult(folder, summary, error, exit_code, stop.number)


def first_summary(run: CheckedRun, overrides: Sequence[str]) -> Summary:
    """The summary of a run before its first step."""
    return Summary(
        status="running",
        agent=run.choices["agent"],
        env=run.choices["env"],
        env_id=run.root.env["id"],
        seed=run.root.seed,
        batch_size=run.root.batch_size,
        command=command(),
        overrides=tuple(overrides),
        git_commit=git_commit(),
        versions=versions(),
        config_hash=run.config_hash,
    )


def _outcome(error: BaseException | None, stop: StopSignal, is_done: bool) -> tuple[Status, int]:
    if isinstance(error, KeyboardInterrupt) or (error is None and stop.number is not None and not is_done):
        return "interrupted", 128 + (stop.number or signal.SIGINT)
    if error is None:
        return "completed", 0
    if isinstance(error, DivergedError):
        return "diverged", error.exit_code
    return "failed", error.exit_code if isinstance(error, BbrlExpError) else 1


def _reason(error: BaseException | None, stop: StopSignal) -> str | None:
    if stop.number is not None and (error is None or isinstance(error, KeyboardInterrupt)):
        return f"stopped by {signal.Signals(stop.number).name}"
    if error is None or isinstance(error, BbrlExpError):
        return None if error is None else str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _loop(run: CheckedRun, folder: Path, console: Console, progress: _Progress, stop: StopSignal) -> None:
    """Builds the graph and runs it to the end, chunk by chunk."""
    import torch

    from bbrl_exp.agents.dry_run import check_graph
    from bbrl_exp.learners.learner import Progress
    from bbrl_exp.tracking.tracker import Tracker
    from bbrl_exp.training.loop import collect
    from bbrl_exp.training.metrics import NewestMetrics
    from bbrl_exp.training.stopwatch import Stopwatch
    from bbrl_exp.workspace import Workspace

    prepare_process(run)
    graph, learner = build_graph_and_learner(run.config, run.written)
    for module in (graph, learner):
        if module is not None:
            module.to(run.device)
    with contextlib.closing(graph), torch.autograd.set_detect_anomaly(run.root.debug):
        show_start(console, graph, check_graph(graph), run, folder)
        plan, stopwatch = run.plan, Stopwatch()
        progress.tracker = tracker = Tracker(
            folder,
            run.tracking,
            batch_size=plan.batch_size,
            planned_time_steps=plan.time_steps,
            discrete_actions=_discrete_actions(graph),
            console=console,
            clock=stopwatch,
        )
        progress.evaluations = evaluations = Evaluations(
            run, folder, graph, learner, tracker, console, lambda: stop.number is not None
        )
        with contextlib.closing(tracker), contextlib.closing(evaluations):
            tracker.config(OmegaConf.to_yaml(OmegaConf.create(run.config)))
            metrics = NewestMetrics(run.tracking.metrics_every)
            begun = stopwatch()
            for chunk in collect(
                graph,
                workspace := Workspace(),
                total_steps=plan.total_steps,
                batch_size=plan.batch_size,
                steps_per_chunk=plan.steps_per_chunk,
                chunks_per_recording=plan.chunks_per_recording,
            ):
                if learner is not None:
                    metrics.add(learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, plan.env_steps)))
                    if metrics.due(chunk.env_steps):
                        tracker.scalars(chunk.env_steps, metrics.take(chunk.env_steps))
                if chunk.is_cut_next or stop.number is not None:
                    tracker.chunk(workspace, chunk.recorded.first_row, chunk.recorded.first_time)
                progress.env_steps, progress.loop_seconds = chunk.env_steps, stopwatch() - begun
                if stop.number is not None:
                    break
                if evaluations.is_due(chunk.env_steps):
                    with stopwatch.pause():
                        evaluations.after_chunk(chunk.env_steps)
            if metrics.has_any:
                tracker.scalars(progress.env_steps, metrics.take(progress.env_steps))
            evaluations.keep_last(progress.env_steps)
            is_whole = progress.env_steps == plan.env_steps
            with stopwatch.pause():
                progress.is_done = is_whole and evaluations.finish(progress.env_steps)
            tracker.hparams(_parameters(run), progress.results)


def prepare_process(run: CheckedRun) -> None:
    """Sets threads and the global generators, so that a job depends on nothing that ran before it."""
    import torch

    torch.set_num_threads(run.root.num_threads)
    with contextlib.suppress(RuntimeError):  # may be set once a process only, by a sweep's first job
        torch.set_num_interop_threads(run.root.num_threads)
    seed_global_generators(run.root.seed)


def _discrete_actions(graph: TemporalAgent) -> dict[str, tuple[int, int]]:
    """Name, smallest value and number of values of the graph's discrete actions."""
    spec = env_spec_of(graph)
    return {
        leaf.name: (int(leaf.start) if leaf.start is not None else 0, int(leaf.counts))
        for leaf in (spec.actions if spec is not None else ())
        if leaf.kind == "discrete" and leaf.counts is not None
    }


def _parameters(run: CheckedRun) -> dict[str, str | float | bool]:
    """What the run was asked, flat, for TensorBoard's page of hyper-parameters."""
    asked: dict[str, str | float | bool] = {
        group: choice for group in ("agent", "env") if (choice := run.choices[group])
    }
    asked |= {"env_id": run.root.env["id"]}
    asked |= {key: getattr(run.root, key) for key in ("seed", "batch_size", "total_steps", "device")}
    for name, node in run.config["agent"]["members"].items():
        asked |= _plain_values(f"{name}.", node) if name != "env" else {}
    asked |= _plain_values("learner.", run.config["agent"]["learner"] or {})
    return asked


def _plain_values(prefix: str, node: Mapping[str, Any]) -> dict[str, str | float | bool]:
    values: dict[str, str | float | bool] = {}
    for name, value in node.items():
        if isinstance(value, str | int | float) and name != "_target_":
            values[f"{prefix}{name}"] = value
        elif isinstance(value, list):
            values[f"{prefix}{name}"] = str(value)
    return values


@contextlib.contextmanager
def _warnings_in(log: TextIO) -> Iterator[None]:
    """Lets warnings, and what other packages log, stand in ``run.log``."""
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    with warnings.catch_warnings():  # also forgets which warnings the checks before the run have shown already
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)
