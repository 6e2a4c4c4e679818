"""Prioritised replay: transitions are drawn in proportion to a power of their last error.

Schaul, Quan, Antonoglou and Silver, "Prioritized Experience Replay", ICLR 2016, sections 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_1, FROM_0_TO_1
from bbrl_exp.data.replay import Batch, ReplayBuffer, ReplayError
from bbrl_exp.errors import ConfigurationError, DivergedError
from bbrl_exp.workspace import Workspace

# Children of a node: whole arrays are cheap in numpy and calls are not, so a flatter tree than a binary one.
_FAN_OUT = 16
# Nodes without parents, at most: one sum over all of them costs less than further levels.
_LARGEST_TOP = 4096


class PrioritisedReplay:
    """Proportional prioritisation over a replay buffer, which it fills: P(i) = p_i^α / Σ_k p_k^α (equation 1).

    p_i = |δ_i| + ε, δ_i the last error given to :meth:`update`. A transition that was never drawn has the largest
    priority seen so far, 1 at first.

    Args:
        buffer: what stores the transitions; nobody else puts into it.
        priority_exponent: α, 0 (uniform) to 1.
        smallest_error: ε, added to every error so that no transition is forgotten.

    Raises:
        ConfigurationError: an exponent outside [0, 1], an ε of 0 or less, or a buffer that is not empty.
    """

    def __init__(self, buffer: ReplayBuffer, *, priority_exponent: float = 0.6, smallest_error: float = 1e-6) -> None:
        FROM_0_TO_1.check(priority_exponent=priority_exponent)
        ABOVE_0.check(smallest_error=smallest_error)
        if len(buffer):
            raise ConfigurationError(f"prioritised replay: the buffer holds {len(buffer)} transitions, expected none")
        self.buffer = buffer
        self.priority_exponent = priority_exponent
        self.smallest_error = smallest_error
        self._largest = 1.0
        self._tree: SumTree | None = None

    def __len__(self) -> int:
        """Number of transitions that can be drawn."""
        return len(self.buffer)

    def begin_recording(self) -> None:
        """As :meth:`ReplayBuffer.begin_recording`."""
        self.buffer.begin_recording()

    def put(self, workspace: Workspace, first_row: int) -> None:
        """As :meth:`ReplayBuffer.put`; new transitions get the largest priority."""
        old = self.buffer.stored
        self.buffer.put(workspace, first_row)
        new = self.buffer.stored
        if self._tree is None:
            self._tree = SumTree(self.buffer.max_transitions)
        tree = self._tree
        # A new one takes the leaf of a dropped one, as far as there are new ones; some may come and go in one put.
        n_leaves = self.buffer.max_transitions
        left = np.arange(max(old.start, new.stop - n_leaves), new.start)
        if len(left):
            tree[left % n_leaves] = 0.0
        tree[np.arange(max(old.stop, new.start), new.stop) % n_leaves] = self._largest

    def sample(self, batch_size: int, generator: np.random.Generator, *, importance_exponent: float) -> Batch:
        """``batch_size`` transitions, one from each of as many equal parts of the sum of all p^α.

        Their weights are (n · P(i))^-β, n the number of transitions, divided by the largest of the batch (section 3.4).

        Args:
            batch_size: number N of transitions.
            generator: draws them.
            importance_exponent: β, 0 (no correction) to 1 (an unbiased one).

        Raises:
            ConfigurationError: ``batch_size`` is not a whole number of at least 1.
            ReplayError: none is stored.
        """
        AT_LEAST_1.check(batch_size=batch_size)
        tree, n = self._tree, len(self.buffer)
        if tree is None or n == 0:
            raise ReplayError("replay: nothing to draw, no transition is stored yet")
        positions = (np.arange(batch_size) + generator.random(batch_size)) * (tree.total / batch_size)
        leaves = tree.find(positions)
        first = self.buffer.stored.start
        batch = self.buffer.gather(first + (leaves - first) % self.buffer.max_transitions)
        weights = (n * tree[leaves] / tree.total) ** -importance_exponent
        return replace(batch, weights=torch.from_numpy(weights / weights.max()).to(batch.weights))

    def update(self, indexes: NDArray[np.int64], errors: Tensor) -> None:
        """Takes the errors of transitions that were drawn; those that are no longer stored are ignored.

        Args:
            indexes: those of the batch, ``[N]``.
            errors: δ, ``[N]``; only their size counts.

        Raises:
            ReplayError: nothing was put yet.
            DivergedError: a NaN or infinite error; nothing is changed.
        """
        tree, stored = self._tree, self.buffer.stored
        if tree is None:
            raise ReplayError("replay: no priority to change, no transition is stored yet")
        priorities = (errors.detach().abs().double().cpu().numpy() + self.smallest_error) ** self.priority_exponent
        if not np.isfinite(priorities).all():
            raise DivergedError(f"prioritised replay: {(~np.isfinite(priorities)).sum()} errors are NaN or infinite")
        is_stored = (indexes >= stored.start) & (indexes < stored.stop)
        tree[self._leaves(indexes[is_stored])] = priorities[is_stored]
        self._largest = float(priorities.max(initial=self._largest))

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs, apart from the rows, to continue exactly as this one would."""
        stored, tree = self.buffer.stored, self._tree
        leaves = self._leaves(np.arange(stored.start, stored.stop))
        return {
            "buffer": self.buffer.state(),
            "largest": self._largest,
            "priorities": None if tree is None else torch.from_numpy(tree[leaves]),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave; the rows of the buffer are to follow, as there.

        Raises:
            ConfigurationError: as :meth:`ReplayBuffer.load_state`.
        """
        self.buffer.load_state(state["buffer"])
        self._largest = state["largest"]
        self._tree = None
        if state["priorities"] is not None:
            first = self.buffer.stored.start
            priorities = state["priorities"].cpu().numpy()
            self._tree = SumTree(self.buffer.max_transitions)
            self._tree[self._leaves(np.arange(first, first + len(priorities)))] = priorities

    def _leaves(self, indexes: NDArray[np.int64]) -> NDArray[np.int64]:
        return indexes % max(self.buffer.max_transitions, 1)


class SumTree:
    """Weights of at least 0, float64, all 0 at first; every node above them holds the sum of its children.

    Raises:
        ConfigurationError: ``n_weights`` is not a whole number of at least 1.
    """

    def __init__(self, n_weights: int) -> None:
        AT_LEAST_1.check(n_weights=n_weights)
        sizes = [n_weights]
        while sizes[-1] > _LARGEST_TOP:
            sizes.append(-(-sizes[-1] // _FAN_OUT))
        # From the top to the weights themselves; children of one node are neighbours.
        self._levels = [np.zeros(sizes[-1])]
        self._levels += [np.zeros(size * _FAN_OUT) for size in sizes[:0:-1]]
        self._children = [level.reshape(-1, _FAN_OUT) for level in self._levels[1:]]
        self._sums: NDArray[np.float64] | None = None

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._top_sums()[-1])

    def __getitem__(self, indexes: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._levels[-1][indexes]

    def __setitem__(self, indexes: NDArray[np.int64], weights: NDArray[np.float64] | float) -> None:
        self._sums = None
        self._levels[-1][indexes] = weights
        for children, level in zip(self._children[::-1], self._levels[-2::-1], strict=True):
            indexes = indexes // _FAN_OUT
            level[indexes] = np.einsum("ij->i", children.take(indexes, axis=0))

    def find(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """The smallest index up to which the weights sum to more than each position, ``[N]`` in [0, total).

        An index of weight 0 is never found, not even where rounding brings a position to the end of a node.
        """
        sums, first = self._top_sums(), np.arange(0, len(positions) * _FAN_OUT, _FAN_OUT)
        positions = np.minimum(positions, np.nextafter(sums[-1], 0.0))
        indexes = sums.searchsorted(positions, side="right")
        positions = positions - sums.take(indexes - 1) * (indexes > 0)
        for children in self._children:
            sums = children.take(indexes, axis=0).cumsum(1)
            positions = np.minimum(positions, np.nextafter(sums[:, -1], 0.0))
            child = (sums <= positions[:, None]).sum(1)
            positions -= sums.take(first + child - 1, mode="wrap") * (child > 0)
            indexes = indexes * _FAN_OUT + child
        return indexes

    def _top_sums(self) -> NDArray[np.float64]:
        if self._sums is None:
            self._sums = self._levels[0].cumsum()
        return self._sums
