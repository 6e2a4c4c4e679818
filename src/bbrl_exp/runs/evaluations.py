"""The evaluations of a run: when they are due, where they are done, what is kept of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bbrl_exp.config.schema import acting_of, measured_of
from bbrl_exp.records.metrics import ACTIONS_IN_WORDS, MEASURED, Acting, evaluation_name
from bbrl_exp.runs.evaluator import FINAL, PERIODIC, build_evaluator

if TYPE_CHECKING:
    from bbrl_exp.config.check import CheckedRun
    from bbrl_exp.config.preparation import PreparedRun
    from bbrl_exp.tracking.console import Console
    from bbrl_exp.tracking.tracker import Tracker
    from bbrl_exp.training.animation import Animation
    from bbrl_exp.training.evaluation import Evaluation, Evaluator

_EVALUATIONS_OF_A_RUN = 20
_FINAL_EPISODES = 20


@dataclass(frozen=True)
class EvaluationPlan:
    """How a run is evaluated.

    Attributes:
        every: environment steps between two evaluations, 0 for none.
        episodes: of each of them.
        final_episodes: of the last policy, 0 for none.
        measured: how the policy acts in them, both ways perhaps.
        judged_by: the one of these that the run is judged by.
    """

    every: int
    episodes: int
    final_episodes: int
    measured: tuple[Acting, ...] = ("mode",)
    judged_by: Acting = "mode"

    @classmethod
    def of(cls, run: CheckedRun) -> EvaluationPlan:
        """The plan of a run; agents that learn nothing are evaluated only where a number asks for it."""
        settings, learns = run.root.eval, run.root.agent["learner"] is not None
        every, final_episodes = settings["every"], settings["final_episodes"]
        if every is None:
            every = math.ceil(run.size.total_steps / _EVALUATIONS_OF_A_RUN) if learns else 0
        if final_episodes is None:
            final_episodes = _FINAL_EPISODES if learns else 0
        return cls(every, settings["episodes"], final_episodes, measured_of(settings), acting_of(settings))

    def episodes_of(self, role: str) -> int:
        """Number of episodes of an evaluation."""
        return self.final_episodes if role == FINAL else self.episodes


@dataclass(frozen=True)
class PendingEvaluation:
    """One evaluation to be done: which list of episodes, of the policy at which step, and that policy."""

    role: str
    env_steps: int
    policy: dict[str, dict[str, Any]]


Measured = Mapping[Acting, "Evaluation"]
DoneEvaluation = tuple[PendingEvaluation, Measured]


def _numbers(measured: Measured) -> dict[str, float]:
    """``mode_return_mean``, ``sample_success_rate`` and so on, as far as they were measured."""
    return {
        f"{acting}_{name}": value
        for acting, found in measured.items()
        for name in MEASURED
        if (value := getattr(found, name)) is not None
    }


class EvaluationBackend(Protocol):
    """What does evaluations: this process or another one."""

    def submit(self, evaluation: PendingEvaluation) -> None:
        """Begins an evaluation; its result is given by :meth:`arrived`."""

    def pending(self) -> list[PendingEvaluation]:
        """Those that have not been done yet, in their order."""

    def arrived(self) -> list[DoneEvaluation]:
        """What has been done since the last call, in order; does not wait."""

    def wait(self) -> bool:
        """Waits until every evaluation is done; False where it was given up because the run was asked to stop."""

    def close(self) -> None:
        """Closes environments and processes; may be called again."""


class InThisProcess:
    """Does each evaluation at once, while the run waits."""

    def __init__(self, run: CheckedRun, plan: EvaluationPlan, stopped: Callable[[], bool]) -> None:
        self._run, self._plan, self._stopped = run, plan, stopped
        self._evaluators: dict[str, Evaluator] = {}
        self._done: list[DoneEvaluation] = []
        self._gave_up = False

    def submit(self, evaluation: PendingEvaluation) -> None:
        """Evaluates."""
        role = evaluation.role
        if role not in self._evaluators:
            episodes = self._plan.episodes_of(role)
            self._evaluators[role] = build_evaluator(self._run.config, role, episodes, device=self._run.device)
        self._evaluators[role].load(evaluation.policy["graph"])
        result = self._evaluators[role].run_each(self._plan.measured, self._stopped)
        if result is None:
            self._gave_up = True
        else:
            self._done.append((evaluation, result))

    def pending(self) -> list[PendingEvaluation]:
        """See :class:`EvaluationBackend`: none, an evaluation is done when it has been submitted."""
        return []

    def arrived(self) -> list[DoneEvaluation]:
        """See :class:`EvaluationBackend`."""
        done, self._done = self._done, []
        return done

    def wait(self) -> bool:
        """See :class:`EvaluationBackend`."""
        return not self._gave_up

    def close(self) -> None:
        """See :class:`EvaluationBackend`."""
        for evaluator in self._evaluators.values():
            evaluator.close()


class Evaluations:
    """Evaluates the policy of a run every so often and at the end, records what comes of it, and keeps the policies.

    Args:
        prepared: the run, whose policy is evaluated.
        folder: of the run.
        tracker: where results are recorded.
        console: where they are reported.
        stopped: whether the run was asked to stop.

    Attributes:
        best_mean: the best mean return of the periodic evaluations, None before the first.
        final: the evaluation of the last policy that the run is judged by, None where it was not done.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        folder: Path,
        tracker: Tracker,
        console: Console,
        stopped: Callable[[], bool],
    ) -> None:
        self.best_mean: float | None = None
        self._final: Measured | None = None
        self._has_warned = False
        self._periodic: list[dict[str, Any]] = []
        self._run, self._folder = prepared.run, folder
        self._graph, self._learner = prepared.graph, prepared.learner
        self._tracker, self._console = tracker, console
        self._plan = EvaluationPlan.of(self._run)
        self._next = self._plan.every if self._plan.every else math.inf
        self._has_pending = False
        self._backend = self._open_backend(stopped)

    def _open_backend(self, stopped: Callable[[], bool]) -> EvaluationBackend:
        if self._run.root.eval["workers"] and (self._plan.every or self._plan.final_episodes):
            from bbrl_exp.runs.evaluation_process import EvaluationProcess

            return EvaluationProcess(self._run, self._plan, stopped)
        return InThisProcess(self._run, self._plan, stopped)

    @property
    def final(self) -> Evaluation | None:
        """The evaluation of the last policy that the run is judged by, None where it was not done."""
        return None if self._final is None else self._final[self._plan.judged_by]

    @property
    def final_numbers(self) -> dict[str, float]:
        """What was measured of the last policy, ``eval_mode_return_mean`` and the like."""
        return {f"eval_{name}": value for name, value in _numbers(self._final or {}).items()}

    @property
    def judged_by(self) -> Acting:
        """How the policy acts in the evaluations that the run is judged by."""
        return self._plan.judged_by

    @property
    def periodic(self) -> tuple[dict[str, Any], ...]:
        """Of each periodic evaluation: ``env_steps``, ``return_mean``, ``return_std``, all ``returns``, and more.

        See :class:`~bbrl_exp.records.summary.Summary`.
        """
        return tuple(self._periodic)

    @property
    def curve_mean(self) -> float | None:
        """Mean of the periodic evaluations' mean returns."""
        means = [evaluation["return_mean"] for evaluation in self._periodic]
        return math.fsum(means) / len(means) if means else None

    def is_due(self, env_steps: int) -> bool:
        """Whether there is something to do after this step: an evaluation to begin, or others that may have arrived."""
        return self._has_pending or env_steps >= self._next

    def after_chunk(self, env_steps: int) -> None:
        """Begins the evaluation that is due, and records those that have arrived."""
        if env_steps >= self._next:
            self._next = (env_steps // self._plan.every + 1) * self._plan.every
            self._submit(PERIODIC, env_steps)
        self._record_arrived()

    def wait(self) -> bool:
        """Waits for the evaluations that were begun; False where the run was asked to stop before their end."""
        is_done = self._backend.wait()
        self._record_arrived()
        return is_done

    def finish(self, env_steps: int) -> bool:
        """Evaluates the last policy and waits for everything; False where the run was asked to stop before the end."""
        if self._plan.final_episodes:
            self._submit(FINAL, env_steps)
        return self.wait()

    def film(self, most_steps: int) -> Animation:
        """The last policy in the first of the final evaluation's episodes."""
        from bbrl_exp.training.animation import film
        from bbrl_exp.training.checkpoint import policy_state

        config, device = self._run.config, self._run.device
        with contextlib.closing(build_evaluator(config, FINAL, 1, device=device, shows_frames=True)) as evaluator:
            evaluator.load(policy_state(self._graph, self._learner)["graph"])
            return film(evaluator, most_steps)

    def state(self) -> dict[str, Any]:
        """What was measured, what is due next, and what is being evaluated elsewhere."""
        return {
            "periodic": [dict(evaluation) for evaluation in self._periodic],
            "best_mean": self.best_mean,
            "next": self._next,
            "pending": [dict(vars(each)) for each in self._backend.pending()],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave, and begins again what was being evaluated."""
        self._periodic = [dict(evaluation) for evaluation in state["periodic"]]
        self.best_mean = state["best_mean"]
        self._next = state["next"]
        for pending in state["pending"]:
            self._has_pending = True
            self._backend.submit(PendingEvaluation(**pending))

    def keep_last(self, env_steps: int) -> None:
        """Writes ``checkpoints/last.pt``, unless the graph has nothing that could be kept."""
        from bbrl_exp.training.checkpoint import policy_state

        self._keep("last", env_steps, policy_state(self._graph, self._learner), {})

    def close(self) -> None:
        """Closes environments and ends the process; may be called again."""
        self._backend.close()

    def _submit(self, role: str, env_steps: int) -> None:
        from bbrl_exp.training.checkpoint import policy_state

        self._has_pending = True
        self._backend.submit(PendingEvaluation(role, env_steps, policy_state(self._graph, self._learner)))

    def _record_arrived(self) -> None:
        for begun, measured in self._backend.arrived():
            for acting, each in measured.items():
                name = evaluation_name(begun.role, acting)
                self._tracker.evaluation(begun.env_steps, name, each.scalars(), each.returns)
            evaluation = measured[self._plan.judged_by]
            if evaluation.n_cut:
                self._console.line(
                    f"{begun.role}: {evaluation.n_cut} of {len(evaluation.returns)} episodes were cut after "
                    f"{max(evaluation.lengths):,} steps: the environment sets no limit"
                )
            self._warn_of_difference(begun.role, measured)
            if begun.role == FINAL:
                self._final = measured
                continue
            self._periodic.append(
                {
                    "env_steps": begun.env_steps,
                    "return_mean": evaluation.return_mean,
                    "return_std": evaluation.return_std,
                    "returns": list(evaluation.returns),
                    **({} if evaluation.success_rate is None else {"success_rate": evaluation.success_rate}),
                    **(_numbers(measured) if len(measured) > 1 else {}),
                }
            )
            if self.best_mean is None or evaluation.return_mean > self.best_mean:
                self.best_mean = evaluation.return_mean
                self._keep("best", begun.env_steps, begun.policy, {"eval_return_mean": evaluation.return_mean})
            self._console.line(f"evaluation at {begun.env_steps:,} steps: {self._in_words(measured)}")
        self._has_pending = bool(self._backend.pending())

    def _in_words(self, measured: Measured) -> str:
        """Returns and success rates, those that the run is judged by first."""
        ways = sorted(measured, key=lambda acting: acting != self._plan.judged_by)
        parts = []
        for acting in ways:
            found = measured[acting]
            which = "" if ways == ["mode"] else f", {ACTIONS_IN_WORDS[acting]}"
            returns = f"return {found.return_mean:.4g} ± {found.return_std:.3g} ({len(found.returns)} episodes{which})"
            success = "" if found.success_rate is None else f", success rate {found.success_rate:.3g}"
            parts.append(f"{returns}{success}")
        return "; ".join(parts)

    def _warn_of_difference(self, role: str, measured: Measured) -> None:
        """Says at the end, and once before, where the two ways of acting give returns that differ much."""
        if len(measured) < 2 or not measured["mode"].differs_much(measured["sample"]):
            return
        if role == FINAL or not self._has_warned:
            mine, other = ("mode", "sample") if self._plan.judged_by == "mode" else ("sample", "mode")
            self._console.line(
                f"warning: the most likely actions return {measured['mode'].return_mean:.4g}, sampled actions "
                f"{measured['sample'].return_mean:.4g}: best.pt, report and search follow the "
                f"{ACTIONS_IN_WORDS[mine]}, with eval.judged_by={other} they follow the other"
            )
        self._has_warned = True

    def _keep(self, name: str, env_steps: int, policy: dict[str, dict[str, Any]], meta: dict[str, Any]) -> None:
        from bbrl_exp.records.layout import CHECKPOINTS
        from bbrl_exp.training.checkpoint import write_checkpoint
        from bbrl_exp.training.resumption import buffer_names, check_finite

        if policy["graph"] or policy["learner"]:
            check_finite(policy, env_steps, buffer_names(self._graph, self._learner))
            facts = {"env_steps": env_steps, "config_hash": self._run.config_hash, **meta}
            write_checkpoint(self._folder / CHECKPOINTS / f"{name}.pt", policy, facts)
