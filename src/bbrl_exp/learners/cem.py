"""The cross-entropy method over the parameters of a policy (Rubinstein, 1999; Mannor et al., 2003).

Candidates are drawn from N(μ, diag σ²) and play. With the elite, the part ρ of them with the highest returns, and the
extra variance Z_g of generation g = 0, 1, …

    μ ← mean(elite),    σ² ← variance(elite) + Z_g,    Z_g = Z_0 max(1 − g / G, 0)

where Z (Szita & Lőrincz, 2006, "decreasing noise": Z_0 = 5, G = 50) keeps the distribution from narrowing too early.

Deviations from the papers: the return of a candidate is the mean over ``episodes_per_candidate`` episodes;
environments that wait for the end of a generation play μ, and those episodes count for nothing.
"""

from __future__ import annotations

from dataclasses import field

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZero, AboveZeroToOne, AtLeastZero, Count, Scheduled, check_default
from bbrl_exp.data.transitions import DONE
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.with_options import WithOptions
from bbrl_exp.policies.population import CANDIDATE, MEAN, PopulationPolicy
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace

RETURN = "env/cumulated_reward"


class CrossEntropyMethod(WithOptions, Learner):
    """Moves the distribution of a population towards its best candidates, without any gradient.

    A generation ends with the first chunk at whose end every candidate has finished all its episodes.

    Raises:
        ConfigurationError: a value out of its range.
    """

    needs_episodes = True
    policy: PopulationPolicy = field(kw_only=False)
    """the population."""
    elite_fraction: Scheduled[AboveZeroToOne] = 0.2
    """ρ; the elite are at least 2 candidates."""
    initial_std: AboveZero = 1.0
    """σ of every parameter in the first generation, around 0 or the initial parameters of your ``network``."""
    extra_variance: Scheduled[AtLeastZero] = 0.0
    """Z_0, or a schedule of Z_g in place of the line to 0."""
    extra_variance_generations: Count = 1
    """G."""
    seed: int = 0
    """root seed of the candidates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        n_candidates = len(self.policy.candidates)
        if n_candidates < 2:
            raise ConfigurationError(f"policy.population_size={n_candidates}: at least 2")
        self.reads = (CANDIDATE, RETURN, DONE)
        if "extra_variance" in self._scheduled:
            check_default("a schedule of extra_variance", self, "extra_variance_generations")
        self._generator = torch_generator(self.seed, "learner", "cem")
        self._generation = 0
        self.std: Tensor
        self.return_sums: Tensor
        self.n_episodes: Tensor
        self.register_buffer("std", torch.full_like(self.policy.mean, self.initial_std))
        self.register_buffer("return_sums", torch.zeros(n_candidates, dtype=torch.float64))
        self.register_buffer("n_episodes", torch.zeros(n_candidates, dtype=torch.int64))
        self._begin_generation()

    def awaits(self) -> str | None:
        n_episodes = len(self.policy.candidates) * self.policy.episodes_per_candidate
        return None if self._generation else f"the {n_episodes} episodes of a generation"

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        self._count_episodes(workspace, progress.first_row)
        if int(self.n_episodes.min()) < self.policy.episodes_per_candidate:
            return {}
        returns = self.return_sums / self.n_episodes
        n_elite = max(2, round(self.elite_fraction * len(returns)))
        elite = returns.argsort(descending=True, stable=True)[:n_elite]
        parameters = self.policy.candidates[elite]
        self.policy.mean.copy_(parameters.mean(dim=0))
        share = max(1.0 - self._generation / self.extra_variance_generations, 0.0)
        if "extra_variance" in self._scheduled:
            share = 1.0
        self.std.copy_((parameters.var(dim=0, correction=0) + self.extra_variance * share).sqrt())
        self._generation += 1
        self._begin_generation()
        return {
            "learner/generation": float(self._generation),
            "learner/return_mean": returns.mean(),
            "learner/elite_return_mean": returns[elite].mean(),
            "learner/elite_return_min": returns[elite].min(),
            "learner/std_mean": self.std.mean(),
        }

    def begin_from_loaded_parameters(self) -> None:
        """Draws candidates around the μ and with the σ that were loaded; generations are counted from 0 again."""
        self._begin_generation()

    def _count_episodes(self, workspace: Workspace, first_row: int) -> None:
        """Adds the returns of the candidates' episodes that ended after ``first_row``."""
        done = workspace.get_full(DONE)[first_row:]
        ended = done[1:] & ~done[:-1]
        candidates = workspace.get_full(self.policy.prefix + CANDIDATE)[first_row + 1 :][ended]
        returns = workspace.get_full(RETURN)[first_row + 1 :][ended].double()
        counts = candidates != MEAN
        candidates, returns = candidates[counts], returns[counts]
        self.return_sums.index_add_(0, candidates, returns)
        self.n_episodes.index_add_(0, candidates, torch.ones_like(candidates))

    def _begin_generation(self) -> None:
        noise = torch.randn(self.policy.candidates.shape, generator=self._generator).to(self.std.device)
        self.policy.begin_generation(self.policy.mean + self.std * noise)
        self.return_sums.zero_()
        self.n_episodes.zero_()
