"""Has a sink send the records in a run's folder, as where the run resumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import load_config, read_resolved
from bbrl_exp.records.layout import OVERRIDES, SWEEP_CONFIG, UnreadableError
from bbrl_exp.records.provenance import run_id_of
from bbrl_exp.records.summary import RESULTS, read_summary, status_of
from bbrl_exp.tracking.console import Console
from bbrl_exp.tracking.remote import RemoteSink, TrackioSink, WandbSink
from bbrl_exp.tracking.sink import RunFacts

TRACKERS: Mapping[str, type[RemoteSink]] = {sink.tracker: sink for sink in (WandbSink, TrackioSink)}


@dataclass(frozen=True)
class LocalRun:
    """A run, read from its folder.

    Attributes:
        facts: about the run; its hyperparameters are not among them.
        summary: the contents of ``summary.json``.
    """

    facts: RunFacts
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, console: Console) -> LocalRun:
        """Reads the folder of a run of any status.

        Args:
            folder: of the run.
            console: where the sink may print.

        Raises:
            ConfigurationError: it is not a run folder, or a file in it cannot be read.
        """
        summary = read_summary(folder)
        if summary is None:
            raise ConfigurationError(f"folder {folder} is not a run folder (no summary.json that can be read)")
        try:
            config, overrides = read_resolved(folder), tuple(map(str, load_config(folder / OVERRIDES)))
        except UnreadableError as error:
            raise ConfigurationError(str(error)) from error
        path = folder.resolve()
        size = config.get("batch_size"), config.get("total_steps")
        return cls(
            RunFacts(
                folder=folder,
                run_id=run_id_of(folder, summary),
                name=path.name,
                group=path.parent.name if (path.parent / SWEEP_CONFIG).exists() else None,
                agent=summary.get("agent"),
                env=summary.get("env"),
                env_id=summary.get("env_id"),
                seed=summary.get("seed") or 0,
                batch_size=size[0] if isinstance(size[0], int) else 1,
                total_steps=size[1] if isinstance(size[1], int) else 0,
                config=config,
                config_hash=summary.get("config_hash") or "",
                overrides=overrides,
                hyperparameters={},
                setting="",
                git_commit=summary.get("git_commit"),
                resumed_at=None,
                console=console,
            ),
            summary,
        )

    def project(self, tracker: str) -> str | None:
        """The project that the run itself was to be sent to; None where it names none.

        Raises:
            ConfigurationError: it calls a function, which is not called here.
        """
        tracking = self.facts.config.get("tracking")
        sinks = tracking.get("sinks") if isinstance(tracking, dict) else None
        for node in sinks.values() if isinstance(sinks, dict) else ():
            if isinstance(node, dict) and str(node.get("_target_")).endswith(TRACKERS[tracker].__name__):
                project = node.get("project")
                if "${" in str(project):
                    raise ConfigurationError(f"the project of the run is '{project}', not a name: use --project")
                return None if project is None else str(project)
        return None

    def hand_to(self, sink: RemoteSink) -> None:
        """Has a sink send everything that it has not sent: numbers, pictures, and results unless the run is running.

        It waits for the tracker as long as it takes.
        """
        sink.answer_seconds = math.inf
        sink.start(self.facts)
        sink.resume(None)
        status = status_of(self.summary) or "failed"
        if status != "running":
            sink.results(self.summary.get("env_steps") or 0, {name: self.summary.get(name) for name in RESULTS})
        sink.close(status)
