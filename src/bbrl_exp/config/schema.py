"""The keys of a configuration's root: their types, their defaults, what is allowed, and one line of help each.

YAML states the values; this module is the one source of what a value may be. Hydra accepts ``+misspelt=3``, so the
composed configuration is compared with these classes afterwards.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bbrl_exp.errors import ConfigurationError, did_you_mean

_DEVICE = re.compile(r"cpu|auto|cuda|cuda:\d+|mps")
_FOLDER_NAME = re.compile(r"[^\W_][\w.=,+-]{0,119}")
_Settings = TypeVar("_Settings", "RootSettings", "AgentSettings", "EnvSettings", "EvalSettings", "CheckpointSettings")
SWEEPS_FOLDER = "multirun"
STEPPINGS = ("auto", "scalar", "workers", "vectorized")
ACTION_SPACES = ("any", "discrete", "continuous")


def bad_value(key: str, value: object, allowed: str) -> ConfigurationError:
    """The error for ``value`` at ``key`` where ``allowed`` says what may stand there."""
    hint = ""
    if isinstance(value, float) and value.is_integer() and "an integer" in allowed:
        hint = f", written {int(value):_}"
    return ConfigurationError(f"key '{key}' = {shown(value)}: must be {allowed}{hint}")


def shown(value: object) -> str:
    """``value`` as a user would write it on the command line, shortened to one line."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _key(help_line: str, allowed: str, accepts: Callable[[Any], bool]) -> dict[str, Any]:
    return {"help": help_line, "allowed": allowed, "accepts": accepts}


