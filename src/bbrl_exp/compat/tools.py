"""BBRL's small helpers: classes named in a configuration, a clock, dictionaries, parameters."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from bbrl_exp.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

__version__ = "1.0.1"
"""The version of BBRL whose names are offered."""
__version_tuple__ = (1, 0, 1)


def get_class(arguments: Any) -> Any:
    """The class, or function, named by ``classname`` in a mapping or in the attributes of an object.

    Raises:
        ConfigurationError: no ``classname``, or one that names nothing.
    """
    is_mapping = isinstance(arguments, Mapping)
    classname = arguments.get("classname") if is_mapping else getattr(arguments, "classname", None)
    module_path, _, name = str(classname).rpartition(".")
    if not module_path:
        raise ConfigurationError(f"classname={classname!r}: must be a dotted name, such as torch.optim.Adam")
    module = importlib.import_module(module_path)
    if not hasattr(module, name):
        near = did_you_mean(name, dir(module))
        raise ConfigurationError(f"classname={classname}: module '{module_path}' has no '{name}'{near}")
    return getattr(module, name)


def get_arguments(arguments: Any) -> dict[str, Any]:
    """A mapping without its ``classname``."""
    return {key: value for key, value in dict(arguments).items() if key != "classname"}


def instantiate_class(arguments: Any) -> Any:
    """Calls the class that ``classname`` names with the rest of the mapping."""
    return get_class(arguments)(**get_arguments(arguments))


class Chrono:
    """A clock that starts when it is made."""

    def __init__(self) -> None:
        self.name = "Chrono"
        self.start = time.time()

    def stop(self) -> None:
        """Prints the time since the start: ``Time : 1h 2mn 3s 4ms``."""
        milliseconds = int(1000 * (time.time() - self.start))
        seconds, milliseconds = divmod(milliseconds, 1000)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        parts = [f"{hours}h"] * (hours > 0) + [f"{minutes}mn"] * (hours + minutes > 0)
        sys.stdout.write(f"Time : {' '.join([*parts, f'{seconds}s', f'{milliseconds}ms'])}\n")


def soft_param_update(network_to_update: nn.Module, network: nn.Module, rho: float) -> None:
    """parameter ← ρ other + (1 - ρ) parameter, for all parameters of ``network_to_update``."""
    from bbrl_exp.functional.targets import polyak_update

    polyak_update([p.data for p in network_to_update.parameters()], [p.data for p in network.parameters()], rho)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copies the numbers of a vector into parameters, which stay the same tensors.

    Raises:
        ConfigurationError: a vector of another length.
    """
    import torch

    targets = list(parameters)
    n_numbers = sum(parameter.numel() for parameter in targets)
    if vec.numel() != n_numbers:
        raise ConfigurationError(
            f"vec: expected {n_numbers} numbers, as many as the parameters have; found {vec.numel()}"
        )
    parts = torch.split(vec, [parameter.numel() for parameter in targets])
    for parameter, part in zip(targets, parts, strict=True):
        parameter.data.copy_(part.view_as(parameter))


def key_path_in_dict(nested_dict: Mapping[str, Any], key_path: str) -> bool:
    """Whether a path of keys, ``a.b.c``, leads to something."""
    value: Any = nested_dict
    for key in key_path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def set_value_with_key_path(nested_dict: MutableMapping[str, Any], key_path: str, value: Any) -> None:
    """Sets the value that a path of keys, ``a.b.c``, leads to."""
    *path, last = key_path.split(".")
    for key in path:
        nested_dict = nested_dict[key]
    nested_dict[last] = value


def is_vec_of_ones(vec: Iterable[Iterable[float]]) -> bool:
    """Whether every number of a matrix is 1."""
    return all(number == 1 for row in vec for number in row)


def make_gym_env(max_episode_steps: int, env_name: str) -> Any:
    """A gymnasium environment with a time limit."""
    import gymnasium

    return gymnasium.make(env_name, max_episode_steps=max_episode_steps)


def get_env_dimensions(env: Any) -> tuple[Any, ...]:
    """Sizes of the spaces of the environment that a configuration with ``classname`` names.

    Returns:
        (size of an observation, number of actions), or (size of an observation, size of an action, largest action).

    Raises:
        ConfigurationError: an action space that is neither Discrete nor Box.
    """
    from gymnasium.spaces import Box, Discrete

    made = instantiate_class(env)
    obs_dim, space = made.observation_space.shape[0], made.action_space
    made.close()
    if isinstance(space, Discrete):
        return obs_dim, space.n
    if isinstance(space, Box):
        return obs_dim, space.shape[0], space.high[0]
    raise ConfigurationError(f"get_env_dimensions: the action space must be Discrete or Box, found {space}")
