"""A task as arrays: what one row of numbers does in a step, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import ConfigurationError

Numbers = NDArray[np.float64]


class ArrayTask:
    """What B environments do that hold their state as ``[B, n_state]`` numbers, float64.

    A subclass states the attributes, and its dynamics in one of two forms, or in both.

    *For one row*, in functions that numba compiles
    (:class:`~bbrl_exp.envs.arrays.numba_environments.NumbaEnvironments`): static methods that change the arrays they
    are given, and see constants in ``parameters``.

    *For a batch of tensors* on any device
    (:class:`~bbrl_exp.envs.arrays.torch_environments.TorchEnvironments`): methods that return new tensors.

    Resets, frozen rows, the time limit, returns and streams of random numbers are not the task's business.

    Attributes:
        env_id: what runs, recordings and reports call the task.
        observation: the leaf ``env/env_obs``, float32 ``[D]``.
        action: the leaf ``action``: discrete from 0 on, or a float32 box ``[A]``.
        n_state: number of numbers that are the state of an environment.
        n_random: number of random numbers that begin an episode.
        max_episode_steps: the time limit in steps; None if there is none.
        parameters: constants of the dynamics, float64 ``[P]``.
        info: key → dtype of each variable ``env/info/<key>`` that the task can give.
        frames_per_second: of animations.
    """

    env_id: str
    observation: LeafSpec
    action: LeafSpec
    n_state: int
    n_random: int = 0
    max_episode_steps: int | None = None
    parameters: Numbers = np.zeros(0)
    info: Mapping[str, str] = {}
    frames_per_second: float = 30.0

    begin_row: ClassVar[Any] = None
    """``(random [n_random], parameters, state)``: writes the first state; random numbers are uniform in [0, 1)."""
    advance_row: ClassVar[Any] = None
    """``(state, action, parameters) -> reward, terminated``: changes the state; a box action is float32 ``[A]``."""
    observe_row: ClassVar[Any] = None
    """``(state, parameters, observation [D])``: writes what the state shows."""
    inform_row: ClassVar[Any] = None
    """``(state, parameters, info)``: writes the values of ``info``, in its order; needed where it is not empty."""

    def begin(self, random: Tensor) -> Tensor:
        """First states ``[…, n_state]`` from uniform random numbers in [0, 1), float64 ``[…, n_random]``."""
        raise NotImplementedError

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next states ``[B, n_state]``, rewards ``[B]`` and ends ``[B]`` (bool).

        Args:
            state: ``[B, n_state]``, not to be changed.
            action: int64 ``[B]``, or float32 ``[B, A]``.
        """
        raise NotImplementedError

    def observe(self, state: Tensor) -> Tensor:
        """What states show, ``[B, D]``; recorded as float32."""
        raise NotImplementedError

    def inform(self, state: Tensor) -> Mapping[str, Tensor]:
        """The values of ``info``, ``[B]`` each."""
        return {}

    def frame(self, state: Numbers) -> NDArray[np.uint8]:
        """A picture of one environment in ``state``, ``[n_state]``: uint8 ``[H, W, 3]``."""
        raise ConfigurationError(
            f"{self.env_id} cannot be animated: {type(self).__name__} shows no pictures; define frame(state)"
        )

    def check_frames(self) -> None:
        """Refuses a task of which there are no pictures.

        Raises:
            ConfigurationError: why.
        """
        if type(self).frame is ArrayTask.frame:
            self.frame(np.zeros(self.n_state))
