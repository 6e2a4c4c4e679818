"""Observations as a program hands them in, and actions as it gets them: one or a batch, of numpy or of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.actions import ActionReader
from bbrl_exp.envs.counts import Counts
from bbrl_exp.envs.finite import all_finite
from bbrl_exp.envs.rows import value_of
from bbrl_exp.envs.spec import EnvSpec, LeafSpec, MisfitError
from bbrl_exp.errors import ConfigurationError

_OBSERVATION, _ACTION = "env/env_obs", "action"
# The place of a leaf, or what a Dict (by key) or a Tuple (by index) consists of.
_Structure = int | dict[Any, "_Structure"]


@dataclass(frozen=True, eq=False)
class Observed:
    """One observation or a batch of them.

    Attributes:
        rows: one array ``[B, *shape]`` per leaf in its dtype; tensors where the policy is not on the CPU.
        is_single: whether it was one observation, without a batch dimension; B is 1 then.
        device: where the tensors were that were handed in; None for arrays and numbers.
    """

    rows: list[NDArray[Any]] | list[Tensor]
    is_single: bool
    device: torch.device | None

    @property
    def batch_size(self) -> int:
        """Number B of observations."""
        return len(self.rows[0])


class ObservationReader:
    """Takes observations apart into the leaves of their space, and checks them as an environment's are checked.

    Args:
        leaves: the leaves.
    """

    def __init__(self, leaves: Sequence[LeafSpec]) -> None:
        self._leaves = [_Leaf(leaf) for leaf in leaves]
        self._structure = _structure(leaves, _OBSERVATION)

    def __call__(self, observation: Any, device: torch.device | None) -> Observed:
        """The rows of an observation or of a batch: tensors on ``device``, arrays if it is None.

        Raises:
            ConfigurationError: another structure, shape or dtype, a value outside of a discrete space, NaN or infinity.
        """
        try:
            values = list(_taken_apart(self._structure, observation, _OBSERVATION))
            arrays = [_array(value, leaf.name) for leaf, value in zip(self._leaves, values, strict=True)]
            first = self._leaves[0]
            is_single = arrays[0].ndim == first.n_dimensions
            batch = () if is_single else tuple(arrays[0].shape[:1])
            if batch == (0,):
                raise MisfitError(_OBSERVATION, "at least one observation", "a batch of 0")
            rows: list[Any] = []
            where: torch.device | None = None
            for leaf, value, array in zip(self._leaves, values, arrays, strict=True):
                if tuple(array.shape) != batch + leaf.shape:
                    leaf.refuse_shape(value, array, batch if leaf is not first else None)
                if isinstance(array, Tensor):
                    where = where or array.device
                found = leaf.array(array, is_single) if device is None else leaf.tensor(array, is_single, device)
                rows.append(found[None] if is_single else found)
        except MisfitError as error:
            name, expected, found, _ = error.args
            raise ConfigurationError(f"observation: '{name}' must be {expected}; found {found}") from None
        return Observed(rows, is_single, where)


def dense(value: Tensor, name: str) -> Tensor:
    """A tensor that is neither nested, sparse nor without numbers, as on the device "meta".

    Raises:
        MisfitError: it is.
    """
    if value.is_nested or value.is_meta or value.layout is not torch.strided:
        kind = "nested" if value.is_nested else "meta" if value.is_meta else str(value.layout).removeprefix("torch.")
        raise MisfitError(name, "a dense tensor or an array", f"a {kind} tensor")
    return value


def read_variable(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The value of another variable of the environments, such as ``env/reward``, in its dtype.

    Raises:
        ConfigurationError: another shape, a value that is not a number or not of the dtype, NaN or infinity.
    """
    try:
        array = value_of(dense(value, name).detach().cpu() if isinstance(value, Tensor) else value, shape, dtype, name)
        if not np.isfinite(array).all():
            raise MisfitError(name, "finite", str(array[~np.isfinite(array)].flat[0]))
    except MisfitError as error:
        _, expected, found, _ = error.args
        raise ConfigurationError(f"variables: '{name}' must be {expected}; found {found}") from None
    return array


