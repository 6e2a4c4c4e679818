"""``metrics.csv``: what a run is judged by, as plain rows that any tool reads.

Columns ``env_steps,name,value,environment``: one number per row. ``environment`` is the index in the batch of the
environment whose episode ended, and empty for everything that concerns the run as a whole. Floats are written so that
reading them gives the same bits; a name with a comma, a quotation mark or a line break is quoted as CSV files do.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.records.files import AppendOnlyFile
from bbrl_exp.records.layout import METRICS, UnreadableError

Acting = Literal["mode", "sample"]
ACTIONS_IN_WORDS: Mapping[str, str] = {"mode": "most likely actions", "sample": "sampled actions"}
MEASURED = ("return_mean", "success_rate")
EVALUATIONS = "eval/return_mean"
TRAINING_RETURNS = "train/return"
TRAINING_LENGTHS = "train/length"
SPEED = "time/steps_per_second"
_COLUMNS = ("env_steps", "name", "value", "environment")
_SPECIAL = frozenset(',"\r\n')
# Sums and squares of what is beyond overflow; no return is.
_LARGEST = 1e100
_TAIL_BYTES = 4096


def evaluation_name(role: str, acting: str) -> str:
    """What begins the names of an evaluation's numbers: ``eval``, and ``eval_sample`` where actions are sampled."""
    return role if acting == "mode" else f"{role}_{acting}"


def evaluations_of(acting: str) -> str:
    """The name of the mean returns of the evaluations along a run, which is :data:`EVALUATIONS` for the mode."""
    role, _, name = EVALUATIONS.partition("/")
    return f"{evaluation_name(role, acting)}/{name}"


class MetricsFile(AppendOnlyFile):
    """``metrics.csv`` in ``folder``; what a call adds has reached the file when it returns.

    Args:
        folder: the run's folder; it must exist.
        position: None for a new file; else where the existing one is continued.

    Raises:
        BbrlExpError: if the file cannot be made or written, naming it.
    """

    def __init__(self, folder: Path, position: int | None = None) -> None:
        super().__init__(folder / METRICS, position)
        if position is None:
            self.write(f"{','.join(_COLUMNS)}\n".encode())

    def scalars(self, env_steps: int, values: Mapping[str, float]) -> None:
        """One row for each name in ``values``, at ``env_steps``."""
        rows = (f"{env_steps},{_quoted(name)},{float(value)!r},\n" for name, value in values.items())
        self.write("".join(rows).encode())

    def episodes(
        self, env_steps: Sequence[int], environments: Sequence[int], returns: Sequence[float], lengths: Sequence[int]
    ) -> None:
        """Two rows for each finished episode: ``train/return`` and ``train/length``."""
        lines = [
            f"{step},{TRAINING_RETURNS},{total!r},{environment}\n{step},{TRAINING_LENGTHS},{length},{environment}\n"
            for step, environment, total, length in zip(env_steps, environments, returns, lengths, strict=True)
        ]
        self.write("".join(lines).encode())

    def environments(self, env_steps: int, name: str, values: Sequence[float]) -> None:
        """One row for each environment, in their order."""
        rows = (f"{env_steps},{_quoted(name)},{float(value)!r},{index}\n" for index, value in enumerate(values))
        self.write("".join(rows).encode())


def _quoted(name: str) -> str:
    return name if _SPECIAL.isdisjoint(name) else '"' + name.replace('"', '""') + '"'


class Point(NamedTuple):
    """One row, without its environment."""

    env_steps: int
    name: str
    value: float


