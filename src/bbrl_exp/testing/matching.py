"""Which recorded rows a learner's sequences consist of, and whether they begin with the states of these rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.testing.cells import LEARNER, Call, Stepped, cells_of, noted_steps
from bbrl_exp.testing.differences import Difference, Rows
from bbrl_exp.testing.playing import Memory, members_without_environments, repeat
from bbrl_exp.testing.subject import Subject, load
from bbrl_exp.testing.tape import Tape, TapeEnvironments
from bbrl_exp.testing.training import Played, Training, rows_of_chunks

TOLERANCE = 1e-4  # of float32, over a sequence


def steps_of(subject: Subject, tape: Tape, memory: Memory, chunks: Sequence[Played]) -> dict[str, Stepped]:
    """What the cells of the graph do in all rows of chunks, from the beginning, with the parameters of the last one."""
    graph, _ = subject.build(TapeEnvironments(tape))
    load(graph, chunks[-1].state)
    cells = cells_of(graph)
    with torch.enable_grad(), noted_steps(cells) as noted:
        repeat(members_without_environments(graph), memory, rows_of_chunks(chunks))
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
    itself has computed with the same parameters since: by a burn-in. Where the learner's option ``initial_state`` is
    ``zero``, sequences may begin with zeros.
    """
    index = first_update(training)
    if index is None:
        n_rows = len(training.rows["env/done"])
        reason = (
            "the learner calls unroll of no module that has n_inputs, initial_state, step and unroll"
            if training.n_updates
            else f"the learner makes no update in {n_rows} rows"
        )
        return reason, reason
    outputs: Difference | str = Difference(0.0, TOLERANCE)
    states = Difference(0.0, TOLERANCE)
    if begins_empty := vars(training.learner).get("initial_state") == "zero":
        outputs = "the learner begins its sequences with empty memories (initial_state=zero)"
    for number, chunk in list(enumerate(training.chunks))[index:]:
        played = training.chunks[: number + 1]
        steps, rows = steps_of(subject, tape, memory, played), rows_of_chunks(played)
        recorded = _recorded(memory, rows)
        for position, call in enumerate(chunk.calls):
            computed = [
                each.states
                for each in chunk.calls[:position]
                if each.path == call.path and each.parameters == call.parameters
            ]
            is_of_rows = call.path in steps and call.parameters == chunk.parameters
            found = _Rows(steps[call.path], rows["env/initial_state"], call) if is_of_rows else None
            if number == index and found is not None and isinstance(outputs, Difference):
                outputs, states = outputs & found.outputs(), states & found.states()
            else:
                end = chunk.first_time + len(chunk.rows["env/done"]) - 1
                states = states & _known(call, recorded, computed, found, begins_empty=begins_empty).at(
                    f"in the update after t={end}"
                )
    return outputs, states


def _recorded(memory: Memory, rows: Rows) -> list[Tensor]:
    """All states that were recorded, ``[T, B, S]`` for each variable."""
    names = [state for state, _ in memory.pairs] or list(memory.variables)
    return [rows[name] for name in names if rows[name].ndim == 3 and rows[name].is_floating_point()]


