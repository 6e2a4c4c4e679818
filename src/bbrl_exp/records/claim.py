"""The claim on a run's folder, which gives it to one run at a time."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import platform
import stat
from datetime import datetime
from pathlib import Path

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.files import remove_unfinished
from bbrl_exp.records.layout import CHECKPOINTS, LOCK, PROVENANCE, REPLAY, SEARCH_TABLE, SUMMARY, SWEEP_TABLE

_ATTEMPTS = 100


class FolderInUseError(ConfigurationError):
    """Another run holds the folder."""


class FolderClaim:
    """The exclusive right to write in a folder, until ``release`` or the end of the process.

    It begins by removing the unfinished files of a holder that was killed.
    It is a lock of the kernel on a file in the folder, which ends with its holder whatever ends that. On a network
    drive the server keeps it, and ends it for a host that has died after its lease (NFS); where the server keeps no
    locks the folder is refused, and where a mount keeps them on its own host (``nolock``, ``local_lock``) the claim
    holds on that host only.

    Args:
        folder: made if it is not there.
        is_new: it must not be there.

    Raises:
        FolderInUseError: another process holds the folder; a claim whose holder died is taken over.
        ConfigurationError: the folder cannot be made or written in.
        FileExistsError: it is there, and ``is_new``.
    """

    def __init__(self, folder: Path, *, is_new: bool = False) -> None:
        self.folder = folder
        if "${" in str(folder):
            raise ConfigurationError(f"folder {folder} cannot be used: Hydra takes ${{ in a path for a reference")
        self._made = list(itertools.takewhile(lambda parent: not parent.exists(), (folder, *folder.parents)))
        try:
            self._file = _make_and_lock(folder, is_new)
            remove_unfinished(folder, (SUMMARY, PROVENANCE, SWEEP_TABLE, SEARCH_TABLE))
            for checkpoints in (folder / CHECKPOINTS, folder / CHECKPOINTS / REPLAY):
                remove_unfinished(checkpoints, ("*.pt", "*.pt.sha256"))
        except FileExistsError:
            if is_new:
                raise
            raise ConfigurationError(f"folder {folder} cannot be used: it is a file") from None
        except OSError as error:
            self._remove_made()
            raise ConfigurationError(f"folder {folder} cannot be used: {error.strerror}") from None

    def release(self) -> None:
        """Gives the folder back; folders that the claim made are removed if they are still empty."""
        (self.folder / LOCK).unlink(missing_ok=True)
        os.close(self._file)
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                break

    def __enter__(self) -> FolderClaim:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def is_in_use(folder: Path) -> bool:
    """Whether a process holds the folder."""
    try:
        file = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _make_and_lock(folder: Path, is_new: bool) -> int:
    """Makes and locks the folder; begins again where another claim, being released, removed it in between."""
    for attempt in itertools.count(1):
        try:
            if is_new:
                _make_parent(folder)
            folder.mkdir(parents=True, exist_ok=not is_new)
            return _lock(folder)
        except FileNotFoundError:
            if attempt == _ATTEMPTS:
                raise
        except FileExistsError:
            # Python says this too of a folder that was there, and was removed before it could see that it is one.
            if is_new or _is_no_folder(folder) or attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _make_parent(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        if not _is_no_folder(folder.parent):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder.parent)) from None
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder.parent)) from None


def _is_no_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _lock(folder: Path) -> int:
    path = folder / LOCK
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder removes the file before it lets go: the lock counts only on the file that is still there.
            if _is_still_there(file, path):
                _write_holder(file, path)
                return file
        except BlockingIOError:
            holder = os.pread(file, 500, 0).decode(errors="replace") or "that has just begun"
            os.close(file)
            raise FolderInUseError(f"folder {folder} is in use by process {holder}") from None
        except OSError:
            os.close(file)
            raise
        os.close(file)


def _write_holder(file: int, path: Path) -> None:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()} on {platform.node()} since {since}".encode(), 0)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _is_still_there(file: int, path: Path) -> bool:
    try:
        return os.fstat(file).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def claim_new_folder(wanted: Path) -> FolderClaim:
    """Makes and claims ``wanted``, or ``wanted_2``, ``wanted_3``, … where runs that started in the same second took it.

    Raises:
        ConfigurationError: it cannot be made.
    """
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            return FolderClaim(folder, is_new=True)
        except (FileExistsError, FolderInUseError):
            continue
    raise AssertionError("unreachable")
