"""K jobs that are built alike, which act and learn together; and what cannot be stacked, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.learners.a2c import A2C
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.nn.features import Flat, OneHot
from bbrl_exp.policies.observation import ObservationFeatures
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import SharedTrunkCritic, ValueCritic
from bbrl_exp.stacked.acting import StackedPolicy
from bbrl_exp.stacked.actor_critic import StackedA2C
from bbrl_exp.stacked.learning import Chunks, Failures, StackedLearner
from bbrl_exp.stacked.ppo import StackedPPO
from bbrl_exp.stacked.unrolling import StackedGraph
from bbrl_exp.workspace import Workspace

_STACKED: Mapping[type[Learner], Any] = {PPO: StackedPPO, A2C: StackedA2C}


@dataclass(frozen=True)
class StackedJob:
    """What is stacked of a job; the learner is of one of the kinds that can be."""

    graph: TemporalAgent
    learner: Learner
    workspace: Workspace


class Stack:
    """K jobs that act and learn together. Between two chunks each job's agents and learner are up to date.

    Args:
        jobs: built alike, at the same chunk; :func:`why_not` finds nothing against any of them.
    """

    def __init__(self, jobs: Sequence[StackedJob]) -> None:
        self._workspaces = [job.workspace for job in jobs]
        learners = [job.learner for job in jobs]
        with torch.inference_mode(False):
            self._learner: StackedLearner = _STACKED[type(learners[0])](learners)
        policies = [cast("StochasticPolicy | QPolicy", learner.policy) for learner in learners]
        members = list(cast(Agents, jobs[0].graph.agent))
        self._graph = StackedGraph(
            [job.graph for job in jobs],
            self._workspaces,
            members.index(policies[0]),
            StackedPolicy(policies, self._learner.policy_mlp),
        )

    def unroll(self, first: int, n_steps: int, jobs: Sequence[int]) -> Failures:
        """See :meth:`~bbrl_exp.stacked.unrolling.StackedGraph.unroll`."""
        return self._graph.unroll(first, n_steps, jobs)

    def learn(self, progress: Progress, jobs: Sequence[int]) -> tuple[Mapping[int, Metrics], Failures]:
        """Learns from the new rows of ``jobs``; gives the metrics of each, and what was raised by those that failed."""
        chunks = Chunks(self._workspaces, progress, list(jobs), {})
        metrics = self._learner.learn(chunks) if jobs else {}
        return metrics, chunks.failures


def why_not(graph: TemporalAgent, learner: Learner | None) -> str | None:
    """Why a run cannot be stacked with others that are built alike; None where it can."""
    if learner is None:
        return "the agent learns nothing"
    name = type(learner).__name__
    if type(learner) not in _STACKED:
        return f"{name} cannot be stacked, only {', '.join(kind.__name__ for kind in _STACKED)} can"
    policy = learner.policy
    if type(policy) not in (StochasticPolicy, QPolicy):
        return f"its policy is a {type(policy).__name__}, not a StochasticPolicy or a QPolicy"
    unrolled = graph.agent
    is_plain = type(graph) is TemporalAgent and type(unrolled) is Agents
    if not is_plain or sum(member is policy for member in cast(Agents, unrolled)) != 1:
        return "its policy is not one of the members of a TemporalAgent(Agents(…))"
    critic = getattr(learner, "critic", None)
    if critic is not None and type(critic) not in (ValueCritic, SharedTrunkCritic):
        return f"its critic is a {type(critic).__name__}, not a ValueCritic or a SharedTrunkCritic"
    if isinstance(learner, PPO) and learner.objective != "clip":
        return f"PPO with objective={learner.objective} cannot be stacked, only with clip"
    if learner._optimizer._block is None:
        return f"{type(learner._optimizer._optimizer).__name__} does not treat every parameter by itself"
    return _why_not_networks([policy, *([] if critic is None else [critic])])


def _why_not_networks(agents: Sequence[Agent]) -> str | None:
    for agent in agents:
        if any(parameter.device.type != "cpu" for parameter in agent.parameters()):
            return "it is on another device than the CPU"
        for module in agent.modules():
            if isinstance(module, ObservationFeatures):
                if module.network is not None:
                    return f"its network is {type(module.network).__name__}, not one of multi-layer perceptrons"
                other = _first_other(module.parts)
                if other is not None:
                    return f"it sees images or grids ({type(other).__name__})"
    return None


def _first_other(parts: nn.ModuleList) -> nn.Module | None:
    return next((part for part in parts if not isinstance(part, Flat | OneHot)), None)
