"""Where a run keeps what: the names of its files and folders."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path

from bbrl_exp.errors import ConfigurationError

SUMMARY = "summary.json"
METRICS = "metrics.csv"
PROVENANCE = "provenance.json"
LOG = "run.log"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
REPLAY = "replay"  # in CHECKPOINTS
HYDRA = ".hydra"
CONFIG = f"{HYDRA}/config.yaml"
HYDRA_CONFIG = f"{HYDRA}/hydra.yaml"
OVERRIDES = f"{HYDRA}/overrides.yaml"
EVENTS = "events.out.tfevents."
SWEEP_CONFIG = "multirun.yaml"
SWEEP_TABLE = "sweep.json"
SEARCH_TABLE = "search.json"
# Configuration in an installed wheel; a checkout has it at its top level.
PACKAGED_CONF = Path(__file__).parents[1] / "conf"
_LONGEST_NAME = 100


class UnreadableError(Exception):
    """What is wrong with a file of a run's folder, in words that name it."""


def check_sweep_folder(folder: Path) -> None:
    """Refuses a folder that holds files, and those of no sweep.

    Raises:
        ConfigurationError: it does.
    """
    names = {entry.name for entry in folder.iterdir()} - {LOCK} if folder.is_dir() else set()
    if names and SWEEP_CONFIG not in names:
        raise ConfigurationError(f"folder {folder} holds other files than those of a sweep; choose another name")


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
