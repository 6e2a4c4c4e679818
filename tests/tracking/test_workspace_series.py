"""Each series against its definition, written out per time step."""

import numpy as np
import pytest
import torch

from bbrl_exp.tracking.workspace_series import in_one_transfer, rows_on_cpu, workspace_series


def series_of(rows, max_components=8, discrete_actions=None):
    tags, values = workspace_series(rows, max_components=max_components, discrete_actions=discrete_actions or {})
    assert values.shape[0] == len(tags) == len(set(tags))
    assert values.dtype == np.float64
    return dict(zip(tags, values, strict=True))


def numbers(*shape, dtype=np.float64):
    return np.random.default_rng(0).integers(-50, 50, size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int8])
def test_a_number_has_mean_min_and_max_over_the_batch(dtype):
    x = numbers(5, 3, dtype=dtype)
    found = series_of({"x": x})
    assert set(found) == {"workspace/x/mean", "workspace/x/min", "workspace/x/max"}
    for t in range(5):
        row = [float(value) for value in x[t]]
        assert found["workspace/x/mean"][t] == pytest.approx(sum(row) / 3, rel=1e-6)
        assert (found["workspace/x/min"][t], found["workspace/x/max"][t]) == (min(row), max(row))


def test_a_small_vector_has_series_for_each_component():
    x = numbers(4, 3, 2, 2)
    found = series_of({"env/env_obs": x})
    assert len(found) == 4 * 3
    for component in range(4):
        expected = x.reshape(4, 3, 4)[:, :, component].max(axis=1)
        assert found[f"workspace/env/env_obs/{component}/max"].tolist() == expected.tolist()


def test_more_components_than_allowed_are_summed_up_as_a_whole():
    image = np.arange(2 * 3 * 9, dtype=np.uint8).reshape(2, 3, 9)
    found = series_of({"image": image})
    assert {tag: values.tolist() for tag, values in found.items()} == {
        "workspace/image/mean": [13.0, 40.0],
        "workspace/image/min": [0.0, 27.0],
        "workspace/image/max": [26.0, 53.0],
    }
    assert len(series_of({"image": image}, max_components=9)) == 27


def test_one_environment_has_the_value_alone():
    found = series_of({"x": numbers(4, 1), "v": numbers(4, 1, 2)})
    assert set(found) == {"workspace/x/mean", "workspace/v/0/mean", "workspace/v/1/mean"}
    assert found["workspace/x/mean"].tolist() == numbers(4, 1)[:, 0].tolist()


def test_booleans_have_the_fraction_that_is_true():
    done = np.array([[True, False, False, True], [False] * 4, [True] * 4])
    assert series_of({"env/done": done})["workspace/env/done/fraction"].tolist() == [0.5, 0.0, 1.0]
    assert series_of({"m": np.repeat(done[:, :, None], 20, axis=2)})["workspace/m/fraction"].tolist() == [0.5, 0, 1]
    assert set(series_of({"m": np.repeat(done[:, :, None], 2, axis=2)})) == {
        "workspace/m/0/fraction",
        "workspace/m/1/fraction",
    }


def test_a_discrete_action_has_the_fraction_of_each_value_from_its_start_on():
    action = np.array([[-1, 0, 1, 1], [1, 1, 1, 1]])
    found = series_of({"action": action}, discrete_actions={"action": (-1, 3)})
    assert {tag: values.tolist() for tag, values in found.items()} == {
        "workspace/action/-1/fraction": [0.25, 0.0],
        "workspace/action/0/fraction": [0.25, 0.0],
        "workspace/action/1/fraction": [0.5, 1.0],
    }


def test_a_discrete_action_of_many_values_is_a_number():
    found = series_of({"action": numbers(3, 4, dtype=np.int64)}, discrete_actions={"action": (0, 17)})
    assert set(found) == {"workspace/action/mean", "workspace/action/min", "workspace/action/max"}


def test_a_nan_or_a_huge_number_stays_in_its_own_series():
    x = np.ones((3, 2))
    x[1, 0] = np.nan
    huge = np.array([[1e300, -1e300], [np.inf, -np.inf], [0.0, 0.0]])
    found = series_of({"x": x, "huge": huge, "y": np.ones((3, 2))})
    assert np.isnan(found["workspace/x/mean"]).tolist() == [False, True, False]
    assert found["workspace/y/mean"].tolist() == [1, 1, 1]
    assert found["workspace/huge/max"].tolist() == [1e300, np.inf, 0.0]


def test_variables_of_different_batch_sizes_and_without_a_batch_stand_side_by_side():
    found = series_of(
        {"a": np.ones((3, 2)), "b": np.full((3, 5), 2.0), "c": np.full(3, 4.0), "none": np.ones((3, 2, 0))}
    )
    assert {tag: v.tolist() for tag, v in found.items() if "mean" in tag} == {
        "workspace/a/mean": [1] * 3,
        "workspace/b/mean": [2] * 3,
        "workspace/c/mean": [4] * 3,
    }


def test_a_large_batch_of_ones_has_the_mean_one_exactly():
    assert series_of({"x": np.ones((2, 3001), dtype=np.float32)})["workspace/x/mean"].tolist() == [1.0, 1.0]


def test_tensors_of_every_kind_become_rows_and_complex_numbers_are_left_out():
    tensors = {
        "graph": torch.ones(4, 2, requires_grad=True) * 2,
        "brain": torch.ones(4, 2, dtype=torch.bfloat16),
        "complex": torch.ones(4, 2, dtype=torch.complex64),
    }
    rows = rows_on_cpu(tensors, 1)
    assert {name: array.tolist() for name, array in rows.items()} == {"graph": [[2, 2]] * 3, "brain": [[1, 1]] * 3}


def test_tensors_of_all_dtypes_survive_the_one_transfer_from_a_device_bit_by_bit():
    sent = {
        "flag": torch.tensor([[True], [False], [True]]),
        "double": torch.randn(3, 2, 5, dtype=torch.float64),
        "byte": torch.arange(21, dtype=torch.uint8).reshape(3, 7),
        "long": torch.arange(12).reshape(3, 4).transpose(0, 1),
        "half": torch.randn(3, 2, dtype=torch.float16),
    }
    arrived = in_one_transfer(sent)
    for name, tensor in sent.items():
        assert arrived[name].dtype == tensor.dtype
        assert torch.equal(arrived[name], tensor)
