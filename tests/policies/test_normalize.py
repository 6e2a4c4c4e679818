"""Normalising agents: the moments of what was seen, what they leave alone, and when they learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from bbrl_exp.agents import Agent, Agents
from bbrl_exp.agents.graph_check import check_graph
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.policies.normalize import NormalizeObservation, NormalizeReward
from bbrl_exp.workspace import Workspace

VECTOR = LeafSpec("env/env_obs/vector", "box", (2,), "float32")
IMAGE = LeafSpec("env/env_obs/image", "box", (2, 2), "uint8")
TOKEN = LeafSpec("env/env_obs/token", "discrete", (), "int64", counts=np.array(5), start=np.array(0))
GRADIENTS = pytest.mark.parametrize("with_gradients", [False, True])


def spec(*leaves: LeafSpec) -> EnvSpec:
    return EnvSpec("Toy", 3, leaves, ())


def vectors(n_steps: int = 20, batch_size: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return 100 + torch.tensor([1.0, 50.0]) * torch.randn(n_steps, batch_size, 2, generator=generator)


def run(agent: Agent, workspace: Workspace, rows: Tensor, name: str, first: int = 0) -> None:
    for t, row in enumerate(rows, start=first):
        workspace.set(name, t, row)
        agent(workspace, t=t)


@GRADIENTS
def test_a_row_is_standardised_by_the_moments_of_all_rows_up_to_it(with_gradients: bool) -> None:
    agent, workspace, rows = NormalizeObservation(spec(VECTOR)), Workspace(), vectors()
    with torch.set_grad_enabled(with_gradients):
        run(agent, workspace, rows, "env/env_obs/vector")
    written = workspace["normalized/env/env_obs/vector"]
    assert written.dtype == torch.float32
    for t in range(len(rows)):
        seen = rows[: t + 1].flatten(0, 1).double()
        expected = (rows[t] - seen.mean(0)) / seen.std(0, correction=0)
        torch.testing.assert_close(written[t], expected.float(), atol=1e-5, rtol=1e-4)


@GRADIENTS
def test_the_statistics_do_not_depend_on_how_many_environments_showed_the_rows(with_gradients: bool) -> None:
    rows, buffers = vectors(), []
    for shape in ((20, 3), (60, 1), (5, 12)):
        agent = NormalizeObservation(spec(VECTOR))
        with torch.set_grad_enabled(with_gradients):
            run(agent, Workspace(), rows.reshape(*shape, 2), "env/env_obs/vector")
        buffers.append(agent.state_dict())
    assert buffers[0]["moments.0.count"] == 60
    for other in buffers[1:]:
        torch.testing.assert_close(other, buffers[0])


def test_what_is_far_off_is_written_as_the_limit() -> None:
    agent, workspace = NormalizeObservation(spec(VECTOR), limit=1.5), Workspace()
    row = torch.zeros(9, 2)
    row[0] = torch.tensor([1000.0, -1000.0])
    with torch.inference_mode():
        run(agent, workspace, row[None], "env/env_obs/vector")
    assert workspace["normalized/env/env_obs/vector"][0, 0].tolist() == [1.5, -1.5]


@GRADIENTS
def test_images_and_discrete_leaves_are_copied_as_they_are(with_gradients: bool) -> None:
    agent, workspace = NormalizeObservation(spec(VECTOR, IMAGE, TOKEN)), Workspace()
    values = {
        "env/env_obs/vector": torch.ones(3, 2),
        "env/env_obs/image": torch.arange(12, dtype=torch.uint8).view(3, 2, 2),
        "env/env_obs/token": torch.tensor([4, 0, 2]),
    }
    for name, value in values.items():
        workspace.set(name, 0, value)
    with torch.set_grad_enabled(with_gradients):
        agent(workspace, t=0)
    for name in ("env/env_obs/image", "env/env_obs/token"):
        assert torch.equal(workspace["normalized/" + name][0], values[name])
        assert workspace["normalized/" + name].dtype == values[name].dtype
    assert len(agent.moments) == 1


@GRADIENTS
def test_nothing_is_learned_in_evaluation_mode(with_gradients: bool) -> None:
    agent, workspace = NormalizeObservation(spec(VECTOR)), Workspace()
    with torch.set_grad_enabled(with_gradients):
        run(agent, workspace, vectors()[:5], "env/env_obs/vector")
        before = {name: value.clone() for name, value in agent.state_dict().items()}
        agent.eval()
        run(agent, workspace, vectors()[5:6], "env/env_obs/vector", first=5)
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)
    seen = vectors()[:5].flatten(0, 1)
    expected = (vectors()[5] - seen.mean(0)) / seen.std(0, correction=0)
    torch.testing.assert_close(workspace["normalized/env/env_obs/vector"][5], expected, atol=1e-5, rtol=1e-4)


class Shown(Agent):
    """Writes an observation, a reward and the end of an episode."""

    def forward(self, t: int, **kwargs: object) -> None:
        self.set(("env/env_obs/vector", t), torch.ones(3, 2))
        self.set(("env/reward", t), torch.ones(3))
        self.set(("env/done", t), torch.zeros(3, dtype=torch.bool))


def test_the_graph_check_teaches_nothing() -> None:
    observation, reward = NormalizeObservation(spec(VECTOR)), NormalizeReward()
    check_graph(Agents(Shown(), observation, reward))
    assert observation.state_dict()["moments.0.count"] == 0
    assert reward.state_dict()["moments.count"] == 0


def test_the_statistics_are_saved_and_loaded() -> None:
    agent, other = NormalizeObservation(spec(VECTOR)), NormalizeObservation(spec(VECTOR))
    with torch.inference_mode():
        run(agent, Workspace(), vectors(), "env/env_obs/vector")
    other.load_state_dict(agent.state_dict())
    workspaces = Workspace(), Workspace()
    for one, workspace in zip((agent, other), workspaces, strict=True):
        with torch.inference_mode():
            run(one, workspace, vectors(2), "env/env_obs/vector")
    name = "normalized/env/env_obs/vector"
    assert torch.equal(workspaces[0][name], workspaces[1][name])


def reward_run(agent: NormalizeReward, rewards: Tensor, dones: Tensor, chunk_ends: Sequence[int]) -> Tensor:
    workspace, pieces, first = Workspace(), [], 0
    for end in chunk_ends:
        if first > 0:
            workspace.copy_n_last_steps(1)
        for offset, t in enumerate(range(first, end), start=min(first, 1)):
            workspace.set("env/reward", offset, rewards[t])
            workspace.set("env/done", offset, dones[t])
            agent(workspace, t=offset)
        pieces.append(workspace["normalized/env/reward"][min(first, 1) :].clone())
        assert torch.equal(workspace["env/reward"], rewards[first - min(first, 1) : end])
        first = end
    return torch.cat(pieces)


@GRADIENTS
def test_rewards_are_divided_by_the_standard_deviation_of_the_discounted_return(with_gradients: bool) -> None:
    # Environment 0 is done at row 2 and reset at row 3; environment 1 goes on.
    rewards = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [0.0, 8.0], [5.0, 16.0]])
    dones = torch.zeros(5, 2, dtype=torch.bool)
    dones[2, 0] = True
    returns = [1.0, 2.0, 3.5, 5.0, 10.5, 5.0, 21.25]  # in the order of rows; nothing at reset rows
    up_to_row = {1: 2, 2: 4, 3: 5, 4: 7}
    agent = NormalizeReward(discount=0.5)
    with torch.set_grad_enabled(with_gradients):
        written = reward_run(agent, rewards, dones, [5])
    for row, n_returns in up_to_row.items():
        expected = rewards[row] / np.std(returns[:n_returns])
        torch.testing.assert_close(written[row], expected.clamp(-10, 10), atol=1e-5, rtol=1e-4)
    assert float(agent.moments.count) == len(returns)


@GRADIENTS
def test_returns_are_not_learned_in_evaluation_mode(with_gradients: bool) -> None:
    rewards = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 5.0], [4.0, 8.0]])
    agent, workspace = NormalizeReward(discount=0.0), Workspace()
    with torch.set_grad_enabled(with_gradients):
        for t, row in enumerate(rewards):
            agent.train(t < 3)
            workspace.set("env/reward", t, row)
            workspace.set("env/done", t, torch.zeros(2, dtype=torch.bool))
            agent(workspace, t=t)
    assert float(agent.moments.count) == 4
    expected = rewards[3] / np.std([1.0, 2.0, 3.0, 5.0])
    torch.testing.assert_close(workspace["normalized/env/reward"][3], expected.float())


@GRADIENTS
def test_the_running_return_goes_on_from_chunk_to_chunk(with_gradients: bool) -> None:
    rewards = torch.randn(12, 3, generator=torch.Generator().manual_seed(2))
    dones = torch.zeros(12, 3, dtype=torch.bool)
    dones[4, 1] = dones[8, 2] = True
    with torch.set_grad_enabled(with_gradients):
        whole = reward_run(NormalizeReward(), rewards, dones, [12])
        cut = reward_run(NormalizeReward(), rewards, dones, [4, 5, 9, 12])
    assert torch.equal(whole, cut)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="limit=0: must be above 0"):
        NormalizeObservation(spec(VECTOR), limit=0)
    with pytest.raises(ConfigurationError, match=r"discount=1.5: must be 0 to 1"):
        NormalizeReward(discount=1.5)
