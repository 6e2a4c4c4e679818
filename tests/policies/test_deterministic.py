"""The deterministic policy, and the exploration that it shares with the squashed one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from continuous import HIGH, LOW, rollout, spec_of

from bbrl_exp.envs import EnvSpec
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.policies.bounds import ActionBounds
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.exploration import Exploration


def test_the_ends_and_the_middle_of_the_unit_box_are_those_of_the_bounds() -> None:
    bounds = ActionBounds(spec_of())
    unit = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    actions = torch.tensor([[-2.0, 10.0], [0.0, 20.0], [2.0, 30.0]])
    assert torch.equal(bounds.from_unit(unit), actions)
    assert np.array_equal(bounds.from_unit_on_arrays(unit.numpy()), actions.numpy())
    assert torch.equal(bounds.to_unit(actions), unit)
    assert torch.equal(bounds.to_unit(torch.tensor([[5.0, 0.0]])), torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize(("low", "high"), [([-1.0, 1.0], [1.0, 1.0]), ([-1.0, -3e38], [1.0, 3e38])])
def test_bounds_without_a_distance_that_can_be_measured_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="a distance between them, above 0 and finite"):
        ActionBounds(spec_of(np.array(low, np.float32), np.array(high, np.float32)))


def test_evaluation_writes_the_network_s_action_without_noise() -> None:
    policy = DeterministicPolicy(spec_of(), (8,), noise_std=0.5, random_steps=100).eval()
    actions = rollout(policy, 3)
    observations = torch.sin(torch.arange(6.0).reshape(2, 3))
    torch.testing.assert_close(actions[0], policy.bounds.from_unit(policy.unit_actions([observations])))
    assert torch.equal(rollout(policy, 3), actions)


def test_arrays_and_tensors_give_the_same_actions() -> None:
    def actions(gradients: bool) -> torch.Tensor:
        return rollout(DeterministicPolicy(spec_of(), (8,), noise_std=0.3, random_steps=4), 200, gradients=gradients)

    torch.testing.assert_close(actions(True).detach(), actions(False), rtol=1e-5, atol=1e-5)


def test_actions_at_random_fill_the_box_and_end_when_there_were_enough() -> None:
    policy = DeterministicPolicy(spec_of(), (8,), noise_std=0.0, random_steps=1000)
    actions = rollout(policy, 501)
    drawn = actions[:500].flatten(0, 1)
    low, high = torch.from_numpy(LOW), torch.from_numpy(HIGH)
    assert bool(((drawn >= low) & (drawn <= high)).all())
    deviation = (high - low) / (12 * 1000) ** 0.5
    assert bool(((drawn.mean(dim=0) - 0.5 * (low + high)).abs() < 5 * deviation).all())
    torch.testing.assert_close(drawn.std(dim=0), (high - low) / 12**0.5, rtol=0.1, atol=0)
    middle = torch.from_numpy(0.5 * (LOW + HIGH))
    torch.testing.assert_close(actions[500], middle.expand(2, 2), rtol=0.05, atol=0.05)


def test_noise_has_the_standard_deviation_that_was_asked_for_and_stays_in_the_box() -> None:
    policy = DeterministicPolicy(spec_of(), (8,), noise_std=0.2)
    actions = policy.bounds.to_unit(rollout(policy, 2000).flatten(0, 1))
    torch.testing.assert_close(actions.std(dim=0), torch.full((2,), 0.2), rtol=0.1, atol=0)
    assert rollout(DeterministicPolicy(spec_of(), (8,), noise_std=5.0), 100)[..., 1].max() == 30.0


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_noise_is_standard_normal_with_the_correlation_that_was_asked_for(correlation: float) -> None:
    exploration = Exploration(1, 0, correlation, 0, None)
    noise = np.stack([exploration.normal(64) for _ in range(2000)])[..., 0]
    assert noise.std() == pytest.approx(1.0, rel=0.03)
    assert noise[0].std() == pytest.approx(1.0, rel=0.4)
    for lag in (1, 5):
        assert (noise[lag:] * noise[:-lag]).mean() == pytest.approx(correlation**lag, abs=0.03)
    assert (noise[:, 1:] * noise[:, :-1]).mean() == pytest.approx(0.0, abs=0.03)


def test_noise_depends_on_the_seed_alone() -> None:
    def actions(seed: int) -> torch.Tensor:
        return rollout(DeterministicPolicy(spec_of(), (8,), noise_std=0.3, random_steps=10, seed=seed), 20)

    assert torch.equal(actions(0), actions(0))
    assert not torch.equal(actions(0), actions(1))
    policy = DeterministicPolicy(spec_of(), (8,), noise_std=0.3)
    first = rollout(policy, 20)
    policy.seed(0)
    assert torch.equal(rollout(policy, 20), first)


def test_a_policy_that_is_taken_over_makes_its_first_actions_at_random_anew() -> None:
    policy, fresh = (DeterministicPolicy(spec_of(), (8,), noise_std=0.0, random_steps=20) for _ in range(2))
    drawn = rollout(policy, 10)
    fresh.load_state_dict(policy.state_dict())
    assert not torch.equal(drawn, rollout(policy, 10))
    assert torch.equal(drawn, rollout(fresh, 10))


def test_evaluation_draws_nothing() -> None:
    policy, watched = (DeterministicPolicy(spec_of(), (8,), noise_std=0.3, random_steps=10) for _ in range(2))
    rollout(watched.eval(), 50)
    assert torch.equal(rollout(watched.train(), 20), rollout(policy, 20))


def test_gradients_flow_to_the_policy_where_they_are_wanted() -> None:
    policy = DeterministicPolicy(spec_of(), (8,), noise_std=0.1)
    rollout(policy, 3, gradients=True).sum().backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())


def test_other_actions_than_one_bounded_box_are_refused() -> None:
    unbounded = spec_of(high=np.array([2.0, np.inf], np.float32))
    with pytest.raises(ConfigurationError, match="needs one bounded box of floats"):
        DeterministicPolicy(unbounded)
    leaf = LeafSpec("action", "discrete", (), "int64", counts=np.array(2))
    with pytest.raises(ConfigurationError, match="discrete of int64"):
        DeterministicPolicy(EnvSpec("Coins-v0", 2, spec_of().observations, (leaf,)))


@pytest.mark.parametrize("arguments", [{"noise_std": -0.1}, {"noise_correlation": 1.0}, {"random_steps": -1}])
def test_values_out_of_their_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        DeterministicPolicy(spec_of(), **arguments)  # type: ignore[arg-type]
