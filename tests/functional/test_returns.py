"""Returns and advantages against their definitions, and against each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import (
    discounted_returns,
    generalized_advantages,
    lambda_returns,
    n_step_returns,
)
from bbrl_exp.functional.shapes import ShapeError

DISCOUNT, DECAY = 0.9, 0.7


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def mask(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool)[:, None]


def recording(n_envs: int = 3, n_steps: int = 20) -> tuple[Tensor, ...]:
    """Rewards, values, next values, terminated and cut of ``n_envs`` environments that end in every way."""
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = torch.randn(3, n_steps, n_envs, dtype=torch.float64, generator=generator)
    terminated, truncated = torch.rand(2, n_steps, n_envs, generator=generator) < 0.15
    return rewards, values, next_values, terminated, terminated | truncated


def monte_carlo(rewards: Tensor, next_values: Tensor, terminated: Tensor, cut: Tensor, discount: float) -> Tensor:
    """The sum of discounted rewards, transition by transition, straight from the definition."""
    n_steps, n_envs = rewards.shape
    returns = torch.zeros_like(rewards)
    for b in range(n_envs):
        for start in range(n_steps):
            for t in range(start, n_steps):
                returns[start, b] += discount ** (t - start) * rewards[t, b]
                if terminated[t, b]:
                    break
                if cut[t, b] or t == n_steps - 1:
                    returns[start, b] += discount ** (t - start + 1) * next_values[t, b]
                    break
    return returns


def test_advantages_of_two_steps_by_hand() -> None:
    # δ = 1 + 0.9·30 - 10 = 18 and 2 + 0.9·40 - 20 = 18; A_0 = 18 + 0.9·0.7·18
    advantages = generalized_advantages(
        column(1, 2), column(10, 20), column(30, 40), mask(0, 0), mask(0, 0), DISCOUNT, DECAY
    )
    torch.testing.assert_close(advantages, column(29.34, 18))


def test_without_trace_the_advantage_is_the_td_error() -> None:
    rewards, values, next_values, terminated, cut = recording()
    td_errors = rewards + DISCOUNT * next_values * ~terminated - values
    torch.testing.assert_close(
        generalized_advantages(rewards, values, next_values, terminated, cut, DISCOUNT, 0.0), td_errors
    )


def test_with_the_full_trace_the_advantage_is_monte_carlo_minus_the_value() -> None:
    rewards, _, next_values, terminated, cut = recording()
    # Inside an episode, the state that one transition leads to is the state that the next one begins in.
    values = torch.cat((torch.full((1, 3), 5.0, dtype=torch.float64), next_values[:-1]))
    advantages = generalized_advantages(rewards, values, next_values, terminated, cut, DISCOUNT, 1.0)
    torch.testing.assert_close(advantages, monte_carlo(rewards, next_values, terminated, cut, DISCOUNT) - values)


def test_discounted_returns_are_sums_of_discounted_rewards() -> None:
    rewards, _, next_values, terminated, cut = recording()
    torch.testing.assert_close(
        discounted_returns(rewards, next_values, terminated, cut, DISCOUNT),
        monte_carlo(rewards, next_values, terminated, cut, DISCOUNT),
    )


def test_the_lambda_return_obeys_its_recursion() -> None:
    rewards, _, next_values, terminated, cut = recording()
    values = torch.cat((torch.zeros(1, 3, dtype=torch.float64), next_values[:-1]))
    returns = lambda_returns(rewards, values, next_values, terminated, cut, DISCOUNT, DECAY)
    following = torch.where(cut, next_values, torch.cat((returns[1:], next_values[-1:])))
    mixed = (1 - DECAY) * next_values + DECAY * following
    torch.testing.assert_close(returns, rewards + DISCOUNT * ~terminated * mixed)


def test_the_lambda_return_mixes_the_n_step_returns() -> None:
    n_steps = 4
    rewards, next_values = column(1, 2, 3, 4), column(10, 20, 30, 40)
    values, no = column(7, 10, 20, 30), mask(0, 0, 0, 0)
    mixed = DECAY ** (n_steps - 1) * n_step_returns(rewards, next_values, no, no, DISCOUNT, n_steps)[0]
    for n in range(1, n_steps):
        mixed = mixed + (1 - DECAY) * DECAY ** (n - 1) * n_step_returns(rewards, next_values, no, no, DISCOUNT, n)[0]
    torch.testing.assert_close(lambda_returns(rewards, values, next_values, no, no, DISCOUNT, DECAY)[0], mixed)


def test_one_step_returns_are_td_targets() -> None:
    rewards, _, next_values, terminated, cut = recording()
    torch.testing.assert_close(
        n_step_returns(rewards, next_values, terminated, cut, DISCOUNT, 1),
        rewards + DISCOUNT * next_values * ~terminated,
    )


def test_returns_of_two_steps_by_hand() -> None:
    returns = n_step_returns(
        column(1, 2, 3, 4), column(10, 20, 30, 40), mask(0, 0, 1, 0), mask(0, 0, 1, 0), DISCOUNT, 2
    )
    torch.testing.assert_close(returns, column(1 + 0.9 * 2 + 0.81 * 20, 2 + 0.9 * 3, 3, 4 + 0.9 * 40))


@pytest.mark.parametrize("n_steps", [20, 21, 1000])
def test_returns_of_as_many_steps_as_there_are_equal_the_lambda_return_with_the_full_trace(n_steps: int) -> None:
    rewards, _, next_values, terminated, cut = recording()
    values = torch.cat((torch.zeros(1, 3, dtype=torch.float64), next_values[:-1]))
    torch.testing.assert_close(
        n_step_returns(rewards, next_values, terminated, cut, DISCOUNT, n_steps),
        lambda_returns(rewards, values, next_values, terminated, cut, DISCOUNT, 1.0),
    )


def test_a_truncated_episode_is_worth_what_the_longer_one_is() -> None:
    """Reward 1 for ever is worth 1 / (1 - γ) = 10 wherever a time limit strikes."""
    for length in (1, 3, 8):
        ones, tens = torch.ones(length, 1), torch.full((length, 1), 10.0)
        no = torch.zeros(length, 1, dtype=torch.bool)
        truncated = no.clone()
        truncated[-1] = True
        torch.testing.assert_close(discounted_returns(ones, tens, no, truncated, 0.9), tens)
        torch.testing.assert_close(n_step_returns(ones, tens, no, truncated, 0.9, 3), tens)
        torch.testing.assert_close(
            generalized_advantages(ones, tens, tens, no, truncated, 0.9, 0.95),
            torch.zeros(length, 1),
            atol=1e-5,
            rtol=0,
        )


def test_a_transition_that_is_terminated_and_truncated_is_not_bootstrapped() -> None:
    terminated, cut = mask(0, 1, 0), mask(0, 1, 0)
    rewards, values = column(1, 2, 3), column(10, 20, 30)
    next_values = column(20, 1000, 40)
    # Here a truncation is nothing more: cut is true for both reasons. δ_1 = 2 - 20; δ_0 = 1 + 0.9·20 - 10 = 9
    advantages = generalized_advantages(rewards, values, next_values, terminated, cut, DISCOUNT, DECAY)
    torch.testing.assert_close(advantages, column(9 + 0.63 * -18, -18, 3 + 0.9 * 40 - 30))
    assert discounted_returns(rewards, next_values, terminated, cut, DISCOUNT)[1] == 2
    assert n_step_returns(rewards, next_values, terminated, cut, DISCOUNT, 2)[1] == 2


@pytest.mark.parametrize("terminates", [True, False])
def test_nothing_runs_across_a_reset(terminates: bool) -> None:
    """Rows after an episode's end, the pair that is no transition among them, change nothing before it."""
    terminated = mask(0, terminates, 0, 0, 0)
    cut = mask(0, 1, 1, 0, 0)
    quiet = column(1, 2, 0, 3, 4)
    loud = column(1, 2, 1e6, 1e6, 1e6)
    values, next_values = column(5, 6, 7, 8, 9), column(6, 7, 8, 9, 10)
    for function in (
        lambda rewards, following: generalized_advantages(rewards, values, following, terminated, cut, DISCOUNT, DECAY),
        lambda rewards, following: discounted_returns(rewards, following, terminated, cut, DISCOUNT),
        lambda rewards, following: n_step_returns(rewards, following, terminated, cut, DISCOUNT, 4),
    ):
        before = function(quiet, next_values)[:2]
        after = function(loud, torch.cat((next_values[:2], column(1e6, 1e6, 1e6))))[:2]
        assert torch.equal(before, after)