def _is_int(lowest: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _is_int_or_null(lowest: int) -> Callable[[object], bool]:
    return lambda value: value is None or _is_int(lowest)(value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_names(value: object) -> bool:
    """Whether it is null, a list of names, or a mapping from names to names."""
    names = [*value, *value.values()] if isinstance(value, Mapping) else value
    return value is None or (isinstance(names, list) and all(isinstance(item, str) for item in names))


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_folder_name(value: object) -> bool:
    """Whether it can name a folder; a number names the folder of its digits."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        return False
    return value is None or (_FOLDER_NAME.fullmatch(str(value)) is not None and value != SWEEPS_FOLDER)


@dataclass(frozen=True)
class RootSettings:
    """The root of a configuration. The fields without a plain value are the groups and the graph."""

    agent: dict[str, Any] = field(metadata=_key("group: who acts", "an agent of the group", _is_mapping))
    env: dict[str, Any] = field(metadata=_key("group: where it acts", "an environment of the group", _is_mapping))
    tracking: dict[str, Any] = field(
        metadata=_key("group: what is recorded, and how often", "an option of the group", _is_mapping)
    )
    eval: dict[str, Any] = field(metadata=_key("how the policy is evaluated", "a mapping", _is_mapping))
    checkpoint: dict[str, Any] = field(metadata=_key("what a run goes on from", "a mapping", _is_mapping))
    resume: str = field(
        metadata=_key(
            "auto: go on with the run in the folder, if it is of this configuration; never: begin only; else the "
            "folder of the run to go on with",
            "auto, never or the folder of a run",
            lambda value: isinstance(value, str) and bool(value),
        )
    )
    pause_after: int | None = field(
        metadata=_key(
            "environment steps after which the run stops, to go on with the same command and a larger number or none",
            "null or an integer of at least 1",
            _is_int_or_null(1),
        )
    )
    name: str | None = field(
        metadata=_key(
            "folder of the run, outputs/<name>; null: date and time",
            "null or one folder name of letters, digits and ._=,+- (at most 120), beginning with a letter or a digit; "
            f"not {SWEEPS_FOLDER}, where sweeps lie",
            _is_folder_name,
        )
    )
    seed: int = field(metadata=_key("root of all random streams", "an integer of 0 or more", _is_int(0)))
    batch_size: int = field(metadata=_key("environments side by side", "an integer of at least 1", _is_int(1)))
    total_steps: int = field(
        metadata=_key(
            "environment steps of the run, rounded up to a whole chunk", "an integer of at least 1", _is_int(1)
        )
    )
    device: str = field(
        metadata=_key(
            "where networks live; auto takes an accelerator where there is one, and says so",
            "cpu, auto, cuda, cuda:<n> or mps",
            _matches(_DEVICE),
        )
    )
    num_threads: int = field(metadata=_key("threads of torch, always set", "an integer of at least 1", _is_int(1)))
    init_from: str | None = field(
        metadata=_key(
            "folder of a run whose last policy this one begins with",
            "null or the folder of a run",
            lambda value: value is None or (isinstance(value, str) and bool(value)),
        )
    )
    dry_run: bool = field(
        metadata=_key("check, show the plan with an estimate of its time, and run nothing", "true or false", _is_bool)
    )
    debug: bool = field(metadata=_key("a short run, anomaly detection, full tracebacks", "true or false", _is_bool))
    graph: dict[str, Any] = field(metadata=_key("the graph of agents that runs", "a node with a _target_", _is_mapping))


@dataclass(frozen=True)
class AgentSettings:
    """What stands below ``agent``."""

    action_space: str = field(
        metadata=_key(
            "actions that the agent can choose; discrete: one choice, continuous: one bounded box",
            f"one of {', '.join(ACTION_SPACES)}",
            lambda value: value in ACTION_SPACES,
        )
    )
    steps_per_chunk: int = field(
        metadata=_key(
            "time steps that the workspace holds before the run looks at them",
            "an integer of at least 1",
            _is_int(1),
        )
    )
    members: dict[str, Any] = field(
        metadata=_key("the agents of the graph: name -> node", "a mapping of nodes", _is_mapping)
    )
    learner: dict[str, Any] | None = field(
        metadata=_key(
            "what changes the agents after each chunk; null: nothing",
            "null or a node with a _target_",
            lambda value: value is None or _is_mapping(value),
        )
    )


@dataclass(frozen=True)
class EnvSettings:
    """What stands below ``env``."""

    id: str = field(
        metadata=_key(
            "gymnasium id",
            "a gymnasium id, such as CartPole-v1",
            lambda value: isinstance(value, str) and bool(value),
        )
    )
    stepping: str = field(
        metadata=_key("how a batch is stepped", f"one of {', '.join(STEPPINGS)}", lambda value: value in STEPPINGS)
    )
    workers: int = field(metadata=_key("worker processes, 0: none", "an integer of 0 or more", _is_int(0)))
    worker_timeout: float = field(metadata=_key("seconds to wait for a worker", "a number above 0", _is_number))
    wrappers: dict[str, Any] = field(
        metadata=_key("wrappers, innermost first: name -> node", "a mapping of nodes", _is_mapping)
    )
    kwargs: dict[str, Any] = field(metadata=_key("arguments of gymnasium.make", "a mapping", _is_mapping))
    clip_actions: bool = field(metadata=_key("clip Box actions for the environment", "true or false", _is_bool))
    info_keys: Any = field(
        metadata=_key("keys of info to record", "null, a list of names, or a mapping from names to dtypes", _is_names)
    )
    agent: dict[str, Any] = field(
        metadata=_key("the node of the environment agent", "a node with a _target_", _is_mapping)
    )


@dataclass(frozen=True)
class EvalSettings:
    """What stands below ``eval``."""

    every: int | None = field(
        metadata=_key(
            "environment steps between two evaluations; 0: none; null: a 20th of total_steps if the agent learns",
            "null or an integer of 0 or more",
            _is_int_or_null(0),
        )
    )
    episodes: int = field(metadata=_key("episodes of each of them", "an integer of at least 1", _is_int(1)))
    final_episodes: int | None = field(
        metadata=_key(
            "episodes of the evaluation after the last step; 0: none; null: 20 if the agent learns",
            "null or an integer of 0 or more",
            _is_int_or_null(0),
        )
    )
    seed: int = field(
        metadata=_key(
            "root of the lists of episodes, which are the same for every run", "an integer of 0 or more", _is_int(0)
        )
    )
    workers: int = field(
        metadata=_key(
            "1: evaluate in a process of its own, beside the training",
            "0 or 1",
            lambda value: _is_int(0)(value) and value <= 1,
        )
    )


@dataclass(frozen=True)
class CheckpointSettings:
    """What stands below ``checkpoint``."""

    every: int | None = field(
        metadata=_key(
            "environment steps between two checkpoints; 0: none at all; null: a 10th of total_steps if the "
            "agent learns, else a half",
            "null or an integer of 0 or more",
            _is_int_or_null(0),
        )
    )
    keep: int = field(metadata=_key("how many of the newest are kept", "an integer of at least 1", _is_int(1)))


def check_keys(values: Mapping[str, Any], known: Collection[str], key: str = "") -> None:
    """Refuses the keys of ``values`` that are not ``known``, with the nearest known one.

    Raises:
        ConfigurationError: a key is unknown, or a known one is missing.
    """
    for name in values:
        if name not in known:
            raise unknown_key(f"{key}.{name}" if key else str(name), known)
    for name in known:
        if name not in values:
            raise ConfigurationError(f"key '{f'{key}.{name}' if key else name}' is missing from the configuration")


def unknown_key(key: str, known: Collection[str]) -> ConfigurationError:
    """The error for a ``key`` whose last part is not among the ``known`` ones."""
    parent, _, name = key.rpartition(".")
    where = f" below '{parent}'" if parent else ""
    near = did_you_mean(name, known) or ";"
    return ConfigurationError(f"key '{key}' is not known{near} known{where}: {', '.join(sorted(known))}")


def _read(kind: type[_Settings], values: Mapping[str, Any], key: str) -> _Settings:
    keys = {key.name: key.metadata for key in dataclasses.fields(kind)}
    check_keys(values, keys, key)
    for name, metadata in keys.items():
        if not metadata["accepts"](values[name]):
            raise bad_value(f"{key}.{name}" if key else name, values[name], metadata["allowed"])
    return kind(**values)


def read_root(values: Mapping[str, Any]) -> RootSettings:
    """The root of a resolved configuration, checked down to what the schema knows below it.

    Raises:
        ConfigurationError: a key is unknown or missing, or a value is not allowed.
    """
    root = _read(RootSettings, values, "")
    _read(AgentSettings, root.agent, "agent")
    env = _read(EnvSettings, root.env, "env")
    _read(EvalSettings, root.eval, "eval")
    _read(CheckpointSettings, root.checkpoint, "checkpoint")
    if env.workers and env.stepping not in ("auto", "workers"):
        raise bad_value("env.workers", env.workers, f"0 with env.stepping={env.stepping}")
    if env.workers > root.batch_size:
        raise bad_value("env.workers", env.workers, f"at most batch_size, which is {root.batch_size}")
    if env.stepping == "workers" and not env.workers:
        raise bad_value("env.workers", env.workers, "at least 1 with env.stepping=workers")
    if root.pause_after is not None and root.checkpoint["every"] == 0:
        raise bad_value(
            "pause_after", root.pause_after, "null with checkpoint.every=0, which leaves nothing to go on from"
        )
    return dataclasses.replace(root, name=None if root.name is None else str(root.name))
