"""Messages between a worker and its parent: a few bytes a step over a socket, rows in shared memory.

The messages are those of :mod:`bbrl_exp.processes`, with the kinds below.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.batch import BatchSetup
from bbrl_exp.processes.messages import anonymous_file

RESET, STEP, SEED, STATE, LOAD, FORGET = b"R", b"S", b"D", b"G", b"L", b"F"

_ALIGNMENT = 64

Layout = tuple[tuple[tuple[int, ...], str], ...]


@dataclass(frozen=True, eq=False)
class WorkerSetup:
    """What a worker process is started with.

    Attributes:
        batch: the whole batch.
        first: index in the batch of the worker's first environment.
        count: number of its environments.
        spaces: the observation and the action space that the environments must have.
        n_actions: number of leaves of the action.
        layout: (shape, dtype) of the shared arrays: the time index, the actions, the rows.
    """

    batch: BatchSetup
    first: int
    count: int
    spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]]
    n_actions: int
    layout: Layout


def shared_file(layout: Layout) -> int:
    """A file descriptor of anonymous memory for the arrays of ``layout``, all zeros."""
    return anonymous_file("bbrl-env-rows", _offsets(layout)[-1])


def shared_arrays(descriptor: int, layout: Layout) -> list[NDArray[Any]]:
    """The arrays of ``layout`` in the memory of ``descriptor``, which may be closed afterwards."""
    offsets = _offsets(layout)
    memory = mmap.mmap(descriptor, offsets[-1])
    return [
        np.ndarray(shape, dtype, memory, offset) for (shape, dtype), offset in zip(layout, offsets[:-1], strict=True)
    ]


def _offsets(layout: Layout) -> Sequence[int]:
    offsets = [0]
    for shape, dtype in layout:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        offsets.append(offsets[-1] + -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT)
    return offsets
