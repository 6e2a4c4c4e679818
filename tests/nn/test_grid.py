"""Grids of categories become one plane per category, and features by convolutions."""

from __future__ import annotations

import torch
from torch import nn

from bbrl_exp.nn.grid import GridFeatures, GridPlanes


def test_each_category_has_a_plane_that_is_1_where_a_cell_has_it() -> None:
    cells = torch.zeros(2, 3, 4, 2, dtype=torch.uint8)  # two components: 3 values from 0 on, 2 values from 5 on
    cells[..., 1] = 5
    cells[1, 2, 3] = torch.tensor([2, 6])
    planes = GridPlanes(3, 4, [3, 2], [0, 5])
    found = planes(cells)
    assert planes.shape == (3, 4, 5)
    assert (found.shape, found.dtype) == ((2, 3, 4, 5), torch.float32)
    assert found[1, 2, 3].tolist() == [0, 0, 1, 0, 1]
    found[1, 2, 3] = torch.tensor([1.0, 0, 0, 1, 0])
    assert torch.equal(found, torch.tensor([1.0, 0, 0, 1, 0]).expand(2, 3, 4, 5))


def test_planes_are_convolved_by_two_layers_of_3_by_3() -> None:
    features = GridFeatures(GridPlanes(7, 7, [11, 6, 4], [0, 0, 0]), torch.Generator().manual_seed(0))
    kernels = [(m.in_channels, m.out_channels, m.kernel_size) for m in features.layers if isinstance(m, nn.Conv2d)]
    assert kernels == [(21, 16, (3, 3)), (16, 32, (3, 3))]
    cells = torch.randint(4, (5, 7, 7, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    found = features(cells)
    assert found.shape == (5, features.n_features) == (5, 32 * 3 * 3)
    torch.testing.assert_close(found[:1], features(cells[:1]))  # each grid by itself
    moved = features(cells.transpose(1, 2).contiguous())
    assert not torch.allclose(found, moved)  # height and width are not the same thing
