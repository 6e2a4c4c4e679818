"""Losses and targets, one number per sample: ``[N]`` in, ``[N]`` out. Means and masks are for callers."""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.functional.shapes import ShapeError, expect_alike, expect_bool


def policy_gradient(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """-log π(a|s) A (Sutton & Barto 2018, sections 13.3 and 13.4, without γ^t, as a loss); no gradient through A.

    Args:
        log_probs: log π(a|s), ``[N]``.
        advantages: A, ``[N]``.

    Returns:
        ``[N]``.
    """
    expect_alike("policy_gradient", "N", log_probs=log_probs, advantages=advantages)
    return -log_probs * advantages.detach()


def truncated_ratios(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """min(1, π(a|s) / π_old(a|s)), ``[N]``, without gradient (Espeholt et al. 2018, "IMPALA", section 4.1, ρ̄ = 1).

    Args:
        log_probs: log π(a|s), ``[N]``.
        old_log_probs: log π_old(a|s) of the policy that chose the actions, ``[N]``.
    """
    expect_alike("truncated_ratios", "N", log_probs=log_probs, old_log_probs=old_log_probs)
    return (log_probs.detach() - old_log_probs).clamp(max=0.0).exp()


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float | Tensor
) -> Tensor:
    """PPO's objective (Schulman et al. 2017, eq. 7), with the sign of a loss.

        ρ = π(a|s) / π_old(a|s);    -min(ρ A, clip(ρ, 1 - ε, 1 + ε) A)

    Args:
        log_probs: log π(a|s), ``[N]``.
        old_log_probs: log π_old(a|s) of the policy that chose the actions, ``[N]``.
        advantages: A, ``[N]``.
        clip_range: ε, a number or ``[N]``.

    Returns:
        ``[N]``.
    """
    expect_alike("clipped_surrogate", "N", log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages)
    ratios = (log_probs - old_log_probs).exp()
    clipped = ratios.clamp(1.0 - clip_range, 1.0 + clip_range)
    return -torch.minimum(ratios * advantages, clipped * advantages)


def clip_fraction(log_probs: Tensor, old_log_probs: Tensor, clip_range: float) -> Tensor:
    """The part of the samples whose ratio π / π_old is further than ε from 1, a tensor without dimensions."""
    expect_alike("clip_fraction", "N", log_probs=log_probs, old_log_probs=old_log_probs)
    ratios = (log_probs - old_log_probs).exp()
    return ((ratios - 1.0).abs() > clip_range).float().mean()


def approximate_kl(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """An estimate of KL(π_old, π) from each action drawn from π_old: unbiased, never negative.

        ρ - 1 - log ρ,    ρ = π(a|s) / π_old(a|s)    (J. Schulman, "Approximating KL divergence", 2020, k3)

    Args:
        log_probs: log π(a|s), ``[N]``.
        old_log_probs: log π_old(a|s), ``[N]``.

    Returns:
        ``[N]``.
    """
    expect_alike("approximate_kl", "N", log_probs=log_probs, old_log_probs=old_log_probs)
    log_ratios = log_probs - old_log_probs
    return log_ratios.expm1() - log_ratios


def clipped_value(values: Tensor, old_values: Tensor, targets: Tensor, clip_range: float | Tensor) -> Tensor:
    """The worse of two squared errors: of the value, and of the value held within ε of what it was.

        max((V - G)², (V_old + clip(V - V_old, -ε, ε) - G)²)

    (Engstrom et al. 2020, "Implementation matters in deep policy gradients", section 3)

    Args:
        values: V, ``[N]``.
        old_values: V_old, when the transitions were collected, ``[N]``.
        targets: G, ``[N]``.
        clip_range: ε, in units of the return, a number or ``[N]``.

    Returns:
        ``[N]``.
    """
    expect_alike("clipped_value", "N", values=values, old_values=old_values, targets=targets)
    held = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return torch.maximum((values - targets).square(), (held - targets).square())


def huber(errors: Tensor, threshold: float = 1.0) -> Tensor:
    """½ u² for |u| ≤ κ, κ (|u| - ½ κ) beyond (Huber 1964); of any shape.

    Args:
        errors: u.
        threshold: κ.
    """
    sizes = errors.abs()
    quadratic = sizes.clamp(max=threshold)
    return quadratic * (sizes - 0.5 * quadratic)


def quantile_huber(quantiles: Tensor, targets: Tensor, threshold: float = 1.0) -> Tensor:
    """The loss of quantile regression (Dabney et al. 2018, "QR-DQN", eq. 10 and algorithm 1).

        Σ_i mean_j |τ_i - [u_ij < 0]| L_κ(u_ij),    u_ij = target_j - θ_i,    τ_i = (2 i + 1) / (2 M), i from 0

    with L_κ of :func:`huber`.

    Args:
        quantiles: θ, ``[N, M]``, of the levels τ.
        targets: samples or quantiles of the target distribution, ``[N, K]``; no gradient through them.
        threshold: κ.

    Returns:
        ``[N]``.

    Raises:
        ShapeError: anything but ``[N, M]`` and ``[N, K]``.
    """
    if quantiles.ndim != 2 or targets.ndim != 2 or len(quantiles) != len(targets):
        raise ShapeError(
            f"quantile_huber: expected quantiles [N, M] and targets [N, K], "
            f"found {list(quantiles.shape)} and {list(targets.shape)}"
        )
    n_quantiles = quantiles.shape[1]
    levels = (torch.arange(n_quantiles, device=quantiles.device, dtype=quantiles.dtype) + 0.5) / n_quantiles
    errors = targets.detach()[:, None, :] - quantiles[:, :, None]
    weights = (levels[:, None] - (errors.detach() < 0).to(levels.dtype)).abs()
    return (weights * huber(errors, threshold)).mean(dim=2).sum(dim=1)


def categorical_projection(locations: Tensor, probabilities: Tensor, low: float, high: float) -> Tensor:
    """Moves probability mass from anywhere to a grid (Bellemare et al. 2017, "C51", algorithm 1).

    Each location, clipped to [low, high], shares its mass between its two neighbours on the grid of M equally spaced
    atoms, in proportion to how near they are: the mass is kept, and so is the mean where nothing was clipped.

    Args:
        locations: where the mass is, r + γ z [not terminated], ``[N, M]``.
        probabilities: how much mass is there, ``[N, M]``.
        low: the first atom.
        high: the last atom.

    Returns:
        Probabilities of the atoms low, low + (high - low) / (M - 1), …, high, ``[N, M]``.

    Raises:
        ShapeError: shapes that differ, or fewer than two atoms.
    """
    expect_alike("categorical_projection", "NM", locations=locations, probabilities=probabilities)
    n_atoms = probabilities.shape[1]
    if n_atoms < 2:
        raise ShapeError(f"categorical_projection: expected two atoms or more, found {n_atoms}")
    positions = ((locations.clamp(low, high) - low) * ((n_atoms - 1) / (high - low))).clamp(0.0, n_atoms - 1)
    # The last atom is the upper neighbour of the last interval, so that the two neighbours are never the same.
    below = positions.floor().clamp(max=n_atoms - 2)
    to_above = (positions - below) * probabilities
    index = below.long()
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(1, index, probabilities - to_above)
    return projected.scatter_add_(1, index + 1, to_above)


def categorical_cross_entropy(log_probs: Tensor, targets: Tensor) -> Tensor:
    """-Σ_i p_i log q_i, ``[N]``, for log q and p ``[N, M]``; no gradient through p."""
    expect_alike("categorical_cross_entropy", "NM", log_probs=log_probs, targets=targets)
    return -(targets.detach() * log_probs).sum(dim=1)


def q_target(rewards: Tensor, terminated: Tensor, discount: float | Tensor, next_values: Tensor) -> Tensor:
    """The one-step or n-step target r + γ V' [not terminated], without gradient (Watkins 1989; Mnih et al. 2015).

    Args:
        rewards: r, or the discounted sum of the n rewards, ``[N]``.
        terminated: ``[N]`` bool; truncated ones are bootstrapped.
        discount: γ, or γⁿ where n rewards were summed, a number or ``[N]``.
        next_values: V', of the state after the last of the rewards, ``[N]``.

    Returns:
        ``[N]``.
    """
    expect_alike("q_target", "N", rewards=rewards, terminated=terminated, next_values=next_values)
    expect_bool("q_target", terminated=terminated)
    if isinstance(discount, Tensor):
        expect_alike("q_target", "N", rewards=rewards, discount=discount)
    return (rewards + discount * next_values.masked_fill(terminated, 0.0)).detach()


def summed_half_squares(values: Tensor, targets: Tensor) -> Tensor:
    """Σ_m mean_n ½ (V_mn - y_n)², a scalar, for the values ``[M, N]`` of M critics and targets ``[N]``."""
    return 0.5 * (values - targets).square().mean(dim=1).sum()


def double_q_values(selecting: Tensor, evaluating: Tensor) -> Tensor:
    """Q_evaluating(s, argmax_a Q_selecting(s, a)), ``[N]``, for ``[N, A]`` (van Hasselt et al. 2016, "Double DQN")."""
    expect_alike("double_q_values", "NA", selecting=selecting, evaluating=evaluating)
    return evaluating.gather(1, selecting.argmax(dim=1, keepdim=True)).squeeze(1)


def explained_variance(predictions: Tensor, targets: Tensor) -> Tensor:
    """1 - Var(target - prediction) / Var(target), without dimensions, for ``[N]``; 0 where the targets do not vary.

    1 is a perfect prediction, 0 no better than a constant.
    """
    expect_alike("explained_variance", "N", predictions=predictions, targets=targets)
    variance = targets.var(correction=0)
    unexplained = (targets - predictions).var(correction=0)
    return torch.where(variance > 0, 1.0 - unexplained / variance, torch.zeros_like(variance)).detach()
