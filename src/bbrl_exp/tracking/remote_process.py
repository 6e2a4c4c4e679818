"""The process of a tracker: takes lines of JSON, hands to the tracker what it does not have yet, and says how it went.

It ends when its standard input does, and with the process that started it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from bbrl_exp.errors import described
from bbrl_exp.records.layout import EVENTS
from bbrl_exp.records.metrics import Point, each_point
from bbrl_exp.records.sent import SentByAnotherError, SentRecords
from bbrl_exp.tracking.new_only import NewOnly

_LOOK_SECONDS = 1.0
_LAST_SECONDS = 5.0
_RESERVED = {"", "project", "run", "timestamp", "step", "time", "metrics", "env_steps"}


@dataclass(frozen=True)
class RemoteRun:
    """What a tracker is to know of a run.

    Attributes:
        folder: of the run.
        run_id: the id of the remote run.
        name: of the folder.
        group: name of the sweep; None without one.
        project: that was asked for; None for the tracker's own.
        tags: the settings.
        config: the resolved configuration.
    """

    folder: str
    run_id: str
    name: str
    group: str | None
    project: str | None
    tags: list[str]
    config: dict[str, Any]


class Client(Protocol):
    """A tracker that has begun, or resumed, a remote run.

    Attributes:
        where: the place of the records, in words.
        new: what it does not have yet.
        is_off: whether it takes nothing at all.
    """

    where: str
    new: NewOnly
    is_off: bool

    def row(self, env_steps: int, numbers: Mapping[str, float]) -> None:
        """Records numbers at a step."""

    def image(self, env_steps: int, name: str, path: Path) -> None:
        """Records a PNG or GIF file, which may be removed afterwards only when :meth:`finish` has returned."""

    def results(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Records what came of the run."""

    def finish(self, status: str) -> None:
        """Ends the session; returns when the tracker has everything."""


class Service:
    """Hands to a tracker what it does not have yet.

    Args:
        client: the tracker.
        run_folder: of the run.
        pictures: a folder for files that the tracker reads, made where it is needed.
    """

    def __init__(self, client: Client, run_folder: Path, pictures: Path) -> None:
        self._client, self._run_folder, self._pictures = client, run_folder, pictures
        self.counts = [0, 0]

    def row(self, env_steps: int, numbers: Mapping[str, float]) -> None:
        """Numbers at a step."""
        named = {_not_reserved(name): value for name, value in numbers.items()}
        fresh = {name: value for name, value in named.items() if self._client.new.is_new(env_steps, name)}
        if fresh:
            self._client.row(env_steps, fresh)
            self.counts[0] += len(fresh)

    def image(self, env_steps: int, name: str, data: bytes) -> None:
        """A PNG or GIF file."""
        name = _not_reserved(name)
        if self._client.new.is_new(env_steps, name):
            self._pictures.mkdir(exist_ok=True)
            suffix = "gif" if data[:3] == b"GIF" else "png"
            path = self._pictures / f"{name.replace('/', '_')}_{env_steps}.{suffix}"
            path.write_bytes(data)
            self._client.image(env_steps, name, path)
            self.counts[1] += 1

    def resume(self) -> None:
        """All that the run's folder holds; it may be given once more afterwards, from any checkpoint on."""
        from bbrl_exp.records.event_file import read_pictures  # a run that begins does without it

        for env_steps, numbers in rows_of(each_point(self._run_folder)):
            self.row(env_steps, numbers)
        for path in sorted(self._run_folder.glob(f"{EVENTS}*")):
            for picture in read_pictures(path):
                self.image(picture.env_steps, picture.name, picture.data)
        self._client.new.restart()

    def finish(self, status: str) -> None:
        """The end, after which the tracker has everything."""
        self._client.finish(status)
        if self._pictures.is_dir():
            shutil.rmtree(self._pictures)


def _not_reserved(name: str) -> str:
    """The name, changed where a tracker would rename or drop it because it has such a column."""
    return f"metrics/{name}" if name in _RESERVED or name.startswith("_") else name


def rows_of(points: Iterable[Point]) -> Iterator[tuple[int, dict[str, float]]]:
    """Points as they were recorded together: neighbours at one step, each name once."""
    for env_steps, neighbours in groupby(points, lambda point: point.env_steps):
        row: dict[str, float] = {}
        for point in neighbours:
            if point.name in row:
                yield env_steps, row
                row = {}
            row[point.name] = point.value
        yield env_steps, row


def _serve(client: Client, sent: SentRecords) -> None:
    service = Service(client, sent.folder.parent, sent.folder / "pictures")
    for line in sys.stdin:
        message = json.loads(line)
        if "resume" in message:
            service.resume()
        for env_steps, numbers in message.get("rows", ()):
            service.row(env_steps, numbers)
        if "image" in message:
            env_steps, name, encoded = message["image"]
            service.image(env_steps, name, base64.b64decode(encoded))
        if "results" in message:
            client.results(*message["results"])
        if "close" in message:
            service.finish(message["close"])
            _say(done=[0, 0] if client.is_off else service.counts)
            return
    service.finish("interrupted")  # whoever sent the records has died


def _client(tracker: str, run: RemoteRun, sent: SentRecords) -> Client:
    if tracker == "wandb":
        from bbrl_exp.tracking.wandb_client import WandbClient

        return WandbClient(run, sent)
    from bbrl_exp.tracking.trackio_client import TrackioClient

    return TrackioClient(run, sent)


def _say(**message: object) -> None:
    os.write(_ANSWERS, json.dumps(message).encode() + b"\n")


def _end_with(parent: int) -> None:
    """Ends this process some seconds after the one that started it, whatever it waits for."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    time.sleep(_LAST_SECONDS)
    os._exit(1)


def main() -> int:
    """Serves one sink; gives the exit code."""
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    try:
        facts = json.loads(sys.stdin.readline())["start"]
        tracker = facts.pop("tracker")
        with SentRecords(Path(facts["folder"]), tracker) as sent:
            client = _client(tracker, RemoteRun(**facts), sent)
            _say(ready=client.where)
            _serve(client, sent)
    except SentByAnotherError as error:
        _say(in_use=str(error))
        return 1
    except BaseException as error:
        _say(error=" ".join(described(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    # What the tracker prints is dropped; the answers have a separate file.
    _ANSWERS = os.dup(1)
    os.dup2(2, 1)
    code = main()
    os._exit(code)  # without the tracker's own hooks, which may wait for a network
