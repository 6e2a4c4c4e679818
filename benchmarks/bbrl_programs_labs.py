"""Programs in the manner of a course on deep reinforcement learning, written against BBRL's documented API.

They import ``bbrl`` and nothing of this project. ``bbrl_programs.py`` runs them, in an interpreter that has BBRL and
in one that has its compatibility layer. Each program is a generator: it trains, and from time to time yields the number
of environment steps so far and the policy to evaluate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from bbrl import get_arguments, get_class
from bbrl.agents import Agent, Agents, TemporalAgent
from bbrl.agents.gymnasium import ParallelGymAgent, make_env
from bbrl.utils.functional import gae
from bbrl.utils.replay_buffer import ReplayBuffer
from bbrl.workspace import Workspace
from torch import nn

Program = Callable[[int, int], Iterator[tuple[int, Any]]]
"""From a seed and a number of environment steps to pairs of steps so far and policy."""


def build_mlp(sizes: list[int], activation: type[nn.Module], output: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(len(sizes) - 1):
        is_last = index == len(sizes) - 2
        layers += [nn.Linear(sizes[index], sizes[index + 1]), (output or nn.Identity()) if is_last else activation()]
    return nn.Sequential(*layers)


def setup_optimizer(learning_rate: float, *agents: nn.Module) -> torch.optim.Optimizer:
    settings = {"classname": "torch.optim.Adam", "lr": learning_rate}
    parameters = nn.ModuleList(agents).parameters()
    optimizer: torch.optim.Optimizer = get_class(settings)(parameters, **get_arguments(settings))
    return optimizer


def soft_update(source: nn.Module, target: nn.Module, rate: float) -> None:
    for parameter, followed in zip(target.parameters(), source.parameters(), strict=True):
        parameter.data.copy_(rate * followed.data + (1 - rate) * parameter.data)


def environments(env_id: str, n_envs: int, seed: int, autoreset: bool = True, wrappers: Any = ()) -> ParallelGymAgent:
    agent = ParallelGymAgent(partial(make_env, env_id, autoreset=autoreset, wrappers=list(wrappers)), n_envs)
    agent.seed(seed)
    return agent


def collect(agent: TemporalAgent, workspace: Workspace, n_steps: int, is_first: bool, **kwargs: Any) -> None:
    """Records ``n_steps`` transitions per environment; the last row of the call before is the first one."""
    if is_first:
        agent(workspace, t=0, n_steps=n_steps + 1, **kwargs)
        return
    workspace.zero_grad()
    workspace.copy_n_last_steps(1)
    agent(workspace, t=1, n_steps=n_steps, **kwargs)


# DQN


class QAgent(Agent):
    def __init__(self, name: str, obs_size: int, n_actions: int) -> None:
        super().__init__(name)
        self.model = build_mlp([obs_size, 64, 64, n_actions], nn.ReLU)

    def forward(self, t: int, choose_action: bool = True, **kwargs: Any) -> None:
        q_values = self.model(self.get(("env/env_obs", t)))
        self.set((f"{self.get_name()}/q_values", t), q_values)
        if choose_action:
            self.set(("action", t), q_values.argmax(dim=1))


class EpsilonGreedy(Agent):
    def __init__(self, epsilon: float) -> None:
        super().__init__("explorer")
        self.epsilon = epsilon

    def forward(self, t: int, **kwargs: Any) -> None:
        q_values = self.get(("critic/q_values", t))
        n_envs, n_actions = q_values.shape
        is_random = torch.rand(n_envs) < self.epsilon
        actions = torch.where(is_random, torch.randint(n_actions, (n_envs,)), q_values.argmax(dim=1))
        self.set(("action", t), actions)


def dqn(seed: int, budget: int) -> Iterator[tuple[int, Any]]:
    env = environments("CartPole-v1", 8, seed)
    critic = QAgent("critic", *env.get_obs_and_actions_sizes())
    target = copy.deepcopy(critic).set_name("target")
    explorer = EpsilonGreedy(1.0)
    train = TemporalAgent(Agents(env, critic, explorer))
    q_agent, target_q_agent = TemporalAgent(critic), TemporalAgent(target)
    optimizer = setup_optimizer(1e-3, critic)
    buffer, workspace, n_steps, n_updates = ReplayBuffer(max_size=20_000), Workspace(), 0, 0
    while n_steps < budget:
        explorer.epsilon = max(0.05, 1.0 - n_steps / (0.2 * budget))
        with torch.no_grad():
            collect(train, workspace, 2, n_steps == 0, choose_action=False)
        transitions = workspace.get_transitions()
        before, n_steps = n_steps, n_steps + transitions.batch_size()
        buffer.put(transitions)
        for _ in range(4 if buffer.size() > 500 else 0):
            batch = buffer.get_shuffled(64)
            q_agent(batch, t=0, n_steps=2, choose_action=False)
            with torch.no_grad():
                target_q_agent(batch, t=0, n_steps=2, choose_action=False)
            q_values, target_q_values, action, reward, terminated = batch[
                "critic/q_values", "target/q_values", "action", "env/reward", "env/terminated"
            ]
            goal = reward[1] + 0.99 * target_q_values[1].amax(dim=-1) * ~terminated[1]
            chosen = q_values[0].gather(1, action[0].unsqueeze(-1)).squeeze(-1)
            loss = nn.functional.mse_loss(chosen, goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(critic.parameters(), 10.0)
            optimizer.step()
            n_updates += 1
            if n_updates % 100 == 0:
                target.load_state_dict(critic.state_dict())
        if before * 10 // budget < n_steps * 10 // budget:
            yield n_steps, critic


# TD3


class Actor(Agent):
    def __init__(self, name: str, obs_size: int, action_size: int) -> None:
        super().__init__(name)
        self.model = build_mlp([obs_size, 64, 64, action_size], nn.ReLU, nn.Tanh())

    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("action", t), 2.0 * self.model(self.get(("env/env_obs", t))))


class GaussianNoise(Agent):
    def __init__(self, deviation: float, limit: float = np.inf) -> None:
        super().__init__("noise")
        self.deviation, self.limit = deviation, limit

    def forward(self, t: int, **kwargs: Any) -> None:
        action = self.get(("action", t))
        noise = (self.deviation * torch.randn_like(action)).clamp(-self.limit, self.limit)
        self.set(("action", t), (action + noise).clamp(-2.0, 2.0))


class ActionValue(Agent):
    def __init__(self, name: str, obs_size: int, action_size: int) -> None:
        super().__init__(name)
        self.model = build_mlp([obs_size + action_size, 64, 64, 1], nn.ReLU)

    def forward(self, t: int, **kwargs: Any) -> None:
        inputs = torch.cat([self.get(("env/env_obs", t)), self.get(("action", t))], dim=1)
        self.set((f"{self.get_name()}/q_values", t), self.model(inputs).squeeze(-1))


def td3(seed: int, budget: int) -> Iterator[tuple[int, Any]]:
    env = environments("Pendulum-v1", 4, seed)
    sizes = env.get_obs_and_actions_sizes()
    actor, critics = Actor("actor", *sizes), [ActionValue(f"critic-{k}", *sizes) for k in (1, 2)]
    target_actor = copy.deepcopy(actor)
    target_critics = [copy.deepcopy(critic).set_name(f"target-{critic.get_name()}") for critic in critics]
    train = TemporalAgent(Agents(env, actor, GaussianNoise(0.2)))
    smoothed_target = TemporalAgent(Agents(target_actor, GaussianNoise(0.2, 0.5)))
    actor_optimizer, critic_optimizer = setup_optimizer(1e-3, actor), setup_optimizer(1e-3, *critics)
    buffer, workspace, n_steps, n_updates = ReplayBuffer(max_size=20_000), Workspace(), 0, 0
    while n_steps < budget:
        with torch.no_grad():
            collect(train, workspace, 1, n_steps == 0)
        transitions = workspace.get_transitions()
        before, n_steps = n_steps, n_steps + transitions.batch_size()
        if transitions.batch_size():
            buffer.put(transitions)
        for _ in range(4 if buffer.size() > 500 else 0):
            batch = buffer.get_shuffled(128)
            reward, terminated = batch["env/reward", "env/terminated"]
            for critic in critics:
                TemporalAgent(critic)(batch, t=0, n_steps=1)
            with torch.no_grad():
                smoothed_target(batch, t=1, n_steps=1)
                for critic in target_critics:
                    TemporalAgent(critic)(batch, t=1, n_steps=1)
                least = torch.minimum(batch["target-critic-1/q_values"][1], batch["target-critic-2/q_values"][1])
                goal = reward[1] + 0.98 * least * ~terminated[1]
            values = [batch[f"critic-{k}/q_values"][0] for k in (1, 2)]
            critic_loss = sum(nn.functional.mse_loss(value, goal) for value in values)
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()
            n_updates += 1
            if n_updates % 2 == 0:
                TemporalAgent(actor)(batch, t=0, n_steps=1)
                TemporalAgent(critics[0])(batch, t=0, n_steps=1)
                actor_loss = -batch["critic-1/q_values"][0].mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()
                for source, followed in zip([actor, *critics], [target_actor, *target_critics], strict=True):
                    soft_update(source, followed, 0.01)
        if before * 10 // budget < n_steps * 10 // budget:
            yield n_steps, actor


# A2C, PPO, REINFORCE


class StochasticActor(Agent):
    def __init__(self, obs_size: int, n_actions: int) -> None:
        super().__init__("actor")
        self.model = build_mlp([obs_size, 64, 64, n_actions], nn.Tanh)

    def forward(self, t: int, stochastic: bool = False, replay: bool = False, **kwargs: Any) -> None:
        distribution = torch.distributions.Categorical(logits=self.model(self.get(("env/env_obs", t))))
        if replay:
            action = self.get(("action", t))
        else:
            action = distribution.sample() if stochastic else distribution.probs.argmax(dim=-1)
            self.set(("action", t), action)
        self.set(("actor/log_prob", t), distribution.log_prob(action))
        self.set(("actor/entropy", t), distribution.entropy())


class StateValue(Agent):
    def __init__(self, obs_size: int) -> None:
        super().__init__("critic")
        self.model = build_mlp([obs_size, 64, 64, 1], nn.Tanh)

    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("critic/v_values", t), self.model(self.get(("env/env_obs", t))).squeeze(-1))


def a2c(seed: int, budget: int) -> Iterator[tuple[int, Any]]:
    env = environments("CartPole-v1", 8, seed)
    obs_size, n_actions = env.get_obs_and_actions_sizes()
    actor, critic = StochasticActor(obs_size, n_actions), StateValue(obs_size)
    train, t_critic = TemporalAgent(Agents(env, actor)), TemporalAgent(critic)
    optimizer = setup_optimizer(3e-3, actor, critic)
    workspace, n_steps, length = Workspace(), 0, 8
    while n_steps < budget:
        is_first = n_steps == 0
        collect(train, workspace, length, is_first, stochastic=True)
        if not is_first:  # the row that was kept has lost its gradient
            actor(workspace, t=0, replay=True)
        t_critic(workspace, t=0, n_steps=length + 1)
        values, reward, terminated, done, log_prob, entropy = workspace[
            "critic/v_values", "env/reward", "env/terminated", "env/done", "actor/log_prob", "actor/entropy"
        ]
        advantage = gae(reward[1:], values[1:], ~terminated[1:], values[:-1], 0.99, 0.95)
        is_transition = (~done[:-1]).float()
        policy_loss = -(advantage.detach() * log_prob[:-1] * is_transition).mean()
        loss = policy_loss + 0.5 * (advantage.pow(2) * is_transition).mean() - 0.005 * entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)
        optimizer.step()
        before, n_steps = n_steps, n_steps + int(is_transition.sum())
        if before * 10 // budget < n_steps * 10 // budget:
            yield n_steps, actor


def ppo_clip(seed: int, budget: int) -> Iterator[tuple[int, Any]]:
    env = environments("CartPole-v1", 8, seed)
    obs_size, n_actions = env.get_obs_and_actions_sizes()
    actor, critic = StochasticActor(obs_size, n_actions), StateValue(obs_size)
    train = TemporalAgent(Agents(env, actor, critic))
    optimizer = setup_optimizer(1e-3, actor, critic)
    workspace, n_steps = Workspace(), 0
    while n_steps < budget:
        with torch.no_grad():
            collect(train, workspace, 64, n_steps == 0, stochastic=True)
            values, reward, terminated = workspace["critic/v_values", "env/reward", "env/terminated"]
            advantage = gae(reward[1:], values[1:], ~terminated[1:], values[:-1], 0.99, 0.95)
        recorded = Workspace()
        for name in ("env/env_obs", "action", "env/done", "actor/log_prob"):
            recorded.set_full(name, workspace[name].clone())
        recorded.set_full("advantage", torch.cat([advantage, torch.zeros_like(advantage[:1])]))
        recorded.set_full("return", recorded["advantage"] + values)
        transitions = recorded.get_transitions()
        before, n_steps = n_steps, n_steps + transitions.batch_size()
        for _ in range(4):
            for indexes in torch.randperm(transitions.batch_size()).split(128):
                batch = transitions.select_batch(indexes)
                old_log_prob, advantage, returns = (
                    batch[name][0] for name in ("actor/log_prob", "advantage", "return")
                )
                actor(batch, t=0, replay=True)
                critic(batch, t=0)
                ratio = (batch["actor/log_prob"][0] - old_log_prob).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
                value_loss = (batch["critic/v_values"][0] - returns).pow(2).mean()
                loss = -gain + 0.5 * value_loss - 0.01 * batch["actor/entropy"][0].mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)
                optimizer.step()
        if before * 10 // budget < n_steps * 10 // budget:
            yield n_steps, actor


def reinforce(seed: int, budget: int) -> Iterator[tuple[int, Any]]:
    env = environments("CartPole-v1", 8, seed, autoreset=False)
    obs_size, n_actions = env.get_obs_and_actions_sizes()
    actor, critic = StochasticActor(obs_size, n_actions), StateValue(obs_size)
    train = TemporalAgent(Agents(env, actor, critic))
    optimizer = setup_optimizer(3e-3, actor, critic)
    n_steps = 0
    while n_steps < budget:
        workspace = Workspace()
        train(workspace, t=0, stop_variable="env/done", stochastic=True)
        reward, done, log_prob, values = workspace["env/reward", "env/done", "actor/log_prob", "critic/v_values"]
        returns = torch.zeros_like(reward)
        for t in range(len(reward) - 2, -1, -1):
            returns[t] = reward[t + 1] + 0.99 * returns[t + 1]
        is_running = (~done).float()
        error = returns - values
        loss = -(error.detach() * log_prob * is_running).sum() + 0.5 * (error.pow(2) * is_running).sum()
        optimizer.zero_grad()
        (loss / is_running.sum()).backward()
        nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)
        optimizer.step()
        before, n_steps = n_steps, n_steps + int(is_running.sum())
        if before * 10 // budget < n_steps * 10 // budget:
            yield n_steps, actor


# PPO with an LSTM


class Masked(gym.ObservationWrapper[Any, Any, Any]):
    """CartPole without velocities; the angle is shown ten times as large, so that both components have one scale."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        box = env.observation_space
        self.observation_space = gym.spaces.Box(self.observation(box.low), self.observation(box.high))

    def observation(self, observation: Any) -> Any:
        return observation[[0, 2]] * np.array([1, 10], np.float32)


