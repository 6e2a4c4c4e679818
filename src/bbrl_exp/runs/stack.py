"""Jobs of a sweep that are built alike, side by side in one process: each has its own folder, records and end."""

from __future__ import annotations

import io
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.preparation import PreparedRun, prepare
from bbrl_exp.errors import BbrlExpError, is_of_user_code
from bbrl_exp.records.claim import FolderClaim
from bbrl_exp.records.layout import LOG
from bbrl_exp.runs.ending import JobEnding
from bbrl_exp.runs.execution import Execution, warnings_in
from bbrl_exp.runs.job import refuse
from bbrl_exp.runs.resume import AUTO, ResumePoint, is_complete, resume_point
from bbrl_exp.runs.session import Session, open_session
from bbrl_exp.runs.stop import StopSignal
from bbrl_exp.seeding import global_generator_states
from bbrl_exp.stacked.stack import Stack, StackedJob
from bbrl_exp.training.loop import passes
from bbrl_exp.workspace import Workspace


def run_stack(runs: Sequence[CheckedRun], folders: Sequence[Path]) -> list[JobEnding]:
    """Runs jobs to their ends, or to the signal that stops them; every failure is recorded in its job's folder.

    Jobs that resume at different chunks are no stack: those that begin at the same one run together, after the others.

    Args:
        runs: checked, of one stack.
        folders: of the jobs.
    """
    with ExitStack() as claims:
        members = [_Member(run, folder) for run, folder in zip(runs, folders, strict=True)]
        at_chunk: dict[int, list[_Member]] = {}
        for member in members:
            if member.claim(claims):
                at_chunk.setdefault(member.chunks_done, []).append(member)
        was_stopped = False
        for together in at_chunk.values():
            if was_stopped:
                for member in together:
                    member.ending = JobEnding(0, "not begun: the sweep was stopped")
            else:
                was_stopped = _run_together(together)
        return [member.ending for member in members]


@dataclass(eq=False)
class _Member:
    """One job of a stack.

    Attributes:
        run: its configuration.
        folder: its folder, which this process claims.
        ending: how it has ended.
        before: where it begins or resumes.
        prepared: its graph and learner, once they are there.
        generators: in the place of the global random generators in its checkpoints.
        begun_at: where its clock was when its session had begun.
    """

    run: CheckedRun
    folder: Path
    ending: JobEnding = field(default_factory=lambda: JobEnding(0))
    before: ResumePoint = field(default_factory=ResumePoint)
    generators: _KeptGenerators = field(default_factory=lambda: _KeptGenerators())
    prepared: PreparedRun | None = None
    execution: Execution | None = None
    session: Session | None = None
    resources: ExitStack = field(default_factory=ExitStack)
    begun_at: float = 0.0

    @property
    def chunks_done(self) -> int:
        checkpoint = self.before.checkpoint
        return 0 if checkpoint is None else int(checkpoint.state["chunks"])

    def claim(self, claims: ExitStack) -> bool:
        """Claims the folder and looks where the job begins; False where there is nothing to do."""
        try:
            claims.enter_context(FolderClaim(self.folder))
        except BbrlExpError as error:
            self.ending = JobEnding(error.exit_code, str(error))
            return False
        try:
            if self.run.root.resume == AUTO and is_complete(self.folder, self.run):
                return False
            self.before = resume_point(self.folder, self.run)
        except Exception as error:
            self.ending = JobEnding(*refuse(error, self.folder, self.run.overrides))
            return False
        return True

    def prepare(self) -> bool:
        """Builds graph and learner; False where that fails."""
        try:
            self.prepared = self.resources.enter_context(prepare(self.run, is_tried=True))
            self.generators.states = global_generator_states()
        except Exception as error:  # user code may raise anything
            self.ending = JobEnding(*refuse(error, self.folder, self.run.overrides))
            return False
        return True

    def open(self, stop: StopSignal, n_others: int) -> bool:
        """Begins the records of a job that ``n_others`` are beside; False where that fails."""
        assert self.prepared is not None
        try:
            self.execution = Execution(
                self.prepared, self.folder, self.before, stop, None, in_sweep=True, n_others=n_others
            )
        except (BbrlExpError, OSError) as error:
            self.ending = JobEnding(*refuse(error, self.folder, self.run.overrides))
            return False
        self.resources.enter_context(self.execution.log)
        return True

    def begin(self, stop: StopSignal, n_others: int) -> bool:
        """Begins the session; False where no chunk is to follow, or the job has failed."""
        assert self.prepared is not None
        assert self.execution is not None
        execution = self.execution
        try:
            others = {0: "no other job", 1: "1 other job"}.get(n_others, f"{n_others} other jobs")
            execution.console.line(f"side by side with {others} in one process")
            self.session = self.resources.enter_context(
                open_session(
                    self.prepared,
                    self.folder,
                    execution.console,
                    execution.progress,
                    stop,
                    self.before,
                    self.generators,
                )
            )
            if self.session.begin():
                self.begun_at = self.session.stopwatch()
                return True
            self.finish()
        except Exception as error:
            self.fail(error)
        return False

    def finish(self) -> None:
        """Does what follows the last chunk, and ends the records."""
        assert self.session is not None
        try:
            self.session.finish()
        except Exception as error:
            self.fail(error)
        else:
            self.end()

    def fail(self, error: BaseException) -> None:
        """Ends the job, which has failed, or was interrupted."""
        assert self.execution is not None
        if self.session is not None and isinstance(error, Exception):
            try:
                self.session.raise_if_diverged(error)
            except BbrlExpError as diverged:
                error = diverged
        self.execution.fail(error)
        self.end()

    def end(self) -> None:
        """Ends the records of the job, and frees what it has."""
        assert self.execution is not None
        self.ending = JobEnding(self.execution.end().exit_code)
        self.prepared = self.session = self.execution = None
        try:
            self.resources.close()
        except BaseException as error:  # of user code: the job has ended, the others continue
            if not is_of_user_code(error):
                raise
            with (self.folder / LOG).open("a", encoding="utf-8") as log:
                traceback.print_exception(error, file=log)


