"""Soft actor-critic with a memory (Ni et al., 2022, arXiv:2110.05038; Haarnoja et al., 2018, arXiv:1812.05905).

The losses are those of :mod:`bbrl_exp.learners.sac`, with all that the episode has shown in place of the state:

    critics        ½ (Q_i(s_0 … s_t, a_t) - y)²
                   y = r + γ (min_j Q'_j(s_0 … s_{t+1}, a') - α log π(a'|s_0 … s_{t+1})) [s_{t+1} not terminal]
    policy         α log π(a|s_0 … s_t) - min_i Q_i(s_0 … s_t, a)

Policy and critics have a memory each, and the critics' slow copies Q' have a slow copy of theirs. All are unrolled over
the same sequences of a replay buffer, from the states that were recorded where these begin (or from zeros:
``initial_state``); the first ``burn_in`` rows bring the states up to date, without gradients. The loss of the critics
reaches their memory only, that of the policy its own only. Losses are means over the transitions of all sequences.

Deviations from Ni et al.: recorded states and a burn-in in place of zeros; sequences may cross the end of an episode,
where the states are zeroed; those of SAC. A separate learning rate of the memories is that of RESeL (Luo et al., 2024,
arXiv:2405.15384).
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AboveZero, Scheduled
from bbrl_exp.functional.losses import summed_half_squares
from bbrl_exp.functional.schedules import before_the_run
from bbrl_exp.learners.parts.q_critics import TargetOptions
from bbrl_exp.learners.parts.replayed_sequences import ReplayedSequences, SequenceBatch, SequenceOptions
from bbrl_exp.learners.parts.soft_actor_critic import SquashedEntropy
from bbrl_exp.policies.memory import Memory, check_same_inputs
from bbrl_exp.policies.q_recurrent_ensemble import RecurrentQEnsemble
from bbrl_exp.policies.recurrent_squashed import RecurrentSquashedPolicy


class RecurrentSAC(TargetOptions, SequenceOptions, SquashedEntropy[SequenceBatch]):
    """Learns a stochastic policy and critics, each with its own memory, and the temperature from replayed sequences.

    Raises:
        ConfigurationError: a value out of its range, options that contradict each other, or a critic that sees other
            variables than the policy.
    """

    policy: RecurrentSquashedPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    critic: RecurrentQEnsemble = field(kw_only=False)
    """critics of sequences and actions, two in the paper; a member of the graph, where their states are recorded."""
    memory_learning_rate: Scheduled[AboveZero] | None = None
    """of the memories of policy and critics; None for the learning rates of these."""

    def __post_init__(self) -> None:
        super().__post_init__()
        memories = (self.policy.memory, self.critic.memory)
        check_same_inputs(*memories)
        replayed = ReplayedSequences(self, (self.policy.bounds.variable,), *memories)
        self.prepare(self.policy, self.critic, replayed)
        self.reads = self.reads_with(self.policy, *self.states_of(self.critic.memory))
        self.target_critic = self.target_of(self.critic)

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses a replay buffer that holds no whole sequence of an environment."""
        self.check_rows_kept(self._replayed.buffer, batch_size)

    def groups_of(self, agent: Agent) -> list[Any]:
        cells = [each.cell for each in agent.modules() if isinstance(each, Memory)]
        memory: dict[str, Any] = {"params": [each for cell in cells for each in cell.parameters()]}
        if self.memory_learning_rate is not None:
            memory["lr"] = before_the_run(self.memory_learning_rate, 0.0)
        in_memory = set(map(id, memory["params"]))
        return [{"params": [each for each in agent.parameters() if id(each) not in in_memory]}, memory]

    def follow_schedules(self, env_steps: int, total_steps: int) -> None:
        super().follow_schedules(env_steps, total_steps)
        if self.memory_learning_rate is not None:
            for optimizer in (self._policy_optimizer, self._critic_optimizer):
                optimizer.param_groups[1]["lr"] = self.memory_learning_rate

    def loss_of_critics(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            latent = batch.of_steps(batch.latent(self.policy)[1:])
            following = self.policy.sample(latent, self.draw_noise(latent))
            next_latent = batch.of_steps(batch.latent(self.target_critic)[1:])
            next_values = self.target_critic.values(next_latent, following.action).amin(dim=0)
            target = self.soft_target(batch, next_values, following.log_prob)
        latent = batch.of_steps(batch.latent(self.critic)[:-1])
        values = self.critic.values(latent, self.policy.bounds.to_unit(batch.actions[0]))
        return summed_half_squares(values, target), values.detach()

    def loss_of_policy(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        latent = batch.of_steps(batch.latent(self.policy)[:-1])
        drawn = self.policy.sample(latent, self.draw_noise(latent))
        with torch.no_grad():
            critic_latent = batch.of_steps(batch.latent(self.critic)[:-1])
        values = self.critic.values(critic_latent, drawn.action).amin(dim=0)
        loss = (self.temperature.value * drawn.log_prob - values).mean()
        return loss, drawn.log_prob.detach()
