"""REINFORCE (Williams, 1992, Machine Learning 8), with or without a baseline.

The policy goes up the gradient of its expected return, estimated from complete episodes (Sutton & Barto, 2018, section
13.4): with the return G_t = Σ_k γ^k r_{t+k} from step t to the end of the episode and the baseline b,

    E[Σ_t ∇ log π(a_t|s_t) (G_t − b(s_t))].

The baseline is a critic, which minimises half the squared error to G, or 0.

Deviations from the book: the factor γ^t is left out; the gradient is the mean over steps, not the sum over those of an
episode; all episodes that have ended since the last update make one step of Adam; an episode that began before the last
update was played by more than one policy, and its gradient is that of the last one. A time limit is no end: with a
critic, the return continues with the critic's value of the state that the limit cut off; without one there is no such
value, and the return is the sum up to the limit. (Williams has no discount, and weights every step of an episode
by the whole return.)
"""

from __future__ import annotations

from dataclasses import field

import torch
from torch import Tensor, nn

from bbrl_exp.arguments import AtLeastZero, Count, Scheduled, check_unused
from bbrl_exp.data.episodes import UnfinishedEpisodes
from bbrl_exp.data.transitions import Transitions, align
from bbrl_exp.functional.losses import explained_variance, policy_gradient
from bbrl_exp.functional.returns import discounted_returns
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.options import ReturnOptions, StepOptions, adam, set_learning_rate
from bbrl_exp.policies.observation import check_same_observations
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import Critic
from bbrl_exp.workspace import Workspace


class Reinforce(StepOptions, ReturnOptions, Learner):
    """Learns a stochastic policy from the returns of complete episodes.

    Episodes that are running at the end of a chunk are kept until they are over; every step counts in one update.

    Raises:
        ConfigurationError: a value out of its range, an option that has no effect, or a critic that sees other
            variables than the policy.
    """

    needs_episodes = True
    policy: StochasticPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    critic: Critic | None = field(default=None, kw_only=False)
    """the baseline; None for none."""
    episodes_per_update: Count = 8
    """complete episodes that an update waits for; it takes all that there are then."""
    entropy_weight: Scheduled[AtLeastZero] = 0.0
    """of the entropy bonus."""
    value_weight: Scheduled[AtLeastZero] | None = None
    """of the critic's loss (0.5); with a critic only."""
    normalize_advantages: bool = False
    """whether G − b has mean 0 and standard deviation 1 in each update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic is None:
            check_unused("critic=null", value_weight=self.value_weight)
        else:
            check_same_observations(self.policy.features, self.critic.features)
        self.reads = self.reads_with(self.policy)
        self._episodes = UnfinishedEpisodes()
        self._n_updates = 0
        modules = [self.policy] if self.critic is None else [self.policy, self.critic]
        self._learned = list(dict.fromkeys(parameter for module in modules for parameter in module.parameters()))
        self._optimizer = self.optimizer_of(self._learned, adam(epsilon=1e-5))

    def awaits(self) -> str | None:
        return None if self._n_updates else f"{self.episodes_per_update} whole episodes (episodes_per_update)"

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        self._episodes.put(align(workspace, self.policy.reads, self.policy.writes, progress.first_row, self.reward))
        n_episodes = self._episodes.n_complete
        if n_episodes < self.episodes_per_update:
            return {}
        transitions, complete = self._episodes.take()
        returns = self._returns(transitions, complete)[complete]
        steps = complete.flatten().nonzero().squeeze(1)
        observations = [leaf.flatten(0, 1).index_select(0, steps) for leaf in transitions.observations]
        actions = [leaf.flatten(0, 1).index_select(0, steps) for leaf in transitions.actions]
        loss, metrics = self.loss(observations, actions, returns)
        set_learning_rate(self._optimizer, self.learning_rate_at(progress))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._learned, self.max_grad_norm)
        self._optimizer.step()
        self._n_updates += 1
        return {**metrics, "learner/episodes": float(n_episodes)}

    def loss(
        self, observations: list[Tensor], actions: list[Tensor], returns: Tensor
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The loss of N steps, a scalar, and its parts, detached.

        Args:
            observations: one tensor ``[N, *shape]`` a leaf.
            actions: one tensor ``[N, *shape]`` a leaf.
            returns: G, ``[N]``.
        """
        latent = self.policy.latent(observations)
        distribution = self.policy.distribution_of(latent)
        entropy = distribution.entropy().mean()
        metrics: dict[str, float | Tensor] = {"learner/entropy": entropy.detach()}
        loss = -self.entropy_weight * entropy
        advantages = returns
        if self.critic is not None:
            values = self.critic.values(observations, latent)
            advantages = returns - values.detach()
            value_loss = 0.5 * (values - returns).square().mean()
            loss = loss + (0.5 if self.value_weight is None else self.value_weight) * value_loss
            metrics["losses/value"] = value_loss.detach()
            metrics["learner/explained_variance"] = explained_variance(values.detach(), returns)
        if self.normalize_advantages and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy_loss = policy_gradient(distribution.log_prob(actions), advantages).mean()
        metrics["losses/policy"] = policy_loss.detach()
        return loss + policy_loss, metrics

    @torch.no_grad()
    def _returns(self, transitions: Transitions, complete: Tensor) -> Tensor:
        """G ``[T', B]``, of meaning where ``complete``."""
        next_values = torch.zeros_like(transitions.rewards)
        if self.critic is not None:
            cut_off = complete & transitions.truncated & ~transitions.terminated
            final = [leaf[cut_off] for leaf in transitions.next_observations]
            if len(final[0]):
                next_values[cut_off] = self.critic.values(final)
        return discounted_returns(
            transitions.rewards, next_values, transitions.terminated, transitions.cut, self.discount
        )
