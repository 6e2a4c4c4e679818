"""Images become features: whatever the order of their dimensions, each image by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.convolution import ImageFeatures, is_image


def images(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def network(shape: tuple[int, ...]) -> ImageFeatures:
    return ImageFeatures(shape, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((4, 84, 84), 4),
        ((84, 84, 4), 4),
        ((84, 84, 3), 3),
        ((84, 84), 1),
        ((1, 36, 40), 1),
        ((12, 84, 84), 12),
        ((210, 160, 3), 3),
        ((7, 7, 3), 3),
        ((3, 3, 3), 3),
        ((3, 5, 4), 3),
        ((5, 5), 1),
        ((3, 3), 1),
        ((2, 10, 10), 2),
        ((10, 10, 2), 2),
        ((84, 84, 12), 12),
        ((10, 10, 6), 6),
        ((4, 3, 3), 4),
        ((12, 10, 10), 12),
        ((4, 9, 9, 3), 12),
        ((4, 3, 9, 9), 12),
        ((2, 10, 8, 3), 6),
    ],
)
def test_every_kind_of_image_becomes_as_many_features_as_are_told(shape: tuple[int, ...], channels: int) -> None:
    features = network(shape)
    assert is_image(shape)
    first = features.layers[0]
    assert isinstance(first, nn.Conv2d)
    assert first.in_channels == channels
    out = features(images(2, *shape))
    assert (out.shape, out.dtype) == ((2, features.n_features), torch.float32)


def test_small_and_large_images_pass_the_layers_that_are_told() -> None:
    def kernels(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        layers = network(shape).layers
        return [(m.out_channels, *m.kernel_size, *m.stride) for m in layers if isinstance(m, nn.Conv2d)]

    assert kernels((4, 84, 84)) == [(32, 8, 8, 4, 4), (64, 4, 4, 2, 2), (64, 3, 3, 1, 1)]
    assert kernels((1, 36, 36)) == kernels((4, 84, 84))
    assert kernels((1, 35, 84)) == [(16, 3, 3, 1, 1), (32, 3, 3, 1, 1)]
    assert kernels((1, 3, 3)) == [(16, 3, 3, 1, 1)]
    assert network((4, 84, 84)).n_features == 64 * 7 * 7


def test_channels_first_and_last_are_the_same_images() -> None:
    frames = images(3, 3, 40, 44)
    first, last = network((3, 40, 44)), network((40, 44, 3))
    assert torch.equal(first(frames), last(frames.permute(0, 2, 3, 1)))


def test_the_channels_of_stacked_images_stand_side_by_side() -> None:
    frames = images(3, 2, 3, 10, 11)
    flat = network((6, 10, 11))(frames.flatten(1, 2))
    assert torch.equal(network((2, 3, 10, 11))(frames), flat)
    assert torch.equal(network((2, 10, 11, 3))(frames.permute(0, 1, 3, 4, 2)), flat)


def test_a_grey_image_is_one_channel() -> None:
    frames = images(3, 12, 14)
    assert torch.equal(network((12, 14))(frames), network((1, 12, 14))(frames.unsqueeze(1)))


def test_the_first_layer_sees_pixels_between_zero_and_one() -> None:
    features = network((1, 3, 3))
    convolution = features.layers[0]
    assert isinstance(convolution, nn.Conv2d)
    white = torch.full((1, 1, 3, 3), 255, dtype=torch.uint8)
    expected = convolution.weight.sum(dim=(1, 2, 3)).relu().unsqueeze(0)
    torch.testing.assert_close(features(white), expected)
    assert torch.equal(features(torch.zeros_like(white)), torch.zeros(1, 16))


def test_each_image_is_seen_by_itself() -> None:
    frames, features = images(4, 2, 9, 9), network((2, 9, 9))
    alone = torch.cat([features(frame.unsqueeze(0)) for frame in frames])
    torch.testing.assert_close(features(frames), alone)


def test_weights_are_orthogonal_and_biases_zero() -> None:
    for module in network((4, 84, 84)).layers:
        if isinstance(module, nn.Conv2d):
            rows = module.weight.flatten(1)
            torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(len(rows)), atol=1e-4, rtol=0)
            assert module.bias is not None
            assert not module.bias.any()


def test_the_same_generator_gives_the_same_weights() -> None:
    frames = images(1, 4, 36, 36)
    assert torch.equal(network((4, 36, 36))(frames), network((4, 36, 36))(frames))


def test_gradients_reach_the_first_layer() -> None:
    features = network((84, 84, 3))
    features(images(2, 84, 84, 3)).sum().backward()
    convolution = features.layers[0]
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.weight.grad is not None
    assert bool(convolution.weight.grad.any())


@pytest.mark.parametrize("shape", [(2, 2), (4, 2, 84), (84, 2, 3), (5,), (1, 2, 3, 8, 8)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"too small|two to four dimensions"):
        network(shape)
    assert not is_image(shape)
