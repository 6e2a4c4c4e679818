"""Parameters of modules as arrays of numpy, for what is computed without torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray
from torch import nn


class ParameterArrays:
    """Views of parameters on the CPU: changes in place are seen, and so are parameters that moved.

    Args:
        parameters: of a module; matrices are transposed, ``[n_in, n_out]``.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = tuple(parameters)
        self._addresses: list[int] = []
        self._arrays: list[NDArray[Any]] = []

    def __call__(self) -> list[NDArray[Any]]:
        """The arrays, in the order of the parameters."""
        addresses = [parameter.data_ptr() for parameter in self._parameters]
        if addresses != self._addresses:
            self._arrays = [parameter.detach().numpy().T for parameter in self._parameters]
            self._addresses = addresses
        return self._arrays
