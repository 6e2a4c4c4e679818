"""A population of deterministic policies, each of which plays in its own environment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AT_LEAST_1, check_sizes
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.memory import check_parameters
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures

CANDIDATE = "policy/candidate"
MEAN = -1


class PopulationPolicy(Agent):
    """Writes the actions of P candidates' networks, and in ``policy/candidate`` (int64 ``[B]``) whose they are.

    At the start of an episode an environment is given the next candidate that has not yet begun all its episodes, and
    keeps it to the end of the episode. When all episodes of the generation are handed out, environments play the mean
    of the candidates' distribution instead, candidate -1, until the next generation. In evaluation mode
    (``policy.eval()``) the mean plays everywhere.

    A network is a perceptron of tanh. Discrete components take the value with the largest output; components of a
    bounded box the bounds' middle plus tanh of the output times half their distance; those of an unbounded box the
    output.

    Args:
        env_spec: facts of the environment.
        population_size: number P of candidates of a generation.
        episodes_per_candidate: episodes that each of them plays.
        hidden_sizes: units of the hidden layers; none for linear policies.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        name: the agent's name.
        network: your own, before the hidden layers, whose parameters are a candidate's too (docs/networks.md).

    Attributes:
        mean: mean of the distribution of the candidates' parameters, ``[D]``.
        candidates: the parameters of this generation, ``[P, D]``.
        episodes_per_candidate: episodes that each candidate plays.

    Raises:
        ConfigurationError: a value out of its range, observed images without a network, or actions that are boxes of
            integers.
    """

    mean: Tensor
    candidates: Tensor

    def __init__(
        self,
        env_spec: EnvSpec,
        population_size: int = 32,
        episodes_per_candidate: int = 1,
        hidden_sizes: Sequence[int] = (),
        observation_prefix: str = "",
        name: str | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        AT_LEAST_1.check(population_size=population_size, episodes_per_candidate=episodes_per_candidate)
        check_sizes(hidden_sizes=hidden_sizes)
        self.features = ObservationFeatures(env_spec, observation_prefix, network=network)
        if network is None and next(self.features.parameters(), None) is not None:
            raise ConfigurationError(
                "observed images need convolutions, which a population of policies has only in your own `network` "
                "(docs/networks.md)"
            )
        self._leaves = [_Leaf(leaf) for leaf in env_spec.actions]
        self.reads: tuple[str, ...] = (*self.features.names, "env/initial_state")
        self.writes: tuple[str, ...] = (*(leaf.name for leaf in env_spec.actions), CANDIDATE)
        self._n_outputs = [leaf.n_outputs for leaf in self._leaves]
        sizes = [self.features.n_features, *hidden_sizes, sum(self._n_outputs)]
        self._layers = list(pairwise(sizes))
        own = {name: each for name, each in self.features.named_parameters() if each.requires_grad}
        self._own_shapes = {name: each.shape for name, each in own.items()}
        initial = [each.detach().flatten() for each in own.values()]
        self._n_own = sum(map(len, initial))
        n_parameters = self._n_own + sum((n_in + 1) * n_out for n_in, n_out in self._layers)
        check_parameters(population_size * n_parameters, f"population_size={population_size}")
        self.episodes_per_candidate = episodes_per_candidate
        self.register_buffer("mean", torch.cat((*initial, torch.zeros(n_parameters - self._n_own))))
        self.register_buffer("candidates", torch.zeros(population_size, n_parameters))
        self._n_begun = population_size * episodes_per_candidate
        self._playing: NDArray[np.int64] = np.empty(0, np.int64)

    def begin_generation(self, candidates: Tensor) -> None:
        """Takes new candidates ``[P, D]``; whoever is playing plays the mean to the end of the episode."""
        self.candidates.copy_(candidates)
        self._n_begun = 0
        self._playing.fill(MEAN)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype, and the candidates."""
        observations = [self.get((name, t)) for name in self.features.names]
        if self.training:
            playing = torch.from_numpy(self._players(t, len(observations[0]))).to(observations[0].device)
        else:
            playing = torch.full(observations[0].shape[:1], MEAN, device=observations[0].device)
        parameters = self.mean.expand(playing.shape[0], -1)
        if self.training and bool((playing != MEAN).any()):
            chosen = self.candidates.index_select(0, playing.clamp(min=0))
            parameters = torch.where((playing == MEAN).unsqueeze(1), parameters, chosen)
        features = self._features(observations, playing, parameters)
        outputs = torch.split(self._outputs(features, parameters[:, self._n_own :]), self._n_outputs, dim=1)
        for leaf, output in zip(self._leaves, outputs, strict=True):
            self.set((self.prefix + leaf.name, t), leaf.action(output))
        self.set((self.prefix + CANDIDATE, t), playing)

    def _players(self, t: int, batch_size: int) -> NDArray[np.int64]:
        if len(self._playing) != batch_size:
            self._playing = np.full(batch_size, MEAN)
        n_episodes = len(self.candidates) * self.episodes_per_candidate
        for environment in self.get(("env/initial_state", t)).nonzero().flatten().tolist():
            self._playing[environment] = MEAN
            if self._n_begun < n_episodes:
                self._playing[environment] = self._n_begun % len(self.candidates)
                self._n_begun += 1
        return self._playing.copy()

    def _features(self, observations: Sequence[Tensor], playing: Tensor, parameters: Tensor) -> Tensor:
        """What the players' own networks make of the observations, ``[B, F]``: a call for each player, on its rows."""
        if not self._n_own:
            return self.features(observations)  # type: ignore[no-any-return]
        sizes = [shape.numel() for shape in self._own_shapes.values()]
        features = parameters.new_empty(len(playing), self.features.n_features)
        for player in set(playing.tolist()):
            rows = (playing == player).nonzero().squeeze(1)
            parts = torch.split(parameters[rows[0], : self._n_own], sizes)
            own = {name: part.view(shape) for (name, shape), part in zip(self._own_shapes.items(), parts, strict=True)}
            features[rows] = functional_call(self.features, own, ([leaf[rows] for leaf in observations],))
        return features

    def _outputs(self, inputs: Tensor, parameters: Tensor) -> Tensor:
        """The networks' outputs ``[B, n_out]`` for inputs ``[B, n_in]``, each with its own parameters of ``[B, D]``."""
        hidden, start = inputs.unsqueeze(1), 0
        for index, (n_in, n_out) in enumerate(self._layers):
            if index > 0:
                hidden = hidden.tanh()
            weight = parameters[:, start : start + n_in * n_out].reshape(-1, n_in, n_out)
            start += n_in * n_out
            bias = parameters[:, start : start + n_out].unsqueeze(1)
            start += n_out
            hidden = torch.baddbmm(bias, hidden, weight)
        return hidden.squeeze(1)

    def get_extra_state(self) -> dict[str, Any]:
        """Who plays where, and how many episodes of the generation have begun."""
        return {"n_begun": self._n_begun, "playing": self._playing.tolist()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`get_extra_state` gave."""
        self._n_begun = state["n_begun"]
        self._playing = np.array(state["playing"], np.int64)


class _Leaf:
    """How outputs become values of one leaf of the action."""

    def __init__(self, leaf: LeafSpec) -> None:
        self.name = leaf.name
        self._shape = leaf.shape
        self._dtype = torch.from_numpy(np.empty(0, leaf.dtype)).dtype
        self._counts = None if leaf.counts is None else leaf.counts.ravel().tolist()
        self.n_outputs = leaf.size if self._counts is None else sum(self._counts)
        if self._counts is None and not self._dtype.is_floating_point:
            raise ConfigurationError(f"'{leaf.name}' is a box of {leaf.dtype}; this policy writes boxes of floats only")
        start = np.zeros(leaf.size) if leaf.start is None else leaf.start.ravel()
        self._start = torch.from_numpy(start.astype(np.int64))
        self._bounds: tuple[Tensor, Tensor] | None = None
        if leaf.low is not None and leaf.high is not None and leaf.is_bounded:
            low, high = (bound.astype(np.float32).ravel() / 2 for bound in (leaf.low, leaf.high))
            self._bounds = torch.from_numpy(high + low), torch.from_numpy(high - low)

    def action(self, outputs: Tensor) -> Tensor:
        """Actions ``[B, *shape]`` for outputs ``[B, n_outputs]``."""
        if self._counts is not None:
            indexes = torch.stack([part.argmax(dim=1) for part in torch.split(outputs, self._counts, dim=1)], dim=1)
            values = indexes + self._start.to(outputs.device)
        elif self._bounds is not None:
            middle, half = (bound.to(outputs.device) for bound in self._bounds)
            values = middle + half * outputs.tanh()
        else:
            values = outputs
        return values.reshape(-1, *self._shape).to(self._dtype)
