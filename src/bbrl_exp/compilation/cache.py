"""The folder of compiled code: the user's alone, shared by all runs; what is in it will be executed."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Where the parts of torch's compiler keep what they make.
_FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
_temporary: list[Path] = []


def cache_folder(name: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that a kind of compiled code is kept in: ``$XDG_CACHE_HOME/bbrl_exp/<name>``, or below ``~/.cache``.

    A relative ``XDG_CACHE_HOME`` is ignored, as its specification asks. None for a user without a home.
    """
    home = Path(environment.get("XDG_CACHE_HOME") or ".")
    try:
        return (home if home.is_absolute() else Path.home() / ".cache") / "bbrl_exp" / name
    except RuntimeError:
        return None


def why_not_ours(folder: Path) -> str | None:
    """Why compiled code must not be read from ``folder``; None where it is the user's alone.

    The folder and those above it are made where they are missing, for this user only.
    """
    if os.name != "posix":
        return "this system does not say who can write to a folder"
    try:
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in (folder.parent, folder):
            found = os.lstat(each)
            if not stat.S_ISDIR(found.st_mode):
                return f"{each} is not a folder"
            if found.st_uid != os.geteuid():
                return f"{each} belongs to another user"
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"others can write to {each} (chmod 700 {each})"
        above = os.stat(folder.parent.parent)
        if above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not above.st_mode & stat.S_ISVTX:
            return f"others can write to {folder.parent.parent}"
        os.chmod(folder, 0o700)
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    return None if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else f"{folder} cannot be written to"


def use_cache(folder: Path | None) -> str | None:
    """Lets torch's compiler keep its code in ``folder``, or else in a temporary one that is deleted at the end.

    Returns:
        Why the temporary one is used; None where ``folder`` is.
    """
    reason = "there is no home folder (set XDG_CACHE_HOME)" if folder is None else why_not_ours(folder)
    if folder is None or reason is not None:
        folder = Path(tempfile.mkdtemp(prefix="bbrl_exp-compile-"))
        _temporary.append(folder)
        atexit.register(delete_temporary)
    for variable, name in _FOLDERS.items():
        os.environ[variable] = str(folder / name)
    return reason


def delete_temporary() -> None:
    """Deletes the temporary folders of this process, which does so itself at its end, unless it was forked."""
    while _temporary:
        shutil.rmtree(_temporary.pop(), ignore_errors=True)
