"""The configuration that a run was started with: the YAML files in its ``.hydra`` folder, as Hydra names them.

Where a run is used again they are read as Hydra reads them; where many runs are compared, and a file may be anybody's,
as dotted keys and texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.layout import CONFIG, HYDRA, HYDRA_CONFIG, OVERRIDES, UnreadableError
from bbrl_exp.text import one_line

if TYPE_CHECKING:
    from omegaconf import DictConfig, ListConfig

# Keys that configurations of earlier versions lack, with the values at which nothing is different.
ADDED_KEYS: Mapping[str, Any] = {
    "eval.policy": "mode",
    "eval.judged_by": None,
    "eval.success": None,
    "schedule_steps": None,
    "compile": False,
    "stop_when": None,
    "stop_when.metric": "eval_return_mean",
    "stop_when.at_least": None,
    "stop_when.evaluations": 1,
    "stop_when.no_improvement": None,
    "stop_when.wall_minutes": None,
}
# A key of environments, wherever their node is repeated, that earlier versions lack; null is what they did.
ADDED_TO_ENVIRONMENTS = "float_observations"
# Which of several agents steps the environments, and their classes by name: earlier versions had the first one only.
BACKEND, BACKENDS, FIRST_BACKEND = "env.backend", "env.backends", "gym"
MAPPINGS_OF_NODES = ("members", "wrappers", "sinks")  # name -> node, or null for one that is switched off
_CALL = re.compile(r"\$\{[^}]*:")
_HIDDEN = re.compile(r"\0(\d+)\0")
_MOST_BYTES = 1_000_000
_DEEPEST = 50


def write_config(folder: Path, config: Mapping[str, Any], hydra: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Writes ``config.yaml``, ``hydra.yaml`` and ``overrides.yaml`` in the folder ``.hydra`` of a run.

    The configuration is as composed, with interpolations as they are written.

    Raises:
        BbrlExpError: the disk refuses.
    """
    from omegaconf import OmegaConf

    contents = {CONFIG: dict(config), HYDRA_CONFIG: {"hydra": dict(hydra)}, OVERRIDES: list(overrides)}
    try:
        (folder / HYDRA).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_text(OmegaConf.to_yaml(content), encoding="utf-8")
    except OSError as error:
        raise BbrlExpError(f"cannot write '{folder / HYDRA}': {error.strerror or error}") from error


def as_yaml(config: Mapping[str, Any]) -> str:
    """A configuration as YAML, its keys in their order."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))


def load_config(path: Path) -> DictConfig | ListConfig:
    """The contents of a YAML file, interpolations not resolved.

    Raises:
        UnreadableError: it cannot be read.
    """
    from omegaconf import OmegaConf  # reports do without it
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.load(path)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path} cannot be read: {one_line(error)}") from error


def read_resolved(folder: Path) -> dict[str, Any]:
    """The configuration of the run in ``folder``, interpolations resolved.

    Those that call a function, which might read a variable of the environment, are left as they are written.

    Raises:
        UnreadableError: it cannot be read.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    calls: list[str] = []

    def hidden(text: str) -> str:
        if not _CALL.search(text):
            return text
        calls.append(text)
        return f"\0{len(calls) - 1}\0"

    def shown(text: str) -> str:
        return _HIDDEN.sub(lambda found: calls[int(found[1])], text)

    contents = OmegaConf.to_container(load_config(folder / CONFIG), resolve=False)
    try:
        config = OmegaConf.create(_with_texts(contents, hidden))
        contents = _with_texts(OmegaConf.to_container(config, resolve=True), shown)
    except OmegaConfBaseException as error:
        raise UnreadableError(f"{folder / CONFIG} cannot be read: {one_line(error)}") from error
    if not isinstance(contents, dict):
        raise UnreadableError(f"{folder / CONFIG} is not a mapping")
    return {str(key): value for key, value in contents.items()}


def read_texts(folder: Path) -> dict[str, str]:
    """The configuration in ``folder``: dotted keys, values as text, interpolations not resolved.

    A member, a wrapper or a sink that is switched off by null is left out, as if it had never been there.

    Raises:
        UnreadableError: there is none, or it is not a configuration.
    """
    try:
        contents = (folder / CONFIG).read_bytes()
    except FileNotFoundError:
        raise UnreadableError(f"no {CONFIG}") from None
    except OSError as error:
        raise UnreadableError(f"{CONFIG} cannot be read: {error.strerror}") from error
    if len(contents) > _MOST_BYTES:
        raise UnreadableError(f"{CONFIG} has more than {_MOST_BYTES:,} bytes")
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        if not _is_tame(yaml.parse(contents, Loader=loader)):
            raise UnreadableError(f"{CONFIG} holds aliases, or is nested too deeply")
        loaded = yaml.load(contents, Loader=loader)
        if not isinstance(loaded, dict):
            raise UnreadableError(f"{CONFIG} is not a mapping")
        return dict(_flat(loaded, ""))
    except (yaml.YAMLError, TypeError, ValueError) as error:  # a 13th month, keys that cannot be sorted
        raise UnreadableError(f"{CONFIG} is not YAML") from error


def with_added_keys(texts: Mapping[str, str]) -> dict[str, str]:
    """What :func:`read_texts` gave, with the keys that the run's version did not have, so that all versions compare."""
    found = {**{key: as_text(value) for key, value in ADDED_KEYS.items()}, **texts}
    del found["stop_when"]  # the keys below it say the same
    key = f"env.{ADDED_TO_ENVIRONMENTS}"
    if found.get(key) == "null":
        del found[key]
        found.pop(f"env.agent.{ADDED_TO_ENVIRONMENTS}", None)
    first = f"{BACKENDS}.{FIRST_BACKEND}"
    if found.get(BACKEND) == FIRST_BACKEND and first in found:
        found["env.agent._target_"] = found[first]
        found = {key: text for key, text in found.items() if key != BACKEND and not key.startswith(f"{BACKENDS}.")}
    return found


def texts_in(node: object) -> Iterator[str]:
    """The texts at any depth of a configuration."""
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from texts_in(child)


def _with_texts(node: Any, change: Callable[[str], str]) -> Any:
    """A configuration with its texts, at any depth, changed."""
    if isinstance(node, str):
        return change(node)
    if isinstance(node, dict):
        return {key: _with_texts(child, change) for key, child in node.items()}
    return [_with_texts(child, change) for child in node] if isinstance(node, list) else node


def overridden(overrides: Sequence[str]) -> dict[str, str]:
    """The keys and values of Hydra overrides: ``+a.b=1`` is ``{"a.b": "1"}``; deletions are left out."""
    pairs = (override.partition("=") for override in overrides if not override.startswith("~"))
    return {key.lstrip("+").replace("/", "."): value for key, sign, value in pairs if sign}


def as_text(value: object) -> str:
    """A value of a configuration, as on a command line."""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _is_tame(events: Iterable[object]) -> bool:
    """Whether a file is as small as it looks: aliases of aliases make a value without end."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
            return False
    return True


def _flat(value: dict[object, object], prefix: str) -> Iterator[tuple[str, str]]:
    for name, child in value.items():
        if name in MAPPINGS_OF_NODES and isinstance(child, dict):
            yield from _flat({each: node for each, node in child.items() if node is not None}, f"{prefix}{name}.")
        elif isinstance(child, dict) and child:
            yield from _flat(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", as_text(child)
