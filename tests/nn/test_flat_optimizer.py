"""Optimizing one block of memory is optimizing every parameter."""

from __future__ import annotations

import copy
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from bbrl_exp.nn import flat_optimizer
from bbrl_exp.nn.flat_optimizer import FlatOptimizer, MakeOptimizer, eager
from bbrl_exp.nn.mlp import Mlp

MAKERS: list[MakeOptimizer] = [
    lambda parameters: torch.optim.Adam(parameters, 0.01, eps=1e-5, fused=True),
    lambda parameters: torch.optim.RMSprop(parameters, 0.01),
]


def two_networks() -> tuple[Mlp, Mlp]:
    return tuple(Mlp([3, 5, 2], generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


def loss_of(networks: tuple[Mlp, Mlp], inputs: Tensor) -> Tensor:
    return 50 * networks[0](inputs).square().mean() + networks[1](inputs).sum(dim=1).abs().mean()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("max_grad_norm", [None, 0.5, 1e9])
def test_steps_are_those_of_the_optimizer_on_separate_parameters(
    make: MakeOptimizer, max_grad_norm: float | None
) -> None:
    flat, plain = two_networks(), two_networks()
    optimizer = FlatOptimizer([*flat[0].parameters(), *flat[1].parameters()], make, max_grad_norm)
    parameters = [*plain[0].parameters(), *plain[1].parameters()]
    reference = make(parameters)
    for step in range(5):
        inputs = torch.randn(7, 3, generator=torch.Generator().manual_seed(step))
        norm = optimizer.step(loss_of(flat, inputs))
        reference.zero_grad()
        loss_of(plain, inputs).backward()
        expected_norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm or float("inf"))
        reference.step()
        torch.testing.assert_close(norm, expected_norm)
    for ours, theirs in zip([*flat[0].parameters(), *flat[1].parameters()], parameters, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "make",
    [
        *MAKERS,
        lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.AdamW(parameters, 0.01, amsgrad=True),
        lambda parameters: torch.optim.Adafactor(parameters, 0.01),
    ],
)
def test_an_eager_optimizer_takes_the_same_steps_without_the_compiler(
    monkeypatch: pytest.MonkeyPatch, make: MakeOptimizer
) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    ours, theirs = two_networks()[0], two_networks()[0]
    optimizer = eager(lambda: make(list(ours.parameters())))
    hooked: list[torch.optim.Optimizer] = []
    optimizer.register_step_post_hook(lambda stepped, *_: hooked.append(stepped))
    optimizer.load_state_dict(optimizer.state_dict())
    for step in range(3):
        inputs = torch.randn(7, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        ours(inputs).square().mean().backward()
        optimizer.step()
    assert "torch._dynamo" not in sys.modules
    assert hooked == [optimizer] * 3
    monkeypatch.undo()
    reference = make(list(theirs.parameters()))
    for step in range(3):
        inputs = torch.randn(7, 3, generator=torch.Generator().manual_seed(step))
        reference.zero_grad()
        theirs(inputs).square().mean().backward()
        reference.step()
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert not any(parameter.grad is None for parameter in ours.parameters())


@pytest.mark.parametrize("loss", [torch.ones(2), torch.ones(2, 1), torch.ones((), dtype=torch.complex64)])
def test_a_loss_that_is_no_real_scalar_is_refused_and_changes_nothing(loss: Tensor) -> None:
    network = Mlp([3, 2], generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(network.state_dict())
    optimizer = FlatOptimizer(network.parameters(), MAKERS[0])
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for"):
        optimizer.step(loss * network.layers[0].bias.sum())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def other_engine(tensors: Any) -> None:
    raise AssertionError("called with other arguments than it takes")


@pytest.mark.parametrize(
    "variable",
    [SimpleNamespace(), SimpleNamespace(_execution_engine=SimpleNamespace(run_backward=other_engine))],
    ids=["missing", "changed"],
)
def test_steps_are_the_same_where_the_engine_of_the_backward_pass_is_another(
    monkeypatch: pytest.MonkeyPatch, variable: Any
) -> None:
    networks, inputs = (two_networks()[0], two_networks()[0]), torch.ones(2, 3)
    flat_optimizer._engine.cache_clear()
    FlatOptimizer(networks[0].parameters(), MAKERS[0]).step(networks[0](inputs).sum())
    assert flat_optimizer._engine() is not None
    other = FlatOptimizer(networks[1].parameters(), MAKERS[0])
    loss = networks[1](inputs).sum()
    flat_optimizer._engine.cache_clear()
    with monkeypatch.context() as context:
        context.setattr(torch.autograd, "Variable", variable)
        assert flat_optimizer._engine() is None
    other.step(loss)
    flat_optimizer._engine.cache_clear()
    assert all(map(torch.equal, networks[0].parameters(), networks[1].parameters()))


@pytest.mark.parametrize("is_global", [False, True])
@pytest.mark.parametrize("when", ["pre", "post"])
def test_the_hooks_of_a_fused_adam_are_called_in_every_step(when: str, is_global: bool) -> None:
    parameter, stepped = nn.Parameter(torch.ones(2)), []
    optimizer = torch.optim.Adam([parameter], 0.01, fused=True)
    parameter.grad = torch.ones(2)
    register = {
        ("pre", False): optimizer.register_step_pre_hook,
        ("post", False): optimizer.register_step_post_hook,
        ("pre", True): register_optimizer_step_pre_hook,
        ("post", True): register_optimizer_step_post_hook,
    }[when, is_global]
    flat_optimizer.step(optimizer)
    handle = register(lambda optimizer, *_: stepped.append(optimizer))
    try:
        for _ in range(3):
            flat_optimizer.step(optimizer)
    finally:
        handle.remove()
    flat_optimizer.step(optimizer)
    assert stepped == [optimizer] * 3
    assert optimizer.state[parameter]["step"] == 5


def test_an_optimizer_of_another_class_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(torch.optim.SGD):
        n_steps = 0

        def step(self, closure: Any = None) -> Any:
            self.n_steps += 1

    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    optimizer = eager(lambda: Own([nn.Parameter(torch.zeros(1))], 0.1))
    optimizer.step()
    assert isinstance(optimizer, Own)
    assert optimizer.n_steps == 1


def test_a_parameter_that_two_modules_share_counts_once() -> None:
    network = Mlp([3, 2], generator=torch.Generator().manual_seed(0))
    before = network.layers[0].bias.clone()
    optimizer = FlatOptimizer(
        [*network.parameters(), *network.parameters()], lambda parameters: torch.optim.SGD(parameters, 0.5)
    )
    optimizer.step(network.layers[0].bias.sum())
    torch.testing.assert_close(network.layers[0].bias, before - 0.5)


def test_a_parameter_without_a_part_in_the_loss_stays() -> None:
    networks = two_networks()
    optimizer = FlatOptimizer([*networks[0].parameters(), *networks[1].parameters()], MAKERS[0])
    before = copy.deepcopy(networks[1].state_dict())
    optimizer.step(networks[0](torch.ones(1, 3)).sum())
    assert all(torch.equal(value, before[name]) for name, value in networks[1].state_dict().items())


def test_loaded_parameters_are_those_that_are_optimized() -> None:
    network, other = two_networks()
    optimizer = FlatOptimizer(network.parameters(), lambda parameters: torch.optim.SGD(parameters, 1.0))
    network.load_state_dict(other.state_dict())
    optimizer.step(network.layers[1].bias.sum())
    torch.testing.assert_close(network.layers[1].bias, other.layers[1].bias - 1.0)
    torch.testing.assert_close(network.layers[0].weight, other.layers[0].weight)


def test_parameters_that_were_moved_are_laid_out_anew() -> None:
    network = Mlp([3, 2], generator=torch.Generator().manual_seed(0))
    optimizer = FlatOptimizer(network.parameters(), lambda parameters: torch.optim.SGD(parameters, 1.0))
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()  # what a move to another device does
    before = network.layers[0].bias.clone()
    optimizer.step(network.layers[0].bias.sum())
    torch.testing.assert_close(network.layers[0].bias, before - 1.0)


def test_a_step_after_saving_and_loading_is_the_step_without() -> None:
    straight, resumed = two_networks()[0], two_networks()[0]
    inputs = torch.ones(2, 3)
    first = FlatOptimizer(straight.parameters(), MAKERS[0])
    first.step(straight(inputs).square().sum())
    file = io.BytesIO()
    torch.save({"network": straight.state_dict(), "optimizer": first.state()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = FlatOptimizer(resumed.parameters(), MAKERS[0])
    resumed.load_state_dict(saved["network"])
    second.load_state(saved["optimizer"])
    first.step(straight(inputs).square().sum())
    second.step(resumed(inputs).square().sum())
    assert all(map(torch.equal, straight.parameters(), resumed.parameters()))


def test_the_learning_rate_can_be_changed() -> None:
    network = Mlp([3, 2], generator=torch.Generator().manual_seed(0))
    optimizer = FlatOptimizer(network.parameters(), lambda parameters: torch.optim.SGD(parameters, 1.0))
    before = network.layers[0].bias.clone()
    optimizer.learning_rate = 0.25
    optimizer.step(network.layers[0].bias.sum())
    assert optimizer.learning_rate == 0.25
    torch.testing.assert_close(network.layers[0].bias, before - 0.25)


def test_what_is_loaded_after_a_move_is_not_forgotten_in_the_next_step() -> None:
    straight, resumed = two_networks()[0], two_networks()[0]
    inputs = torch.ones(2, 3)
    first = FlatOptimizer(straight.parameters(), MAKERS[0])
    first.step(straight(inputs).square().sum())
    second = FlatOptimizer(resumed.parameters(), MAKERS[0])
    for parameter in resumed.parameters():
        parameter.data = parameter.data.clone()  # what a move to another device does
    resumed.load_state_dict(straight.state_dict())
    second.load_state(copy.deepcopy(first.state()))
    second.learning_rate = first.learning_rate = 0.5
    first.step(straight(inputs).square().sum())
    second.step(resumed(inputs).square().sum())
    assert all(map(torch.equal, straight.parameters(), resumed.parameters()))


class SignDescent(torch.optim.Optimizer):
    """A user's optimizer: it moves matrices only, by the sign of the gradient."""

    def __init__(self, params: list[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.shapes = [tuple(parameter.shape) for parameter in params]

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim == 2:
                    parameter.sub_(parameter.grad.sign(), alpha=group["lr"])


def test_an_optimizer_that_may_look_at_shapes_gets_the_parameters_themselves() -> None:
    network = Mlp([3, 2], generator=torch.Generator().manual_seed(0))
    weight, bias = network.layers[0].weight.clone(), network.layers[0].bias.clone()
    made: list[SignDescent] = []

    def make(parameters: list[nn.Parameter]) -> SignDescent:
        made.append(SignDescent(parameters, 0.5))
        return made[-1]

    optimizer = FlatOptimizer(network.parameters(), make, max_grad_norm=1.0)
    norm = optimizer.step(2 * network.layers[0].weight.sum() + network.layers[0].bias.sum())
    assert [each.shapes for each in made] == [[(2, 3), (2,)]]
    torch.testing.assert_close(norm, torch.tensor((4 * 6 + 2) ** 0.5))
    gradient = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    torch.testing.assert_close(torch.linalg.vector_norm(gradient), torch.tensor(1.0))
    torch.testing.assert_close(network.layers[0].weight, weight - 0.5)
    torch.testing.assert_close(network.layers[0].bias, bias)


@pytest.mark.parametrize(("make", "is_flat"), [(torch.optim.AdamW, True), (torch.optim.Adafactor, False)])
def test_parameters_are_laid_out_for_optimizers_that_are_known_to_be_element_wise(make: Any, is_flat: bool) -> None:
    network = Mlp([3, 2], generator=torch.Generator().manual_seed(0))
    FlatOptimizer(network.parameters(), lambda parameters: make(parameters, lr=0.1))
    first, second = network.parameters()
    assert (first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()) is is_flat


def test_a_frozen_parameter_stays_and_is_no_obstacle() -> None:
    network = Mlp([3, 2], generator=torch.Generator().manual_seed(0))
    network.layers[0].bias.requires_grad_(False)
    before = network.layers[0].bias.clone()
    optimizer = FlatOptimizer(network.parameters(), lambda parameters: torch.optim.AdamW(parameters, 0.1))
    optimizer.step(network(torch.ones(1, 3)).sum())
    assert torch.equal(network.layers[0].bias, before)
