"""Evaluation in another process, beside the training: the parent hands it policies and takes results."""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import cloudpickle

from bbrl_exp.errors import WorkerError
from bbrl_exp.processes.crew import Crew
from bbrl_exp.processes.parent import ChildProcess

if TYPE_CHECKING:
    from bbrl_exp.config.check import CheckedRun
    from bbrl_exp.runs.evaluations import DoneEvaluation, EvaluationPlan, PendingEvaluation

TASK = b"T"
_STARTUP_SECONDS, _TIMEOUT = 60.0, 60.0
_LOOK_EVERY_MS = 200


class EvaluationProcess:
    """A process that carries ``bbrl-eval-worker`` in its command line; it does one evaluation after the other.

    It starts with the first one, and ends when it is closed or when this process ends in whatever way.

    Args:
        run: the configuration.
        plan: of its evaluations.
        stopped: whether the run was asked to stop.
    """

    def __init__(self, run: CheckedRun, plan: EvaluationPlan, stopped: Callable[[], bool]) -> None:
        self._run, self._plan, self._stopped = run, plan, stopped
        self._waiting: deque[PendingEvaluation] = deque()
        self._running: PendingEvaluation | None = None
        self._done: list[DoneEvaluation] = []
        self._crew = Crew("env.worker_timeout", grace=0.0)
        self._timeout: float = run.root.env.get("worker_timeout", _TIMEOUT)

    def pending(self) -> list[PendingEvaluation]:
        """See :class:`~bbrl_exp.runs.evaluations.EvaluationBackend`."""
        return [*([] if self._running is None else [self._running]), *self._waiting]

    def submit(self, evaluation: PendingEvaluation) -> None:
        """Hands it over, at once or when the process is free.

        Raises:
            WorkerError: the process has died or is stuck.
            BbrlExpError: what an evaluation raised there.
        """
        self._waiting.append(evaluation)
        self._look(0)

    def arrived(self) -> list[DoneEvaluation]:
        """See :class:`~bbrl_exp.runs.evaluations.EvaluationBackend`.

        Raises:
            BbrlExpError: as :meth:`submit`.
        """
        self._look(0)
        done, self._done = self._done, []
        return done

    def wait(self) -> bool:
        """See :class:`~bbrl_exp.runs.evaluations.EvaluationBackend`.

        Raises:
            BbrlExpError: as :meth:`submit`.
        """
        while self.pending():
            if self._stopped():
                return False
            self._look(_LOOK_EVERY_MS)
        return True

    def close(self) -> None:
        """Ends the process."""
        self._crew.close()

    def _look(self, milliseconds: int) -> None:
        """Takes the result if there is one, and hands the next evaluation over."""
        if self._waiting and not self._crew.children:
            self._start()
        if not self._crew.look(milliseconds):
            return
        if self._running is not None:
            self._done.append((self._running, pickle.loads(self._crew.answers[0])))
            self._running = None
        if self._waiting:
            self._running = self._waiting.popleft()
            self._crew.children[0].doing = _doing(self._running)
            self._crew.ask(TASK, {0: _packed(self._running)}, self._timeout)

    def _start(self) -> None:
        from bbrl_exp.envs.registered import registered_in

        child = ChildProcess(
            "bbrl_exp.runs.evaluation_worker", "bbrl-eval-worker", "the evaluation worker", [], WorkerError
        )
        child.doing = _doing(self._waiting[0])
        setup = {
            "config": self._run.config,
            "environments": registered_in(self._run.config["graph"]),
            "device": self._run.device,
            "threads": self._run.root.num_threads,
            "episodes": {role: self._plan.episodes_of(role) for role in ("eval", "final_eval")},
        }
        self._crew.add(child, cloudpickle.dumps(setup), _STARTUP_SECONDS + self._timeout)


def _packed(evaluation: PendingEvaluation) -> bytes:
    import torch

    contents = io.BytesIO()
    torch.save({"role": evaluation.role, "graph": evaluation.policy["graph"]}, contents)
    return contents.getvalue()


def _doing(evaluation: PendingEvaluation) -> str:
    return f" while it evaluated the policy of step {evaluation.env_steps:,}"
