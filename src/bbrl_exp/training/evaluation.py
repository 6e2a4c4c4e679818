"""Evaluation: complete episodes, one per environment, always the same ones, by the most likely actions or sampled ones.

With one episode per environment every episode counts once, however long it is; counting the first episodes that end
would prefer the short ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.metrics import Acting
from bbrl_exp.seeding import seed_global_generators, untouched_global_generators
from bbrl_exp.workspace import Workspace

MOST_STEPS_WITHOUT_LIMIT = 10_000
_STEPS_AT_ONCE = 32
# The two ways of acting differ much: by more than twice the error of their difference, and by a tenth of the larger.
_ERRORS, _PART = 2.0, 0.1


@dataclass(frozen=True)
class Evaluation:
    """What came of N complete episodes, in the order of their environments.

    Attributes:
        returns: sum of rewards of each.
        lengths: steps of each.
        successes: whether a key of ``info`` said at the end of each that it was one; None where it is not recorded.
        n_cut: how many were cut because their environment sets no limit.
        acting: whether the most likely actions were taken or actions sampled.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...] | None = None
    n_cut: int = 0
    acting: Acting = "mode"

    @property
    def return_mean(self) -> float:
        """Mean return."""
        return math.fsum(self.returns) / len(self.returns)

    @property
    def return_std(self) -> float:
        """Standard deviation of the returns, √(Σ (R − mean)² / N)."""
        mean = self.return_mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.returns) / len(self.returns))

    @property
    def success_rate(self) -> float | None:
        """The part of the episodes that were successes; None where that is not recorded."""
        return None if self.successes is None else sum(self.successes) / len(self.successes)

    def differs_much(self, other: Evaluation) -> bool:
        """Whether another way of acting in the same episodes has given other returns, by far more than by chance."""
        differences = Evaluation(tuple(a - b for a, b in zip(self.returns, other.returns, strict=True)), self.lengths)
        error = differences.return_std / math.sqrt(len(self.returns))
        larger = max(abs(self.return_mean), abs(other.return_mean))
        return len(self.returns) > 1 and abs(differences.return_mean) > max(_ERRORS * error, _PART * larger)

    def scalars(self) -> dict[str, float]:
        """The numbers that are recorded as curves."""
        found = {
            "return_mean": self.return_mean,
            "return_std": self.return_std,
            "length_mean": sum(self.lengths) / len(self.lengths),
        }
        if self.success_rate is not None:
            found["success_rate"] = self.success_rate
        return found


class Evaluator:
    """Plays the same list of episodes again and again, each time with other parameters.

    Args:
        graph: used by nobody else, with its own environments; put into evaluation mode here.
        seed: root of the list of episodes.
        policy_seed: root of the random streams of agents that are random even in evaluation mode, and of the global
            generators.
        sampling_seed: the same where actions are sampled.
        acting: whether the most likely actions are taken or actions sampled, unless :meth:`run` says.
        success: the variable that says at the end of an episode whether it was a success, where it is recorded.

    Raises:
        BbrlExpError: the graph has not one environment agent without automatic reset.
    """

    def __init__(
        self,
        graph: TemporalAgent,
        seed: int,
        policy_seed: int,
        sampling_seed: int = 0,
        acting: Acting = "mode",
        success: str = "env/info/is_success",
    ) -> None:
        found = [module for module in graph.modules() if isinstance(module, EnvironmentAgent) and not module.auto_reset]
        if len(found) != 1:
            raise BbrlExpError(f"an evaluation needs one environment agent without automatic reset, found {len(found)}")
        self.graph = graph.train(False)
        self.environments = found[0]
        self._seed, self._policy_seeds = seed, {"mode": policy_seed, "sample": sampling_seed}
        self._acting, self._success = acting, success
        limit = self.environments.env_spec.max_episode_steps
        self._limit = MOST_STEPS_WITHOUT_LIMIT if limit is None else limit

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes the parameters and buffers of ``state``, the ``state_dict`` of a graph that is built alike.

        Raises:
            BbrlExpError: they do not fit.
        """
        try:
            self.graph.load_state_dict(dict(state))
        except RuntimeError as error:
            raise BbrlExpError(f"the policy cannot be evaluated: {' '.join(str(error).split())}") from error

    def run(
        self,
        stopped: Callable[[], bool] = lambda: False,
        after_step: Callable[[], None] | None = None,
        acting: Acting | None = None,
    ) -> Evaluation | None:
        """Plays all episodes to their ends; global generators are where they were afterwards.

        Args:
            stopped: asked from time to time; where it says yes, the evaluation is given up and None returned.
            after_step: called after every time step, to look at the environments.
            acting: see the class; None for its own.

        Raises:
            ConfigurationError: actions are to be sampled, and no policy has a distribution.
        """
        acting = acting or self._acting
        policy_seed = self._policy_seeds[acting]
        self.graph.sample_actions(acting == "sample")
        workspace = Workspace()
        steps_at_once = 1 if after_step is not None else _STEPS_AT_ONCE
        with untouched_global_generators(), torch.inference_mode():
            seed_global_generators(self._seed, "evaluation", policy_seed)
            self.graph.seed(policy_seed)
            self.environments.seed(self._seed)
            t, steps_done = 0, 0
            while True:
                n_steps = min(steps_at_once, self._limit + 1 - steps_done)
                self.graph(workspace, t=t, n_steps=n_steps, stop_variable="env/done")
                if after_step is not None:
                    after_step()
                steps_done += workspace.time_size() - t
                done = workspace.get("env/done", workspace.time_size() - 1)
                if bool(done.all()) or steps_done > self._limit:
                    return replace(_last_row(workspace, self._success), acting=acting)
                if stopped():
                    return None
                workspace.copy_n_last_steps(1)
                t = 1

    def run_each(self, ways: Sequence[Acting], stopped: Callable[[], bool]) -> dict[Acting, Evaluation] | None:
        """Plays the same episodes once for each way of acting; None where that was given up."""
        found: dict[Acting, Evaluation] = {}
        for acting in ways:
            evaluation = self.run(stopped, acting=acting)
            if evaluation is None:
                return None
            found[acting] = evaluation
        return found

    def add_observer(self, agent: Agent) -> None:
        """Lets another agent run after all others at every step; parameters are loaded before."""
        graph = self.graph.agent
        members = tuple(graph) if type(graph) is Agents else (graph,)
        self.graph.agent = Agents(*members, agent)

    def close(self) -> None:
        """Closes the environments."""
        self.graph.close()


def _last_row(workspace: Workspace, success: str) -> Evaluation:
    """The episodes whose last row, repeated since each ended, is the last of the workspace."""

    def row(name: str) -> list[Any]:
        found: list[Any] = workspace[name][-1].tolist()
        return found

    return Evaluation(
        returns=tuple(row("env/cumulated_reward")),
        lengths=tuple(row("env/timestep")),
        successes=tuple(value > 0 for value in row(success)) if success in workspace else None,
        n_cut=row("env/done").count(False),
    )
