"""Facts about an environment, without any type of gymnasium: what it shows, what it accepts, when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bbrl_exp.errors import BbrlExpError

SpaceKind = Literal["box", "discrete", "multi_discrete", "multi_binary"]


class SpaceMismatchError(BbrlExpError):
    """An observation, a reward, an end or an action that is not what was declared."""


class MisfitError(Exception):
    """What an environment gave is not what was declared; a kernel makes a SpaceMismatchError of it.

    Args:
        name: the workspace variable.
        expected: in words.
        found: in words.
        index: which of the kernel's environments, None for the one that is being stepped.
    """

    def __init__(self, name: str, expected: str, found: str, index: int | None = None) -> None:
        super().__init__(name, expected, found, index)
        self.index = index
        self._name, self._expected, self._found = name, expected, found

    def at(self, environment: object, episode: object, where: str) -> SpaceMismatchError:
        """The error with its place: the environment, the episode, and ``where`` in it, such as ``at t=5``."""
        return SpaceMismatchError(
            f"'{self._name}' from environment {environment}, episode {episode}, {where}: expected {self._expected}, "
            f"found {self._found}"
        )


@dataclass(frozen=True, eq=False)
class LeafSpec:
    """One tensor of an observation or of an action.

    Attributes:
        name: its variable in the workspace, ``env/env_obs`` or, inside a Dict or Tuple space, ``env/env_obs/<key>``.
        kind: the kind of space.
        shape: the shape of one environment's value, without time and batch.
        dtype: numpy name of the space's own dtype, ``"float32"``, ``"uint8"``, ``"int64"``, …
        low: lower bounds, ``[*shape]``, for a box (may hold -inf).
        high: upper bounds, ``[*shape]``, for a box (may hold inf).
        counts: number of values of each component, ``[*shape]``, for discrete (shape ``()``), multi_discrete and
            multi_binary (then 2).
        start: smallest value of each component, ``[*shape]``, for discrete and multi_discrete.
        path: where the leaf is in a Dict or Tuple space: a Dict's key, a Tuple's index, … from the outside in.
    """

    name: str
    kind: SpaceKind
    shape: tuple[int, ...]
    dtype: str
    low: NDArray[np.generic] | None = None
    high: NDArray[np.generic] | None = None
    counts: NDArray[np.int64] | None = None
    start: NDArray[np.int64] | None = None
    path: tuple[Any, ...] = ()

    @classmethod
    def box(cls, name: str, shape: tuple[int, ...], low: ArrayLike, high: ArrayLike, dtype: str = "float32") -> Self:
        """Numbers between bounds, which may be infinite; one number counts for every component."""
        lowest, highest = (np.broadcast_to(np.asarray(bound, dtype), shape).copy() for bound in (low, high))
        return cls(name, "box", shape, dtype, lowest, highest)

    @classmethod
    def discrete(cls, name: str, count: int) -> Self:
        """One of the integers 0 … ``count - 1``, int64."""
        return cls(name, "discrete", (), "int64", counts=np.array(count), start=np.array(0))

    @property
    def size(self) -> int:
        """Number of components, 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def is_bounded(self) -> bool:
        """Whether every component of a box has two finite bounds."""
        return (
            self.low is not None
            and self.high is not None
            and bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())
        )


@dataclass(frozen=True, eq=False)
class EnvSpec:
    """What agents may know of the environments that they act in.

    Attributes:
        env_id: what runs, recordings and reports call the task: a gymnasium id, or any other name.
        batch_size: number B of environments side by side.
        observations: one leaf per tensor of the observation, in the space's order.
        actions: one leaf per tensor of the action, in the space's order.
        max_episode_steps: the time limit in steps, None if there is none.
        clips_actions: whether the environments get boxes clipped to their bounds.
    """

    env_id: str
    batch_size: int
    observations: tuple[LeafSpec, ...]
    actions: tuple[LeafSpec, ...]
    max_episode_steps: int | None = None
    clips_actions: bool = False