class RecurrentActorCritic(Agent):
    """Keeps its state in the workspace; begins with zeros at the start of an episode."""

    def __init__(self, obs_size: int, n_actions: int, n_cells: int = 32) -> None:
        super().__init__("actor")
        self.actor, self.critic = nn.LSTMCell(obs_size, n_cells), nn.LSTMCell(obs_size, n_cells)
        self.policy, self.value, self.n_cells = nn.Linear(n_cells, n_actions), nn.Linear(n_cells, 1), n_cells

    def forward(self, t: int, stochastic: bool = False, replay: bool = False, **kwargs: Any) -> None:
        obs = self.get(("env/env_obs", t))
        if t == 0 and replay:
            before = self.get(("lstm/first", t))
        elif t == 0:
            before = torch.zeros(len(obs), 4 * self.n_cells)
        else:
            before = self.get(("lstm/state", t - 1))
        before = before * (self.get(("env/timestep", t)) > 0).float().unsqueeze(-1)
        of_actor, of_critic = before.split(2 * self.n_cells, dim=1)
        hidden, memory = self.actor(obs, of_actor.split(self.n_cells, dim=1))
        critic_hidden, critic_memory = self.critic(obs, of_critic.split(self.n_cells, dim=1))
        self.set(("lstm/before", t), before.detach())
        self.set(("lstm/state", t), torch.cat([hidden, memory, critic_hidden, critic_memory], dim=1))
        distribution = torch.distributions.Categorical(logits=self.policy(hidden))
        if replay:
            action = self.get(("action", t))
        else:
            action = distribution.sample() if stochastic else distribution.probs.argmax(dim=-1)
            self.set(("action", t), action)
        self.set(("actor/log_prob", t), distribution.log_prob(action))
        self.set(("actor/entropy", t), distribution.entropy())
        self.set(("critic/v_values", t), self.value(critic_hidden).squeeze(-1))


