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
from bbrl_exp.nn.recurrent import ArrayRecurrentNet, RecurrentKind, RecurrentNet
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures
from bbrl_exp.policies.rows import Facts

INITIAL_STATE = "env/initial_state"


class Memory(nn.Module):
    """A recurrent network over the observations of an agent, which leaves its states in the workspace.

    ``<name>/state`` at t is the state with which the observation of row t is processed, zeros where an episode begins;
    ``<name>/next_state`` at t is the state after it. Both are float32 ``[B, S]``. A chunk that begins with the last row
    of the chunk before is thus continued from, and learned from, the exact state.

    Args:
        env_spec: facts of the environment.
        name: first part of the names of the two variables.
        n_hidden: number H of units.
        kind: ``gru`` or ``lstm``.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        generator: source of the initial weights.
        network: your own, which makes the features that it sees (docs/networks.md).

    Attributes:
        features: what is seen of the observation.
        network: the recurrent network.
        state_name: ``<name>/state``.
        next_state_name: ``<name>/next_state``.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        name: str,
        n_hidden: int,
        kind: RecurrentKind,
        observation_prefix: str = "",
        generator: torch.Generator | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__()
        self.features = ObservationFeatures(env_spec, observation_prefix, generator, network)
        self.network = RecurrentNet(self.features.n_features, n_hidden, kind, generator)
        self.state_name = f"{name}/state"
        self.next_state_name = f"{name}/next_state"
        self._names = self.features.names
        self._arrays = ArrayRecurrentNet(self.network)

    @property
    def reads(self) -> tuple[str, ...]:
        """The variables that a step reads, beside its own."""
        return (*self._names, INITIAL_STATE)

    @property
    def writes(self) -> tuple[str, ...]:
        """The variables of the state."""
        return (self.state_name, self.next_state_name)

    @property
    def row_facts(self) -> Facts:
        """What is written of the state, variable → (shape of one environment's value, dtype)."""
        return dict.fromkeys(self.writes, ((self.network.state_size,), "float32"))

    def step(self, agent: Agent, t: int) -> Tensor:
        """Processes row t: reads it, writes the two states, and returns the outputs ``[B, H]``.

        At t = 0 the state is the one that is recorded there, if one is.

        Args:
            agent: whose memory it is, running on a workspace.
            t: the time step.
        """
        features = self.features([agent.get((name, t)) for name in self._names])
        initial = agent.get((INITIAL_STATE, t))
        known = self._known_state(agent, t)
        if known is None:
            state = self.network.initial_state(len(features))
        else:
            state = agent.get(known).masked_fill(initial.unsqueeze(1), 0.0)
        output, following = self.network.step(features, state)
        agent.set((agent.prefix + self.state_name, t), state)
        agent.set((agent.prefix + self.next_state_name, t), following)
        return output

    def step_on_arrays(self, agent: Agent, t: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The same for one float32 vector on the CPU: outputs, state and next state, which the caller writes."""
        observation, initial = agent.read_rows(t, self.reads)
        known = self._known_state(agent, t)
        if known is None:
            state = np.zeros((len(observation), self.network.state_size), np.float32)
        else:
            (state,) = agent.read_rows(known[1], (known[0],))
            if initial.any():
                state = state.copy()
                state[initial] = 0.0
        output, following = self._arrays(observation, state)
        return output, state, following

    def unroll(self, observations: Sequence[Tensor], state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[T, B, H]`` for whole sequences, with gradients through them, and the state after them, ``[B, S]``.

        Args:
            observations: one tensor ``[T, B, *shape]`` per leaf.
            state: with which the first row is processed, ``[B, S]``.
            starts: ``env/initial_state``, bool ``[T, B]``.
        """
        features = self.features([leaf.flatten(0, 1) for leaf in observations])
        return self.network.unroll(features.view(*starts.shape, -1), state, starts)

    def latent(self, observations: Sequence[Tensor], state: Tensor, starts: Tensor, burn_in: int = 0) -> Tensor:
        """Outputs and, beside them, the features of whole sequences, ``[T - burn_in, B, H + F]``.

        Args:
            observations: one tensor ``[T, B, *shape]`` per leaf.
            state: with which the first row is processed, ``[B, S]``.
            starts: ``env/initial_state``, bool ``[T, B]``.
            burn_in: rows at the beginning that only bring the state up to date, without gradients.
        """
        features = self.features([leaf.flatten(0, 1) for leaf in observations]).view(*starts.shape, -1)
        if burn_in:
            with torch.no_grad():
                _, state = self.network.unroll(features[:burn_in], state, starts[:burn_in])
        outputs, _ = self.network.unroll(features[burn_in:], state, starts[burn_in:])
        return torch.cat((outputs, features[burn_in:]), dim=2)

    def _known_state(self, agent: Agent, t: int) -> tuple[str, int] | None:
        """Where the state before row t is, if it is anywhere."""
        if t > 0:
            return agent.prefix + self.next_state_name, t - 1
        workspace = agent.workspace
        assert workspace is not None
        name = agent.prefix + self.state_name
        is_recorded = name in workspace and workspace.n_steps(name) > 0
        return (name, 0) if is_recorded else None
