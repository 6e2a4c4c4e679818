"""One session of a run: from its beginning or a checkpoint to its end, or to the signal that stops it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.preparation import PreparedRun
from bbrl_exp.errors import BbrlExpError, DivergedError, described, is_of_user_code
from bbrl_exp.records.provenance import versions
from bbrl_exp.records.summary import RESULTS, Summary
from bbrl_exp.runs.console import describe, show_start
from bbrl_exp.runs.evaluations import Evaluations
from bbrl_exp.runs.resume import ResumePoint
from bbrl_exp.runs.stop import StopSignal
from bbrl_exp.runs.stop_rule import StopRule

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.config.check import CheckedRun
    from bbrl_exp.learners.learner import Learner, Metrics, Progress
    from bbrl_exp.tracking.console import Console
    from bbrl_exp.tracking.tracker import Tracker
    from bbrl_exp.training.checkpoints import Checkpoint
    from bbrl_exp.training.loop import Chunk, Rows, Stopwatch
    from bbrl_exp.training.resumption import Records
    from bbrl_exp.workspace import Workspace


@dataclass
class RunProgress:
    """What has been done so far, kept for the summary whatever happens.

    Attributes:
        wall_seconds: gives the seconds of the run until now, all its sessions together.
        git_commit: as in the summary.
        side_by_side_with: likewise.
    """

    wall_seconds: Callable[[], float]
    git_commit: str | None
    side_by_side_with: int | None = None
    env_steps: int = 0
    loop_seconds: float = 0.0
    is_done: bool = False
    is_paused: bool = False
    is_saved: bool = False
    stopped_because: str | None = None
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
            "eval_success_rate": final.success_rate if final else None,
            **(evaluations.final_numbers if evaluations else {}),
        }

    def put_in(self, summary: Summary) -> Summary:
        """The summary with what has been done."""
        final = self.evaluations.final if self.evaluations else None
        return replace(
            summary,
            env_steps=self.env_steps,
            stopped_because=self.stopped_because if self.is_done else None,
            eval_policy=self.evaluations.judged_by if self.evaluations else None,
            episodes=self.tracker.episodes.finished if self.tracker else 0,
            eval_returns=final.returns if final else None,
            evaluations=self.evaluations.periodic if self.evaluations else (),
            side_by_side_with=self.side_by_side_with,
            steps_per_second=self.env_steps / self.loop_seconds if self.env_steps and self.loop_seconds else None,
            **self.results,  # type: ignore[arg-type]
        )


def run_session(
    prepared: PreparedRun, folder: Path, console: Console, progress: RunProgress, stop: StopSignal, before: ResumePoint
) -> None:
    """Runs what is prepared to the end, chunk by chunk; the tracker of ``progress`` is not closed.

    Raises:
        DivergedError: also where other code stumbled over a parameter that is NaN or infinite.
    """
    import torch

    with (
        torch.autograd.set_detect_anomaly(prepared.run.root.debug),
        open_session(prepared, folder, console, progress, stop, before) as session,
    ):
        try:
            session.run()
        except Exception as error:
            session.raise_if_diverged(error)
            raise
        session.finish()


@contextlib.contextmanager
def open_session(
    prepared: PreparedRun,
    folder: Path,
    console: Console,
    progress: RunProgress,
    stop: StopSignal,
    before: ResumePoint,
    generators: Records | None = None,
) -> Iterator[Session]:
    """A session that is ready to begin; its evaluations are closed afterwards, the tracker of ``progress`` is not.

    Args:
        prepared: graph and learner.
        folder: of the run.
        console: where it reports.
        progress: where it counts.
        stop: whether it is to stop.
        before: where it begins.
        generators: in the place of the global random generators where several runs share a process.
    """
    from bbrl_exp.runs.recording import tracker_of
    from bbrl_exp.training.loop import Stopwatch

    meta = before.checkpoint.meta if before.checkpoint is not None else {}
    show_start(console, prepared, folder)
    for complaint in before.complaints:
        console.line(f"warning: {complaint}; an earlier one is used")
    stopwatch = Stopwatch(meta.get("loop_seconds", 0.0))
    progress.tracker = tracker = tracker_of(prepared, folder, console, stopwatch, meta, progress.git_commit)
    if tracker.begin():
        describe(tracker, prepared)
    progress.evaluations = evaluations = Evaluations(prepared, folder, tracker, console, stop.came)
    with contextlib.closing(evaluations):
        yield Session(
            prepared, folder, console, progress, stop, tracker, evaluations, stopwatch, before.checkpoint, generators
        )


class Session:
    """The loop over chunks, with checkpoints, evaluations and records.

    :meth:`run` and :meth:`finish` are all that a run needs. Where several runs go chunk by chunk together, whoever
    leads them calls :meth:`begin`, for each chunk :meth:`progress_after`, :meth:`learned` and :meth:`after`, and
    :meth:`finish`.

    Attributes:
        chunks_done: chunks done before the next one.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        folder: Path,
        console: Console,
        progress: RunProgress,
        stop: StopSignal,
        tracker: Tracker,
        evaluations: Evaluations,
        stopwatch: Stopwatch,
        checkpoint: Checkpoint | None,
        generators: Records | None,
    ) -> None:
        from bbrl_exp.training.checkpoints import Checkpoints
        from bbrl_exp.training.metrics import NewestMetrics
        from bbrl_exp.training.resumption import GlobalGenerators, RunningParts
        from bbrl_exp.workspace import Workspace

        run, graph, learner = prepared.run, prepared.graph, prepared.learner
        self._run, self._plan, self._console, self._progress, self._stop = run, run.size, console, progress, stop
        self._graph, self._learner = graph, learner
        self._tracker, self._evaluations, self._stopwatch = tracker, evaluations, stopwatch
        self._checkpoint = checkpoint
        self.chunks_done: int = 0 if checkpoint is None else checkpoint.state["chunks"]
        if learner is not None and learner.compiled is not None:
            learner.compiled.around_compiling = self._compiling
        self._metrics = NewestMetrics(run.tracking.metrics_every, type(learner).__name__)
        records: dict[str, Records] = {"metrics": self._metrics, "tracker": tracker}
        self._parts = RunningParts(graph, learner, Workspace(), records, generators or GlobalGenerators())
        self._rule = StopRule.of(run)
        self._most_seconds = self._rule.most_seconds
        self._versions = versions()
        self._keeps_checkpoints = _keeps_checkpoints(run, graph, console)
        buffers = {} if learner is None else learner.replay_buffers()
        every, keep = run.checkpoint_every, run.root.checkpoint["keep"]
        self._checkpoints = Checkpoints(folder, every, keep, buffers, run.size.steps_per_recording)

    @property
    def stopwatch(self) -> Stopwatch:
        """The clock of the loop, paused in evaluations."""
        return self._stopwatch

    @property
    def workspace(self) -> Workspace:
        """The recording."""
        return self._parts.workspace

    @contextlib.contextmanager
    def _compiling(self, begins: str | None) -> Iterator[None]:
        """Prints what begins; the speed, and with it the time left, does not count the seconds of the block."""
        if begins is not None:
            self._console.line(begins)
        with self._stopwatch.pause():
            yield

    def run(self) -> None:
        """All chunks that are left, unless a signal comes."""
        from bbrl_exp.training.loop import collect

        if not self.begin():
            return
        for chunk in collect(
            self._graph,
            self._parts.workspace,
            total_steps=self._plan.total_steps,
            batch_size=self._plan.batch_size,
            steps_per_chunk=self._plan.steps_per_chunk,
            chunks_per_recording=self._plan.chunks_per_recording,
            chunks_done=self.chunks_done,
        ):
            if self._learner is not None:
                self.learned(chunk, self._learner.learn_from(self._parts.workspace, self.progress_after(chunk)))
            if self.after(chunk):
                break

    def begin(self) -> bool:
        """Resumes from the checkpoint, if there is one; False where no chunk is to follow."""
        if self._checkpoint is not None:
            self._resume_from(self._checkpoint)
        if self._stop.came():
            return False
        if self.chunks_done and self._ends_early(self._progress.env_steps):
            self._record_rest(self.chunks_done)
            return False
        if self._pauses_at(self._progress.env_steps):
            self._evaluations.wait()
            return False
        return True

    def progress_after(self, chunk: Chunk) -> Progress:
        """How far the run is after a chunk, for the learner."""
        from bbrl_exp.learners.learner import Progress

        plan = self._plan
        return Progress(chunk.first_row, chunk.env_steps, plan.env_steps, chunk.new_steps, plan.schedule_steps)

    def learned(self, chunk: Chunk, metrics: Metrics) -> None:
        """Takes the metrics of the update after a chunk.

        Raises:
            DivergedError: a metric or a parameter that is NaN or infinite.
        """
        from bbrl_exp.training.resumption import check_parameters

        assert self._learner is not None
        self._metrics.add(metrics)
        for line in self._learner.news():
            self._console.line(line)
        if self._metrics.due(chunk.env_steps):
            self._tracker.scalars(chunk.env_steps, self._metrics.take(chunk.env_steps))
            check_parameters(self._learner, chunk.env_steps)

    def after(self, chunk: Chunk) -> bool:
        """Records, saves and evaluates what is due after a chunk; True where the run stops here."""
        if chunk.is_cut_next:
            self._record(chunk.recorded)
        self._progress.env_steps, self._progress.loop_seconds = chunk.env_steps, self._stopwatch()
        return self._save_and_evaluate(chunk)

    def raise_if_diverged(self, error: Exception) -> None:
        """Raises DivergedError in place of what other code raised where a parameter is NaN or infinite."""
        from bbrl_exp.training.resumption import check_parameters

        if self._learner is not None and not isinstance(error, BbrlExpError):
            try:
                check_parameters(self._learner, self._progress.env_steps)
            except DivergedError as diverged:
                raise diverged from error

    def finish(self) -> None:
        """The last records and the final evaluation, after the last chunk or the one in which a signal came."""
        env_steps = self._progress.env_steps
        if self._metrics.has_any:
            self._tracker.scalars(env_steps, self._metrics.take(env_steps))
        self._evaluations.keep_last(env_steps)
        with self._stopwatch.pause():
            is_whole = env_steps == self._plan.env_steps or self._progress.stopped_because is not None
            if is_whole and self._learner is not None:
                self._tell_if_nothing_was_learned(self._learner, env_steps)
            self._progress.is_done = is_whole and self._evaluations.finish(env_steps)
            if self._progress.is_done and self._run.tracking.films:
                self._film()
        if self._progress.is_done:
            results = self._progress.results
            self._tracker.complete({name: results[name] for name in RESULTS})

    def _tell_if_nothing_was_learned(self, learner: Learner, env_steps: int) -> None:
        """Prints a warning at the end of a run in which there was no update.

        Raises:
            BbrlExpError: the learner learns from whole episodes, none has ended, and the environment sets no limit.
        """
        if (awaited := learner.awaits()) is None:
            return
        said = f"{type(learner).__name__} has learned nothing in {env_steps:,} environment steps: it awaits {awaited}"
        may_never_end = not self._run.size.has_time_limit and not self._tracker.episodes.finished
        if learner.needs_episodes and may_never_end:
            raise BbrlExpError(f"{said}, and no episode has ended; give the environment a time limit")
        self._console.line(f"warning: {said}")

    def _film(self) -> None:
        """Puts a moving picture of the last policy on TensorBoard's IMAGES page; where that fails the run does not."""
        try:
            animation = self._evaluations.film(self._run.tracking.animation_steps)
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            self._console.line(f"no animation: {described(error)}")
        else:
            self._tracker.image("last_policy", animation.data, animation.size)

    def _resume_from(self, checkpoint: Checkpoint) -> None:
        """Puts everything to where the checkpoint was written, and does what came after that."""
        env_steps = self._progress.env_steps = checkpoint.meta["env_steps"]
        self._progress.loop_seconds = checkpoint.meta["loop_seconds"]
        self._progress.is_saved = True
        self._parts.load_state(checkpoint.state)
        self._checkpoints.load_rows(checkpoint)
        self._evaluations.load_state(checkpoint.meta["evaluations"])
        self._console.line(f"resumes after {env_steps:,} environment steps, from {checkpoint.path.name}")
        if checkpoint.state["chunks"] == self._plan.chunks:
            self._record_rest(checkpoint.state["chunks"])
        self._evaluate_if_due(env_steps)

    def _record_rest(self, chunks_done: int) -> None:
        """Records the rows of a recording that is not whole, where no chunk follows."""
        from bbrl_exp.training.loop import recorded_rows

        plan = self._plan
        if chunks_done % plan.chunks_per_recording:
            self._record(recorded_rows(chunks_done, plan.steps_per_chunk, plan.chunks_per_recording))

    def _record(self, rows: Rows) -> None:
        self._tracker.chunk(self._parts.workspace, rows.first_row, rows.first_time)

    def _save_and_evaluate(self, chunk: Chunk) -> bool:
        """Writes the checkpoint that is due, then evaluates if that is due; True where the run stops here.

        The checkpoint is of the moment before the evaluation: a run that resumes evaluates again, and records again
        what was not recorded before. At a pause, and where ``stop_when`` ends the run, it is of the moment after: what
        was evaluated is not evaluated again.
        """
        is_stopped, is_paused = self._stop.came(), self._pauses_at(chunk.env_steps)
        is_regular = chunk.is_cut_next and self._checkpoints.is_due(chunk.env_steps)
        is_late = self._most_seconds is not None and self._progress.wall_seconds() >= self._most_seconds
        is_any = is_stopped or is_paused or is_regular or is_late or chunk.is_last
        if not is_any and not self._evaluations.is_due(chunk.env_steps):
            return False
        meta = self._meta(chunk)
        if is_paused and not is_stopped:
            self._evaluate_if_due(chunk.env_steps)
            self._evaluations.wait()
            if not self._stop.came():
                meta = self._meta(chunk)
        is_saved = is_stopped or is_paused or is_regular or chunk.is_last
        if is_saved:
            self._save(chunk, meta)
        if (is_stopped or is_paused or chunk.is_last) and not chunk.is_cut_next:
            self._record(chunk.recorded)
        if is_stopped or is_paused:
            if is_paused and not self._stop.came() and self._ends_early(chunk.env_steps):
                self._progress.is_paused = False
            return True
        self._evaluate_if_due(chunk.env_steps)
        if self._stop.came() and not is_saved:
            self._save(chunk, meta)
        elif not self._stop.came() and self._ends_early(chunk.env_steps):
            self._save(chunk, self._meta(chunk))
            if not chunk.is_cut_next:
                self._record(chunk.recorded)
            return True
        return self._stop.came()

    def _meta(self, chunk: Chunk) -> dict[str, Any]:
        """What a checkpoint says of the run."""
        return {
            "env_steps": chunk.env_steps,
            "config_hash": self._run.config_hash,
            "versions": self._versions,
            "loop_seconds": self._stopwatch(),
            "positions": self._tracker.positions().saved(),
            "evaluations": self._evaluations.state(),
        }

    def _ends_early(self, env_steps: int) -> bool:
        """Whether the run is complete here by ``stop_when``, before its end."""
        if env_steps < self._plan.env_steps:
            reason = self._rule.reason(self._evaluations.periodic, self._progress.wall_seconds())
            self._progress.stopped_because = reason
            if reason is not None:
                self._console.line(f"stopped after {env_steps:,} environment steps: {reason}")
        return self._progress.stopped_because is not None

    def _pauses_at(self, env_steps: int) -> bool:
        """Whether the run is to stop here, by ``pause_after`` and before its end."""
        pause_after = self._run.root.pause_after
        self._progress.is_paused = pause_after is not None and pause_after <= env_steps < self._plan.env_steps
        return self._progress.is_paused

    def _save(self, chunk: Chunk, meta: Mapping[str, Any]) -> None:
        from bbrl_exp.training.resumption import check_parameters

        if not self._keeps_checkpoints:  # perhaps because the environments have no state to be asked for
            if self._learner is not None:
                check_parameters(self._learner, chunk.env_steps)
            return
        state = self._parts.state(chunk)
        self._tracker.sync()
        self._checkpoints.write(chunk.env_steps, state, meta)
        self._progress.is_saved = True

    def _evaluate_if_due(self, env_steps: int) -> None:
        if self._evaluations.is_due(env_steps):
            with self._stopwatch.pause():
                self._evaluations.after_chunk(env_steps)
                if self._rule.settings.needs_evaluations:
                    self._evaluations.wait()  # so that the run ends at the same step wherever it is evaluated


def _keeps_checkpoints(run: CheckedRun, graph: TemporalAgent, console: Console) -> bool:
    """Whether checkpoints are asked for and can be written; environments may have state that cannot."""
    from bbrl_exp.envs.checks import forget_actions

    if run.size.not_resumable is not None:
        console.line(f"no checkpoints, the run cannot be resumed once it has stopped: {run.size.not_resumable}")
    if run.checkpoint_every and run.size.not_resumable is None:
        return True
    forget_actions(graph)
    return False
