"""What a configuration may say below ``hydra``: nothing that calls other code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.search_settings import SWEEPER as SEARCH_SWEEPER
from bbrl_exp.config.side_by_side import SIDE_BY_SIDE, check_side_by_side
from bbrl_exp.config.side_by_side import TARGET as SIDE_BY_SIDE_TARGET
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.settings import bad_value, shown, value_at

_CLASSES = {
    "launcher": {
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher": "basic",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": "joblib",
        "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher": "ray",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": "submitit_slurm",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": "submitit_local",
        SIDE_BY_SIDE_TARGET: SIDE_BY_SIDE,
    },
    "sweeper": {"hydra._internal.core_plugins.basic_sweeper.BasicSweeper": "basic", SEARCH_SWEEPER: "optuna"},
}
_NO_LOGS = {"version": 1, "root": None, "disable_existing_loggers": False}
_SUBDIR = "${job_folder:${hydra.job.override_dirname}}"
_MAY_BE_SET = ("run.dir", "sweep.dir", "mode", "job.chdir", "searchpath", "launcher", "sweeper")
_NOTED_BY_HYDRA = ("overrides", "runtime", "job.name", "job.num", "job.id", "job.override_dirname", "job.config_name")
_SHOWN_BY_HYDRA = ("help", "hydra_help")
_OF_SUBMITIT: dict[str, tuple[object, str]] = {
    "launcher.submitit_folder": ("${hydra.sweep.dir}/.submitit/%j", "must be in the sweep's folder"),
}
_FIXED_OF: dict[str, dict[str, tuple[object, str]]] = {
    "joblib": {
        "launcher.backend": (None, "must be null, each job has its own process"),
        "launcher.temp_folder": (None, "must be null, nothing is written outside the sweep's folder"),
        "launcher.pre_dispatch": ("2*n_jobs", "must be 2*n_jobs, joblib would evaluate it"),
    },
    "submitit_local": _OF_SUBMITIT,
    "submitit_slurm": {
        **_OF_SUBMITIT,
        "launcher.setup": (None, "must be null, a configuration runs no commands: load modules before run.py starts"),
    },
}
# What a launcher's free mappings may say: names and numbers, no programs and no environments to be installed.
_FREE_KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "ray": {
        "launcher.ray": ("init", "remote"),
        "launcher.ray.init": (
            "address",
            "num_cpus",
            "num_gpus",
            "object_store_memory",
            "include_dashboard",
            "logging_level",
            "log_to_driver",
            "namespace",
        ),
        "launcher.ray.remote": ("num_cpus", "num_gpus", "memory", "resources", "max_retries", "max_calls"),
    },
    "submitit_slurm": {
        "launcher.additional_parameters": (
            "begin",
            "dependency",
            "exclusive",
            "licenses",
            "mail-type",
            "mail-user",
            "nice",
            "nodelist",
            "priority",
            "reservation",
            "wckey",
        )
    },
}


def check_hydra_node(config: DictConfig) -> None:
    """Refuses what would make Hydra call something, write elsewhere, or give the jobs of a sweep other folders.

    What counts is what is written: an interpolation may lead to nothing now, and to a class once a job has its number.

    Raises:
        ConfigurationError: anything but :data:`_MAY_BE_SET` is not as Hydra has it, or a launcher would run a program.
    """
    written: Any = OmegaConf.to_container(config.hydra, resolve=False)
    if (mode := written.get("mode")) not in (None, *RunMode):
        raise bad_value("hydra.mode", mode, f"null or one of {', '.join(each.name for each in RunMode)}")
    for group in ("job_logging", "hydra_logging"):
        if written.get(group) != _NO_LOGS:
            raise ConfigurationError(f"key 'hydra/{group}': must be none, the run writes run.log itself")
    default: Any = OmegaConf.to_container(OmegaConf.structured(HydraConf))
    default = {**default, "job_logging": _NO_LOGS, "hydra_logging": _NO_LOGS, "env": {}}
    default["sweep"] = {**default["sweep"], "subdir": _SUBDIR}
    free = (*_MAY_BE_SET, *_NOTED_BY_HYDRA, *_SHOWN_BY_HYDRA, "defaults")
    for key, value in _differing(written, default, ""):
        if not f"{key}.".startswith(tuple(f"{name}." for name in free)):
            raise ConfigurationError(
                f"key 'hydra.{key}' = {shown(value)}: must be left as it is; below hydra only {', '.join(_MAY_BE_SET)} "
                "can be set"
            )
    for group, classes in _CLASSES.items():
        target = value_at(written, f"{group}._target_")
        if not isinstance(target, str) or target not in classes:
            raise bad_value(f"hydra.{group}._target_", target, f"that of hydra/{group}={' or '.join(classes.values())}")
        for key, child in _entries(written[group], f"hydra.{group}"):
            if key.endswith("._target_") and key != f"hydra.{group}._target_":
                raise ConfigurationError(f"key '{key}' = {shown(child)}: not allowed below 'hydra'")
    _check_launcher(written, _CLASSES["launcher"][written["launcher"]["_target_"]])


def _check_launcher(written: object, launcher: str) -> None:
    """Refuses keys that the launcher's own configuration lacks, some of which would run a program, and bad values."""
    known = {str(key) for key in ConfigStore.instance().load(f"hydra/launcher/{launcher}.yaml").node}
    keys_of = {"launcher": tuple(sorted(known)), **_FREE_KEYS.get(launcher, {})}
    for key, allowed in keys_of.items():
        for name in value_at(written, key) or {}:
            if name not in allowed:
                named = ", ".join(name for name in allowed if name != "_target_") or "none"
                raise ConfigurationError(f"key 'hydra.{key}.{name}': not allowed; allowed: {named}")
    for key, child in _entries(value_at(written, "launcher"), "hydra.launcher"):
        if not key.isprintable() or (isinstance(child, str) and not child.isprintable()):
            raise bad_value(key, child, "one line of printable characters")
    for key, (value, reason) in _FIXED_OF.get(launcher, {}).items():
        if (found := value_at(written, key)) != value:
            raise ConfigurationError(f"key 'hydra.{key}' = {shown(found)}: {reason}")
    if launcher == SIDE_BY_SIDE:
        check_side_by_side(value_at(written, "launcher"))  # type: ignore[arg-type]


