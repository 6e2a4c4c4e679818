"""Sequences cut from a chunk: their order, and the rows before them that bring a state up to date."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from chunks import env_spec_of, recorded_chunk, whole
from torch import Tensor

from bbrl_exp.agents import Agents
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.parts.cuts import Cuts
from bbrl_exp.learners.recurrent_a2c import RecurrentA2C
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO
from bbrl_exp.learners.recurrent_pqn import RecurrentPQN
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.memory import Memory
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy
from bbrl_exp.workspace import Workspace

ENV = "bbrl_exp/ProbeMemory-v0"


def test_the_sequences_of_the_beginning_of_a_chunk_come_first() -> None:
    rows = 100 * torch.arange(7)[:, None] + torch.arange(2)  # a chunk of 6 steps has 7 rows
    assert Cuts(6, 3).cut(rows).tolist() == [[0, 1, 300, 301], [100, 101, 400, 401], [200, 201, 500, 501]]
    assert torch.equal(Cuts(6, None).cut(rows), rows[:6])
    assert torch.equal(Cuts(6, 100).cut(rows), rows[:6])


def test_the_rows_before_a_sequence_are_those_of_its_environment_and_before_the_first_there_are_none() -> None:
    rows = 100 * torch.arange(9)[:, None] + torch.arange(2)
    found = Cuts(8, 4, 3).burn_in_of([rows], rows[..., None], rows > 1000)
    assert found is not None
    assert found.exists.tolist() == [False, False, True, True]
    assert found.rows[0][:, 2:].tolist() == [[100, 101], [200, 201], [300, 301]]
    assert found.state[2:, 0].tolist() == [100, 101]
    second = found.select(torch.tensor([3]))
    assert (second.rows[0].flatten().tolist(), second.exists.tolist()) == ([101, 201, 301], [True])


def changed_since(agent: Any) -> None:
    """Moves all parameters, as updates do."""
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.3)


def first_states(memory: Memory, chunk: Workspace, length: int, burn_in: int) -> Tensor:
    """With which the memory, as it is now, begins the sequences of a chunk of 12 steps, one step after the other."""
    found = []
    for begin in range(0, 12, length):
        first = max(begin - burn_in, 0)
        state = chunk[memory.state_name][first]
        for t in range(first, begin):
            x = memory.inputs([leaf[t] for leaf in memory.read(chunk)])
            state = memory.cell.step(x, state * ~chunk["env/initial_state"][t][:, None])[1]
        found.append(state)
    return torch.cat(found)


def test_burn_in_begins_sequences_of_ppo_with_states_of_the_present_policy_and_critic() -> None:
    spec = env_spec_of(ENV, 2)
    policy, critic = RecurrentPolicy(spec, partial(LSTM, n_hidden=4)), MemoryCritic(spec, partial(GRU, n_hidden=3))
    learner = RecurrentPPO(policy, critic, sequence_length=4, burn_in=3, normalize_advantages=False)
    chunk = recorded_chunk(ENV, 2, 12, Agents(policy, critic))
    experience = learner.collect(chunk, whole(chunk))
    unchanged = learner.loss(experience).total.item()
    learner.burn_in = 0
    plain = learner.collect(chunk, whole(chunk))
    assert plain.policy_burn_in is plain.critic_burn_in is None
    assert learner.loss(plain).total.item() == pytest.approx(unchanged, rel=1e-4)
    for agent in (policy, critic):
        changed_since(agent)
    states = [first_states(each, chunk, 4, 3) for each in (policy.memory, critic.memory)]
    assert not torch.allclose(states[0], experience.policy_state)
    latent = policy.latent(experience.observations, states[0], experience.starts)
    values = critic.values(latent, experience.observations, states[1], experience.starts)
    distribution = policy.distribution_of(experience.of_steps(latent))
    expected = learner.loss_of(experience.steps(), distribution, experience.of_steps(values))
    torch.testing.assert_close(learner.loss(experience).total, expected.total)
    halves = [experience.select(torch.tensor(half)) for half in ([0, 3, 5], [4, 2, 1])]
    sizes = [len(half.steps()) for half in halves]
    mean = sum(size * learner.loss(half).total.item() for size, half in zip(sizes, halves, strict=True)) / sum(sizes)
    assert mean == pytest.approx(expected.total.item(), rel=1e-4)


def test_burn_in_begins_sequences_of_pqn_with_states_of_the_present_network() -> None:
    policy = RecurrentQPolicy(env_spec_of(ENV, 2), partial(GRU, n_hidden=4))
    learner = RecurrentPQN(policy, sequence_length=4, burn_in=3, n_minibatches=1)
    chunk = recorded_chunk(ENV, 2, 12, policy)
    experience = learner.collect(chunk, whole(chunk))
    changed_since(policy)
    ((values, _),) = learner.minibatches(experience)
    state = first_states(policy.network.memory, chunk, 4, 3)
    expected = policy.network.values(experience.rows, state, experience.starts)
    taken = expected.gather(2, experience.indexes.unsqueeze(2)).squeeze(2)[experience.valid]
    torch.testing.assert_close(values.sort().values, taken.sort().values)


@pytest.mark.parametrize("make", [RecurrentA2C, RecurrentPPO])
def test_the_gradient_ends_where_a_sequence_begins(make: Any) -> None:
    policy = RecurrentPolicy(env_spec_of(ENV, 1), partial(GRU, n_hidden=4))
    critic = MemoryCritic(env_spec_of(ENV, 1), partial(GRU, n_hidden=4))
    chunk = recorded_chunk(ENV, 1, 12, Agents(policy, critic))
    whole_chunk, cut = (
        make(policy, critic, sequence_length=length).collect(chunk, whole(chunk)) for length in (None, 2)
    )
    assert (len(whole_chunk), len(cut)) == (1, 6)
    seen = cut.observations[0].clone().requires_grad_()
    policy.latent((seen,), cut.policy_state, cut.starts)[:, 3].sum().backward()
    assert seen.grad is not None
    assert seen.grad.flatten(2).any(dim=2).nonzero()[:, 1].unique().tolist() == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sequence_length": 5},
            "sequence_length=5: does not divide the 12 steps of a chunk; must be a divisor, or null for all of them",
        ),
        (
            {"burn_in": 2},
            "burn_in=2: has no effect where a sequence is as long as the chunk; must be 0, or sequence_length below "
            "the 12 steps of a chunk",
        ),
        ({"sequence_length": 4, "burn_in": 5}, "burn_in=5: no more than sequence_length=4"),
    ],
)
def test_sequences_that_a_chunk_does_not_have_are_refused(options: dict[str, int], message: str) -> None:
    learner = RecurrentPQN(RecurrentQPolicy(env_spec_of(ENV, 2)), **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as found:
        learner.check_chunks(12, 2)
    assert str(found.value) == message
