"""The parameters and buffers of an agent that exists twice: what has changed here goes to the other side."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bbrl_exp.agents.remote.memory import Arena
from bbrl_exp.agents.remote.mirror import same_bits
from bbrl_exp.agents.remote.protocol import SharedState

StateEntry = Tensor | bytes


class KnownState:
    """What the other side knows of an agent's ``state_dict``.

    Entries are compared bit by bit and not by version counters, which parameters that are views of a block, or are
    changed through ``data``, do not have for themselves.

    Args:
        agent: equal on both sides now.
    """

    def __init__(self, agent: nn.Module) -> None:
        self._agent = agent
        self._known = {name: _kept(value) for name, value in _entries(agent).items()}

    def changed(self) -> dict[str, StateEntry]:
        """The entries that have changed; from now on the other side knows them."""
        changed = {
            name: value
            for name, value in _entries(self._agent).items()
            if name not in self._known or not _same(self._known[name], value)
        }
        self._known.update({name: _kept(value) for name, value in changed.items()})
        return changed

    def take(self, changed: Mapping[str, StateEntry]) -> None:
        """Takes over what has changed on the other side."""
        if changed:
            values = {name: pickle.loads(v) if isinstance(v, bytes) else v for name, v in changed.items()}
            self._agent.load_state_dict(values, strict=False)
            self._known.update({name: _kept(value) for name, value in changed.items()})


def pack(state: Mapping[str, StateEntry], arena: Arena) -> SharedState:
    """Puts tensors into shared memory."""
    return {name: value if isinstance(value, bytes) else arena.put(value) for name, value in state.items()}


def unpack(state: SharedState, arena: Arena) -> dict[str, StateEntry]:
    """What :func:`pack` put there; tensors of the memory."""
    return {name: value if isinstance(value, bytes) else arena.get(value) for name, value in state.items()}


def same_state(one: Mapping[str, StateEntry], other: Mapping[str, StateEntry]) -> bool:
    """Whether two sides changed the same entries to the same bits."""
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _entries(agent: nn.Module) -> dict[str, StateEntry]:
    return {
        name: value.detach() if isinstance(value, Tensor) else pickle.dumps(value)
        for name, value in agent.state_dict().items()
    }


def _kept(value: StateEntry) -> StateEntry:
    with torch.inference_mode(False):
        return value.clone() if isinstance(value, Tensor) else value


def _same(one: StateEntry, other: StateEntry) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and same_bits(one, other)
    return one == other
