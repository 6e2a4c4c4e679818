"""A run in Trackio's local database."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from bbrl_exp.records.sent import SentRecords
from bbrl_exp.tracking.new_only import NewOnly
from bbrl_exp.tracking.remote import DEFAULT_PROJECT
from bbrl_exp.tracking.remote_process import RemoteRun

FINAL = "final"


class TrackioClient:
    """A run of a project of Trackio; its steps are environment steps, and the results are ``final/<name>``.

    Args:
        run: its facts.
        sent: the run's folder for Trackio, where the database is unless ``TRACKIO_DIR`` names another.
    """

    def __init__(self, run: RemoteRun, sent: SentRecords) -> None:
        folder = os.environ.setdefault("TRACKIO_DIR", str(sent.folder))
        os.environ.setdefault("TRACKIO_STORAGE_MODE", "sqlite")  # one process at a time writes a run
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.environ["HF_HUB_OFFLINE"] = "1"  # else Trackio asks the hub for the user's name
        import trackio
        from trackio.run import Run
        from trackio.sqlite_storage import SQLiteStorage

        project = run.project or DEFAULT_PROJECT
        SQLiteStorage.validate_project_name(project)
        self._trackio = trackio
        self._count_rows = partial(SQLiteStorage.get_log_count, project, run_id=run.run_id)
        self._n_rows = self._count_rows()
        self.new = NewOnly()
        self.is_off = False
        if self._n_rows:
            for step, names in _rows(SQLiteStorage.get_project_db_path(project), run.run_id):
                self.new.add(step, names)
        config = {**run.config, "tags": run.tags}
        self._run = Run(None, project, None, name=run.name, run_id=run.run_id, group=run.group, config=config)
        place = shlex.quote(os.path.relpath(folder))
        self.where = f"TRACKIO_DIR={place} trackio show --project {shlex.quote(project)}"

    def row(self, env_steps: int, numbers: Mapping[str, float]) -> None:
        """Records numbers at a step."""
        self._log(env_steps, numbers)

    def image(self, env_steps: int, name: str, path: Path) -> None:
        """Records a picture; one that moves as a video."""
        kind = self._trackio.Video if path.suffix == ".gif" else self._trackio.Image
        self._log(env_steps, {name: kind(str(path))})

    def results(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Records the results, unless they are there for this step."""
        named = {f"{FINAL}/{name}": value for name, value in values.items()}
        fresh = {name: value for name, value in named.items() if self.new.is_new(env_steps, name)}
        if fresh:
            self._log(env_steps, fresh)

    def finish(self, status: str) -> None:
        """Writes what is left.

        Raises:
            OSError: the database has not taken everything, about which Trackio raises nothing.
        """
        self._run.finish()  # waits 30 s at most
        sender = self._run._local_sender_thread
        if sender is not None:
            sender.join()
        if (missing := self._n_rows - self._count_rows()) > 0:
            raise OSError(f"Trackio's database has not taken {missing} of {self._n_rows} rows")

    def _log(self, env_steps: int, values: Mapping[str, Any]) -> None:
        self._run.log(dict(values), step=env_steps)
        self._n_rows += 1


def _rows(database: Path, run_id: str) -> Iterator[tuple[int, Iterable[str]]]:
    """The step and the names of each row of a run; Trackio's own reader holds all values at once."""
    with closing(sqlite3.connect(database, timeout=60.0)) as connection:
        query = "SELECT step, metrics FROM metrics WHERE run_id = ? ORDER BY step"
        for step, metrics in connection.execute(query, (run_id,)):
            yield step, json.loads(metrics)
