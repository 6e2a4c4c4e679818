"""The state of environments that are stepped one by one: arrays over the environments, wherever these live.

It holds no environment but what leads there: the seed of the episode and the actions since. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError

State = Mapping[str, Any]
Episodes = list[list[NDArray[Any]]]

NOT_BEGUN = -1
"""The seed of an episode where there has been none yet."""


def packed(leaves: Sequence[LeafSpec], episodes: Episodes) -> dict[str, NDArray[Any]]:
    """The actions of all environments one after the other, ``[total of steps, *shape]``, by leaf."""
    return {
        leaf.name: np.concatenate([actions[index] for actions in episodes], dtype=np.dtype(leaf.dtype))
        for index, leaf in enumerate(leaves)
    }


def episodes_of(state: State) -> Episodes:
    """For each environment its actions, ``[n_steps, *shape]`` a leaf, as they were given to :func:`packed`."""
    bounds = [0, *np.cumsum(state["n_actions"]).tolist()]
    return [[actions[first:stop] for actions in state["actions"].values()] for first, stop in pairwise(bounds)]


def joined(parts: Sequence[State]) -> dict[str, Any]:
    """The state of a batch from those of its parts, in their order."""
    return {
        name: _joined([part[name] for part in parts]) if isinstance(value, np.ndarray | Mapping) else value
        for name, value in parts[0].items()
    }


def _joined(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {name: np.concatenate([value[name] for value in values]) for name in values[0]}
    return np.concatenate(values)


def part_of(state: State, first: int, stop: int) -> dict[str, Any]:
    """The state of environments ``first`` … ``stop - 1`` of a batch."""
    bounds = [0, *np.cumsum(state["n_actions"]).tolist()]
    of_environments, of_actions = slice(first, stop), slice(bounds[first], bounds[stop])
    part: dict[str, Any] = {}
    for name, value in state.items():
        if name == "actions":
            part[name] = {leaf: actions[of_actions] for leaf, actions in value.items()}
        elif isinstance(value, Mapping):
            part[name] = {leaf: array[of_environments] for leaf, array in value.items()}
        else:
            part[name] = value[of_environments] if isinstance(value, np.ndarray) else value
    return part


def check_fits(state: State, env_spec: EnvSpec) -> None:
    """Refuses the state of another batch of environments.

    Raises:
        ConfigurationError: another number of environments, or other observations or actions.
    """
    n_found = len(state["ended"])
    if n_found != env_spec.batch_size:
        raise ConfigurationError(
            f"a state of {n_found} environments cannot be taken over by the {env_spec.batch_size} of {env_spec.env_id}"
        )
    for kind, leaves in (("observation", env_spec.observations), ("actions", env_spec.actions)):
        if kind not in state:  # that of vectorised environments knows neither
            continue
        found = {name: (values.shape[1:], values.dtype.name) for name, values in state[kind].items()}
        expected = {leaf.name: (leaf.shape, leaf.dtype) for leaf in leaves}
        if found != expected:
            raise ConfigurationError(
                f"a state with {_told(found)} cannot be taken over by {env_spec.env_id}, which has {_told(expected)}"
            )


def _told(leaves: Mapping[str, tuple[tuple[int, ...], str]]) -> str:
    return ", ".join(f"'{name}' {dtype} {list(shape)}" for name, (shape, dtype) in leaves.items())
