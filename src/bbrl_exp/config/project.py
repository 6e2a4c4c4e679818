"""``[tool.bbrl_exp]`` in the ``pyproject.toml`` of the working directory: what a user's project adds to each command.

It is read from the working directory alone, never from a folder above it, and not where that is the folder of a run or
a sweep, which may be somebody else's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.layout import HYDRA, SEARCH_TABLE, SUMMARY, SWEEP_CONFIG, SWEEP_TABLE
from bbrl_exp.settings import shown

FILE = "pyproject.toml"
TABLE = "tool.bbrl_exp"
# How the processes that a command starts know what it has read; the command itself never reads it.
VARIABLE = "BBRL_EXP_PROJECT"
_FILES_OF_RUNS = (SUMMARY, HYDRA, SWEEP_CONFIG, SWEEP_TABLE, SEARCH_TABLE)
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_STANDARD_LIBRARY = os.path.dirname(os.__file__)


@dataclass(frozen=True)
class Project:
    """The settings of a project; folders are absolute.

    Attributes:
        file: they are from.
        allow: packages that a configuration may name, as well as those of ``BBRL_EXP_ALLOW``.
        path: folders from which modules are imported, after those of ``PYTHONPATH`` and before installed packages.
        config_dir: folder of options, where the command line has no ``--config-dir``.
    """

    file: str
    allow: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    config_dir: str | None = None

    @property
    def in_words(self) -> str:
        """What was taken from the file, on one line."""
        folder = os.path.dirname(self.file)
        values = {
            "allow": self.allow,
            "path": [os.path.relpath(each, folder) for each in self.path],
            "config_dir": [os.path.relpath(self.config_dir, folder)] if self.config_dir else [],
        }
        taken = "; ".join(f"{key} {', '.join(texts)}" for key, texts in values.items() if texts)
        return f"{FILE}: {taken or 'nothing'}"


def read_project(folder: Path) -> Project | None:
    """The settings in a folder's ``pyproject.toml``; None for no settings, and in the folder of a run.

    Raises:
        ConfigurationError: the file cannot be read, or has a key or a value that cannot be used.
    """
    file = folder / FILE
    if not os.path.lexists(file):
        return None
    try:
        text = file.read_text(encoding="utf-8")
        if (mark := next((name for name in _FILES_OF_RUNS if (folder / name).exists()), None)) is not None:
            if f"[{TABLE}]" in text:
                sys.stderr.write(f"note: [{TABLE}] in {FILE} is not read in the folder of a run (it holds {mark})\n")
            return None
        contents = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{FILE} cannot be read: {error.strerror}") from error
    except ValueError as error:  # what is no TOML, and what is no UTF-8
        raise ConfigurationError(f"{FILE} cannot be read: {error}") from error
    tool = contents.get("tool", {})
    if not isinstance(tool, Mapping) or "bbrl_exp" not in tool:
        return None
    table = tool["bbrl_exp"]
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{FILE}: key '{TABLE}' = {shown(table)}: must be a table")
    known = [field.name for field in dataclasses.fields(Project) if field.name != "file"]
    for key in table:
        if key not in known:
            near = did_you_mean(key, known) or ";"
            raise ConfigurationError(f"{FILE}: key '{TABLE}.{key}' is not known{near} allowed: {', '.join(known)}")
    return Project(
        file=str(file.absolute()),
        allow=_packages(table.get("allow", [])),
        path=_folders(folder, table.get("path", [])),
        config_dir=_folder(folder, table["config_dir"]) if "config_dir" in table else None,
    )


@contextlib.contextmanager
def project_of(folder: Path) -> Iterator[None]:
    """Puts the settings of the project in ``folder`` into effect for a block, and for the processes it starts.

    Raises:
        ConfigurationError: see :func:`read_project`.
    """
    before, path = os.environ.pop(VARIABLE, None), sys.path[:]
    try:
        if (project := read_project(folder)) is not None:
            os.environ[VARIABLE] = json.dumps(dataclasses.asdict(project))
            import_from_project()
        yield
    finally:
        sys.path[:] = path
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def current_project() -> Project | None:
    """The settings in effect in this process; None for none."""
    text = os.environ.get(VARIABLE)
    return None if text is None else _read(text)


def import_from_project() -> None:
    """Adds the folders of the project in effect to those from which modules are imported."""
    project = current_project()
    standard = (_STANDARD_LIBRARY, os.path.join(_STANDARD_LIBRARY, "lib-dynload"))
    place = max((index for index, entry in enumerate(sys.path) if entry in standard), default=-1) + 1
    sys.path[place:place] = [entry for entry in (project.path if project else ()) if entry not in sys.path]


def own_config_dir(typed: Path | None) -> Path | None:
    """The user's folder of options: the one of ``--config-dir``, else the project's; None for none."""
    if typed is not None or (project := current_project()) is None or project.config_dir is None:
        return typed
    return Path(project.config_dir)


@functools.lru_cache(maxsize=1)
def _read(text: str) -> Project:
    contents: dict[str, Any] = json.loads(text)
    return Project(contents["file"], tuple(contents["allow"]), tuple(contents["path"]), contents["config_dir"])


def _refusal(key: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"{FILE}: key '{TABLE}.{key}' = {shown(value)}: must be {allowed}")


def _packages(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and _PACKAGE.fullmatch(name) for name in value):
        raise _refusal("allow", value, 'a list of packages, such as ["my_package"]')
    return tuple(value)


def _folders(folder: Path, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _refusal("path", value, 'a list of folders, such as ["src"]')
    for name in value:
        if not (folder / name).is_dir():
            raise _refusal("path", value, f"a list of folders that exist; '{name}' does not")
    return tuple(os.path.abspath(folder / name) for name in value)


def _folder(folder: Path, value: object) -> str:
    if not isinstance(value, str) or not value or not (folder / value).is_dir():
        raise _refusal("config_dir", value, "a folder that exists")
    return os.path.abspath(folder / value)
