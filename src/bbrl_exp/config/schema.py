"""The keys of a configuration's root: their types, their defaults, what is allowed, and one line of help each.

YAML states the values; this module is the one source of what a value may be. Hydra accepts ``+misspelt=3``, so the
composed configuration is compared with these classes afterwards.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.settings import (
    MAPPING,
    NODE,
    NODES,
    TRUE_OR_FALSE,
    Allowed,
    bad_value,
    check_settings,
    folder,
    integer,
    number_between,
    one_of,
    setting,
    text,
)

_DEVICE = re.compile(r"cpu|auto|cuda|cuda:\d+|mps")
_FOLDER_NAME = re.compile(r"[^\W_][\w.=,+-]{0,119}")
_Settings = TypeVar("_Settings", "RootSettings", "AgentSettings", "EnvSettings", "EvalSettings", "CheckpointSettings")
SWEEPS_FOLDER = "multirun"
_MOST_THREADS = 4096
_MOST_STEPS = 10**15  # 30 years at a million steps per second; products with it are exact in 64 bits
_MOST_EPISODES = 100_000  # each has its own environment
STEPPINGS = ("auto", "scalar", "workers", "vectorized")
ACTION_SPACES = ("any", "discrete", "continuous")


def _is_device(value: object) -> bool:
    return isinstance(value, str) and _DEVICE.fullmatch(value) is not None


def _is_names(value: object) -> bool:
    """Whether it is null, a list of names, or a mapping from names to names."""
    names = [*value, *value.values()] if isinstance(value, Mapping) else value
    return value is None or (isinstance(names, list) and all(isinstance(item, str) for item in names))


def _is_folder_name(value: object) -> bool:
    """Whether it can name a folder; a number names the folder of its digits."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        return False
    return value is None or (_FOLDER_NAME.fullmatch(str(value)) is not None and value != SWEEPS_FOLDER)


@dataclass(frozen=True)
class RootSettings:
    """The root of a configuration. The fields without a plain value are the groups and the graph."""

    agent: dict[str, Any] = setting("group: who acts", Allowed("an agent of the group", MAPPING.accepts))
    env: dict[str, Any] = setting("group: where it acts", Allowed("an environment of the group", MAPPING.accepts))
    tracking: dict[str, Any] = setting(
        "group: what is recorded, and how often", Allowed("an option of the group", MAPPING.accepts)
    )
    eval: dict[str, Any] = setting("how the policy is evaluated", MAPPING)
    checkpoint: dict[str, Any] = setting("how a run is saved, to be resumed", MAPPING)
    resume: str = setting(
        "auto: resume the run in the folder if its configuration is the same; never: start only; or the folder of "
        "the run to resume",
        folder("auto, never or the folder of a run"),
    )
    pause_after: int | None = setting(
        "environment steps after which the run stops; the same command with a larger number or null resumes it",
        integer(1).or_null,
    )
    name: str | None = setting(
        "folder of the run, outputs/<name>; null: date and time",
        Allowed(
            "null or one folder name of letters, digits and ._=,+- (at most 120), beginning with a letter or a digit; "
            f"not {SWEEPS_FOLDER}, the folder of sweeps",
            _is_folder_name,
        ),
    )
    seed: int = setting("root seed of all random streams", integer(0))
    batch_size: int = setting("number of parallel environments", integer(1))
    total_steps: int = setting("environment steps of the run, rounded up to a whole chunk", integer(1, _MOST_STEPS))
    device: str = setting(
        "device of the networks; auto: an accelerator if there is one, else cpu, and the plan says which",
        Allowed("cpu, auto, cuda, cuda:<n> or mps", _is_device),
    )
    num_threads: int = setting("number of torch threads", integer(1, _MOST_THREADS))
    init_from: str | None = setting(
        "folder of a run whose last policy this run starts from", folder("the folder of a run").or_null
    )
    dry_run: bool = setting("check, show the plan with an estimate of its time, and run nothing", TRUE_OR_FALSE)
    debug: bool = setting("a short run, anomaly detection, full tracebacks", TRUE_OR_FALSE)
    graph: dict[str, Any] = setting("the graph of agents that runs", NODE)


@dataclass(frozen=True)
class AgentSettings:
    """The keys below ``agent``."""

    action_space: str = setting(
        "actions that the agent can choose; discrete: one choice, continuous: one bounded box", one_of(ACTION_SPACES)
    )
    steps_per_chunk: int = setting("time steps per chunk, after which the learner is called", integer(1))
    members: dict[str, Any] = setting("the agents of the graph: name -> node; null: switched off", NODES)
    learner: dict[str, Any] | None = setting("what updates the agents after each chunk; null: nothing", NODE.or_null)


@dataclass(frozen=True)
class EnvSettings:
    """The keys below ``env``."""

    id: str = setting("gymnasium id", text("a gymnasium id, such as CartPole-v1"))
    stepping: str = setting("how a batch is stepped", one_of(STEPPINGS))
    workers: int = setting("worker processes, 0: none", integer(0))
    worker_timeout: float = setting("seconds to wait for a worker", number_between("a number above 0", 0))
    wrappers: dict[str, Any] = setting("wrappers, innermost first: name -> node", NODES)
    kwargs: dict[str, Any] = setting("arguments of gymnasium.make", MAPPING)
    clip_actions: bool = setting("clip Box actions for the environment", TRUE_OR_FALSE)
    info_keys: Any = setting(
        "keys of info to record", Allowed("null, a list of names, or a mapping from names to dtypes", _is_names)
    )
    agent: dict[str, Any] = setting("the node of the environment agent", NODE)


@dataclass(frozen=True)
class EvalSettings:
    """The keys below ``eval``."""

    every: int | None = setting(
        "environment steps between two evaluations; 0: none; null: a 20th of total_steps if the agent learns",
        integer(0).or_null,
    )
    episodes: int = setting("episodes per evaluation", integer(1, _MOST_EPISODES))
    final_episodes: int | None = setting(
        "episodes of the evaluation after the last step; 0: none; null: 20 if the agent learns",
        integer(0, _MOST_EPISODES).or_null,
    )
    seed: int = setting("root seed of the episodes, which are the same for every run", integer(0))
    workers: int = setting(
        "1: evaluate in a separate process while the training continues",
        Allowed("0 or 1", integer(0, 1).accepts),
    )


@dataclass(frozen=True)
class CheckpointSettings:
    """The keys below ``checkpoint``."""

    every: int | None = setting(
        "environment steps between two checkpoints; 0: none at all; null: a 10th of total_steps if the "
        "agent learns, else a half",
        integer(0).or_null,
    )
    keep: int = setting("number of checkpoints kept, the newest", integer(1))


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
    check_keys(values, [field.name for field in dataclasses.fields(kind)], key)
    check_settings(kind, values, key)
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
            "pause_after", root.pause_after, "null with checkpoint.every=0, which leaves nothing to resume from"
        )
    return dataclasses.replace(root, name=None if root.name is None else str(root.name))
