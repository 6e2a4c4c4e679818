"""Policies and critics with a memory, for environments that do not show their state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
from bbrl_exp.nn.recurrent import RecurrentKind
from bbrl_exp.policies.draws import BlockedDraws, DrawsByBatchSize
from bbrl_exp.policies.memory import Memory, RowsOfBatch
from bbrl_exp.policies.stochastic import action_head
from bbrl_exp.seeding import numpy_generator, torch_generator


class RecurrentPolicy(Agent):
    """Draws actions from distributions that depend on all that an episode has shown so far.

    A recurrent network over the observations, a perceptron on its output, and the distributions of a
    :class:`StochasticPolicy`. Beside the action it writes ``<name>/state`` and ``<name>/next_state`` (see
    :class:`Memory`). In evaluation mode (``policy.eval()``) the likeliest action is taken.

    Args:
        env_spec: facts of the environment.
        n_hidden: number H of units of the recurrent network.
        kind: ``gru`` or ``lstm``.
        head_sizes: units of the hidden layers between the recurrent network and the action.
        activation: of these layers: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        initial_log_std: initial value of every component of ``log_std``.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the action noise, which have separate streams.
        name: the agent's name, and the first part of its states' names.

    Raises:
        ConfigurationError: a space, a kind or an activation that is not supported.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        n_hidden: int = 64,
        kind: RecurrentKind = "gru",
        head_sizes: Sequence[int] = (),
        activation: str = "tanh",
        initial_log_std: float = 0.0,
        observation_prefix: str = "",
        seed: int = 0,
        name: str = "policy",
    ) -> None:
        super().__init__(name)
        generator = torch_generator(seed, "init", "recurrent policy")
        self.memory = Memory(env_spec, name, n_hidden, kind, observation_prefix, generator)
        self.actions = tuple(leaf.name for leaf in env_spec.actions)
        self.reads: tuple[str, ...] = self.memory.reads
        self.writes: tuple[str, ...] = (*self.actions, *self.memory.writes)
        self._heads = [action_head(leaf, initial_log_std) for leaf in env_spec.actions]
        self._n_parameters = [head.n_parameters for head in self._heads]
        self.heads = nn.ModuleList(self._heads)
        self.network = Mlp(
            [n_hidden, *head_sizes, sum(self._n_parameters)], activation, output_gain=0.01, generator=generator
        )
        is_one_vector = self.memory.features.is_one_vector and len(self._heads) == 1
        self._on_arrays = ArrayMlp(self.network) if is_one_vector and ArrayMlp.supports(self.network) else None
        self._leaves = env_spec.actions
        self._rows: dict[int, RowsOfBatch] = {}
        self._noise_for = DrawsByBatchSize(self._noise, seed)

    def seed(self, seed: int) -> None:
        self._noise_for.restart(seed)

    def take_slice(self, part: BatchSlice) -> None:
        """See :class:`~bbrl_exp.agents.slices.KnowsItsSlice`."""
        self._noise_for.take_slice(part)

    def run_state(self) -> dict[str, Any]:
        """Where the action noise stands."""
        return self._noise_for.state()

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the noise from where :meth:`run_state` was taken."""
        self._noise_for.load_state(state)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype, and the states before and after."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            self._act_on_arrays(self._on_arrays, t)
            return
        outputs = torch.split(self.network(self.memory.step(self, t)), self._n_parameters, dim=1)
        if not self.training:
            for head, leaf, parameters in zip(self._heads, self.actions, outputs, strict=True):
                self.set((self.prefix + leaf, t), head.distribution(parameters).mode().to(head.dtype))
            return
        noise = self._noise_for(len(outputs[0]))
        for head, leaf, parameters, draws in zip(self._heads, self.actions, outputs, noise, strict=True):
            self.set((self.prefix + leaf, t), head(parameters, torch.from_numpy(draws.next()).to(parameters.device)))

    def latent(self, observations: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        """What the memory makes of sequences, ``[T, B, H]``; see :meth:`Memory.unroll`."""
        return self.memory.unroll(observations, state, starts)

    def distribution_of(self, latent: Tensor) -> ActionDistribution:
        """The distributions over actions for N rows ``[N, H]`` of :meth:`latent`."""
        outputs = torch.split(self.network(latent), self._n_parameters, dim=1)
        return ActionDistribution(
            [head.distribution(parameters) for head, parameters in zip(self._heads, outputs, strict=True)]
        )

    def _act_on_arrays(self, network: ArrayMlp, t: int) -> None:
        output, state, following = self.memory.step_on_arrays(self, t)
        batch_size = len(output)
        leaf = self._leaves[0]
        rows = self._rows.get(batch_size)
        if rows is None:
            action = {self.prefix + leaf.name: ((batch_size, *leaf.shape), leaf.dtype)}
            rows = {**action, **self.memory.rows(self.prefix, batch_size)}
            self._rows[batch_size] = rows
        noise = self._noise_for(batch_size)[0].next() if self.training else None
        actions = self._heads[0].on_arrays(network(output), noise)
        self.write_rows(t, rows, [actions.astype(leaf.dtype, copy=False), state, following])

    def _noise(self, seed: int, batch_size: int) -> list[BlockedDraws]:
        return [
            BlockedDraws(
                head.draw, numpy_generator(seed, "action", self.name or "", index), (batch_size, head.n_parameters)
            )
            for index, head in enumerate(self._heads)
        ]


class RecurrentCritic(Agent):
    """What learners ask of a critic of sequences: values of all rows at once.

    Attributes:
        memory: the critic's own memory, whose states must be in the workspace; None where it has none.
    """

    memory: Memory | None

    def values(self, policy_latent: Tensor, observations: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        """Values ``[T, B]`` of all rows of sequences.

        Args:
            policy_latent: what the policy's ``latent`` made of them, ``[T, B, H]``.
            observations: one tensor ``[T, B, *shape]`` a leaf.
            state: with which the critic's memory processes the first row, ``[B, S]``; S is 0 where it has none.
            starts: ``env/initial_state``, bool ``[T, B]``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define values")


