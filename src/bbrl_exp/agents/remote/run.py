"""One call of a remote agent, from its beginning to its rows in a workspace."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.remote.crew import Crew, Waiting
from bbrl_exp.agents.remote.memory import Piece
from bbrl_exp.agents.remote.protocol import Answer, ChangedVariable
from bbrl_exp.agents.remote.state import StateEntry
from bbrl_exp.errors import RemoteAgentError, WorkspaceError
from bbrl_exp.workspace import Workspace

_LOOK_EVERY_MS = 200


class RemoteRun:
    """A call that has begun.

    After any error all processes of the crew are ended.

    Args:
        crew: the processes.
        agent: what they run, as it is here.
        workspace: what the call reads.
        keywords: of the call.
        everything: whether the whole workspace is handed over now, so that it may change while the call goes on.
    """

    def __init__(
        self, crew: Crew, agent: Agent, workspace: Workspace, keywords: Mapping[str, Any], everything: bool
    ) -> None:
        self._crew = crew
        self._workspace = workspace
        self._keywords = dict(keywords)
        self._answers: dict[int, Answer] = {}
        self._states: dict[int, dict[str, StateEntry]] = {index: {} for index in range(len(crew.copies))}
        self._is_done = False
        try:
            crew.call(agent, workspace, keywords, everything)
        except BaseException:
            crew.kill()
            raise
        self._waiting = Waiting(crew, range(len(crew.copies)))

    def is_done(self, milliseconds: int = 0) -> bool:
        """Whether every process has answered; waits for a message for that long at most.

        Raises:
            BbrlExpError: what a process raised, or that it died or was stuck.
        """
        try:
            while not self._is_done and self._waiting.look(self._workspace, milliseconds):
                self._take_answers()
                milliseconds = 0
        except BaseException:
            self._crew.kill()
            raise
        return self._is_done

    def wait(self) -> None:
        """Waits until every process has answered.

        Raises:
            BbrlExpError: as :meth:`is_done`.
        """
        while not self.is_done(_LOOK_EVERY_MS):
            pass

    def write_to(self, workspace: Workspace) -> None:
        """Does to ``workspace`` what the call did, the slices put together.

        Raises:
            RemoteAgentError: the slices do not fit together.
        """
        first, *others = (self._answers[index] for index in range(len(self._answers)))
        for index, other in enumerate(others, start=1):
            _check_alike(first, other, index)
        for name in first.removed:
            workspace.remove_variable(name)
        for position, change in enumerate(first.changes):
            parts = [change, *(other.changes[position] for other in others)]
            self._write(workspace, change, parts)

    def _write(self, workspace: Workspace, change: ChangedVariable, parts: list[ChangedVariable]) -> None:
        name = change.name
        if name in workspace:
            if change.is_new:
                workspace.remove_variable(name)
            elif change.n_kept < workspace.n_steps(name):
                workspace.truncate(change.n_kept, [name])
        for position, (t, _) in enumerate(change.rewritten):
            row = self._joined((part.rewritten[position][1] for part in parts), name, batch_dim=0)
            workspace.set(name, t, row)
        if change.is_new or change.n_steps > change.n_kept:
            workspace.extend(name, self._joined((part.appended for part in parts), name, batch_dim=1))

    def _joined(self, pieces: Iterable[Piece], name: str, batch_dim: int) -> Tensor:
        tensors = []
        for copy, piece in zip(self._crew.copies, pieces, strict=True):
            tensor = copy.received(piece)
            if copy.part is not None and (tensor.dim() <= batch_dim or tensor.shape[batch_dim] != copy.part.count):
                found = f"{copy.process.label} wrote {list(tensor.shape[batch_dim:])}"
                raise RemoteAgentError(f"'{name}': copies of an agent share rows [{copy.part.count}, …], {found}")
            tensors.append(tensor)
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=batch_dim)

    def _take_answers(self) -> None:
        for index, content in self._waiting.answers.items():
            answer = self._answers[index] = pickle.loads(content)
            self._states[index].update(self._crew.copies[index].received_state(answer))
        more = self._what_is_missing()
        if more:
            for index, keywords in more.items():
                self._crew.more(index, keywords)
            self._waiting = Waiting(self._crew, more)
            return
        self._crew.take_state([self._states[index] for index in range(len(self._states))])
        self._is_done = True

    def _what_is_missing(self) -> dict[int, dict[str, Any]]:
        """How copies must go on so that all stop where the whole batch would stop: at the first time at which the stop
        variable is true everywhere.

        Nobody has been true everywhere before the last one was for the first time; so all are led to that time, and if
        it is not the one, on from there.
        """
        variable = self._keywords.get("stop_variable")
        if variable is None or len(self._answers) == 1:
            return {}
        lengths, ends = {}, []
        for index, answer in self._answers.items():
            change = next((change for change in answer.changes if change.name == variable), None)
            if change is None or change.n_steps == change.n_kept:
                raise WorkspaceError(
                    f"stop_variable '{variable}' is not written by the agent whose copies run remotely"
                )
            lengths[index] = change.n_steps
            ends.append(bool(self._crew.copies[index].received(change.appended)[-1].all()))
        longest = max(lengths.values())
        behind = {index: longest - length for index, length in lengths.items() if length < longest}
        keywords = {name: value for name, value in self._keywords.items() if name != "stop_variable"}
        if behind:
            return {index: {**keywords, "t": longest - n, "n_steps": n} for index, n in behind.items()}
        limit, t = self._keywords.get("n_steps"), self._keywords.get("t", 0)
        if all(ends) or (limit is not None and longest >= t + limit):
            return {}
        left = None if limit is None else t + limit - longest
        return {index: {**self._keywords, "t": longest, "n_steps": left} for index in lengths}


def _check_alike(first: Answer, other: Answer, index: int) -> None:
    names = [change.name for change in first.changes], [change.name for change in other.changes]
    if names[0] != names[1] or first.removed != other.removed:
        different = sorted({*names[0], *first.removed} ^ {*names[1], *other.removed}) or names[0]
        raise RemoteAgentError(f"copies 0 and {index} of the agent wrote different variables: {', '.join(different)}")
    for one, another in zip(first.changes, other.changes, strict=True):
        if one.times != another.times:
            raise RemoteAgentError(
                f"copies 0 and {index} of the agent wrote different rows of '{one.name}': up to {one.n_steps} and "
                f"{another.n_steps}"
            )
