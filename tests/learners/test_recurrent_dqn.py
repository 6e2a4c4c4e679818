"""Recurrent DQN: targets of sequences, masks between episodes, and its options."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from chunks import env_spec_of, hand_over_rows, recorded_chunk, written_chunk

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.recurrent_dqn import RecurrentDQN
from bbrl_exp.nn.recurrent import GRU
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.workspace import Workspace

ENV = "bbrl_exp/ProbeMemory-v0"


def a_learner(seed: int = 0, inputs: Sequence[str] = ("observation",), **options: Any) -> RecurrentDQN:
    policy = RecurrentQPolicy(env_spec_of(ENV, 2), partial(GRU, n_hidden=4), inputs, seed=seed)
    return RecurrentDQN(policy, **{"discount": 0.5, "learning_starts": 0, "burn_in": 0, **options})


def put_values(network: Any, values: list[float]) -> None:
    """Makes the network give these values everywhere."""
    with torch.no_grad():
        network.mlp.layers[-1].weight.zero_()
        network.mlp.layers[-1].bias.copy_(torch.tensor(values))


def sequences(terminated: list[list[int]], truncated: list[list[int]]) -> Workspace:
    workspace = written_chunk([[0.0], [1.0], [2.0], [4.0]], terminated, truncated)
    done = workspace["env/done"]
    workspace.set_full("env/initial_state", torch.cat((torch.ones_like(done[:1]), done[:-1])))
    workspace.set_full("policy/state", torch.zeros(4, 1, 4))
    return workspace


NEVER = [[0], [0], [0], [0]]
AT_TWO = [[0], [0], [1], [0]]


@pytest.mark.parametrize(
    ("n_steps", "terminated", "truncated", "expected"),
    [
        (1, NEVER, NEVER, [1 + 0.5 * 8, 2 + 0.5 * 8, 4 + 0.5 * 8]),
        (2, NEVER, NEVER, [1 + 0.5 * 2 + 0.25 * 8, 2 + 0.5 * 4 + 0.25 * 8, 4 + 0.5 * 8]),
        (3, AT_TWO, NEVER, [1 + 0.5 * 2, 2.0]),
        (3, NEVER, AT_TWO, [1 + 0.5 * 2 + 0.25 * 8, 2 + 0.5 * 8]),
        (3, AT_TWO, AT_TWO, [1 + 0.5 * 2, 2.0]),
    ],
)
def test_targets_are_n_rewards_and_a_value_unless_the_episode_ends(
    n_steps: int, terminated: list[list[int]], truncated: list[list[int]], expected: list[float]
) -> None:
    learner = a_learner(double=False, n_steps=n_steps)
    put_values(learner.target_network, [8.0, 7.0])
    _, returns, valid = learner.sequences(sequences(terminated, truncated))
    assert returns[valid].tolist() == expected
    assert valid.flatten().tolist() == [True, True, len(expected) == 3]


def test_double_takes_the_value_of_the_action_that_the_online_network_chooses() -> None:
    learner = a_learner(double=True)
    put_values(learner.target_network, [2.0, 6.0])
    put_values(learner.policy.network, [1.0, 0.0])
    assert learner.sequences(sequences(NEVER, NEVER))[1].flatten().tolist() == [1 + 1.0, 2 + 1.0, 4 + 1.0]


def test_rows_of_the_burn_in_teach_nothing() -> None:
    learner = a_learner(burn_in=2, double=False)
    put_values(learner.target_network, [8.0, 7.0])
    _, returns, valid = learner.sequences(sequences(NEVER, NEVER))
    assert (returns.tolist(), valid.tolist()) == ([[4 + 0.5 * 8]], [[True]])


def test_both_networks_begin_the_burn_in_with_the_stored_state() -> None:
    learner, recorded = a_learner(burn_in=1, double=False), sequences(NEVER, NEVER)
    recorded.set_full("env/initial_state", torch.zeros(4, 1, dtype=torch.bool))
    recorded.set_full("policy/state", torch.full((4, 1, 4), 0.7))
    for parameter in learner.target_network.parameters():
        parameter.mul_(2.0)

    def values_of_all_rows(network: Any) -> torch.Tensor:
        state, found = recorded["policy/state"][0], []
        for row in recorded["env/env_obs"]:
            outputs, state = network.memory.cell.step(row, state)
            found.append(network.values_of(outputs))
        return torch.stack(found)

    values, returns, _ = learner.sequences(recorded)
    taken = recorded["action"][1:3].unsqueeze(2)
    online = values_of_all_rows(learner.policy.network)[1:3].gather(2, taken).squeeze(2)
    torch.testing.assert_close(values, online)
    best = values_of_all_rows(learner.target_network).amax(dim=2)
    torch.testing.assert_close(returns, recorded["env/reward"][2:] + 0.5 * best[2:])


@pytest.mark.parametrize("inputs", [("observation",), ("observation", "action", "reward")])
def test_values_are_those_of_the_recorded_states_whatever_episodes_a_sequence_holds(inputs: tuple[str, ...]) -> None:
    learner = a_learner(inputs=inputs)
    recorded = recorded_chunk(ENV, 2, 12, learner.policy)
    values, _, valid = learner.sequences(recorded)
    network = learner.policy.network
    for t in range(12):
        x = network.memory.inputs([recorded[name][t] for name in network.memory.names])
        outputs, _ = network.memory.cell.step(x, recorded["policy/state"][t])
        expected = network.values_of(outputs).gather(1, recorded["action"][t][:, None]).squeeze(1)
        torch.testing.assert_close(values[t], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(valid, ~recorded["env/done"][:-1])


def test_replay_keeps_what_the_memory_saw() -> None:
    learner = a_learner(inputs=("action", "reward"), sequence_length=3, batch_size=8)
    recorded = recorded_chunk(ENV, 2, 12, learner.policy)
    learner.update(recorded, Progress(0, 24, 100, 12))
    drawn = learner._replay.sample_sequences(8, 4, learner._generator)
    seen = {tuple(column.flatten().tolist()) for column in drawn["policy/previous_action"].unbind(1)}
    actions = recorded["action"]
    starts = recorded["env/initial_state"]
    before = torch.nn.functional.one_hot(actions, 2).float()[:-1].masked_fill(starts[1:, :, None], 0.0)
    rows = torch.cat((torch.zeros(1, 2, 2), before))
    possible = {tuple(rows[t : t + 4, b].flatten().tolist()) for t in range(10) for b in range(2)}
    assert len(seen) > 1
    assert seen <= possible


def test_updates_wait_for_a_whole_sequence_and_are_counted_by_environment_steps() -> None:
    learner = a_learner(sequence_length=6, updates_per_step=0.5)
    chunk = recorded_chunk(ENV, 2, 8, learner.policy)
    first, whole = Workspace(), Workspace()
    for name in list(chunk.keys()):
        first.set_full(name, chunk[name][:5])
        whole.set_full(name, chunk[name][4:])
    assert "learner/updates" not in learner.update(first, Progress(0, 8, 100, 8))
    assert learner.update(whole, Progress(0, 16, 100, 8))["learner/updates"] == 8


@pytest.mark.parametrize(("batch_size", "smallest"), [(1, 7), (2, 13), (5, 31)])
def test_a_buffer_that_holds_no_sequence_of_each_environment_is_refused(batch_size: int, smallest: int) -> None:
    options = {"burn_in": 3, "sequence_length": 4, "batch_size": 2, "updates_per_step": 1.0}
    with pytest.raises(ConfigurationError, match=rf"^replay_capacity={smallest - 1}: .* at least {smallest}$"):
        a_learner(replay_capacity=smallest - 1, **options).check_chunks(1, batch_size)
    learner = a_learner(replay_capacity=smallest, **options)
    learner.check_chunks(1, batch_size)
    chunk = recorded_chunk(ENV, batch_size, 20, learner.policy)
    assert (
        learner.update(chunk, Progress(0, 20 * batch_size, 100, 20 * batch_size))["learner/updates"] == 20 * batch_size
    )


def two_chunks(policy: RecurrentQPolicy) -> tuple[Workspace, Workspace]:
    """Eight time steps of two environments, and the eight after them."""
    chunk = recorded_chunk(ENV, 2, 16, policy)
    early, late = Workspace(), Workspace()
    for name in list(chunk.keys()):
        early.set_full(name, chunk[name][:9])
        late.set_full(name, chunk[name][8:])
    return early, late


@pytest.mark.parametrize(("anneals", "expected"), [(True, [0.1, 0.075]), (False, [0.1, 0.1])])
def test_the_learning_rate_falls_linearly_where_it_is_to(anneals: bool, expected: list[float]) -> None:
    learner = a_learner(sequence_length=4, learning_rate=0.1, anneal_learning_rate=anneals)
    chunks = two_chunks(learner.policy)
    rates = [
        learner.update(chunk, Progress(0, steps, 64, 16))["learner/learning_rate"]
        for chunk, steps in zip(chunks, (16, 32), strict=True)
    ]
    assert rates == pytest.approx(expected)


def test_a_moving_average_lies_between() -> None:
    learner = a_learner(sequence_length=4, learning_rate=0.1, updates_per_step=1 / 16, target_rate=0.25)
    old = [parameter.clone() for parameter in learner.target_network.parameters()]
    early, _ = two_chunks(learner.policy)
    assert learner.update(early, Progress(0, 16, 100, 16))["learner/updates"] == 1
    online = [parameter.detach() for parameter in learner.policy.network.parameters()]
    assert max(float((now - before).abs().max()) for now, before in zip(online, old, strict=True)) > 0.09
    for before, new, now in zip(old, learner.target_network.parameters(), online, strict=True):
        torch.testing.assert_close(new, before + 0.25 * (now - before), atol=1e-7, rtol=1e-6)


def test_state_is_complete() -> None:
    first, second = a_learner(sequence_length=4), a_learner(seed=5, sequence_length=4)
    early, late = two_chunks(first.policy)
    first.update(early, Progress(0, 16, 100, 16))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    hand_over_rows(first, second)
    for learner in (first, second):
        learner.update(late, Progress(0, 32, 100, 16))
    assert all(map(torch.equal, first.policy.parameters(), second.policy.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_period": 10}, "one of them"),
        ({"n_steps": 17}, "n_steps=17: no more than sequence_length=16"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        a_learner(**options)
