"""The policy of value-based learners for environments that do not show their state: action values with a memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import check_sizes, without_former
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.cell import CellNode
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.memory import FORMER_ARGUMENTS, OBSERVATION_ONLY, Memory
from bbrl_exp.policies.observation import NetworkNode
from bbrl_exp.policies.q_network import combined, combined_arrays, discrete_action
from bbrl_exp.policies.q_values import EpsilonGreedy
from bbrl_exp.policies.rows import RowsByBatchSize
from bbrl_exp.seeding import torch_generator


class RecurrentQNetwork(nn.Module):
    """From all that an episode has shown to what every action is worth: a memory cell and a perceptron on it.

    Args:
        env_spec: facts of the environment, with one discrete action.
        name: of the agent whose memory it is.
        cell: makes the memory cell; None for a GRU of 64 units.
        inputs: what the cell sees.
        head_sizes: units of the hidden layers between the cell and the values.
        activation: of these layers.
        layer_norm: whether each of them is normalised before its activation.
        dueling: whether Q = V + A - mean A (Wang et al., 2016, eq. 9).
        observation_prefix: of the variables to read instead of the environment's own.
        generator: source of the initial weights.
        network: your own, which makes the features that the memory sees (docs/networks.md).
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        name: str,
        cell: CellNode,
        inputs: Sequence[str],
        head_sizes: Sequence[int],
        activation: str,
        *,
        layer_norm: bool,
        dueling: bool,
        observation_prefix: str,
        generator: torch.Generator,
        network: NetworkNode,
    ) -> None:
        super().__init__()
        self.n_actions, _ = discrete_action(env_spec)
        self.dueling = dueling
        self.memory = Memory(env_spec, name, cell, inputs, observation_prefix, generator, network)
        sizes = [self.memory.cell.n_hidden, *head_sizes, self.n_actions + dueling]
        self.mlp = Mlp(sizes, activation, layer_norm=layer_norm, generator=generator)

    def values_on_arrays(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Action values ``[B, A]`` on arrays, from the outputs of the perceptron."""
        return combined_arrays(outputs, self.dueling, 1)[..., 0]

    def values_of(self, outputs: Tensor) -> Tensor:
        """Action values ``[…, A]`` for outputs of the cell ``[…, H]``."""
        return combined(self.mlp(outputs), self.dueling, 1).squeeze(-1)

    def values(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor, burn_in: int = 0) -> Tensor:
        """Action values of sequences, ``[T - burn_in, N, A]``.

        Args:
            rows: one tensor ``[T, N, *shape]`` per variable of the memory's ``names``.
            state: with which the first row is processed, ``[N, S]``.
            starts: ``env/initial_state``, bool ``[T, N]``.
            burn_in: rows at the beginning that only bring the state up to date, without gradients.
        """
        if burn_in:
            with torch.no_grad():
                _, states = self.memory.unroll([leaf[:burn_in] for leaf in rows], state, starts[:burn_in])
                state = states[-1]
        outputs, _ = self.memory.unroll([leaf[burn_in:] for leaf in rows], state, starts[burn_in:])
        return self.values_of(outputs)


class RecurrentQPolicy(Agent):
    """Writes the action of the highest value, or with probability ε any action; in evaluation mode always the former.

    Beside the action it writes ``<name>/state`` and ``<name>/next_state``, and ``<name>/previous_action`` where that is
    an input (see :class:`bbrl_exp.policies.memory.Memory`).

    Args:
        env_spec: facts of the environment, with one discrete action.
        cell: makes the memory cell, of the number of its inputs; None for a GRU of 64 units.
        inputs: what the cell sees: any of ``observation``, ``action`` (the one before) and ``reward`` (of that action).
        head_sizes: units of the hidden layers between the cell and the values.
        activation: of these layers: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        layer_norm: whether each of them is normalised before its activation.
        dueling: whether values are the sum of a state's value and an action's advantage (Wang et al., 2016).
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the exploration, which have separate streams.
        name: the agent's name, and the first part of its states' names.
        network: your own, which makes the features that the memory sees (docs/networks.md).

    Attributes:
        network: the action values.
        exploration: the choice by them, with its ε.

    Raises:
        ConfigurationError: another action than one discrete one, a cell, an input or an activation that is not
            supported, or ``layer_norm`` without ``head_sizes``.
    """

    head_in_words = "action values"

    @without_former(**FORMER_ARGUMENTS)
    def __init__(
        self,
        env_spec: EnvSpec,
        cell: CellNode = None,
        inputs: Sequence[str] = OBSERVATION_ONLY,
        head_sizes: Sequence[int] = (),
        activation: str = "relu",
        layer_norm: bool = False,
        dueling: bool = False,
        observation_prefix: str = "",
        seed: int = 0,
        name: str = "policy",
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(head_sizes=head_sizes)
        if layer_norm and not head_sizes:
            raise ConfigurationError("layer_norm=true: has no effect without head_sizes")
        self.network = RecurrentQNetwork(
            env_spec,
            name,
            cell,
            inputs,
            head_sizes,
            activation,
            layer_norm=layer_norm,
            dueling=dueling,
            observation_prefix=observation_prefix,
            generator=torch_generator(seed, "init", "recurrent q_values"),
            network=network,
        )
        self.exploration = EpsilonGreedy(env_spec, seed)
        memory = self.network.memory
        self.action = self.exploration.variable
        self.reads: tuple[str, ...] = memory.reads
        self.writes: tuple[str, ...] = (self.action, *memory.writes)
        self._on_arrays = memory.on_arrays(self.network.mlp)
        self._rows = RowsByBatchSize({**self.exploration.row_facts, **memory.row_facts})
        self._acting = (self.network, memory, self.exploration)  # looking up a module takes as long as a draw

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes ``action`` at ``t``, ``[B]`` in the space's dtype, and the states before and after."""
        network, memory, exploration = self._acting
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            output, written = memory.step_on_arrays(self, t)
            actions = exploration.on_arrays(network.values_on_arrays(self._on_arrays(output)))
            self.write_rows(t, self._rows[self.prefix, len(output)], [actions, *written])
            return
        with torch.no_grad():
            self.set((self.prefix + self.action, t), exploration(network.values_of(memory.step(self, t))))

    def memory_head(self, outputs: Tensor, inputs: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """The action values, ``[T, B, A]``; see :mod:`bbrl_exp.policies.memories`."""
        return self.network.values_of(outputs)
