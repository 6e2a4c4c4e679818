"""What a configuration may say below ``hydra``: nothing that calls something of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.search_settings import SWEEPER as SEARCH_SWEEPER
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.settings import bad_value, shown

_CLASSES = {
    "launcher": {
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher": "basic",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": "joblib",
        "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher": "ray",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": "submitit_slurm",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": "submitit_local",
    },
    "sweeper": {"hydra._internal.core_plugins.basic_sweeper.BasicSweeper": "basic", SEARCH_SWEEPER: "optuna"},
}
_NAMED_BY_IT = "cannot be set, job folders are named by it"
_NO_LOGS = {"version": 1, "root": None, "disable_existing_loggers": False}
_FIXED: dict[str, tuple[object, str]] = {
    "job.env_copy": ([], "must be empty, a configuration sets no environment variables"),
    "verbose": (False, "must be false, the run writes run.log itself"),
    "callbacks": ({}, "must be empty, callbacks are not supported"),
    "job.env_set": ({}, "must be empty, a configuration sets no environment variables"),
    "output_subdir": (".hydra", "must be .hydra, the configuration lies there"),
    "sweep.subdir": ("${job_folder:${hydra.job.override_dirname}}", _NAMED_BY_IT),
    "job.config.override_dirname.kv_sep": ("=", _NAMED_BY_IT),
    "job.config.override_dirname.item_sep": (",", _NAMED_BY_IT),
}
_OF_SUBMITIT: dict[str, tuple[object, str]] = {
    "launcher.submitit_folder": ("${hydra.sweep.dir}/.submitit/%j", "must lie in the sweep's folder"),
}
_FIXED_OF: dict[str, dict[str, tuple[object, str]]] = {
    "joblib": {
        "launcher.backend": (None, "must be null, jobs have processes of their own"),
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

    Args:
        config: composed, with its ``hydra`` node.

    Raises:
        ConfigurationError: callbacks, handlers of logs, another launcher or sweeper, environment variables, or another
            name of job folders.
    """
    written = OmegaConf.to_container(config.hydra, resolve=False)
    if (mode := _at(written, "mode")) not in (None, *RunMode):
        raise bad_value("hydra.mode", mode, f"null or one of {', '.join(each.name for each in RunMode)}")
    for group in ("job_logging", "hydra_logging"):
        if _at(written, group) != _NO_LOGS:
            raise ConfigurationError(f"key 'hydra/{group}': must be none, the run writes run.log itself")
    for group, classes in _CLASSES.items():
        target = _at(written, f"{group}._target_")
        if not isinstance(target, str) or target not in classes:
            raise bad_value(f"hydra.{group}._target_", target, f"that of hydra/{group}={' or '.join(classes.values())}")
    launcher = _CLASSES["launcher"][_at(written, "launcher._target_")]
    _check_launcher_keys(written, launcher)
    for key, allowed in _FREE_KEYS.get(launcher, {}).items():
        for name in _at(written, key) or {}:
            if name not in allowed:
                raise ConfigurationError(f"key 'hydra.{key}.{name}': not allowed; allowed: {', '.join(allowed)}")
    for key, text in _texts(_at(written, "launcher"), "launcher"):
        if not text.isprintable():
            raise bad_value(f"hydra.{key}", text, "one line of printable characters")
    for key, (value, reason) in {**_FIXED, **_FIXED_OF.get(launcher, {})}.items():
        found = _at(written, key)
        if found != value:
            raise ConfigurationError(f"key 'hydra.{key}' = {shown(found)}: {reason}")
    for key, target in _targets(written, "hydra"):
        if key not in (f"hydra.{group}._target_" for group in _CLASSES):
            raise ConfigurationError(f"key '{key}' = {shown(target)}: not allowed below 'hydra'")


def launcher_name(config: DictConfig) -> str:
    """The name of the launcher in Hydra's group ``hydra/launcher``; the configuration has been checked."""
    return _CLASSES["launcher"][config.hydra.launcher._target_]


def search_path_folders(places: object) -> list[Path]:
    """The folders of a search path of configurations; to look into a package would be to import it.

    Args:
        places: the value of ``hydra.searchpath``, None where there is none.

    Raises:
        ConfigurationError: a place is not a folder.
    """
    if places is None:
        return []
    if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
        raise bad_value("hydra.searchpath", places, "a list of folders")
    folders = [Path(place.removeprefix("file://")).absolute() for place in places]
    for place, folder in zip(places, folders, strict=True):
        if "://" in place.removeprefix("file://") or not folder.is_dir():
            raise bad_value("hydra.searchpath", place, "a list of folders that exist")
    return folders


def _check_launcher_keys(written: object, launcher: str) -> None:
    """Refuses keys that the launcher's own configuration lacks: some of its library would run a program."""
    known = {str(key) for key in ConfigStore.instance().load(f"hydra/launcher/{launcher}.yaml").node}
    allowed = ", ".join(sorted(known - {"_target_"})) or "none"
    for name in _at(written, "launcher"):
        if name not in known:
            raise ConfigurationError(f"key 'hydra.launcher.{name}': not allowed; allowed: {allowed}")


def _at(node: object, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _texts(node: object, key: str) -> Iterator[tuple[str, str]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from ((f"{key}.{name}", text) for text in (name, child) if isinstance(text, str))
        yield from _texts(child, f"{key}.{name}")


def _targets(node: object, key: str) -> Iterator[tuple[str, object]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        if name == "_target_":
            yield f"{key}.{name}", child
        yield from _targets(child, f"{key}.{name}")
