"""A run in Weights & Biases, online or in offline files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bbrl_exp.records.sent import SentRecords
from bbrl_exp.tracking.new_only import NewOnly
from bbrl_exp.tracking.remote import DEFAULT_PROJECT
from bbrl_exp.tracking.remote_process import RemoteRun
from bbrl_exp.tracking.wandb_files import STEP, STEPS, Row, SessionFile

_LONGEST_TAG = 64


class WandbClient:
    """A run of a project of Weights & Biases, whose x axis is ``env_steps``.

    W&B's own step counts the rows of the run, across sessions: W&B drops a row that it has. Where offline files hold
    the run already, a session begins with the first record that they do not hold.

    Args:
        run: its facts.
        sent: the run's folder for W&B; its files are there unless ``WANDB_DIR`` names another.

    Raises:
        OSError: W&B has rows of the run that neither the files nor W&B itself names.
    """

    def __init__(self, run: RemoteRun, sent: SentRecords) -> None:
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            os.environ.setdefault(name, str(sent.folder / "cache"))
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb, self._about = wandb, run
        self._folder = Path(os.environ.get("WANDB_DIR") or sent.folder.parent)
        self._project = run.project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
        self._settings = wandb.Settings(**_settings())
        self._run: Any = None
        self._summary: dict[str, Any] = {}
        self._n_rows = 0
        self.new = NewOnly()
        self.is_off = False
        if wandb.setup().settings.mode in ("offline", "dryrun"):
            pattern = self._folder / "wandb" / f"offline-run-*-{run.run_id}"
            for path in sorted(pattern.parent.glob(pattern.name)):
                file = SessionFile.read(path, run.run_id)
                if file.project == self._project:
                    self._summary |= file.summary
                    self._add_known(file.rows)
            place = shlex.quote(os.path.relpath(pattern.parent))
            self.where = f"offline; to send it: wandb sync {place}/{pattern.name}"
            if not self._n_rows:
                self._begin()
        else:
            session = self._session
            self.where = session.url or "nothing is sent: WANDB_MODE=disabled"
            self.is_off = not session.url
            if not self.is_off:
                earlier = sent.sessions(self.where)
                sent.add_session(self.where, Path(session.dir).parent.name)
                self._add_known(self._rows_online(earlier))

    @property
    def _session(self) -> Any:
        """The session, begun now at the latest."""
        if self._run is None:
            self._begin()
        return self._run

    def _begin(self) -> None:
        run, variables = self._about, os.environ
        own_tags = [tag for tag in variables.get("WANDB_TAGS", "").split(",") if tag]
        tags = [*own_tags, *(tag if len(tag) <= _LONGEST_TAG else f"{tag[: _LONGEST_TAG - 1]}…" for tag in run.tags)]
        self._run = self._wandb.init(
            project=self._project,
            id=run.run_id,
            name=variables.get("WANDB_NAME") or run.name,
            group=variables.get("WANDB_RUN_GROUP") or run.group,
            tags=list(dict.fromkeys(tags)),
            config=run.config,
            dir=str(self._folder),
            resume="allow",
            settings=self._settings,
        )
        # Not `run.step`, which is 0 in a resumed session until its first row.
        self._n_rows = max(self._n_rows, self._run.starting_step)
        self._run.define_metric(STEPS)
        self._run.define_metric("*", step_metric=STEPS)

    def _rows_online(self, sessions: Iterable[str]) -> list[Row]:
        """The rows of the remote run as it was when this session began.

        A session repeats, under the same numbers, what W&B has not taken of those before it.
        """
        n_rows = self._run.starting_step
        rows: dict[int, Row] = {}
        for session in sessions:
            found = SessionFile.read(self._folder / "wandb" / session, self._about.run_id).rows
            first = min((row.number for row in found), default=n_rows)
            rows = {number: row for number, row in rows.items() if number < first} | {row.number: row for row in found}
        if all(number in rows for number in range(n_rows)):
            return [rows[number] for number in range(n_rows)]
        run = self._wandb.Api().run(f"{self._run.entity}/{self._run.project}/{self._about.run_id}")
        at_wandb = [
            Row(row[STEP], row.get(STEPS), tuple(name for name, value in row.items() if value is not None))
            for row in run.scan_history()
        ]
        if max((row.number for row in at_wandb), default=-1) < n_rows - 1:
            raise OSError(f"W&B has {n_rows} rows of the run and does not name them yet; try again later")
        return at_wandb

    def _add_known(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._n_rows = max(self._n_rows, row.number + 1)
            if row.env_steps is not None:
                self.new.add(row.env_steps, (name for name in row.names if name != STEPS and not name.startswith("_")))

    def row(self, env_steps: int, numbers: Mapping[str, Any]) -> None:
        """Records numbers at a step."""
        self._session.log({STEPS: env_steps, **numbers}, step=self._n_rows)
        self._n_rows += 1

    def image(self, env_steps: int, name: str, path: Path) -> None:
        """Records a picture; one that moves as a video."""
        kind = self._wandb.Video(str(path), format="gif") if path.suffix == ".gif" else self._wandb.Image(str(path))
        self.row(env_steps, {name: kind})

    def results(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Records the results as summary values."""
        self._summarise(values)

    def finish(self, status: str) -> None:
        """Records the status as a summary value, and waits until W&B has everything."""
        self._summarise({"status": status})
        if self._run is not None:
            self._run.finish(exit_code=1 if status in ("failed", "diverged") else 0)
        self._wandb.teardown()

    def _summarise(self, values: Mapping[str, Any]) -> None:
        if any(self._summary.get(name) != value for name, value in values.items()):
            self._session.summary.update(dict(values))


def _settings() -> dict[str, Any]:
    """No output, and nothing sent but the records unless a variable of W&B asks for it."""
    quiet: Mapping[str, Mapping[str, Any]] = {
        "DISABLE_GIT": {"disable_git": True},
        "DISABLE_CODE": {"disable_code": True, "save_code": False},
        "X_DISABLE_STATS": {"x_disable_stats": True},
        "X_DISABLE_META": {"x_disable_meta": True},
        "X_SAVE_REQUIREMENTS": {"x_save_requirements": False},
    }
    settings: dict[str, Any] = {"silent": True, "console": "off"}
    if "WANDB_HOST" not in os.environ:
        settings["host"] = ""  # else the machine's name is sent
    for name, values in quiet.items():
        if not {f"WANDB_{name}", f"WANDB_{name.replace('X_', '_')}"} & set(os.environ):
            settings |= values
    return settings
