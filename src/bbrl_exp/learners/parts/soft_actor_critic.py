"""The update that soft actor-critics share: the critics, then the policy and the temperature, then the targets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AboveZero, Finite, Scheduled, check_unused
from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import q_target
from bbrl_exp.functional.schedules import before_the_run
from bbrl_exp.functional.squashing import SquashedSample
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.q_critics import CriticOption, ReplayedActorCritic, TargetOptions, check_q_critic
from bbrl_exp.learners.parts.replayed import Drawn, Replayed, ReplayedBatches
from bbrl_exp.learners.parts.replayed_sequences import SequenceBatch
from bbrl_exp.learners.parts.temperature import Temperature
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.recurrent_squashed import RecurrentSquashedPolicy
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace


class SoftActorCritic(ReplayedActorCritic[Drawn]):
    """Learns a stochastic policy, critics and the temperature; what the losses are is up to the algorithm.

    Raises:
        ConfigurationError: a value out of its range, options that contradict each other, or a critic that does not fit.
    """

    temperature_learning_rate: Scheduled[AboveZero] | None = 3e-4
    """of the temperature's Adam; None keeps the temperature as it is."""
    initial_temperature: Scheduled[AboveZero] = 1.0
    """α in the beginning; a schedule of it with ``temperature_learning_rate`` None only."""

    compiled_numbers: ClassVar[tuple[str, ...]] = ("temperature._target_entropy",)
    # Adam's β₁: an option of some algorithms.
    first_moment_decay = 0.9

    @property
    @abstractmethod
    def wanted_entropy(self) -> float:
        """The entropy in nats that the temperature aims at."""

    def prepare(self, policy: Agent, critic: Agent, replayed: Replayed[Drawn]) -> None:
        """Makes what an update needs beside the replay buffer."""
        learning_rate = self.temperature_learning_rate
        if "initial_temperature" in self._scheduled and learning_rate is not None:
            raise ConfigurationError("initial_temperature: a schedule of it needs temperature_learning_rate=null")
        self.temperature = Temperature(
            before_the_run(self.initial_temperature, 1.0),
            None if learning_rate is None else before_the_run(learning_rate, 1.0),
            self.wanted_entropy,
        )
        self.prepare_updates(policy, critic, replayed, self.first_moment_decay)
        self.entropy: Tensor
        self.keep_metric("entropy")

    def follow_schedules(self, env_steps: int, total_steps: int) -> None:
        super().follow_schedules(env_steps, total_steps)
        temperature = self.initial_temperature if "initial_temperature" in self._scheduled else None
        self.temperature.follow(temperature, self.temperature_learning_rate, self.wanted_entropy)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        metrics: Metrics = {}
        for moves_policy, (critic_loss, q_mean, *of_policy) in self.improvements(workspace, progress):
            if moves_policy:
                self.policy_objective, self.entropy = of_policy
            metrics = {
                "losses/q": critic_loss,
                "losses/policy": self.policy_objective,
                "learner/q_mean": q_mean,
                "learner/entropy": self.entropy,
                "learner/temperature": self.temperature.value,
                "learner/updates": float(self._replayed.n_updates),
            }
        return metrics

    def improve(self, batch: Drawn, moves_policy: bool) -> list[Tensor]:
        critic_loss, values = self.loss_of_critics(batch)
        self.improve_critic(critic_loss)
        of_policy = []
        if moves_policy:
            policy_loss, log_probs = self.loss_of_policy(batch)
            self.improve_policy(policy_loss)
            self.temperature.adapt(log_probs)
            of_policy = [policy_loss.detach(), -log_probs.mean()]
        self.follow()
        return [critic_loss.detach(), values.mean(), *of_policy]

    @abstractmethod
    def loss_of_critics(self, batch: Drawn) -> tuple[Tensor, Tensor]:
        """The loss of the critics, a scalar, and what they say of the actions taken, detached."""

    @abstractmethod
    def loss_of_policy(self, batch: Drawn) -> tuple[Tensor, Tensor]:
        """The loss of the policy, a scalar, and the (expected) log-probabilities of its actions, detached, ``[N]``."""

    @abstractmethod
    def follow(self) -> None:
        """Moves the targets."""

    def soft_target(self, batch: Batch | SequenceBatch, next_values: Tensor, next_log_probs: Tensor) -> Tensor:
        """r + γ (Q' - α log π(a'|s')) [s' not terminal], ``[N]``, for values and log-densities ``[N]``."""
        soft_values = next_values - self.temperature.value * next_log_probs
        return q_target(batch.rewards, batch.terminated, batch.discounts, soft_values)


