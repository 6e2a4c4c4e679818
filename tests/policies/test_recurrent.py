"""Policies with a memory: what they leave in the workspace, and that it is enough to go on and to learn from."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.workspace import Workspace

N_STEPS, BATCH, N_HIDDEN = 7, 3, 4
SMALL = partial(GRU, n_hidden=N_HIDDEN)
OBSERVATION = LeafSpec(
    "env/env_obs", "box", (2,), "float32", low=np.full(2, -9, np.float32), high=np.full(2, 9, np.float32)
)
CUE = LeafSpec("env/env_obs/cue", "discrete", (), "int64", counts=np.array(3), start=np.array(0))
DISCRETE = LeafSpec("action", "discrete", (), "int64", counts=np.array(3), start=np.array(0))
BOX = LeafSpec("action", "box", (2,), "float32", low=np.full(2, -1, np.float32), high=np.full(2, 1, np.float32))


def spec(action: LeafSpec = DISCRETE, *observations: LeafSpec) -> EnvSpec:
    return EnvSpec("Toy", BATCH, observations or (OBSERVATION,), (action,))


def observations(n_steps: int = N_STEPS) -> Tensor:
    return torch.randn(n_steps, BATCH, 2, generator=torch.Generator().manual_seed(5))


def starts() -> Tensor:
    """Episodes begin everywhere at 0, in environment 1 at 3, in environment 2 at 3 and 5."""
    flags = torch.zeros(N_STEPS, BATCH, dtype=torch.bool)
    flags[0] = flags[3, 1] = flags[3, 2] = flags[5, 2] = True
    return flags


def recorded(agent: RecurrentPolicy | MemoryCritic, columns: slice = slice(None)) -> Workspace:
    workspace = Workspace()
    for t, (row, initial) in enumerate(zip(observations()[:, columns], starts()[:, columns], strict=True)):
        workspace.set("env/env_obs", t, row)
        workspace.set("env/initial_state", t, initial)
        agent(workspace, t=t)
    return workspace


@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_a_policy_unrolled_over_the_recording_equals_stepped(kind: type[GRU | LSTM], with_gradients: bool) -> None:
    policy = RecurrentPolicy(spec(), partial(kind, n_hidden=N_HIDDEN), head_sizes=[5], seed=1).eval()
    with torch.set_grad_enabled(with_gradients):
        workspace = recorded(policy)
    states, following = workspace["policy/state"], workspace["policy/next_state"]
    assert states.shape == (N_STEPS, BATCH, N_HIDDEN if kind is GRU else 2 * N_HIDDEN)
    assert not states[starts()].any()
    going_on = ~starts()[1:]
    assert torch.equal(states[1:][going_on], following[:-1][going_on])
    latent = policy.latent([observations()], states[0], starts())
    torch.testing.assert_close(latent, following[..., :N_HIDDEN], atol=1e-6, rtol=1e-5)
    modes = policy.distribution_of(latent.flatten(0, 1)).mode()[0].view(N_STEPS, BATCH)
    assert torch.equal(modes, workspace["action"])


@pytest.mark.parametrize("with_gradients", [False, True])
def test_with_a_prefix_all_that_is_written_has_it_and_nothing_else_changes(with_gradients: bool) -> None:
    for make in (RecurrentPolicy, MemoryCritic):
        plain, prefixed = make(spec(), SMALL).eval(), make(spec(), SMALL).with_prefix("target/").eval()
        with torch.set_grad_enabled(with_gradients):
            expected, found = recorded(plain), recorded(prefixed)
        for name in plain.writes:
            assert name not in found
            assert torch.equal(found[f"target/{name}"], expected[name])


def test_any_row_can_be_the_first_of_a_sequence() -> None:
    policy = RecurrentPolicy(spec(), SMALL, seed=1)
    with torch.inference_mode():
        workspace = recorded(policy)
    whole = policy.latent([observations()], workspace["policy/state"][0], starts())
    for first in range(1, N_STEPS):
        part = policy.latent([observations()[first:]], workspace["policy/state"][first], starts()[first:])
        torch.testing.assert_close(part, whole[first:], atol=1e-6, rtol=1e-5)


def test_a_chunk_goes_on_with_the_state_of_the_chunk_before() -> None:
    def run(chunk_ends: list[int]) -> Tensor:
        policy, workspace, pieces, first = RecurrentPolicy(spec(), SMALL, seed=1), Workspace(), [], 0
        for end in chunk_ends:
            if first > 0:
                workspace.copy_n_last_steps(1)
            for offset, t in enumerate(range(first, end), start=min(first, 1)):
                workspace.set("env/env_obs", offset, observations()[t])
                workspace.set("env/initial_state", offset, starts()[t])
                policy(workspace, t=offset)
            pieces.append(workspace["policy/next_state"][min(first, 1) :].clone())
            first = end
        return torch.cat(pieces)

    with torch.inference_mode():
        assert torch.equal(run([3, 5, 7]), run([7]))


def test_environments_together_equal_each_alone() -> None:
    policy = RecurrentPolicy(spec(), SMALL, seed=1).eval()
    with torch.inference_mode():
        together = recorded(policy)
        for b in range(BATCH):
            alone = recorded(policy, slice(b, b + 1))
            torch.testing.assert_close(alone["policy/next_state"], together["policy/next_state"][:, b : b + 1])
            assert torch.equal(alone["action"], together["action"][:, b : b + 1])


@pytest.mark.parametrize("leaf", [DISCRETE, BOX])
def test_a_policy_acts_the_same_with_and_without_gradients(leaf: LeafSpec) -> None:
    with_gradients = recorded(RecurrentPolicy(spec(leaf), SMALL, seed=1))
    with torch.inference_mode():
        without = recorded(RecurrentPolicy(spec(leaf), SMALL, seed=1))
    torch.testing.assert_close(with_gradients["action"].detach(), without["action"])
    assert with_gradients["action"].dtype == without["action"].dtype


def test_the_gradient_of_an_action_reaches_back_to_the_start_of_its_episode_and_no_further() -> None:
    policy = RecurrentPolicy(spec(BOX), SMALL, seed=1).eval()
    workspace = Workspace()
    rows = [row.clone().requires_grad_() for row in observations()]
    for t, (row, initial) in enumerate(zip(rows, starts(), strict=True)):
        workspace.set("env/env_obs", t, row)
        workspace.set("env/initial_state", t, initial)
        policy(workspace, t=t)
    workspace.get("action", 6)[1].sum().backward()
    reached = [row.grad is not None and bool(row.grad[1].any()) for row in rows]
    assert reached == [False, False, False, True, True, True, True]


def test_a_policy_with_several_leaves_of_observation_writes_its_states() -> None:
    policy = RecurrentPolicy(spec(DISCRETE, OBSERVATION, CUE), SMALL)
    workspace = Workspace()
    workspace.set("env/env_obs", 0, torch.zeros(BATCH, 2))
    workspace.set("env/env_obs/cue", 0, torch.tensor([0, 1, 2]))
    workspace.set("env/initial_state", 0, torch.ones(BATCH, dtype=torch.bool))
    with torch.inference_mode():
        policy(workspace, t=0)
    assert policy.memory.cell.n_inputs == 2 + 3
    assert set(policy.writes) <= set(workspace.keys())
    following = workspace["policy/next_state"][0]
    assert not torch.equal(following[0], following[1])


@pytest.mark.parametrize("with_gradients", [False, True])
def test_a_critic_with_a_memory_of_its_own_records_what_it_values(with_gradients: bool) -> None:
    critic = MemoryCritic(spec(), partial(LSTM, n_hidden=N_HIDDEN), head_sizes=[5], seed=1)
    with torch.set_grad_enabled(with_gradients):
        workspace = recorded(critic)
    values = critic.values(torch.empty(0), [observations()], workspace["critic/state"][0], starts())
    torch.testing.assert_close(values, workspace["critic/value"], atol=1e-6, rtol=1e-5)


def test_a_critic_that_shares_the_policys_memory_reads_its_output_only() -> None:
    policy = RecurrentPolicy(spec(), SMALL, seed=1)
    critic = SharedMemoryCritic(policy, seed=1)
    assert critic.memory is None
    assert {tuple(parameter.shape) for parameter in critic.parameters()} == {(1, N_HIDDEN), (1,)}
    latent = torch.arange(2 * BATCH * N_HIDDEN).float().view(2, BATCH, N_HIDDEN)
    values = critic.values(latent, [], torch.empty(BATCH, 0), starts())
    torch.testing.assert_close(values[1, 2], critic.network(latent[1, 2])[0])
