"""What the rest of the code may ask of an agent that steps environments, whatever these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.dry_agent import DryEnvironmentAgent
from bbrl_exp.envs.rows import RowLayout, info_dtypes, row_layout
from bbrl_exp.envs.spec import EnvSpec, SpaceMismatchError
from bbrl_exp.envs.staging import torch_dtype
from bbrl_exp.errors import BbrlExpError, ConfigurationError, NonFiniteError
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace

Observation = Tensor | Mapping[str, Tensor]


class SteppedTogether(Protocol):
    """Steps the environments of K agents, each of which has its own workspace.

    Attributes:
        reads: the variable of the actions.
        layout: name → (shape of a row of all environments ``[K · B, …]``, dtype).
        action_facts: shape ``[K · B, …]`` and dtype of the actions.
    """

    reads: tuple[str, ...]
    layout: RowLayout
    action_facts: tuple[tuple[int, ...], np.dtype[Any]]

    def step(self, t: int, workspaces: Sequence[Workspace], jobs: Sequence[int]) -> dict[int, Exception]:
        """Fills row ``t`` of the workspaces of ``jobs``; gives the errors of those whose environments failed."""

    def fill(
        self, t: int, actions: NDArray[Any], rows: Sequence[NDArray[Any]], jobs: Sequence[int]
    ) -> dict[int, Exception]:
        """Fills row ``t`` of all variables, in the order of ``layout``, from the actions of row ``t`` - 1.

        Args:
            t: 0 begins episodes everywhere.
            actions: of all environments; 0 is done in place of what a job refuses.
            rows: arrays without gaps.
            jobs: of which errors are given. All are stepped, also those that have failed or left.
        """


class EnvironmentAgent(Agent):
    """B environments side by side, which read the actions of row t - 1 and write row t of every ``env/…`` variable.

    A subclass defines :meth:`reset`, :meth:`step`, :meth:`seed` and :meth:`for_evaluation`; to be resumed,
    :meth:`run_state` and :meth:`load_run_state`; to be animated, :meth:`frame`. A constructor that takes ``batch_size``
    and ``seed`` is given those of the run. :meth:`show` writes a row, ends included; a subclass may also write all
    variables itself, each ``[B]`` on ``agent_device`` unless said otherwise: the leaves of the observation
    (``[B, *shape]``, in their dtypes), ``env/reward`` (float32), ``env/terminated``, ``env/truncated``, ``env/done``
    (bool, either of the two), ``env/timestep`` (int64), ``env/initial_state`` (bool), ``env/cumulated_reward``
    (float32), ``env/info/<key>``.

    After a row that is done, environments with automatic reset show the first row of the next episode: reward 0,
    ``env/initial_state`` true, and the action is ignored. Without it they are frozen: the last row repeats with reward
    0. The rows of episodes depend on the seed, the role and the actions alone.

    Args:
        env_spec: what the environments show and accept, and how many they are.
        info: info key → dtype name of each variable ``env/info/<key>``.
        role: ``"train"``, or the list of episodes that is evaluated; two roles share no stream of random numbers.
        auto_reset: whether a finished environment begins its next episode, or is frozen.
        name: the agent's name.

    Attributes:
        not_resumable: why runs in these environments cannot be resumed; None where they can.
        repeats_itself: whether the same seed and actions lead to the same rows; false where episodes depend on earlier
            ones, which :meth:`run_state` then holds.
        longest_resumable_episode: steps after which an unfinished episode cannot be resumed; None for no limit.
        frames_per_second: of animations.
    """

    env_spec: EnvSpec
    auto_reset: bool
    not_resumable: str | None = None
    repeats_itself: bool = True
    longest_resumable_episode: int | None = None
    frames_per_second: float = 30.0

    def __init__(
        self,
        env_spec: EnvSpec,
        *,
        info: Mapping[str, str] | None = None,
        role: str = "train",
        auto_reset: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        for argument, number in (
            ("batch_size", env_spec.batch_size),
            ("max_episode_steps", env_spec.max_episode_steps),
        ):
            if number is not None and (not isinstance(number, int | np.integer) or number < 1):
                raise ConfigurationError(f"{argument}={number}: must be an integer of at least 1")
        self.env_spec, self.role, self.auto_reset = env_spec, role, auto_reset
        self.info = info_dtypes(info or {})
        self._layout = row_layout(env_spec.observations, self.info, env_spec.batch_size)
        self.reads: tuple[str, ...] = tuple(leaf.name for leaf in env_spec.actions)
        self.writes: tuple[str, ...] = tuple(self._layout)
        if self.not_resumable is None and type(self).run_state is EnvironmentAgent.run_state:
            self.not_resumable = f"{type(self).__name__} does not define run_state and load_run_state"

    @property
    def batch_size(self) -> int:
        """Number B of environments."""
        return self.env_spec.batch_size

    @property
    def replays_actions(self) -> bool:
        """Whether :meth:`load_run_state` plays the episodes again, and refuses those that come out differently."""
        return False

    @property
    def layout(self) -> RowLayout:
        """Name → (shape ``[B, …]``, dtype) of a row of each variable that is written."""
        return self._layout

    @classmethod
    def arguments_of_one(cls, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The constructor's arguments for one environment to try, from those of the run, which are checked here.

        Raises:
            ConfigurationError: arguments that contradict each other.
        """
        return {**arguments, "batch_size": 1} if "batch_size" in arguments else arguments

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes row ``t``. At t = 0 a new recording begins: rows beyond 0 of every variable are dropped."""
        if t == 0:
            self.__dict__["workspace"].truncate(1)
            self.reset()
        else:
            self.step(t)

    def reset(self) -> None:
        """Begins an episode in every environment and writes row 0."""
        raise NotImplementedError(f"{type(self).__name__} does not define reset")

    def step(self, t: int) -> None:
        """Carries out the actions of row ``t - 1`` and writes row ``t``, 1 or more."""
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def seed(self, seed: int) -> None:
        """From the next reset on the episodes are those of the root ``seed``, from the first one."""
        raise NotImplementedError(f"{type(self).__name__} does not define seed")

    def for_evaluation(self, batch_size: int, seed: int, role: str) -> EnvironmentAgent:
        """Other environments for the same task, without automatic reset.

        Args:
            batch_size: how many.
            seed: their root seed.
            role: the list of episodes, ``"eval"`` or ``"final_eval"``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define for_evaluation")

    def run_state(self) -> dict[str, Any]:
        """What leads other environments to where these are, as tensors and plain Python.

        Raises:
            BbrlExpError: they cannot be saved.
        """
        raise BbrlExpError(f"{self.env_spec.env_id} cannot be resumed: {self.not_resumable}")

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Resumes from where :meth:`run_state` was taken: the next call is at t > 0, on a workspace with the same rows.

        Raises:
            BbrlExpError: the environments do not come to where they were.
        """
        raise BbrlExpError(f"{self.env_spec.env_id} cannot be resumed: {self.not_resumable}")

    def forget_actions(self) -> None:
        """From now on :meth:`run_state` is not called, and what is kept for it alone can be dropped."""

    def together(self, others: Sequence[EnvironmentAgent]) -> SteppedTogether | None:
        """What steps these environments and those of ``others``, which are built alike, with the same rows.

        None, as here, where each steps its own. The agents are not called then, but saved as ever.
        """
        return None

    def frame(self, index: int) -> NDArray[np.uint8]:
        """A picture of environment ``index`` as its last row shows it, uint8 ``[H, W, 3]``."""
        raise ConfigurationError(f"{self.env_spec.env_id} cannot be animated: {type(self).__name__} shows no pictures")

    def check_frames(self) -> None:
        """Refuses environments of which no pictures can be made.

        Raises:
            ConfigurationError: why.
        """
        if type(self).frame is EnvironmentAgent.frame:
            self.frame(0)

    def with_frames(self) -> EnvironmentAgent:
        """These environments, or others like them where only those made for it have :meth:`frame`."""
        return self

    def dry_copy(self, batch_size: int | None = None) -> Agent:
        """A substitute without environments that writes zeros and checks the actions.

        Args:
            batch_size: of how many environments; None for as many as there are.
        """
        spec = replace(self.env_spec, batch_size=batch_size or self.batch_size)
        name = self.name or type(self).__name__
        return DryEnvironmentAgent(name, self.label, spec, self.info, self.agent_device)

    def for_slice(self, part: BatchSlice) -> Agent:
        """A copy for a part of the batch: only of classes that define it.

        Raises:
            ConfigurationError: the part is not the whole.
        """
        if part.count < part.whole:
            raise ConfigurationError(
                f"{self.label} steps its whole batch as one, which cannot be divided among processes; possible: one"
            )
        return super().for_slice(part)

    def new_generator(self, seed: int) -> torch.Generator:
        """A generator on the CPU, with its own stream for the root ``seed`` and the role of this agent."""
        return torch_generator(seed, self.role, "environments")

    def show(
        self,
        t: int,
        observation: Observation,
        reward: Tensor | None = None,
        terminated: Tensor | None = None,
        truncated: Tensor | None = None,
        info: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Writes row ``t`` of every variable from what the environments show.

        Where row t - 1 is done, the reward is 0, and with automatic reset an episode begins, so that ``observation``
        must be its first one there; without it the last row is repeated whatever is given. The time limit of
        ``env_spec`` is applied here. Returns are summed in float32.

        Args:
            t: the time step.
            observation: its only leaf, ``[B, *shape]``, or a mapping of the name of each leaf to it.
            reward: ``[B]``; None for 0.
            terminated: bool ``[B]``; None for nowhere.
            truncated: bool ``[B]``, in addition to what the time limit cuts; None for nowhere.
            info: key → ``[B]``; 0 or False where a key of ``info`` is not among them.

        Raises:
            SpaceMismatchError: another shape or dtype than stated, or a missing leaf.
            NonFiniteError: a NaN or an infinity in an observation or a reward.
        """
        size = self.batch_size
        nowhere = torch.zeros(size, dtype=torch.bool, device=self.agent_device)
        leaves = observation if isinstance(observation, Mapping) else {self.env_spec.observations[0].name: observation}
        row = {
            **leaves,
            "env/reward": nowhere.float() if reward is None else reward.float(),
            "env/terminated": nowhere if terminated is None else terminated,
            "env/truncated": nowhere if truncated is None else truncated,
            **{
                f"env/info/{key}": torch.zeros_like(nowhere, dtype=torch_dtype(np.dtype(self.info[key])))
                for key in self.info
            },
            **{f"env/info/{key}": value for key, value in (info or {}).items()},
        }
        self._check_given(row, t)
        before = {name: self.get((name, t - 1)) for name in self.writes} if t > 0 else {}
        was_done = before.get("env/done", nowhere)
        begins = ~nowhere if t == 0 else was_done if self.auto_reset else nowhere
        timestep = torch.zeros_like(nowhere, dtype=torch.int64) if t == 0 else before["env/timestep"] + 1
        row["env/timestep"] = timestep = timestep.masked_fill(begins, 0)
        if self.env_spec.max_episode_steps is not None:
            row["env/truncated"] = row["env/truncated"] | (timestep >= self.env_spec.max_episode_steps)
        for name in ("env/terminated", "env/truncated"):
            row[name] = row[name] & ~begins
        row["env/done"] = row["env/terminated"] | row["env/truncated"]
        if t > 0 and not self.auto_reset:
            row = {name: _where(was_done, before[name], value) for name, value in row.items()}
        row["env/initial_state"] = begins
        row["env/reward"] = row["env/reward"].masked_fill(was_done | begins, 0.0)
        total = before.get("env/cumulated_reward", row["env/reward"]).masked_fill(begins, 0.0)
        row["env/cumulated_reward"] = total + row["env/reward"]
        self._check_finite(row, t)
        for name in self.writes:
            self.set((name, t), row[name])

    def _check_given(self, row: Mapping[str, Tensor], t: int) -> None:
        given = [leaf.name for leaf in self.env_spec.observations]
        given += ["env/reward", "env/terminated", "env/truncated", *(f"env/info/{key}" for key in self.info)]
        if unknown := [name for name in row if name not in given]:
            raise SpaceMismatchError(f"{self.label} shows '{unknown[0]}' at t={t}; stated are {', '.join(given)}")
        for name in given:
            shape, dtype = self._layout[name]
            expected = _in_words(torch_dtype(dtype), shape)
            found = "nothing" if name not in row else _in_words(row[name].dtype, row[name].shape)
            if found != expected:
                raise SpaceMismatchError(f"{self.label} shows '{name}' at t={t}: expected {expected}, found {found}")

    def _check_finite(self, row: Mapping[str, Tensor], t: int) -> None:
        shown = {name: value for name, value in row.items() if not name.startswith("env/info/")}
        floats = {name: value for name, value in shown.items() if value.is_floating_point()}
        if bool(torch.stack([value.isfinite().all() for value in floats.values()]).all()):
            return
        for name, value in floats.items():
            for index in (~value.isfinite()).nonzero().tolist():
                raise NonFiniteError(name, index[0], t, value[tuple(index)].item())


def _where(mask: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """``one`` where ``mask``, ``[B]``, is true, else ``other``, both ``[B, …]``."""
    return torch.where(mask.view(-1, *[1] * (one.ndim - 1)), one, other)


def _in_words(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
