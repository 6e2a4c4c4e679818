"""What a configuration may say below ``hydra``: nothing that calls something of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bbrl_exp.app.schema import bad_value, shown
from bbrl_exp.errors import ConfigurationError

_CLASSES = {
    "launcher": {
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher": "basic",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": "joblib",
    },
    "sweeper": {"hydra._internal.core_plugins.basic_sweeper.BasicSweeper": "basic"},
}
_NAMED_BY_IT = "cannot be set, job folders are named by it"
_NO_LOGS = {"version": 1, "root": None, "disable_existing_loggers": False}
_FIXED: dict[str, tuple[object, str]] = {
    "callbacks": ({}, "must be empty, callbacks are not supported"),
    "job.env_set": ({}, "must be empty, a configuration sets no environment variables"),
    "output_subdir": (".hydra", "must be .hydra, the configuration lies there"),
    "sweep.subdir": ("${job_folder:${hydra.job.override_dirname}}", _NAMED_BY_IT),
    "job.config.override_dirname.kv_sep": ("=", _NAMED_BY_IT),
    "job.config.override_dirname.item_sep": (",", _NAMED_BY_IT),
}
_FIXED_OF_JOBLIB: dict[str, tuple[object, str]] = {
    "launcher.temp_folder": (None, "must be null, nothing is written outside the sweep's folder"),
    "launcher.pre_dispatch": ("2*n_jobs", "must be 2*n_jobs, joblib would evaluate it"),
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
    for group in ("job_logging", "hydra_logging"):
        if _at(written, group) != _NO_LOGS:
            raise ConfigurationError(f"key 'hydra/{group}': must be none, the run writes run.log itself")
    for group, classes in _CLASSES.items():
        target = _at(written, f"{group}._target_")
        if not isinstance(target, str) or target not in classes:
            raise bad_value(f"hydra.{group}._target_", target, f"that of hydra/{group}={' or '.join(classes.values())}")
    is_joblib = _CLASSES["launcher"][_at(written, "launcher._target_")] == "joblib"
    for key, (value, reason) in {**_FIXED, **(_FIXED_OF_JOBLIB if is_joblib else {})}.items():
        found = _at(written, key)
        if found != value:
            raise ConfigurationError(f"key 'hydra.{key}' = {shown(found)}: {reason}")
    for key, target in _targets(written, "hydra"):
        if key not in (f"hydra.{group}._target_" for group in _CLASSES):
            raise ConfigurationError(f"key '{key}' = {shown(target)}: not allowed below 'hydra'")


def check_search_path(places: object) -> None:
    """Refuses a search path of configurations that is not of folders: to look into a package is to import it.

    Args:
        places: the value of ``hydra.searchpath``, None where there is none.

    Raises:
        ConfigurationError: a place is no folder.
    """
    for place in places if isinstance(places, list) else []:
        if isinstance(place, str) and "://" in place and not place.startswith("file://"):
            raise ConfigurationError(f"key 'hydra.searchpath' = {shown(place)}: must be a list of folders")


def _at(node: object, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _targets(node: object, key: str) -> Iterator[tuple[str, object]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        if name == "_target_":
            yield f"{key}.{name}", child
        yield from _targets(child, f"{key}.{name}")
