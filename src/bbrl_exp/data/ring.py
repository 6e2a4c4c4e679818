"""The memory of a replay buffer: a ring of packed rows, and the table of those from which a transition starts.

The variables of a row are packed side by side in one block of memory, so that one gather reads all of them.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.errors import WorkspaceError

# Arrays on the CPU, tensors elsewhere; their writing is the same.
Values = Sequence[Any]
# Bytes of a word, the widest dtype of a variable.
WORD = 8


@dataclass(frozen=True)
class Field:
    """One variable in a packed row.

    Attributes:
        shape: the shape of one environment's value, without time and batch.
        dtype: its dtype, of at most 8 bytes.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


class RowLayout:
    """Where each variable is in a packed row: the widest dtypes first, so that every one is aligned.

    Attributes:
        fields: name → field.
        n_words: 8-byte words of a row.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields = dict(fields)
        self._starts: dict[str, int] = {}
        n_bytes = 0
        for name, field in sorted(self.fields.items(), key=lambda item: -item[1].dtype.itemsize):
            self._starts[name] = n_bytes
            n_bytes += math.prod(field.shape) * field.dtype.itemsize
        self.n_words = math.ceil(n_bytes / WORD)

    def view(self, words: Tensor, name: str) -> Tensor:
        """The variable ``name`` of packed rows, int64 ``[…, n_words]``, as a view ``[…, *shape]`` in its dtype."""
        field, start = self.fields[name], self._starts[name]
        flat = words.view(field.dtype).narrow(-1, start // field.dtype.itemsize, math.prod(field.shape))
        return flat.view(*words.shape[:-1], *field.shape)

    def window_dtype(self, wanted: Sequence[tuple[int, str]], n_rows: int) -> np.dtype[np.void]:
        """The structured dtype of windows of ``n_rows`` rows: field i is variable number i of ``wanted``."""
        fields = [self.fields[name] for _, name in wanted]
        n_bytes = self.n_words * WORD
        return np.dtype(
            {
                "names": [str(index) for index in range(len(wanted))],
                "formats": [(torch.empty(0, dtype=field.dtype).numpy().dtype, field.shape) for field in fields],
                "offsets": [row * n_bytes + self._starts[name] for row, name in wanted],
                "itemsize": n_rows * n_bytes,
            }
        )


class Ring:
    """The last rows of B environments; row n, counted from the first ever written, is in slot n modulo ``n_slots``.

    The rows of one environment are neighbours in memory, and the first ``n_steps`` slots are repeated after the last
    slot, so that a row and the ``n_steps`` after it are always one window of memory. A *place* is the index in ``rows``
    of a row of one environment.

    Transitions are numbered too, in the order of time, then of the batch: those from ``first_transition`` to
    ``end_transition - 1`` are stored.

    Attributes:
        memory: int64 ``[B, n_slots + n_steps, n_words]``.
        rows: the same as ``[B · (n_slots + n_steps), n_words]``.
        fields: name → the variable, ``[B, n_slots + n_steps, …]``, a view.
        n_rows: rows ever written.
        is_on_cpu: whether the rows are there.
        first_row: number of the oldest row that is stored.
        recordings: numbers of the first rows of the recordings of which rows are stored, and of the next one.
        wanted: what :meth:`read` gives: the row in a pair, 0 or 1, and the name of the variable, for each.
        is_start: whether a transition starts at each place; None for ``n_steps`` = 1, where nobody asks.
    """

    def __init__(
        self,
        layout: RowLayout,
        wanted: Sequence[tuple[int, str]],
        n_slots: int,
        batch_size: int,
        device: torch.device,
        n_steps: int = 1,
    ) -> None:
        self.layout = layout
        self.n_slots = n_slots
        self._n_repeated = min(n_steps, n_slots)
        # Writing a slot before this one changes what is repeated: a row, or whether the row before starts a transition.
        self._repeated_before = self._n_repeated + (n_steps > 1)
        self.batch_size = batch_size
        # Arrays where there can be some, because a few rows are written and read faster through them.
        self.is_on_cpu = device.type == "cpu"
        with torch.inference_mode(False):
            shape = (batch_size, n_slots + n_steps, layout.n_words)
            if self.is_on_cpu:
                # numpy asks the operating system for huge pages, torch does not: draws from a large buffer are faster.
                self.memory = torch.from_numpy(np.empty(shape, np.int64))
            else:
                self.memory = torch.empty(shape, dtype=torch.int64, device=device)
            self.rows = self.memory.flatten(0, 1)
            self.fields = {name: layout.view(self.memory, name) for name in layout.fields}
            self._by_slot = [field.transpose(0, 1) for field in self.fields.values()]
        self._writable: Values = [field.numpy() if self.is_on_cpu else field for field in self._by_slot]
        self._row_facts = [(tuple(field.shape[1:]), field.dtype) for field in self._writable]
        self.wanted = tuple(wanted)
        self._pair_items: NDArray[np.void] | None = None
        if self.is_on_cpu:
            # Opaque items, overlapping for the pairs: numpy gathers and splits them in half of torch's time.
            self._pair_dtype = layout.window_dtype(self.wanted, 2)
            self._split = operator.itemgetter(*(self._pair_dtype.names or ()))
            n_bytes = layout.n_words * self.memory.itemsize
            self._row_items = np.ndarray((len(self.rows),), np.dtype((np.void, n_bytes)), self.rows.numpy())
            pair = np.dtype((np.void, 2 * n_bytes))
            self._pair_items = np.ndarray((len(self.rows) - 1,), pair, self.rows.numpy(), strides=(n_bytes,))
            self._by_place = {name: field.flatten(0, 1).numpy() for name, field in self.fields.items()}
        self.n_rows = 0
        self.first_row = 0
        self.recordings = [0]
        self.first_transition = 0
        self.end_transition = 0
        self.is_start: NDArray[np.bool_] | None = None
        if n_steps > 1:
            self.is_start = np.zeros(batch_size * (n_slots + n_steps), np.bool_)
            self._is_start_by_slot = self.is_start.reshape(batch_size, n_slots + n_steps).T
        self._starts_in_slot = [0] * n_slots
        self._places = np.empty(n_slots * batch_size, np.int64)
        self._first_places = np.arange(batch_size) * (n_slots + n_steps)
        # What a draw needs to know, as arrays without dimensions, with which numpy is twice as fast as with numbers.
        self._known = 0, 0
        self._n_stored, self._first, self._turn = np.array(0.0), np.array(0), np.array(0)
        # Where the last row is followed by the next one; None for everywhere.
        self._goes_on: NDArray[np.bool_] | None = np.zeros(batch_size, np.bool_)

    @staticmethod
    def bytes_for(layout: RowLayout, n_slots: int, batch_size: int, n_steps: int = 1) -> int:
        """Bytes of memory of a ring once it is full."""
        row = batch_size * (layout.n_words * WORD + (n_steps > 1))
        return (n_slots + n_steps) * row + n_slots * 8 * (batch_size + 1)

    @property
    def is_at_beginning(self) -> bool:
        """Whether the next row is the first one of a recording."""
        return self.recordings[-1] == self.n_rows

    def last_row(self, index: int) -> Any:
        """The last row of variable number ``index``, ``[B, …]``: an array on the CPU, a tensor elsewhere."""
        return self._writable[index][(self.n_rows - 1) % self.n_slots]

    def break_off(self) -> None:
        """The next row follows none of those stored."""
        self._goes_on = np.zeros(self.batch_size, np.bool_)
        if not self.is_at_beginning:
            self.recordings.append(self.n_rows)

    def append(self, values: Values, done: NDArray[np.bool_]) -> None:
        """Writes L further rows ``[L, B, …]`` of each variable; no transition starts where ``done``, ``[L, B]``.

        Raises:
            WorkspaceError: another shape or dtype than the layout's; nothing is written then.
        """
        n_new = len(done)
        for index, (value, (shape, dtype)) in enumerate(zip(values, self._row_facts, strict=True)):
            if value.dtype != dtype or value.shape[1:] != shape or len(value) != n_new:
                raise self._mismatch(index, value, (n_new, *shape))
        start = 0
        while start < n_new:
            slot = self.n_rows % self.n_slots
            stop = min(n_new, start + min(self.n_slots - slot, self.n_slots - 1))
            for field, value in zip(self._writable, values, strict=True):
                field[slot : slot + stop - start] = value[start:stop]
            self._note_rows(slot, done[start:stop])
            start = stop

    def append_row(self, values: Values, done: NDArray[np.bool_], *, are_checked: bool = False) -> None:
        """As :meth:`append`, for one row: ``values`` are ``[B, …]``, ``done`` is ``[B]``.

        Values that ``are_checked`` are known to have the layout's shapes and dtypes.
        """
        if not are_checked:
            for index, (value, (shape, dtype)) in enumerate(zip(values, self._row_facts, strict=True)):
                if value.dtype != dtype or value.shape != shape:
                    raise self._mismatch(index, value, shape)
        slot = self.n_rows % self.n_slots
        for field, value in zip(self._writable, values, strict=True):
            field[slot] = value
        self.first_transition += self._starts_in_slot[slot]
        self._add_starts((slot or self.n_slots) - 1)
        self._goes_on = ~done if np.count_nonzero(done) else None
        self._end_at(slot, 1)
        if slot < self._repeated_before:
            self._repeat()

    def _mismatch(self, index: int, value: Any, shape: tuple[int, ...]) -> WorkspaceError:
        name, field = list(self.layout.fields.items())[index]
        expected = f"{list(shape)} {field.dtype}".replace("torch.", "")
        found = f"{list(value.shape)} {value.dtype}".replace("torch.", "")
        return WorkspaceError(f"replay: '{name}': expected {expected}, found {found}")

    def _note_rows(self, slot: int, done: NDArray[np.bool_]) -> None:
        """Counts rows written from ``slot`` on, fewer than the ring has and none beyond its end; bool ``[L, B]``."""
        n_new = len(done)
        stop = slot + n_new
        self.first_transition += sum(self._starts_in_slot[slot:stop])
        goes_on = ~done
        self._add_starts((slot or self.n_slots) - 1)
        if n_new > 1:
            starts = goes_on[:-1]
            if self.is_start is not None:
                self._is_start_by_slot[slot : stop - 1] = starts
            self._starts_in_slot[slot : stop - 1] = starts.sum(1).tolist()
            self._add_places((np.arange(slot, stop - 1)[:, None] + self._first_places)[starts])
        self._goes_on = goes_on[-1]
        self._end_at(stop - 1, n_new)
        if slot < self._repeated_before:
            self._repeat()

    def _repeat(self) -> None:
        """Copies the first slots behind the last one."""
        n, end = self._n_repeated, self.n_slots + self._n_repeated
        self.memory[:, self.n_slots : end] = self.memory[:, :n]
        if self.is_start is not None:
            self._is_start_by_slot[self.n_slots : end] = self._is_start_by_slot[:n]

    def _end_at(self, slot: int, n_new: int) -> None:
        """Counts ``n_new`` rows, of which the last, in ``slot``, starts no transition yet."""
        if self.is_start is not None:
            self._is_start_by_slot[slot] = False
        self._starts_in_slot[slot] = 0
        self.n_rows += n_new
        if self.n_rows - self.n_slots > self.first_row:
            self.first_row = self.n_rows - self.n_slots
        while len(self.recordings) > 1 and self.recordings[1] <= self.first_row:
            del self.recordings[0]

    def _add_starts(self, slot: int) -> None:
        """Notes where transitions start in the slot of the last row: in environments where the next row follows it."""
        places = self._first_places + slot
        if self._goes_on is not None:
            places = places[self._goes_on]
        if self.is_start is not None:
            self._is_start_by_slot[slot] = True if self._goes_on is None else self._goes_on
        self._starts_in_slot[slot] = len(places)
        self._add_places(places)

    def _add_places(self, places: NDArray[np.int64]) -> None:
        """Numbers further transitions, in the order of the places at which they start."""
        n_places = len(places)
        first = self.end_transition % len(self._places)
        beyond = first + n_places - len(self._places)
        if beyond <= 0:
            self._places[first : first + n_places] = places
        else:
            self._places[first:] = places[: n_places - beyond]
            self._places[:beyond] = places[n_places - beyond :]
        self.end_transition += n_places

    def draw(self, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """The numbers of ``size`` stored transitions, drawn uniformly."""
        self._note_stored()
        # A third of the cost of generator.integers; the probabilities differ by less than 1e-9 of themselves.
        drawn = generator.random(size)
        drawn *= self._n_stored
        numbers = drawn.astype(np.int64)
        numbers += self._first
        return numbers

    def places_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the transitions of these numbers start."""
        self._note_stored()
        # Far cheaper than a remainder: no number is more than one turn of the table beyond the first.
        places: NDArray[np.int64] = self._places.take(numbers - self._turn, mode="wrap")
        return places

    def _note_stored(self) -> None:
        known = first, end = self.first_transition, self.end_transition
        if known != self._known:
            self._known = known
            self._n_stored[()], self._first[()], self._turn[()] = end - first, first, first - first % len(self._places)

    def read(self, places: NDArray[np.int64], ends: NDArray[np.int64] | None) -> tuple[Tensor, ...]:
        """The variables ``wanted`` of the rows at ``places`` and of a second row each, copied, ``[N, …]``.

        The second rows are those at ``ends``, or those that follow. Tensors are views of one block, not contiguous.
        """
        if self._pair_items is None:
            ends = places + 1 if ends is None else ends
            words = self.rows.index_select(0, torch.from_numpy(np.concatenate((places, ends))).to(self.memory.device))
            rows = words.view(2, len(places), -1)
            return tuple([self.layout.view(rows[row], name) for row, name in self.wanted])
        if ends is None:
            items = self._pair_items[places]
        else:
            pairs = np.empty((len(places), 2), np.int64)
            pairs[:, 0], pairs[:, 1] = places, ends
            items = self._row_items.take(pairs.reshape(-1))
        block = np.frombuffer(items, self._pair_dtype)  # in half of the time of items.view
        return tuple(map(torch.from_numpy, self._split(block)))

    def place(self, row: NDArray[np.int64], environment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the rows of these numbers of these environments are."""
        return row % self.n_slots + self._first_places[environment]

    def following(self, places: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """The places 0 … n rows after those given, ``[n + 1, N]``."""
        slots = places % self.memory.shape[1]
        return places - slots + (slots + np.arange(n + 1)[:, None]) % self.n_slots

    def values_at(self, name: str, places: NDArray[np.int64]) -> Tensor:
        """The variable ``name`` of the rows at ``places``, of any shape, copied."""
        if self._pair_items is None:
            return self.fields[name].flatten(0, 1)[torch.from_numpy(places).to(self.memory.device)]
        return torch.from_numpy(self._by_place[name][places])

    # Saving

    def read_rows(self, first: int, stop: int) -> dict[str, Tensor]:
        """A copy on the CPU of the stored rows ``first`` … ``stop - 1``: name → ``[L, B, …]``."""
        slot = first % self.n_slots
        end = min(slot + stop - first, self.n_slots)
        beyond = stop - first - (end - slot)
        return {
            name: torch.cat((field[slot:end], field[:beyond])).cpu()
            for name, field in zip(self.fields, self._by_slot, strict=True)
        }

    def state(self) -> dict[str, Any]:
        """What is not known from the rows."""
        return {
            "n_rows": self.n_rows,
            "first_row": self.first_row,
            "recordings": list(self.recordings),
            "first_transition": self.first_transition,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Makes a new ring one that lacks nothing but its rows, which :meth:`load_rows` takes in their order."""
        self.n_rows = self.first_row = state["first_row"]
        self.recordings = list(state["recordings"])
        self.first_transition = self.end_transition = state["first_transition"]

    def load_rows(self, rows: Mapping[str, Tensor], done: str) -> None:
        """Appends rows as :meth:`read_rows` gave them; the variable ``done`` says where no transition starts."""
        first, n_new = self.n_rows, len(rows[done])
        ends = [row - first for row in self.recordings if first < row < first + n_new]
        is_end = rows[done].numpy()
        tensors = [rows[name].to(self.memory.device) for name in self.fields]
        values: Values = tensors if self._pair_items is None else [tensor.numpy() for tensor in tensors]
        for start, stop in itertools.pairwise((0, *ends, n_new)):
            self.append([value[start:stop] for value in values], is_end[start:stop])
            if self.n_rows in self.recordings:
                self._goes_on = np.zeros(self.batch_size, np.bool_)
