"""gymnasium spaces as leaves: which tensors a value is made of, how to take it apart and how to build it.

Supported are Box, Discrete, MultiDiscrete and MultiBinary, and Dict and Tuple of these in any depth. A leaf of a Dict
is named ``<name>/<key>``, of a Tuple ``<name>/<i>``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from bbrl_exp.envs.spec import LeafSpec, MisfitError
from bbrl_exp.errors import ConfigurationError

Space = gymnasium.Space[Any]
Flatten = Callable[[Any], list[Any]]
Assemble = Callable[[Iterator[NDArray[Any]]], Any]

OBSERVATION = "env/env_obs"
_DTYPES = frozenset(
    ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
)


def leaves_of(env_name: str, env_spaces: tuple[Space, Space]) -> tuple[tuple[LeafSpec, ...], tuple[LeafSpec, ...]]:
    """The leaves of an environment's observation space and of its action space, in their order.

    Raises:
        ConfigurationError: a kind of space, or a dtype, that is not supported, a space without any leaf, or two leaves
            of one name.
    """
    found = []
    for space, name in zip(env_spaces, (OBSERVATION, "action"), strict=True):
        try:
            leaves = tuple(_leaves(space, name))
        except ConfigurationError as error:
            raise ConfigurationError(f"{env_name}: {error}") from None
        if not leaves:
            raise ConfigurationError(f"{env_name}: the space of '{name}' is empty: {space}")
        if len(names := Counter(leaf.name for leaf in leaves)) < len(leaves):
            raise ConfigurationError(
                f"{env_name}: two parts of a space would both be the variable '{names.most_common(1)[0][0]}': a key "
                "with a slash reads like a key inside a key; rename one of them"
            )
        found.append(leaves)
    return found[0], found[1]


def recorded(leaves: Sequence[LeafSpec], float_observations: str | None) -> tuple[LeafSpec, ...]:
    """The leaves of an observation as they are recorded: floats in the dtype asked for, or in their own."""
    return tuple(
        leaf if float_observations is None or np.dtype(leaf.dtype).kind != "f" else _cast(leaf, float_observations)
        for leaf in leaves
    )


def _cast(leaf: LeafSpec, dtype: str) -> LeafSpec:
    with np.errstate(over="ignore"):  # a bound that is too large is infinite
        low, high = (None if bound is None else bound.astype(dtype) for bound in (leaf.low, leaf.high))
    return replace(leaf, dtype=dtype, low=low, high=high)


def flattener(space: Space) -> Flatten:
    """A function from a value of ``space``, or a batch of them in its structure, to the list of leaf values.

    It raises a LookupError or a TypeError for a value of another structure: see :func:`check_structure`.
    """
    parts = _parts(space)
    if parts is None:
        return lambda value: [value]
    compiled = [(key, flattener(part)) for key, part in parts]
    if isinstance(space, spaces.Dict):
        return lambda value: [leaf for key, flatten in compiled for leaf in flatten(value[key])]

    def flatten_tuple(value: Any) -> list[Any]:
        if len(value) != len(compiled):
            raise LookupError
        return [leaf for key, flatten in compiled for leaf in flatten(value[key])]

    return flatten_tuple


def check_structure(space: Space, value: Any, name: str = OBSERVATION) -> None:
    """Refuses a value of another structure than ``space``: keys of a Dict, items of a Tuple.

    Raises:
        MisfitError: the part, and what it lacks.
    """
    parts = _parts(space) or []
    if isinstance(space, spaces.Dict) and not (isinstance(value, Mapping) and all(key in value for key, _ in parts)):
        keys = f" with the keys {', '.join(map(str, value))}" if isinstance(value, Mapping) else ""
        expected = f"a dict with the keys {', '.join(str(key) for key, _ in parts)}"
        raise MisfitError(name, expected, f"{type(value).__name__}{keys}")
    if isinstance(space, spaces.Tuple) and not (isinstance(value, tuple | list) and len(value) == len(parts)):
        size = f" of {len(value)}" if isinstance(value, Sized) else ""
        raise MisfitError(name, f"a tuple of {len(parts)}", f"{type(value).__name__}{size}")
    for key, part in parts:
        check_structure(part, value[key], f"{name}/{key}")


def assembler(space: Space) -> Assemble:
    """A function from an iterator over leaf rows ``[B, …]`` to the list of the B values that ``env.step`` gets.

    A Discrete value is a Python int, the others are arrays of memory that nobody overwrites: an environment may keep
    them.
    """
    parts = _parts(space)
    if parts is not None:
        compiled = [assembler(part) for _, part in parts]
        if isinstance(space, spaces.Tuple):
            return lambda rows: list(zip(*[assemble(rows) for assemble in compiled], strict=True))
        keys = [key for key, _ in parts]
        return lambda rows: [
            dict(zip(keys, values, strict=True))
            for values in zip(*[assemble(rows) for assemble in compiled], strict=True)
        ]
    if isinstance(space, spaces.Discrete):
        return lambda rows: next(rows).tolist()
    if space.shape == ():
        return lambda rows: [np.asarray(value) for value in next(rows).copy()]
    return lambda rows: list(next(rows).copy())


def batch_assembler(space: Space) -> Assemble:
    """Like :func:`assembler`, but the B values stay together, as a vectorised environment takes them."""
    parts = _parts(space)
    if parts is None:
        return lambda rows: next(rows).copy()
    compiled = [(key, batch_assembler(part)) for key, part in parts]
    if isinstance(space, spaces.Tuple):
        return lambda rows: tuple(assemble(rows) for _, assemble in compiled)
    return lambda rows: {key: assemble(rows) for key, assemble in compiled}


def _parts(space: Space) -> list[tuple[Any, Space]] | None:
    if isinstance(space, spaces.Dict):
        return list(space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return list(enumerate(space.spaces))
    return None


def _leaves(space: Space, name: str, path: tuple[Any, ...] = ()) -> Iterator[LeafSpec]:
    parts = _parts(space)
    if parts is not None:
        for key, part in parts:
            yield from _leaves(part, f"{name}/{key}", (*path, key))
        return
    dtype = np.dtype(space.dtype).name if space.dtype is not None else "none"
    if (
        isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
        and dtype not in _DTYPES
    ):
        raise ConfigurationError(f"the space of '{name}' has dtype {dtype}, which tensors do not have: {space}")
    if isinstance(space, spaces.Box):
        yield LeafSpec(name, "box", space.shape, dtype, low=space.low, high=space.high, path=path)
    elif isinstance(space, spaces.Discrete):
        yield LeafSpec(name, "discrete", (), dtype, counts=np.array(space.n), start=np.array(space.start), path=path)
    elif isinstance(space, spaces.MultiDiscrete):
        counts = np.asarray(space.nvec, np.int64)
        start = np.asarray(space.start, np.int64)
        yield LeafSpec(name, "multi_discrete", space.shape, dtype, counts=counts, start=start, path=path)
    elif isinstance(space, spaces.MultiBinary):
        shape = tuple(space.shape)
        yield LeafSpec(name, "multi_binary", shape, dtype, counts=np.full(shape, 2, np.int64), path=path)
    else:
        fix = "; gymnasium.wrappers.FilterObservation leaves it out" if name.count("/") > 1 else ""
        raise ConfigurationError(
            f"the space of '{name}' is a {type(space).__name__}, which has no fixed tensors; possible: Box, Discrete, "
            f"MultiDiscrete, MultiBinary, and Dict and Tuple of these{fix}"
        )
