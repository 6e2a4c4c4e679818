"""Reads one run's folder: what the run is, what came of it, and what is wrong with its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbrl_exp.records.config import overridden, read_texts
from bbrl_exp.records.files import read_json
from bbrl_exp.records.layout import SUMMARY, UnreadableError
from bbrl_exp.records.metrics import Metrics, is_usable, read_metrics
from bbrl_exp.records.summary import STATUSES


@dataclass(frozen=True)
class Run:
    """A run, as far as its folder can be read.

    Attributes:
        status: that of its summary, or ``damaged``.
        error: why it did not complete, or what is wrong with its summary.
        numbers: the keys of the summary that have a finite number.
        texts: commit and versions.
        config: dotted keys and values, with the groups' options at ``agent``, ``env`` and ``experiment``.
        has_config: whether the configuration is there; else ``config`` is what the summary says of it.
        faults: what is wrong with the files of a run that is not damaged as a whole.
    """

    folder: Path
    status: str
    error: str | None = None
    agent: str | None = None
    env: str | None = None
    env_id: str | None = None
    seed: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    has_config: bool = False
    config_hash: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    faults: tuple[str, ...] = ()

    @property
    def is_damaged(self) -> bool:
        """Whether nothing is known of the run."""
        return self.status == "damaged"


def read_run(folder: Path) -> Run:
    """The run in ``folder``; whatever is wrong with its files is reported and not raised."""
    try:
        summary = read_json(folder / SUMMARY)
    except UnreadableError as error:
        return Run(folder, "damaged", str(error))
    status = summary.get("status")
    if status not in STATUSES:
        return Run(folder, "damaged", f"{SUMMARY} has status {json.dumps(status)}, not one of {', '.join(STATUSES)}")
    return _run_of(folder, status, summary)


def _run_of(folder: Path, status: str, summary: Mapping[str, Any]) -> Run:
    faults: list[str] = []
    overrides = summary.get("overrides")
    changed = overridden([str(override) for override in overrides] if isinstance(overrides, list) else [])
    agent, env, env_id = (_text(summary.get(key)) for key in ("agent", "env", "env_id"))
    if env is None and env_id is None:
        faults.append(f"{SUMMARY} names no environment")
    numbers = {key: number for key, value in summary.items() if (number := _number(value)) is not None}
    try:
        config, has_config = read_texts(folder), True
    except UnreadableError as error:
        faults.append(str(error))
        known = {key: str(summary[key]) for key in ("batch_size", "seed") if summary.get(key) is not None}
        config, has_config = known | changed, False
    options = {"agent": agent, "env": env, "experiment": changed.get("experiment")}
    metrics = read_metrics(folder)
    seed = summary.get("seed")
    return Run(
        folder=folder,
        status=status,
        error=_text(summary.get("error")),
        agent=agent,
        env=env,
        env_id=env_id,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        numbers=numbers,
        texts=_texts(summary),
        config=config | {key: value for key, value in options.items() if value is not None},
        has_config=has_config,
        config_hash=_text(summary.get("config_hash")),
        metrics=metrics,
        faults=(*faults, *metrics.faults),
    )


def _texts(summary: Mapping[str, Any]) -> dict[str, str]:
    versions = summary.get("versions")
    found = (
        {f"version of {name}": str(version) for name, version in versions.items()} if isinstance(versions, dict) else {}
    )
    commit = _text(summary.get("git_commit"))
    return found | ({"commit": commit} if commit else {})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    """The value as a float; None where it is not a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if is_usable(number) else None