def test_what_terminates_is_cut_even_if_nobody_says_so() -> None:
    rewards, values, next_values, terminated, _ = recording()
    never = torch.zeros_like(terminated)
    assert torch.equal(
        generalized_advantages(rewards, values, next_values, terminated, never, DISCOUNT, DECAY),
        generalized_advantages(rewards, values, next_values, terminated, terminated, DISCOUNT, DECAY),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_environments_together_equal_each_alone_to_the_bit(dtype: torch.dtype) -> None:
    *numbers, terminated, cut = recording(n_envs=9)
    rewards, values, next_values = (tensor.to(dtype) for tensor in numbers)
    together = [
        generalized_advantages(rewards, values, next_values, terminated, cut, DISCOUNT, DECAY),
        discounted_returns(rewards, next_values, terminated, cut, DISCOUNT),
        n_step_returns(rewards, next_values, terminated, cut, DISCOUNT, 5),
    ]
    for b in range(9):
        r, v, n, e, c = (tensor[:, b : b + 1] for tensor in (rewards, values, next_values, terminated, cut))
        alone = [
            generalized_advantages(r, v, n, e, c, DISCOUNT, DECAY),
            discounted_returns(r, n, e, c, DISCOUNT),
            n_step_returns(r, n, e, c, DISCOUNT, 5),
        ]
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[:, b : b + 1], part)


