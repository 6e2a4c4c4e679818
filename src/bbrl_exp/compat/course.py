"""The base classes of ``bbrl_utils``: a lab writes its losses, and they do the rest."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent as CoreAgent
from bbrl_exp.compat.combinators import Agents, TemporalAgent
from bbrl_exp.compat.gym import ParallelGymAgent, make_env
from bbrl_exp.compat.notebook import outputs_dir, tqdm, video_display
from bbrl_exp.compat.replay import ReplayBuffer
from bbrl_exp.compat.tools import instantiate_class
from bbrl_exp.compat.video import record_video
from bbrl_exp.compat.workspace import Workspace
from bbrl_exp.errors import ConfigurationError

_DEFAULT_LOGGER = {"classname": "bbrl.utils.logger.TFLogger", "every_n_seconds": 10}


class Logger:
    """Writes losses and returns with the logger of a configuration.

    Args:
        cfg: has ``classname``, and the arguments of that class.
    """

    def __init__(self, cfg: Any) -> None:
        self.logger = instantiate_class(cfg)

    def add_log(self, log_string: str, loss: Tensor, steps: int) -> None:
        """Writes a scalar tensor."""
        self.logger.add_scalar(log_string, loss.item(), steps)

    def log_losses(self, critic_loss: Tensor, entropy_loss: Tensor, actor_loss: Tensor, steps: int) -> None:
        """Writes three losses."""
        self.add_log("critic_loss", critic_loss, steps)
        self.add_log("entropy_loss", entropy_loss, steps)
        self.add_log("actor_loss", actor_loss, steps)

    def log_reward_losses(self, rewards: Tensor, nb_steps: int) -> None:
        """Writes statistics of the returns of an evaluation."""
        for name in ("mean", "max", "min", "median"):
            self.add_log(f"reward/{name}", getattr(rewards, name)(), nb_steps)


class RLBase:
    """What labs have in common: configuration, logger, evaluation, the best policy.

    A lab sets ``train_policy`` and, if it is another one, ``eval_policy``: agents that write ``action``.

    Args:
        cfg: with ``base_dir``, ``gym_env.env_name``, ``algorithm.seed``, ``algorithm.nb_evals``,
            ``algorithm.eval_interval``, and optionally ``gym_env.env_args``, ``logger`` and ``collect_stats``.
        env_wrappers: wrappers of the environments.

    Attributes:
        nb_steps: environment steps so far.
        best_policy: a copy of the policy of the best evaluation; None before the first.
        best_reward: mean return of the best evaluation.
        eval_rewards: the returns of all evaluations, with ``collect_stats``.
    """

    train_env: ParallelGymAgent

    def __init__(self, cfg: Any, env_wrappers: Sequence[Callable[[Any], Any]] = ()) -> None:
        self.cfg = cfg
        arguments = getattr(cfg.gym_env, "env_args", {})
        self.make_env = functools.partial(make_env, cfg.gym_env.env_name, wrappers=list(env_wrappers), **arguments)
        torch.manual_seed(cfg.algorithm.seed)
        self.base_dir = outputs_dir() / Path(cfg.base_dir)
        self.base_dir.mkdir(parents=True, exist_ok=True)
        logger = dict(cfg.get("logger", None) or _DEFAULT_LOGGER)
        logger.setdefault("log_dir", str(outputs_dir() / "tblogs" / Path(cfg.base_dir)))
        self.logger = Logger(logger)
        self.train_policy: CoreAgent | None = None
        self.eval_policy: CoreAgent | None = None
        self.eval_env = ParallelGymAgent(self.make_env, cfg.algorithm.nb_evals).seed(cfg.algorithm.seed)
        self.last_eval_step = self.nb_steps = 0
        self.best_policy: CoreAgent | None = None
        self.best_reward: Any = -torch.inf
        self.running_reward: Any = -torch.inf
        self.running_reward_alpha = 0.99
        self.eval_rewards: list[Tensor] = []

    @functools.cached_property
    def train_agent(self) -> TemporalAgent:
        """The training environments and the training policy, over time."""
        return TemporalAgent(Agents(self.train_env, self._policy("train_policy")))

    @functools.cached_property
    def eval_agent(self) -> TemporalAgent:
        """The environments of evaluations and the policy to evaluate, over time."""
        return TemporalAgent(Agents(self.eval_env, self._policy("eval_policy", "train_policy")))

    def evaluate(self, force: bool = False) -> bool | None:
        """Evaluates the policy, if ``algorithm.eval_interval`` steps have passed, or by ``force``.

        Returns:
            Whether it is the best so far; None where nothing was evaluated.
        """
        if not force and self.nb_steps - self.last_eval_step <= self.cfg.algorithm.eval_interval:
            return None
        self.last_eval_step = self.nb_steps
        workspace = Workspace()
        self.eval_agent(workspace, t=0, stop_variable="env/done")
        return self.register_evaluation(workspace["env/cumulated_reward"][-1])

    def register_evaluation(self, rewards: Tensor, policy: CoreAgent | None = None) -> bool:
        """Writes the returns of an evaluation, ``[N]``, and keeps a copy of the policy if it is the best so far.

        In BBRL the best policy was lost where a lab had no ``eval_policy``; here the training policy is kept then.

        Returns:
            Whether it is.
        """
        self.logger.log_reward_losses(rewards, self.nb_steps)
        if getattr(self.cfg, "collect_stats", False):
            self.eval_rewards.append(rewards)
        mean, weight = rewards.mean(), self.running_reward_alpha
        is_first = self.running_reward == -torch.inf
        self.running_reward = mean if is_first else (1 - weight) * mean + weight * self.running_reward
        if not mean > self.best_reward:
            return False
        self.best_policy = copy.deepcopy(policy or self._policy("eval_policy", "train_policy"))
        self.best_reward = mean
        return True

    def save_stats(self) -> None:
        """Writes the returns of all evaluations as ``stats.npy``, a text file ``[N, evaluations]``."""
        if getattr(self.cfg, "collect_stats", False) and self.eval_rewards:
            np.savetxt(self.base_dir / "stats.npy", torch.stack(self.eval_rewards, dim=-1).numpy())

    def visualize_best(self) -> Any:
        """Films an episode of the best policy in the folder ``best_agent``, and shows it in a notebook.

        Raises:
            ConfigurationError: nothing was evaluated.
        """
        if self.best_policy is None:
            raise ConfigurationError("visualize_best: there is no best policy before the first evaluation")
        path = self.base_dir / "best_agent"
        sys.stdout.write(f"filmed the best policy in {path}\n")
        return video_display(str(record_video(self.make_env(render_mode="rgb_array"), self.best_policy, path)))

    def _standing(self) -> str:
        """How far the lab is, for its progress bar."""
        return f"{self.nb_steps:,} steps, return {self.running_reward:.1f}, best {self.best_reward:.1f}"

    def _policy(self, *names: str) -> CoreAgent:
        for name in names:
            found: CoreAgent | None = getattr(self, name)
            if found is not None:
                return found
        raise ConfigurationError(f"{type(self).__name__}: set self.{names[-1]} before it is run")


class EpochBasedAlgo(RLBase):
    """A lab that learns from a replay buffer of ``algorithm.buffer_size`` transitions."""

    def __init__(self, cfg: Any, env_wrappers: Sequence[Callable[[Any], Any]] = ()) -> None:
        super().__init__(cfg, env_wrappers)
        make = functools.partial(self.make_env, autoreset=True)
        self.train_env = ParallelGymAgent(make, cfg.algorithm.n_envs).seed(cfg.algorithm.seed)
        self.replay_buffer = ReplayBuffer(cfg.algorithm.buffer_size)

    def iter_replay_buffers(self) -> Iterator[ReplayBuffer]:
        """Collects ``algorithm.n_steps`` steps per environment, ``algorithm.max_epochs`` times.

        The buffer is given each time, once it holds more than ``algorithm.learning_starts`` transitions.
        """
        settings, workspace = self.cfg.algorithm, Workspace()
        progress = tqdm(range(settings.max_epochs))
        for epoch in progress:
            if epoch == 0:
                self.train_agent(workspace, t=0, n_steps=settings.n_steps + 1, stochastic=True)
            else:
                workspace.zero_grad()
                workspace.copy_n_last_steps(1)
                self.train_agent(workspace, t=1, n_steps=settings.n_steps, stochastic=True)
            transitions = workspace.get_transitions()
            self.nb_steps += transitions.batch_size()
            self.replay_buffer.put(transitions)
            if self.replay_buffer.size() > settings.learning_starts:
                yield self.replay_buffer
            progress.set_description(self._standing())


class EpisodicAlgo(RLBase):
    """A lab that learns from complete episodes, or from parts of them.

    Args:
        cfg: see :class:`RLBase`.
        autoreset: whether the training environments reset themselves.
        env_wrappers: wrappers of the environments.
    """

    epoch: int

    def __init__(self, cfg: Any, autoreset: bool = False, env_wrappers: Sequence[Callable[[Any], Any]] = ()) -> None:
        super().__init__(cfg, env_wrappers)
        make = functools.partial(self.make_env, autoreset=autoreset)
        self.train_env = ParallelGymAgent(make, cfg.algorithm.n_envs, role="train").seed(cfg.algorithm.seed)

    def iter_episodes(self) -> Iterator[Workspace]:
        """Plays one episode in every environment, ``algorithm.max_epochs`` times; those over early repeat their end."""
        progress = tqdm(range(self.cfg.algorithm.max_epochs))
        for self.epoch in progress:
            workspace = Workspace()
            self.train_agent(workspace, t=0, stop_variable="env/done")
            yield self._counted(workspace)
            progress.set_description(self._standing())

    def iter_partial_episodes(self, episode_steps: int | None = None) -> Iterator[Workspace]:
        """Gives ``episode_steps`` rows, ``algorithm.n_steps`` by default, ``algorithm.max_epochs`` times.

        The last row of one is the first of the next.
        """
        n_rows, workspace = episode_steps or self.cfg.algorithm.n_steps, Workspace()
        progress = tqdm(range(self.cfg.algorithm.max_epochs))
        for self.epoch in progress:
            if self.epoch == 0:
                self.train_agent(workspace, t=0, n_steps=n_rows)
            else:
                workspace.zero_grad()
                workspace.copy_n_last_steps(1)
                self.train_agent(workspace, t=1, n_steps=n_rows - 1)
            yield self._counted(workspace)
            progress.set_description(self._standing())

    def _counted(self, workspace: Workspace) -> Workspace:
        self.nb_steps += int((~workspace["env/done"]).sum())
        return workspace


iter_episodes = EpisodicAlgo.iter_episodes
iter_replay_buffers = EpochBasedAlgo.iter_replay_buffers
iter_partial_episodes = EpisodicAlgo.iter_partial_episodes
