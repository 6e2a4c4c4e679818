"""BBRL's returns and losses, on those of this project."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import discounted_returns, generalized_advantages

_NEW = ("reward", "next_critic", "must_bootstrap", "critic", "discount_factor", "gae_coef")
_OLD = ("critic", "reward", "must_bootstrap", "discount_factor", "gae_coef")


def gae(*arguments: Any, cut: Tensor | None = None, **keywords: Any) -> Tensor:
    """Generalised advantages, with either signature of BBRL.

    * ``gae(reward, next_critic, must_bootstrap, critic, discount_factor, gae_coef)``: all tensors ``[T, B]``, of
      transitions.
    * ``gae(critic, reward, must_bootstrap, discount_factor, gae_coef)``, as until 2023: ``critic`` and ``reward`` are
      ``[T, B]``, ``must_bootstrap`` is ``[T - 1, B]``; the result is ``[T - 1, B]``.

    Tensors may be ``[T]``, of one environment: the trace of ``[N]`` transitions of several would run from one into the
    next.

    As in BBRL, the trace is cut only where ``must_bootstrap`` is false: it runs across truncations, from one episode
    into the one before.

    Args:
        arguments: as above, by position.
        cut: bool, like ``must_bootstrap``: where an episode ends, truncated ones included, which keeps the trace within
            its episode.
        keywords: as above, by name.

    Raises:
        ConfigurationError: other arguments.
        ShapeError: shapes that differ.
    """
    return _gae(arguments, keywords, cut, reward_row=1)


def gae_b(*arguments: Any, cut: Tensor | None = None, **keywords: Any) -> Tensor:
    """As :func:`gae`; in the old signature, the reward of the action at t is in row t of ``reward``."""
    return _gae(arguments, keywords, cut, reward_row=0)


def _gae(arguments: tuple[Any, ...], keywords: dict[str, Any], cut: Tensor | None, reward_row: int) -> Tensor:
    is_old = len(arguments) + len(keywords) == len(_OLD)
    names = _OLD if is_old else _NEW
    given = dict(zip(names, arguments, strict=False))
    if len(arguments) > len(names) or given.keys() & keywords.keys() or {*given, *keywords} != {*names}:
        raise ConfigurationError(f"gae: expected ({', '.join(_NEW)}) or ({', '.join(_OLD)})")
    given |= keywords
    values, reward = given["critic"], given["reward"]
    if is_old:
        given["next_critic"] = values[1:]
        reward, values = reward[reward_row : len(reward) - 1 + reward_row], values[:-1]
    terminated = ~given["must_bootstrap"].bool()
    ends = terminated if cut is None else cut | terminated
    columns = (reward, values, given["next_critic"].detach(), terminated, ends)
    if reward.dim() == 1:
        columns = tuple(column.unsqueeze(1) for column in columns)
    advantages = generalized_advantages(*columns, given["discount_factor"], given["gae_coef"])
    return advantages.view_as(reward)


def cumulated_reward(reward: Tensor, done: Tensor) -> float:
    """Mean over the batch of the sum of rewards up to the first row that is done.

    Args:
        reward: ``[T, B]``.
        done: ``[T, B]``; every column must end.

    Raises:
        ConfigurationError: an episode that is not over.
    """
    return float((reward * _first_episodes("cumulated_reward", done)).sum(dim=0).mean())


def temporal_difference(
    critic: Tensor, reward: Tensor, must_bootstrap: Tensor, discount_factor: float, *, reward_row: int = 1
) -> Tensor:
    """r_{t+1} + γ V_{t+1} [must bootstrap] - V_t, with a last row of zeros: ``[T, B]``.

    Args:
        critic: V, ``[T, B]``.
        reward: ``[T, B]``.
        must_bootstrap: ``[T - 1, B]``.
        discount_factor: γ.
        reward_row: 1: the reward of the action at t is in row t + 1; 0: in row t.
    """
    return _with_last_row(_target(critic[1:], reward, must_bootstrap, discount_factor, reward_row) - critic[:-1])


def temporal_difference_b(critic: Tensor, reward: Tensor, must_bootstrap: Tensor, discount_factor: float) -> Tensor:
    """As :func:`temporal_difference`, with the reward of the action at t in row t."""
    return temporal_difference(critic, reward, must_bootstrap, discount_factor, reward_row=0)


def doubleqlearning_temporal_difference(
    q: Tensor,
    action: Tensor,
    q_target: Tensor,
    reward: Tensor,
    must_bootstrap: Tensor,
    discount_factor: float,
    *,
    reward_row: int = 1,
) -> Tensor:
    """The error of double Q-learning (van Hasselt et al., 2016), with a last row of zeros: ``[T, B]``.

    Args:
        q: ``[T, B, A]``, which chooses the next action.
        action: int64 ``[T, B]``.
        q_target: ``[T, B, A]``, which values it.
        reward: ``[T, B]``.
        must_bootstrap: ``[T - 1, B]``.
        discount_factor: γ.
        reward_row: 1: the reward of the action at t is in row t + 1; 0: in row t.
    """
    next_values = _chosen(q_target, q.argmax(dim=-1))[1:]
    return _with_last_row(
        _target(next_values, reward, must_bootstrap, discount_factor, reward_row) - _chosen(q, action)[:-1]
    )


def doubleqlearning_temporal_difference_b(
    q: Tensor, action: Tensor, q_target: Tensor, reward: Tensor, must_bootstrap: Tensor, discount_factor: float
) -> Tensor:
    """As :func:`doubleqlearning_temporal_difference`, with the reward of the action at t in row t."""
    return doubleqlearning_temporal_difference(
        q, action, q_target, reward, must_bootstrap, discount_factor, reward_row=0
    )


def compute_reinforce_loss(
    reward: Tensor,
    action_probabilities: Tensor,
    baseline: Tensor,
    action: Tensor,
    done: Tensor,
    discount_factor: float,
) -> dict[str, Tensor]:
    """The losses of REINFORCE with a baseline, over the rows up to the first that is done.

    They are means over the batch and the rows of the longest episode; rows after an episode count as 0.
    In BBRL the returns were sums of γ, not products with it; here they are the discounted returns.

    Args:
        reward: of the action at t, in row t + 1, ``[T, B]``.
        action_probabilities: ``[T, B, A]``.
        baseline: ``[T, B]``.
        action: int64 ``[T, B]``.
        done: ``[T, B]``.
        discount_factor: γ.

    Returns:
        ``baseline_loss``, ``policy_loss`` (to be maximised) and ``entropy_loss``, scalars.

    Raises:
        ConfigurationError: an episode that is not over.
    """
    is_counted = _first_episodes("compute_reinforce_loss", done)
    is_counted = is_counted[: int(is_counted.sum(dim=0).max())]
    reward, action_probabilities, baseline, action, is_done = (
        each[: len(is_counted)] for each in (reward, action_probabilities, baseline, action, done.bool())
    )
    nothing, nowhere = torch.zeros_like(reward), torch.zeros_like(is_done)
    earned = torch.cat([reward[1:], nothing[:1]]) * (is_counted & ~is_done)
    returns = discounted_returns(earned, nothing, nowhere, nowhere, discount_factor)
    error = baseline - returns
    log_probabilities = _chosen(action_probabilities, action).log()
    entropy = torch.special.entr(action_probabilities).sum(dim=-1)
    return {
        "baseline_loss": (error.pow(2) * is_counted).mean(),
        "policy_loss": (-log_probabilities * error.detach() * is_counted).mean(),
        "entropy_loss": (entropy * is_counted).mean(),
    }


def _first_episodes(function: str, done: Tensor) -> Tensor:
    """Which rows are those of the first episode, the one that is done included: bool ``[T, B]``."""
    is_done = done.bool()
    if not bool(is_done.any(dim=0).all()):
        raise ConfigurationError(f"{function}: every episode must be done at some row; run until all are")
    return (is_done.cumsum(dim=0) - is_done.long()) == 0


def _target(next_values: Tensor, reward: Tensor, must_bootstrap: Tensor, discount: float, reward_row: int) -> Tensor:
    rewards = reward[reward_row : len(reward) - 1 + reward_row]
    return rewards + discount * next_values.detach() * must_bootstrap.float()


def _chosen(values: Tensor, action: Tensor) -> Tensor:
    return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def _with_last_row(values: Tensor) -> Tensor:
    return torch.cat([values, torch.zeros_like(values[:1])])
