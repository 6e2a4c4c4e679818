"""Finds the runs below folders, and the jobs of sweeps that left none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.layout import CHECKPOINTS, HYDRA, METRICS, SUMMARY, SWEEP_CONFIG, SWEEP_TABLE, UnreadableError
from bbrl_exp.records.tables import read_sweep_table

_BEGUN = {HYDRA, METRICS}
_NOT_SEARCHED = {HYDRA, ".git", CHECKPOINTS}
_OF_A_SWEEP = {SWEEP_TABLE, SWEEP_CONFIG}


@dataclass(frozen=True)
class Problem:
    """Something that is not a run, and why."""

    folder: Path
    words: str


@dataclass(frozen=True)
class Found:
    """What is below the given folders.

    Attributes:
        runs: folders of runs, each once, in the order of the folders given and by path in each.
        problems: folders that cannot be read, and jobs that never began.
    """

    runs: tuple[Path, ...]
    problems: tuple[Problem, ...]


def find_runs(folders: Sequence[Path]) -> Found:
    """The runs in ``folders`` and below, symbolic links followed, each folder visited once.

    Raises:
        ConfigurationError: a folder is not there, or no run is below any of them.
    """
    for folder in folders:
        if not folder.is_dir():
            near = did_you_mean(folder.name, _names(folder.parent))
            raise ConfigurationError(f"'{folder}': {'not a folder' if folder.exists() else 'no such folder'}{near}")
    problems: list[Problem] = []
    visited: set[str] = set()
    runs = tuple(found for folder in folders for found in _below(folder, visited, problems))
    if not runs and not problems:
        below = " ".join(repr(str(folder)) for folder in folders)
        raise ConfigurationError(f"no runs below {below}: no {SUMMARY} there")
    known = {os.path.realpath(run) for run in runs if (run / SUMMARY).exists()}
    jobs = [problem for problem in problems if os.path.realpath(problem.folder) not in known]
    return Found(runs, tuple(jobs))


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
