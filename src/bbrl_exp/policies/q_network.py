"""Networks of action values: one number per action, or a distribution of returns per action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.arguments import FINITE, Range
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures

DistributionKind = Literal["none", "categorical", "quantile"]
_N_ATOMS: dict[DistributionKind, int] = {"none": 1, "categorical": 51, "quantile": 50}
_AT_LEAST_2 = Range("at least 2", lambda value: value >= 2, is_whole=True)


@dataclass(frozen=True)
class ReturnAtoms:
    """How M numbers represent the return of an action.

    Attributes:
        kind: ``none``: its mean (M = 1); ``categorical``: logits of M equally spaced returns from ``low`` to ``high``
            (Bellemare et al., 2017); ``quantile``: its quantiles of the levels (2 i + 1) / (2 M) (Dabney et al., 2018).
        n_atoms: M.
        low: smallest return of ``categorical``.
        high: largest return of ``categorical``.
    """

    kind: DistributionKind
    n_atoms: int
    low: float
    high: float

    @classmethod
    def of_options(
        cls, kind: DistributionKind, n_atoms: int | None, low: float | None, high: float | None
    ) -> ReturnAtoms:
        """What the options of a policy ask for; None means what the kind implies.

        Raises:
            ConfigurationError: an unknown kind, or an option that the kind does not have, lacks, or cannot use.
        """
        if kind not in _N_ATOMS:
            raise ConfigurationError(f"distribution='{kind}': one of {', '.join(_N_ATOMS)}")
        if kind == "none" and n_atoms is not None:
            raise ConfigurationError(f"n_atoms={n_atoms}: has no effect with distribution='none'")
        _AT_LEAST_2.check(n_atoms=n_atoms)
        if kind != "categorical":
            if low is not None or high is not None:
                raise ConfigurationError(f"{_written(low, high)}: have no effect with distribution='{kind}'")
            return cls(kind, n_atoms or _N_ATOMS[kind], 0.0, 0.0)
        FINITE.check(lowest_return=low, highest_return=high)
        if low is None or high is None or not low < high:
            raise ConfigurationError(f"{_written(low, high)}: distribution='categorical' needs both, in that order")
        return cls(kind, n_atoms or _N_ATOMS[kind], low, high)

    def support(self, device: torch.device) -> Tensor:
        """The returns of ``categorical``, ``[M]``."""
        return torch.linspace(self.low, self.high, self.n_atoms, device=device)

    def means(self, outputs: Tensor) -> Tensor:
        """Expected returns ``[…]`` of outputs ``[…, M]``."""
        if self.kind == "none":
            return outputs.squeeze(-1)
        if self.kind == "quantile":
            return outputs.mean(-1)
        return outputs.softmax(-1) @ self.support(outputs.device)

    def means_on_arrays(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The same as :meth:`means` on arrays."""
        means: NDArray[Any]
        if self.kind == "none":
            means = outputs[..., 0]
        elif self.kind == "quantile":
            means = outputs.mean(axis=-1)
        else:
            weights = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
            means = weights @ np.linspace(self.low, self.high, self.n_atoms, dtype=np.float32) / weights.sum(axis=-1)
        return means


class QNetwork(nn.Module):
    """From observations to what every action is worth: features, a multi-layer perceptron, M outputs per action.

    Args:
        env_spec: facts of the environment, with one discrete action.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        layer_norm: whether every hidden layer is normalised before its activation.
        dueling: whether the last layer gives a value of the state and advantages of the actions, from which
            Q = V + A - mean A (Wang et al., 2016, eq. 9).
        atoms: how the return of an action is represented.
        observation_prefix: of the variables to read instead of the environment's own.
        generator: source of the initial weights.
        network: your own, which makes the features that the hidden layers see (docs/networks.md).

    Raises:
        ConfigurationError: another action than one discrete one.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        hidden_sizes: Sequence[int],
        activation: str,
        *,
        layer_norm: bool,
        dueling: bool,
        atoms: ReturnAtoms,
        observation_prefix: str,
        generator: torch.Generator,
        network: NetworkNode,
    ) -> None:
        super().__init__()
        self.n_actions, _ = discrete_action(env_spec)
        self.atoms = atoms
        self.dueling = dueling
        self.features = ObservationFeatures(env_spec, observation_prefix, generator, network)
        n_outputs = (self.n_actions + dueling) * atoms.n_atoms
        sizes = [self.features.n_features, *hidden_sizes, n_outputs]
        self.mlp = Mlp(sizes, activation, layer_norm=layer_norm, generator=generator)

    def forward(self, observations: Sequence[Tensor]) -> Tensor:
        """Outputs ``[N, A, M]`` for N observations, one tensor ``[N, *shape]`` per leaf."""
        return combined(self._last_layer(observations), self.dueling, self.atoms.n_atoms)

    def values(self, observations: Sequence[Tensor]) -> Tensor:
        """Expected returns of the actions, ``[N, A]``."""
        outputs = self._last_layer(observations)
        if self.atoms.n_atoms == 1 and not self.dueling:
            return outputs
        return self.atoms.means(combined(outputs, self.dueling, self.atoms.n_atoms))

    def values_on_arrays(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The same as :meth:`values` on arrays, from the outputs of the perceptron, ``[N, …]``."""
        return self.atoms.means_on_arrays(combined_arrays(outputs, self.dueling, self.atoms.n_atoms))

    def _last_layer(self, observations: Sequence[Tensor]) -> Tensor:
        features = observations[0] if self.features.is_one_vector else self.features(observations)
        return self.mlp.output(self.mlp.hidden(features))


def discrete_action(env_spec: EnvSpec) -> tuple[int, int]:
    """Number A of actions, and the first one.

    Raises:
        ConfigurationError: another action than one discrete one.
    """
    leaf = env_spec.actions[0]
    if len(env_spec.actions) != 1 or leaf.kind != "discrete" or leaf.counts is None:
        found = ", ".join(f"'{leaf.name}' ({leaf.kind})" for leaf in env_spec.actions)
        raise ConfigurationError(f"action values need one discrete action; {env_spec.env_id} has {found}")
    return int(leaf.counts), 0 if leaf.start is None else int(leaf.start)


def combined(outputs: Tensor, dueling: bool, n_atoms: int) -> Tensor:
    """Outputs of the actions, ``[N, A, M]``, from those of the last layer, ``[N, A · M]`` or ``[N, (1 + A) · M]``."""
    parts = outputs.reshape(*outputs.shape[:-1], -1, n_atoms)
    if not dueling:
        return parts
    advantages = parts[..., 1:, :]
    return parts[..., :1, :] + advantages - advantages.mean(-2, keepdim=True)


def combined_arrays(outputs: NDArray[Any], dueling: bool, n_atoms: int) -> NDArray[Any]:
    """The same as :func:`combined` on arrays."""
    parts = outputs.reshape(len(outputs), -1, n_atoms)
    if not dueling:
        return parts
    advantages = parts[:, 1:]
    values: NDArray[Any] = parts[:, :1] + advantages - advantages.mean(axis=1, keepdims=True)
    return values


def _written(low: float | None, high: float | None) -> str:
    """The two bounds of the returns as a configuration has them."""
    return f"lowest_return={'null' if low is None else low}, highest_return={'null' if high is None else high}"
