"""The policy of value-based learners: the action that is worth most, or now and then any action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.streams import BlockedDraws, RandomStreams
from bbrl_exp.arguments import check_sizes
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.policies.observation import NetworkNode
from bbrl_exp.policies.q_network import DistributionKind, QNetwork, ReturnAtoms, discrete_action
from bbrl_exp.policies.rows import Facts, RowsByBatchSize
from bbrl_exp.seeding import numpy_generator, torch_generator


class EpsilonGreedy(torch.nn.Module):
    """Chooses among A actions by their values: with probability ε any of them, else the best one.

    Args:
        env_spec: facts of the environment, with one discrete action.
        seed: root seed of the draws.

    Attributes:
        epsilon: ε, a buffer without dimensions, 1 at first; the learner sets it.
        variable: name of the action's variable.
        row_facts: what is written, variable → (shape of one environment's action, dtype).
    """

    epsilon: Tensor

    def __init__(self, env_spec: EnvSpec, seed: int) -> None:
        super().__init__()
        self.n_actions, self.start = discrete_action(env_spec)
        leaf = env_spec.actions[0]
        self.variable = leaf.name
        self.row_facts: Facts = {leaf.name: ((), leaf.dtype)}
        self._numpy_dtype = np.dtype(leaf.dtype)
        self._dtype = torch.from_numpy(np.empty(0, leaf.dtype)).dtype
        self.register_buffer("epsilon", torch.ones(()))
        self.stream = RandomStreams(_draws, seed)
        self._next_numbers = self.stream.next  # looking up a module takes as long as a draw

    def set_epsilon(self, epsilon: float) -> None:
        """Sets ε."""
        self.epsilon.fill_(epsilon)

    def indexes(self, actions: Tensor) -> Tensor:
        """Positions int64 ``[N]`` among the A actions of actions ``[N]``."""
        indexes = actions.long()
        return indexes - self.start if self.start else indexes

    def on_arrays(self, values: NDArray[Any]) -> NDArray[Any]:
        """Actions ``[B]`` in the space's dtype for values ``[B, A]``; the best ones in evaluation mode."""
        indexes: NDArray[Any] = values.argmax(axis=1)
        if self.training:
            explores, drawn = self._exploration(len(values))
            indexes = np.where(explores, drawn, indexes)
        return (indexes + self.start).astype(self._numpy_dtype, copy=False)

    def forward(self, values: Tensor) -> Tensor:
        """The same as :meth:`on_arrays` on tensors of any device."""
        indexes = values.argmax(dim=1)
        if self.training:
            explores, drawn = (torch.from_numpy(part).to(values.device) for part in self._exploration(len(values)))
            indexes = torch.where(explores, drawn, indexes)
        return (indexes + self.start).to(self._dtype)

    def _exploration(self, batch_size: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        numbers = self._next_numbers(batch_size)[0]
        return numbers[:, 0] < self.epsilon.item(), (numbers[:, 1] * self.n_actions).astype(np.int64)


def _draws(seed: int, batch_size: int) -> list[BlockedDraws]:
    return [BlockedDraws(_uniform, numpy_generator(seed, "exploration"), (batch_size, 2))]


def _uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return generator.random(shape)


class QPolicy(Agent):
    """Writes the action of the highest value, or with probability ε any action; in evaluation mode always the former.

    Args:
        env_spec: facts of the environment, with one discrete action.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        layer_norm: whether every hidden layer is normalised before its activation.
        dueling: whether values are the sum of a state's value and an action's advantage (Wang et al., 2016).
        distribution: what is learned of the return of an action: ``none`` its mean alone, ``categorical`` its
            distribution over fixed returns (Bellemare et al., 2017), ``quantile`` its quantiles (Dabney et al., 2018).
        n_atoms: number of returns (51) or quantiles (50); with a distribution only.
        lowest_return: smallest return of ``categorical``, discounted; required with it, refused without.
        highest_return: largest return of ``categorical``, likewise.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the exploration, which have separate streams.
        name: the agent's name.
        network: your own, which makes the features that the hidden layers see (docs/networks.md).

    Attributes:
        network: the action values.
        exploration: the choice by them, with its ε.

    Raises:
        ConfigurationError: another action than one discrete one, or options that contradict each other.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "relu",
        layer_norm: bool = False,
        dueling: bool = False,
        distribution: DistributionKind = "none",
        n_atoms: int | None = None,
        lowest_return: float | None = None,
        highest_return: float | None = None,
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(hidden_sizes=hidden_sizes)
        self.network = QNetwork(
            env_spec,
            hidden_sizes,
            activation,
            layer_norm=layer_norm,
            dueling=dueling,
            atoms=ReturnAtoms.of_options(distribution, n_atoms, lowest_return, highest_return),
            observation_prefix=observation_prefix,
            generator=torch_generator(seed, "init", "q_values"),
            network=network,
        )
        self.exploration = EpsilonGreedy(env_spec, seed)
        self.reads: tuple[str, ...] = self.network.features.names
        self.writes: tuple[str, ...] = (self.exploration.variable,)
        self._on_arrays = self.network.features.on_arrays(self.network.mlp)
        self._rows = RowsByBatchSize(self.exploration.row_facts)
        self._acting = (self.network, self.exploration)  # looking up a module takes as long as a draw

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes ``action`` at ``t``, ``[B]`` in the space's dtype."""
        network, exploration = self._acting
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            (observations,) = self.read_rows(t, self.reads)
            actions = exploration.on_arrays(network.values_on_arrays(self._on_arrays(observations)))
            self.write_rows(t, self._rows[self.prefix, len(actions)], [actions])
            return
        with torch.no_grad():
            values = network.values([self.get((leaf, t)) for leaf in self.reads])
            self.set((self.prefix + self.writes[0], t), exploration(values))
