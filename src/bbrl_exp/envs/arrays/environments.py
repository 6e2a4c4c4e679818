"""What array environments have in common, whatever computes their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.arguments import AT_LEAST_1, COUNT_FROM_0
from bbrl_exp.envs.arrays.streams import stream_keys
from bbrl_exp.envs.arrays.task import ArrayTask
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError

Seeds = int | Sequence[int]


class ArrayEnvironments(EnvironmentAgent):
    """B environments of an :class:`~bbrl_exp.envs.arrays.task.ArrayTask`, stepped as arrays.

    Episode e of environment b of the seed s has its own stream of random numbers, for (s, role, b, e); it depends
    neither on B nor on what computes the rows.

    Args:
        task: what the environments do.
        batch_size: number B of environments.
        seed: the root seed. Of a sequence of K seeds each has B / K environments, one after the other: row
            ``k * B / K + b`` is that of environment b of a separate batch with seed k.
        role: ``"train"``, or the list of episodes that is evaluated.
        auto_reset: whether a finished environment begins its next episode, or is frozen.
        clip_actions: whether the environments get box actions clipped to their bounds.
        info: infos to record, key → dtype; None for all that the task gives.
        hidden: indices of the components of the observation that are not shown; the others keep their order.
        first: index of the first environment, where these are a part of a larger batch.
        name: the agent's name.

    Raises:
        ConfigurationError: a batch that cannot be divided by the number of seeds, an info that the task lacks, or a
            component that the observation lacks.
    """

    def __init__(
        self,
        task: ArrayTask,
        batch_size: int,
        seed: Seeds = 0,
        *,
        role: str = "train",
        auto_reset: bool = True,
        clip_actions: bool = True,
        info: Mapping[str, str] | None = None,
        hidden: Sequence[int] = (),
        first: int = 0,
        name: str | None = None,
    ) -> None:
        AT_LEAST_1.check(batch_size=batch_size)
        COUNT_FROM_0.check(first=first)
        info = task.info if info is None else info
        if unknown := [key for key in info if key not in task.info]:
            known = ", ".join(task.info) or "none"
            raise ConfigurationError(f"info_keys: {task.env_id} as an array has no '{unknown[0]}'; it has: {known}")
        observation, self._visible = _shown(task.observation, hidden)
        spec = EnvSpec(task.env_id, batch_size, (observation,), (task.action,), task.max_episode_steps, clip_actions)
        super().__init__(spec, info=info, role=role, auto_reset=auto_reset, name=name)
        self.task = task
        self.frames_per_second = task.frames_per_second
        self._hidden, self._first = tuple(hidden), first
        self._has_begun = False
        self._set_up()
        self.seed(seed)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The root seeds, each of an equal part of the batch."""
        return self._seeds

    def seed(self, seed: Seeds) -> None:
        """From the next reset on the episodes are those of the root ``seed``, or seeds, from the first one.

        An environment that is in the middle of an episode plays it to its end.
        """
        seeds = (int(seed),) if isinstance(seed, int | np.integer) else tuple(int(each) for each in seed)
        if not seeds or self.batch_size % len(seeds):
            raise ConfigurationError(
                f"seed: {len(seeds)} seeds cannot share {self.batch_size} environments equally; "
                "batch_size must be a multiple of their number"
            )
        self._seeds = seeds
        self._use_keys(stream_keys(seeds, self.role, self.batch_size, self._first))

    def for_evaluation(self, batch_size: int, seed: Seeds, role: str) -> ArrayEnvironments:
        """Others for the same task, by the same means; a sequence of seeds as in the constructor."""
        return self._others(batch_size, seed, role=role, auto_reset=False)

    def for_slice(self, part: BatchSlice) -> ArrayEnvironments:
        """Those of a part of the batch, from their first episode on.

        Raises:
            ConfigurationError: the batch is that of several seeds.
        """
        if len(self._seeds) > 1 and part.count < part.whole:
            raise ConfigurationError(f"{self.label} has several seeds, and cannot be divided among processes")
        return self._others(part.count, self._seeds, first=self._first + part.first)

    def check_frames(self) -> None:
        """See :class:`~bbrl_exp.envs.environment_agent.EnvironmentAgent`."""
        self.task.check_frames()

    def frame(self, index: int) -> NDArray[np.uint8]:
        """A picture of environment ``index``."""
        return self.task.frame(self._state_of(index))

    def _others(self, batch_size: int, seed: Seeds, **changes: Any) -> ArrayEnvironments:
        """Other environments for the same task; not of a subclass, whose constructor may be another one."""
        same: dict[str, Any] = {
            "role": self.role,
            "auto_reset": self.auto_reset,
            "clip_actions": self.env_spec.clips_actions,
            "info": self.info,
            "hidden": self._hidden,
            "name": self.name,
        }
        kind = next(base for base in type(self).__mro__ if vars(base).get("computes_rows"))
        return kind(self.task, batch_size, seed, **{**same, **changes})  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy has its own environments, which begin from the seed, like those of gymnasium.
        memo[id(self)] = copied = self._others(self.batch_size, self._seeds, first=self._first)
        copied.train(self.training)
        return copied.with_prefix(self.prefix).to(self.agent_device)  # type: ignore[return-value]

    def _check_begun(self, t: int) -> None:
        if not self._has_begun:
            raise BbrlExpError(f"{self.label} at t={t}: its environments have not been reset; begin at t=0")

    def _check_state(self, state: Mapping[str, Any]) -> None:
        if "states" not in state:
            found = "Gymnasium's environments" if "kernel" in state else "environments of another kind"
            raise ConfigurationError(
                f"a state of {found} cannot be taken over by {self.env_spec.env_id} as an array; "
                "resume with the env.backend that the run began with"
            )
        task = self.env_spec.env_id
        found = f"{state.get('env_id', task)} {list(state['states'].shape)}"
        expected = f"{task} {[self.batch_size, self.task.n_state]}"
        if found != expected:
            raise ConfigurationError(f"a state of {found} as an array cannot be taken over by {expected}")

    def _set_up(self) -> None:
        """What steps need, and memory for what is known of each environment, before any episode; called once."""
        raise NotImplementedError

    def _use_keys(self, keys: NDArray[np.int64]) -> None:
        """The next episode of each environment is the first of these streams; those in progress stay as they are."""
        raise NotImplementedError

    def _state_of(self, index: int) -> NDArray[np.float64]:
        """The state of an environment, ``[n_state]``."""
        raise NotImplementedError


def _shown(leaf: LeafSpec, hidden: Sequence[int]) -> tuple[LeafSpec, NDArray[np.int64]]:
    """The leaf without the components ``hidden``, and the indices of the others."""
    (size,) = leaf.shape
    if outside := [index for index in hidden if not 0 <= index < size]:
        raise ConfigurationError(f"hidden={list(hidden)}: {outside[0]} is not one of the components 0 … {size - 1}")
    visible = np.array([index for index in range(size) if index not in hidden], np.int64)
    if not len(visible):
        raise ConfigurationError(f"hidden={list(hidden)} leaves nothing of the {size} components to see")
    if leaf.low is None or leaf.high is None:
        return replace(leaf, shape=(len(visible),)), visible
    return replace(leaf, shape=(len(visible),), low=leaf.low[visible], high=leaf.high[visible]), visible
