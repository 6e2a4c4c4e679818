"""Arguments that a node inherits from an option whose class was another one, and that its own class does not take.

A file or an override may replace a node's ``_target_``; what the files below it state for the former class stays in the
merged node. Such an argument is left out, unless it is stated beside the new class or after it: then it is meant for
that class, and is checked.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from bbrl_exp.config.compose import Composer, search_path, written
from bbrl_exp.config.nodes import ORDER_KEYS
from bbrl_exp.config.overrides import Override, parse
from bbrl_exp.config.targets import check_prefix, find_target, import_allowed_packages
from bbrl_exp.errors import ConfigurationError

Contents = Mapping[str, Any]


def without_inherited(config: DictConfig) -> tuple[DictConfig, tuple[str, ...]]:
    """The configuration without such arguments, and their dotted keys.

    Args:
        config: composed; its ``hydra`` node says from which files and overrides. It is not changed.
    """
    left_out = _inherited_but_not_taken(config)
    if not left_out:
        return config, ()
    found = config.copy()
    for key in left_out:
        parent, _, name = key.rpartition(".")
        with open_dict(node := OmegaConf.select(found, parent)):
            del node[name]
    return found, left_out


def _inherited_but_not_taken(config: DictConfig) -> tuple[str, ...]:
    nodes = dict(_nodes(written(config), ""))
    try:
        for key, node in nodes.items():
            check_prefix(node["_target_"], key)
        import_allowed_packages()
    except ConfigurationError:  # the check of the nodes finds it again, and names it better
        return ()
    not_taken = [f"{key}.{name}" for key, node in nodes.items() for name in _not_taken(node, key)]
    if not not_taken:
        return ()
    overrides = parse([*_texts(config.hydra.overrides.hydra), *_texts(config.hydra.overrides.task)])
    try:
        layers = [*_files_of(config, overrides), _stated_by(overrides)]
    except (HydraException, OSError):  # on a machine without the files
        return ()
    return tuple(key for key in not_taken if _is_inherited(*key.rpartition(".")[::2], layers))


def _nodes(node: Contents, key: str) -> Iterator[tuple[str, Contents]]:
    """All nodes whose class is written as it is."""
    target = node.get("_target_")
    if isinstance(target, str) and "$" not in target:
        yield key, node
    for name, child in node.items():
        if isinstance(child, Mapping):
            yield from _nodes(child, f"{key}.{name}" if key else str(name))


def _not_taken(node: Contents, key: str) -> list[str]:
    try:
        parameters = inspect.signature(find_target(node["_target_"], f"{key}._target_")).parameters
    except ConfigurationError:  # perhaps of a node that is not used
        return []
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    return [name for name in node if name not in ("_target_", *ORDER_KEYS, *parameters)]


def _is_inherited(key: str, name: str, layers: Sequence[Contents]) -> bool:
    """Whether the last layer that states ``name`` is below the one that gave the node at ``key`` its class."""
    target: object = None
    replaced = stated = -1
    for index, layer in enumerate(layers):
        node: object = layer
        for part in key.split("."):
            node = node.get(part, {}) if isinstance(node, Mapping) else {}
        if not isinstance(node, Mapping):  # null, or an interpolation: what is below is gone
            target, replaced, stated = None, -1, -1
            continue
        if "_target_" in node:
            replaced = index if target not in (None, node["_target_"]) else replaced
            target = node["_target_"]
        stated = index if name in node else stated
    return stated < replaced


def _texts(overrides: Any) -> list[str]:
    return list(map(str, OmegaConf.to_container(overrides, resolve=False) or ()))


def _stated_by(overrides: Sequence[Override]) -> Contents:
    """What overrides of values state, as the contents of a file."""
    found = OmegaConf.create()
    for override in overrides:
        if "/" not in override.key_or_group and not override.is_delete():
            OmegaConf.update(found, override.key_or_group, override.value(), merge=True, force_add=True)
    return _plain(found)


def _plain(file: object) -> Contents:
    contents = OmegaConf.to_container(file, resolve=False)
    return {str(key): value for key, value in contents.items()} if isinstance(contents, dict) else {}


def _files_of(config: DictConfig, overrides: Sequence[Override]) -> list[Contents]:
    """What each file of a configuration states, in the order in which they are merged."""
    runtime = config.hydra.runtime
    choices = tuple(
        str(override.input_line)
        for override in overrides
        if "/" in override.key_or_group or override.key_or_group in runtime.choices
    )
    folders = tuple(Path(each.path) for each in runtime.config_sources if each.schema == "file")
    versions = [(path, path.stat().st_mtime_ns) for folder in folders for path in folder.glob("**/*.yaml")]
    return _files(folders, config.hydra.job.config_name, choices, tuple(versions))


@functools.lru_cache(maxsize=32)
def _files(
    folders: tuple[Path, ...], config_name: str, choices: tuple[str, ...], versions: tuple[object, ...]
) -> list[Contents]:
    with Composer(folders[0], config_name):
        loader = GlobalHydra.instance().config_loader()
        texts = [*search_path(folders[1:]), *choices]
        defaults = loader.compute_defaults_list(config_name, texts, RunMode.RUN).defaults
    contents = []
    for default in defaults:
        path = next((path for folder in folders if (path := folder / f"{default.config_path}.yaml").is_file()), None)
        if path is None:  # of Hydra's own
            continue
        file = OmegaConf.load(path)
        stated = OmegaConf.create()
        if default.package:
            OmegaConf.update(stated, default.package, file)
        contents.append(_plain(stated if default.package else file))
    return contents
