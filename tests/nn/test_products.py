"""Products of few rows and many columns, which are made of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from bbrl_exp.nn import recurrent_arrays
from bbrl_exp.nn.mlp import LARGEST_NUMPY_PRODUCT


@pytest.mark.parametrize("n_rows", [1, 3, 16, 17])
@pytest.mark.parametrize("shape", [(64, 192), (256, 1000), (1024, 256), (20_000, 16)])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_product_is_the_same_in_one_part_in_blocks_and_by_torch(
    n_rows: int, shape: tuple[int, int], is_transposed: bool
) -> None:
    draw = np.random.default_rng(0)
    rows = draw.integers(-4, 5, (n_rows, shape[0])).astype(np.float32)
    weight = draw.integers(-4, 5, shape[::-1] if is_transposed else shape).astype(np.float32)
    weight = weight.T if is_transposed else weight
    exact = rows.astype(np.int64) @ weight.astype(np.int64)  # small enough for float32 to hold it exactly
    np.testing.assert_array_equal(recurrent_arrays.product(rows, weight), exact)


def test_numpy_is_asked_for_no_product_for_which_it_might_start_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, matmul = [], np.matmul

    def seen(rows: np.ndarray, weight: np.ndarray, out: np.ndarray) -> np.ndarray:
        sizes.append(len(rows) * weight.size)
        return matmul(rows, weight, out=out)

    monkeypatch.setattr(np, "matmul", seen)
    recurrent_arrays.product(np.ones((3, 256), np.float32), np.ones((256, 1024), np.float32))
    assert len(sizes) == 4
    assert sum(sizes) == 3 * 256 * 1024
    assert max(sizes) <= LARGEST_NUMPY_PRODUCT
