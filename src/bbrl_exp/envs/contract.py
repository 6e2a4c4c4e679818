"""Whether an environment agent keeps its contract: call :func:`check_environment_agent` in your own tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.graph_check import check_graph
from bbrl_exp.envs.checks import check_resumable, played, random_actions
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.staging import torch_dtype
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace

Actions = Sequence[Sequence[Tensor]]
_FROZEN_APART = ("env/reward", "env/initial_state", "action")


def check_environment_agent(make: Callable[[int, int], EnvironmentAgent], n_steps: int = 200) -> None:
    """Plays environments with random actions and compares what they show with what every environment agent must show.

    Args:
        make: gives an environment agent for training, for a batch size and a seed.
        n_steps: time steps to play; choose it so that some episodes end.

    Raises:
        AssertionError: a rule of the contract that is not kept, and where.
    """
    with closing(make(3, 0)) as agent:
        actions = random_actions(agent.env_spec, n_steps)
        workspace = played(agent, Workspace(), actions)
        _check_layout(agent, workspace)
        _check_first_row(workspace)
        _check_rows_after_others(workspace, agent.env_spec.max_episode_steps)
        agent(workspace, t=0)
        sizes = {name: workspace.n_steps(name) for name in workspace.keys()}  # noqa: SIM118
        _check(set(sizes.values()) == {1}, f"t=0 starts a new recording: rows beyond 0 are left of {sizes}")
        _check_seeds(agent, actions)
        _check_stand_in(agent)
        _check_evaluation(agent, actions)
        _check_frames(agent)
        reason = agent.not_resumable
    if reason is None:
        try:
            check_resumable(lambda: make(3, 0))
        except ConfigurationError as error:
            raise AssertionError(f"it can be resumed: {error}") from error
    else:
        _check(isinstance(reason, str) and bool(reason), "not_resumable is a sentence that says why")


def _check(is_kept: bool | Tensor, rule: str) -> None:
    if not bool(is_kept):
        raise AssertionError(rule)


def _check_layout(agent: EnvironmentAgent, workspace: Workspace) -> None:
    _check(agent.batch_size == agent.env_spec.batch_size == 3, "the batch size is the one that was asked for")
    names = {name for name in workspace.keys() if name not in agent.reads}  # noqa: SIM118
    _check(names == set(agent.layout), f"every variable is written: expected {set(agent.layout)}, found {names}")
    for name, (shape, dtype) in agent.layout.items():
        rows = workspace[name]
        found, expected = (tuple(rows.shape[1:]), rows.dtype), (shape, torch_dtype(dtype))
        _check(found == expected, f"rows of '{name}' are as env_spec states: expected {expected}, found {found}")
        _check(rows.device.type == agent.agent_device.type, f"rows of '{name}' are on {agent.agent_device}")


def _check_first_row(workspace: Workspace) -> None:
    for name, value in {
        "reward": 0,
        "done": False,
        "timestep": 0,
        "initial_state": True,
        "cumulated_reward": 0,
    }.items():
        _check((workspace[f"env/{name}"][0] == value).all(), f"at t=0 'env/{name}' is {value}")


def _check_rows_after_others(workspace: Workspace, limit: int | None) -> None:
    """The rules of environments with automatic reset that connect a row with the one before it."""
    rows = {name: workspace[f"env/{name}"] for name in ("reward", "terminated", "truncated", "done", "timestep")}
    initial, total, done = workspace["env/initial_state"], workspace["env/cumulated_reward"], rows["done"]
    _check(torch.equal(done, rows["terminated"] | rows["truncated"]), "'env/done' is terminated or truncated")
    _check(bool(done.any()), "some episode ends in the steps that are played (n_steps), or nothing more can be checked")
    _check(torch.equal(initial[1:], done[:-1]), "the row after one that is done, and no other, is an initial state")
    for name, values in (("reward", rows["reward"]), ("cumulated_reward", total), ("timestep", rows["timestep"])):
        _check((values[1:][initial[1:]] == 0).all(), f"'env/{name}' is 0 in the row after one that is done")
    _check(not bool((done & initial).any()), "the row after one that is done is not done")
    goes_on = ~initial[1:]
    steps = rows["timestep"][1:] == rows["timestep"][:-1] + 1
    _check(steps[goes_on].all(), "'env/timestep' counts the steps of an episode")
    sums = torch.isclose(total[1:], total[:-1] + rows["reward"][1:], rtol=1e-4, atol=1e-4)
    _check(sums[goes_on].all(), "'env/cumulated_reward' is the sum of an episode's rewards")
    if limit is not None:
        _check((rows["timestep"] <= limit).all(), f"no episode is longer than max_episode_steps, {limit}")
        _check(done[rows["timestep"] == limit].all(), f"an episode of max_episode_steps, {limit}, is over")


def _check_seeds(agent: EnvironmentAgent, actions: Actions) -> None:
    agent.seed(7)
    one = played(agent, Workspace(), actions)
    agent.seed(7)
    if agent.repeats_itself:
        name = _first_difference(one, played(agent, Workspace(), actions))
        _check(name is None, f"after seed(7) the same actions lead to the same rows: '{name}' differs")


def _check_stand_in(agent: EnvironmentAgent) -> None:
    facts = {
        each.name: (each.shape, each.dtype) for each in check_graph(_WithActions(agent)) if each.name not in agent.reads
    }
    expected = {name: (shape, torch_dtype(dtype)) for name, (shape, dtype) in agent.layout.items()}
    _check(facts == expected, f"dry_copy writes the variables of the agent: expected {expected}, found {facts}")


class _WithActions(Agent):
    """An environment agent and random actions, for the graph check."""

    def __init__(self, environments: EnvironmentAgent) -> None:
        super().__init__()
        self.environments = environments
        self._actions = random_actions(environments.env_spec, 1)[0]

    def forward(self, t: int, **kwargs: object) -> None:
        assert self.workspace is not None
        self.environments(self.workspace, t=t)
        for name, value in zip(self.environments.reads or (), self._actions, strict=True):
            self.set((name, t), value.to(self.environments.agent_device))


def _check_evaluation(agent: EnvironmentAgent, actions: Actions) -> None:
    agents = [agent.for_evaluation(3, seed, role) for seed, role in ((7, "eval"), (7, "final_eval"), (8, "eval"))]
    try:
        for one in agents:
            one.to(agent.agent_device)
            _check(not one.auto_reset, "for_evaluation gives environments without automatic reset")
            _check(one.batch_size == 3, "for_evaluation gives as many environments as were asked for")
        agent.seed(7)
        training, evaluation, final, other_seed = (
            played(one, Workspace(), actions[: 1 if one is agent else None]) for one in (agent, *agents)
        )
        if _first_row(evaluation, agent) != _first_row(other_seed, agent):  # else no numbers are drawn
            for what, workspace in (("training", training), ("the other list of episodes", final)):
                is_apart = _first_row(workspace, agent) != _first_row(evaluation, agent)
                _check(is_apart, f"{what} and evaluation share no stream of random numbers: rows 0 are equal")
        done = evaluation["env/done"]
        was_done = done[:-1]
        _check(bool(was_done.any()), "some episode of the evaluation ends in the steps that are played (n_steps)")
        for name in agents[0].layout:
            rows = evaluation[name]
            if name not in _FROZEN_APART:
                _check(torch.equal(rows[1:][was_done], rows[:-1][was_done]), f"a finished environment repeats '{name}'")
        _check((evaluation["env/reward"][1:][was_done] == 0).all(), "a finished environment has reward 0")
        _check(
            not bool(evaluation["env/initial_state"][1:].any()), "without automatic reset no episode begins after t=0"
        )
    finally:
        for one in agents:
            one.close()


def _first_row(workspace: Workspace, agent: EnvironmentAgent) -> list[object]:
    return [workspace[leaf.name][0].tolist() for leaf in agent.env_spec.observations]


def _check_frames(agent: EnvironmentAgent) -> None:
    try:
        agent.check_frames()
    except ConfigurationError:
        return
    with closing(agent.for_evaluation(1, 0, "eval")) as evaluation, closing(evaluation.with_frames()) as shown:
        played(shown, Workspace(), random_actions(shown.env_spec, 2))
        frame: object = shown.frame(0)
        is_picture = (
            isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        )
        _check(is_picture, "frame gives a picture, uint8 [H, W, 3]")


def _first_difference(one: Workspace, other: Workspace) -> str | None:
    return next((name for name in one.keys() if not torch.equal(one[name], other[name])), None)  # noqa: SIM118
