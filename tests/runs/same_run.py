"""Whether two folders hold the same run: every number that does not measure time is bitwise identical."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import torch

from bbrl_exp.records.layout import EVENTS

from ..records.event_scalars import read_scalars

_OF_TIME = ("time/", "system/")
_OF_SESSIONS = (
    "wall_seconds",
    "steps_per_second",
    "side_by_side_with",
    "command",
    "overrides",
    "config_hash",
    "versions",
    "git_commit",
)
_OF_EXTENSIONS = ("extended_from",)


def assert_same_run(one: Path, other: Path) -> None:
    """Compares summaries, metrics.csv, event files, policies and newest checkpoints."""
    assert summary_of(one) == summary_of(other)
    assert csv_of(one) == csv_of(other)
    events = events_of(one), events_of(other)
    assert list(events[0]) == list(events[1])
    for tag, points in events[0].items():
        assert points == events[1][tag], tag
    names = sorted(path.name for path in (one / "checkpoints").glob("*.pt"))
    assert names == sorted(path.name for path in (other / "checkpoints").glob("*.pt"))
    for name in names:
        assert_equal(state_of(one, name), state_of(other, name), name)


def summary_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {name: value for name, value in found.items() if name not in (*_OF_SESSIONS, *_OF_EXTENSIONS)}


def csv_of(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)]
    return [row for row in rows if not row[1].startswith(_OF_TIME)]


def events_of(folder: Path) -> dict[str, tuple[list[int], list[str]]]:
    """Tag → steps and values, these as text so that a NaN equals itself; of time only the steps."""
    files = list(folder.glob(f"{EVENTS}*"))
    assert len(files) == 1
    found = read_scalars(files[0])
    assert found.damage is None
    return {
        tag: (series.steps.tolist(), [] if tag.startswith(_OF_TIME) else [repr(value) for value in series.values])
        for tag, series in found.series.items()
    }


def state_of(folder: Path, name: str) -> Any:
    return torch.load(folder / "checkpoints" / name, weights_only=True)["state"]


def assert_equal(one: Any, other: Any, where: str) -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        assert one.numpy().tobytes() == other.numpy().tobytes(), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key, value in one.items():
            assert_equal(value, other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}.{index}")
    else:
        assert one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other)), where
