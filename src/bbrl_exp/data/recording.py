"""Recordings: what a graph did, in a file that learners can learn from.

A recording is a dict ``{"format": 1, "env_id": …, "variables": {name: tensor [T, B, …]}}`` of tensors and plain Python,
which ``torch.load(weights_only=True)`` reads as it is.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from bbrl_exp.errors import BbrlExpError, ConfigurationError, WorkspaceError
from bbrl_exp.records.files import replace_file
from bbrl_exp.workspace import Workspace

_FORMAT = 1


def save_recording(path: Path, workspace: Workspace, env_id: str, names: Iterable[str] | None = None) -> None:
    """Writes all rows of a workspace to a file; an existing file is replaced once the new one is complete.

    Args:
        path: the file, in a folder that exists.
        workspace: what was recorded, with one time size for all variables.
        env_id: where it was recorded.
        names: the variables to keep, by default all.

    Raises:
        WorkspaceError: an unknown variable.
        BbrlExpError: the file cannot be written.
    """
    variables = {name: workspace.get_full(name).detach().cpu().clone() for name in names or workspace.keys()}
    contents = io.BytesIO()
    torch.save({"format": _FORMAT, "env_id": env_id, "variables": variables}, contents)
    try:
        replace_file(path, contents.getbuffer())
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error


def load_recording(path: Path, env_id: str | None = None) -> Workspace:
    """The workspace of a file that :func:`save_recording` wrote.

    Args:
        path: the file.
        env_id: where it must have been recorded; None for anywhere.

    Raises:
        ConfigurationError: there is no such file, it is no recording, or one of another environment.
    """
    try:
        contents: Any = torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise ConfigurationError(f"recording='{path}': there is no such file; bbrl-exp record writes one") from None
    except OSError as error:
        raise ConfigurationError(f"recording='{path}': cannot be read: {error.strerror}") from error
    except Exception as error:  # of a file of another kind torch raises what its bytes lead to
        raise ConfigurationError(f"recording='{path}': no recording that bbrl-exp record wrote") from error
    variables = contents.get("variables") if isinstance(contents, dict) and contents.get("format") == _FORMAT else None
    if not variables or not isinstance(variables, dict):
        raise ConfigurationError(f"recording='{path}': no recording of format {_FORMAT}, as bbrl-exp record writes")
    if env_id not in (None, contents.get("env_id")):
        raise ConfigurationError(f"recording='{path}': of {contents.get('env_id')}, and the environment is {env_id}")
    workspace = Workspace()
    try:
        for name, values in variables.items():
            workspace.set_full(name, values)
    except WorkspaceError as error:
        raise ConfigurationError(f"recording='{path}': {error}") from error
    return workspace
