"""What an agent with a memory keeps from step to step: its state, in the workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.cell import CellNode, build_cell
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
from bbrl_exp.nn.recurrent import GRU
from bbrl_exp.policies.memory_inputs import MemoryInputs
from bbrl_exp.policies.observation import NetworkNode, check_same_observations
from bbrl_exp.policies.rows import Facts
from bbrl_exp.workspace import Workspace

INITIAL_STATE = "env/initial_state"
OBSERVATION_ONLY = ("observation",)
# Of policies and critics: names of arguments that they had, and what takes their place.
FORMER_ARGUMENTS = {
    "kind": "is now the memory's cell: memory=gru or memory=lstm (in Python cell=GRU or cell=LSTM)",
    "n_hidden": "is now the memory's: memory.cell.n_hidden=… (in Python cell=partial(GRU, n_hidden=…))",
}


class Memory(nn.Module):
    """A memory cell over what an agent is shown, which leaves its states in the workspace.

    ``<name>/state`` at t is the state with which row t is processed, zeros where an episode begins;
    ``<name>/next_state`` at t is the state after it. Both are float32 ``[B, S]``. A chunk that begins with the last row
    of the chunk before is thus continued from, and learned from, the exact state.

    With ``action`` among the inputs, ``<name>/previous_action`` at t is the action of row t - 1 as numbers, float32
    ``[B, A]``: one-hot where it is discrete, zeros where an episode begins.

    Args:
        env_spec: facts of the environment.
        name: first part of the names of these variables.
        cell: makes the cell, of the number of its inputs (docs/partial_observability.md); None for a GRU of 64 units.
        inputs: what the cell sees: any of ``observation``, ``action`` (the one before) and ``reward`` (of that action).
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        generator: source of the initial weights.
        network: your own, which makes the features of the observation (docs/networks.md).

    Attributes:
        inputs: what the cell sees.
        names: the variables of a row that :meth:`unroll` takes.
        cell: the memory cell.
        state_name: ``<name>/state``.
        next_state_name: ``<name>/next_state``.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        name: str,
        cell: CellNode = None,
        inputs: Sequence[str] = OBSERVATION_ONLY,
        observation_prefix: str = "",
        generator: torch.Generator | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__()
        self.inputs = MemoryInputs(env_spec, name, inputs, observation_prefix, generator, network)
        self.cell = build_cell(GRU if cell is None else cell, self.inputs.n_features, generator)
        self.names = self.inputs.names
        self.state_name = f"{name}/state"
        self.next_state_name = f"{name}/next_state"
        self._sees_action = self.inputs.action is not None
        self._previous_action = self.inputs.previous_action
        self._shown = tuple(each for each in self.names if each != self._previous_action)
        self._shown_at_a_step = (*self._shown, INITIAL_STATE)
        self._arrays = self.cell.on_arrays()
        self._state_size = self.cell.state_size
        self._is_observation = self.inputs.kinds == OBSERVATION_ONLY

    @property
    def reads(self) -> tuple[str, ...]:
        """The variables that a step reads, beside its own."""
        return (*self._shown_at_a_step, *(() if self.inputs.action is None else self.inputs.action.names))

    @property
    def writes(self) -> tuple[str, ...]:
        """The variables of the state, and of the action before where it is an input."""
        return tuple(self.row_facts)

    @property
    def row_facts(self) -> Facts:
        """What is written at a step, variable → (shape of one environment's value, dtype)."""
        sizes = dict.fromkeys((self.state_name, self.next_state_name), self.cell.state_size)
        if self.inputs.action is not None:
            sizes[self._previous_action] = self.inputs.action.n_features
        return {name: ((size,), "float32") for name, size in sizes.items()}

    @property
    def has_arrays(self) -> bool:
        """Whether :meth:`step_on_arrays` can be used."""
        return self._arrays is not None and self.inputs.is_numbers

    def on_arrays(self, mlp: Mlp) -> ArrayMlp | None:
        """``mlp`` on arrays, where :meth:`step_on_arrays` can be used; else None."""
        return None if self._arrays is None else self.inputs.on_arrays(mlp)

    def step(self, agent: Agent, t: int) -> Tensor:
        """Processes row t: reads it, writes what :attr:`writes` names, and returns the outputs ``[B, H]``.

        At t = 0 the state and the action before are those that are recorded there, if they are and no episode begins.

        Args:
            agent: whose memory it is, running on a workspace.
            t: the time step.
        """
        return self._step(agent, t)[0]

    def latent_step(self, agent: Agent, t: int) -> Tensor:
        """:meth:`step`, which returns the outputs and, beside them, what the cell saw, ``[B, H + D]``."""
        return torch.cat(self._step(agent, t), dim=1)

    def _step(self, agent: Agent, t: int) -> tuple[Tensor, Tensor]:
        initial = agent.get((INITIAL_STATE, t))
        rows = [agent.get((name, t)) for name in self._shown]
        if self._sees_action:
            previous = self._previous(agent, t, initial)
            rows.insert(self.names.index(self._previous_action), previous)
            agent.set((agent.prefix + self._previous_action, t), previous)
        x = self.inputs(rows)
        known = self._known_state(agent, t)
        if known is None:
            state = x.new_zeros(len(x), self.cell.state_size)
        else:
            state = agent.get(known).masked_fill(initial.unsqueeze(1), 0.0)
        output, following = self.cell.step(x, state)
        agent.set((agent.prefix + self.state_name, t), state)
        agent.set((agent.prefix + self.next_state_name, t), following)
        return output, x

    def step_on_arrays(self, agent: Agent, t: int) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """The same for float32 vectors on the CPU: outputs, and what is to be written, in the order of :attr:`writes`.

        The caller writes it. Only where :meth:`on_arrays` gives something.
        """
        output, _, written = self._step_on_arrays(agent, t)
        return output, written

    def latent_step_on_arrays(self, agent: Agent, t: int) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """:meth:`step_on_arrays` with the outputs and, beside them, what the cell saw, ``[B, H + D]``."""
        output, x, written = self._step_on_arrays(agent, t)
        return np.concatenate((output, x), axis=1), written

    def _step_on_arrays(self, agent: Agent, t: int) -> tuple[NDArray[Any], NDArray[Any], list[NDArray[Any]]]:
        assert self._arrays is not None
        *rows, initial = agent.read_rows(t, self._shown_at_a_step)
        written = []
        if self._is_observation:  # each look-up of a module and each call costs a percent of the step
            x = rows[0]
        else:
            if self._sees_action:
                previous = self._previous_on_arrays(agent, t, initial)
                rows.insert(self.names.index(self._previous_action), previous)
                written.append(previous)
            x = self.inputs.of_arrays(rows)
        known = self._known_state(agent, t)
        if known is None:
            state = np.zeros((len(x), self._state_size), np.float32)
        else:
            (state,) = agent.read_rows(known[1], (known[0],))
            if initial.any():
                state = state.copy()
                state[initial] = 0.0
        output, following = self._arrays(x, state)
        return output, x, [state, following, *written]

    def unroll(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[T, B, H]`` for whole sequences, with gradients through them, and the states, ``[T, B, S]``.

        Args:
            rows: one tensor ``[T, B, *shape]`` per variable of ``names``.
            state: with which the first row is processed, ``[B, S]``.
            starts: ``env/initial_state``, bool ``[T, B]``.

        Returns:
            The outputs, and the state after each row.
        """
        x = self.inputs([leaf.flatten(0, 1) for leaf in rows])
        return self.cell.unroll(x.view(*starts.shape, -1), state, starts)

    def outputs(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        """The outputs ``[T, B, H]`` of :meth:`unroll` alone."""
        x = self.inputs([leaf.flatten(0, 1) for leaf in rows])
        return self.cell.outputs(x.view(*starts.shape, -1), state, starts)

    def latent(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor, burn_in: int = 0) -> Tensor:
        """Outputs and, beside them, what the cell saw, of whole sequences, ``[T - burn_in, B, H + D]``.

        Args:
            rows: one tensor ``[T, B, *shape]`` per variable of ``names``.
            state: with which the first row is processed, ``[B, S]``.
            starts: ``env/initial_state``, bool ``[T, B]``.
            burn_in: rows at the beginning that only bring the state up to date, without gradients.
        """
        if burn_in:
            with torch.no_grad():
                _, states = self.unroll([leaf[:burn_in] for leaf in rows], state, starts[:burn_in])
            rows, state, starts = [leaf[burn_in:] for leaf in rows], states[-1], starts[burn_in:]
        x = self.inputs([leaf.flatten(0, 1) for leaf in rows]).view(*starts.shape, -1)
        return torch.cat((self.cell.outputs(x, state, starts), x), dim=2)

    def read(self, workspace: Workspace) -> tuple[Tensor, ...]:
        """All rows of the variables of ``names``, ``[T, B, *shape]`` each."""
        return tuple(workspace.get_full(name) for name in self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}  # those of the copy's own cell

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._arrays = self.cell.on_arrays()

    def _known_state(self, agent: Agent, t: int) -> tuple[str, int] | None:
        """Where the state before row t is, if it is anywhere."""
        if t > 0:
            return agent.prefix + self.next_state_name, t - 1
        return _recorded(agent, self.state_name)

    def _previous(self, agent: Agent, t: int, initial: Tensor) -> Tensor:
        """The action before row t as numbers, zeros where an episode begins, ``[B, A]``."""
        action = self.inputs.action
        assert action is not None
        if t > 0:
            numbers: Tensor = action([agent.get((name, t - 1)) for name in action.names])
        else:
            recorded = _recorded(agent, self._previous_action)
            if recorded is None:
                return torch.zeros(len(initial), action.n_features, device=initial.device)
            numbers = agent.get(recorded)
        return numbers.masked_fill(initial.unsqueeze(1), 0.0)

    def _previous_on_arrays(self, agent: Agent, t: int, initial: NDArray[Any]) -> NDArray[Any]:
        action = self.inputs.action
        assert action is not None
        if t > 0:
            numbers = action.of_arrays(agent.read_rows(t - 1, action.names))
        else:
            recorded = _recorded(agent, self._previous_action)
            if recorded is None:
                return np.zeros((len(initial), action.n_features), np.float32)
            numbers = agent.read_rows(0, (recorded[0],))[0].copy()
        numbers[initial] = 0.0
        return numbers


def _recorded(agent: Agent, variable: str) -> tuple[str, int] | None:
    """Where an agent's variable is recorded at t = 0, if it is."""
    workspace = agent.workspace
    assert workspace is not None
    name = agent.prefix + variable
    is_recorded = name in workspace and workspace.n_steps(name) > 0
    return (name, 0) if is_recorded else None


def check_same_inputs(policy: Memory, critic: Memory) -> None:
    """Refuses a critic's memory that sees something else than the policy's: learners show both the same rows.

    Raises:
        ConfigurationError: the inputs or the variables differ.
    """
    if critic.inputs.kinds != policy.inputs.kinds:
        found, wanted = (", ".join(memory.inputs.kinds) for memory in (critic, policy))
        raise ConfigurationError(f"critic: sees {found}, and the policy {wanted}; give both the same inputs")
    if policy.inputs.observation is not None and critic.inputs.observation is not None:
        check_same_observations(policy.inputs.observation, critic.inputs.observation)
