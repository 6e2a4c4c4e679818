"""Whether training, evaluation, ``load_policy`` and ``act`` give the same states and actions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.seeding import untouched_global_generators
from bbrl_exp.testing.cells import ROUNDED
from bbrl_exp.testing.differences import Difference, differences
from bbrl_exp.testing.playing import evaluating, members_without_environments, play, repeat, rows_of
from bbrl_exp.testing.report import Check, checked
from bbrl_exp.testing.subject import asked_variables, saved
from bbrl_exp.testing.tape import TapeEnvironments, taken_apart
from bbrl_exp.testing.training import train
from bbrl_exp.testing.trial import SEED, Trial
from bbrl_exp.training.evaluation import Evaluator

CLAIM = "agreement"
TRAINING = "training computes the states of an evaluation"
EVALUATION = "an evaluation gives the same states and actions"
LOADED = "load_policy gives the same states and actions"
ACT = "act gives the same states and actions"
LEFT_ALONE = "an evaluation leaves training as it was"
_N_EVALUATED = 3


def checks(trial: Trial) -> Iterator[Check]:
    """The four against what agents built from scratch do on the same tape."""
    yield checked(CLAIM, TRAINING, lambda: training(trial))
    yield checked(CLAIM, EVALUATION, lambda: evaluation(trial))
    yield checked(CLAIM, LOADED, lambda: loaded(trial))
    yield checked(CLAIM, ACT, lambda: act(trial))
    yield checked(CLAIM, LEFT_ALONE, lambda: left_alone(trial))


def _names(trial: Trial) -> tuple[str, ...]:
    return (*trial.memory.written, *trial.memory.actions)


def training(trial: Trial) -> Difference:
    """Agents in training mode, with the actions of an evaluation; and those that were trained, in evaluation mode."""
    rows = trial.expected
    with torch.inference_mode():
        again = repeat(trial.members(training=True), trial.memory, rows)
    names = trial.memory.variables
    found = differences({name: rows[name] for name in names}, rows_of(again, names), ROUNDED)
    members = members_without_environments(trial.learned.graph)
    with evaluating(members):
        trained = rows_of(play(members, trial.short), _names(trial))
    wanted = {name: rows[name] for name in _names(trial)}
    return found & differences(wanted, trained, ROUNDED).at("the agents that were trained")


def evaluation(trial: Trial) -> Difference:
    """An evaluation of one episode of each environment."""
    tape, begins = trial.short.episodes()
    notes = _Notes(_names(trial))
    graph, _ = trial.subject.build(TapeEnvironments(tape, auto_reset=False))
    with contextlib.closing(Evaluator(graph, SEED, SEED)) as evaluator:
        evaluator.load(trial.state)
        evaluator.add_observer(notes)
        evaluator.run()
    found = notes.rows()
    n_rows = len(next(iter(found.values())))
    rows = trial.expected
    index = begins + torch.arange(n_rows).unsqueeze(1)
    places = index.clamp(max=len(trial.short) - 1), torch.arange(len(begins))
    is_over = tape.rows["env/done"][:n_rows].cumsum(0) > 1
    return differences({name: rows[name][places] for name in found}, found, ROUNDED, ~is_over)


class _Notes(Agent):
    """Keeps the rows of variables, which an evaluation drops."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("notes of the check")
        self._names, self._rows = names, list[dict[str, Tensor]]()

    def forward(self, t: int, **kwargs: object) -> None:
        self._rows.append({name: self.get((name, t)).clone() for name in self._names})

    def rows(self) -> dict[str, Tensor]:
        """All of them, ``[T, B, …]``."""
        return {name: torch.stack([row[name] for row in self._rows]) for name in self._names}


def loaded(trial: Trial) -> Difference:
    """The policy as it comes out of a file, on a workspace."""
    workspace = play([trial.subject.loaded(trial.state)], trial.short)
    rows = trial.expected
    wanted = {name: rows[name] for name in _names(trial)}
    return differences(wanted, rows_of(workspace, tuple(wanted)), ROUNDED)


def act(trial: Trial) -> Difference:
    """Answers to observations, in turns with those of another conversation, each with its own state."""
    tape, spec = trial.short, trial.tape.env_spec
    other = tape.changed(torch.ones_like(tape.starts), SEED)
    answer = trial.subject.acting(trial.state)
    asked = asked_variables(trial.members(), TapeEnvironments(tape))
    states: list[dict[str, Tensor]] = []
    before: list[object] = [None, None]
    for t in range(len(tape)):
        for turn, each in enumerate((tape, other)):
            variables = {name: each.rows[name][t].numpy() for name in asked}
            observation = taken_apart(each.rows, spec, t)
            _, state = answer(observation, before[turn], each.starts[t].numpy(), variables)
            before[turn] = state
            if turn == 0:
                states.append(dict(state))
    rows = trial.expected
    wanted = {name: rows[name] for name in _names(trial) if name in states[0]}
    found = {name: torch.stack([state[name] for state in states]) for name in wanted}
    return differences(wanted, found, ROUNDED)


def left_alone(trial: Trial) -> Difference:
    """Trains again, with evaluations in between: by other agents as in a run, and by the trained ones themselves."""
    tape, _ = trial.short.episodes()
    graph, _ = trial.subject.build(TapeEnvironments(tape, auto_reset=False))
    n_done = 0
    with contextlib.closing(Evaluator(graph, SEED, SEED)) as evaluator:

        def evaluate(trained: TemporalAgent) -> None:
            nonlocal n_done
            n_done += 1
            if n_done > _N_EVALUATED:
                return
            evaluator.load(saved(trained))
            evaluator.run()
            members = members_without_environments(trained)
            with evaluating(members), untouched_global_generators():
                play(members, trial.short)

        chunks = trial.learned.chunks
        again = train(trial.subject, trial.tape, len(chunks), learns=trial.learned.learner is not None, after=evaluate)
    names = _names(trial)
    one, other = ({name: each.rows[name] for name in names} for each in (trial.learned, again))
    return differences(one, other, 0.0)
