"""Sinks for trackers of other projects, Weights & Biases and Trackio, each in a separate process.

The tracker is imported there and nowhere else: what it prints, hooks or waits for never reaches the run. Both take
their settings from their own environment variables. What a tracker has already is not sent again, whoever sent it: a
run that resumes continues its remote run, and ``bbrl-exp mirror`` completes one from the records in the run's folder.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.records.config import read_resolved
from bbrl_exp.records.metrics import TRAINING_LENGTHS, TRAINING_RETURNS
from bbrl_exp.tracking.sink import RunFacts, Sink

DEFAULT_PROJECT = "bbrl_exp"
_LOOK_SECONDS = 0.1
_NO_SETTINGS = ("name=", "seed=", "resume=", "pause_after=", "dry_run=", "hydra", "launcher", "tracking")


class RemoteSink(Sink):
    """Sends single numbers, episodes, returns of evaluations, results and pictures to a tracker.

    The remote run has the id, the name and the configuration of the run, the sweep's name as its group, and the
    settings (agent, environment and the overrides but for the seed) as its tags.

    Args:
        project: of the tracker; its own variable if not given, else ``bbrl_exp``.

    Attributes:
        where: the place of the records, in words; empty before the start.
        sent: how many numbers and pictures the tracker has taken; known after :meth:`close`.
        answer_seconds: a tracker that takes or says nothing for so long is taken for stuck.

    Raises:
        ConfigurationError: the tracker is not installed.
    """

    tracker: ClassVar[str]
    end_seconds: ClassVar[float] = 20.0
    answer_seconds: float = 300.0

    def __init__(self, project: str | None = None) -> None:
        try:
            version(self.tracker)
        except PackageNotFoundError:
            extra = f"needs the extra '{self.tracker}': pip install \"bbrl_exp[{self.tracker}]\""
            raise ConfigurationError(extra) from None
        self._project = project
        self.where = ""
        self.sent = (0, 0)
        self._is_abandoned = False
        self._kill: Callable[[], None] = lambda: None

    def start(self, facts: RunFacts) -> None:
        """Starts the tracker's process, and waits until the remote run is there."""
        # -P: a folder 'wandb' where the command was called is not the package.
        command = [sys.executable, "-P", "-m", "bbrl_exp.tracking.remote_process", str(os.getpid())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the run's
        )
        self._kill = self._process.kill
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._unread = b""
        options = [f"{group}={option}" for group, option in (("agent", facts.agent), ("env", facts.env)) if option]
        settings = [override for override in facts.overrides if not override.lstrip("+~").startswith(_NO_SETTINGS)]
        about = {"commit": facts.git_commit, "config_hash": facts.config_hash, "env_id": facts.env_id}
        about_run = {
            "tracker": self.tracker,
            "folder": str(facts.folder.absolute()),
            "run_id": facts.run_id,
            "name": facts.name,
            "group": facts.group,
            "project": self._project,
            "tags": list(dict.fromkeys([*options, *settings])),
            "config": {**read_resolved(facts.folder), "run": about},
        }
        with self._ended_on_error():
            if self._is_abandoned:
                raise RemoteError("dropped before its start")
            self._send(start=about_run)
            self.where = self._answer("ready")
        facts.console.line(f"{self.tracker}: {self.where}")

    def resume(self, position: Any) -> None:
        """Sends what the run's folder holds and the tracker does not, as a sink may have been behind the run."""
        with self._ended_on_error():
            self._send(resume=True)

    def scalars(self, env_steps: NDArray[np.int64], names: Sequence[str], values: NDArray[np.float64]) -> None:
        """Sends a row per step."""
        numbers = ({n: v for n, v in zip(names, row, strict=True) if v == v} for row in values.tolist())
        self._rows(zip(env_steps.tolist(), numbers, strict=True))

    def episodes(
        self,
        env_steps: NDArray[np.int64],
        environments: NDArray[np.int64],
        returns: NDArray[np.float64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Sends a row per episode."""
        columns = zip(env_steps.tolist(), returns.tolist(), lengths.tolist(), strict=True)
        self._rows((step, {TRAINING_RETURNS: total, TRAINING_LENGTHS: length}) for step, total, length in columns)

    def histogram(self, env_steps: int, name: str, values: NDArray[Any]) -> None:
        """Sends a row per value: every return of an evaluation."""
        self._rows((env_steps, {name: value}) for value in values.tolist())

    def image(self, env_steps: int, name: str, data: bytes, size: tuple[int, int]) -> None:
        """Sends a picture, which may move."""
        with self._ended_on_error():
            self._send(image=[env_steps, name, base64.b64encode(data).decode()])

    def results(self, env_steps: int, values: Mapping[str, float | None]) -> None:
        """Sends what came of the run."""
        with self._ended_on_error():
            self._send(results=[env_steps, {name: value for name, value in values.items() if value is not None}])

    def close(self, status: str) -> None:
        """Sends the status, and waits until the tracker has everything."""
        with self._ended_on_error():
            self._send(close=status)
            self.sent = tuple(self._answer("done"))
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                stream.close()
            self._wait()

    def abandon(self) -> None:
        """Ends the tracker's process, so that another one can send the run at once."""
        self._is_abandoned = True
        self._kill()

    def _rows(self, rows: Iterator[tuple[int, dict[str, float]]]) -> None:
        with self._ended_on_error():
            self._send(rows=[row for row in rows if row[1]])

    def _send(self, **message: object) -> None:
        """Hands over a line; waits in short pieces, so that a thread whose tracker is stuck can be ended."""
        assert self._process.stdin is not None
        file = self._process.stdin.fileno()
        rest = memoryview(json.dumps(message, default=str).encode() + b"\n")
        deadline = time.monotonic() + self.answer_seconds
        while rest:
            if not select.select([], [file], [], _LOOK_SECONDS)[1]:
                self._check_time(deadline)
                continue
            try:
                rest = rest[os.write(file, rest) :]
                deadline = time.monotonic() + self.answer_seconds
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self._answer("done")  # raises why it ended

    def _answer(self, awaited: str) -> Any:
        """The tracker's next message.

        Raises:
            RemoteError: it has failed, or is stuck.
        """
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        deadline = time.monotonic() + self.answer_seconds
        while b"\n" not in self._unread:
            if not select.select([file], [], [], _LOOK_SECONDS)[0]:
                self._check_time(deadline)
            elif not (read := os.read(file, 65536)):
                raise RemoteError(f"the process of {self.tracker} has died")
            else:
                self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if "in_use" in answer:
            raise InUseError(answer["in_use"])
        if awaited not in answer:
            raise RemoteError(answer.get("error", "no answer"))
        return answer[awaited]

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise RemoteError(f"{self.tracker} has not answered within {self.answer_seconds:g} s")

    @contextlib.contextmanager
    def _ended_on_error(self) -> Iterator[None]:
        """Ends the tracker's process where the sink fails or is ended: nothing of it outlives the run."""
        try:
            yield
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + self.answer_seconds
        while self._process.poll() is None:
            self._check_time(deadline)
            time.sleep(0.01)


class RemoteError(BbrlExpError):
    """A tracker has failed."""


class InUseError(RemoteError):
    """Another process is sending the run to the tracker."""


class WandbSink(RemoteSink):
    """Weights & Biases: online after ``wandb login``, or in files with ``WANDB_MODE=offline``.

    ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_RUN_GROUP``, ``WANDB_BASE_URL`` and its other variables have their
    usual meaning. Its files are in ``WANDB_DIR``, or else in the run's folder.
    """

    tracker: ClassVar[str] = "wandb"


class TrackioSink(RemoteSink):
    """Trackio's local database, in ``TRACKIO_DIR``, or else in the folder ``trackio`` of the run's folder."""

    tracker: ClassVar[str] = "trackio"