def ppo_lstm(seed: int, budget: int) -> Iterator[tuple[int, Any]]:
    env = environments("CartPole-v1", 8, seed, wrappers=[Masked])
    actor = RecurrentActorCritic(*env.get_obs_and_actions_sizes())
    train, replayed = TemporalAgent(Agents(env, actor)), TemporalAgent(actor)
    optimizer = setup_optimizer(2e-3, actor)
    workspace, n_steps, length = Workspace(), 0, 32
    while n_steps < budget:
        with torch.no_grad():
            collect(train, workspace, length, n_steps == 0, stochastic=True)
            values, reward, terminated, done, old_log_prob = workspace[
                "critic/v_values", "env/reward", "env/terminated", "env/done", "actor/log_prob"
            ]
            advantage = gae(reward[1:], values[1:], ~terminated[1:], values[:-1], 0.98, 0.8)
            returns, is_transition = advantage + values[:-1], (~done[:-1]).float()
            n_new = int(is_transition.sum())
            mean = (advantage * is_transition).sum() / n_new
            deviation = ((advantage - mean).pow(2) * is_transition).sum().div(n_new).sqrt()
            advantage = (advantage - mean) / (deviation + 1e-8)
        recorded = {name: workspace[name].clone() for name in ("env/env_obs", "env/timestep", "action", "lstm/before")}
        for _ in range(8):
            batch = Workspace()
            for name in ("env/env_obs", "env/timestep", "action"):
                batch.set_full(name, recorded[name].clone())
            batch.set("lstm/first", 0, recorded["lstm/before"][0])
            replayed(batch, t=0, n_steps=length, replay=True)
            log_prob, entropy, new_values = batch["actor/log_prob", "actor/entropy", "critic/v_values"]
            ratio = (log_prob - old_log_prob[:-1]).exp()
            gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            loss = -gain + 0.5 * (new_values - returns).pow(2) - 0.01 * entropy
            optimizer.zero_grad()
            ((loss * is_transition).sum() / n_new).backward()
            nn.utils.clip_grad_norm_(actor.parameters(), 0.5)
            optimizer.step()
        before, n_steps = n_steps, n_steps + n_new
        if before * 10 // budget < n_steps * 10 // budget:
            yield n_steps, actor


