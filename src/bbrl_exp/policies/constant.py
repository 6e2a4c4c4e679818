"""The constant agent: one action for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError, did_you_mean

Number = int | float
Value = Number | Sequence[Any]


class ConstantAgent(Agent):
    """Writes the same action at every step.

    Args:
        env_spec: facts of the environment.
        value: the action: a number for every component, or a list in the action's shape; for Dict and Tuple actions
            a mapping from the leaf's variable (``action/<key>``) to such a value. None means the smallest value of a
            discrete component and, in a box, the value nearest to 0.
        name: the agent's name.

    Raises:
        ConfigurationError: a value that does not fit the action space.
    """

    def __init__(
        self, env_spec: EnvSpec, value: Value | Mapping[str, Value] | None = None, name: str | None = None
    ) -> None:
        super().__init__(name)
        leaves = {leaf.name: leaf for leaf in env_spec.actions}
        values: Mapping[str, Value | None]
        values = value if isinstance(value, Mapping) else dict.fromkeys(leaves, value)
        for variable in values:
            if variable not in leaves:
                hint = did_you_mean(variable, leaves)
                raise ConfigurationError(f"value: no action leaf '{variable}'; there are {', '.join(leaves)}{hint}")
        self.writes = tuple(leaves)
        self._variables = list(leaves)
        for index, (variable, leaf) in enumerate(leaves.items()):
            row = _constant_row(leaf, values.get(variable), env_spec.batch_size)
            self.register_buffer(f"_row_{index}", row, persistent=False)

    def take_slice(self, part: BatchSlice) -> None:
        """See :class:`~bbrl_exp.agents.slices.KnowsItsSlice`."""
        for name, row in list(self.named_buffers()):
            self.register_buffer(name, row[part.first : part.first + part.count].clone(), persistent=False)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype."""
        for index, variable in enumerate(self._variables):
            self.set((self.prefix + variable, t), getattr(self, f"_row_{index}"))


def _constant_row(leaf: LeafSpec, value: Value | None, batch_size: int) -> torch.Tensor:
    low, high = _bounds(leaf)
    if value is None:
        action = low if leaf.counts is not None else np.clip(np.zeros(leaf.shape), low, high)
    else:
        try:
            action = np.broadcast_to(np.asarray(value, dtype=np.float64), leaf.shape)
        except (ValueError, TypeError):
            raise ConfigurationError(f"value={value!r}: '{leaf.name}' has the shape {list(leaf.shape)}") from None
    is_whole = np.dtype(leaf.dtype).kind in "iub"
    if not np.all((action >= low) & (action <= high)) or (is_whole and np.any(action != np.floor(action))):
        kind = "integers" if is_whole else "numbers"
        raise ConfigurationError(f"value={value!r}: '{leaf.name}' takes {kind} from {low.tolist()} to {high.tolist()}")
    row = np.broadcast_to(action, (batch_size, *leaf.shape)).astype(leaf.dtype)
    return torch.from_numpy(row)


def _bounds(leaf: LeafSpec) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if leaf.counts is not None:
        start = leaf.start if leaf.start is not None else np.zeros(leaf.shape, dtype=np.int64)
        return start, start + leaf.counts - 1
    assert leaf.low is not None
    assert leaf.high is not None
    return leaf.low, leaf.high
