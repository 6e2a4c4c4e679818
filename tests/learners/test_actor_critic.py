"""A2C and PPO: reductions of one to the other, options that do what they say, state that is complete."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from typing import Any

import pytest
import torch
from chunks import env_spec_of, recorded_chunk, whole
from torch import Tensor, nn

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.a2c import A2C
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.options import AdvantageOptions
from bbrl_exp.learners.parts.samples import Samples, collect_samples
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import SharedTrunkCritic, ValueCritic
from bbrl_exp.workspace import Workspace

ENV = {"discrete": "CartPole-v1", "continuous": "Pendulum-v1"}
KINDS = pytest.mark.parametrize("kind", ["discrete", "continuous"])


class Setting:
    """A policy, a critic and a chunk that the policy played in B environments."""

    def __init__(self, kind: str = "discrete", batch_size: int = 3, steps: int = 20) -> None:
        spec = env_spec_of(ENV[kind], batch_size)
        self.policy = StochasticPolicy(spec, hidden_sizes=[8])
        self.critic = ValueCritic(spec, hidden_sizes=[8])
        self.chunk = recorded_chunk(ENV[kind], batch_size, steps, self.policy)

    def samples(self, workspace: Workspace | None = None) -> Samples:
        chunk = self.chunk if workspace is None else workspace
        return collect_samples(
            chunk,
            whole(chunk),
            self.policy,
            self.critic,
            BehaviourLogProbs(),
            AdvantageOptions(discount=0.99, trace_decay=0.95),
        )

    def gradients(self, loss: Tensor) -> list[Tensor]:
        parameters = [*self.policy.parameters(), *self.critic.parameters()]
        return list(torch.autograd.grad(loss, parameters, materialize_grads=True))

    def parameters(self) -> list[Tensor]:
        return [value.detach().clone() for value in [*self.policy.parameters(), *self.critic.parameters()]]


def largest_difference(first: list[Tensor], second: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


@KINDS
@pytest.mark.parametrize("objective", ["clip", "kl"])
def test_the_first_gradient_of_ppo_is_that_of_a2c(kind: str, objective: Any) -> None:
    setting = Setting(kind)
    samples = setting.samples()
    options = {"entropy_weight": 0.02, "value_weight": 0.3}
    ppo = PPO(setting.policy, setting.critic, objective=objective, normalize_advantages=False, **options)
    a2c = A2C(setting.policy, setting.critic, **options)
    expected = setting.gradients(a2c.loss(samples).total)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3
    for ours, theirs in zip(setting.gradients(ppo.loss(samples).total), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@KINDS
def test_one_epoch_of_one_minibatch_is_the_step_of_a2c(kind: str) -> None:
    first, second = Setting(kind), Setting(kind)
    options = {"learning_rate": 1e-2, "trace_decay": 0.9, "discount": 0.9}
    ppo = PPO(first.policy, first.critic, n_epochs=1, n_minibatches=1, normalize_advantages=False, **options)
    a2c = A2C(second.policy, second.critic, optimizer="adam", **options)
    before = first.parameters()
    ppo.update(first.chunk, whole(first.chunk))
    a2c.update(second.chunk, whole(second.chunk))
    assert largest_difference(first.parameters(), before) > 1e-3
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("make", [A2C, lambda *parts: PPO(*parts, normalize_advantages=False)])
def test_the_gradient_of_two_environments_is_the_mean_of_each_alone(make: Any) -> None:
    setting = Setting("continuous", batch_size=2)
    learner = make(setting.policy, setting.critic)
    together = setting.gradients(learner.loss(setting.samples()).total)
    alone = [
        setting.gradients(learner.loss(setting.samples(setting.chunk.select_batch(torch.tensor([b])))).total)
        for b in range(2)
    ]
    for mean, *each in zip(together, *alone, strict=True):
        torch.testing.assert_close(mean, sum(each) / 2, rtol=1e-4, atol=1e-6)


@KINDS
@pytest.mark.parametrize(
    "make",
    [A2C, PPO, lambda *parts, **options: PPO(*parts, objective="kl", **options)],
    ids=["a2c", "ppo with clip", "ppo with kl"],
)
def test_where_no_action_is_better_than_another_the_entropy_goes_up(kind: str, make: Any) -> None:
    setting = Setting(kind)
    nn.init.normal_(setting.policy.network.layers[-1].weight)
    samples = setting.samples()
    flat = dataclasses.replace(samples, advantages=torch.zeros_like(samples.advantages))
    expected = setting.gradients(-0.3 * setting.policy.distribution(flat.observations).entropy().mean())
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-2
    learner = make(setting.policy, setting.critic, entropy_weight=0.3, value_weight=0.0)
    assert largest_difference(setting.gradients(learner.loss(flat).total), expected) < 1e-6


def test_a_ratio_beyond_the_clip_range_has_no_gradient() -> None:
    setting = Setting()
    samples = setting.samples()
    moved = Samples(
        samples.observations,
        samples.actions,
        samples.log_probs - 1.0,  # the ratio is e now, far above 1.2
        samples.values,
        samples.advantages.abs() + 1.0,
        samples.returns,
    )
    ppo = PPO(setting.policy, setting.critic, normalize_advantages=False)
    loss = ppo.loss(moved)
    assert not any(map(torch.any, torch.autograd.grad(loss.policy, list(setting.policy.parameters()))))
    assert float(loss.policy.detach()) == pytest.approx(-1.2 * float(moved.advantages.mean()), rel=1e-5)


def test_the_value_clip_range_holds_values_near_what_they_were() -> None:
    setting = Setting()
    samples = setting.samples()

    def value_loss(old_value: float, target: float, clip_range: float | None) -> float:
        held = Samples(
            samples.observations,
            samples.actions,
            samples.log_probs,
            samples.values + old_value,
            samples.advantages,
            samples.values + target,
        )
        ppo = PPO(setting.policy, setting.critic, value_clip_range=clip_range)
        return float(ppo.loss(held).value.detach())

    # The critic still says what it said, V; had it said V - 3, it may have come to V - 3 + 0.1 at most.
    assert value_loss(old_value=-3.0, target=1.0, clip_range=None) == pytest.approx(0.5 * 1.0**2, rel=1e-4)
    assert value_loss(old_value=-3.0, target=1.0, clip_range=0.1) == pytest.approx(0.5 * 3.9**2, rel=1e-4)
    assert value_loss(old_value=-3.0, target=-5.0, clip_range=0.1) == pytest.approx(0.5 * 5.0**2, rel=1e-4)


def test_the_divergence_weight_doubles_and_halves_around_its_target() -> None:
    setting = Setting()
    wild = PPO(setting.policy, setting.critic, objective="kl", learning_rate=0.1, kl_target=1e-6)
    assert wild.update(setting.chunk, whole(setting.chunk))["learner/kl_weight"] == 2.0
    setting = Setting()
    tame = PPO(setting.policy, setting.critic, objective="kl", learning_rate=1e-6, kl_target=1.0)
    assert tame.update(setting.chunk, whole(setting.chunk))["learner/kl_weight"] == 0.5


@pytest.mark.parametrize(("learning_rate", "kl_weight"), [(0.5, 1e6), (1e-9, 1e-6)])
def test_the_weight_of_the_divergence_has_bounds(learning_rate: float, kl_weight: float) -> None:
    setting = Setting()
    ppo = PPO(setting.policy, setting.critic, objective="kl", learning_rate=learning_rate, kl_weight=kl_weight)
    assert ppo.update(setting.chunk, whole(setting.chunk))["learner/kl_weight"] == kl_weight


def test_an_update_ends_at_the_target_divergence() -> None:
    first, second = Setting(), Setting()
    options = {"learning_rate": 0.05, "n_minibatches": 1}
    PPO(first.policy, first.critic, n_epochs=50, target_kl=1e-7, **options).update(first.chunk, whole(first.chunk))
    PPO(second.policy, second.critic, n_epochs=1, **options).update(second.chunk, whole(second.chunk))
    assert largest_difference(first.parameters(), second.parameters()) == 0.0


@pytest.mark.parametrize("make", [A2C, PPO])
def test_an_annealed_learning_rate_falls_linearly_and_the_last_update_counts(make: Any) -> None:
    setting = Setting()
    learner = make(setting.policy, setting.critic, learning_rate=0.1, anneal_learning_rate=True)
    rates = []
    for env_steps in (25, 50, 75, 100):
        before = setting.parameters()
        rates.append(learner.update(setting.chunk, Progress(0, env_steps, 100, 25))["learner/learning_rate"])
        assert largest_difference(setting.parameters(), before) > 0.0
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


@pytest.mark.parametrize("make", [A2C, PPO])
def test_metrics_are_numbers_without_gradients(make: Any) -> None:
    setting = Setting()
    metrics = make(setting.policy, setting.critic).update(setting.chunk, whole(setting.chunk))
    assert {"losses/policy", "losses/value", "learner/entropy", "learner/explained_variance"} <= metrics.keys()
    for value in metrics.values():
        assert not (isinstance(value, Tensor) and value.requires_grad)
        assert torch.isfinite(torch.tensor(float(value)))


@pytest.mark.parametrize("make", [A2C, PPO])
def test_learning_goes_on_to_the_bit_from_a_saved_state(make: Any) -> None:
    straight, resumed = Setting(), Setting()
    first: Learner = make(straight.policy, straight.critic)
    first.update(straight.chunk, whole(straight.chunk))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second: Learner = make(resumed.policy, resumed.critic)
    second.load_state_dict(torch.load(file, weights_only=True))
    first.update(straight.chunk, whole(straight.chunk))
    second.update(straight.chunk, whole(straight.chunk))
    assert largest_difference(straight.parameters(), resumed.parameters()) == 0.0


def test_minibatches_depend_on_the_seed_alone() -> None:
    outcomes = []
    for seed in (0, 0, 1):
        setting = Setting()
        PPO(setting.policy, setting.critic, seed=seed).update(setting.chunk, whole(setting.chunk))
        outcomes.append(setting.parameters())
    assert largest_difference(outcomes[0], outcomes[1]) == 0.0
    assert largest_difference(outcomes[0], outcomes[2]) > 0.0


def test_a_shared_trunk_learns_from_both_losses() -> None:
    setting = Setting()
    critic = SharedTrunkCritic(setting.policy)
    ppo = PPO(setting.policy, critic)
    trunk = setting.policy.network.layers[0].weight
    loss = ppo.loss(setting.samples())
    for part in (loss.policy, loss.value):
        (gradient,) = torch.autograd.grad(part, [trunk], retain_graph=True)
        assert gradient.abs().max() > 0
    before = copy.deepcopy(critic.output.state_dict())
    ppo.update(setting.chunk, whole(setting.chunk))
    assert not torch.equal(critic.output.weight, before["weight"])


def test_a_chunk_without_a_transition_teaches_nothing() -> None:
    setting = Setting(batch_size=1)
    setting.chunk.set_full("env/done", torch.ones_like(setting.chunk["env/done"]))
    for learner in (A2C(setting.policy, setting.critic), PPO(setting.policy, setting.critic)):
        assert learner.update(setting.chunk, whole(setting.chunk)) == {}


@pytest.mark.parametrize(("objective", "name"), [("clip", "kl_weight"), ("clip", "kl_target"), ("kl", "clip_range")])
def test_an_option_of_the_other_objective_is_refused(objective: Any, name: str) -> None:
    setting = Setting()
    with pytest.raises(ConfigurationError, match=rf"^{name}=0\.1: has no effect with objective='{objective}'"):
        PPO(setting.policy, setting.critic, objective=objective, **{name: 0.1})


def test_an_unknown_optimizer_is_refused() -> None:
    setting = Setting()
    with pytest.raises(ConfigurationError, match=r"^optimizer='sgd': must be one of rmsprop, adam"):
        A2C(setting.policy, setting.critic, optimizer="sgd")  # type: ignore[arg-type]


def test_each_objective_tells_of_its_own_option() -> None:
    for objective, told, left_out in (("clip", "clip_fraction", "kl_weight"), ("kl", "kl_weight", "clip_fraction")):
        setting = Setting()
        ppo = PPO(setting.policy, setting.critic, objective=objective)  # type: ignore[arg-type]
        metrics = ppo.update(setting.chunk, whole(setting.chunk))
        assert f"learner/{told}" in metrics
        assert f"learner/{left_out}" not in metrics


def test_a_policy_is_a_module_of_its_learner() -> None:
    setting = Setting()
    assert any(module is setting.policy for module in A2C(setting.policy, setting.critic).modules())
    assert isinstance(A2C(setting.policy, setting.critic), nn.Module)


@pytest.mark.parametrize("make", [A2C, PPO])
def test_a_critic_that_sees_something_else_than_the_policy_is_refused(make: Any) -> None:
    setting = Setting()
    critic = ValueCritic(env_spec_of("CartPole-v1", 3), observation_prefix="normalized/")
    with pytest.raises(ConfigurationError, match="critic: reads normalized/env/env_obs, and the policy env/env_obs"):
        make(setting.policy, critic)


def test_a2c_weighs_an_action_of_an_earlier_policy_by_the_truncated_ratio() -> None:
    setting = Setting()
    samples = setting.samples()
    shift = torch.where(torch.arange(len(samples)) % 2 == 0, 0.5, -0.5)  # likelier then, or now
    earlier = dataclasses.replace(samples, log_probs=samples.log_probs + shift)
    weights = torch.where(shift > 0, math.exp(-0.5), 1.0)
    log_probs = setting.policy.distribution(samples.observations).log_prob(samples.actions)
    expected = setting.gradients(-(weights * samples.advantages * log_probs).mean())
    learner = A2C(setting.policy, setting.critic, value_weight=0.0)
    found = setting.gradients(learner.loss(earlier).policy)
    assert largest_difference(found, expected) < 1e-6
    assert largest_difference(setting.gradients(learner.loss(samples).policy), expected) > 1e-3