PROGRAMS: dict[str, tuple[Program, str, list[Any], int]] = {
    "dqn": (dqn, "CartPole-v1", [], 20_000),
    "td3": (td3, "Pendulum-v1", [], 8_000),
    "a2c": (a2c, "CartPole-v1", [], 40_000),
    "ppo_clip": (ppo_clip, "CartPole-v1", [], 40_000),
    "reinforce": (reinforce, "CartPole-v1", [], 40_000),
    "ppo_lstm": (ppo_lstm, "CartPole-v1", [Masked], 30_000),
}
"""Name → the program, the environment in which its policy is evaluated, wrappers, and environment steps."""


@torch.no_grad()
def evaluate(policy: Any, env_id: str, wrappers: list[Any], n_episodes: int) -> float:
    """Mean return of a policy, deterministic, over a fixed list of episodes; the same loop for every ``bbrl``."""
    envs = [make_env(env_id, wrappers=wrappers) for _ in range(n_episodes)]
    observations = np.stack([env.reset(seed=10_000 + i)[0] for i, env in enumerate(envs)])
    returns, running = np.zeros(n_episodes), np.ones(n_episodes, bool)
    workspace, t = Workspace(), 0
    while running.any():
        workspace.set("env/env_obs", t, torch.as_tensor(observations, dtype=torch.float32))
        workspace.set("env/timestep", t, torch.full((n_episodes,), t))
        policy(workspace, t=t)
        actions = workspace.get("action", t).numpy()
        for i in np.flatnonzero(running):
            observations[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
            returns[i] += reward
            running[i] = not (terminated or truncated)
        t += 1
    return float(returns.mean())
