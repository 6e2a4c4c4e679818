"""Returns and advantages of consecutive transitions, ``[T, B]``: time and environments.

Transition t of an environment has the reward r_t, the value V_t of the state that it began in and the value V'_t of the
state that it led to, which at the end of an episode is not the state that transition t + 1 begins in. Two masks say
what follows:

* ``terminated``: the future of the state that it led to is worth nothing, so V'_t is not used;
* ``cut``: transition t + 1 does not continue t, because the episode ended (terminated or truncated) or because the pair
  is no transition. Where only this one is true, the future is worth V'_t: a time limit is no fact of the task.

``terminated`` without ``cut`` counts as cut. What is computed for a pair that is no transition means nothing and
reaches no other; the caller masks it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.functional.shapes import expect_alike, expect_bool


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    cut: Tensor,
    discount: float,
    trace_decay: float,
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

        δ_t = r_t + γ V'_t [not terminated_t] - V_t
        A_t = δ_t + γ λ A_{t+1} [not cut_t],    A_T = 0

    Args:
        rewards: r, ``[T, B]``.
        values: V, ``[T, B]``.
        next_values: V', ``[T, B]``.
        terminated: ``[T, B]`` bool.
        cut: ``[T, B]`` bool.
        discount: γ.
        trace_decay: λ; 0 gives the TD error, 1 the Monte-Carlo return minus the value.

    Returns:
        A, ``[T, B]``.

    Raises:
        ShapeError: shapes that differ, or masks that are not of bools.
    """
    function = "generalized_advantages"
    expect_alike(function, "TB", rewards=rewards, values=values, next_values=next_values)
    expect_alike(function, "TB", rewards=rewards, terminated=terminated, cut=cut)
    expect_bool(function, terminated=terminated, cut=cut)
    errors = rewards + discount * next_values.masked_fill(terminated, 0.0) - values
    return _sums_from_the_end(errors, terminated | cut, discount * trace_decay)


def lambda_returns(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    cut: Tensor,
    discount: float,
    trace_decay: float,
) -> Tensor:
    """The λ-return, ``[T, B]``: the advantage of :func:`generalized_advantages` plus the value.

    With V'_t = V_{t+1} inside an episode it is the mixture of n-step returns (Sutton & Barto 2018, eq. 12.9, truncated)

        G_t = r_t + γ ((1 - λ) V'_t + λ G_{t+1})
    """
    return values + generalized_advantages(rewards, values, next_values, terminated, cut, discount, trace_decay)


def discounted_returns(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, cut: Tensor, discount: float
) -> Tensor:
    """Discounted sums of the rewards to the end of the episode (Sutton & Barto 2018, eq. 3.9), or as far as they go.

        G_t = r_t + γ G_{t+1}                        inside an episode
        G_t = r_t + γ V'_t [not terminated_t]        where it is cut, and at t = T - 1

    Args:
        rewards: r, ``[T, B]``.
        next_values: V', ``[T, B]``; zeros for sums of rewards alone, whose episodes that are not over are then the
            caller's to mask.
        terminated: ``[T, B]`` bool.
        cut: ``[T, B]`` bool.
        discount: γ.

    Returns:
        G, ``[T, B]``.

    Raises:
        ShapeError: shapes that differ, or masks that are not of bools.
    """
    function = "discounted_returns"
    expect_alike(function, "TB", rewards=rewards, next_values=next_values, terminated=terminated, cut=cut)
    expect_bool(function, terminated=terminated, cut=cut)
    ends = terminated | cut
    ends[-1:] = True
    terms = rewards + discount * next_values.masked_fill(terminated | ~ends, 0.0)
    return _sums_from_the_end(terms, ends, discount)


def n_step_returns(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, cut: Tensor, discount: float, n_steps: int
) -> Tensor:
    """Sums of n rewards and a value (Sutton & Barto 2018, eq. 7.1); fewer rewards where the episode or the data ends.

        G¹_t = r_t + γ V'_t [not terminated_t]
        Gⁿ_t = r_t + γ Gⁿ⁻¹_{t+1}    inside an episode;    G¹_t where it is cut, and at t = T - 1

    Args:
        rewards: r, ``[T, B]``.
        next_values: V', ``[T, B]``.
        terminated: ``[T, B]`` bool.
        cut: ``[T, B]`` bool.
        discount: γ.
        n_steps: n, at least 1; T or more gives :func:`discounted_returns`.

    Returns:
        Gⁿ, ``[T, B]``.

    Raises:
        ConfigurationError: ``n_steps`` is not a whole number of at least 1.
        ShapeError: shapes that differ, or masks that are not of bools.
    """
    function = "n_step_returns"
    AT_LEAST_1.check(n_steps=n_steps)
    expect_alike(function, "TB", rewards=rewards, next_values=next_values, terminated=terminated, cut=cut)
    expect_bool(function, terminated=terminated, cut=cut)
    one_step = rewards + discount * next_values.masked_fill(terminated, 0.0)
    returns, ends = one_step, (terminated | cut)[:-1]
    for _ in range(min(n_steps, len(rewards)) - 1):
        longer = torch.where(ends, one_step[:-1], rewards[:-1] + discount * returns[1:])
        returns = torch.cat((longer, one_step[-1:]))
    return returns


def _sums_from_the_end(terms: Tensor, ends: Tensor, decay: float) -> Tensor:
    """Solves x_t = terms_t + decay x_{t+1} [not ends_t], x_T = 0, for ``[T, B]``."""
    decays = torch.full_like(terms, decay).masked_fill_(ends, 0.0)
    if terms.requires_grad or terms.device.type != "cpu":
        rows = list(terms.unbind())
        factors = decays.unbind()
        for t in range(len(rows) - 2, -1, -1):
            rows[t] = rows[t] + factors[t] * rows[t + 1]
        return torch.stack(rows)
    # Two calls of numpy per step take a third of the time of two calls of torch.
    sums = terms.clone(memory_format=torch.contiguous_format)
    arrays, array_factors = list(sums.numpy()), list(decays.numpy())
    for t in range(len(arrays) - 2, -1, -1):
        arrays[t] += array_factors[t] * arrays[t + 1]
    return sums
