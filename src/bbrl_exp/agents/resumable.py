"""What a part of a graph carries from one step to the next beyond parameters and buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Resumable(Protocol):
    """A module with random streams, environments or counters of its own.

    Its state is not part of a policy: it belongs to the run. It consists of tensors and plain Python, and is equal to
    the bit between equal runs.
    """

    def run_state(self) -> dict[str, Any]:
        """What a run needs, beyond the ``state_dict``, to go on as if it had never stopped."""

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`run_state` gave, in a module that is built alike."""


def run_state(graph: nn.Module) -> dict[str, dict[str, Any]]:
    """The state of every resumable module of ``graph``, by its path."""
    return {path: module.run_state() for path, module in graph.named_modules() if isinstance(module, Resumable)}


def load_run_state(graph: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Takes over what :func:`run_state` gave, in a graph that is built alike."""
    for path, module in graph.named_modules():
        if isinstance(module, Resumable):
            module.load_run_state(state[path])
