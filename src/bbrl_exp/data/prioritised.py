"""Prioritised replay: transitions are drawn in proportion to a power of their last error.

Schaul, Quan, Antonoglou and Silver, "Prioritized Experience Replay", ICLR 2016, sections 3.3 and 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
_LOG2_FAN_OUT = 4
_FAN_OUT = 1 << _LOG2_FAN_OUT
# Nodes without parents, at most: one sum over all of them costs less than further levels.
_LARGEST_TOP = 4096
# Changes of weights that are gathered before the sums above them are computed again.
_MOST_CHANGES = 64


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
        self._parts = np.arange(0.0)

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
        tree.fill(max(old.start, new.stop - n_leaves), new.start, 0.0)
        tree.fill(max(old.stop, new.start), new.stop, self._largest)

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
        if type(batch_size) is not int or batch_size < 1:
            AT_LEAST_1.check(batch_size=batch_size)
        tree = self._tree
        if tree is None or not len(self.buffer):
            raise ReplayError("replay: nothing to draw, no transition is stored yet")
        parts = self._parts
        if len(parts) != batch_size:
            self._parts = parts = np.arange(float(batch_size))
        positions = generator.random(batch_size)
        positions += parts
        positions *= tree.total / batch_size
        leaves = tree.find(positions)
        first = self.buffer.stored.start
        n_leaves = self.buffer.max_transitions
        indexes = leaves
        if first:
            indexes = leaves + (first - first % n_leaves)
            indexes += (indexes < first) * n_leaves
        batch = self.buffer.gather(indexes, are_stored=True)
        # n, Σ p^α and the largest weight of the batch cancel out.
        weights = tree[leaves]
        weights /= weights[weights.argmin()]
        weights **= -importance_exponent
        ones = batch.weights
        if ones.dtype == torch.float32:
            weights = weights.astype(np.float32)  # cheaper there than here
        batch.weights = torch.from_numpy(weights)
        if batch.weights.dtype != ones.dtype or not ones.is_cpu:
            batch.weights = batch.weights.to(ones)
        return batch

    def update(self, indexes: NDArray[np.int64], errors: Tensor) -> None:
        """Takes the errors of transitions that were drawn; those that are no longer stored are ignored.

        Args:
            indexes: those of the batch, ``[N]``.
            errors: δ, ``[N]``; only their size counts.

        Raises:
            ReplayError: nothing was put yet, or another number of errors than of indexes.
            DivergedError: a NaN or infinite error; nothing is changed.
        """
        tree, stored = self._tree, self.buffer.stored
        if tree is None:
            raise ReplayError("replay: no priority to change, no transition is stored yet")
        if errors.shape != indexes.shape:
            found = f"errors {list(errors.shape)} for indexes {list(indexes.shape)}"
            raise ReplayError(f"prioritised replay: {found}, expected one error for each index")
        # numpy converts single precision in a third of torch's time, but does not have every dtype of torch.
        values = errors.detach() if errors.dtype == torch.float32 else errors.detach().double()
        priorities = (values if values.is_cpu else values.cpu()).numpy().astype(np.float64)
        np.abs(priorities, out=priorities)
        priorities += self.smallest_error
        priorities **= self.priority_exponent
        if len(priorities):
            largest = float(priorities[priorities.argmax()])  # half of the time of max(); NaN is the largest here too
            if not largest < np.inf:
                n_bad = (~np.isfinite(priorities)).sum()
                raise DivergedError(f"prioritised replay: {n_bad} errors are NaN or infinite")
            self._largest = max(self._largest, largest)
        ages = np.subtract(indexes, stored.start, dtype=np.int64)
        is_stored = ages.view(np.uint64) < len(stored)  # a negative age is a large number without its sign
        if np.count_nonzero(is_stored) < len(ages):
            indexes, priorities = indexes[is_stored], priorities[is_stored]
        tree[self._leaves(indexes)] = priorities

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
        self._n_weights = n_weights
        # From the top to the weights themselves; children of one node are neighbours.
        self._levels = [np.zeros(sizes[-1])]
        self._levels += [np.zeros(size * _FAN_OUT) for size in sizes[:0:-1]]
        self._children = [level.reshape(-1, _FAN_OUT) for level in self._levels[1:]]
        # For each node at the top the sum of those before it, and at the end the sum of all.
        self._sums = np.zeros(sizes[-1] + 1)
        self._sums_with = self._sums[1:]
        with torch.inference_mode(False):  # what is made in that mode could not be changed outside
            self._top, self._added_up = torch.from_numpy(self._levels[0]), torch.from_numpy(self._sums_with)
        # Numbers of the parents of weights that were set since the sums were brought up to date.
        self._changed: list[NDArray[np.int64]] = []
        self._before_first = np.arange(0)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        self._add_up()
        return float(self._sums[-1])

    def __getitem__(self, indexes: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._levels[-1].take(indexes)

    def __setitem__(self, indexes: NDArray[np.int64], weights: NDArray[np.float64] | float) -> None:
        self._levels[-1][indexes] = weights
        self._note(indexes >> _LOG2_FAN_OUT)

    def fill(self, first: int, stop: int, weight: float) -> None:
        """Sets the weights ``first`` … ``stop - 1``, counted modulo their number and no more than it."""
        count = stop - first
        if count <= 0:
            return
        first %= self._n_weights
        stop, beyond = min(first + count, self._n_weights), max(first + count - self._n_weights, 0)
        self._levels[-1][first:stop] = weight
        self._note(np.arange(first >> _LOG2_FAN_OUT, (stop - 1 >> _LOG2_FAN_OUT) + 1))
        if beyond:
            self.fill(0, beyond, weight)

    def find(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """The smallest index up to which the weights sum to more than each position, ``[N]`` in [0, total).

        An index of weight 0 is never found, not even where rounding brings a position to the end of a node.
        """
        self._add_up()
        positions = np.minimum(positions, math.nextafter(self._sums[-1], 0.0))
        indexes = self._sums_with.searchsorted(positions, side="right")
        positions -= self._sums.take(indexes)
        if len(self._before_first) != len(positions):
            self._before_first = np.arange(-1, len(positions) * _FAN_OUT - 1, _FAN_OUT)
        for children in self._children:
            # torch adds up many short rows in a fifth of numpy's time, in the same order and with the same bits.
            sums = children.take(indexes, axis=0)
            torch.from_numpy(sums).cumsum_(1)
            is_before = sums <= positions[:, None]
            if np.count_nonzero(is_before[:, -1]):
                positions = np.minimum(positions, np.nextafter(sums[:, -1], 0.0))
                is_before = sums <= positions[:, None]
            # How many of the 16 bytes are ones, eight at once: cheaper than sum(1).
            ones = np.bitwise_count(is_before.view(np.uint64))
            child = ones[:, 0] + ones[:, 1]
            if children is not self._children[-1]:
                positions -= sums.take(self._before_first + child, mode="wrap") * (child > 0)
            indexes *= _FAN_OUT
            indexes += child
        return indexes

    def _note(self, nodes: NDArray[np.int64]) -> None:
        self._changed.append(nodes)
        if len(self._changed) > _MOST_CHANGES:
            self._add_up()

    def _add_up(self) -> None:
        """Brings the sums up to date: once for all changes since the last draw."""
        if not self._changed:
            return
        nodes = np.concatenate(self._changed)
        self._changed = []
        for children, level in zip(self._children[::-1], self._levels[-2::-1], strict=True):
            level[nodes] = np.einsum("ij->i", children.take(nodes, axis=0))
            nodes >>= _LOG2_FAN_OUT
        torch.cumsum(self._top, 0, out=self._added_up)
