"""Where a run comes from: command, commit, versions, machine, times, and the hash that knows a configuration again.

``provenance.json`` holds one entry for each start of the run. It describes the machine, on which no
other file depends that equal runs have in common.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bbrl_exp.records.files import read_json, write_json
from bbrl_exp.records.invocation import Invocation
from bbrl_exp.records.layout import PACKAGED_CONF, PROVENANCE, UnreadableError

_PACKAGES = ("bbrl_exp", "torch", "numpy", "gymnasium", "hydra-core", "omegaconf", "tensorboard", "mujoco", "box2d")
_NO_FILTER = {"clean": "", "process": "", "required": "false"}
_NOT_HASHED = ("hydra", "name")


def config_hash(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that are equal for equal configurations, whatever their name and folder.

    The order below the root counts, since members run and wrappers wrap in it.
    """
    kept = {key: config[key] for key in sorted(config) if key not in _NOT_HASHED}
    return hashlib.sha256(json.dumps(kept, default=str).encode()).hexdigest()[:16]


def command() -> str:
    """The command line of this process."""
    return shlex.join(Invocation.of_this_process().words)


def git_commit(found: Iterable[Mapping[str, Any]]) -> str | None:
    """The commit of the checkout of this package, with ``+changes`` where it was edited; None without one.

    Args:
        found: what :func:`repositories` gave.
    """
    root = str(_repository_of_this_package())
    own = (f"{each['commit']}{'+changes' if each['changes'] else ''}" for each in found if each["folder"] == root)
    return next(own, None)


def repositories(packages: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The git repositories of this package, of the current directory and of ``packages``: folder, commit, changes.

    Files that git does not track count for nothing; ``packages`` are imported ones of the user's own.
    """
    files = [getattr(sys.modules.get(package), "__file__", None) for package in packages]
    places = [Path.cwd() / "here", *(Path(file) for file in files if file)]
    found_roots = [_repository_of_this_package(), *map(_repository_of, places)]
    roots = dict.fromkeys(root for root in found_roots if root is not None)
    return [{"folder": str(root), **found} for root in roots if (found := _commit(root)) is not None]


def _repository_of_this_package() -> Path | None:
    """None where a wheel was installed: a repository around it is another one."""
    return None if PACKAGED_CONF.is_dir() else _repository_of(Path(__file__))


def _repository_of(path: Path) -> Path | None:
    return next((parent for parent in path.resolve().parents if (parent / ".git").exists()), None)


def _commit(root: Path) -> dict[str, Any] | None:
    # Whoever made the current directory may have configured its repository so that git runs their programs.
    harmless = {"core.fsmonitor": "false", "core.hooksPath": "/dev/null"}
    try:
        found = _git(root, {}, "config", "--name-only", "--null", "--get-regexp", r"^filter\.")
        filters = {name.rpartition(".")[0] for name in found.stdout.split("\0") if name}
        harmless |= {f"{name}.{key}": value for name in sorted(filters) for key, value in _NO_FILTER.items()}
        options = ("--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=dirty")
        found = _git(root, harmless, "status", *options)
        found.check_returncode()
    except (OSError, subprocess.SubprocessError):
        return None
    lines = found.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": commit, "changes": any(not line.startswith("# ") for line in lines)}


def _git(root: Path, settings: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    numbered = {
        f"GIT_CONFIG_{part}_{number}": text
        for number, setting in enumerate(settings.items())
        for part, text in zip(("KEY", "VALUE"), setting, strict=True)
    }
    return subprocess.run(
        ["git", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=5,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_COUNT": str(len(settings)), **numbered},
    )


@functools.cache
def versions() -> Mapping[str, str]:
    """The versions of Python and of the packages that a result depends on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def distributions() -> dict[str, str]:
    """Every installed distribution and its version, by the names of their folders."""
    found: dict[str, str] = {}
    for place in reversed(sys.path):
        with contextlib.suppress(OSError):
            for entry in os.scandir(place or "."):
                if entry.name.endswith(".dist-info"):
                    name, _, version = entry.name.removesuffix(".dist-info").partition("-")
                    found[name] = version
    return dict(sorted(found.items()))


def machine() -> dict[str, Any]:
    """What the run runs on: host, system, processor, cores, memory."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def record_start(
    folder: Path,
    overrides: Sequence[str],
    seeds: Mapping[str, int],
    threads: int,
    device: str,
    known_as: str | None,
    found: Sequence[Mapping[str, Any]] = (),
    total_steps: int | None = None,
    project: Mapping[str, Any] | None = None,
) -> None:
    """Adds this start of the run to ``provenance.json`` in its folder; a resumed run has several.

    Each of ``seeds`` is named by what it is the root of; the :func:`repositories` that were ``found`` are noted, and
    what the run has of a ``project``.
    """
    import torch  # the packages that only need `config_hash` do without it

    session = {
        "started": _now(),
        "ended": None,
        "status": "running",
        "command": command(),
        "overrides": list(overrides),
        "directory": os.getcwd(),
        "project": project,
        "process": os.getpid(),
        "total_steps": total_steps,
        "config_hash": known_as,
        "seeds": dict(seeds),
        "threads": threads,
        "device": device,
        "accelerator": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "machine": machine(),
        "repositories": list(found),
        "python": platform.python_version(),
        "packages": distributions(),
    }
    write_json(folder / PROVENANCE, {"sessions": [*read_sessions(folder), session]})


def record_run_id(folder: Path, run_id: str) -> None:
    """Notes the id of the run in its newest session."""
    sessions = read_sessions(folder)
    if sessions and sessions[-1].get("run_id") != run_id:
        sessions[-1]["run_id"] = run_id
        write_json(folder / PROVENANCE, {"sessions": sessions})


def run_id_of(folder: Path, summary: Mapping[str, Any]) -> str:
    """The id of a run: sixteen hexadecimal digits.

    One of an earlier version, which did not note it, has one that is made of its first start.

    Args:
        folder: of the run.
        summary: the contents of its ``summary.json``.
    """
    sessions = read_sessions(folder)
    for session in reversed(sessions):
        if isinstance(session.get("run_id"), str):
            return str(session["run_id"])
    first = {name: sessions[0].get(name) for name in ("started", "process", "directory")} if sessions else {}
    known = [first, folder.resolve().name, *(summary.get(name) for name in ("command", "seed", "config_hash"))]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def record_end(folder: Path, status: str, facts: Mapping[str, Any] | None = None) -> None:
    """Notes when the newest session of the run ended, and how; ``facts`` are what else is to be known of its end."""
    sessions = read_sessions(folder)
    if sessions:
        sessions[-1] |= {"ended": _now(), "status": status, **(facts or {})}
        write_json(folder / PROVENANCE, {"sessions": sessions})


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The sessions in ``provenance.json``, oldest first; none where there is no such file."""
    try:
        sessions = read_json(folder / PROVENANCE).get("sessions")
    except UnreadableError:
        return []
    return sessions if isinstance(sessions, list) else []


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
