"""DQN: targets by their definition, how many updates there are, and when the target network follows."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from chunks import env_spec_of, hand_over_rows, written_chunk

from bbrl_exp.data.prioritised import PrioritisedReplay
from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.dqn import DQN
from bbrl_exp.learners.learner import Progress
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.workspace import Workspace

ENV = "bbrl_exp/ProbeObservationAction-v0"
CATEGORICAL: dict[str, Any] = {
    "distribution": "categorical",
    "n_atoms": 3,
    "lowest_return": 0.0,
    "highest_return": 4.0,
}
QUANTILES: dict[str, Any] = {"distribution": "quantile", "n_atoms": 2}


def a_policy(**options: Any) -> QPolicy:
    return QPolicy(env_spec_of(ENV, 2), (4,), **options)


def a_batch(rewards: list[float], terminated: list[bool], discount: float = 0.5) -> Batch:
    n = len(rewards)
    generator = torch.Generator().manual_seed(n)
    return Batch(
        observations=(torch.randn(n, 2, generator=generator),),
        actions=(torch.arange(n) % 2,),
        rewards=torch.tensor(rewards),
        terminated=torch.tensor(terminated),
        next_observations=(torch.randn(n, 2, generator=generator),),
        discounts=torch.full((n,), discount),
        indexes=np.arange(n),
        weights=torch.ones(n),
    )


def put_values(network: torch.nn.Module, values: list[float]) -> None:
    """Makes the network give these outputs everywhere."""
    with torch.no_grad():
        last = network.mlp.layers[-1]  # type: ignore[union-attr, index]
        last.weight.zero_()
        last.bias.copy_(torch.tensor(values))


def chunk(n_rows: int) -> Workspace:
    nothing = [[0, 0]] * n_rows
    workspace = written_chunk([[1.0, 1.0]] * n_rows, nothing, nothing)
    workspace.set_full("env/initial_state", torch.zeros(n_rows, 2, dtype=torch.bool))
    return workspace


def test_a_terminated_state_is_worth_nothing_and_any_other_what_the_target_network_says() -> None:
    learner = DQN(a_policy(), double=False)
    put_values(learner.target_network, [2.0, 6.0])
    target = learner.value_target(a_batch([1.0, 10.0], [False, True]))
    assert target.tolist() == [1.0 + 0.5 * 6.0, 10.0]


def test_double_takes_the_value_of_the_action_that_the_online_network_chooses() -> None:
    learner = DQN(a_policy(), double=True)
    put_values(learner.target_network, [2.0, 6.0])
    put_values(learner.policy.network, [1.0, 0.0])
    assert learner.value_target(a_batch([1.0], [False])).tolist() == [1.0 + 0.5 * 2.0]


def test_a_categorical_target_is_moved_discounted_and_shared_between_its_neighbours() -> None:
    learner = DQN(a_policy(**CATEGORICAL), double=False)
    # The better action's return is 4 for certain: 1 + 0.5 · 4 = 3 lies half-way between the atoms 2 and 4.
    put_values(learner.target_network, [50.0, 0.0, 0.0, 0.0, 0.0, 50.0])
    target = learner.distribution_target(a_batch([1.0, 1.0], [False, True]))
    torch.testing.assert_close(target, torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]))


@pytest.mark.parametrize(
    ("options", "outputs", "choosing", "first", "second"),
    [
        # Returns 0 or 4 for certain, which make 1 or 3, half-way between two atoms.
        (CATEGORICAL, [50.0, 0, 0, 0, 0, 50], [0.0, 0, 50, 50, 0, 0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]),
        (QUANTILES, [0.0, 1, 2, 4], [5.0, 5, 0, 0], [1.0, 1.5], [2.0, 3.0]),
    ],
    ids=["categorical", "quantile"],
)
def test_double_takes_the_distribution_of_the_action_that_the_online_network_chooses(
    options: dict[str, Any], outputs: list[float], choosing: list[float], first: list[float], second: list[float]
) -> None:
    for double, expected in ((True, first), (False, second)):
        learner = DQN(a_policy(**options), double=double)
        put_values(learner.target_network, outputs)
        put_values(learner.policy.network, choosing)
        torch.testing.assert_close(learner.distribution_target(a_batch([1.0], [False])), torch.tensor([expected]))


def test_rewards_of_double_precision_are_projected_too() -> None:
    learner = DQN(a_policy(**CATEGORICAL))
    batch = a_batch([1.0, 0.5], [False, True])
    doubles = replace(batch, rewards=batch.rewards.double(), discounts=batch.discounts.double())
    assert torch.equal(learner.distribution_target(doubles), learner.distribution_target(batch))


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^loss='mse': must be one of huber, squared"):
        DQN(a_policy(), loss="mse")  # type: ignore[arg-type]


def test_quantile_targets_are_moved_and_discounted() -> None:
    learner = DQN(a_policy(distribution="quantile", n_atoms=2), double=False)
    put_values(learner.target_network, [0.0, 1.0, 2.0, 4.0])
    target = learner.distribution_target(a_batch([1.0, 1.0], [False, True]))
    assert target.tolist() == [[2.0, 3.0], [1.0, 1.0]]


@pytest.mark.parametrize(("loss", "expected"), [("huber", [0.5 * 0.25, 2.5]), ("squared", [0.25, 9.0])])
def test_the_loss_is_of_the_values_of_the_actions_taken(loss: Any, expected: list[float]) -> None:
    learner = DQN(a_policy(), loss=loss)
    put_values(learner.policy.network, [0.5, 3.0])
    values, mean, _ = learner.loss_of(a_batch([1.0, 0.0], [True, True]))
    assert values.tolist() == [0.5, 3.0]
    assert float(mean.detach()) == pytest.approx(sum(expected) / 2)


def test_prioritised_losses_are_weighted_and_priorities_are_errors() -> None:
    learner = DQN(a_policy(), prioritised=True, loss="squared")
    put_values(learner.policy.network, [0.5, 3.0])
    weighted = replace(a_batch([1.0, 0.0], [True, True]), weights=torch.tensor([1.0, 0.5]))
    _, mean, errors = learner.loss_of(weighted)
    assert float(mean.detach()) == pytest.approx((0.25 + 0.5 * 9.0) / 2)
    assert errors is not None
    assert errors.tolist() == [-0.5, 3.0]


@pytest.mark.parametrize("options", [{}, CATEGORICAL, QUANTILES], ids=["values", "categorical", "quantile"])
def test_every_kind_of_loss_is_weighted(options: dict[str, Any]) -> None:
    learner = DQN(a_policy(**options), prioritised=True)
    batch = a_batch([1.0, 3.0], [False, True])

    def loss(*weights: float) -> float:
        return float(learner.loss_of(replace(batch, weights=torch.tensor(weights)))[1].detach())

    first, second = loss(1.0, 0.0), loss(0.0, 1.0)
    assert min(first, second) > 0.01
    assert loss(1.0, 0.5) == pytest.approx(first + 0.5 * second)


def test_transitions_have_the_priority_of_their_error_once_they_were_learned_from() -> None:
    learner = DQN(
        a_policy(), prioritised=True, priority_exponent=1.0, double=False, learning_starts=0, updates_per_step=0.125
    )
    for network in (learner.policy.network, learner.target_network):
        put_values(network, [0.0, 0.0])
    workspace = chunk(5)
    workspace.set_full("env/reward", torch.arange(10.0).view(5, 2))
    # One update of 64 draws from 8 transitions of the same priority takes each of them.
    learner.update(workspace, Progress(0, 8, 100, 8))
    priorities = learner._replay.state()["priorities"].tolist()
    assert priorities == pytest.approx([reward + 1e-6 for reward in range(2, 10)])


def test_the_importance_exponent_grows_linearly_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = DQN(a_policy(), prioritised=True, learning_starts=0, updates_per_step=0.125)
    found, sample = [], PrioritisedReplay.sample

    def observed(*arguments: Any, importance_exponent: float) -> Batch:
        found.append(importance_exponent)
        return sample(*arguments, importance_exponent=importance_exponent)

    monkeypatch.setattr(PrioritisedReplay, "sample", observed)
    learner.update(chunk(5), Progress(0, 8, 16, 8))
    learner.update(shifted(1), Progress(0, 16, 16, 8))
    assert found == pytest.approx([0.7, 1.0])


def test_the_priority_of_fixed_returns_is_their_divergence_from_the_target() -> None:
    learner = DQN(a_policy(**CATEGORICAL), prioritised=True, double=False)
    put_values(learner.target_network, [50.0, 0.0, 0.0, 0.0, 0.0, 50.0])
    batch = replace(a_batch([1.0, 1.0], [False, False]), actions=(torch.tensor([0, 1]),))
    # The target is (0, ½, ½); action 0 is even over all three returns, action 1 all but equals the target.
    put_values(learner.policy.network, [0.0, 0.0, 0.0, -50.0, 0.0, 0.0])
    _, loss, errors = learner.loss_of(batch)
    assert errors is not None
    assert errors.tolist() == pytest.approx([math.log(3 / 2), 0.0], abs=1e-6)
    assert float(loss.detach()) == pytest.approx((math.log(3) + math.log(2)) / 2)


def test_the_priority_of_quantiles_is_the_error_of_their_mean() -> None:
    learner = DQN(a_policy(distribution="quantile", n_atoms=2), prioritised=True, double=False)
    put_values(learner.target_network, [0.0, 1.0, 2.0, 4.0])
    put_values(learner.policy.network, [2.0, 3.0, 0.0, 1.0])
    _, _, errors = learner.loss_of(replace(a_batch([1.0, 1.0], [False, False]), actions=(torch.tensor([0, 1]),)))
    assert errors is not None
    assert errors.tolist() == [0.0, -2.0]


@pytest.mark.parametrize("options", [{}, {"prioritised": True}, {"n_steps": 3}])
def test_updates_are_counted_by_environment_steps(options: dict[str, Any]) -> None:
    learner = DQN(a_policy(), learning_starts=4, updates_per_step=0.75, batch_size=8, **options)
    found = []
    for index in range(3):  # 4 time steps of 2 environments a chunk
        metrics = learner.update(chunk(5) if index == 0 else shifted(index), Progress(0, 8 * (index + 1), 100, 8))
        found.append(metrics["learner/updates"])
    assert found == [int(0.75 * 4), int(0.75 * 12), int(0.75 * 20)]


def shifted(index: int) -> Workspace:
    """The chunk that continues the ``index`` ones before."""
    workspace = chunk(5)
    first = chunk(4 * index + 1 + 4)["env/env_obs"][4 * index :]
    workspace.set_full("env/env_obs", first)
    return workspace


def test_the_target_network_is_copied_after_every_period_of_environment_steps() -> None:
    learner = DQN(a_policy(), learning_starts=0, updates_per_step=0.5, target_rate=None, target_period=16)
    before = [parameter.clone() for parameter in learner.target_network.parameters()]
    learner.update(chunk(8), Progress(0, 14, 100, 14))
    assert all(map(torch.equal, before, learner.target_network.parameters()))
    assert not all(map(torch.equal, before, learner.policy.network.parameters()))
    learner.update(continued(), Progress(0, 16, 100, 2))
    assert all(map(torch.equal, learner.target_network.parameters(), learner.policy.network.parameters()))


def continued() -> Workspace:
    workspace = chunk(2)
    workspace.set_full("env/env_obs", chunk(9)["env/env_obs"][7:])
    return workspace


def test_a_moving_average_lies_between() -> None:
    learner = DQN(a_policy(), learning_starts=0, updates_per_step=0.125, target_rate=0.25)
    old = [parameter.clone() for parameter in learner.target_network.parameters()]
    learner.update(chunk(5), Progress(0, 8, 100, 8))
    for before, now, online in zip(
        old, learner.target_network.parameters(), learner.policy.network.parameters(), strict=True
    ):
        torch.testing.assert_close(now, before + 0.25 * (online - before))


def test_epsilon_is_that_of_the_next_chunk_and_the_learning_rate_that_of_this_one() -> None:
    policy = a_policy()
    learner = DQN(policy, learning_starts=0, learning_rate=0.1, anneal_learning_rate=True, exploration_fraction=0.5)
    metrics = learner.update(chunk(6), Progress(0, 10, 40, 5))
    assert metrics["learner/epsilon"] == pytest.approx(1.0 - 0.5 * 0.95)
    assert float(policy.exploration.epsilon) == pytest.approx(1.0 - 0.5 * 0.95)
    assert metrics["learner/learning_rate"] == pytest.approx(0.1 * 35 / 40)


def test_without_exploration_the_first_chunk_has_the_final_epsilon() -> None:
    policy = a_policy()
    DQN(policy, exploration_fraction=0.0, initial_epsilon=1.0, final_epsilon=0.1)
    assert float(policy.exploration.epsilon) == pytest.approx(0.1)


def test_state_is_complete() -> None:
    first, second = DQN(a_policy(), learning_starts=0), DQN(a_policy(seed=5), learning_starts=0)
    first.update(chunk(5), Progress(0, 8, 100, 8))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    hand_over_rows(first, second)
    for learner in (first, second):
        learner.update(shifted(1), Progress(0, 16, 100, 8))
    assert all(map(torch.equal, first.policy.parameters(), second.policy.parameters()))
    assert all(map(torch.equal, first.target_network.parameters(), second.target_network.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_period": 10}, "one of them"),
        ({"target_rate": None}, "one of them"),
        ({"priority_exponent": 0.5}, r"priority_exponent=0\.5: has no effect with prioritised=false"),
        ({"importance_exponent": 0.5}, r"importance_exponent=0\.5: has no effect with prioritised=false"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DQN(a_policy(), **options)


def test_a_squared_loss_of_a_distribution_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no effect on distribution='quantile'"):
        DQN(a_policy(distribution="quantile"), loss="squared")