class SquashedEntropy(SoftActorCritic[Drawn]):
    """Soft actor-critic for one bounded box of continuous actions, which the policy draws in [-1, 1]."""

    policy: SquashedNormalPolicy | RecurrentSquashedPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    target_entropy: Scheduled[Finite] | None = None
    """H in nats, for actions in [-1, 1]; None for -D."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature_learning_rate is None:
            check_unused("temperature_learning_rate=null", target_entropy=self.target_entropy)
        self._generator = torch_generator(self.seed, "learner", "actions")

    @property
    def wanted_entropy(self) -> float:
        n_components = float(self.policy.bounds.n_components)
        return -n_components if self.target_entropy is None else before_the_run(self.target_entropy, -n_components)

    def draw_noise(self, like: Tensor) -> Tensor:
        """Standard normal noise for actions, ``[N, D]`` on the device of a tensor ``[N, …]``."""
        shape = (len(like), self.policy.bounds.n_components)
        return torch.randn(shape, generator=self._generator).to(like.device)


class SquashedSoftActorCritic(SquashedEntropy[Batch]):
    """The same without a memory, from transitions in any order."""

    policy: SquashedNormalPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    critic: QEnsemble = field(kw_only=False)
    """critics of state and action, two in the paper."""

    # The option of a critic that only this algorithm can use.
    uses: ClassVar[CriticOption | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_q_critic(self, self.policy, self.critic, self.uses)
        self.prepare(self.policy, self.critic, ReplayedBatches(self.policy, self))

    def generators(self) -> list[torch.Generator]:
        return [self._generator]

    def draws(self, batch: Batch, moves_policy: bool) -> list[Tensor]:
        return [self.draw_noise(batch.rewards) for _ in range(1 + moves_policy)]

    def with_draws(self, drawn: Sequence[Tensor]) -> Mapping[str, Any]:
        noise = iter(drawn)
        return {"draw_noise": lambda like: next(noise)}

    def loss_of_critics(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.critic_loss(batch, self.draw_noise(batch.rewards))

    def loss_of_policy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.policy_loss(batch, self.draw_noise(batch.rewards))

    @abstractmethod
    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`loss_towards` next actions that are drawn with standard normal ``noise``, ``[N, D]``."""
        with torch.no_grad():
            following = self.policy.sample(batch.next_observations, noise)
        return self.loss_towards(batch, following)

    @abstractmethod
    def loss_towards(self, batch: Batch, following: SquashedSample) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and what they say of the actions taken, detached, ``[M, N, …]``.

        Args:
            batch: N transitions.
            following: actions that are drawn for the next observations, with their log-densities.
        """

    def policy_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's loss, α log π(a|s) - Q(s, a), and the log-densities of its actions, detached, ``[N]``.

        The actions are drawn with standard normal ``noise``, ``[N, D]``.
        """
        drawn = self.policy.sample(batch.observations, noise)
        values = self.value_for_policy(batch.observations, drawn.action)
        loss = (self.temperature.value * drawn.log_prob - values).mean()
        return loss, drawn.log_prob.detach()

    @abstractmethod
    def value_for_policy(self, observations: Sequence[Tensor], actions: Tensor) -> Tensor:
        """Q(s, a) that the policy maximises, ``[N]``, made of what the critics say."""


class TargetedSoftActorCritic(TargetOptions, SquashedSoftActorCritic):
    """Soft actor-critic for continuous actions with a slow copy of the critics, which values what comes next."""

    compiled_numbers = ("temperature._target_entropy", "target_rate")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.target_critic = self.target_of(self.critic)
