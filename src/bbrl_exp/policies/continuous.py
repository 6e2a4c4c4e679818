"""What policies of one bounded box of actions share: a perceptron over the observation, and exploration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import check_sizes
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.bounds import ActionBounds
from bbrl_exp.policies.exploration import Exploration
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures
from bbrl_exp.seeding import torch_generator


class ContinuousPolicy(Agent):
    """Writes an action that :meth:`unit_of` makes in [-1, 1], scaled to the bounds of the environment's actions.

    The first actions of a run may be drawn at random. In evaluation mode (``policy.eval()``) nothing is, but where a
    policy samples its actions.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        noise_correlation: of the noise between a step and the next one, below 1.
        random_steps: environment steps at the beginning, all environments together, with actions drawn uniformly.
        observation_prefix: of the variables to read instead of the environment's own.
        seed: root seed of the initial weights and of the exploration, which have separate streams.
        name: the agent's name.
        network: your own, which makes the features that the hidden layers see (docs/networks.md).

    Attributes:
        outputs_per_component: outputs P of the network for each of the D components of an action.
    """

    outputs_per_component: ClassVar[int] = 1

    def __init__(
        self,
        env_spec: EnvSpec,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        noise_correlation: float = 0.0,
        random_steps: int = 0,
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(hidden_sizes=hidden_sizes)
        generator = torch_generator(seed, "init", "policy")
        self.bounds = ActionBounds(env_spec)
        self.features = ObservationFeatures(env_spec, observation_prefix, generator, network)
        self.reads: tuple[str, ...] = self.features.names
        self.writes: tuple[str, ...] = (self.bounds.variable,)
        sizes = [self.features.n_features, *hidden_sizes, self.outputs_per_component * self.bounds.n_components]
        self.network = Mlp(sizes, activation, output_gain=0.01, generator=generator)
        self.exploration = Exploration(self.bounds.n_components, random_steps, noise_correlation, seed, name)
        self._on_arrays = self.features.on_arrays(self.network)
        self._acting = (self.bounds, self.exploration)  # looking up a module takes as long as a draw

    def unit_of(self, outputs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions ``[N, D]`` in [-1, 1] for outputs ``[N, P D]`` and standard normal noise ``[N, D]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define unit_of")

    def unit_of_arrays(self, outputs: NDArray[Any], noise: NDArray[Any] | None) -> NDArray[Any]:
        """The same as :meth:`unit_of` on arrays."""
        raise NotImplementedError(f"{type(self).__name__} does not define unit_of_arrays")

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the action at ``t``, ``[B, *shape]`` in the space's dtype."""
        bounds, exploration = self._acting
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            (observation,) = self.read_rows(t, self.reads)
            drawn, noise = exploration.next(len(observation), bool(self.sampling))
            unit = self.unit_of_arrays(self._on_arrays(observation), noise) if drawn is None else drawn
            self.write_rows(t, bounds.rows[self.prefix, len(unit)], [bounds.from_unit_on_arrays(unit)])
            return
        outputs = self.network(self.features([self.get((name, t)) for name in self.reads]))
        drawn, noise = exploration.next(len(outputs), bool(self.sampling))
        if drawn is not None:
            action = torch.from_numpy(drawn).to(outputs.device)
        else:
            action = self.unit_of(outputs, None if noise is None else torch.from_numpy(noise).to(outputs.device))
        self.set((self.prefix + bounds.variable, t), bounds.from_unit(action))
