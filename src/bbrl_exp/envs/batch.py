"""What a batch of environments is, and what every way of stepping one offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from bbrl_exp.envs.make import EnvRecipe
from bbrl_exp.envs.spaces import Space, leaves_of, recorded
from bbrl_exp.envs.spec import LeafSpec


@dataclass(frozen=True, eq=False)
class BatchSetup:
    """A batch of environments before it is made.

    Attributes:
        recipe: how each environment is made.
        batch_size: number B of environments.
        seed: the root seed.
        role: ``"train"`` or ``"eval"``; roles have separate streams of random numbers.
        auto_reset: whether a finished environment begins its next episode, or is frozen.
        info: info key → dtype name, of the infos that are recorded.
        first: index of the first environment, where the batch is a part of a larger one.
        float_observations: dtype in which observations of floats are recorded; None for that of the space.
    """

    recipe: EnvRecipe
    batch_size: int
    seed: int
    role: str
    auto_reset: bool
    info: Mapping[str, str]
    first: int = 0
    float_observations: str | None = None

    def leaves(self, spaces: tuple[Space, Space]) -> tuple[tuple[LeafSpec, ...], tuple[LeafSpec, ...]]:
        """The leaves of the observations, as they are recorded, and of the actions."""
        observations, actions = leaves_of(self.recipe.name, spaces)
        return recorded(observations, self.float_observations), actions


class Kernel(Protocol):
    """Steps a batch and fills rows, given in the order of ``row_layout``, each ``[B, …]``."""

    def reset(self, t: int, rows: Sequence[NDArray[Any]]) -> None:
        """Begins an episode everywhere and fills row ``t``."""

    def step(self, t: int, actions: Sequence[NDArray[Any]], rows: Sequence[NDArray[Any]]) -> None:
        """Fills row ``t``, caused by ``actions``, one array ``[B, …]`` of the space's dtype and range for each leaf."""

    def seed(self, seed: int) -> None:
        """Another root seed from the next reset on; episodes are counted from 0 again."""

    def forget_actions(self) -> None:
        """No actions are kept from now on, and there is no :meth:`state` any more."""

    def state(self) -> dict[str, Any]:
        """What is needed to continue from here, in other environments like these: arrays and plain Python.

        Raises:
            BbrlExpError: the environments hold what cannot be saved.
        """

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave, of a batch like this one.

        Raises:
            BbrlExpError: the environments do not come to where they were.
        """

    def close(self) -> None:
        """Closes the environments; may be called again."""
