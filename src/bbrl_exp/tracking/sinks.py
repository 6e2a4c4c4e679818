"""The sinks of every run: its event file for TensorBoard, ``metrics.csv`` and the console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary

from bbrl_exp.records.event_file import EventFile
from bbrl_exp.records.files import AppendOnlyFile
from bbrl_exp.records.metrics import TRAINING_LENGTHS, TRAINING_RETURNS, MetricsFile
from bbrl_exp.tracking.hparams import HparamsEntry, write_end, write_start
from bbrl_exp.tracking.sink import LocalSink, RunFacts
from bbrl_exp.tracking.summaries import LAYOUT, histogram_of, image_summary, layout_summary, text_summary

WORKSPACE = "workspace/"
WORKSPACE_HISTOGRAMS = "histograms/"
# TensorBoard sorts its groups of charts by name, digits first, and opens the first ones.
_LEARNING_CURVES: Mapping[str, str] = {
    name: f"1_learning_curves/{name.replace('/', '_')}"
    for name in ("eval/return_mean", "eval/success_rate", "train/return")
}


class _FileSink(LocalSink):
    """A file in the run's folder, which is cut back to a position where the run resumes."""

    _file: AppendOnlyFile

    def position(self) -> tuple[str, int]:
        """The file's name, and its length in bytes."""
        return self._file.path.name, self._file.tell()

    def sync(self) -> None:
        """Hands the file to the disk."""
        self._file.sync()

    def close(self, status: str) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoardSink(_FileSink):
    """An event file, directly in the run's folder, for every page of TensorBoard.

    The curves by which a run is judged are there twice: under their names, and in the first group of the page.
    """

    wants_workspace: ClassVar[bool] = True

    def start(self, facts: RunFacts) -> None:
        """Makes the file, unless the run resumes."""
        self._facts = facts
        if facts.resumed_at is None:
            self._open(None)

    def resume(self, position: Any) -> None:
        """Continues the file named by ``position``, cut back to it; makes one where there was none."""
        self._open(position)

    def _open(self, position: tuple[str, int] | None) -> None:
        self._file = self._events = EventFile(self._facts.folder, position)
        self._is_laid_out = position is not None and self._events.holds(LAYOUT)
        if position is None:
            write_start(self._events, HparamsEntry(self._facts.hyperparameters, self._facts.setting))

    def scalars(self, env_steps: NDArray[np.int64], names: Sequence[str], values: NDArray[np.float64]) -> None:
        """Appends an event per step. The first series of the workspace lay out the CUSTOM SCALARS page."""
        copied = [index for index, name in enumerate(names) if name in _LEARNING_CURVES]
        if copied:
            names = [*names, *(_LEARNING_CURVES[names[index]] for index in copied)]
            values = np.concatenate([values, values[:, copied]], axis=1)
        if not np.isnan(values).any():
            self._events.scalars(names, env_steps, values.T)
        else:
            for rows, columns in _without_gaps(values):
                self._events.scalars([names[i] for i in columns], env_steps[rows], values[rows, columns].T)
        if not self._is_laid_out and names and names[0].startswith(WORKSPACE):
            self._is_laid_out = True
            self._events.summary(0, layout_summary(names))

    def episodes(
        self,
        env_steps: NDArray[np.int64],
        environments: NDArray[np.int64],
        returns: NDArray[np.float64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Appends an event per episode."""
        self.scalars(env_steps, (TRAINING_RETURNS, TRAINING_LENGTHS), np.stack([returns, lengths], axis=1))

    def histogram(self, env_steps: int, name: str, values: NDArray[Any]) -> None:
        """Appends a histogram, unless no value is finite."""
        proto = histogram_of(values)
        if proto is not None:
            self._events.summary(env_steps, Summary(value=[Summary.Value(tag=name, histo=proto)]))

    def text(self, name: str, markdown: str) -> None:
        """Puts a text on the TEXT page."""
        self._events.summary(0, text_summary(name, markdown))

    def image(self, env_steps: int, name: str, data: bytes, size: tuple[int, int]) -> None:
        """Puts a picture on the IMAGES page; an animated one plays there."""
        self._events.summary(env_steps, image_summary(name, data, size))

    def results(self, env_steps: int, values: Mapping[str, float | None]) -> None:
        """Says on the HPARAMS page that the run is complete, and what came of it."""
        write_end(self._events, env_steps, values, failed=False)

    def record_length(self, names: Sequence[str]) -> int:
        """Bytes that a step of these series takes in the file."""
        return self._events.record_length(names)


class CsvSink(_FileSink):
    """``metrics.csv`` in the run's folder: single numbers, episodes, and every return of the evaluations."""

    def start(self, facts: RunFacts) -> None:
        """Makes the file, unless the run resumes."""
        self._folder: Path = facts.folder
        if facts.resumed_at is None:
            self.resume(None)

    def resume(self, position: Any) -> None:
        """Continues the file, cut back to ``position``; makes it where there was none."""
        self._file = self._metrics = MetricsFile(self._folder, None if position is None else position[1])

    def scalars(self, env_steps: NDArray[np.int64], names: Sequence[str], values: NDArray[np.float64]) -> None:
        """Appends a row per number."""
        for step, numbers in zip(env_steps.tolist(), values.tolist(), strict=True):
            found = zip(names, numbers, strict=True)
            self._metrics.scalars(step, {name: number for name, number in found if number == number})

    def episodes(
        self,
        env_steps: NDArray[np.int64],
        environments: NDArray[np.int64],
        returns: NDArray[np.float64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Appends two rows per episode."""
        self._metrics.episodes(env_steps.tolist(), environments.tolist(), returns.tolist(), lengths.tolist())

    def histogram(self, env_steps: int, name: str, values: NDArray[Any]) -> None:
        """Appends a row per environment of an evaluation."""
        self._metrics.environments(env_steps, name, values.tolist())


class ConsoleSink(LocalSink):
    """The progress of the run, on the terminal and in ``run.log``."""

    def start(self, facts: RunFacts) -> None:
        """Nothing is shown before the first chunk."""
        self._console, self._total_steps = facts.console, facts.total_steps

    def progress(self, env_steps: int, steps_per_second: float | None, return_mean: float | None) -> None:
        """Shows the progress, as often as the console does."""
        self._console.progress(env_steps, self._total_steps, steps_per_second, return_mean)

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.line(text)

    def close(self, status: str) -> None:
        """Ends the progress."""
        self._console.close()


def _without_gaps(values: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Rows of ``[N, S]`` one after the other, as long as they have values in the same columns; and these columns."""
    has_value = ~np.isnan(values)
    changes = np.flatnonzero((has_value[1:] != has_value[:-1]).any(axis=1)) + 1
    for first, last in pairwise([0, *changes.tolist(), len(values)]):
        if has_value[first].any():
            yield slice(first, last), np.flatnonzero(has_value[first])
