"""A buffer of recorded rows from which transitions, n-step transitions and sequences are drawn uniformly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.arguments import AT_LEAST_1, FROM_0_TO_1, is_integer
from bbrl_exp.data.batch import Batch as Batch
from bbrl_exp.data.batch import BatchReader
from bbrl_exp.data.ring import Field, Ring, RowLayout
from bbrl_exp.data.sparse_rows import SparseRows
from bbrl_exp.data.transitions import DONE, REWARD, TERMINATED, TRUNCATED
from bbrl_exp.errors import BbrlExpError, ConfigurationError, WorkspaceError
from bbrl_exp.workspace import RowReader, Workspace

INITIAL_STATE = "env/initial_state"


class ReplayError(BbrlExpError):
    """A draw that the buffer cannot give, or rows that do not follow those it has."""


class ReplayBuffer:
    """The last rows of a recording of B environments, each stored once; a transition is a row and the one after it.

    Variables, their shapes and dtypes, B and the device are those of the first workspace that is put. Memory is taken
    by the operating system page by page, as rows are written.

    Args:
        capacity: transitions to keep, in environment steps; rounded up to whole time steps of B environments.
        observations: variables that are observed.
        actions: variables that are chosen.
        discount: γ.
        n_steps: steps that a transition spans. It spans fewer where the episode ends, by termination or by truncation,
            and next to the last row stored: there the k < n steps that are there are taken, and the target bootstraps
            after them.
        extras: what else sequences hold, such as the states of a recurrent policy. None where no sequences
            will be drawn: what only they need is not stored then.
        reward: the variable of the rewards.
        states: what sequences hold in their first row only, such as the states of a recurrent policy.
        stride: rows between the beginnings of two sequences: these begin at the rows 0, k, 2 k, … that were put, and
            ``states`` are kept there only.

    Raises:
        ConfigurationError: a capacity, a stride or ``n_steps`` that is not a whole number of at least 1, or a discount
            outside [0, 1].
    """

    def __init__(
        self,
        capacity: int,
        observations: Sequence[str],
        actions: Sequence[str],
        *,
        discount: float,
        n_steps: int = 1,
        extras: Sequence[str] | None = None,
        reward: str = REWARD,
        states: Sequence[str] = (),
        stride: int = 1,
    ) -> None:
        AT_LEAST_1.check(capacity=capacity, n_steps=n_steps, stride=stride)
        FROM_0_TO_1.check(discount=discount)
        self.capacity = capacity
        self.n_steps = n_steps
        self.discount = discount
        self._reward = reward
        names = [*observations, *actions, reward, TERMINATED, DONE]
        self._has_sequences = extras is not None or bool(states)
        if self._has_sequences:
            names += [TRUNCATED, INITIAL_STATE, *(extras or ())]
        self._names = tuple(dict.fromkeys(names))
        self._states = tuple(dict.fromkeys(states))
        self._stride = stride
        self._done = self._names.index(DONE)
        self._reader = BatchReader(observations, actions, reward, discount, n_steps)
        self._ring: Ring | None = None
        self._sparse: SparseRows | None = None
        self._last_row: int | None = None
        # Where the last row was read: what is read there again has the shapes and dtypes that it had.
        self._checked: tuple[RowReader, int] | None = None
        self._loading = range(0)

    def __len__(self) -> int:
        """Number of transitions that can be drawn."""
        return len(self.stored)

    @property
    def stored(self) -> range:
        """The indexes of the transitions that can be drawn, counted from the first that was ever put."""
        return range(0) if self._ring is None else range(self._ring.first_transition, self._ring.end_transition)

    def bytes_for(self, fields: Mapping[str, Field], batch_size: int) -> int:
        """Bytes of memory of the full buffer of ``batch_size`` environments, known before anything is put.

        Raises:
            WorkspaceError: a stored variable is missing, rewards are no numbers, or flags are none.
        """
        missing = [name for name in (*self._names, *self._states) if name not in fields]
        if missing:
            raise WorkspaceError(f"replay: no variable '{missing[0]}'; present: {', '.join(fields)}")
        self._check_kinds(fields)
        layout = RowLayout({name: fields[name] for name in self._names})
        n_rows = self.rows_kept(batch_size)
        states = {name: fields[name] for name in self._states}
        sparse = SparseRows.bytes_for(states, self._stride, n_rows, batch_size)
        return Ring.bytes_for(layout, n_rows, batch_size, self.n_steps) + sparse

    def rows_kept(self, batch_size: int) -> int:
        """Rows of each of B environments that the full buffer holds: one more than transitions."""
        AT_LEAST_1.check(batch_size=batch_size)
        return math.ceil(self.capacity / batch_size) + 1

    @property
    def max_transitions(self) -> int:
        """Most transitions that the buffer can hold; 0 before anything was put."""
        return 0 if self._ring is None else (self._ring.n_slots - 1) * self._ring.batch_size

    # Writing

    def begin_recording(self) -> None:
        """Says that the next workspace does not continue the one before: its rows follow none of those stored."""
        if self._ring is not None:
            self._ring.break_off()

    def put(self, workspace: Workspace, first_row: int) -> None:
        """Adds the transitions between the rows ``first_row`` … T - 1 of ``workspace``.

        Row ``first_row`` itself is stored at the beginning of a recording only. Later it must be the last row that was
        stored: the last of the workspace then, where it has grown since, or a copy of it, where it was cut.

        Raises:
            WorkspaceError: an unknown variable, one of another shape, dtype or device than before, or no row
                ``first_row``.
            ReplayError: row ``first_row`` is not the last one that was stored.
        """
        self._check_loaded()
        n_rows = workspace.n_steps(DONE)
        if not is_integer(first_row) or not 0 <= first_row < n_rows:
            raise WorkspaceError(f"replay: no row {first_row}: '{DONE}' has {n_rows} rows")
        ring = self._ring
        if ring is None:
            ring, self._sparse = self._new_rows(*self._facts(workspace))
        first_new = first_row
        if not ring.is_at_beginning:
            # A recording that grew on from the row it had is taken at its word: comparing costs a third of a small put.
            if first_row != self._last_row:
                self._check_follows(ring, workspace, first_row)
            first_new += 1
        if self._sparse is not None:
            self._sparse.append(ring.n_rows, {name: workspace.get_full(name)[first_new:] for name in self._states})
        if not ring.is_on_cpu:
            tensors = [workspace.get_full(name)[first_new:].detach() for name in self._names]
            ring.append(tensors, tensors[self._done].cpu().numpy())
        elif first_new == n_rows - 1:
            reader = workspace.row_reader(self._names)
            row, checked = reader.rows(first_new), (reader, reader.layout)
            ring.append_row(row, row[self._done], are_checked=checked == self._checked)
            self._checked = checked
        else:
            arrays = [workspace.get_full(name)[first_new:].detach().numpy() for name in self._names]
            ring.append(arrays, arrays[self._done])
        self._ring, self._last_row = ring, n_rows - 1

    def _facts(self, workspace: Workspace) -> tuple[dict[str, Field], int, torch.device]:
        full = {name: workspace.get_full(name) for name in (*self._names, *self._states)}
        fields = {name: Field(tuple(value.shape[2:]), value.dtype) for name, value in full.items()}
        self._check_kinds(fields)
        return fields, full[DONE].shape[1], full[DONE].device

    def _check_kinds(self, fields: Mapping[str, Field]) -> None:
        for name in (self._reward, TERMINATED, TRUNCATED, DONE, INITIAL_STATE):
            if name not in self._names:
                continue
            field, is_flag = fields[name], name != self._reward
            if field.shape or (field.dtype == torch.bool) != is_flag:
                kind = "bool" if is_flag else "numbers"
                found = f"[{', '.join(map(str, ('T', 'B', *field.shape)))}] {field.dtype}".replace("torch.", "")
                raise WorkspaceError(f"replay: '{name}': expected {kind} [T, B], found {found}")

    def _new_rows(
        self, fields: Mapping[str, Field], batch_size: int, device: torch.device
    ) -> tuple[Ring, SparseRows | None]:
        layout, n_rows = RowLayout({name: fields[name] for name in self._names}), self.rows_kept(batch_size)
        ring = Ring(layout, self._reader.wanted, n_rows, batch_size, device, self.n_steps)
        if not self._states:
            return ring, None
        states = {name: fields[name] for name in self._states}
        return ring, SparseRows(states, self._stride, n_rows, batch_size, device)

    def _check_follows(self, ring: Ring, workspace: Workspace, first_row: int) -> None:
        name, stored = self._names[0], ring.last_row(0)
        if isinstance(stored, Tensor):
            is_same = torch.equal(stored[0], workspace.get(name, first_row)[0])
        else:
            shown = workspace.row_reader(self._names[:1]).rows(first_row)[0]
            # One environment is enough, at a tenth of the cost of comparing all.
            is_same = stored[0].tobytes() == shown[0].tobytes()
        if not is_same:
            raise ReplayError(
                f"replay: row {first_row} of '{name}' is not the last row that was stored; "
                "where another recording begins, call begin_recording()"
            )

    # Drawing

    def sample(self, batch_size: int, generator: np.random.Generator) -> Batch:
        """``batch_size`` transitions, each drawn uniformly among all that are stored, with replacement.

        Raises:
            ConfigurationError: ``batch_size`` is not a whole number of at least 1.
            ReplayError: none is stored.
        """
        if type(batch_size) is not int or batch_size < 1:  # the check alone costs a twentieth of a small draw
            AT_LEAST_1.check(batch_size=batch_size)
        ring = self._filled()
        return self._reader.read(ring, ring.draw(batch_size, generator))

    def sample_transitions(self, batch_size: int, generator: np.random.Generator) -> Workspace:
        """The draw of :meth:`sample` as a workspace ``[2, batch_size, …]``, over which agents can be run.

        Row 0 holds what was observed and chosen; row 1 is the row after it, with the reward and the end. Every stored
        variable is there. No pair crosses the end of an episode. Each spans one step, whatever ``n_steps`` is.

        Raises:
            ConfigurationError: ``batch_size`` is not a whole number of at least 1.
            ReplayError: none is stored.
        """
        AT_LEAST_1.check(batch_size=batch_size)
        ring = self._filled()
        return self._rows_at(ring, ring.following(ring.places_of(ring.draw(batch_size, generator)), 1))

    def gather(self, indexes: NDArray[np.int64], *, are_stored: bool = False) -> Batch:
        """The transitions of these indexes, int64 ``[N]``, with weights of one.

        Args:
            indexes: which ones.
            are_stored: whether they are known to be stored, and need no check.

        Raises:
            ReplayError: an index whose transition is not stored, or not any more.
        """
        ring = self._filled()
        if (
            not are_stored
            and len(indexes)
            and not ring.first_transition <= indexes.min() <= indexes.max() < ring.end_transition
        ):
            raise ReplayError(
                f"replay: transitions {indexes.min()} … {indexes.max()} are not all stored; "
                f"{ring.first_transition} … {ring.end_transition - 1} are"
            )
        return self._reader.read(ring, indexes)

    def sample_sequences(self, batch_size: int, length: int, generator: np.random.Generator) -> Workspace:
        """Windows of L = ``length`` rows of one environment each, as a workspace ``[L, batch_size, …]``.

        Drawn uniformly, with replacement, among all windows of consecutive rows that are stored and begin at a multiple
        of ``stride``. They may run across the end of an episode: ``env/initial_state`` says where the next one begins,
        and :func:`bbrl_exp.data.transitions.align` which pairs of rows are transitions. Every stored variable is there,
        ``extras`` included; of ``states`` there is the first row alone.

        Raises:
            ConfigurationError: ``batch_size`` or ``length`` is not a whole number of at least 1.
            ReplayError: no recording of ``length`` rows is stored, or the buffer was made without ``extras``.
        """
        AT_LEAST_1.check(batch_size=batch_size, length=length)
        ring = self._filled()
        if not self._has_sequences:
            raise ReplayError("replay: a buffer for sequences is made with extras=…, an empty tuple at least")
        begins, n_windows = _windows(ring, length, self._stride)
        ends = np.cumsum(n_windows) * ring.batch_size
        if ends[-1] == 0:
            longest = np.diff([max(row, ring.first_row) for row in ring.recordings], append=ring.n_rows).max()
            every = "" if self._stride == 1 else f" that begin at every {self._stride}th row"
            raise ReplayError(f"replay: sequences of length={length}{every}; the longest recording has {longest} rows")
        drawn = generator.integers(0, ends[-1], batch_size)
        segment = np.searchsorted(ends, drawn, side="right")
        window, environment = np.divmod(drawn - (ends - n_windows * ring.batch_size)[segment], ring.batch_size)
        first = begins[segment] + window * self._stride
        sequences = self._rows_at(ring, ring.following(ring.place(first, environment), length - 1))
        if self._sparse is not None:
            for name in self._states:
                sequences.set_full(name, self._sparse.at(name, first, environment)[None])
        return sequences

    def n_sequences(self, length: int) -> int:
        """Number of windows of ``length`` rows that :meth:`sample_sequences` draws from."""
        self._check_loaded()
        return (
            0
            if self._ring is None
            else int(_windows(self._ring, length, self._stride)[1].sum()) * self._ring.batch_size
        )

    def _rows_at(self, ring: Ring, places: NDArray[np.int64]) -> Workspace:
        """A copy of the rows at ``places``, ``[L, N]``, as a workspace ``[L, N, …]``."""
        indexes = torch.from_numpy(places.reshape(-1)).to(ring.memory.device)
        words = ring.rows.index_select(0, indexes).view(*places.shape, -1)
        workspace = Workspace()
        for name in self._names:
            workspace.set_full(name, ring.layout.view(words, name))
        return workspace

    def _filled(self) -> Ring:
        ring = self._ring
        self._check_loaded()
        if ring is None or ring.first_transition == ring.end_transition:
            raise ReplayError("replay: nothing to draw, no transition is stored yet")
        return ring

    # Saving

    @property
    def kept_rows(self) -> range:
        """The numbers of the rows that are stored, counted from the first that was ever put.

        While a state is being loaded, of those that the saved buffer had.
        """
        ring = self._ring
        return range(0) if ring is None else range(ring.first_row, max(ring.n_rows, self._loading.stop))

    def read_rows(self, first: int, stop: int) -> dict[str, Tensor]:
        """A copy on the CPU of the rows ``first`` … ``stop - 1``: name of a variable → ``[L, B, …]``.

        Of ``states``, the rows among them that are kept. What was put once never changes; rows are only dropped, the
        oldest first.

        Raises:
            ReplayError: rows that are not stored.
        """
        ring, kept = self._ring, self.kept_rows
        self._check_loaded()
        if ring is None or not kept.start <= first <= stop <= kept.stop:
            raise ReplayError(f"replay: rows {first} to {stop - 1} are not all stored; stored: {_shown(kept)}")
        return {**ring.read_rows(first, stop), **(self._sparse.read(first, stop) if self._sparse is not None else {})}

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs, apart from the rows, to continue as this buffer would: plain Python."""
        self._check_loaded()
        ring = self._ring
        ring_state = None
        if ring is not None:
            fields = {**ring.layout.fields, **({} if self._sparse is None else self._sparse.fields)}
            ring_state = {
                "fields": [[list(field.shape), str(field.dtype)] for field in fields.values()],
                "device": str(ring.memory.device),
                "batch_size": ring.batch_size,
                **ring.state(),
            }
        variables = [*self._names, *self._states]
        return {"capacity": self.capacity, "variables": variables, "stride": self._stride, "ring": ring_state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave; the rows, :attr:`kept_rows` now, are to follow by :meth:`load_rows`.

        Raises:
            ConfigurationError: the state of a buffer of another capacity or of other variables; nothing is changed.
        """
        variables = [*self._names, *self._states]
        for name, own in (("capacity", self.capacity), ("variables", variables), ("stride", self._stride)):
            if (saved_value := state.get(name, 1)) != own:
                raise ConfigurationError(f"replay: this buffer has {name} {own}, the saved one {saved_value}")
        saved = state["ring"]
        self._ring, self._sparse, self._last_row, self._checked, self._loading = None, None, None, None, range(0)
        if saved is None:
            return
        fields = {
            name: Field(tuple(shape), getattr(torch, dtype.removeprefix("torch.")))
            for name, (shape, dtype) in zip(variables, saved["fields"], strict=True)
        }
        self._ring, self._sparse = self._new_rows(fields, saved["batch_size"], torch.device(saved["device"]))
        self._ring.load_state(saved)
        self._loading = range(saved["first_row"], saved["n_rows"])

    def load_rows(self, first: int, rows: Mapping[str, Tensor]) -> None:
        """Takes rows of the saved buffer, as :meth:`read_rows` gave them, after :meth:`load_state` and in their order.

        Args:
            first: the number of the first of them; rows that came before are passed over.
            rows: name of a variable → ``[L, B, …]``.

        Raises:
            ReplayError: a gap after the rows that came before, or rows that the saved buffer did not have.
        """
        ring, missing = self._ring, self._loading
        stop = first + len(rows[DONE])
        if ring is None or not missing or first > missing.start or stop > missing.stop:
            raise ReplayError(f"replay: rows {first} to {stop - 1} do not follow; missing: {_shown(missing)}")
        if stop > missing.start:
            ring.load_rows({name: rows[name][missing.start - first :] for name in self._names}, DONE)
            if self._sparse is not None:
                self._sparse.append_kept(first, {name: rows[name] for name in self._states})
            self._loading = range(stop, missing.stop)

    def _check_loaded(self) -> None:
        if self._loading:
            raise ReplayError(f"replay: {_shown(self._loading)} are not loaded yet")


def _windows(ring: Ring, length: int, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each recording: where its first window of ``length`` rows begins, and how many each environment has in it."""
    begins = np.array([max(row, ring.first_row) for row in ring.recordings])
    ends = np.append(begins[1:], ring.n_rows)
    begins += -begins % stride
    return begins, np.maximum((ends - begins - length) // stride + 1, 0)


def _shown(rows: range) -> str:
    return f"rows {rows.start} to {rows.stop - 1}" if rows else "none"
