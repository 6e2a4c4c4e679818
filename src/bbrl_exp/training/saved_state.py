"""The parameters that a run has kept, or why there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.layout import CHECKPOINTS
from bbrl_exp.records.summary import read_summary

Which = Literal["last", "best"]


def summary_of_run(folder: Path) -> dict[str, Any]:
    """The summary of a run.

    Raises:
        ConfigurationError: the folder holds none; the message names a folder beside it whose name is near.
    """
    summary = read_summary(folder)
    if summary is None:
        beside = [path.name for path in folder.parent.glob("*") if path.is_dir()] if not folder.is_dir() else []
        near = did_you_mean(folder.name, beside)
        raise ConfigurationError(f"{folder} is not a run folder (no summary.json){near}")
    return summary


def policy_path(folder: Path, which: Which) -> Path:
    """Where a run keeps its ``last`` policy, or its ``best`` by the evaluations along the run."""
    return folder / CHECKPOINTS / f"{which}.pt"


def read_state(folder: Path, which: Which = "last") -> dict[str, Any]:
    """The state of graph and learner that a run has kept; see :func:`read_kept`."""
    state: dict[str, Any] = read_kept(folder, which)["state"]
    return state


def read_kept(folder: Path, which: Which) -> dict[str, Any]:
    """The checkpoint with the policy of a run, ``last`` or ``best`` by the evaluations along the run.

    Raises:
        ConfigurationError: it is not a run folder, or has no such policy; the message says what it has.
    """
    from bbrl_exp.training.checkpoint import read_checkpoint

    status = summary_of_run(folder)["status"]
    path = policy_path(folder, which)
    if not path.exists():
        other: Which = "best" if which == "last" else "last"
        kept = f"; its {other} policy is there" if policy_path(folder, other).exists() else ""
        raise ConfigurationError(f"run {folder}, {status}, has kept no {which} policy{kept}")
    return read_checkpoint(path)
