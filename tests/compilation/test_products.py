"""Products of thin matrices are recorded in other forms, with the same values; the others stay products."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bbrl_exp.compilation.products import thin_products

mm = torch.ops.aten.mm.default


def _recorded(first: Tensor, second: Tensor) -> torch.fx.GraphModule:
    return make_fx(torch.mm, decomposition_table=thin_products())(first, second)


@pytest.mark.parametrize("sizes", [(30, 40, 1), (30, 2, 20), (1, 30, 20)])
def test_a_product_with_a_dimension_of_at_most_2_is_a_sum(sizes: tuple[int, int, int]) -> None:
    rows, inner, columns = sizes
    first, second = torch.randn(rows, inner), torch.randn(inner, columns)
    graph = _recorded(first, second)
    assert all(node.target is not mm for node in graph.graph.nodes)
    torch.testing.assert_close(graph(first, second), first @ second)


def test_the_gradient_of_a_layer_with_few_inputs_is_computed_transposed() -> None:
    gradient, inputs = torch.randn(30, 64), torch.randn(30, 4)
    graph = _recorded(gradient.t(), inputs)
    (product,) = (node for node in graph.graph.nodes if node.target is mm)
    assert list(product.meta["val"].shape) == [4, 64]
    found, expected = graph(gradient.t(), inputs), gradient.t() @ inputs
    assert found.stride() == expected.stride()
    torch.testing.assert_close(found, expected)


def test_a_layer_keeps_its_bias() -> None:
    bias, inputs, weight = torch.randn(2), torch.randn(30, 64), torch.randn(2, 64)
    graph = make_fx(torch.nn.functional.linear, decomposition_table=thin_products())(inputs, weight, bias)
    torch.testing.assert_close(graph(inputs, weight, bias), inputs @ weight.t() + bias)
    scaled = make_fx(lambda *given: torch.addmm(*given, alpha=2.0), decomposition_table=thin_products())
    torch.testing.assert_close(
        scaled(bias, inputs, weight.t())(bias, inputs, weight.t()), bias + 2 * inputs @ weight.t()
    )


def test_other_products_stay_as_they_are() -> None:
    first, second = torch.randn(30, 64), torch.randn(64, 4)
    graph = _recorded(first, second)
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [mm]
