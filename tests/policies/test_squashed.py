"""The squashed normal policy: what it does, and how likely it says that it is."""

from __future__ import annotations

import pytest
import torch
from continuous import rollout, spec_of
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.workspace import Workspace

OBSERVATIONS = torch.sin(torch.arange(12.0).reshape(4, 3))
NOISE = torch.cos(torch.arange(8.0).reshape(4, 2))


def test_a_sample_is_the_squashed_normal_one_with_its_density() -> None:
    policy = SquashedNormalPolicy(spec_of(), (8,))
    torch.nn.init.normal_(policy.network.layers[-1].weight, generator=torch.Generator().manual_seed(0))
    mean, log_std = policy.mean_and_log_std([OBSERVATIONS])
    sample = policy.sample([OBSERVATIONS], NOISE)
    pre_tanh = mean + log_std.exp() * NOISE
    torch.testing.assert_close(sample.action, pre_tanh.tanh())
    reference = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
    torch.testing.assert_close(sample.log_prob, reference.log_prob(sample.action).sum(1), rtol=1e-3, atol=1e-3)


def test_evaluation_writes_the_squashed_mean() -> None:
    policy = SquashedNormalPolicy(spec_of(), (8,), random_steps=100).eval()
    mean, _ = policy.mean_and_log_std([torch.sin(torch.arange(6.0).reshape(2, 3))])
    torch.testing.assert_close(rollout(policy, 2)[0], policy.bounds.from_unit(mean.tanh()))


@pytest.mark.parametrize("training", [True, False])
def test_arrays_and_tensors_give_the_same_actions(training: bool) -> None:
    def actions(gradients: bool) -> torch.Tensor:
        policy = SquashedNormalPolicy(spec_of(), (8,), noise_correlation=0.5, random_steps=4).train(training)
        return rollout(policy, 200, gradients=gradients)

    torch.testing.assert_close(actions(True).detach(), actions(False), rtol=1e-5, atol=1e-5)


def test_the_standard_deviation_is_kept_within_bounds() -> None:
    policy = SquashedNormalPolicy(spec_of(), (8,))
    with torch.no_grad():
        policy.network.layers[-1].bias.copy_(torch.tensor([0.0, 0.0, 100.0, -100.0]))
    _, log_std = policy.mean_and_log_std([OBSERVATIONS])
    assert log_std.tolist() == [[2.0, -20.0]] * 4


def test_actions_stay_within_the_bounds_of_the_environment() -> None:
    policy = SquashedNormalPolicy(spec_of(), (8,))
    with torch.no_grad():
        policy.network.layers[-1].bias.copy_(torch.tensor([0.0, 0.0, 2.0, 2.0]))
    actions = rollout(policy, 200)
    assert actions[..., 0].min() >= -2.0
    assert actions[..., 0].max() <= 2.0
    assert actions[..., 1].min() >= 10.0
    assert actions[..., 1].max() <= 30.0


def test_two_environments_get_what_each_would_get_alone() -> None:
    policy = SquashedNormalPolicy(spec_of(), (8,)).eval()
    both = rollout(policy, 5, batch_size=2)
    torch.testing.assert_close(both[:, :1], rollout(policy, 5, batch_size=1))


def test_a_critic_in_the_graph_writes_the_mean_value_of_the_action_chosen() -> None:
    spec = spec_of()
    policy, critic = SquashedNormalPolicy(spec, (8,)).eval(), QEnsemble(spec, 3, (8,), n_quantiles=5)
    workspace = Workspace()
    workspace.set("env/env_obs", 0, OBSERVATIONS)
    policy(workspace, t=0)
    critic(workspace, t=0)
    unit = policy.bounds.to_unit(workspace["action"][0])
    quantiles = critic.quantiles([OBSERVATIONS], unit)
    assert quantiles.shape == (3, 4, 5)
    torch.testing.assert_close(workspace["critic/q_value"][0], quantiles.mean(dim=(0, 2)))
