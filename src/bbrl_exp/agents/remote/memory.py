"""Anonymous shared memory through which the tensors of messages go."""

from __future__ import annotations

import io
import mmap
import os
import pickle
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.processes.messages import anonymous_file

_ALIGNMENT = 64
_FIRST_BYTES = 1 << 16


class SharedMemory:
    """Memory that one side writes again for every message and the other side reads before the next one.

    It grows as needed, and closes the file ``descriptor`` that it is given.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = anonymous_file("bbrl-agent-rows", _FIRST_BYTES) if descriptor is None else descriptor
        os.set_inheritable(self.descriptor, False)
        self._map()
        self._end = 0

    def dumps(self, message: object) -> bytes:
        """Pickles a message; the tensors in it are copied into the memory, over those of the message before."""
        self._end = 0
        content = io.BytesIO()
        _Pickler(content, self).dump(message)
        return content.getvalue()

    def loads(self, content: bytes) -> Any:
        """What the other side gave to :meth:`dumps`; its tensors change with the next message."""
        return _Unpickler(io.BytesIO(content), self).load()

    def put(self, value: Tensor) -> tuple[int, torch.Size, torch.dtype]:
        """Copies a tensor into the memory; gives what :meth:`get` needs."""
        start, stop = self._end, self._end + value.nbytes
        self._end = -(-stop // _ALIGNMENT) * _ALIGNMENT
        if stop > len(self._memory):
            os.ftruncate(self.descriptor, max(stop, 2 * len(self._memory)))
            self._map()
        self.get(start, value.shape, value.dtype).copy_(value.detach())
        return start, value.shape, value.dtype

    def get(self, start: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """The memory of a tensor."""
        count = shape.numel()
        if start + count * dtype.itemsize > len(self._memory):
            self._map()
        with torch.inference_mode(False):
            if not count:
                return torch.empty(shape, dtype=dtype)
            return torch.frombuffer(self._memory, dtype=dtype, count=count, offset=start).view(shape)

    def close(self) -> None:
        """Closes the file; the memory goes with the last tensor in it."""
        os.close(self.descriptor)

    def _map(self) -> None:
        self._memory = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, memory: SharedMemory) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_id(self, value: object) -> object:
        return self._memory.put(value) if isinstance(value, Tensor) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, memory: SharedMemory) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, pid: Any) -> Tensor:
        return self._memory.get(*pid)