class _StackStop(StopSignal):
    """A signal that comes while jobs do in turn what follows a chunk is seen by all of them after the next one."""

    _seen: bool | None = None

    def came(self) -> bool:
        return super().came() if self._seen is None else self._seen

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs, :meth:`came` says what it says at its beginning."""
        self._seen = super().came()
        try:
            yield
        finally:
            self._seen = None


def _run_together(members: Sequence[_Member]) -> bool:
    """Runs jobs that begin at the same chunk; True where a signal has asked them to stop."""
    stop = _StackStop()
    with ExitStack() as resources:
        prepared = [member for member in members if member.prepare()]
        for member in prepared:
            resources.callback(member.resources.close)
        n_others = len(prepared) - 1
        ready = [member for member in prepared if member.open(stop, n_others)]
        logs = [member.execution.log for member in ready if member.execution is not None]
        with warnings_in(cast(TextIO, _SeveralLogs(logs))), stop.caught():
            try:
                with stop.held():
                    live = [member for member in ready if member.begin(stop, n_others)]
                _train(live, stop)
            except BaseException as error:
                for member in ready:
                    if member.execution is not None:
                        member.fail(error)
    return stop.came()


def _train(members: list[_Member], stop: _StackStop) -> None:
    """Takes jobs, whose sessions have begun, to their last chunks and ends them one by one."""
    if not members:
        return
    with ExitStack() as resources:
        jobs = [_stacked_job(member) for member in members]
        if len(jobs) == 1:
            beside = resources.enter_context(prepare(members[0].run, is_tried=True))
            assert beside.learner is not None
            jobs.append(StackedJob(beside.graph, beside.learner, Workspace()))
        _train_together(members, _Left(members, jobs), stop)


def _train_together(members: Sequence[_Member], left: _Left, stop: _StackStop) -> None:
    size, chunks_done = members[0].run.size, members[0].chunks_done
    for member in members:
        assert member.session is not None
        clock = member.session.stopwatch
        clock.paused += clock() - member.begun_at  # the others were still beginning
    due = passes(size.total_steps, size.batch_size, size.steps_per_chunk, size.chunks_per_recording, chunks_done)
    for each in due:
        for member in left.members:
            assert member.session is not None
            assert member.execution is not None
            member.execution.progress.side_by_side_with = len(left.indexes) - 1
            each.prepare(member.session.workspace)
        for index, error in left.stack.unroll(each.first_new_row, each.n_new_rows, left.indexes).items():
            left.fail(index, error)
        if not left.indexes:
            return
        session = left.members[0].session
        assert session is not None
        metrics, failures = left.stack.learn(session.progress_after(each.chunk), left.indexes)
        for index, error in failures.items():
            left.fail(index, error)
        over: list[_Member] = []
        with stop.held():
            for index in list(left.indexes):
                member = left.slots[index]
                assert member.session is not None
                try:
                    member.session.learned(each.chunk, metrics[index])
                    with _paused_for(member, left.members):
                        is_over = member.session.after(each.chunk) or each.chunk.is_last
                except Exception as error:
                    left.fail(index, error)
                else:
                    if is_over:
                        left.indexes.remove(index)
                        over.append(member)
        for member in over:
            with _paused_for(member, left.members):
                member.finish()
        if not left.indexes:
            return
        left.close_ranks()


@contextmanager
def _paused_for(member: _Member, others: Sequence[_Member]) -> Iterator[None]:
    """What a job spends in pauses while the block runs, in evaluations, is not counted by the clocks of the others."""
    assert member.session is not None
    clock = member.session.stopwatch
    before = clock.paused
    try:
        yield
    finally:
        for other in others:
            if other is not member and other.session is not None:
                other.session.stopwatch.paused += clock.paused - before


class _Left:
    """The jobs of a stack that are left.

    One job has another one beside it, which does nothing: products of one matrix are rounded differently from products
    of stacks.

    Args:
        members: whose sessions have begun.
        jobs: what is stacked of each, and what is beside a single one.

    Attributes:
        slots: the jobs that the stack was built of.
        indexes: of those that are left.
        stack: what acts and learns.
    """

    def __init__(self, members: Sequence[_Member], jobs: list[StackedJob]) -> None:
        self.slots: list[_Member] = list(members)
        self.indexes = list(range(len(members)))
        self._jobs = jobs
        self.stack = Stack(self._jobs)

    @property
    def members(self) -> list[_Member]:
        """The jobs that are left."""
        return [self.slots[index] for index in self.indexes]

    def fail(self, index: int, error: BaseException) -> None:
        """Ends a job that has failed."""
        self.indexes.remove(index)
        self.slots[index].fail(error)

    def close_ranks(self) -> None:
        """Builds the stack of the jobs that are left, where some have gone; one job keeps one of those beside it."""
        if len(self.indexes) in (len(self.slots), 1) and len(self.slots) <= max(len(self.indexes), 2):
            return
        kept = list(self.indexes)
        if len(kept) == 1:
            kept.append(next(index for index in range(len(self.slots)) if index not in kept))
        self.slots = [self.slots[index] for index in kept]
        self._jobs = [self._jobs[index] for index in kept]
        self.indexes = list(range(len(self.indexes)))
        self.stack = Stack(self._jobs)


def _stacked_job(member: _Member) -> StackedJob:
    assert member.prepared is not None
    assert member.prepared.learner is not None
    assert member.session is not None
    return StackedJob(member.prepared.graph, member.prepared.learner, member.session.workspace)


class _KeptGenerators:
    """Stands for the global random generators in the checkpoints of a job: no job of a stack draws from them."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """Where they were when the job began."""
        return self.states

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self.states = dict(state)


class _SeveralLogs(io.TextIOBase):
    """Writes everything to the logs of all jobs that are left: nobody knows which job a warning is about."""

    def __init__(self, logs: Sequence[TextIO]) -> None:
        self._logs = logs

    def write(self, text: str) -> int:
        for log in self._logs:
            if not log.closed:
                log.write(text)
        return len(text)

    def flush(self) -> None:
        for log in self._logs:
            if not log.closed:
                log.flush()
