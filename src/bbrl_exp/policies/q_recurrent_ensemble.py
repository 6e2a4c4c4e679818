"""Critics of state and action with a memory, for environments that do not show their state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AT_LEAST_1, check_sizes
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.cell import CellNode
from bbrl_exp.nn.ensemble import EnsembleMlp
from bbrl_exp.policies.bounds import ActionBounds
from bbrl_exp.policies.memory import OBSERVATION_ONLY, Memory
from bbrl_exp.policies.observation import NetworkNode
from bbrl_exp.policies.rows import RowsByBatchSize
from bbrl_exp.seeding import torch_generator


class RecurrentQEnsemble(Agent):
    """M critics of continuous actions on one memory, which is not that of the policy (Ni et al., 2022).

    Each is a perceptron over the output of a memory cell, what the cell sees, and the action. A member of the graph
    writes ``<name>/state`` and ``<name>/next_state``, and ``<name>/previous_action`` where that is an input (see
    :class:`bbrl_exp.policies.memory.Memory`), so that sequences of a replay buffer begin with the states that were
    recorded; values are computed by learners only.

    Args:
        env_spec: facts of the environment.
        n_critics: number M of critics, with separate weights; they share the memory.
        cell: makes the memory cell, of the number of its inputs; None for a GRU of 64 units.
        inputs: what the cell sees: any of ``observation``, ``action`` (the one before) and ``reward`` (of that action).
        head_sizes: units of the hidden layers between the cell and the value.
        activation: of these layers: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        normalization: ``none`` or ``layer``, of these layers; see :class:`bbrl_exp.nn.ensemble.EnsembleMlp`.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights.
        name: the agent's name, and the first part of its states' names.
        network: your own, which makes the features that cell and perceptrons see (docs/networks.md).

    Raises:
        ConfigurationError: the action is no bounded box of floats, or a value out of its range.
    """

    head_in_words = "values of the actions"

    def __init__(
        self,
        env_spec: EnvSpec,
        n_critics: int = 2,
        cell: CellNode = None,
        inputs: Sequence[str] = OBSERVATION_ONLY,
        head_sizes: Sequence[int] = (128,),
        activation: str = "relu",
        normalization: Literal["none", "layer"] = "none",
        observation_prefix: str = "",
        seed: int = 0,
        name: str = "critic",
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        AT_LEAST_1.check(n_critics=n_critics)
        check_sizes(head_sizes=head_sizes)
        generator = torch_generator(seed, "init", "critic")
        self.bounds = ActionBounds(env_spec)
        self.memory = Memory(env_spec, name, cell, inputs, observation_prefix, generator, network)
        self.reads: tuple[str, ...] = self.memory.reads
        self.writes: tuple[str, ...] = self.memory.writes
        n_latent = self.memory.cell.n_hidden + self.memory.inputs.n_features
        sizes = [n_latent + self.bounds.n_components, *head_sizes, 1]
        self.network = EnsembleMlp(n_critics, sizes, activation, normalization, generator=generator)
        self._is_on_arrays = self.memory.has_arrays
        self._rows = RowsByBatchSize(self.memory.row_facts)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the states before and after row ``t``."""
        if self._is_on_arrays and self.is_on_cpu and not torch.is_grad_enabled():
            output, written = self.memory.step_on_arrays(self, t)
            self.write_rows(t, self._rows[self.prefix, len(output)], written)
            return
        self.memory.step(self, t)

    def latent(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor, burn_in: int = 0) -> Tensor:
        """What the perceptrons see beside the action, ``[T - burn_in, N, H + D]``; see :meth:`Memory.latent`."""
        return self.memory.latent(rows, state, starts, burn_in)

    def memory_head(self, outputs: Tensor, inputs: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """The values of the actions that were taken, ``[T, B, M]``; see :mod:`bbrl_exp.policies.memories`."""
        latent = torch.cat((outputs, inputs), dim=2).flatten(0, 1)
        values = self.values(latent, self.bounds.to_unit(actions[0].flatten(0, 1)))
        return values.T.view(*outputs.shape[:2], -1)

    def values(self, latent: Tensor, unit_actions: Tensor) -> Tensor:
        """Values float32 ``[M, N]``.

        Args:
            latent: N rows of :meth:`latent`, ``[N, H + D]``.
            unit_actions: in [-1, 1], ``[N, D]``.
        """
        return self.network(torch.cat((latent, unit_actions), dim=1)).squeeze(2)  # type: ignore[no-any-return]
