"""The policy of soft actor-critic with a memory: a squashed normal distribution that depends on the whole episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import check_sizes
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.functional.squashing import SquashedSample
from bbrl_exp.nn.cell import CellNode
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.bounds import ActionBounds
from bbrl_exp.policies.exploration import Exploration
from bbrl_exp.policies.memory import OBSERVATION_ONLY, Memory
from bbrl_exp.policies.observation import NetworkNode
from bbrl_exp.policies.rows import RowsByBatchSize
from bbrl_exp.policies.squashed import sample_squashed, squash, squash_arrays
from bbrl_exp.seeding import torch_generator


class RecurrentSquashedPolicy(Agent):
    """Writes tanh(μ + σ noise), scaled to the bounds of the actions; μ and σ depend on all that an episode has shown.

    A perceptron sees the output of a memory cell and, beside it, what the cell sees (Ni et al., 2022). Beside the
    action it writes ``<name>/state`` and ``<name>/next_state``, and ``<name>/previous_action`` where that is an input
    (see :class:`bbrl_exp.policies.memory.Memory`). In evaluation mode (``policy.eval()``) it writes tanh(μ), without
    noise and without actions at random; after ``policy.sample_actions()`` with noise that is independent at every step.

    Args:
        env_spec: facts of the environment.
        cell: makes the memory cell, of the number of its inputs; None for a GRU of 64 units.
        inputs: what the cell sees: any of ``observation``, ``action`` (the one before) and ``reward`` (of that action).
        head_sizes: units of the hidden layers between the cell and the action, which μ and log σ share.
        activation: of these layers: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        noise_correlation: of the noise between a step and the next one, below 1. Learners draw their own noise.
        random_steps: environment steps at the beginning, all environments together, with actions drawn uniformly.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the exploration, which have separate streams.
        name: the agent's name, and the first part of its states' names.
        network: your own, which makes the features that cell and perceptron see (docs/networks.md).

    Raises:
        ConfigurationError: the action is no bounded box of floats, or a value out of its range.
    """

    sampling = False
    head_in_words = "action's parameters"

    def __init__(
        self,
        env_spec: EnvSpec,
        cell: CellNode = None,
        inputs: Sequence[str] = OBSERVATION_ONLY,
        head_sizes: Sequence[int] = (128,),
        activation: str = "relu",
        noise_correlation: float = 0.0,
        random_steps: int = 0,
        observation_prefix: str = "",
        seed: int = 0,
        name: str = "policy",
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(head_sizes=head_sizes)
        generator = torch_generator(seed, "init", "recurrent squashed policy")
        self.bounds = ActionBounds(env_spec)
        self.memory = Memory(env_spec, name, cell, inputs, observation_prefix, generator, network)
        self.reads: tuple[str, ...] = self.memory.reads
        self.writes: tuple[str, ...] = (self.bounds.variable, *self.memory.writes)
        n_latent = self.memory.cell.n_hidden + self.memory.inputs.n_features
        sizes = [n_latent, *head_sizes, 2 * self.bounds.n_components]
        self.network = Mlp(sizes, activation, output_gain=0.01, generator=generator)
        self.exploration = Exploration(self.bounds.n_components, random_steps, noise_correlation, seed, name)
        self._on_arrays = self.memory.on_arrays(self.network)
        self._rows = RowsByBatchSize(
            {self.bounds.variable: (self.bounds.shape, self.bounds.dtype), **self.memory.row_facts}
        )
        self._acting = (self.bounds, self.memory, self.exploration)  # looking up a module takes as long as a draw

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the action at ``t``, ``[B, *shape]`` in the space's dtype, and the states before and after."""
        bounds, memory, exploration = self._acting
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            latent, written = memory.latent_step_on_arrays(self, t)
            drawn, noise = exploration.next(len(latent), bool(self.sampling))
            unit = squash_arrays(self._on_arrays(latent), noise) if drawn is None else drawn
            actions = bounds.from_unit_on_arrays(unit)
            self.write_rows(t, self._rows[self.prefix, len(latent)], [actions, *written])
            return
        outputs = self.network(memory.latent_step(self, t))
        drawn, noise = exploration.next(len(outputs), bool(self.sampling))
        if drawn is not None:
            action = torch.from_numpy(drawn).to(outputs.device)
        else:
            action = squash(outputs, None if noise is None else torch.from_numpy(noise).to(outputs.device))
        self.set((self.prefix + bounds.variable, t), bounds.from_unit(action))

    def latent(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor, burn_in: int = 0) -> Tensor:
        """What the perceptron sees of sequences, ``[T - burn_in, N, H + D]``; see :meth:`Memory.latent`."""
        return self.memory.latent(rows, state, starts, burn_in)

    def memory_head(self, outputs: Tensor, inputs: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """μ and log σ, ``[T, B, 2 D]``; see :mod:`bbrl_exp.policies.memories`."""
        return self.network(torch.cat((outputs, inputs), dim=2))  # type: ignore[no-any-return]

    def sample(self, latent: Tensor, noise: Tensor) -> SquashedSample:
        """Actions in [-1, 1] with their log-densities, reparametrised.

        Args:
            latent: N rows of :meth:`latent`, ``[N, H + D]``.
            noise: standard normal, ``[N, D]``.
        """
        return sample_squashed(self.network(latent), noise)
