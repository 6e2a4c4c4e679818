"""A graph that takes up the state of another one goes on as that one does, to the bit, with every policy."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from bbrl_exp.agents import Agent, Agents, EpisodesDone, TemporalAgent
from bbrl_exp.agents.resumable import load_run_state, run_state
from bbrl_exp.envs import AutoResetGymAgent, EnvSpec
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.constant import ConstantAgent
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.normalize import NormalizeObservation, NormalizeReward
from bbrl_exp.policies.population import PopulationPolicy
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import SharedTrunkCritic, ValueCritic
from bbrl_exp.workspace import Workspace

# Written by version 0.1.0, in a checkout of commit 3c237a2: python tests/policies/test_resumed_policies.py <file>
OF_0_1_0 = Path(__file__).parent / "streams_of_0_1_0.pt"
CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
N_STEPS = 270
MOMENTS = {1: (128, 200), 3: (1, 129)}
"""Moments of a resume by batch size: at and after the beginning of a block of random numbers, and within one."""


class TwoActions(gymnasium.Env[Any, Any]):
    """Walks by an action of two parts; episodes of random length."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Dict({"move": spaces.Box(-1, np.inf, (2,), np.float32), "turn": spaces.MultiDiscrete([2, 3])})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=2)
        return self.place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = 0.9 * self.place + action["move"] + action["turn"] * self.np_random.normal(size=2)
        ended = bool(self.np_random.random() < 0.1)
        return self.place.astype(np.float32), float(self.place.sum()), ended, False, {}


def shared_trunk(spec: EnvSpec) -> list[Agent]:
    policy = StochasticPolicy(spec, (8,))
    return [policy, SharedTrunkCritic(policy)]


POLICIES: dict[str, tuple[Any, Callable[[EnvSpec], list[Agent]]]] = {
    "random": (CARTPOLE, lambda spec: [RandomAgent(spec)]),
    "random of two parts": (TwoActions, lambda spec: [RandomAgent(spec)]),
    "constant": (CARTPOLE, lambda spec: [ConstantAgent(spec)]),
    "stochastic": (CARTPOLE, lambda spec: [StochasticPolicy(spec, (8,)), ValueCritic(spec, (8,))]),
    "stochastic of two parts": (TwoActions, lambda spec: [StochasticPolicy(spec, (8,))]),
    "shared trunk": (PENDULUM, shared_trunk),
    "recurrent": (CARTPOLE, lambda spec: [RecurrentPolicy(spec, partial(LSTM, n_hidden=8)), MemoryCritic(spec)]),
    "q values": (CARTPOLE, lambda spec: [QPolicy(spec, (8,))]),
    "recurrent q values": (CARTPOLE, lambda spec: [RecurrentQPolicy(spec, partial(GRU, n_hidden=8))]),
    "deterministic": (PENDULUM, lambda spec: [DeterministicPolicy(spec, (8,), random_steps=330)]),
    "correlated": (PENDULUM, lambda spec: [DeterministicPolicy(spec, (8,), noise_correlation=0.8, noise_std=0.5)]),
    "squashed": (PENDULUM, lambda spec: [SquashedNormalPolicy(spec, (8,), noise_correlation=0.3, random_steps=150)]),
    "population": (CARTPOLE, lambda spec: [PopulationPolicy(spec, 4)]),
    "normalized": (
        PENDULUM,
        lambda spec: [
            NormalizeObservation(spec),
            NormalizeReward(),
            StochasticPolicy(spec, (8,), observation_prefix="normalized/"),
            EpisodesDone(out_var="over"),
        ],
    ),
}


def built(
    env: Any, agents: Callable[[EnvSpec], list[Agent]], batch_size: int, seed: int | None = None
) -> TemporalAgent:
    environments = AutoResetGymAgent(env, batch_size, seed=3)
    members = agents(environments.env_spec)
    for member in members:
        if isinstance(member, PopulationPolicy):
            generator = torch.Generator().manual_seed(0)
            member.begin_generation(torch.randn(member.candidates.shape, generator=generator))
        if isinstance(member, QPolicy | RecurrentQPolicy):
            member.exploration.set_epsilon(0.5)
        if seed is not None:
            member.seed(seed)
    return TemporalAgent(Agents(environments, *members))


