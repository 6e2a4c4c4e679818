"""What a policy or a critic sees: the variables of the observation, and one vector of features made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from bbrl_exp.arguments import BuiltLater
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.convolution import ImageFeatures, is_image
from bbrl_exp.nn.features import Flat, OneHot, Scaled
from bbrl_exp.nn.grid import SMALLEST_SIDE, GridFeatures, GridPlanes
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
from bbrl_exp.nn.network import InputShape, MakeNetwork, as_input, build_network
from bbrl_exp.workspace import Workspace

# The argument ``network`` of policies and critics.
NetworkNode = Annotated[MakeNetwork, BuiltLater("network", ("input_shape",))] | None


class ObservationFeatures(nn.Module):
    """From the leaves of an observation to one vector: numbers as they are, discrete ones one-hot, images convolved.

    A multi-discrete leaf ``[H, W, K]`` whose cells are all alike is a grid: its one-hot planes are convolved.

    The user's own network replaces all that. It sees every leaf as float32 in its shape: discrete components one-hot
    (those of a grid as planes ``[H, W, P]``), uint8 divided by 255, everything else unchanged. It is in training mode
    while gradients are recorded, and in evaluation mode while actions are chosen or targets computed.

    Args:
        env_spec: facts of the environment.
        prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        generator: source of the initial weights of convolutions or of the network.
        network: makes the network, of the shape of an observation; see :mod:`bbrl_exp.nn.network`.

    Attributes:
        names: the variables, in the order of the space's leaves.
        row_shapes: the shape of one environment's row of each: the environment's own, whatever the prefix.
        network: the user's own, or None.
        n_features: number F of features.
        is_one_vector: whether the features are the observation itself: one float32 vector.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        prefix: str = "",
        generator: torch.Generator | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__()
        leaves = env_spec.observations
        self.names = tuple(prefix + leaf.name for leaf in leaves)
        self.row_shapes = {prefix + leaf.name: leaf.shape for leaf in leaves}
        self.is_one_vector = False
        self.network: nn.Module | None = None
        if network is not None:
            inputs = [_input(leaf) for leaf in leaves]
            self.parts = nn.ModuleList(inputs)
            self._input_shape = _input_shape(leaves, [part.shape for part in inputs])
            self.network, self.n_features = build_network(network, self._input_shape, generator)
            return
        parts = [_features(leaf, generator) for leaf in leaves]
        self.parts = nn.ModuleList(parts)
        self.n_features = sum(part.n_features for part in parts)
        self.is_one_vector = len(leaves) == 1 and len(leaves[0].shape) == 1 and leaves[0].dtype == "float32"

    def forward(self, observations: Sequence[Tensor]) -> Tensor:
        """Features float32 ``[N, F]`` of one tensor ``[N, *shape]`` per leaf."""
        if self.is_one_vector:
            return observations[0]
        features = [part(leaf) for part, leaf in zip(self.parts, observations, strict=True)]
        if self.network is not None:
            learns = self.training and torch.is_grad_enabled()
            if self.network.training is not learns:
                self.network.train(learns)
            return self.network(as_input(features, self._input_shape))  # type: ignore[no-any-return]
        return features[0] if len(features) == 1 else torch.cat(features, dim=1)

    def on_arrays(self, mlp: Mlp) -> ArrayMlp | None:
        """``mlp`` on arrays, where the features are the observation itself and numpy has the activation."""
        return ArrayMlp(mlp) if self.is_one_vector and ArrayMlp.supports(mlp) else None

    def read(self, workspace: Workspace) -> tuple[Tensor, ...]:
        """All rows of the variables, ``[T, B, *shape]`` each."""
        return tuple(workspace.get_full(name) for name in self.names)


def check_same_observations(policy: ObservationFeatures, critic: ObservationFeatures) -> None:
    """Refuses a critic that sees other variables than the policy: learners show both the same rows.

    Raises:
        ConfigurationError: the variables differ.
    """
    if critic.names != policy.names:
        raise ConfigurationError(
            f"critic: reads {', '.join(critic.names)}, and the policy {', '.join(policy.names)}; "
            "give both one observation_prefix"
        )


def own_networks(module: nn.Module) -> list[nn.Module]:
    """The user's networks inside ``module``, of which a slow copy follows the buffers as well as the parameters."""
    parts = [part.network for part in module.modules() if isinstance(part, ObservationFeatures)]
    return [network for network in parts if network is not None]


def one_hot_of(leaf: LeafSpec) -> OneHot | None:
    if leaf.kind not in ("discrete", "multi_discrete"):
        return None
    counts = cast("np.ndarray[Any, Any]", leaf.counts).ravel().tolist()
    return OneHot(counts, [0] * len(counts) if leaf.start is None else leaf.start.ravel().tolist())


def _grid(leaf: LeafSpec) -> GridPlanes | None:
    """The planes of a grid ``[H, W, K]`` of categories, the same ones in every cell; None for other leaves."""
    if leaf.kind != "multi_discrete" or len(leaf.shape) != 3 or min(leaf.shape[:2]) < SMALLEST_SIDE:
        return None
    height, width, _ = leaf.shape
    counts = cast("np.ndarray[Any, Any]", leaf.counts)
    start = np.zeros(leaf.shape, np.int64) if leaf.start is None else leaf.start
    if (counts != counts[0, 0]).any() or (start != start[0, 0]).any():
        return None
    return GridPlanes(height, width, counts[0, 0].tolist(), start[0, 0].tolist())


def _input(leaf: LeafSpec) -> GridPlanes | OneHot | Scaled:
    return _grid(leaf) or one_hot_of(leaf) or Scaled(leaf.shape, 255 if leaf.dtype == "uint8" else 1)


def _input_shape(leaves: Sequence[LeafSpec], shapes: Sequence[tuple[int, ...]]) -> InputShape:
    """The shape of the one leaf of a plain space, or the shapes by the keys of a Dict or the indexes of a Tuple."""
    names = [leaf.name.removeprefix("env/env_obs/") for leaf in leaves]
    is_plain = len(leaves) == 1 and names[0] == leaves[0].name
    return shapes[0] if is_plain else dict(zip(names, shapes, strict=True))


def _features(leaf: LeafSpec, generator: torch.Generator | None) -> GridFeatures | OneHot | Flat | ImageFeatures:
    if (planes := _grid(leaf)) is not None:
        return GridFeatures(planes, generator)
    if (one_hot := one_hot_of(leaf)) is not None:
        return one_hot
    if leaf.dtype == "uint8" and leaf.kind == "box" and is_image(leaf.shape):
        return ImageFeatures(leaf.shape, generator)
    return Flat(leaf.size, scale=1 / 255 if leaf.dtype == "uint8" else 1.0)
