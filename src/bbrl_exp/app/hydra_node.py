"""What a configuration may say below ``hydra``: nothing that calls something of its own."""

from __future__ import annotations

from collections.abc import Iterator

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
_FIXED = {
    "sweep.subdir": "${job_folder:${hydra.job.override_dirname}}",
    "job.config.override_dirname.kv_sep": "=",
    "job.config.override_dirname.item_sep": ",",
}


def check_hydra_node(config: DictConfig) -> None:
    """Refuses what would make Hydra call something, and what would give the jobs of a sweep other folders.

    Args:
        config: composed, with its ``hydra`` node.

    Raises:
        ConfigurationError: callbacks, handlers of logs, another launcher or sweeper, or another name of job folders.
    """
    if config.hydra.callbacks:
        raise ConfigurationError("key 'hydra.callbacks': must be empty, callbacks are not supported")
    for group in ("job_logging", "hydra_logging"):
        if config.hydra[group] is None or config.hydra[group].get("root") is not None:
            raise ConfigurationError(f"key 'hydra/{group}': must be none, the run writes run.log itself")
    for group, classes in _CLASSES.items():
        target = OmegaConf.select(config, f"hydra.{group}._target_")
        if target not in classes:
            raise bad_value(f"hydra.{group}._target_", target, f"that of hydra/{group}={' or '.join(classes.values())}")
    as_written = OmegaConf.to_container(config.hydra, resolve=False)
    for key, target in _targets(as_written, "hydra"):
        if key not in (f"hydra.{group}._target_" for group in _CLASSES):
            raise ConfigurationError(f"key '{key}' = {shown(target)}: not allowed below 'hydra'")
    for key, value in _FIXED.items():
        found = as_written
        for name in key.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found != value:
            raise ConfigurationError(f"key 'hydra.{key}' = {shown(found)}: cannot be set, job folders are named by it")


def _targets(node: object, key: str) -> Iterator[tuple[str, object]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        if name == "_target_":
            yield f"{key}.{name}", child
        yield from _targets(child, f"{key}.{name}")
