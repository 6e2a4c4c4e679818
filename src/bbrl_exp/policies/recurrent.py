"""Policies and critics with a memory, for environments that do not show their state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.streams import BlockedDraws, RandomStreams
from bbrl_exp.arguments import check_sizes, without_former
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.cell import CellNode
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.action_heads import ActionHeads
from bbrl_exp.policies.memory import FORMER_ARGUMENTS, OBSERVATION_ONLY, Memory
from bbrl_exp.policies.observation import NetworkNode
from bbrl_exp.policies.rows import RowsByBatchSize
from bbrl_exp.seeding import torch_generator


class RecurrentPolicy(Agent):
    """Draws actions from distributions that depend on all that an episode has shown so far.

    A memory cell over the observations, a perceptron on its output, and the distributions of a
    :class:`StochasticPolicy`. Beside the action it writes ``<name>/state`` and ``<name>/next_state``, and
    ``<name>/previous_action`` where that is an input (see :class:`Memory`). In evaluation mode (``policy.eval()``) the
    most likely action is taken, unless ``policy.sample_actions()`` was called.

    Args:
        env_spec: facts of the environment.
        cell: makes the memory cell, of the number of its inputs; None for a GRU of 64 units.
        inputs: what the cell sees: any of ``observation``, ``action`` (the one before) and ``reward`` (of that action).
        head_sizes: units of the hidden layers between the cell and the action.
        activation: of these layers: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        initial_log_std: initial value of every component of ``log_std``.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the action noise, which have separate streams.
        name: the agent's name, and the first part of its states' names.
        network: your own, which makes the features that the memory sees (docs/networks.md).

    Raises:
        ConfigurationError: a space, a cell, an input or an activation that is not supported.
    """

    sampling = False
    head_in_words = "action's parameters"

    @without_former(**FORMER_ARGUMENTS)
    def __init__(
        self,
        env_spec: EnvSpec,
        cell: CellNode = None,
        inputs: Sequence[str] = OBSERVATION_ONLY,
        head_sizes: Sequence[int] = (),
        activation: str = "tanh",
        initial_log_std: float = 0.0,
        observation_prefix: str = "",
        seed: int = 0,
        name: str = "policy",
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(head_sizes=head_sizes)
        generator = torch_generator(seed, "init", "recurrent policy")
        self.memory = Memory(env_spec, name, cell, inputs, observation_prefix, generator, network)
        self.heads = ActionHeads(env_spec.actions, initial_log_std)
        self.actions = self.heads.names
        self.reads: tuple[str, ...] = self.memory.reads
        self.writes: tuple[str, ...] = (*self.actions, *self.memory.writes)
        sizes = [self.memory.cell.n_hidden, *head_sizes, self.heads.n_parameters]
        self.network = Mlp(sizes, activation, output_gain=0.01, generator=generator)
        self.noise = RandomStreams(self._noise_draws, seed)
        self._on_arrays = self.memory.on_arrays(self.network) if len(env_spec.actions) == 1 else None
        self._rows = RowsByBatchSize({**self.heads.row_facts, **self.memory.row_facts})
        self._acting = (self.memory, self.heads, self.noise)  # looking up a module takes as long as a draw

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype, and the states before and after."""
        memory, heads, noise = self._acting
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            output, written = memory.step_on_arrays(self, t)
            drawn = noise.next(len(output)) if self.training or self.sampling else None
            actions = heads.actions_on_arrays(self._on_arrays(output), drawn)
            self.write_rows(t, self._rows[self.prefix, len(output)], [actions, *written])
            return
        outputs = self.network(memory.step(self, t))
        drawn = noise.next(len(outputs)) if self.training or self.sampling else None
        for leaf, action in zip(self.actions, heads.actions(outputs, drawn), strict=True):
            self.set((self.prefix + leaf, t), action)

    def latent(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        """What the memory makes of sequences, ``[T, B, H]``; see :meth:`Memory.outputs`."""
        return self.memory.outputs(rows, state, starts)

    def memory_head(self, outputs: Tensor, inputs: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """The parameters of the distributions, ``[T, B, P]``; see :mod:`bbrl_exp.policies.memories`."""
        return self.network(outputs)  # type: ignore[no-any-return]

    def distribution_of(self, latent: Tensor) -> ActionDistribution:
        """The distributions over actions for N rows ``[N, H]`` of :meth:`latent`."""
        return self.heads.distribution(self.network(latent))

    def _noise_draws(self, seed: int, batch_size: int) -> list[BlockedDraws]:
        return self.heads.draws(seed, self.name or "", batch_size)


class RecurrentCritic(Agent):
    """What learners ask of a critic of sequences: values of all rows at once.

    Attributes:
        memory: the critic's own memory, whose states must be in the workspace; None where it has none.
    """

    memory: Memory | None

    def values(self, policy_latent: Tensor, rows: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        """Values ``[T, B]`` of all rows of sequences.

        Args:
            policy_latent: what the policy's ``latent`` made of them, ``[T, B, H]``.
            rows: one tensor ``[T, B, *shape]`` per variable of the policy's ``memory.names``.
            state: with which the critic's memory processes the first row, ``[B, S]``; S is 0 where it has none.
            starts: ``env/initial_state``, bool ``[T, B]``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define values")


class SharedMemoryCritic(RecurrentCritic):
    """A perceptron on the output of the policy's memory cell, which thus serves both.

    Args:
        policy: whose memory is shared.
        head_sizes: units of the hidden layers.
        activation: of these layers.
        seed: root seed of the initial weights.
        name: the agent's name.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        head_sizes: Sequence[int] = (),
        activation: str = "tanh",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        check_sizes(head_sizes=head_sizes)
        self.memory = None
        generator = torch_generator(seed, "init", "critic")
        self.network = Mlp([policy.memory.cell.n_hidden, *head_sizes, 1], activation, generator=generator)

    def values(self, policy_latent: Tensor, rows: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        return self.network(policy_latent).squeeze(2)  # type: ignore[no-any-return]


class MemoryCritic(RecurrentCritic):
    """A critic with its own memory cell; a member of the graph, where its states are recorded.

    Writes ``<name>/value``, float32 ``[B]``, ``<name>/state`` and ``<name>/next_state``.

    Args:
        env_spec: facts of the environment.
        cell: makes the memory cell, of the number of its inputs; None for a GRU of 64 units.
        inputs: what the cell sees: any of ``observation``, ``action`` (the one before) and ``reward`` (of that action).
        head_sizes: units of the hidden layers between the cell and the value.
        activation: of these layers.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights.
        name: the agent's name, and the first part of its variables' names.
        network: your own, which makes the features that the memory sees (docs/networks.md).
    """

    memory: Memory
    head_in_words = "value"

    @without_former(**FORMER_ARGUMENTS)
    def __init__(
        self,
        env_spec: EnvSpec,
        cell: CellNode = None,
        inputs: Sequence[str] = OBSERVATION_ONLY,
        head_sizes: Sequence[int] = (),
        activation: str = "tanh",
        observation_prefix: str = "",
        seed: int = 0,
        name: str = "critic",
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(head_sizes=head_sizes)
        generator = torch_generator(seed, "init", "critic")
        self.memory = Memory(env_spec, name, cell, inputs, observation_prefix, generator, network)
        self.network = Mlp([self.memory.cell.n_hidden, *head_sizes, 1], activation, generator=generator)
        self._value = f"{name}/value"
        self.reads: tuple[str, ...] = self.memory.reads
        self.writes: tuple[str, ...] = (self._value, *self.memory.writes)
        self._on_arrays = self.memory.on_arrays(self.network)
        self._rows = RowsByBatchSize({self._value: ((), "float32"), **self.memory.row_facts})

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the value at ``t``, and the states before and after."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            output, written = self.memory.step_on_arrays(self, t)
            values = self._on_arrays(output)[:, 0]
            self.write_rows(t, self._rows[self.prefix, len(output)], [values, *written])
            return
        self.set((self.prefix + self._value, t), self.network(self.memory.step(self, t)).squeeze(1))

    def values(self, policy_latent: Tensor, rows: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        return self.network(self.memory.outputs(rows, state, starts)).squeeze(2)  # type: ignore[no-any-return]

    def memory_head(self, outputs: Tensor, inputs: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """The value, ``[T, B, 1]``; see :mod:`bbrl_exp.policies.memories`."""
        return self.network(outputs)  # type: ignore[no-any-return]
