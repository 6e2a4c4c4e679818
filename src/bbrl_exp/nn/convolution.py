"""From images to features: convolutions for frames of uint8, stacked or in colour."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bbrl_exp.errors import ConfigurationError

_NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
_SMALL = ((16, 3, 1), (32, 3, 1))
_SMALLEST_SIDE = 3
_NATURE_SIDE = 36


class ImageFeatures(nn.Module):
    """Convolutions with ReLU over an image divided by 255, flattened.

    Frames of at least 36 × 36 pixels pass the three layers of Mnih et al. (2015); smaller ones, as of grid worlds, two
    layers of 3 × 3. Weights are orthogonal with gain √2, biases zero.

    Args:
        shape: of one image: ``[C, H, W]``, ``[H, W, C]`` or ``[H, W]``; or of a stack of K images, ``[K, C, H, W]`` or
            ``[K, H, W, C]``, which has K C channels. Channels come last where the first two sides of three are equal,
            or the last is the smaller one; but never where the last two are equal.
        generator: source of the initial weights.

    Raises:
        ConfigurationError: a shape that is no image, or sides below 3 pixels.
    """

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> None:
        super().__init__()
        self._is_channels_last = len(shape) >= 3 and _is_channels_last(shape)
        channels, height, width = _channels_first(shape)
        if min(height, width) < _SMALLEST_SIDE:
            raise ConfigurationError(f"an image of {list(shape)} is too small for convolutions")
        self.layers, self.n_features = convolutions(channels, height, width, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Features float32 ``[N, n_features]`` of images ``[N, *shape]``, of any dtype with values in 0 … 255."""
        if images.dim() == 3:
            images = images.unsqueeze(1)
        elif self._is_channels_last:
            images = images.movedim(-1, -3)
        if images.dim() == 5:
            images = images.flatten(1, 2)
        return self.layers(images.float() / 255).flatten(1)  # type: ignore[no-any-return]


def convolutions(
    channels: int, height: int, width: int, generator: torch.Generator | None = None
) -> tuple[nn.Sequential, int]:
    """Convolutions with ReLU for pictures float32 ``[N, channels, height, width]``, and the size of their output.

    Args:
        channels: number of channels.
        height: in pixels or cells, at least 3.
        width: likewise.
        generator: source of the initial weights.
    """
    layers: list[nn.Module] = []
    for n_out, kernel, stride in _NATURE if min(height, width) >= _NATURE_SIDE else _SMALL:
        if min(height, width) < kernel:
            break
        convolution = nn.Conv2d(channels, n_out, kernel, stride)
        nn.init.orthogonal_(convolution.weight, math.sqrt(2), generator=generator)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.ReLU()]
        channels, height, width = n_out, (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return nn.Sequential(*layers), channels * height * width


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether values of that shape can be images, or stacks of them, that are large enough for convolutions."""
    if len(shape) not in (2, 3, 4):
        return False
    _, height, width = _channels_first(shape)
    return min(height, width) >= _SMALLEST_SIDE


def _channels_first(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width."""
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    if len(shape) == 4:
        channels, height, width = _channels_first(shape[1:])
        return shape[0] * channels, height, width
    if len(shape) != 3:
        raise ConfigurationError(f"an image has two to four dimensions, found {list(shape)}")
    return (shape[2], shape[0], shape[1]) if _is_channels_last(shape) else (shape[0], shape[1], shape[2])


def _is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a square image ends with its channels, or one that is not square ends with the smaller number."""
    first, middle, last = shape[-3:]
    return middle != last and (first == middle or last < first)
