"""metrics.csv: every reader finds what the writer wrote, also in files that are damaged or still being written."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from bbrl_exp.records.layout import METRICS
from bbrl_exp.records.metrics import (
    EVALUATIONS,
    SPEED,
    TRAINING_RETURNS,
    MetricsFile,
    newest_points,
    read_metrics,
    read_points,
)

STRANGE = ["a,b", 'say "x"', '"', "two\nlines", "\r\n", 'a\n"b",\r', "é,", ""]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two episodes whose steps fall, an evaluation, and a speed."""
    with contextlib.closing(MetricsFile(tmp_path)) as file:
        file.episodes([20, 10], [1, 0], [3.0, 2.0], [7, 8])
        file.scalars(20, {EVALUATIONS: 0.1, SPEED: 7.5})
    return tmp_path / METRICS


def test_the_columns_are_those_that_version_0_1_0_wrote(path: Path) -> None:
    assert path.read_bytes() == (
        b"env_steps,name,value,environment\n20,train/return,3.0,1\n20,train/length,7,1\n10,train/return,2.0,0\n"
        b"10,train/length,8,0\n20,eval/return_mean,0.1,\n20,time/steps_per_second,7.5,\n"
    )


def test_episodes_are_read_in_the_order_of_steps(path: Path) -> None:
    metrics = read_metrics(path.parent)
    assert metrics.faults == ()
    assert metrics.last == {TRAINING_RETURNS: 2.0, "train/length": 8.0, EVALUATIONS: 0.1, SPEED: 7.5}
    assert metrics.series[TRAINING_RETURNS].env_steps.tolist() == [10, 20]
    assert metrics.series[TRAINING_RETURNS].values.tolist() == [2, 3]
    assert metrics.series[EVALUATIONS].values.tolist() == [0.1]


def test_the_points_of_a_name_are_read_in_the_order_of_writing(path: Path) -> None:
    assert [(point.env_steps, point.value) for point in read_points(path.parent, TRAINING_RETURNS)] == [
        (20, 3),
        (10, 2),
    ]
    assert read_points(path.parent, "absent") == []
    assert read_points(path.parent.parent / "absent", SPEED) == []


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_of_any_characters_is_a_row_that_every_reader_reads(tmp_path: Path, name: str) -> None:
    with contextlib.closing(MetricsFile(tmp_path)) as file:
        file.scalars(8, {"before": 1.0, name: 2.5, "after": 3.0})
        file.environments(16, name, [4.0, 5.5])
    assert read_metrics(tmp_path).faults == ()
    assert read_metrics(tmp_path).last == {"before": 1.0, name: 5.5, "after": 3.0}
    assert [point.value for point in read_points(tmp_path, name)] == [2.5, 4.0, 5.5]
    assert [point.name for point in newest_points(tmp_path)] == ["before", name, "after", name, name]
    with (tmp_path / METRICS).open(newline="", encoding="utf-8") as text:
        rows = list(csv.reader(text))
    assert rows[1:] == [
        ["8", "before", "1.0", ""],
        ["8", name, "2.5", ""],
        ["8", "after", "3.0", ""],
        ["16", name, "4.0", "0"],
        ["16", name, "5.5", "1"],
    ]


@pytest.mark.parametrize("value", [1 / 3, -0.0, 1e-320, math.inf, 10**20])
def test_a_value_comes_back_with_the_same_bits(tmp_path: Path, value: float) -> None:
    with contextlib.closing(MetricsFile(tmp_path)) as file:
        file.scalars(0, {"a": value})
    (point,) = read_points(tmp_path, "a")
    assert repr(point.value) == repr(float(value))


@pytest.mark.parametrize("n_rows", [0, 1, 3, 1000])
def test_the_newest_rows_are_the_last_whole_ones(tmp_path: Path, n_rows: int) -> None:
    with contextlib.closing(MetricsFile(tmp_path)) as file:
        for step in range(n_rows):
            file.scalars(step, {"loss": 100.0 + step})
    path = tmp_path / METRICS
    found = newest_points(tmp_path)
    assert [point.env_steps for point in found] == list(range(n_rows))[-len(found) :]
    assert len(found) >= min(n_rows, 100)
    if n_rows:
        path.write_bytes(path.read_bytes()[:-3])  # as while a row is being written
        assert [point.env_steps for point in newest_points(tmp_path)][-1:] == list(range(n_rows - 1))[-1:]


def test_there_are_no_newest_rows_without_a_file(tmp_path: Path) -> None:
    assert newest_points(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        (lambda data: b"", ("metrics.csv is empty",)),
        (lambda data: b"\n" + data, ("the columns of metrics.csv are not env_steps,name,value",)),
        (lambda data: data[:-1], ("the last row of metrics.csv is not whole",)),
        (lambda data: data + b"\xff\n1,b\nx,a,1,\n1,b\rc,2,\n", ("4 rows of metrics.csv cannot be read",)),
        (
            lambda data: data.replace(b"3.0", b"nan").replace(b"2.0", b"-1e308"),
            ("2 returns in metrics.csv are not finite, or beyond 1e+100",),
        ),
    ],
)
def test_damage_is_named_and_the_other_rows_are_read(
    path: Path, damage: Callable[[bytes], bytes], faults: tuple[str, ...]
) -> None:
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    metrics = read_metrics(path.parent)
    assert metrics.faults == faults
    assert (EVALUATIONS in metrics.series) == path.read_bytes().startswith(whole[:10])


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert read_metrics(tmp_path).faults == ("no metrics.csv",)
    (tmp_path / METRICS).mkdir()
    assert read_metrics(tmp_path).faults == ("metrics.csv cannot be read: Is a directory",)
