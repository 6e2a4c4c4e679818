"""The process of a tracker: takes lines of JSON, hands to the tracker what it does not have yet, and says how it went.

It ends when its standard input does, and with the process that started it.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bbrl_exp.errors import described
from bbrl_exp.records.sent import SentByAnotherError, SentRecords, Series

_LOOK_SECONDS = 1.0
_LAST_SECONDS = 5.0


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
        known: what it has already.
    """

    where: str
    known: Series

    def row(self, env_steps: int, numbers: Mapping[str, float]) -> None:
        """Records numbers at a step."""

    def image(self, env_steps: int, name: str, path: Path) -> None:
        """Records a PNG or GIF file, which may be removed afterwards only when :meth:`finish` has returned."""

    def results(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Records what came of the run."""

    def finish(self, status: str) -> None:
        """Ends the session; returns when the tracker has everything."""


@dataclass
class NewOnly:
    """Leaves out what a tracker has already.

    The records of one name come in the order of their steps, and always in the same order at one step. So of each
    name its last step and the number of its records there say what is new.

    Args:
        known: what the tracker has.
    """

    known: Series
    met: Series = field(default_factory=dict)

    def is_new(self, env_steps: int, name: str) -> bool:
        """Whether a record is new, which it no longer is after the call."""
        last, count = self.met.get(name, (-1, 0))
        self.met[name] = (env_steps, count + 1 if env_steps == last else 1)
        return self.met[name] > self.known.get(name, (-1, 0))

    def all(self) -> Series:
        """What the tracker has when it has taken what was new."""
        return self.known | {name: max(at, self.known.get(name, at)) for name, at in self.met.items()}


def add_to(series: Series, env_steps: int, names: Iterable[str]) -> None:
    """Counts records among those that a tracker has."""
    for name in names:
        last, count = series.get(name, (-1, 0))
        if env_steps >= last:
            series[name] = (env_steps, count + 1 if env_steps == last else 1)


def _serve(client: Client, sent: SentRecords) -> None:
    new, counts = NewOnly(dict(client.known)), [0, 0]
    pictures = sent.folder / "pictures"
    for line in sys.stdin:
        message = json.loads(line)
        for env_steps, numbers in message.get("rows", ()):
            fresh = {name: value for name, value in numbers.items() if new.is_new(env_steps, name)}
            if fresh:
                client.row(env_steps, fresh)
                counts[0] += len(fresh)
        if "image" in message:
            env_steps, name, encoded = message["image"]
            if new.is_new(env_steps, name):
                data = base64.b64decode(encoded)
                pictures.mkdir(exist_ok=True)
                path = pictures / f"{name.replace('/', '_')}_{env_steps}.{'gif' if data[:3] == b'GIF' else 'png'}"
                path.write_bytes(data)
                client.image(env_steps, name, path)
                counts[1] += 1
        if "results" in message:
            env_steps, values = message["results"]
            client.results(env_steps, values)
        if "close" in message:
            client.finish(message["close"])
            sent.write(new.all())
            for path in pictures.glob("*"):
                path.unlink()
            if pictures.is_dir():
                pictures.rmdir()
            _say(done=counts)
            return
    client.finish("interrupted")  # whoever sent the records has died


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
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        told = json.loads(sys.stdin.readline())["start"]
        tracker = told.pop("tracker")
        with SentRecords(Path(told["folder"]), tracker) as sent:
            client = _client(tracker, RemoteRun(**told), sent)
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
    # What the tracker prints is for nobody: the answers have a file of their own.
    _ANSWERS = os.dup(1)
    os.dup2(2, 1)
    code = main()
    os._exit(code)  # without the tracker's own hooks, which may wait for a network