class SharedMemoryCritic(RecurrentCritic):
    """A perceptron on the output of the policy's recurrent network, which thus serves both.

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
        self.memory = None
        generator = torch_generator(seed, "init", "critic")
        self.network = Mlp([policy.memory.network.n_hidden, *head_sizes, 1], activation, generator=generator)

    def values(self, policy_latent: Tensor, observations: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        return self.network(policy_latent).squeeze(2)  # type: ignore[no-any-return]


class MemoryCritic(RecurrentCritic):
    """A critic with a recurrent network of its own; a member of the graph, where its states are recorded.

    Writes ``<name>/value``, float32 ``[B]``, ``<name>/state`` and ``<name>/next_state``.

    Args:
        env_spec: facts of the environment.
        n_hidden: number of units of the recurrent network.
        kind: ``gru`` or ``lstm``.
        head_sizes: units of the hidden layers between the recurrent network and the value.
        activation: of these layers.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights.
        name: the agent's name, and the first part of its variables' names.
    """

    memory: Memory

    def __init__(
        self,
        env_spec: EnvSpec,
        n_hidden: int = 64,
        kind: RecurrentKind = "gru",
        head_sizes: Sequence[int] = (),
        activation: str = "tanh",
        observation_prefix: str = "",
        seed: int = 0,
        name: str = "critic",
    ) -> None:
        super().__init__(name)
        generator = torch_generator(seed, "init", "critic")
        self.memory = Memory(env_spec, name, n_hidden, kind, observation_prefix, generator)
        self.network = Mlp([n_hidden, *head_sizes, 1], activation, generator=generator)
        self._value = f"{name}/value"
        self.reads: tuple[str, ...] = self.memory.reads
        self.writes: tuple[str, ...] = (self._value, *self.memory.writes)
        has_arrays = self.memory.features.is_one_vector and ArrayMlp.supports(self.network)
        self._on_arrays = ArrayMlp(self.network) if has_arrays else None

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the value at ``t``, and the states before and after."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            output, state, following = self.memory.step_on_arrays(self, t)
            rows: RowsOfBatch = {
                self.prefix + self._value: ((len(output),), "float32"),
                **self.memory.rows(self.prefix, len(output)),
            }
            self.write_rows(t, rows, [self._on_arrays(output)[:, 0], state, following])
            return
        self.set((self.prefix + self._value, t), self.network(self.memory.step(self, t)).squeeze(1))

    def values(self, policy_latent: Tensor, observations: Sequence[Tensor], state: Tensor, starts: Tensor) -> Tensor:
        return self.network(self.memory.unroll(observations, state, starts)).squeeze(2)  # type: ignore[no-any-return]
