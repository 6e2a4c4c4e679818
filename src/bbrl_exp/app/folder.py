"""A run's folder: its name, and the claim that gives it to one run at a time."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
from datetime import datetime
from pathlib import Path
from types import TracebackType

from bbrl_exp.app.summary import read_summary
from bbrl_exp.errors import ConfigurationError

_LOCK_NAME = ".lock"
_LONGEST_NAME = 100


class FolderClaim:
    """The exclusive right to write in a folder, until ``release`` or the end of the process.

    Args:
        folder: made if it is not there.

    Raises:
        ConfigurationError: another process holds the folder; a claim whose holder died is taken over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._made = _make_folder(folder)
            self._file = _lock(folder)
        except OSError as error:
            raise ConfigurationError(f"folder {folder} cannot be used: {error.strerror}") from None

    def release(self) -> None:
        """Gives the folder back; folders that the claim made and nobody wrote in are removed."""
        (self.folder / _LOCK_NAME).unlink(missing_ok=True)
        os.close(self._file)
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                break

    def __enter__(self) -> FolderClaim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _make_folder(folder: Path) -> list[Path]:
    missing = list(itertools.takewhile(lambda parent: not parent.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _lock(folder: Path) -> int:
    path = folder / _LOCK_NAME
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode() or "unknown"
            os.close(file)
            raise ConfigurationError(f"folder {folder} is in use by process {holder}") from None
        # The holder removes the file before it lets go: the lock counts only on the file that is still there.
        if path.exists() and os.fstat(file).st_ino == path.stat().st_ino:
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
            return file
        os.close(file)


def claim_new_folder(wanted: Path) -> FolderClaim:
    """Claims ``wanted``, or ``wanted_2``, ``wanted_3``, … where runs that started in the same second took it."""
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        if folder.exists() and any(folder.iterdir()):
            continue
        try:
            claim = FolderClaim(folder)
        except ConfigurationError:
            if (folder / _LOCK_NAME).exists():
                continue
            raise
        if len(list(folder.iterdir())) == 1:
            return claim
        claim.release()
    raise AssertionError("unreachable")


def is_complete(folder: Path, config_hash: str) -> bool:
    """Whether ``folder`` holds a completed run of the configuration with this hash.

    Raises:
        ConfigurationError: it holds something else; nothing in it is changed.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise ConfigurationError(f"folder {folder} is a file")
    if not any(folder.iterdir()):
        return False
    summary = read_summary(folder)
    if summary is None:
        if all(entry.name == _LOCK_NAME for entry in folder.iterdir()):
            return False
        raise ConfigurationError(f"folder {folder} holds files that are no run's; choose another name")
    if summary.get("status") == "failed" and not summary.get("versions"):  # it was refused before it began
        return False
    status = summary.get("status")
    if summary.get("config_hash") != config_hash:
        raise ConfigurationError(
            f"folder {folder} holds a run ({status}) of another configuration; choose another name"
        )
    if status != "completed":
        raise ConfigurationError(
            f"folder {folder} holds a run of this configuration that is not complete ({status}), and runs cannot be "
            "resumed yet; choose another name or remove the folder"
        )
    return True


def run_folder_name(name: object) -> str:
    """The name of a run's folder: ``name`` if there is one, else date and time."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S") if name is None else str(name)


def job_folder_name(overrides: str) -> str:
    """The name of a job's folder in its sweep: the overrides that vary, with safe characters only.

    Where characters had to be replaced or the name cut, a hash of the overrides keeps two jobs apart.
    """
    name = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", overrides).strip("._") or "job"
    if name == overrides and len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}_{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"
