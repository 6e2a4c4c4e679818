"""Policies write what the action space allows, repeatably."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bbrl_exp.agents import Agent
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.policies.constant import ConstantAgent
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace

BATCH = 4


def box(low: object, high: object, dtype: str = "float32", name: str = "action") -> LeafSpec:
    low, high = np.asarray(low, dtype), np.asarray(high, dtype)
    return LeafSpec(name, "box", low.shape, dtype, low=low, high=high)


def discrete(n: int, start: int = 0, name: str = "action") -> LeafSpec:
    return LeafSpec(name, "discrete", (), "int64", counts=np.array(n), start=np.array(start))


MULTI = LeafSpec("action", "multi_discrete", (2,), "int64", counts=np.array([2, 3]), start=np.array([0, 4]))
BINARY = LeafSpec("action", "multi_binary", (3,), "int8", counts=np.array([2, 2, 2]))
OBSERVATION = box(np.full(3, -np.inf), np.full(3, np.inf), name="env/env_obs")


def spec(*actions: LeafSpec, observations: tuple[LeafSpec, ...] = (OBSERVATION,)) -> EnvSpec:
    return EnvSpec("Toy", BATCH, observations, actions)


def actions_of(agent: Agent, n_steps: int, name: str = "action", batch_size: int = BATCH) -> torch.Tensor:
    workspace = Workspace()
    for t in range(n_steps):
        workspace.set("env/env_obs", t, torch.full((batch_size, 3), float(t)))
        agent(workspace, t=t)
    return workspace[name]


def test_random_discrete_actions_take_every_value_equally_often() -> None:
    actions = actions_of(RandomAgent(spec(discrete(3, start=5)), seed=0), 5000)
    frequencies = torch.bincount(actions.flatten() - 5, minlength=3) / actions.numel()
    torch.testing.assert_close(frequencies, torch.full((3,), 1 / 3), atol=0.01, rtol=0)


@pytest.mark.parametrize("leaf", [MULTI, BINARY], ids=["multi_discrete", "multi_binary"])
def test_random_components_stay_in_their_ranges_and_reach_both_ends(leaf: LeafSpec) -> None:
    actions = actions_of(RandomAgent(spec(leaf)), 200)
    start = np.zeros(leaf.shape, np.int64) if leaf.start is None else leaf.start
    assert actions.amin(dim=(0, 1)).tolist() == start.tolist()
    assert actions.amax(dim=(0, 1)).tolist() == (start + leaf.counts - 1).tolist()
    assert actions.dtype == (torch.int64 if leaf is MULTI else torch.int8)


def test_random_boxes_follow_their_bounds() -> None:
    leaf = box([-2.0, 1.0, -np.inf, -np.inf], [3.0, np.inf, -1.0, np.inf])
    actions = actions_of(RandomAgent(spec(leaf)), 5000).reshape(-1, 4).double()
    assert bool((actions[:, 0] >= -2).all() and (actions[:, 0] <= 3).all())
    assert bool((actions[:, 1] >= 1).all() and (actions[:, 2] <= -1).all())
    # Means of the uniform, the two exponential and the normal distributions, within five standard errors.
    torch.testing.assert_close(actions.mean(0), torch.tensor([0.5, 2.0, -2.0, 0.0]).double(), atol=0.05, rtol=0)


def test_random_boxes_of_integers_include_both_bounds() -> None:
    actions = actions_of(RandomAgent(spec(box([0], [3], "uint8"))), 200)
    assert sorted(set(actions.flatten().tolist())) == [0, 1, 2, 3]
    assert actions.dtype == torch.uint8


@pytest.mark.parametrize("kind", [RandomAgent, StochasticPolicy])
def test_the_same_seed_gives_the_same_actions_however_they_are_cut_into_chunks(kind: type) -> None:
    whole = actions_of(kind(spec(discrete(5)), seed=3), 300)
    agent = kind(spec(discrete(5)), seed=3)
    workspace = Workspace()
    pieces = []
    for t in range(300):
        workspace.truncate(0)
        workspace.set("env/env_obs", 0, torch.full((BATCH, 3), float(t)))
        agent(workspace, t=0)
        pieces.append(workspace.get("action", 0).clone())
    assert torch.equal(whole, torch.stack(pieces))
    assert not torch.equal(whole, actions_of(kind(spec(discrete(5)), seed=4), 300))
    agent.seed(3)
    assert torch.equal(whole, actions_of(agent, 300))


def test_every_leaf_of_an_action_is_written_from_a_stream_of_its_own() -> None:
    leaves = (box([-1.0], [1.0], name="action/a"), box([-1.0], [1.0], name="action/b"), discrete(2, name="action/c"))
    for agent in (RandomAgent(spec(*leaves)), StochasticPolicy(spec(*leaves))):
        workspace = Workspace()
        workspace.set("env/env_obs", 0, torch.zeros(BATCH, 3))
        agent(workspace, t=0)
        assert agent.writes == ("action/a", "action/b", "action/c")
        a, b, c = workspace["action/a", "action/b", "action/c"]
        assert not torch.equal(a, b)
        assert c.shape == (1, BATCH)


def test_an_mlp_reads_every_kind_of_observation() -> None:
    observations = (
        box(np.zeros((2, 2)), np.full((2, 2), 255), "uint8", "env/env_obs/image"),
        discrete(3, start=1, name="env/env_obs/token"),
        LeafSpec("env/env_obs/flags", "multi_binary", (2,), "int8", counts=np.array([2, 2])),
    )
    agent = StochasticPolicy(spec(discrete(2), observations=observations), hidden_sizes=[8])
    workspace = Workspace()
    workspace.set("env/env_obs/image", 0, torch.zeros(BATCH, 2, 2, dtype=torch.uint8))
    workspace.set("env/env_obs/token", 0, torch.tensor([1, 2, 3, 1]))
    workspace.set("env/env_obs/flags", 0, torch.ones(BATCH, 2, dtype=torch.int8))
    agent(workspace, t=0)
    assert workspace.get("action", 0).shape == (BATCH,)
    assert [layer.weight.shape for layer in agent.network.layers] == [(8, 4 + 3 + 2), (2, 8)]


@pytest.mark.parametrize("leaf", [discrete(4, start=2), MULTI, box([-1.0, 0.0], [1.0, 2.0])])
def test_an_mlp_acts_the_same_with_and_without_gradients(leaf: LeafSpec) -> None:
    with_gradients = actions_of(StochasticPolicy(spec(leaf), seed=1), 40)
    with torch.no_grad():
        without = actions_of(StochasticPolicy(spec(leaf), seed=1), 40)
    torch.testing.assert_close(with_gradients.detach(), without)
    assert with_gradients.dtype == without.dtype


def test_an_mlp_acts_on_batches_of_any_size() -> None:
    agent = StochasticPolicy(spec(discrete(2)))
    assert actions_of(agent, 3, batch_size=9).shape == (3, 9)


def test_mlp_actions_of_a_box_have_the_box_shape_and_dtype() -> None:
    agent = StochasticPolicy(spec(box(np.zeros((2, 1)), np.ones((2, 1)), "float64")), initial_log_std=-20.0)
    actions = actions_of(agent, 2)
    assert actions.shape == (2, BATCH, 2, 1)
    assert actions.dtype == torch.float64
    with torch.no_grad():
        mean = agent.network(torch.zeros(BATCH, 3))
    torch.testing.assert_close(actions[0].reshape(BATCH, 2).float(), mean, atol=1e-6, rtol=0)


def test_an_mlp_refuses_a_box_of_integers() -> None:
    with pytest.raises(ConfigurationError, match="'action' is a box of uint8; this policy writes boxes of floats only"):
        StochasticPolicy(spec(box([0], [3], "uint8")))


@pytest.mark.parametrize(
    ("leaf", "value", "expected"),
    [
        (discrete(3, start=5), None, 5),
        (discrete(3), 2, 2),
        (box([-1.0, 0.5], [1.0, 2.0]), None, [0.0, 0.5]),
        (box([-1.0, 0.5], [1.0, 2.0]), [1.0, 1.5], [1.0, 1.5]),
        (box([-1.0, -1.0], [1.0, 1.0]), 0.5, [0.5, 0.5]),
        (MULTI, [1, 6], [1, 6]),
    ],
)
def test_a_constant_agent_writes_its_value(leaf: LeafSpec, value: object, expected: object) -> None:
    actions = actions_of(ConstantAgent(spec(leaf), value), 2)
    assert actions.tolist() == [[expected] * BATCH] * 2
    assert str(actions.dtype) == f"torch.{leaf.dtype}"


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        (discrete(2), 2, r"value=2: 'action' takes integers from 0 to 1"),
        (discrete(2), 0.5, r"value=0.5: 'action' takes integers"),
        (box([-1.0], [1.0]), float("nan"), r"value=nan: 'action' takes numbers from \[-1.0\] to \[1.0\]"),
        (box([-1.0], [1.0]), [0.0, 0.0], r"value=\[0.0, 0.0\]: 'action' has the shape \[1\]"),
        (discrete(2), "left", r"value='left': 'action' has the shape \[\]"),
        (discrete(2), {"actoin": 1}, r"no action leaf 'actoin'; there are action; did you mean 'action'"),
    ],
)
def test_a_constant_that_does_not_fit_is_refused(leaf: LeafSpec, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ConstantAgent(spec(leaf), value)  # type: ignore[arg-type]