def run(graph: TemporalAgent, workspace: Workspace, first: int, n_steps: int, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        graph(workspace, t=first, n_steps=n_steps)


def stored(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def bits(value: Any) -> Any:
    """What can be compared: the bytes of tensors, and everything else as it is."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list | tuple) else value


def check_resume(make: Callable[[int | None], TemporalAgent], moments: Sequence[int], gradients: bool = False) -> None:
    straight, expected, states = make(11), Workspace(), {}
    for first, stop in pairwise((0, *moments, N_STEPS)):
        run(straight, expected, first, stop - first, gradients)
        state = {"graph": straight.state_dict(), "run": run_state(straight)}
        states[stop] = stored(state)
        assert bits(states[stop]) == bits(state)
    for n_before in moments:
        resumed, found = make(None), Workspace()
        resumed.load_state_dict(states[n_before]["graph"])
        load_run_state(resumed, states[n_before]["run"])
        assert bits(run_state(resumed)) == bits(states[n_before]["run"])
        for name in expected.keys():  # noqa: SIM118
            found.set_full(name, expected[name][n_before - 1 : n_before].detach().clone())
        run(resumed, found, 1, N_STEPS - n_before, gradients)
        for name in expected.keys():  # noqa: SIM118
            assert bits(expected[name][n_before:]) == bits(found[name][1:]), name
        assert bits(run_state(resumed)) == bits(states[N_STEPS]["run"])
        assert bits(dict(resumed.state_dict())) == bits(states[N_STEPS]["graph"])


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_resumed_graph_goes_on_as_one_that_was_never_interrupted(policy: str, batch_size: int) -> None:
    env, agents = POLICIES[policy]
    with torch.inference_mode():
        check_resume(lambda seed: built(env, agents, batch_size, seed), MOMENTS[batch_size])


@pytest.mark.parametrize("policy", ["stochastic of two parts", "recurrent", "q values", "correlated", "squashed"])
def test_a_graph_resumes_with_gradients_too(policy: str) -> None:
    env, agents = POLICIES[policy]
    check_resume(lambda seed: built(env, agents, 2, seed), (140,), gradients=True)


def test_a_state_of_random_streams_is_small() -> None:
    graph = built(PENDULUM, POLICIES["correlated"][1], 3)
    run(graph, Workspace(), 0, 100, gradients=False)
    file = io.BytesIO()
    torch.save({path: one for path, one in run_state(graph).items() if "exploration" in path}, file)
    assert file.tell() < 4000


def test_the_streams_of_all_batch_sizes_are_part_of_the_state() -> None:
    spec = AutoResetGymAgent(PENDULUM, 2).env_spec
    policy, other = (DeterministicPolicy(spec, (8,), noise_correlation=0.5, seed=seed) for seed in (0, 1))
    for batch_size in (2, 5, 2):
        policy.exploration.normal(batch_size)
    load_run_state(other, stored(run_state(policy)))
    for batch_size in (2, 5, 3):
        assert np.array_equal(policy.exploration.normal(batch_size), other.exploration.normal(batch_size))


def after_150_steps(policy: str, batch_size: int = 3) -> TemporalAgent:
    env, agents = POLICIES[policy]
    graph = built(env, agents, batch_size, seed=11)
    run(graph, Workspace(), 0, 150, gradients=False)
    return graph


def without_environments(state: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {path: one for path, one in state.items() if "kernel" not in one}


def streams(state: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without the numbers of steps that nobody asks for, which version 0.1.0 did not count."""
    kept = without_environments(state)
    return {path: one if "uniform" in path else {**one, "n_drawn": None} for path, one in kept.items()}


@pytest.mark.parametrize("policy", POLICIES)
def test_streams_that_version_0_1_0_saved_are_resumed(policy: str) -> None:
    state = run_state(after_150_steps(policy))
    old = torch.load(OF_0_1_0, weights_only=True)[policy]
    resumed = built(*POLICIES[policy], 3)
    load_run_state(resumed, {path: one for path, one in state.items() if "kernel" in one} | old)
    assert bits(streams(run_state(resumed))) == bits(streams(state))


if __name__ == "__main__":
    torch.save({policy: without_environments(run_state(after_150_steps(policy))) for policy in POLICIES}, sys.argv[1])
