"""The memory of a replay buffer: a ring of packed rows, and the table of those from which a transition starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.data.packing import RowLayout
from bbrl_exp.errors import WorkspaceError

Values = Sequence[NDArray[Any] | Tensor]


class Ring:
    """The last rows of B environments; row n, counted from the first ever written, is in slot n modulo ``n_slots``.

    The rows of one environment are neighbours in memory, and slot 0 is repeated after the last slot, so that a row and
    the one after it are always one window of memory. A *place* is the index in ``rows`` of a row of one environment.

    Transitions are numbered too, in the order of time, then of the batch: those from ``first_transition`` to
    ``end_transition - 1`` are stored.

    Args:
        layout: the variables of a row.
        wanted: what :meth:`read` gives: the row in a pair, 0 or 1, and the name of the variable, for each.
        n_slots: rows that are kept, at least 2.
        batch_size: number B of environments.
        device: where the rows are kept.

    Attributes:
        memory: int64 ``[B, n_slots + 1, n_words]``.
        rows: the same as ``[B · (n_slots + 1), n_words]``.
        fields: name → the variable, ``[B, n_slots + 1, …]``, a view.
        n_rows: rows ever written.
        segments: numbers of the first rows of the recordings of which rows are stored, and of the next one.
        is_start: bool ``[n_slots, B]``: whether a transition starts there.
    """

    def __init__(
        self,
        layout: RowLayout,
        wanted: Sequence[tuple[int, str]],
        n_slots: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.layout = layout
        self.n_slots = n_slots
        self.batch_size = batch_size
        with torch.inference_mode(False):
            n_words = layout.n_words
            self.memory = torch.empty((batch_size, n_slots + 1, n_words), dtype=torch.int64, device=device)
            self.rows = self.memory.flatten(0, 1)
            self.fields = {name: layout.view(self.memory, name) for name in layout.fields}
        # By slot, then environment; arrays where there can be some, because a few rows are written faster through them.
        is_on_cpu = device.type == "cpu"
        by_slot = [field.transpose(0, 1) for field in self.fields.values()]
        self._writable: Values = [field.numpy() if is_on_cpu else field for field in by_slot]
        self._row_facts = [(tuple(field.shape[1:]), field.dtype) for field in self._writable]
        self.wanted = tuple(wanted)
        self._pair_items: NDArray[np.void] | None = None
        if is_on_cpu:
            # Opaque items, overlapping for the pairs: numpy gathers and splits them in half of torch's time.
            self._pair_dtype = layout.window_dtype(self.wanted, 2)
            self._pair_names = self._pair_dtype.names or ()
            n_bytes = layout.n_words * self.memory.itemsize
            self._row_items = np.ndarray((len(self.rows),), np.dtype((np.void, n_bytes)), self.rows.numpy())
            pair = np.dtype((np.void, 2 * n_bytes))
            self._pair_items = np.ndarray((len(self.rows) - 1,), pair, self.rows.numpy(), strides=(n_bytes,))
        self.n_rows = 0
        self.segments = [0]
        self.first_transition = 0
        self.end_transition = 0
        self.is_start = np.zeros((n_slots, batch_size), np.bool_)
        self._starts_in_slot = [0] * n_slots
        self._places = np.empty(n_slots * batch_size, np.int64)
        self._first_places = np.arange(batch_size) * (n_slots + 1)
        self._goes_on = np.zeros((1, batch_size), np.bool_)

    @property
    def n_bytes(self) -> int:
        """Bytes of memory once the ring is full."""
        return self.memory.nbytes + self.is_start.nbytes + self._places.nbytes + 8 * self.n_slots

    @property
    def first_row(self) -> int:
        """Number of the oldest row that is stored."""
        return max(0, self.n_rows - self.n_slots)

    @property
    def is_at_beginning(self) -> bool:
        """Whether the next row is the first one of a recording."""
        return self.segments[-1] == self.n_rows

    def last_row(self, index: int) -> Any:
        """The last row of variable number ``index``, ``[B, …]``: an array on the CPU, a tensor elsewhere."""
        return self._writable[index][(self.n_rows - 1) % self.n_slots]

    def break_off(self) -> None:
        """The next row follows none of those stored."""
        self._goes_on = np.zeros_like(self._goes_on)
        if not self.is_at_beginning:
            self.segments.append(self.n_rows)

    def append(self, values: Values, done: NDArray[np.bool_]) -> None:
        """Writes L further rows.

        Args:
            values: each variable of the layout, in its order, ``[L, B, …]``: arrays on the CPU, tensors elsewhere.
            done: ``[L, B]``: no transition starts there.

        Raises:
            WorkspaceError: another shape or dtype than the layout's; nothing is written then.
        """
        n_new = len(done)
        for index, (value, (shape, dtype)) in enumerate(zip(values, self._row_facts, strict=True)):
            if value.dtype != dtype or value.shape[1:] != shape or len(value) != n_new:
                raise self._mismatch(list(self.fields)[index], value, n_new)
        start = 0
        while start < n_new:
            slot = self.n_rows % self.n_slots
            stop = min(n_new, start + min(self.n_slots - slot, self.n_slots - 1))
            block = values if n_new == stop - start else [value[start:stop] for value in values]
            self._append_block(slot, block, done[start:stop])
            start = stop
        while len(self.segments) > 1 and self.segments[1] <= self.first_row:
            del self.segments[0]

    def _mismatch(self, name: str, value: NDArray[Any] | Tensor, n_new: int) -> WorkspaceError:
        field = self.layout.fields[name]
        expected = f"{[n_new, self.batch_size, *field.shape]} {field.dtype}".replace("torch.", "")
        found = f"{list(value.shape)} {value.dtype}".replace("torch.", "")
        return WorkspaceError(f"replay: '{name}': expected {expected}, found {found}")

    def _append_block(self, slot: int, values: Sequence[Any], done: NDArray[np.bool_]) -> None:
        """Writes rows that fit in between ``slot`` and the end of the ring, and are fewer than the ring has."""
        stop = slot + len(done)
        self.first_transition += sum(self._starts_in_slot[slot:stop])
        for field, value in zip(self._writable, values, strict=True):
            field[slot:stop] = value
        if slot == 0:
            self.memory[:, -1] = self.memory[:, 0]
        goes_on = ~done
        self._add_starts((self.n_rows - 1) % self.n_slots, self._goes_on)
        if len(done) > 1:
            self._add_starts(slot, goes_on[:-1])
        self._goes_on = goes_on[-1:]
        self.is_start[stop - 1] = False
        self._starts_in_slot[stop - 1] = 0
        self.n_rows += len(done)

    def _add_starts(self, slot: int, starts: NDArray[np.bool_]) -> None:
        """Notes where transitions start in the L slots from ``slot`` on, bool ``[L, B]``."""
        stop = slot + len(starts)
        self.is_start[slot:stop] = starts
        if len(starts) == 1:
            places = (self._first_places + slot)[starts[0]]
            self._starts_in_slot[slot] = len(places)
        else:
            places = (np.arange(slot, stop)[:, None] + self._first_places)[starts]
            self._starts_in_slot[slot:stop] = starts.sum(1).tolist()
        first = self.end_transition % len(self._places)
        room = len(self._places) - first
        self._places[first : first + len(places)] = places[:room]
        if len(places) > room:
            self._places[: len(places) - room] = places[room:]
        self.end_transition += len(places)

    def places_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the transitions of these numbers start."""
        n = len(self._places)
        # Far cheaper than a remainder: no number is more than one turn of the table beyond the first.
        return self._places.take(numbers - (self.first_transition - self.first_transition % n), mode="wrap")

    def read(self, places: NDArray[np.int64], ends: NDArray[np.int64] | None) -> list[Tensor]:
        """The variables ``wanted`` of the rows at ``places`` and of a second row each, copied, ``[N, …]``.

        The second rows are those at ``ends``, or those that follow. Tensors are views of one block, not contiguous.
        """
        if self._pair_items is None:
            ends = self.following(places, 1)[1] if ends is None else ends
            words = self.rows.index_select(0, torch.from_numpy(np.concatenate((places, ends))).to(self.memory.device))
            rows = words.view(2, len(places), -1)
            return [self.layout.view(rows[row], name) for row, name in self.wanted]
        if ends is None:
            items = self._pair_items[places]
        else:
            items = self._row_items[np.stack((places, ends), axis=1).reshape(-1)]
        block = items.view(self._pair_dtype)
        return [torch.from_numpy(block[name]) for name in self._pair_names]

    def place(self, row: NDArray[np.int64], environment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the rows of these numbers of these environments are."""
        return row % self.n_slots + self._first_places[environment]

    def following(self, places: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """The places 0 … n rows after those given, ``[n + 1, N]``."""
        slots = places % (self.n_slots + 1)
        return places - slots + (slots + np.arange(n + 1)[:, None]) % self.n_slots

    def starts_at(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a transition starts at each of the places."""
        environments, slots = np.divmod(places, self.n_slots + 1)
        return self.is_start[slots, environments]

    def state(self) -> dict[str, Any]:
        """The stored rows in the order of time, and what is known of them: copies of tensors, and plain Python."""
        slots = np.arange(self.first_row, self.n_rows) % self.n_slots
        rows = self.memory.index_select(1, torch.from_numpy(slots).to(self.memory.device)).cpu()
        # The bytes after the last variable were never written; equal buffers shall give equal states.
        rows.view(torch.uint8)[..., self.layout.n_bytes :] = 0
        return {
            "n_rows": self.n_rows,
            "segments": list(self.segments),
            "first_transition": self.first_transition,
            "end_transition": self.end_transition,
            "goes_on": torch.from_numpy(self._goes_on.copy()),
            "rows": rows,
            "is_start": torch.from_numpy(self.is_start[slots]),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave; the ring is a new one of the same layout and size."""
        self.n_rows = state["n_rows"]
        self.segments = list(state["segments"])
        self.first_transition = state["first_transition"]
        self.end_transition = state["end_transition"]
        self._goes_on = state["goes_on"].cpu().numpy().copy()
        slots = np.arange(self.first_row, self.n_rows) % self.n_slots
        device = self.memory.device
        self.memory[:, torch.from_numpy(slots).to(device)] = state["rows"].to(device)
        self.memory[:, -1] = self.memory[:, 0]
        is_start = state["is_start"].cpu().numpy()
        self.is_start[slots] = is_start
        for slot, n_starts in zip(slots.tolist(), is_start.sum(1).tolist(), strict=True):
            self._starts_in_slot[slot] = n_starts
        numbers = np.arange(self.first_transition, self.end_transition)
        self._places[numbers % len(self._places)] = (slots[:, None] + self._first_places)[is_start]
