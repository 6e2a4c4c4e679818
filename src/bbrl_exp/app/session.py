"""One session of a run: from where it stands to its end, or to the signal that stops it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from bbrl_exp.app.evaluations import Evaluations
from bbrl_exp.app.graph import env_spec_of
from bbrl_exp.app.learner import build_graph_and_learner
from bbrl_exp.app.provenance import versions
from bbrl_exp.app.report import show_start
from bbrl_exp.app.resume import Standing
from bbrl_exp.app.stop import StopSignal
from bbrl_exp.app.summary import Summary
from bbrl_exp.app.threads import set_threads
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.seeding import seed_global_generators

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.app.check import CheckedRun
    from bbrl_exp.learners.learner import Learner
    from bbrl_exp.tracking.console import Console
    from bbrl_exp.tracking.tracker import Tracker


@dataclass
class RunProgress:
    """What has been done so far, kept for the summary whatever happens."""

    env_steps: int = 0
    loop_seconds: float = 0.0
    is_done: bool = False
    is_saved: bool = False
    tracker: Tracker | None = None
    evaluations: Evaluations | None = None

    @property
    def results(self) -> dict[str, float | None]:
        """What the run is judged by."""
        evaluations = self.evaluations
        final = evaluations.final if evaluations else None
        return {
            "return_mean": self.tracker.episodes.return_mean if self.tracker else None,
            "eval_return_mean": final.return_mean if final else None,
            "eval_return_std": final.return_std if final else None,
            "eval_curve_mean": evaluations.curve_mean if evaluations else None,
            "best_eval_return_mean": evaluations.best_mean if evaluations else None,
        }

    def put_in(self, summary: Summary) -> Summary:
        """The summary with what has been done."""
        final = self.evaluations.final if self.evaluations else None
        return replace(
            summary,
            env_steps=self.env_steps,
            episodes=self.tracker.episodes.finished if self.tracker else 0,
            eval_returns=final.returns if final else None,
            steps_per_second=self.env_steps / self.loop_seconds if self.env_steps and self.loop_seconds else None,
            **self.results,  # type: ignore[arg-type]
        )


def run_session(
    run: CheckedRun, folder: Path, console: Console, progress: RunProgress, stop: StopSignal, before: Standing
) -> None:
    """Builds the graph and runs it to the end, chunk by chunk.

    Args:
        run: the configuration.
        folder: of the run, claimed.
        console: where the run tells of itself.
        progress: kept up to date.
        stop: whether the run was asked to stop.
        before: where the run stands.
    """
    import torch

    from bbrl_exp.agents.dry_run import check_graph

    prepare_process(run)
    if before.has_begun and before.checkpoint is None:
        _remove_records(folder)
    graph, learner = build_graph_and_learner(run.config, run.written)
    for module in (graph, learner):
        if module is not None:
            module.to(run.device)
    with contextlib.closing(graph), torch.autograd.set_detect_anomaly(run.root.debug):
        show_start(console, graph, check_graph(graph), run, folder)
        for complaint in before.complaints:
            console.line(f"warning: {complaint}; an earlier one is used")
        _run_loop(run, folder, console, progress, stop, before, graph, learner)


def _run_loop(
    run: CheckedRun,
    folder: Path,
    console: Console,
    progress: RunProgress,
    stop: StopSignal,
    before: Standing,
    graph: TemporalAgent,
    learner: Learner | None,
) -> None:
    from bbrl_exp.learners.learner import Progress
    from bbrl_exp.tracking.tracker import Tracker
    from bbrl_exp.training.checkpoints import Checkpoints
    from bbrl_exp.training.loop import collect
    from bbrl_exp.training.metrics import NewestMetrics
    from bbrl_exp.training.resumption import RunningParts, check_parameters
    from bbrl_exp.training.stopwatch import Stopwatch
    from bbrl_exp.workspace import Workspace

    plan, checkpoint = run.plan, before.checkpoint
    meta: Mapping[str, Any] = checkpoint.meta if checkpoint is not None else {}
    stopwatch = Stopwatch(meta.get("loop_seconds", 0.0))
    progress.tracker = tracker = Tracker(
        folder,
        run.tracking,
        batch_size=plan.batch_size,
        planned_time_steps=plan.time_steps,
        discrete_actions=_discrete_actions(graph),
        console=console,
        clock=stopwatch,
        continued=meta.get("positions"),
    )
    progress.evaluations = evaluations = Evaluations(
        run, folder, graph, learner, tracker, console, lambda: stop.number is not None
    )
    with contextlib.closing(tracker), contextlib.closing(evaluations):
        metrics = NewestMetrics(run.tracking.metrics_every)
        parts = RunningParts(graph, learner, Workspace(), {"metrics": metrics, "tracker": tracker})
        buffers = {} if learner is None else learner.replay_buffers()
        progress.env_steps = meta.get("env_steps", 0)
        every = _checkpoint_every(run, graph, console)
        checkpoints = Checkpoints(folder, every, run.root.checkpoint["keep"], buffers, plan.steps_per_recording)
        if checkpoint is None:
            tracker.config(OmegaConf.to_yaml(OmegaConf.create(run.config)))
        else:
            parts.load_state(checkpoint.state)
            checkpoints.load_rows(checkpoint)
            evaluations.load_state(meta["evaluations"])
            console.line(f"goes on after {progress.env_steps:,} environment steps, from {checkpoint.path.name}")
            if evaluations.is_due(progress.env_steps):
                with stopwatch.pause():
                    evaluations.after_chunk(progress.env_steps)
        for chunk in collect(
            graph,
            parts.workspace,
            total_steps=plan.total_steps,
            batch_size=plan.batch_size,
            steps_per_chunk=plan.steps_per_chunk,
            chunks_per_recording=plan.chunks_per_recording,
            chunks_done=checkpoint.state["chunks"] if checkpoint is not None else 0,
        ):
            if learner is not None:
                done = Progress(chunk.first_row, chunk.env_steps, plan.env_steps)
                metrics.add(learner.update(parts.workspace, done))
                if metrics.due(chunk.env_steps):
                    tracker.scalars(chunk.env_steps, metrics.take(chunk.env_steps))
                    check_parameters(learner, chunk.env_steps)
            if chunk.is_cut_next:
                tracker.chunk(parts.workspace, chunk.recorded.first_row, chunk.recorded.first_time)
            progress.env_steps, progress.loop_seconds = chunk.env_steps, stopwatch()
            is_last = chunk.env_steps == plan.env_steps
            is_due = stop.number is not None or is_last or (chunk.is_cut_next and checkpoints.is_due(chunk.env_steps))
            if every > 0 and is_due:
                checkpoints.write(
                    chunk.env_steps,
                    parts.state(chunk),
                    {
                        "env_steps": chunk.env_steps,
                        "config_hash": run.config_hash,
                        "versions": versions(),
                        "loop_seconds": stopwatch(),
                        "positions": tracker.positions(),
                        "evaluations": evaluations.state(),
                    },
                )
                progress.is_saved = True
            elif learner is not None and is_due:
                check_parameters(learner, chunk.env_steps)
            if stop.number is not None:
                if not chunk.is_cut_next:  # what a run that goes on records again
                    tracker.chunk(parts.workspace, chunk.recorded.first_row, chunk.recorded.first_time)
                break
            if evaluations.is_due(chunk.env_steps):
                with stopwatch.pause():
                    evaluations.after_chunk(chunk.env_steps)
        if metrics.has_any:
            tracker.scalars(progress.env_steps, metrics.take(progress.env_steps))
        evaluations.keep_last(progress.env_steps)
        with stopwatch.pause():
            is_whole = progress.env_steps == plan.env_steps
            progress.is_done = is_whole and evaluations.finish(progress.env_steps)
        tracker.hparams(_parameters(run), progress.results)


def _checkpoint_every(run: CheckedRun, graph: TemporalAgent, console: Console) -> int:
    """Environment steps between two checkpoints; 0 for none, also where vectorised environments cannot be saved."""
    from bbrl_exp.envs.resume_check import check_vectorized

    if run.checkpoint_every:
        try:
            check_vectorized(graph)
        except ConfigurationError as error:
            console.line(f"no checkpoints, the run cannot go on once it has stopped: {error}")
            return 0
    return run.checkpoint_every


def _remove_records(folder: Path) -> None:
    """Removes what a run recorded that has no checkpoint to go on from."""
    from bbrl_exp.tracking.csv_file import FILE_NAME
    from bbrl_exp.tracking.event_file import FILE_PREFIX

    for path in (*folder.glob(f"{FILE_PREFIX}*"), folder / FILE_NAME):
        path.unlink(missing_ok=True)


def prepare_process(run: CheckedRun) -> None:
    """Sets threads and the global generators, so that a job depends on nothing that ran before it."""
    set_threads(run.root.num_threads)
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
