"""The folder of a tracker in a run's folder, ``wandb`` or ``trackio``: one process at a time sends the run there.

``sessions.json`` names the sessions that have sent the run, in their order: ``{"<where>": ["<session>", …]}``.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from bbrl_exp.records.files import read_json, remove_unfinished, write_json
from bbrl_exp.records.layout import UnreadableError

_FILE = "sessions.json"
_WAIT_SECONDS = 8.0  # the process of a run that was killed ends within 6 s


class SentByAnotherError(Exception):
    """Another process sends the run."""


class SentRecords:
    """The exclusive right to send a run to a tracker, and who has; ends with the process that holds it.

    Args:
        run_folder: of the run.
        tracker: its name.

    Raises:
        SentByAnotherError: on entering, another process has held it for some seconds.
        OSError: on entering, the folder cannot be made.
    """

    def __init__(self, run_folder: Path, tracker: str) -> None:
        self.folder = run_folder / tracker

    def __enter__(self) -> SentRecords:
        self.folder.mkdir(exist_ok=True)
        self._file = os.open(self.folder, os.O_RDONLY)
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_unfinished(self.folder, (_FILE,))
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self._file)
                    raise SentByAnotherError(f"another process is sending it to {self.folder.name} right now") from None
                time.sleep(0.1)

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def sessions(self, where: str) -> list[str]:
        """The sessions that have sent to ``where``, in their order."""
        return list(map(str, self._contents().get(where, ())))

    def add_session(self, where: str, session: str) -> None:
        """Notes a session, before it sends anything."""
        write_json(self.folder / _FILE, {**self._contents(), where: [*self.sessions(where), session]})

    def _contents(self) -> dict[str, list[str]]:
        try:
            return read_json(self.folder / _FILE)
        except UnreadableError:
            return {}