@dataclass(frozen=True)
class Series:
    """Values over environment steps: ``env_steps`` ``[N]`` never falls, ``values`` ``[N]`` are finite."""

    env_steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """What a report needs of ``metrics.csv``.

    Attributes:
        last: the last value of each name, possibly NaN.
        series: the evaluations that the run is judged by, as :data:`EVALUATIONS`, and the returns of training
            episodes, as far as the file has them.
        faults: what is wrong with the file, in words.
    """

    last: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Series] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def read_metrics(folder: Path, acting: str = "mode") -> Metrics:
    """The metrics of the run in ``folder``; rows that cannot be read are left out and reported in ``faults``.

    Args:
        folder: of the run.
        acting: how the policy acts in the evaluations that the run is judged by.
    """
    try:
        text, is_whole = _contents(folder)
    except UnreadableError as error:
        return Metrics(faults=(str(error),))
    last: dict[str, float] = {}
    kept_as = {evaluations_of(acting): EVALUATIONS, TRAINING_RETURNS: TRAINING_RETURNS}
    kept: dict[str, list[tuple[float, float]]] = {EVALUATIONS: [], TRAINING_RETURNS: []}
    n_unreadable = n_not_finite = 0
    for row in _rows(io.StringIO(text, newline="\n")):
        try:
            step_text, name, value_text, *_ = row
            step, value = float(step_text), float(value_text)
        except ValueError:
            n_unreadable += 1
            continue
        last[name] = value
        if name in kept_as:
            if is_usable(step) and is_usable(value):
                kept[kept_as[name]].append((step, value))
            else:
                n_not_finite += 1
    faults = [] if is_whole else [f"the last row of {METRICS} is not whole"]
    if n_unreadable:
        faults.append(f"{n_unreadable} rows of {METRICS} cannot be read")
    if n_not_finite:
        faults.append(f"{n_not_finite} returns in {METRICS} are not finite, or beyond {_LARGEST:g}")
    series = {name: _series(points) for name, points in kept.items() if points}
    return Metrics(last, series, tuple(faults))


def read_points(folder: Path, name: str | None = None) -> list[Point]:
    """The rows, of one name or of all, in the order in which they were written; none where the file cannot be read."""
    return [point for point in each_point(folder) if name in (None, point.name)]


def each_point(folder: Path) -> Iterator[Point]:
    """What :func:`read_points` gives, read row by row."""
    try:
        with (folder / METRICS).open(encoding="utf-8", errors="replace", newline="\n") as file:
            if _is_header(file.readline()):
                yield from _points(line for line in file if line.endswith("\n"))
    except OSError:
        return


def newest_points(folder: Path) -> list[Point]:
    """The last rows of a file that may still be written, about a hundred; none if the file is missing."""
    try:
        with (folder / METRICS).open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            data = file.read()
    except OSError:
        return []
    whole = data[data.find(b"\n") + 1 : data.rfind(b"\n") + 1]  # neither the header nor a part of a row
    return list(_points(io.StringIO(whole.decode(errors="replace"), newline="\n")))


def is_usable(value: float) -> bool:
    """Whether a report can compute with ``value``: it is finite, and not so large that sums overflow."""
    return abs(value) <= _LARGEST


def _contents(folder: Path) -> tuple[str, bool]:
    """The whole rows below the header, and whether there is no part of a row behind them."""
    try:
        text = (folder / METRICS).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise UnreadableError(f"no {METRICS}") from None
    except OSError as error:
        raise UnreadableError(f"{METRICS} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise UnreadableError(f"{METRICS} is empty")
    header, _, body = text.partition("\n")
    if not _is_header(header):
        raise UnreadableError(f"the columns of {METRICS} are not {','.join(_COLUMNS[:3])}")
    end = body.rfind("\n") + 1
    return body[:end], end == len(body)


def _is_header(line: str) -> bool:
    return tuple(line.rstrip("\r\n").split(",")[:3]) == _COLUMNS[:3]


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """The fields of each row; none for a row that is not CSV."""
    reader = csv.reader(lines)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield []


def _points(lines: Iterable[str]) -> Iterator[Point]:
    for row in _rows(lines):
        try:
            env_steps, name, value, *_ = row
            yield Point(int(env_steps), name, float(value))
        except ValueError:
            continue


def _series(points: list[tuple[float, float]]) -> Series:
    columns = np.asarray(points, np.float64)
    order = np.argsort(columns[:, 0], kind="stable")
    return Series(columns[order, 0], columns[order, 1])
