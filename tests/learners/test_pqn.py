"""PQN: λ-returns of the greedy policy, which pairs are learned from, and its options."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from chunks import env_spec_of, whole, written_chunk

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.pqn import PQN
from bbrl_exp.policies.q_values import QPolicy

ENV = "bbrl_exp/ProbeObservationAction-v0"


def a_learner(best: float, **options: Any) -> PQN:
    """Whose network says ``best`` for one action, and less for the other, everywhere."""
    learner = PQN(QPolicy(env_spec_of(ENV, 2), (4,), layer_norm=True), discount=0.5, **options)
    last: Any = learner.policy.network.mlp.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([best, best - 1.0]))
    return learner


def returns_of(trace_decay: float, terminated: list[list[int]], truncated: list[list[int]]) -> list[float]:
    chunk = written_chunk([[0.0], [1.0], [2.0], [4.0]], terminated, truncated)
    return a_learner(8.0, trace_decay=trace_decay).collect(chunk, whole(chunk))[2].tolist()


NEVER = [[0], [0], [0], [0]]
AT_TWO = [[0], [0], [1], [0]]


def test_without_a_trace_returns_are_those_of_q_learning() -> None:
    assert returns_of(0.0, NEVER, NEVER) == [1.0 + 4.0, 2.0 + 4.0, 4.0 + 4.0]


def test_with_a_whole_trace_returns_run_to_the_end_of_the_chunk() -> None:
    assert returns_of(1.0, NEVER, NEVER) == [1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 8)), 2 + 0.5 * (4 + 0.5 * 8), 4 + 0.5 * 8]


def test_a_trace_between_mixes_the_value_with_the_return() -> None:
    last = 4 + 0.5 * 8
    second = 2 + 0.5 * (0.75 * 8 + 0.25 * last)
    assert returns_of(0.25, NEVER, NEVER) == [1 + 0.5 * (0.75 * 8 + 0.25 * second), second, last]


def test_a_terminated_state_is_worth_nothing_and_a_truncated_one_its_value() -> None:
    # Row 2 ends the episode: the pair (2, 3) is no transition.
    assert returns_of(1.0, AT_TWO, NEVER) == [1 + 0.5 * 2, 2.0]
    assert returns_of(1.0, NEVER, AT_TWO) == [1 + 0.5 * (2 + 0.5 * 8), 2 + 0.5 * 8]
    assert returns_of(1.0, AT_TWO, AT_TWO) == [1 + 0.5 * 2, 2.0]


def test_two_environments_give_what_each_gives_alone() -> None:
    rewards = [[0.0, 0.0], [1.0, 5.0], [2.0, 6.0], [3.0, 7.0]]
    ends = [[0, 0], [0, 0], [1, 0], [0, 0]]
    nothing = [[0, 0]] * 4
    learner = a_learner(8.0)
    together = written_chunk(rewards, ends, nothing)
    returns = learner.collect(together, whole(together))[2].tolist()
    alone = []
    for column in range(2):
        chunk = written_chunk([[row[column]] for row in rewards], [[row[column]] for row in ends], [[0]] * 4)
        alone.append(learner.collect(chunk, whole(chunk))[2].tolist())
    assert returns == [alone[0][0], alone[1][0], alone[0][1], alone[1][1], alone[1][2]]


def test_the_values_of_the_actions_taken_move_towards_the_returns() -> None:
    learner = a_learner(0.0, n_epochs=200, learning_rate=1e-2, anneal_learning_rate=False)
    chunk = written_chunk([[0.0, 0.0], [3.0, -2.0]], [[0, 0], [1, 1]], [[0, 0], [0, 0]])
    metrics = learner.update(chunk, whole(chunk))
    values = learner.policy.network.values([chunk["env/env_obs"][0]])
    taken = values.gather(1, chunk["action"][0][:, None]).flatten()
    torch.testing.assert_close(taken, torch.tensor([3.0, -2.0]), atol=0.02, rtol=0)
    assert metrics["learner/updates"] == 200


@pytest.mark.parametrize(("anneals", "expected"), [(True, [0.1, 0.075]), (False, [0.1, 0.1])])
def test_the_learning_rate_falls_linearly_where_it_is_to(anneals: bool, expected: list[float]) -> None:
    learner = a_learner(0.0, learning_rate=0.1, anneal_learning_rate=anneals)
    chunk = written_chunk([[0.0, 0.0], [3.0, -2.0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]])
    rates = [learner.update(chunk, Progress(0, steps, 100, 25))["learner/learning_rate"] for steps in (25, 50)]
    assert rates == pytest.approx(expected)


def test_state_is_complete() -> None:
    first, second = a_learner(1.0), a_learner(2.0)
    chunk = written_chunk([[0.0, 0.0], [3.0, -2.0], [1.0, 1.0]], [[0, 0]] * 3, [[0, 0]] * 3)
    first.update(chunk, whole(chunk))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for learner in (first, second):
        learner.update(chunk, whole(chunk))
    assert all(map(torch.equal, first.policy.parameters(), second.policy.parameters()))


def test_a_distribution_is_refused() -> None:
    policy = QPolicy(env_spec_of(ENV, 2), distribution="quantile")
    with pytest.raises(ConfigurationError, match="learns no distributions"):
        PQN(policy)


@pytest.mark.parametrize("name", ["n_epochs", "minibatch_size"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=0"):
        a_learner(0.0, **{name: 0})
