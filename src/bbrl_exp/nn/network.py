"""Networks of the user's own: what one is given, what it must give, and how it is tried before anything is learned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import ConfigurationError, described
from bbrl_exp.seeding import seed_global_generators, untouched_global_generators

# The shape of one observation; of a Dict or Tuple space, the shapes of its leaves by name.
InputShape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
MakeNetwork = Callable[..., nn.Module]
Leaf = TypeVar("Leaf")

_N_ROWS = 3


def as_input(leaves: Sequence[Leaf], input_shape: InputShape) -> Leaf | dict[str, Leaf]:
    """What a network is called with: the one leaf of an observation, or its leaves by name."""
    return dict(zip(input_shape, leaves, strict=True)) if isinstance(input_shape, Mapping) else leaves[0]


def build_network(
    make: MakeNetwork, input_shape: InputShape, generator: torch.Generator | None = None
) -> tuple[nn.Module, int]:
    """Builds a network, which makes features float32 ``[N, n_features]`` of N observations.

    It is run on a few numbers between 0 and 1, in evaluation mode.

    Args:
        make: its class, or a function; called with ``input_shape=``.
        input_shape: its input is float32 ``[N, *shape]``, or a mapping of names to such tensors.
        generator: seeds the global generators, which initial weights are drawn from; None leaves these as they are.

    Returns:
        The network and its ``n_features``.

    Raises:
        ConfigurationError: what was built is no such network; the message begins with ``network``.
    """
    if isinstance(make, nn.Module):
        raise ConfigurationError(f"network: must be a class or a function of input_shape, not a built {_name(make)}")
    with untouched_global_generators():
        if generator is not None:
            seed_global_generators(int(torch.randint(2**62, (), generator=generator)))
        try:
            network = make(input_shape=input_shape)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error} (input_shape={input_shape})") from error
        if not isinstance(network, nn.Module):
            raise ConfigurationError(f"network: must be a torch.nn.Module, found a {_name(network)}")
        n_features = getattr(network, "n_features", None)
        if n_features is None or not is_integer(n_features) or n_features < 1:
            found = "has no n_features" if n_features is None else f"has n_features={n_features!r}"
            raise ConfigurationError(f"network: {_name(network)} {found}; must be the size F of its output [N, F]")
        _try_out(network, int(n_features), input_shape)
        check_parameters(network, "network")
    return network, int(n_features)


def _try_out(network: nn.Module, n_features: int, input_shape: InputShape) -> None:
    """Refuses a network that fails, whose output is not what it has to be, or that mixes the rows of a batch."""
    generator = torch.Generator().manual_seed(0)
    shapes = input_shape.values() if isinstance(input_shape, Mapping) else [input_shape]
    rows = [torch.rand(_N_ROWS, *shape, generator=generator) for shape in shapes]
    in_another_batch = [torch.cat((leaf[:1], torch.rand(leaf[1:].shape, generator=generator))) for leaf in rows]
    network.eval()
    for leaves in (rows, [leaf[:1] for leaf in rows]):  # first of all lazy layers, which draw their weights now
        _features(network, leaves, input_shape, n_features)
    before = list(network.state_dict())
    compared = []
    for leaves in (rows, in_another_batch):
        torch.manual_seed(0)  # noise, where there is any, is the same in both
        compared.append(_features(network, leaves, input_shape, n_features)[0])
    network.train()
    if list(network.state_dict()) != before:
        raise ConfigurationError(f"network: forward of {_name(network)} adds parameters or buffers at every call")
    if not torch.allclose(compared[0], compared[1], rtol=1e-3, atol=1e-4):
        raise ConfigurationError(
            f"network: {_name(network)} makes other features of an observation in another batch; rows must not depend "
            "on each other (attention and recurrent layers of torch need batch_first=True)"
        )


@torch.no_grad()
def _features(network: nn.Module, leaves: Sequence[Tensor], input_shape: InputShape, n_features: int) -> Tensor:
    shapes = str(as_input([list(leaf.shape) for leaf in leaves], input_shape)).replace("'", "")
    try:
        output = network(as_input(leaves, input_shape))
    except Exception as error:
        raise ConfigurationError(
            f"network: {_name(network)} fails on observations {shapes}: {described(error)}"
        ) from error
    wanted = f"float32 [{len(leaves[0])}, {n_features}] (n_features={n_features})"
    if not isinstance(output, Tensor):
        raise ConfigurationError(
            f"network: {_name(network)} gives a {_name(output)} for observations {shapes}; must be {wanted}"
        )
    if output.shape != (len(leaves[0]), n_features) or output.dtype != torch.float32:
        found = f"{str(output.dtype).removeprefix('torch.')} {list(output.shape)}"
        raise ConfigurationError(f"network: {_name(network)} gives {found} for observations {shapes}; must be {wanted}")
    if not output.isfinite().all():
        raise ConfigurationError(f"network: {_name(network)} gives NaN or infinity for numbers between 0 and 1")
    return output


def check_parameters(module: nn.Module, what: str) -> None:
    """Refuses parameters that no optimizer here takes, and a module of which no target can be made.

    Args:
        module: of the user's own.
        what: which argument it is, with which the message begins.

    Raises:
        ConfigurationError: there are such parameters, or it cannot be copied.
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ConfigurationError(f"{what}: {_name(module)}.{name} is {parameter.dtype}; must be torch.float32")
        if not parameter.isfinite().all():
            raise ConfigurationError(f"{what}: {_name(module)}.{name} has NaN or infinity")
    try:
        copy.deepcopy(module)
    except Exception as error:
        raise ConfigurationError(f"{what}: {_name(module)} cannot be copied: {described(error)}") from error


def _name(value: object) -> str:
    return type(value).__name__
