"""BBRL's distributions, against those of torch."""

from __future__ import annotations

import pytest
import torch
from bbrl.utils import distributions
from bbrl.utils.gymnasium.distributions import SquashedDiagGaussianDistribution, kl_divergence, make_proba_distribution
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch.distributions import Categorical, Independent, Normal, TanhTransform, TransformedDistribution

from bbrl_exp.errors import ConfigurationError

MEAN, LOG_STD = torch.tensor([[0.5, -1.0], [3.0, 0.0]]), torch.tensor([[-1.0, 0.2], [0.0, -2.0]])


def test_squashed_densities_are_those_of_torch() -> None:
    base = Independent(Normal(MEAN, LOG_STD.exp()), 1)
    reference = TransformedDistribution(base, TanhTransform(cache_size=1))
    distribution = SquashedDiagGaussianDistribution(2)
    torch.manual_seed(0)
    actions, log_prob = distribution.log_prob_from_params(MEAN, LOG_STD)
    slopes = reference.transforms[0].log_abs_det_jacobian(distribution.gaussian_actions, actions)
    assert torch.allclose(log_prob, base.log_prob(distribution.gaussian_actions) - slopes.sum(1), atol=1e-5)
    assert torch.equal(distribution.mode(), MEAN.tanh())
    assert distribution.entropy() is None
    assert distribution.get_actions(deterministic=True).abs().max() < 1
    inner = torch.tensor([[0.3, -0.4], [0.9, 0.1]])
    assert torch.allclose(distribution.log_prob(inner), reference.log_prob(inner), atol=1e-4)
    assert distribution.log_prob(torch.tensor([[1.0, -1.0], [1.0, 1.0]])).isfinite().all()


def test_a_distribution_is_made_of_means_and_log_standard_deviations() -> None:
    inner = torch.tensor([[0.3, -0.4], [0.9, 0.1]])
    for log_std in (LOG_STD, torch.tensor([-1.0, 0.2])):
        made = distributions.SquashedDiagGaussianDistribution(2).make_distribution(MEAN, log_std=log_std)
        expected = TransformedDistribution(Independent(Normal(MEAN, log_std.exp()), 1), TanhTransform())
        assert torch.allclose(made.log_prob(inner), expected.log_prob(inner), atol=1e-4)


def test_gaussian_networks_and_gradients() -> None:
    distribution = distributions.DiagGaussianDistribution(2)
    layer, log_std = distribution.proba_distribution_net(5, log_std_init=-0.5)
    assert (layer.out_features, log_std.tolist()) == (2, [-0.5, -0.5])
    actions = distribution.actions_from_params(MEAN.clone().requires_grad_(), log_std)
    assert actions.requires_grad
    expected = Independent(Normal(MEAN, log_std.exp()), 1)
    assert torch.allclose(distribution.log_prob(actions), expected.log_prob(actions))
    assert torch.allclose(distribution.entropy(), expected.entropy())
    assert torch.equal(distribution.mode(), MEAN)


def test_categorical_multi_categorical_and_bernoulli() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5]])
    one = distributions.CategoricalDistribution(5).proba_distribution(logits)
    assert one.mode().tolist() == [2]
    assert torch.allclose(one.log_prob(torch.tensor([1])), Categorical(logits=logits).log_prob(torch.tensor([1])))
    several = distributions.MultiCategoricalDistribution([3, 2]).proba_distribution(logits)
    assert several.mode().tolist() == [[2, 1]]
    assert several.sample().shape == (1, 2)
    parts = Categorical(logits=logits[:, :3]), Categorical(logits=logits[:, 3:])
    assert torch.allclose(several.entropy(), parts[0].entropy() + parts[1].entropy())
    bits = distributions.BernoulliDistribution(5).proba_distribution(logits)
    assert bits.mode().tolist() == [[0, 1, 1, 0, 1]]
    assert bits.log_prob(bits.sample()).shape == (1,)
    assert one.proba_distribution_net(4).out_features == 5
    other = distributions.MultiCategoricalDistribution([3, 2]).proba_distribution(-logits)
    assert kl_divergence(several, several).item() == pytest.approx(0)
    assert kl_divergence(several, other).item() > 0.1


def test_a_space_has_its_distribution() -> None:
    kinds = {
        "DiagGaussianDistribution": Box(-1, 1, (3,)),
        "CategoricalDistribution": Discrete(4),
        "MultiCategoricalDistribution": MultiDiscrete([2, 3]),
        "BernoulliDistribution": MultiBinary(4),
    }
    assert {type(make_proba_distribution(space)).__name__ for space in kinds.values()} == set(kinds)
    assert [distributions.get_action_dim(space) for space in kinds.values()] == [3, 1, 2, 4]
    with pytest.raises(ConfigurationError, match=r"use_sde=True: not supported; use correlated noise"):
        make_proba_distribution(Discrete(2), use_sde=True)


def test_the_bijector_is_finite_at_its_ends() -> None:
    bijector = distributions.TanhBijector()
    x = torch.tensor([-20.0, 0.5, 20.0])
    assert bijector.inverse(bijector.forward(x))[1].item() == pytest.approx(0.5)
    assert bijector.inverse(torch.tensor([1.0, -1.0])).isfinite().all()
    assert bijector.log_prob_correction(x).isfinite().all()
