"""Where a run comes from: command, commit, versions, and the hash that knows a configuration again."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "bbrl_exp",
    "torch",
    "numpy",
    "gymnasium",
    "hydra-core",
    "omegaconf",
    "tensorboard",
    "mujoco",
    "box2d",
)
_NOT_HASHED = ("hydra", "name")


def config_hash(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that are equal for equal configurations, whatever their name and folder.

    The order of what stands below the root counts: members run and wrappers wrap in it.
    """
    kept = {key: config[key] for key in sorted(config) if key not in _NOT_HASHED}
    return hashlib.sha256(json.dumps(kept, default=str).encode()).hexdigest()[:16]


def command() -> str:
    """The command line of this process."""
    return shlex.join(["python", *sys.argv])


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, with ``+changes`` where it was edited; None without one."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=5,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
