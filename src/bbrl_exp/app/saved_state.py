"""The parameters that a run has kept, or why there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from bbrl_exp.app.summary import read_summary
from bbrl_exp.errors import ConfigurationError, did_you_mean

Which = Literal["last", "best"]


def check_is_run(folder: Path) -> None:
    """Refuses what is no run's folder.

    Raises:
        ConfigurationError: it holds no summary; the message names a folder beside it whose name is near.
    """
    if read_summary(folder) is None:
        beside = [path.name for path in folder.parent.glob("*") if path.is_dir()] if not folder.is_dir() else []
        near = did_you_mean(folder.name, beside)
        raise ConfigurationError(f"folder {folder} is no run's: it holds no summary.json{near}")


def policy_path(folder: Path, which: Which) -> Path:
    """Where a run keeps its ``last`` policy, or its ``best`` by the evaluations along the run."""
    from bbrl_exp.training.checkpoint import FOLDER_NAME

    return folder / FOLDER_NAME / f"{which}.pt"


def read_state(folder: Path, which: Which = "last") -> dict[str, Any]:
    """The state of the graph and the learner that a run has kept.

    Args:
        folder: of the run.
        which: ``last``, or ``best`` by the evaluations along the run.

    Raises:
        ConfigurationError: it is no run's folder, or has kept no such policy; the message says what it has.
    """
    from bbrl_exp.training.checkpoint import read_checkpoint

    check_is_run(folder)
    path = policy_path(folder, which)
    if not path.exists():
        status = (read_summary(folder) or {}).get("status")
        others: list[Which] = ["last", "best"]
        kept = [f"its {other} policy is there" for other in others if policy_path(folder, other).exists()]
        raise ConfigurationError(f"run {folder}, {status}, has kept no {which} policy{''.join(f'; {k}' for k in kept)}")
    state: dict[str, Any] = read_checkpoint(path)["state"]
    return state
