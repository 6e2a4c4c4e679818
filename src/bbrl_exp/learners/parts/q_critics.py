"""What learners of action values ask of a critic: the observations of the policy, and no option that does nothing."""

from __future__ import annotations

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.observation import check_same_observations
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble, QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy


def check_q_critic(
    learner: str,
    policy: DeterministicPolicy | SquashedNormalPolicy | StochasticPolicy,
    critic: QEnsemble | DiscreteQEnsemble,
    *,
    has_dropout: bool = False,
    has_batch_normalization: bool = False,
    has_quantiles: bool = False,
) -> None:
    """Refuses a critic that sees other variables than the policy, or has an option that is another learner's.

    Args:
        learner: its name, for messages.
        policy: whose observations and actions are learned from.
        critic: the critic.
        has_dropout: whether the learner draws the units that are silent.
        has_batch_normalization: whether it says when the critic's statistics are learned.
        has_quantiles: whether it learns more of the return than its mean.

    Raises:
        ConfigurationError: the variables differ, or an option would have no effect or a wrong one.
    """
    check_same_observations(policy.features, critic.features)
    network = critic.network
    if network.dropout and not has_dropout:
        raise ConfigurationError(
            f"critic.dropout={network.dropout}: has no effect with {learner}, only with DroQ; must be 0"
        )
    if network.renormalizations and not has_batch_normalization:
        raise ConfigurationError(
            f"critic.normalization='batch': {learner} learns no statistics, only CrossQ does; must be 'none' or 'layer'"
        )
    if isinstance(critic, QEnsemble) and critic.n_quantiles != 1 and not has_quantiles:
        raise ConfigurationError(
            f"critic.n_quantiles={critic.n_quantiles}: {learner} learns means, only TQC learns quantiles; must be 1"
        )
