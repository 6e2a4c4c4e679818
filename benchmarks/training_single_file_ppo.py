"""PPO on CartPole as one writes it by hand, in one file of eager torch: the yardstick of ``training.py``."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

BATCH_SIZE, N_STEPS, N_EPOCHS, N_MINIBATCHES = 8, 128, 4, 4
DISCOUNT, TRACE_DECAY, CLIP_RANGE, VALUE_WEIGHT, ENTROPY_WEIGHT, MAX_GRAD_NORM = 0.99, 0.95, 0.2, 0.5, 0.01, 0.5


def layer(n_in: int, n_out: int, gain: float = 2**0.5) -> nn.Linear:
    linear = nn.Linear(n_in, n_out)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


def network(n_in: int, n_out: int, output_gain: float) -> nn.Sequential:
    return nn.Sequential(layer(n_in, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, n_out, output_gain))


class SingleFilePpo:
    """Eight environments, 128 steps, four epochs of four minibatches, networks 64-64 for policy and value each."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.envs = gymnasium.make_vec(
            "CartPole-v1",
            BATCH_SIZE,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP},
        )
        self.policy, self.value = network(4, 2, 0.01), network(4, 1, 1.0)
        self.parameters = [*self.policy.parameters(), *self.value.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, 2.5e-4, eps=1e-5)
        self.observation = torch.from_numpy(self.envs.reset(seed=seed)[0])
        shape = (N_STEPS, BATCH_SIZE)
        self.observations = torch.zeros(*shape, 4)
        self.actions = torch.zeros(shape, dtype=torch.int64)
        self.log_probs, self.rewards, self.values, self.continues, self.bonuses = (torch.zeros(shape) for _ in range(5))

    def iterate(self) -> None:
        """Collects 1,024 transitions and learns from them."""
        self.learn(self.collect())

    @torch.no_grad()
    def collect(self) -> Tensor:
        """Fills the rows; returns the value of the observation after the last one, ``[B]``."""
        self.bonuses.zero_()
        for t in range(N_STEPS):
            distribution = Categorical(logits=self.policy(self.observation))
            action = distribution.sample()
            self.observations[t], self.actions[t] = self.observation, action
            self.log_probs[t] = distribution.log_prob(action)
            self.values[t] = self.value(self.observation).squeeze(-1)
            observation, reward, terminated, truncated, info = self.envs.step(action.numpy())
            self.observation = torch.from_numpy(observation)
            self.rewards[t] = torch.from_numpy(reward)
            self.continues[t] = torch.from_numpy(~(terminated | truncated))
            for i in np.flatnonzero(truncated & ~terminated):
                self.bonuses[t, i] = DISCOUNT * self.value(torch.from_numpy(info["final_obs"][i])).squeeze(-1)
        value: Tensor = self.value(self.observation).squeeze(-1)
        return value

    def learn(self, next_value: Tensor) -> None:
        """Four epochs on what was collected.

        Args:
            next_value: value of the observation after the last row, ``[B]``.
        """
        advantages = torch.zeros_like(self.rewards)
        trace = torch.zeros(BATCH_SIZE)
        for t in reversed(range(N_STEPS)):
            following = self.values[t + 1] if t + 1 < N_STEPS else next_value
            delta = self.rewards[t] + self.bonuses[t] + DISCOUNT * self.continues[t] * following - self.values[t]
            trace = delta + DISCOUNT * TRACE_DECAY * self.continues[t] * trace
            advantages[t] = trace
        returns = (advantages + self.values).flatten()
        advantages, observations = advantages.flatten(), self.observations.flatten(0, 1)
        actions, old_log_probs = self.actions.flatten(), self.log_probs.flatten()
        for _ in range(N_EPOCHS):
            for rows in torch.randperm(BATCH_SIZE * N_STEPS).chunk(N_MINIBATCHES):
                distribution = Categorical(logits=self.policy(observations[rows]))
                ratio = (distribution.log_prob(actions[rows]) - old_log_probs[rows]).exp()
                advantage = advantages[rows]
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = ratio.clamp(1 - CLIP_RANGE, 1 + CLIP_RANGE)
                policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
                value_loss = 0.5 * (self.value(observations[rows]).squeeze(-1) - returns[rows]).square().mean()
                entropy = distribution.entropy().mean()
                loss = policy_loss + VALUE_WEIGHT * value_loss - ENTROPY_WEIGHT * entropy
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
                self.optimizer.step()