class _Rows:
    """The rows that the sequences of a call consist of.

    Args:
        steps: of the cell in all rows.
        starts: where episodes begin in these, bool ``[T, B]``.
        call: the call.
    """

    def __init__(self, steps: Stepped, starts: Tensor, call: Call) -> None:
        self._steps, self._starts, self._call = steps, starts, call
        self.places = [self._found(sequence) for sequence in range(call.given.x.shape[1])]
        self._nearest = [
            min(found, key=lambda place, state=state: _error(steps.state[place], state), default=None)  # type: ignore[misc]
            for found, state in zip(self.places, call.given.state, strict=True)
        ]

    def states(self) -> Difference:
        """Between the states that sequences begin with and those of their first rows."""
        largest, first = 0.0, ""
        for sequence, place in enumerate(self._nearest):
            if place is None and self._is_padding(sequence):
                continue
            if place is None:
                what = "inputs and beginnings of episodes that no rows had"
                return Difference(torch.inf, TOLERANCE, f"{self._call.path}: sequence {sequence} is given {what}")
            if bool(self._call.given.starts[0, sequence]):
                continue
            found = self._call.given.state[sequence]
            error = _error(self._steps.state[place], found)
            largest = max(largest, error)
            if error > TOLERANCE and not first:
                what = "zeros" if not found.any() else self._whose(found)
                first = f"{self._call.path}: the sequence that begins at {_at(place)} is given {what}"
        return Difference(largest, TOLERANCE, first)

    def outputs(self) -> Difference:
        """Between outputs of sequences and those of acting in the same rows."""
        largest, first = 0.0, ""
        for sequence, place in enumerate(self._nearest):
            if place is None:
                continue
            t, b = place
            found = self._call.outputs[:, sequence]
            wanted = self._steps.outputs[t : t + len(found), b]
            errors = ((wanted - found).abs() / (1.0 + wanted.abs())).amax(1)
            largest = max(largest, float(errors.max()))
            if bool((errors > TOLERANCE).any()) and not first:
                row = int((errors > TOLERANCE).nonzero()[0, 0])
                whole = f"the sequence that begins at {_at(place)}"
                first = f"{self._call.path}: row {row} of {whole} differs by {errors[row]:.2g}"
        return Difference(largest, TOLERANCE, first)

    def _found(self, sequence: int) -> list[tuple[int, int]]:
        """Where rows with the same inputs and beginnings of episodes start."""
        given = self._call.given
        x, all_x = given.x[:, sequence], self._steps.x
        n_places = len(all_x) - len(x) + 1
        if n_places < 1:
            return []
        fits = torch.ones(n_places, all_x.shape[1], dtype=torch.bool)
        for row, (values, start) in enumerate(zip(x, given.starts[:, sequence], strict=True)):
            rows = slice(row, row + n_places)
            fits &= ((all_x[rows] - values).abs() <= TOLERANCE * (1.0 + values.abs())).all(2)
            fits &= self._starts[rows] == start
        return [(t, b) for t, b in fits.nonzero().tolist()]

    def _is_padding(self, sequence: int) -> bool:
        """Whether all rows are the first one again, as before a chunk without earlier rows to burn in on."""
        x = self._call.given.x[:, sequence]
        return len(x) > 1 and bool((x == x[0]).all())

    def _whose(self, state: Tensor) -> str:
        errors = ((self._steps.state - state).abs() / (1.0 + state.abs())).amax(2)
        t, b = divmod(int(errors.argmin()), errors.shape[1])
        return f"the state of {_at((t, b))}" if errors[t, b] <= TOLERANCE else "a state that no row had"


def _known(
    call: Call, recorded: Sequence[Tensor], computed: Sequence[Tensor], rows: _Rows | None, *, begins_empty: bool
) -> Difference:
    """Whether each state was recorded in the first row of its sequence, or was computed in this update."""
    largest, first = 0.0, ""
    may_be_empty = begins_empty or call.path.startswith(LEARNER)
    for sequence, state in enumerate(call.given.state):
        if bool(call.given.starts[0, sequence]) or (may_be_empty and not state.any()):
            continue  # a memory of the learner's own may begin empty: nobody records its states
        places = [] if rows is None else rows.places[sequence]
        there = [each[place][None] for each in recorded for place in places] or [
            each.flatten(0, 1) for each in recorded
        ]
        known = [each for each in (*there, *computed) if each.shape[1] == len(state) and len(each)]
        error = min((float(_errors(each, state).min()) for each in known), default=torch.inf)
        largest = max(largest, error)
        if error > TOLERANCE and not first:
            what = "zeros" if not state.any() else "a state that was neither recorded there nor computed since"
            place = f" that begins at {_at(places[0])}" if len(places) == 1 else ""
            first = f"{call.path}: sequence {sequence}{place} is given {what}"
    return Difference(largest, TOLERANCE, first)


def _at(place: tuple[int, int]) -> str:
    return f"t={place[0]}, environment {place[1]}"


def _error(wanted: Tensor, found: Tensor) -> float:
    return float(_errors(wanted[None], found).max()) if wanted.numel() else 0.0


def _errors(rows: Tensor, found: Tensor) -> Tensor:
    return ((rows - found).abs() / (1.0 + rows.abs())).amax(1)
