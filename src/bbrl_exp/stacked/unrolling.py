"""The graphs of K jobs, unrolled over time together: each steps its own environments, all choose actions at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.envs.environment_agent import EnvironmentAgent, SteppedTogether
from bbrl_exp.errors import ends_silently, user_code_error
from bbrl_exp.stacked.acting import StackedPolicy
from bbrl_exp.stacked.blocks import BlockedGraph, can_be_blocked
from bbrl_exp.workspace import Workspace

Failures = dict[int, BaseException]


class StackedGraph:
    """K graphs that are built alike, each with its workspace.

    Args:
        graphs: of the jobs.
        workspaces: of the jobs.
        position: of the policy among the members of a graph.
        policy: of all jobs.
    """

    def __init__(
        self,
        graphs: Sequence[TemporalAgent],
        workspaces: Sequence[Workspace],
        position: int,
        policy: StackedPolicy,
    ) -> None:
        self._workspaces = workspaces
        self._members = [tuple(cast(Agents, graph.agent)) for graph in graphs]
        self._position = position
        self._policy = policy
        self._together: dict[int, SteppedTogether] = {}
        for place, member in enumerate(self._members[0]):
            if isinstance(member, EnvironmentAgent):
                others = [cast(EnvironmentAgent, members[place]) for members in self._members[1:]]
                if (together := member.together(others)) is not None:
                    self._together[place] = together
        self._blocked = None
        if list(self._together) == [0] and len(self._members[0]) == 2 and can_be_blocked(self._together[0], policy):
            self._blocked = BlockedGraph(self._together[0], policy, workspaces)

    def unroll(self, first: int, n_steps: int, jobs: Sequence[int]) -> Failures:
        """Runs the graphs of ``jobs`` at the times ``first`` … ``first + n_steps - 1``.

        Returns:
            What was raised by jobs that failed; these stop there, and the others continue.
        """
        if self._blocked is not None:
            with torch.inference_mode():
                return dict(self._blocked.unroll(first, n_steps, jobs))
        failures: Failures = {}
        left = list(jobs)
        with torch.inference_mode(), self._workspaces_given(jobs):
            runs = [[_call_of(member, self._workspaces[job]) for member in self._members[job]] for job in jobs]
            for t in range(first, first + n_steps):
                for position in range(len(runs[0])):
                    if position == self._position:
                        self._policy.act(t, self._workspaces, left)
                        continue
                    together = self._together.get(position)
                    if together is not None:
                        failures |= together.step(t, self._workspaces, left)
                    for index, job in enumerate(() if together is not None else left):
                        try:
                            runs[index][position](t=t)
                        except BaseException as error:
                            if not isinstance(error, Exception) and not ends_silently(error):
                                raise
                            failures[job] = _named(error, self._members[job][position])
                    if len(failures) > len(jobs) - len(left):
                        kept = [index for index, job in enumerate(left) if job not in failures]
                        left, runs = [left[index] for index in kept], [runs[index] for index in kept]
                        if not left:
                            return failures
        return failures

    @contextlib.contextmanager
    def _workspaces_given(self, jobs: Sequence[int]) -> Iterator[None]:
        """Gives members their workspaces once for all steps, as TemporalAgent does."""
        members = [(member.__dict__, self._workspaces[job]) for job in jobs for member in self._members[job]]
        before = [attributes["workspace"] for attributes, _ in members]
        try:
            for attributes, workspace in members:
                attributes["workspace"] = workspace
            yield
        finally:
            for (attributes, _), workspace in zip(members, before, strict=True):
                attributes["workspace"] = workspace


def _call_of(member: Agent, workspace: Workspace) -> Callable[..., Any]:
    if type(member).__call__ is Agent.__call__:
        return member.forward
    return lambda t: member(workspace, t=t)


def _named(error: BaseException, member: Agent) -> BaseException:
    if not ends_silently(error):
        return error
    named = user_code_error(error, f"in {member.label}")
    named.__cause__ = error
    return named
