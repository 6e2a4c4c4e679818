"""Whether sequences are their steps, and whether the states that are stored are those that are computed again."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents
from bbrl_exp.seeding import torch_generator
from bbrl_exp.testing.cells import ROUNDED, cells_of, compared, sequence_difference
from bbrl_exp.testing.differences import Difference, Rows, differences
from bbrl_exp.testing.matching import sequences_difference
from bbrl_exp.testing.playing import changing_attributes, members_without_environments, play, repeat, rows_of
from bbrl_exp.testing.report import Check, checked
from bbrl_exp.testing.subject import saved
from bbrl_exp.testing.tape import Tape, TapeEnvironments
from bbrl_exp.testing.training import Played
from bbrl_exp.testing.trial import SEED, Trial
from bbrl_exp.workspace import Workspace

SEQUENCES, STORED = "sequences", "stored states"
UNROLL = "{}: a sequence is its steps, {}"
LEARNER = "the learner's sequences are what acting computed"
WITH_GRADIENTS = "steps with gradients are steps without"
CHUNKS = "a chunk begins with the state that the last one ended with"
RECOMPUTED = "recorded states are those computed from the beginning of the episode"
UPDATED = "after an update, states are those of the new parameters"
BEGINNINGS = "the learner's sequences begin with the states of their rows"
OUTSIDE = "all that is remembered is in the workspace"
NOT_CARRIED = "no agent reads a variable that it has written in the row before"
_MOST_CHUNKS = 3
_MOVED = 0.1


def checks(trial: Trial) -> Iterator[Check]:
    """Of sequences, then of what is stored."""
    for path, cell in cells_of(trial.learned.graph, trial.learned.learner).items():
        for dtype, words in ((torch.float64, "float64"), (torch.float32, "float32")):
            rule = UNROLL.format(path, words)
            yield checked(SEQUENCES, rule, functools.partial(sequence_difference, cell, dtype))
    of_learner = functools.cache(functools.partial(_of_learner, trial))
    yield checked(SEQUENCES, LEARNER, lambda: of_learner()[0])
    yield checked(SEQUENCES, WITH_GRADIENTS, lambda: with_gradients(trial))
    yield checked(STORED, CHUNKS, lambda: chunks(trial))
    yield checked(STORED, RECOMPUTED, lambda: recomputed(trial))
    yield checked(STORED, UPDATED, lambda: updated(trial))
    yield checked(STORED, BEGINNINGS, lambda: of_learner()[1])
    yield checked(STORED, OUTSIDE, lambda: outside(trial))


def _of_learner(trial: Trial) -> tuple[Difference | str, Difference | str]:
    if trial.learned.learner is None:
        return ("nothing is learned",) * 2
    return sequences_difference(trial.subject, trial.tape, trial.memory, trial.learned)


def with_gradients(trial: Trial) -> Difference | str:
    """Runs the agents again on the rows that they have acted in, with gradients enabled."""
    if not trial.memory.variables:
        return NOT_CARRIED
    training = trial.unchanged
    members = trial.members(training.chunks[0].state, training=True)
    with torch.enable_grad():
        found = repeat(members, trial.memory, training.rows)
    return _compared(trial, training.rows, found)


def chunks(trial: Trial) -> Difference | str:
    """Looks at rows on both sides of the ends of chunks, and plays chunks that are not learned from as one."""
    memory = trial.memory
    if not memory.variables:
        return NOT_CARRIED
    found = Difference(0.0, ROUNDED)
    for training in (trial.unchanged, trial.learned):
        for before, after in zip(training.chunks, training.chunks[1:], strict=False):
            kept, first = (
                {name: each.rows[name][row] for name in memory.written} for each, row in ((before, [-1]), (after, [0]))
            )
            place = f"the first row of the chunk that begins after t={after.first_time}"
            found = found & differences(kept, first, 0.0, first_time=after.first_time).at(place)
        found = found & _handed_on(training.rows, memory.pairs, trial.subject.steps_per_chunk)
    rows = trial.unchanged.rows
    members = trial.members(trial.unchanged.chunks[0].state, training=True)
    with torch.inference_mode():
        whole = repeat(members, memory, rows)
    return found & _compared(trial, rows, whole).at("chunks against all of them as one")


def _handed_on(rows: Rows, pairs: Sequence[tuple[str, str]], steps_per_chunk: int) -> Difference:
    """Between the state of each row and that which the row before has handed on."""
    found = Difference(0.0, 0.0)
    starts = rows["env/initial_state"][1:].unsqueeze(2)
    for state, following in pairs:
        handed = {state: rows[following][:-1].masked_fill(starts, 0.0)}
        each = differences(handed, {state: rows[state][1:]}, 0.0, first_time=1)
        if each.rows is not None and each.where:
            t = int(each.rows.any(1).nonzero()[0, 0])  # a row after the first one
            is_first = t % steps_per_chunk == 0
            each = each.at(
                "in the first new row of a chunk, not the state handed on" if is_first else "not the state handed on"
            )
        found = found & each
    return found


def recomputed(trial: Trial) -> Difference | str:
    """Plays, with the parameters of each chunk, the episodes that begin in it."""
    if not trial.memory.variables:
        return NOT_CARRIED
    found = Difference(0.0, ROUNDED)
    for chunk in _some(trial.learned.chunks):
        skipped = 0 if chunk.first_time == 0 else 1
        rows = {name: value[skipped:] for name, value in chunk.rows.items()}
        with torch.inference_mode():
            again = repeat(trial.members(chunk.state, training=True), trial.memory, rows)
        has_begun = rows["env/initial_state"].cumsum(0) > 0
        found = found & _compared(trial, rows, again, has_begun, chunk.first_time + skipped)
    return found


def updated(trial: Trial) -> Difference | str:
    """Plays chunks after updates from their first rows by agents that have known no other parameters."""
    found = Difference(0.0, ROUNDED)
    after_updates = [
        chunk for before, chunk in zip(trial.learned.chunks, trial.learned.chunks[1:], strict=False) if before.updated
    ]
    for chunk in _some(after_updates) if trial.memory.variables else ():
        with torch.inference_mode():
            again = repeat(trial.members(chunk.state, training=True), trial.memory, chunk.rows, first_row_is_known=True)
        found = found & _compared(trial, chunk.rows, again, first_time=chunk.first_time)
    return found & _moved(trial) & _cells_after(trial)


def _moved(trial: Trial) -> Difference:
    """Lets agents act, changes their parameters, lets them act again; new agents with these parameters do the same."""
    graph = trial.graph()
    members, tape = members_without_environments(graph), trial.short
    names = (*trial.memory.written, *trial.memory.actions)
    play(members, tape)
    generator = torch_generator(SEED, "memory check", "moved")
    with torch.no_grad():
        for parameter in graph.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            parameter.add_(_MOVED * noise)
    found = rows_of(play(members, tape), names)
    expected = rows_of(play(trial.members(saved(graph)), tape), names)
    return differences(expected, found, ROUNDED).at("after parameters were changed")


def _cells_after(trial: Trial) -> Difference:
    found = Difference(0.0, ROUNDED)
    live, fresh = cells_of(trial.learned.graph), cells_of(trial.graph())
    for path, cell in live.items():
        found = found & compared(cell, fresh[path]).at(f"unroll of {path}")
    return found


def outside(trial: Trial) -> Difference:
    """Lets the same agents act on two tapes in turns; they remember the right one if it is all in the workspace."""
    tape = trial.short
    names = (*trial.memory.written, *trial.memory.actions)
    other = tape.changed(torch.ones_like(tape.starts), SEED)
    alone = rows_of(play(trial.members(), tape), names)
    together = rows_of(_in_turns(trial.members(), tape, other), names)
    found = differences(alone, together, ROUNDED)
    held = changing_attributes(trial.members(), tape, other) if found.where else []
    return found.at(f"what changes while the agents act: attribute {', '.join(held)}") if held else found


def _in_turns(members: Sequence[Agent], tape: Tape, other: Tape) -> Workspace:
    workspaces = Workspace(), Workspace()
    graphs = [Agents(TapeEnvironments(each), *members) for each in (tape, other)]
    with torch.inference_mode():
        for t in range(len(tape)):
            for graph, workspace in zip(graphs, workspaces, strict=True):
                graph(workspace, t=t)
    return workspaces[0]


def _some(chunks: Sequence[Played]) -> list[Played]:
    """The first chunk and the last ones."""
    return [*chunks[:1], *chunks[1:][1 - _MOST_CHUNKS :]]


def _compared(
    trial: Trial, rows: Rows, again: Workspace, counts: Tensor | None = None, first_time: int = 0
) -> Difference:
    names = trial.memory.variables  # what else is written may depend on actions that would be drawn now
    expected = {name: again[name].detach() for name in names}
    return differences(expected, {name: rows[name] for name in names}, ROUNDED, counts, first_time)
