"""BBRL's logger: an event file for TensorBoard, and scalars.csv beside it."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.event_file import EventFile
from bbrl_exp.tracking.summaries import histogram_of, image_summary, text_summary

_VIDEO_FRAMES_PER_SECOND = 10


class TFLogger:
    """Writes numbers, texts and pictures as BBRL's ``bbrl.utils.logger.TFLogger`` does, without TensorFlow or torch.

    In ``log_dir`` there is an event file, ``scalars.csv`` with the columns ``name, iteration, value``, and
    ``params.json``. Nothing is pickled. A value that was written under the same name and iteration is not written
    again.

    Args:
        log_dir: the folder, which is made; None for ``runs/<date and time>``.
        hps: hyperparameters, as :meth:`save_hps`.
        cache_size: unused: every value is written at once.
        every_n_seconds: unused, likewise.
        modulo: iterations are rounded down to multiples of it.
        verbose: whether scalars are printed.
        use_zip: unused: nothing is pickled.
        save_tensorboard: whether the event file is written.
    """

    def __init__(
        self,
        log_dir: str | None = None,
        hps: Mapping[str, Any] | None = None,
        cache_size: int = 10000,
        every_n_seconds: float | None = None,
        modulo: int = 1,
        verbose: bool = False,
        use_zip: bool = True,
        save_tensorboard: bool = True,
    ) -> None:
        self.log_dir = log_dir or time.strftime("runs/%Y-%m-%d_%H-%M-%S")
        self.modulo, self.verbose, self.save_tensorboard = modulo, verbose, save_tensorboard
        self._folder = Path(self.log_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._events = EventFile(self._folder) if save_tensorboard else None
        self._csv = (self._folder / "scalars.csv").open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._csv)
        if not self._csv.tell():
            self._rows.writerow(["name", "iteration", "value"])
        self._written: set[tuple[str, int]] = set()
        if hps:
            self.save_hps(hps, verbose=False)

    def save_hps(self, hps: Mapping[str, Any], verbose: bool = True) -> None:
        """Writes ``params.json``, and the hyperparameters as a text."""
        text = json.dumps(plain(hps), indent=2, default=str)
        if verbose:
            sys.stdout.write(f"{text}\n")
        (self._folder / "params.json").write_text(f"{text}\n", encoding="utf-8")
        self.add_text("Hyperparameters", f"```json\n{text}\n```")

    def get_logger(self, prefix: str) -> TFPrefixLogger:
        """A logger that puts ``prefix`` before every name."""
        return TFPrefixLogger(prefix, self)

    def message(self, msg: object, from_name: str = "") -> None:
        """Prints a message."""
        sys.stdout.write(f"[ {from_name} ]:  {msg}\n")

    def debug(self, msg: object, from_name: str = "") -> None:
        """Prints a message."""
        sys.stdout.write(f"[DEBUG] [ {from_name} ]:  {msg}\n")

    def add_scalar(self, name: str, value: Any, iteration: float) -> None:
        """Writes a number: of Python, numpy or torch.

        Raises:
            ConfigurationError: something that is not one number.
        """
        step = self._new_step(name, iteration)
        if step is None:
            return
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            found = f"{type(value).__name__} {list(getattr(value, 'shape', []))}"
            raise ConfigurationError(f"add_scalar('{name}'): expected one number, found {found}") from None
        if self.verbose:
            sys.stdout.write(f"['{name}' at {step}] = {number}\n")
        self._rows.writerow([name, step, number])
        self._csv.flush()
        if step < 0:  # which the fast way of writing does not know
            self._add(step, Summary(value=[Summary.Value(tag=name, simple_value=number)]))
        elif self._events is not None:
            self._events.scalars((name,), np.array([step]), np.array([[number]]))

    def add_scalars(self, main_tag: str, values: Mapping[str, Any], iteration: float) -> None:
        """Writes several numbers, as ``<main_tag>/<key>``."""
        for key, value in values.items():
            self.add_scalar(f"{main_tag}/{key}", value, iteration)

    def add_text(self, name: str, text: str, iteration: float = 0) -> None:
        """Writes a text of Markdown."""
        self._add(iteration, text_summary(name, text))

    def add_histogram(self, name: str, values: Any, iteration: float) -> None:
        """Writes the distribution of the numbers of a tensor or an array."""
        step, proto = self._new_step(name, iteration), histogram_of(_array(values))
        if step is not None and proto is not None:
            self._add(step, Summary(value=[Summary.Value(tag=name, histo=proto)]))

    def add_figure(self, name: str, value: Any, iteration: float) -> None:
        """Writes a figure of matplotlib."""
        step = self._new_step(name, iteration)
        if step is None:
            return
        file = io.BytesIO()
        value.savefig(file, format="png")
        width, height = value.canvas.get_width_height()
        self._add(step, image_summary(name, file.getvalue(), (width, height)))

    def add_image(self, name: str, value: Any, iteration: float) -> None:
        """Writes a picture ``[C, H, W]``: uint8, or floats from 0 to 1."""
        self.add_images(name, _array(value)[None], iteration)

    def add_images(self, name: str, value: Any, iteration: float) -> None:
        """Writes pictures ``[N, C, H, W]`` beside each other: uint8, or floats from 0 to 1."""
        step = self._new_step(name, iteration)
        if step is not None:
            self._add_animation(step, name, np.concatenate(list(_array(value)), axis=2)[None], "png")

    def add_video(self, name: str, value: Any, iteration: float, fps: float = _VIDEO_FRAMES_PER_SECOND) -> None:
        """Writes the first of the videos ``[N, T, C, H, W]`` as an animated picture."""
        step = self._new_step(name, iteration)
        if step is not None:
            self._add_animation(step, name, _array(value)[0], "gif", duration=round(1000 / fps), loop=0)

    def flush(self) -> None:
        """Does nothing: every value is written at once."""

    def close(self) -> None:
        """Closes the files, and writes the file ``done``."""
        self._csv.close()
        if self._events is not None:
            self._events.close()
        (self._folder / "done").write_text("Done\n", encoding="utf-8")

    def _new_step(self, name: str, iteration: float) -> int | None:
        step = int(iteration / self.modulo) * self.modulo
        if (name, step) in self._written:
            return None
        self._written.add((name, step))
        return step

    def _add_animation(self, step: int, name: str, frames: Any, kind: str, **options: Any) -> None:
        from PIL import Image

        scaled = frames if frames.dtype == np.uint8 else (255 * np.clip(frames, 0, 1)).round().astype(np.uint8)
        coloured = [np.repeat(frame, 3, axis=0) if len(frame) == 1 else frame[:3] for frame in scaled]
        pictures = [Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))) for frame in coloured]
        file = io.BytesIO()
        more = {"save_all": True, "append_images": pictures[1:], **options} if kind == "gif" else {}
        pictures[0].save(file, kind, **more)
        self._add(step, image_summary(name, file.getvalue(), pictures[0].size))

    def _add(self, iteration: float, summary: Summary) -> None:
        if self._events is not None:
            self._events.summary(int(iteration), summary)


class TFPrefixLogger:
    """A logger that puts a prefix before every name."""

    def __init__(self, prefix: str, logger: TFLogger) -> None:
        self.prefix, self.logger = prefix, logger

    def add_scalar(self, name: str, value: Any, iteration: float) -> None:
        """See :meth:`TFLogger.add_scalar`."""
        self.logger.add_scalar(self.prefix + name, value, iteration)

    def add_images(self, name: str, value: Any, iteration: float) -> None:
        """See :meth:`TFLogger.add_images`."""
        self.logger.add_images(self.prefix + name, value, iteration)

    def add_figure(self, name: str, value: Any, iteration: float) -> None:
        """See :meth:`TFLogger.add_figure`."""
        self.logger.add_figure(self.prefix + name, value, iteration)

    def add_video(self, name: str, value: Any, iteration: float, fps: float = _VIDEO_FRAMES_PER_SECOND) -> None:
        """See :meth:`TFLogger.add_video`."""
        self.logger.add_video(self.prefix + name, value, iteration, fps)

    def message(self, msg: object, from_name: str = "") -> None:
        """Prints a message."""
        self.logger.message(msg, self.prefix + from_name)

    def debug(self, msg: object, from_name: str = "") -> None:
        """Prints a message."""
        self.logger.debug(msg, self.prefix + from_name)

    def get_logger(self, prefix: str) -> TFPrefixLogger:
        """A logger with a longer prefix."""
        return TFPrefixLogger(self.prefix + prefix, self.logger)

    def close(self) -> None:
        """Does nothing: the logger below is closed by its owner."""


def plain(value: Any) -> Any:
    """A configuration, of OmegaConf too, as dictionaries."""
    return {str(key): plain(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def _array(values: Any) -> Any:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
