"""Actions as the workspace keeps them → actions as environments accept them. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.counts import Counts
from bbrl_exp.envs.finite import all_finite
from bbrl_exp.envs.spec import LeafSpec, SpaceMismatchError
from bbrl_exp.errors import NonFiniteError

Actions = NDArray[Any]


class ActionReader:
    """Checks one leaf of the actions of a batch, clips it where that is wanted, and gives it the dtype of its space.

    Args:
        leaf: the leaf.
        batch_size: number B of environments.
        clip: whether a box is clipped to its bounds.

    Attributes:
        shape: the shape that actions must have, ``[B, *leaf.shape]``.
    """

    def __init__(self, leaf: LeafSpec, batch_size: int, clip: bool) -> None:
        self._leaf = leaf
        self.shape = (batch_size, *leaf.shape)
        self._dtype = np.dtype(leaf.dtype)
        if leaf.kind == "box":
            self._read = self._read_box
            self._bounds = (leaf.low, leaf.high) if clip and leaf.low is not None and leaf.high is not None else None
            self._zeros = np.zeros(self.shape, self._dtype)
        else:
            self._read = self._read_counts
            self._counts = Counts(leaf)

    def __call__(self, values: Actions, t: int) -> Actions:
        """The actions ``[B, …]`` of time ``t`` in the dtype of the space; the memory may be that of ``values``.

        Raises:
            SpaceMismatchError: another shape, a dtype that would lose something, or a value outside of the space.
            NonFiniteError: a NaN or an infinity.
        """
        if values.shape != self.shape or not (values.dtype is self._dtype or self.accepts(values.dtype)):
            raise SpaceMismatchError(self.mismatch(values.dtype.name, values.shape, t))
        return self._read(values, t)

    def accepts(self, dtype: np.dtype[Any]) -> bool:
        """Whether actions of ``dtype`` can be given: integers to integers, any number to a box of floats."""
        return dtype is self._dtype or dtype.kind in ("biu" if self._dtype.kind in "biu" else "biuf")

    def mismatch(self, dtype: str, shape: Sequence[int], t: int) -> str:
        """The message for actions of the wrong dtype or shape."""
        return (
            f"'{self._leaf.name}' at t={t}: the environments expect {self._dtype.name} {list(self.shape)}, "
            f"found {dtype} {list(shape)}"
        )

    def _read_counts(self, values: Actions, t: int) -> Actions:
        if (where := self._counts.first_outside(values)) is not None:
            self._refuse(values, where, self._counts.allowed(where), t)
        return values if values.dtype is self._dtype else values.astype(self._dtype)

    def _read_box(self, values: Actions, t: int) -> Actions:
        if values.dtype.kind == "f" and not all_finite(values, self._zeros):
            where = tuple(np.argwhere(~np.isfinite(values))[0])
            raise NonFiniteError(self._leaf.name, int(where[0]), t, values[where].item())
        if self._bounds is not None:
            values = np.minimum(np.maximum(values, self._bounds[0]), self._bounds[1])
        if values.dtype is self._dtype:
            return values
        with np.errstate(over="ignore"):
            cast = values.astype(self._dtype)
        lost = ~np.isfinite(cast) if self._dtype.kind == "f" else cast != values
        if lost.any():
            self._refuse(values, tuple(np.argwhere(lost)[0].tolist()), f"a {self._dtype.name}", t)
        return cast

    def _refuse(self, values: Actions, where: tuple[int, ...], allowed: str, t: int) -> NoReturn:
        raise SpaceMismatchError(
            f"'{self._leaf.name}' at t={t}: environment {where[0]} expects {allowed}, found {values[where].item()}"
        )
