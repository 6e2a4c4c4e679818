"""A network of the user's own is built with the shape of its input, and tried before anything is learned."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.network import build_network


class Net(nn.Module):
    """A linear layer; its variants below each do one thing wrong."""

    def __init__(self, input_shape: tuple[int, ...], n_features: object = 2) -> None:
        super().__init__()
        self.n_features = n_features
        self.layer = nn.Linear(input_shape[0], 2)

    def forward(self, observation: Tensor) -> Tensor:
        return self.layer(observation)


class Squeezes(Net):
    def forward(self, observation: Tensor) -> Tensor:
        return super().forward(observation).squeeze()


class TwoOutputs(Net):
    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return observation, observation


class Doubles(Net):
    def forward(self, observation: Tensor) -> Tensor:
        return super().forward(observation).double()


class DividesByZero(Net):
    def forward(self, observation: Tensor) -> Tensor:
        return super().forward(observation) / 0


class ReadsTooMuch(Net):
    def forward(self, observation: Tensor) -> Tensor:
        return self.layer(observation[:, 1:])


class OfDoubles(Net):
    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__(input_shape)
        self.extra = nn.Parameter(torch.zeros(1, dtype=torch.float64))


class Diverged(Net):
    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__(input_shape)
        self.extra = nn.Parameter(torch.tensor(torch.nan))


class MixesRows(nn.Module):
    """Attention whose first dimension is not the batch, as torch has it by default."""

    n_features = 4

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.token = nn.Linear(1, 4)
        self.layer = nn.TransformerEncoderLayer(4, 1, 4)

    def forward(self, observation: Tensor) -> Tensor:
        return self.layer(self.token(observation.unsqueeze(2))).mean(dim=1)


class Locked(Net):
    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__(input_shape)
        self.lock = threading.Lock()


class Grows(Net):
    def forward(self, observation: Tensor) -> Tensor:
        self.register_parameter(f"extra_{len(self._parameters)}", nn.Parameter(torch.zeros(1)))
        return super().forward(observation)


class NoSize(nn.Module):
    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()


class Noisy(Net):
    """The same noise for the same generator, in evaluation mode too."""

    def forward(self, observation: Tensor) -> Tensor:
        output = super().forward(observation)
        return output + torch.randn_like(output)


class Lazy(nn.Module):
    n_features = 3

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(3)

    def forward(self, observation: Tensor) -> Tensor:
        return self.layer(observation)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (NoSize, "NoSize has no n_features; must be the size F of its output [N, F]"),
        (
            lambda input_shape: Net(input_shape, "2"),
            "Net has n_features='2'; must be the size F of its output [N, F]",
        ),
        (lambda input_shape: Net(input_shape, 0), "Net has n_features=0; must be the size F of its output [N, F]"),
        (
            lambda input_shape: Net(input_shape, 3),
            "Net gives float32 [3, 2] for observations [3, 4]; must be float32 [3, 3] (n_features=3)",
        ),
        (Squeezes, "Squeezes gives float32 [2] for observations [1, 4]; must be float32 [1, 2] (n_features=2)"),
        (TwoOutputs, "TwoOutputs gives a tuple for observations [3, 4]; must be float32 [3, 2] (n_features=2)"),
        (Doubles, "Doubles gives float64 [3, 2] for observations [3, 4]; must be float32 [3, 2] (n_features=2)"),
        (DividesByZero, "DividesByZero gives NaN or infinity for numbers between 0 and 1"),
        (
            ReadsTooMuch,
            "ReadsTooMuch fails on observations [3, 4]: RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x3 "
            "and 4x2)",
        ),
        (OfDoubles, "OfDoubles.extra is torch.float64; must be torch.float32"),
        (Diverged, "Diverged.extra has NaN or infinity"),
        (
            MixesRows,
            "MixesRows makes other features of an observation in another batch; rows must not depend on each other "
            "(attention and recurrent layers of torch need batch_first=True)",
        ),
        (Grows, "forward of Grows adds parameters or buffers at every call"),
        (Locked, "Locked cannot be copied: TypeError: cannot pickle '_thread.lock' object"),
        (lambda input_shape: torch.zeros(1), "must be a torch.nn.Module, found a Tensor"),
        (Net((4,)), "must be a class or a function of input_shape, not a built Net"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(make: Callable[..., nn.Module], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        build_network(make, (4,))
    assert str(refused.value) == f"network: {complaint}"


def test_a_mapping_of_shapes_is_a_mapping_of_tensors() -> None:
    class Joined(nn.Module):
        def __init__(self, input_shape: dict[str, tuple[int, ...]]) -> None:
            super().__init__()
            self.n_features = input_shape["a"][0] + input_shape["b"][0]

        def forward(self, observation: dict[str, Tensor]) -> Tensor:
            return torch.cat((observation["a"], observation["b"]), dim=1)

    network, n_features = build_network(Joined, {"a": (2,), "b": (3,)})
    assert n_features == 5
    assert network({"a": torch.ones(1, 2), "b": torch.zeros(1, 3)}).tolist() == [[1, 1, 0, 0, 0]]
    with pytest.raises(ConfigurationError) as refused:
        build_network(Joined, {"a": (2,), "b": (3, 1)})
    assert str(refused.value).startswith(
        "network: Joined fails on observations {a: [3, 2], b: [3, 3, 1]}: RuntimeError"
    )


@pytest.mark.parametrize("make", [Net, Noisy, Lazy])
def test_initial_weights_depend_on_the_generator_alone(make: type[nn.Module]) -> None:
    def weight(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return build_network(make, (4,), generator)[0].layer.weight.detach()  # type: ignore[no-any-return, union-attr]

    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = weight(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    assert torch.equal(weight(1), first)
    assert not torch.equal(weight(2), first)


def test_a_network_is_in_training_mode_and_its_averages_are_untouched() -> None:
    class Normed(Net):
        def __init__(self, input_shape: tuple[int, ...]) -> None:
            super().__init__(input_shape)
            self.norm = nn.BatchNorm1d(2)

        def forward(self, observation: Tensor) -> Tensor:
            return self.norm(self.layer(observation))

    network, _ = build_network(Normed, (4,))
    assert network.training
    assert isinstance(network, Normed)
    assert int(network.norm.num_batches_tracked) == 0