class ActionWriter:
    """Puts actions together as the environments get them.

    Args:
        spec: of the environments, B at a time.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self._readers = [ActionReader(leaf, spec.batch_size, spec.clips_actions) for leaf in spec.actions]
        self._are_numbers = [leaf.kind == "discrete" for leaf in spec.actions]
        self._structure = _structure(spec.actions, _ACTION)

    def __call__(self, rows: Sequence[NDArray[Any]], t: int, observed: Observed) -> Any:
        """The actions that answer an observation, in new memory.

        Args:
            rows: one array ``[B, *shape]`` per leaf, as the policy chose them.
            t: the time step, for messages.
            observed: what they answer, and what they are like: one or a batch, of numpy or of torch.

        Raises:
            SpaceMismatchError: what the environments would refuse.
            NonFiniteError: a NaN or an infinity.
        """
        values: list[Any] = []
        for read, is_number, row in zip(self._readers, self._are_numbers, rows, strict=True):
            array = read(row, t)
            value: Any = array[0] if observed.is_single else array
            if observed.device is not None:
                value = torch.from_numpy(np.array(value)).to(observed.device)
            elif not (is_number and observed.is_single):
                value = np.array(value)
            values.append(value)
        return _put_together(self._structure, values)


class _Leaf:
    """One leaf of the observations."""

    def __init__(self, leaf: LeafSpec) -> None:
        self.shape = leaf.shape
        self.n_dimensions = len(leaf.shape)
        self.name = leaf.name
        self._dtype = np.dtype(leaf.dtype)
        self._torch_dtype = torch.from_numpy(np.empty(0, leaf.dtype)).dtype
        self._is_float = self._torch_dtype.is_floating_point
        self._counts = None if leaf.counts is None else Counts(leaf)
        self._zeros = np.zeros((1, *leaf.shape), leaf.dtype)

    def array(self, value: NDArray[Any] | Tensor, is_single: bool) -> NDArray[Any]:
        """A value ``[*shape]`` or a batch ``[B, *shape]`` as an array of the leaf's dtype.

        Raises:
            MisfitError: a dtype that would lose something, or a value that is not of the space.
        """
        if isinstance(value, Tensor):
            try:
                value = value.detach().cpu().numpy()
            except TypeError:
                raise MisfitError(self.name, self._dtype.name, _dtype_of(value)) from None
        if value.dtype is not self._dtype:
            value = value_of(value, value.shape, self._dtype, self.name)
        batch = value[None] if is_single else value
        where: tuple[int, ...] | None = None
        if self._is_float:
            if len(self._zeros) != len(batch):
                self._zeros = np.zeros(batch.shape, self._dtype)
            if not all_finite(batch, self._zeros):
                where = tuple(np.argwhere(~np.isfinite(batch))[0].tolist())
        elif self._counts is not None:
            where = self._counts.first_outside(batch)
        if where is not None:
            place = list(where[1:] if is_single else where)
            allowed = "finite" if self._counts is None else self._counts.allowed(where)
            raise MisfitError(self.name, allowed, f"{batch[where].item()}" + (f" at {place}" if place else ""))
        return value

    def tensor(self, value: NDArray[Any] | Tensor, is_single: bool, device: torch.device) -> Tensor:
        """The same as a tensor on ``device``."""
        if not isinstance(value, Tensor) or self._counts is not None:
            return torch.from_numpy(self.array(value, is_single)).to(device)
        if value.dtype is not self._torch_dtype and not (self._is_float and value.is_floating_point()):
            return torch.from_numpy(self.array(value, is_single)).to(device)
        moved = value.detach().to(device, self._torch_dtype)
        if self._is_float and not bool(moved.isfinite().all()):
            self.array(value, is_single)  # names the number
        return moved

    def refuse_shape(self, value: Any, array: NDArray[Any] | Tensor, batch: tuple[int, ...] | None) -> NoReturn:
        """Refuses another shape.

        Args:
            value: what was handed in.
            array: the same as an array or a tensor.
            batch: the batch dimension that other leaves have; None for the first leaf.
        """
        expected = f"{self._dtype.name} {[*(batch or ()), *self.shape]}"
        if batch is None:
            expected += f", or [{', '.join(map(str, ('B', *self.shape)))}] for a batch"
        found = f"{_dtype_of(array)} {list(array.shape)}"
        if array.dtype == object:
            found = f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, Sized) else "")
        raise MisfitError(self.name, expected, found)


def _array(value: Any, name: str) -> NDArray[Any] | Tensor:
    if type(value) is np.ndarray:
        return value
    if isinstance(value, Tensor):
        return dense(value, name)
    try:
        return np.asarray(value)
    except Exception:
        return np.asarray(None)


def _dtype_of(array: NDArray[Any] | Tensor) -> str:
    return str(array.dtype).removeprefix("torch.")


def _structure(leaves: Sequence[LeafSpec], root: str) -> _Structure:
    """How the leaves are arranged; where a leaf does not say, the parts of its name do."""
    top: dict[Any, Any] = {}
    for index, leaf in enumerate(leaves):
        path = leaf.path or tuple(leaf.name.removeprefix(root).strip("/").split("/"))
        if path == ("",):
            return index
        node = top
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = index
    return top


def _is_tuple(structure: dict[Any, _Structure]) -> bool:
    return isinstance(next(iter(structure)), int)


def _taken_apart(structure: _Structure, value: Any, name: str) -> Iterator[Any]:
    if isinstance(structure, int):
        yield value
        return
    if _is_tuple(structure):
        if not (isinstance(value, tuple | list) and len(value) == len(structure)):
            size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
            raise MisfitError(name, f"a tuple of {len(structure)}", f"{type(value).__name__}{size}")
    elif not (isinstance(value, Mapping) and structure.keys() <= value.keys()):
        keys = f" with the keys {', '.join(map(str, value))}" if isinstance(value, Mapping) else ""
        expected = f"a mapping with the keys {', '.join(map(str, structure))}"
        raise MisfitError(name, expected, f"{type(value).__name__}{keys}")
    for key, part in structure.items():
        yield from _taken_apart(part, value[key], f"{name}/{key}")


def _put_together(structure: _Structure, values: Sequence[Any]) -> Any:
    if isinstance(structure, int):
        return values[structure]
    parts = {key: _put_together(part, values) for key, part in structure.items()}
    return tuple(parts.values()) if _is_tuple(structure) else parts
