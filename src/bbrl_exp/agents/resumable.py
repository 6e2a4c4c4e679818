"""What a part of a graph carries from one step to the next beyond parameters and buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

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


@runtime_checkable
class SpeaksForItsParts(Resumable, Protocol):
    """A module whose own state holds that of the modules inside it, because they live elsewhere, say."""

    speaks_for_parts: ClassVar[bool]

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The module itself and those inside it."""


def run_state(graph: nn.Module) -> dict[str, dict[str, Any]]:
    """The state of every resumable module of ``graph``, by its path."""
    return {path: module.run_state() for path, module in _resumable_modules(graph)}


def load_run_state(graph: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Takes over what :func:`run_state` gave, in a graph that is built alike."""
    for path, module in _resumable_modules(graph):
        module.load_run_state(state[path])


def _resumable_modules(graph: nn.Module) -> Iterator[tuple[str, Resumable]]:
    spoken_for: set[nn.Module] = set()
    for path, module in graph.named_modules():
        if module in spoken_for:
            continue
        if isinstance(module, SpeaksForItsParts):
            spoken_for.update(part for _, part in module.named_modules())
        if isinstance(module, Resumable):
            yield path, module
