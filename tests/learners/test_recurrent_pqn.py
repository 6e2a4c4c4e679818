"""Recurrent PQN: λ-returns of sequences, which steps are learned from, and what it saves."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from chunks import env_spec_of, recorded_chunk, whole
from torch import Tensor

from bbrl_exp.functional.returns import lambda_returns
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.recurrent_pqn import RecurrentPQN
from bbrl_exp.nn.recurrent import GRU
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.workspace import Workspace

ENV = "bbrl_exp/ProbeMemory-v0"


def a_learner(seed: int = 0, **options: Any) -> RecurrentPQN:
    policy = RecurrentQPolicy(env_spec_of(ENV, 2), partial(GRU, n_hidden=4), head_sizes=[8], layer_norm=True, seed=seed)
    return RecurrentPQN(policy, **{"discount": 0.5, **options})


def values_step_by_step(learner: RecurrentPQN, chunk: Workspace) -> Tensor:
    """Of all rows, ``[T, B, A]``, with the states that were recorded."""
    network = learner.policy.network
    rows = zip(chunk["env/env_obs"], chunk["policy/state"], strict=True)
    return torch.stack([network.values_of(network.memory.cell.step(*row)[0]) for row in rows]).detach()


def test_returns_are_those_of_the_values_with_the_states_in_which_rows_were_reached() -> None:
    learner = a_learner(trace_decay=0.6)
    chunk = recorded_chunk(ENV, 2, 12, learner.policy)
    best = values_step_by_step(learner, chunk).amax(dim=2)
    done = chunk["env/done"]
    ends = chunk["env/terminated"][1:], done[1:] | done[:-1]
    expected = lambda_returns(chunk["env/reward"][1:], best[:-1], best[1:], *ends, 0.5, 0.6)
    experience = learner.collect(chunk, whole(chunk))
    assert torch.equal(experience.valid, ~done[:-1])
    assert done[1:-1].any()
    torch.testing.assert_close(experience.returns[experience.valid], expected[~done[:-1]])


@pytest.mark.parametrize("sequence_length", [None, 3])
def test_each_step_is_in_one_minibatch_of_a_pass_with_the_value_of_its_action(sequence_length: int | None) -> None:
    learner = a_learner(sequence_length=sequence_length, n_minibatches=2)
    chunk = recorded_chunk(ENV, 2, 12, learner.policy)
    experience = learner.collect(chunk, whole(chunk))
    found = [torch.stack(part, dim=1) for part in learner.minibatches(experience)]
    assert len(found) == 2
    taken = values_step_by_step(learner, chunk)[:-1].gather(2, chunk["action"][:-1].unsqueeze(2)).squeeze(2)
    valid = ~chunk["env/done"][:-1]
    returns = a_learner().collect(chunk, whole(chunk)).returns
    expected = sorted(zip(taken[valid].tolist(), returns[valid].tolist(), strict=True))
    for ours, theirs in zip(sorted(map(tuple, torch.cat(found).tolist())), expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_state_is_complete() -> None:
    first, second = a_learner(sequence_length=4), a_learner(seed=5, sequence_length=4)
    chunk = recorded_chunk(ENV, 2, 12, first.policy)
    first.update(chunk, Progress(0, 24, 100, 24))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for learner in (first, second):
        learner.update(chunk, Progress(0, 48, 100, 24))
    assert all(map(torch.equal, first.policy.parameters(), second.policy.parameters()))


def test_a_chunk_makes_as_many_updates_as_it_has_minibatches_in_all_epochs() -> None:
    learner = a_learner(sequence_length=4, n_minibatches=3, n_epochs=2)
    chunk = recorded_chunk(ENV, 2, 12, learner.policy)
    assert learner.update(chunk, Progress(0, 24, 100, 24))["learner/updates"] == 6