def launcher_name(config: DictConfig) -> str:
    """The name of the launcher in Hydra's group ``hydra/launcher``; the configuration has been checked."""
    return _CLASSES["launcher"][config.hydra.launcher._target_]


def search_path_folders(places: object) -> list[Path]:
    """The folders of a search path of configurations; to look into a package would be to import it.

    Args:
        places: the value of ``hydra.searchpath``, None if there is none.

    Raises:
        ConfigurationError: a place is not a folder.
    """
    if places is None:
        return []
    if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
        raise bad_value("hydra.searchpath", places, "a list of folders")
    folders = [place.removeprefix("file://") for place in places]
    for place, folder in zip(places, folders, strict=True):
        if "://" in folder or not os.path.isdir(folder):
            raise bad_value("hydra.searchpath", place, "a list of folders that exist")
    return [Path(folder).absolute() for folder in folders]


def _entries(node: object, key: str) -> Iterator[tuple[str, object]]:
    """All that is below ``node``, by its dotted key."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield f"{key}.{name}", child
        yield from _entries(child, f"{key}.{name}")


def _differing(found: object, default: object, key: str) -> Iterator[tuple[str, object]]:
    """The keys at which ``found`` is not ``default``, and what is found there."""
    if isinstance(found, dict) and isinstance(default, dict) and default:
        for name in {**default, **found}:
            dotted = f"{key}.{name}" if key else str(name)
            yield from _differing(found.get(name, "???"), default.get(name, "???"), dotted)
    elif found != default:
        yield key, found
