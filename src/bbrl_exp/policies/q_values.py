"""The policy of value-based learners: the action that is worth most, or now and then any action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.mlp import ArrayMlp
from bbrl_exp.policies.draws import BlockedDraws, DrawsByBatchSize
from bbrl_exp.policies.q_network import DistributionKind, QNetwork, ReturnAtoms, combined_arrays, n_actions_of
from bbrl_exp.seeding import numpy_generator, torch_generator


class EpsilonGreedy(torch.nn.Module):
    """Chooses among A actions by their values: with probability ε any of them, else the best one.

    Args:
        env_spec: facts of the environment, with one discrete action.
        seed: root seed of the draws.

    Attributes:
        epsilon: ε, a buffer without dimensions, 1 at first; the learner sets it.
    """

    epsilon: Tensor

    def __init__(self, env_spec: EnvSpec, seed: int) -> None:
        super().__init__()
        self.n_actions = n_actions_of(env_spec)
        leaf = env_spec.actions[0]
        self.variable = leaf.name
        self.start = 0 if leaf.start is None else int(leaf.start)
        self._numpy_dtype = np.dtype(leaf.dtype)
        self._dtype = torch.from_numpy(np.empty(0, leaf.dtype)).dtype
        self.register_buffer("epsilon", torch.ones(()))
        self._draws_for = DrawsByBatchSize(_draws, seed)

    def seed(self, seed: int) -> None:
        """Begins the draws anew."""
        self._draws_for.restart(seed)

    def take_slice(self, part: BatchSlice) -> None:
        """See :class:`~bbrl_exp.agents.slices.KnowsItsSlice`."""
        self._draws_for.take_slice(part)

    def run_state(self) -> dict[str, Any]:
        """Where the draws stand."""
        return self._draws_for.state()

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the draws from where :meth:`run_state` was taken."""
        self._draws_for.load_state(state)

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
        numbers = self._draws_for(batch_size)[0].next()
        return numbers[:, 0] < self.epsilon.item(), (numbers[:, 1] * self.n_actions).astype(np.int64)


def _draws(seed: int, batch_size: int) -> list[BlockedDraws]:
    return [BlockedDraws(_uniform, numpy_generator(seed, "exploration"), (batch_size, 2))]


def _uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return generator.random(shape)


class QPolicy(Agent):
    """Writes the action of the highest value, or with probability ε any action; in evaluation mode the former always.

    Args:
        env_spec: facts of the environment, with one discrete action.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        layer_norm: whether every hidden layer is normalised before its activation.
        dueling: whether values are the sum of a state's value and an action's advantage (Wang et al., 2016).
        distribution: what is learned of the return of an action: ``none`` its mean alone, ``categorical`` its
            distribution over fixed returns (Bellemare et al., 2017), ``quantile`` its quantiles (Dabney et al., 2018).
        n_atoms: number of returns (51) or quantiles (50); with a distribution only.
        lowest_return: smallest return of ``categorical``, discounted; with it only, and needed.
        highest_return: largest return of ``categorical``, likewise.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the exploration, which have separate streams.
        name: the agent's name.

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
    ) -> None:
        super().__init__(name)
        if not all(isinstance(size, int) and size >= 1 for size in hidden_sizes):
            raise ConfigurationError(f"hidden_sizes={list(hidden_sizes)}: a list of whole numbers, none below 1")
        self.network = QNetwork(
            env_spec,
            hidden_sizes,
            activation,
            layer_norm=layer_norm,
            dueling=dueling,
            atoms=ReturnAtoms.of_options(distribution, n_atoms, lowest_return, highest_return),
            observation_prefix=observation_prefix,
            generator=torch_generator(seed, "init", "q_values"),
        )
        self.exploration = EpsilonGreedy(env_spec, seed)
        self.reads: tuple[str, ...] = self.network.features.names
        self.writes: tuple[str, ...] = (self.exploration.variable,)
        can_be_array = self.network.features.is_one_vector and ArrayMlp.supports(self.network.mlp)
        self._on_arrays = ArrayMlp(self.network.mlp) if can_be_array else None
        self._dtype = env_spec.actions[0].dtype
        self._action_rows: dict[int, dict[str, tuple[tuple[int, ...], str]]] = {}

    def seed(self, seed: int) -> None:
        self.exploration.seed(seed)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes ``action`` at ``t``, ``[B]`` in the space's dtype."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            self._act_on_arrays(self._on_arrays, t)
            return
        with torch.no_grad():
            values = self.network.values([self.get((leaf, t)) for leaf in self.reads])
            self.set((self.prefix + self.writes[0], t), self.exploration(values))

    def _act_on_arrays(self, mlp: ArrayMlp, t: int) -> None:
        (observations,) = self.read_rows(t, self.reads)
        network, batch_size = self.network, len(observations)
        rows = self._action_rows.get(batch_size)
        if rows is None:
            rows = self._action_rows[batch_size] = {self.prefix + self.writes[0]: ((batch_size,), self._dtype)}
        outputs = combined_arrays(mlp(observations), network.dueling, network.atoms.n_atoms)
        values = network.atoms.means_on_arrays(outputs)
        self.write_rows(t, rows, [self.exploration.on_arrays(values)])
