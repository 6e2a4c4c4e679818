"""Which recorded rows a learner's sequences consist of, and whether they begin with the states of these rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bbrl_exp.testing.cells import Call, Stepped, cells_of, noted_steps
from bbrl_exp.testing.differences import Difference
from bbrl_exp.testing.playing import Memory, members_without_environments, repeat
from bbrl_exp.testing.subject import Subject, load
from bbrl_exp.testing.tape import Tape, TapeEnvironments
from bbrl_exp.testing.training import Played, Training

TOLERANCE = 1e-4  # of float32, over a sequence
GRAPH = "graph."


def steps_of(subject: Subject, tape: Tape, memory: Memory, chunks: Sequence[Played]) -> dict[str, Stepped]:
    """What the cells of the graph do in the rows of chunks, with the parameters of the last of them.

    In the first chunk of a training the states are computed from the beginning, else row 0 has the one recorded.
    """
    graph, _ = subject.build(TapeEnvironments(tape))
    load(graph, chunks[-1].state)
    cells = cells_of(torch.nn.ModuleDict({"graph": graph}))
    first, *others = [chunk.rows for chunk in chunks]
    rows = {name: torch.cat([value, *(each[name][1:] for each in others)]) for name, value in first.items()}
    with torch.enable_grad(), noted_steps(cells) as noted:
        repeat(members_without_environments(graph), memory, rows, states=chunks[0].first_time > 0)
    return noted()


def first_update(training: Training) -> int | None:
    """The first chunk in which the learner unrolled a cell."""
    return next((index for index, chunk in enumerate(training.chunks) if chunk.calls), None)


def sequences_difference(
    subject: Subject, tape: Tape, memory: Memory, training: Training
) -> tuple[Difference | str, Difference | str]:
    """What the learner computed of whole sequences against what acting computed, and the states that they begin with.

    Before a parameter has changed, sequences of the graph's own cells are found among the rows by their inputs: their
    states and outputs are those of these rows. Later, a state must have been recorded, or be one that the learner
    itself has computed with the same parameters since: by a burn-in.
    """
    index = first_update(training)
    if index is None:
        reason = "the learner calls unroll of no module that has initial_state, step and unroll"
        return reason, reason
    outputs, states = Difference(0.0, TOLERANCE), Difference(0.0, TOLERANCE)
    for number, chunk in list(enumerate(training.chunks))[index:]:
        is_first = number == index
        played = training.chunks[: number + 1] if is_first else [chunk]
        steps = steps_of(subject, tape, memory, played)
        recorded = _recorded(memory, training.chunks[: number + 1])
        begin = played[0].first_time
        for position, call in enumerate(chunk.calls):
            computed = [
                each.states
                for each in chunk.calls[:position]
                if each.path == call.path and each.parameters == call.parameters
            ]
            is_of_rows = call.path in steps and call.parameters == chunk.parameters
            found = _Rows(steps[call.path], call, begin) if is_of_rows else None
            if is_first and found is not None:
                outputs, states = outputs & found.outputs(), states & found.states()
            else:
                states = states & _known(call, recorded, computed, found, chunk)
    return outputs, states


def _recorded(memory: Memory, chunks: Sequence[Played]) -> list[Tensor]:
    """All states that were recorded, ``[N, S]`` for each variable."""
    names = [state for state, _ in memory.pairs] or list(memory.variables)
    rows = [chunk.rows[name] for chunk in chunks for name in names]
    return [value.flatten(0, 1) for value in rows if value.ndim == 3 and value.is_floating_point()]


class _Rows:
    """The rows that the sequences of a call consist of.

    Args:
        steps: of the cell in all rows.
        call: the call.
        begin: time of the first of the rows.
    """

    def __init__(self, steps: Stepped, call: Call, begin: int) -> None:
        self._steps, self._call, self._begin = steps, call, begin
        self.places = [self._place(sequence) for sequence in range(call.given.x.shape[1])]

    def states(self) -> Difference:
        """Between the states that sequences begin with and those of their first rows."""
        largest, first = 0.0, ""
        for sequence, place in enumerate(self.places):
            if place is None:
                return Difference(torch.inf, TOLERANCE, f"{self._call.path} is given inputs that no row had")
            t, b = place
            if bool(self._call.given.starts[0, sequence]):
                continue
            wanted, found = self._steps.state[t, b], self._call.given.state[sequence]
            error = _error(wanted, found)
            largest = max(largest, error)
            if error > TOLERANCE and not first:
                what = "zeros" if not found.any() else self._whose(found)
                first = f"a sequence that begins at t={t + self._begin}, environment {b}, is given {what}"
        return Difference(largest, TOLERANCE, first)

    def outputs(self) -> Difference:
        """Between outputs of sequences and those of acting in the same rows."""
        largest, first = 0.0, ""
        for sequence, place in enumerate(self.places):
            if place is None:
                continue
            t, b = place
            found = self._call.outputs[:, sequence]
            wanted = self._steps.outputs[t : t + len(found), b]
            errors = ((wanted - found).abs() / (1.0 + wanted.abs())).amax(1)
            largest = max(largest, float(errors.max()))
            if bool((errors > TOLERANCE).any()) and not first:
                row = int((errors > TOLERANCE).nonzero()[0, 0])
                first = (
                    f"{self._call.path}: row {row} of the sequence that begins at t={t + self._begin}, environment {b}, "
                    f"differs by {errors[row]:.2g}"
                )
        return Difference(largest, TOLERANCE, first)

    def _place(self, sequence: int) -> tuple[int, int] | None:
        """Where the rows with these inputs are; of several, that with the nearest state."""
        x, all_x = self._call.given.x[:, sequence], self._steps.x
        n_places = len(all_x) - len(x) + 1
        if n_places < 1:
            return None
        fits = torch.ones(n_places, all_x.shape[1], dtype=torch.bool)
        for row, values in enumerate(x):
            rows = all_x[row : row + n_places]
            fits &= ((rows - values).abs() <= TOLERANCE * (1.0 + values.abs())).all(2)
        places = [(t, b) for t, b in fits.nonzero().tolist()]
        state = self._call.given.state[sequence]
        return min(places, key=lambda place: _error(self._steps.state[place], state), default=None)

    def _whose(self, state: Tensor) -> str:
        errors = ((self._steps.state - state).abs() / (1.0 + state.abs())).amax(2)
        t, b = divmod(int(errors.argmin()), errors.shape[1])
        if errors[t, b] <= TOLERANCE:
            return f"the state of t={t + self._begin}, environment {b}"
        return "a state that no row had"


def _known(
    call: Call, recorded: Sequence[Tensor], computed: Sequence[Tensor], rows: _Rows | None, chunk: Played
) -> Difference:
    """Whether each state is that of its row, was recorded, or was computed in this update."""
    largest, first = 0.0, ""
    is_own = not call.path.startswith(GRAPH)
    for sequence, state in enumerate(call.given.state):
        if bool(call.given.starts[0, sequence]) or not state.numel():
            continue
        place = None if rows is None else rows.places[sequence]
        if place is not None and rows is not None:
            known = [rows._steps.state[place][None], *computed]
        else:
            known = [*recorded, *computed]
        errors = [float(_errors(each, state).min()) for each in known if each.shape[1] == len(state) and len(each)]
        if is_own and not errors or is_own and not state.any():
            continue  # a memory of the learner's own, which begins empty: its states are not recorded
        error = min(errors, default=torch.inf)
        largest = max(largest, error)
        if error > TOLERANCE and not first:
            what = "zeros" if not state.any() else "a state that was neither recorded nor computed since"
            row = "" if place is None else f" that begins at t={place[0] + chunk.first_time}, environment {place[1]},"
            first = (
                f"{call.path}: in the update after t={chunk.first_time + len(chunk.rows['env/done']) - 1} "
                f"sequence {sequence}{row} is given {what}"
            )
    return Difference(largest, TOLERANCE, first)


def _error(wanted: Tensor, found: Tensor) -> float:
    return float(_errors(wanted[None], found).max()) if wanted.numel() else 0.0


def _errors(rows: Tensor, found: Tensor) -> Tensor:
    return ((rows - found).abs() / (1.0 + rows.abs())).amax(1)


def paths(cells: Mapping[str, object]) -> list[str]:
    """The paths of cells without what all have in common."""
    return [path.removeprefix(GRAPH) for path in cells]
