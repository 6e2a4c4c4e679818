"""Finds the folders of runs, and reads them: what a run is, what came of it, what is wrong with its files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.config import overridden, read_texts, with_added_keys
from bbrl_exp.records.files import read_json
from bbrl_exp.records.layout import CHECKPOINTS, HYDRA, METRICS, SUMMARY, SWEEP_CONFIG, SWEEP_TABLE, UnreadableError
from bbrl_exp.records.metrics import Metrics, is_usable, read_metrics
from bbrl_exp.records.summary import STATUSES, status_of
from bbrl_exp.records.tables import read_sweep_table

_BEGUN = {HYDRA, METRICS}
_NOT_SEARCHED = {HYDRA, ".git", CHECKPOINTS}
_OF_A_SWEEP = {SWEEP_TABLE, SWEEP_CONFIG}


@dataclass(frozen=True)
class Run:
    """A run, as far as its folder can be read.

    Attributes:
        status: that of its summary, or ``damaged``.
        error: why it did not complete, or what is wrong with its summary.
        judged_by: how the policy acts in its evaluations: ``mode`` or ``sample``.
        stopped_because: why it is complete before ``total_steps``; None where it is not.
        extended_from: environment steps at which it was complete before it was extended.
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
    judged_by: str = "mode"
    stopped_because: str | None = None
    extended_from: tuple[int, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    faults: tuple[str, ...] = ()

    @property
    def is_damaged(self) -> bool:
        """Whether nothing is known of the run."""
        return self.status == "damaged"


@dataclass(frozen=True)
class Problem:
    """Something that is not a run, and why."""

    folder: Path
    words: str


def load_runs(*folders: str | os.PathLike[str]) -> list[Run]:
    """The runs in folders and below: their configuration, summary and curves, as a report reads them.

    A run whose files cannot be read is among them with the status ``damaged``.

    Args:
        folders: of runs, of sweeps, or above them.

    Raises:
        ConfigurationError: a folder is not there, or no run is below any of them.
    """
    found, _ = find_runs([Path(folder) for folder in folders])
    return [read_run(folder) for folder in found]


def find_runs(folders: Sequence[Path]) -> tuple[list[Path], list[Problem]]:
    """The runs in ``folders`` and below, symbolic links followed, each folder visited once.

    Returns:
        Folders of runs, in the order of the folders given and by path in each; folders that cannot be read, and jobs
        that never began.

    Raises:
        ConfigurationError: a folder is not there, or no run is below any of them.
    """
    for folder in folders:
        if not folder.is_dir():
            near = did_you_mean(folder.name, _names(folder.parent))
            raise ConfigurationError(f"'{folder}': {'not a folder' if folder.exists() else 'no such folder'}{near}")
    problems: list[Problem] = []
    visited: set[str] = set()
    runs = [found for folder in folders for found in _below(folder, visited, problems)]
    if not runs and not problems:
        below = " ".join(repr(str(folder)) for folder in folders)
        raise ConfigurationError(f"no runs below {below}: no {SUMMARY} there")
    known = {os.path.realpath(run) for run in runs if (run / SUMMARY).exists()}
    return runs, [problem for problem in problems if os.path.realpath(problem.folder) not in known]


def read_run(folder: Path) -> Run:
    """The run in ``folder``; whatever is wrong with its files is reported and not raised."""
    try:
        summary = read_json(folder / SUMMARY)
    except UnreadableError as error:
        return Run(folder, "damaged", str(error))
    status = status_of(summary)
    if status not in STATUSES:
        shown = json.dumps(summary.get("status"))
        return Run(folder, "damaged", f"{SUMMARY} has status {shown}, not one of {', '.join(STATUSES)}")
    faults: list[str] = []
    overrides = summary.get("overrides")
    changed = overridden([str(override) for override in overrides] if isinstance(overrides, list) else [])
    agent, env, env_id = (_text(summary.get(key)) for key in ("agent", "env", "env_id"))
    if env is None and env_id is None:
        faults.append(f"{SUMMARY} names no environment")
    numbers = {key: number for key, value in summary.items() if (number := _number(value)) is not None}
    try:
        config, has_config = with_added_keys(read_texts(folder)), True
    except UnreadableError as error:
        faults.append(str(error))
        known = {key: str(summary[key]) for key in ("batch_size", "seed") if summary.get(key) is not None}
        config, has_config = known | changed, False
    options = {"agent": agent, "env": env, "experiment": changed.get("experiment")}
    judged_by = "sample" if summary.get("eval_policy") == "sample" else "mode"
    metrics = read_metrics(folder, judged_by)
    extended_from = summary.get("extended_from")
    seed = summary.get("seed")
    return Run(
        folder=folder,
        status=status,
        error=_text(summary.get("error")),
        agent=agent,
        env=env,
        env_id=env_id,
        seed=seed if _is_integer(seed) else None,
        numbers=numbers,
        texts=_texts(summary),
        config=config | {key: value for key, value in options.items() if value is not None},
        has_config=has_config,
        config_hash=_text(summary.get("config_hash")),
        judged_by=judged_by,
        stopped_because=_text(summary.get("stopped_because")),
        extended_from=tuple(filter(_is_integer, extended_from if isinstance(extended_from, list) else ())),
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


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


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


def _below(folder: Path, visited: set[str], problems: list[Problem]) -> Iterator[Path]:
    pending = [folder]
    while pending:
        here = pending.pop()
        real = os.path.realpath(here)
        if real in visited:
            continue
        visited.add(real)
        try:
            with os.scandir(here) as entries:
                found = {entry.name: _is_folder(entry) for entry in entries}
        except OSError as error:
            problems.append(Problem(here, f"cannot be read: {error.strerror}"))
            continue
        if SUMMARY in found:
            yield here
            continue
        if _BEGUN & found.keys() and not _OF_A_SWEEP & found.keys():
            yield here
        if SWEEP_TABLE in found:
            problems.extend(_jobs_without_run(here))
        inside = (name for name, is_folder in found.items() if is_folder and name not in _NOT_SEARCHED)
        pending.extend(here / name for name in sorted(inside, reverse=True))


def _jobs_without_run(sweep: Path) -> Iterator[Problem]:
    """The jobs of a sweep's table that did not complete: those with a run folder are reported by it."""
    try:
        rows = read_sweep_table(sweep)
    except UnreadableError as error:
        yield Problem(sweep, str(error))
        return
    for row in rows:
        if row.status != "completed":
            words = f"{row.status}: {row.overrides or ''}: {row.error or 'no reason given'}"
            yield Problem(sweep / row.folder, words)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
