"""The parameters and buffers of an agent that exists twice: what has changed here goes to the other side."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent

State = dict[str, Tensor | bytes]
Mode = tuple[bool, bool | None]


class KnownState:
    """What the other side knows of an agent's ``state_dict``, which is equal on both sides at first.

    Entries are compared bit by bit and not by version counters, which parameters that are views of a block, or are
    changed through ``data``, do not have for themselves.
    """

    def __init__(self, agent: nn.Module) -> None:
        self._agent = agent
        self._known: State = {}
        self.changed()

    def changed(self) -> State:
        """The entries that have changed; from now on the other side knows them."""
        found: State = {
            name: value.detach() if isinstance(value, Tensor) else pickle.dumps(value)
            for name, value in self._agent.state_dict().items()
        }
        changed = {name: entry for name, entry in found.items() if not _are_equal(self._known.get(name), entry)}
        self._known.update(kept(changed))
        return changed

    def take(self, changed: Mapping[str, Tensor | bytes]) -> None:
        """Takes over what has changed on the other side."""
        if changed:
            values = {name: pickle.loads(v) if isinstance(v, bytes) else v for name, v in changed.items()}
            self._agent.load_state_dict(values, strict=False)
            self._known.update(kept(changed))


def kept(state: Mapping[str, Tensor | bytes]) -> State:
    """A copy of a state."""
    with torch.inference_mode(False):
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}


def same_state(one: Mapping[str, Tensor | bytes], other: Mapping[str, Tensor | bytes]) -> bool:
    """Whether two sides have changed the same entries to the same bits."""
    return one.keys() == other.keys() and all(_are_equal(one[name], other[name]) for name in one)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are of equal shape and dtype and hold the same bits; a NaN equals itself, and 0 is not -0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def modes_of(agent: nn.Module) -> list[Mode]:
    """Of each module of an agent: whether it is in training mode, and an agent's ``sampling``."""
    return [(each.training, each.sampling if isinstance(each, Agent) else None) for each in agent.modules()]


def take_modes(agent: nn.Module, modes: Sequence[Mode]) -> None:
    """Takes over what :func:`modes_of` gave on the other side."""
    for module, (is_training, sampling) in zip(agent.modules(), modes, strict=True):
        module.training = is_training
        if isinstance(module, Agent):
            module.sampling = sampling


def _are_equal(one: Tensor | bytes | None, other: Tensor | bytes) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return same_bits(one, other)
    return isinstance(one, bytes) and one == other
