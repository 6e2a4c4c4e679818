"""Agents and learners with the faults of published implementations of memories, one each."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp import Progress, Workspace
from bbrl_exp.learners.parts.sequences import Sequences
from bbrl_exp.learners.recurrent_dqn import RecurrentDQN
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO
from bbrl_exp.policies.recurrent import RecurrentPolicy

STARTS, STATE, CARRIED = "env/initial_state", "policy/state", "policy/next_state"


class Misread(RecurrentPolicy):
    """A policy whose memory is shown something else than what a variable holds."""

    variable = CARRIED

    def misread(self, t: int, value: Tensor) -> Tensor:
        """What it is shown of row ``t`` of the variable."""
        raise NotImplementedError

    def get(self, index: str | tuple[str, int]) -> Tensor:
        value = super().get(index)
        return self.misread(index[1], value) if isinstance(index, tuple) and index[0] == self.variable else value

    def read_rows(self, t: int, names: tuple[str, ...]) -> list[NDArray[Any]]:
        rows = super().read_rows(t, names)
        if self.variable in names:
            position = names.index(self.variable)
            rows[position] = self.misread(t, torch.from_numpy(np.array(rows[position]))).numpy()
        return rows


class NotReset(Misread):
    variable = STARTS

    def misread(self, t: int, value: Tensor) -> Tensor:
        return torch.zeros_like(value)


class ResetLate(Misread):
    """Resets one row after an episode has begun."""

    variable = STARTS

    def misread(self, t: int, value: Tensor) -> Tensor:
        assert self.workspace is not None
        return self.workspace.get(STARTS, t - 1) if t > 0 else value


class ResetTogether(Misread):
    """Resets all environments where an episode begins in one."""

    variable = STARTS

    def misread(self, t: int, value: Tensor) -> Tensor:
        return value.any().expand_as(value).clone()


class Shared(Misread):
    """One state for all environments."""

    def misread(self, t: int, value: Tensor) -> Tensor:
        return value.mean(0, keepdim=True).expand_as(value).clone()


class DroppedAtChunks(Misread):
    """Begins each chunk with an empty memory."""

    def misread(self, t: int, value: Tensor) -> Tensor:
        return torch.zeros_like(value) if t == 0 else value


class AdvancedByEvaluations(Misread):
    """Keeps its state in an attribute too, which evaluations change."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.evaluated: Tensor | None = None

    def misread(self, t: int, value: Tensor) -> Tensor:
        if not self.training:
            self.evaluated = value.clone()
        elif self.evaluated is not None:
            value, self.evaluated = self.evaluated, None
        return value


class Stale(RecurrentPolicy):
    """Acts with a copy of the memory that it had at first."""

    def forward(self, t: int, **kwargs: Any) -> None:
        if "_first" not in self.__dict__:
            self.__dict__["_first"] = copy.deepcopy(self.memory)
        _, *others = self._acting
        self._acting = (self.__dict__["_first"], *others)  # type: ignore[assignment]
        super().forward(t, **kwargs)


class InAnAttribute(RecurrentPolicy):
    """Keeps its state in an attribute alone, and resets it correctly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.writes = self.actions
        self.state: Tensor | None = None

    def forward(self, t: int, **kwargs: Any) -> None:
        x = self.memory.inputs([self.get((name, t)) for name in self.memory.names])
        starts = self.get((STARTS, t))
        state = self.memory.cell.initial_state(len(starts)) if self.state is None else self.state
        output, following = self.memory.cell.step(x, state.masked_fill(starts.unsqueeze(1), 0.0))
        self.state = following.detach()
        drawn = self.noise.next(len(output)) if self.training else None
        (action,) = self.heads.actions(self.network(output), drawn)
        self.set(("action", t), action)


class ZeroStates(RecurrentPPO):
    """Unrolls its sequences from empty memories."""

    def collect(self, workspace: Workspace, progress: Progress) -> Sequences:
        found = super().collect(workspace, progress)
        return replace(found, policy_state=torch.zeros_like(found.policy_state))


class StatesOfTheFirstChunk(RecurrentPPO):
    """Unrolls the sequences of every chunk from the states of the first one: they were computed by old parameters."""

    def collect(self, workspace: Workspace, progress: Progress) -> Sequences:
        found = super().collect(workspace, progress)
        states = self.__dict__.setdefault("_first_states", found.policy_state)
        return replace(found, policy_state=states)


class StatesOfTheRowAfter(RecurrentPPO):
    """Unrolls its sequences from the states after their first rows."""

    def collect(self, workspace: Workspace, progress: Progress) -> Sequences:
        found = super().collect(workspace, progress)
        rows = workspace[CARRIED][progress.first_row : -1]
        length = len(found.starts)
        states = rows[::length].flatten(0, 1)
        return replace(found, policy_state=states)


class StaleBurnIn(RecurrentDQN):
    """Burns in with the first parameters, forever."""

    def sequences(self, recorded: Workspace) -> tuple[Tensor, Tensor, Tensor]:
        memory = self.policy.network.memory
        first = self.__dict__.setdefault("_first", copy.deepcopy(memory))
        rows = [each[: self.burn_in] for each in memory.read(recorded)]
        with torch.no_grad():
            _, states = first.unroll(rows, recorded.get(STATE, 0), recorded[STARTS][: self.burn_in])
        cut = Workspace()
        for name in recorded.keys() - {STATE}:
            cut.set_full(name, recorded[name][self.burn_in :])
        cut.set_full(STATE, states[-1:])
        burn_in, self.burn_in = self.burn_in, 0
        try:
            return super().sequences(cut)
        finally:
            self.burn_in = burn_in