def test_gradients_flow_to_the_values_and_change_no_number() -> None:
    rewards, values, next_values, terminated, cut = recording()
    plain = generalized_advantages(rewards, values, next_values, terminated, cut, DISCOUNT, DECAY)
    values.requires_grad_()
    traced = generalized_advantages(rewards, values, next_values, terminated, cut, DISCOUNT, DECAY)
    assert torch.equal(traced, plain)
    traced[0].sum().backward()
    # dA_0 / dV_t = -(γλ)^t until the episode is cut
    weights = torch.cumprod(torch.cat((torch.ones(1, 3), DISCOUNT * DECAY * ~cut[:-1])), dim=0)
    torch.testing.assert_close(values.grad, -weights.double())


def test_arguments_are_left_as_they_are_even_when_recorded_under_inference_mode() -> None:
    with torch.inference_mode():
        recorded = tuple(tensor.clone() for tensor in recording())
    rewards, values, next_values, terminated, cut = recorded
    before = [tensor.clone() for tensor in recorded]
    advantages = generalized_advantages(rewards, values, next_values, terminated, cut, DISCOUNT, DECAY)
    discounted_returns(rewards, next_values, terminated, cut, DISCOUNT)
    n_step_returns(rewards, next_values, terminated, cut, DISCOUNT, 3)
    assert all(torch.equal(tensor, old) for tensor, old in zip(recorded, before, strict=True))
    assert not advantages.is_inference()


def test_shapes_that_would_broadcast_are_refused() -> None:
    rewards, values, next_values, terminated, cut = recording()
    with pytest.raises(ShapeError, match=r"values \[20, 3, 1\]"):
        generalized_advantages(rewards, values[..., None], next_values, terminated, cut, DISCOUNT, DECAY)
    with pytest.raises(ShapeError, match=r"cut \[20, 1\]"):
        generalized_advantages(rewards, values, next_values, terminated, cut[:, :1], DISCOUNT, DECAY)
    with pytest.raises(ShapeError, match=r"\[T, B\]"):
        discounted_returns(rewards[:, 0], next_values[:, 0], terminated[:, 0], cut[:, 0], DISCOUNT)
    with pytest.raises(ShapeError, match=r"terminated of torch\.float64"):
        n_step_returns(rewards, next_values, terminated.double(), cut, DISCOUNT, 1)
    for n_steps in (0, -1, 1.5, 2.0, True):
        with pytest.raises(ConfigurationError, match=f"^n_steps={n_steps}: must be "):
            n_step_returns(rewards, next_values, terminated, cut, DISCOUNT, n_steps)
