"""SAC and its kin: losses by their definitions, reductions to each other, and the temperature."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from continuous_batches import (
    DISCOUNT,
    batch,
    critic,
    discrete_batch,
    discrete_spec,
    experience,
    gradients,
    noise,
    spec,
    squashed,
)

from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.crossq import CrossQ
from bbrl_exp.learners.discrete_sac import DiscreteSAC
from bbrl_exp.learners.droq import DroQ
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.temperature import Temperature
from bbrl_exp.learners.sac import SAC
from bbrl_exp.learners.tqc import TQC
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.training.checkpoint import load_fitting, policy_state


def sac(n_critics: int = 2, **options: Any) -> SAC:
    return SAC(squashed(), critic(n_critics), discount=DISCOUNT, initial_temperature=0.3, **options)


def test_the_target_of_sac_is_soft_and_takes_the_smaller_critic() -> None:
    learner, data = sac(), batch()
    following = learner.policy.sample(data.next_observations, noise())
    next_values = learner.critic.values(data.next_observations, following.action)
    values = learner.critic.values(data.observations, learner.policy.bounds.to_unit(data.actions[0]))
    expected = 0.0
    for n in range(6):
        soft = min(next_values[0, n].item(), next_values[1, n].item()) - 0.3 * following.log_prob[n].item()
        target = data.rewards[n].item() + (0.0 if n in (2, 5) else 0.9 * soft)
        expected += sum(0.5 * (values[i, n].item() - target) ** 2 for i in range(2)) / 6
    assert learner.critic_loss(data, noise())[0].item() == pytest.approx(expected, rel=1e-4)


def test_the_policy_of_sac_minimises_log_densities_minus_the_smaller_value() -> None:
    learner, data = sac(), batch()
    drawn = learner.policy.sample(data.observations, noise())
    smaller = learner.critic.values(data.observations, drawn.action).min(dim=0).values
    loss, log_probs = learner.policy_loss(data, noise())
    torch.testing.assert_close(loss, (0.3 * drawn.log_prob - smaller).mean())
    torch.testing.assert_close(log_probs, drawn.log_prob.detach())


def test_without_temperature_sac_s_policy_maximises_the_value_alone() -> None:
    learner = SAC(squashed(), critic(1), initial_temperature=1e-12, temperature_learning_rate=None)
    drawn = learner.policy.sample(batch().observations, noise())
    value = learner.critic.values(batch().observations, drawn.action).mean()
    torch.testing.assert_close(learner.policy_loss(batch(), noise())[0], -value)


def test_no_gradient_of_the_critics_loss_reaches_policy_or_temperature() -> None:
    for learner in (sac(), tqc(critic(2, n_quantiles=3)), crossq(), droq()):
        learner.critic_loss(batch(), noise())[0].backward()
        assert all(p.grad is None for p in learner.policy.parameters())
        assert learner.temperature.logarithm.grad is None
        assert all(p.grad is not None for p in learner.critic.parameters())


@pytest.mark.parametrize("make", [lambda: sac(), lambda: tqc(critic(2, n_quantiles=3)), lambda: droq()])
def test_the_loss_of_two_batches_together_is_the_mean_of_each_alone(make) -> None:
    learner = make()

    def losses(first: int, n: int) -> torch.Tensor:
        data, drawn = batch(first, n), noise(first, n)
        return torch.stack([learner.critic_loss(data, drawn)[0], learner.policy_loss(data, drawn)[0]]).detach()

    torch.testing.assert_close(losses(0, 8), 0.5 * (losses(0, 4) + losses(4, 4)))


# Temperature


@pytest.mark.parametrize(("entropy", "rises"), [(-3.0, True), (1.0, False)])
def test_the_temperature_rises_where_the_entropy_is_below_its_target_and_falls_above(
    entropy: float, rises: bool
) -> None:
    temperature = Temperature(0.5, 1e-2, target_entropy=-2.0)
    temperature.adapt(torch.full((4,), -entropy))
    assert (temperature.value.item() > 0.5) == rises


def test_the_temperature_s_gradient_is_the_missing_entropy() -> None:
    temperature = Temperature(0.5, 1e-2, target_entropy=-2.0)
    temperature.loss(torch.tensor([1.0, 2.0])).backward()
    assert temperature.logarithm.grad.item() == pytest.approx(-(1.5 - 2.0))


def test_a_fixed_temperature_is_that_of_the_configuration_whatever_another_run_had() -> None:
    other = SAC(squashed(), critic(), initial_temperature=0.5)
    learner = SAC(squashed(), critic(), initial_temperature=0.02, temperature_learning_rate=None)
    load_fitting(learner, learner.policy, policy_state(other.policy, other))
    assert learner.temperature.value.item() == pytest.approx(0.02)


def test_a_temperature_without_learning_rate_stays() -> None:
    temperature = Temperature(0.5, None, target_entropy=-2.0)
    temperature.adapt(torch.zeros(4))
    assert temperature.value.item() == pytest.approx(0.5)
    assert not temperature.logarithm.requires_grad


def test_a_schedule_may_lead_the_temperature_to_0() -> None:
    temperature = Temperature(0.5, None, target_entropy=-2.0)
    temperature.follow(0.0, None, -2.0)
    assert temperature.value.item() == pytest.approx(0.0, abs=1e-20)
    assert temperature.logarithm.isfinite()


def test_the_entropy_that_is_wanted_is_minus_the_number_of_components() -> None:
    learner = sac()
    learner.temperature.adapt(torch.full((4,), 2.0 + 1e-3))
    assert learner.temperature.value.item() > 0.3
    learner = sac()
    learner.temperature.adapt(torch.full((4,), 2.0 - 1e-3))
    assert learner.temperature.value.item() < 0.3


def alpha_after_an_update(learner: Any, output: list[float]) -> float:
    """With a policy whose network says ``output`` everywhere."""
    last = learner.policy.network.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(output))
    learner.update(experience(discrete=isinstance(learner, DiscreteSAC)), Progress(0, 4, 100, 4))
    return float(learner.temperature.value)


ONE_UPDATE: dict[str, Any] = {
    "batch_size": 16,
    "learning_starts": 3,
    "updates_per_step": 1.0,
    "initial_temperature": 0.3,
    "temperature_learning_rate": 0.01,
}


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: SAC(squashed(), critic(), **options),
        lambda **options: TQC(squashed(), critic(2, n_quantiles=3), **options),
        lambda **options: DroQ(squashed(), critic(), policy_delay=1, **options),
        lambda **options: CrossQ(squashed(), critic(normalization="batch"), policy_delay=1, **options),
    ],
    ids=["SAC", "TQC", "DroQ", "CrossQ"],
)
def test_an_update_lowers_the_temperature_of_a_wide_policy_and_raises_that_of_a_narrow_one(make: Any) -> None:
    # With these deviations actions are all but uniform, 2 log 2 nats, or all but one and the same.
    wide, narrow = [0.0, 0.0, -0.2, -0.2], [0.0, 0.0, -5.0, -5.0]
    options = {**ONE_UPDATE, "target_entropy": 0.0}
    assert alpha_after_an_update(make(**options), wide) == pytest.approx(0.3 * math.exp(-0.01))
    assert alpha_after_an_update(make(**options), narrow) == pytest.approx(0.3 * math.exp(0.01))


def test_an_update_of_discrete_sac_lowers_the_temperature_of_an_even_policy_and_raises_that_of_a_sure_one() -> None:
    def learner() -> DiscreteSAC:
        return DiscreteSAC(
            StochasticPolicy(discrete_spec(), (8,)), DiscreteQEnsemble(discrete_spec(), 2, (8,)), **ONE_UPDATE
        )

    assert alpha_after_an_update(learner(), [0.0, 0.0, 0.0]) == pytest.approx(0.3 * math.exp(-0.01))
    assert alpha_after_an_update(learner(), [30.0, 0.0, 0.0]) == pytest.approx(0.3 * math.exp(0.01))


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="target_entropy=-1"):
        sac(temperature_learning_rate=None, target_entropy=-1.0)
    with pytest.raises(ConfigurationError, match="dropped_quantiles=3"):
        TQC(squashed(), critic(2, n_quantiles=3), dropped_quantiles=3)
    with pytest.raises(ConfigurationError, match="needs 'batch'"):
        CrossQ(squashed(), critic())


# TQC


def tqc(of_quantiles, dropped: int = 0) -> TQC:
    return TQC(squashed(), of_quantiles, dropped_quantiles=dropped, discount=DISCOUNT, initial_temperature=0.3)


def test_tqc_with_one_quantile_of_one_critic_is_sac_with_half_a_huber_loss() -> None:
    learner, reference = tqc(critic(1, n_quantiles=1)), sac(1)
    data = batch()
    data = Batch(**{**vars(data), "rewards": 1e-3 * data.rewards})
    for model in (learner, reference):
        with torch.no_grad():
            for weight in (*model.critic.network.weights, *model.target_critic.network.weights):
                weight.mul_(0.05)
    loss, values = learner.critic_loss(data, noise())
    errors_are_small = values.abs().max() < 0.5
    assert errors_are_small
    torch.testing.assert_close(loss, 0.5 * reference.critic_loss(data, noise())[0])
    torch.testing.assert_close(learner.policy_loss(data, noise())[0], reference.policy_loss(data, noise())[0])


def test_tqc_leaves_out_the_largest_of_all_quantiles_together() -> None:
    learner, data = tqc(critic(2, n_quantiles=3), dropped=1), batch(n=1)
    following = learner.policy.sample(data.next_observations, noise(n=1))
    pooled = sorted(learner.critic.quantiles(data.next_observations, following.action).flatten().tolist())
    targets = [data.rewards.item() + 0.9 * (z - 0.3 * following.log_prob.item()) for z in pooled[:4]]
    quantiles = learner.critic.quantiles(data.observations, learner.policy.bounds.to_unit(data.actions[0]))
    expected = 0.0
    for of_one in quantiles[:, 0].tolist():
        for level, quantile in zip((1 / 6, 3 / 6, 5 / 6), of_one, strict=True):
            for target in targets:
                error = target - quantile
                huber = 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5
                expected += abs(level - (error < 0)) * huber / 4
    assert learner.critic_loss(data, noise(n=1))[0].item() == pytest.approx(expected, rel=1e-4)


def test_tqc_drops_nothing_where_nothing_is_to_be_dropped() -> None:
    wide, narrow = tqc(critic(2, n_quantiles=3), 0), tqc(critic(2, n_quantiles=3), 2)
    assert wide.critic_loss(batch(), noise())[0] != narrow.critic_loss(batch(), noise())[0]


# DroQ and CrossQ


def droq(dropout: float = 0.0, normalization: str = "none") -> DroQ:
    return DroQ(
        squashed(), critic(2, dropout=dropout, normalization=normalization), discount=DISCOUNT, initial_temperature=0.3
    )


def test_droq_without_dropout_has_the_critics_of_sac() -> None:
    torch.testing.assert_close(droq().critic_loss(batch(), noise())[0], sac().critic_loss(batch(), noise())[0])


def test_the_policy_of_droq_follows_the_mean_of_the_critics() -> None:
    learner = droq(normalization="layer")
    drawn = learner.policy.sample(batch().observations, noise())
    values = learner.critic.values(batch().observations, drawn.action).mean(dim=0)
    torch.testing.assert_close(learner.policy_loss(batch(), noise())[0], (0.3 * drawn.log_prob - values).mean())


def test_dropout_changes_the_loss_from_call_to_call_and_repeats_with_the_seed() -> None:
    first, second = droq(0.5), droq(0.5)
    losses = [first.critic_loss(batch(), noise())[0].item() for _ in range(2)]
    assert losses[0] != losses[1]
    assert losses == [second.critic_loss(batch(), noise())[0].item() for _ in range(2)]


@pytest.mark.parametrize("in_target", [True, False])
def test_dropout_is_in_the_target_and_in_the_values_of_the_actions_taken(in_target: bool) -> None:
    learner = droq(0.5)
    # A critic that says 0 whichever units are silent leaves the dropout of the other one.
    constant = learner.critic if in_target else learner.target_critic
    with torch.no_grad():
        constant.network.weights[-1].zero_()
    losses = [learner.critic_loss(batch(), noise())[0].item() for _ in range(2)]
    assert losses[0] != losses[1]


def crossq() -> CrossQ:
    return CrossQ(squashed(), critic(2, normalization="batch"), discount=DISCOUNT, initial_temperature=0.3)


def test_crossq_has_no_target_network_and_no_gradient_through_the_next_values() -> None:
    learner, data = crossq(), batch()
    assert not any("target" in name for name in learner.state_dict())
    reference = copy.deepcopy(learner)
    reference.critic.train()
    following = reference.policy.sample(data.next_observations, noise())
    ends = [torch.cat((data.observations[0], data.next_observations[0]))]
    actions = torch.cat((reference.policy.bounds.to_unit(data.actions[0]), following.action.detach()))
    values, next_values = reference.critic.values(ends, actions).split(6, dim=1)
    soft = (next_values.min(dim=0).values - 0.3 * following.log_prob).detach()
    target = data.rewards + 0.9 * soft * ~data.terminated
    expected = 0.5 * ((values - target) ** 2).mean(dim=1).sum()
    expected.backward()
    loss, _ = learner.critic_loss(data, noise())
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(learner), gradients(reference), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_policy_s_loss_of_crossq_leaves_the_statistics_alone() -> None:
    learner = crossq()
    learner.critic_loss(batch(), noise())
    before = copy.deepcopy(learner.critic.state_dict())
    learner.policy_loss(batch(), noise())
    assert all(torch.equal(before[name], value) for name, value in learner.critic.state_dict().items())


def test_crossq_forgets_half_of_the_first_moment_at_every_step_unless_told_otherwise() -> None:
    for options, expected in (({}, 0.5), ({"first_moment_decay": 0.75}, 0.75)):
        learner = CrossQ(squashed(), critic(2, normalization="batch"), **options)
        for optimizer in (learner._policy_optimizer, learner._critic_optimizer):
            assert optimizer.param_groups[0]["betas"] == (expected, 0.999)


# Discrete actions


def test_the_losses_of_discrete_sac_are_expectations_over_the_policy() -> None:
    policy = StochasticPolicy(discrete_spec(), (8,), seed=1)
    torch.nn.init.normal_(policy.network.layers[-1].weight, generator=torch.Generator().manual_seed(1))
    learner = DiscreteSAC(
        policy, DiscreteQEnsemble(discrete_spec(), 2, (8,), seed=2), discount=DISCOUNT, initial_temperature=0.3
    )
    data = discrete_batch()
    probabilities = policy.network(data.next_observations[0]).softmax(1).tolist()
    now = policy.network(data.observations[0]).softmax(1).tolist()
    next_values, values = learner.critic.values(data.next_observations), learner.critic.values(data.observations)
    critic_loss = policy_loss = entropy = 0.0
    for n, action in enumerate([0, 1, 2, 2, 0, 1]):
        soft = sum(p * (min(next_values[:, n, a].tolist()) - 0.3 * math.log(p)) for a, p in enumerate(probabilities[n]))
        target = data.rewards[n].item() + (0.0 if n in (2, 5) else 0.9 * soft)
        critic_loss += sum(0.5 * (q - target) ** 2 / 6 for q in values[:, n, action].tolist())
        policy_loss += sum(p * (0.3 * math.log(p) - min(values[:, n, a].tolist())) / 6 for a, p in enumerate(now[n]))
        entropy += sum(-p * math.log(p) / 6 for p in now[n])
    assert learner.critic_loss(data)[0].item() == pytest.approx(critic_loss, rel=1e-4)
    loss, entropies = learner.policy_loss(data)
    assert loss.item() == pytest.approx(policy_loss, rel=1e-4)
    assert entropies.mean().item() == pytest.approx(entropy, rel=1e-4)


def test_discrete_sac_learns_from_actions_of_any_integers() -> None:
    policy = StochasticPolicy(discrete_spec(), (8,), seed=1)
    learner = DiscreteSAC(policy, DiscreteQEnsemble(discrete_spec(), 2, (8,), seed=2))
    data = discrete_batch()
    bytes_ = Batch(**{**vars(data), "actions": (data.actions[0].to(torch.uint8),)})
    assert torch.equal(learner.critic_loss(bytes_)[0], learner.critic_loss(data)[0])


def test_discrete_critics_refuse_other_actions() -> None:
    with pytest.raises(ConfigurationError, match="need one discrete action"):
        DiscreteQEnsemble(spec())
