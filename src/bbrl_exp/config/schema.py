"""The keys of a configuration's root: their types, their defaults, what is allowed, and one line of help each.

YAML states the values; this module is the one source of what a value may be. Hydra accepts ``+misspelt=3``, so the
composed configuration is compared with these classes afterwards.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.config import texts_in
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
    one_of,
    setting,
)

_DEVICE = re.compile(r"cpu|auto|cuda|cuda:\d+|mps")
_OF_ENVIRONMENT = re.compile(r"\+*env\.([^.=]+)")
_REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)")
_FOLDER_NAME = re.compile(r"[^\W_][\w.=,+-]{0,119}")
_Settings = TypeVar("_Settings", "RootSettings", "AgentSettings", "EnvSettings", "EvalSettings", "CheckpointSettings")
SWEEPS_FOLDER = "multirun"
_MOST_THREADS = 4096
_MOST_STEPS = 10**15  # 30 years at a million steps per second; products with it are exact in 64 bits
_MOST_EPISODES = 100_000  # each has its own environment
ACTION_SPACES = ("any", "discrete", "continuous")


def _is_device(value: object) -> bool:
    return isinstance(value, str) and _DEVICE.fullmatch(value) is not None


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
        "auto: resume the run in the folder, if it has this configuration; never: begin only; else the folder of "
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
    seed: int = setting("root of all random streams", integer(0))
    batch_size: int = setting("environments side by side", integer(1))
    total_steps: int = setting("environment steps of the run, rounded up to a whole chunk", integer(1, _MOST_STEPS))
    device: str = setting(
        "where networks live; auto takes an accelerator where there is one, and says so",
        Allowed("cpu, auto, cuda, cuda:<n> or mps", _is_device),
    )
    num_threads: int = setting("threads of torch, always set", integer(1, _MOST_THREADS))
    init_from: str | None = setting(
        "folder of a run whose last policy this one begins with", folder("the folder of a run").or_null
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
    steps_per_chunk: int = setting("time steps that the workspace holds before the run looks at them", integer(1))
    members: dict[str, Any] = setting("the agents of the graph: name -> node", NODES)
    learner: dict[str, Any] | None = setting("what changes the agents after each chunk; null: nothing", NODE.or_null)


@dataclass(frozen=True)
class EnvSettings:
    """The keys below ``env`` that every option has; its others are those that its node refers to."""

    agent: dict[str, Any] = setting("the node of the environment agent, which is given batch_size and seed", NODE)


@dataclass(frozen=True)
class EvalSettings:
    """The keys below ``eval``."""

    every: int | None = setting(
        "environment steps between two evaluations; 0: none; null: a 20th of total_steps if the agent learns",
        integer(0).or_null,
    )
    episodes: int = setting("episodes of each of them", integer(1, _MOST_EPISODES))
    final_episodes: int | None = setting(
        "episodes of the evaluation after the last step; 0: none; null: 20 if the agent learns",
        integer(0, _MOST_EPISODES).or_null,
    )
    seed: int = setting("root of the lists of episodes, which are the same for every run", integer(0))
    workers: int = setting(
        "1: evaluate in another process, beside the training",
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
    keep: int = setting("how many of the newest are kept", integer(1))


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


def check_env_keys(written: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuses an override of a key below ``env`` that nothing refers to: it would have no effect.

    Args:
        written: the root, interpolations as they are written.
        overrides: of the run.

    Raises:
        ConfigurationError: there is one.
    """
    referred = {name for text in texts_in(written) for name in _REFERENCE.findall(text)}
    relative = {part for name in referred if name.startswith(".") for part in name.split(".")}
    given = [match[1] for text in overrides if (match := _OF_ENVIRONMENT.match(text)) is not None]
    for key in given:
        is_used = any(name == "env" or f"{name}.".startswith(f"env.{key}.") for name in referred)
        if not is_used and key not in ("agent", *relative):
            raise unknown_key(f"env.{key}", written["env"].keys() - {key})


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
    _read(EnvSettings, {name: value for name, value in root.env.items() if name == "agent"}, "env")
    _read(EvalSettings, root.eval, "eval")
    _read(CheckpointSettings, root.checkpoint, "checkpoint")
    if root.pause_after is not None and root.checkpoint["every"] == 0:
        raise bad_value(
            "pause_after", root.pause_after, "null with checkpoint.every=0, which leaves nothing to resume from"
        )
    return dataclasses.replace(root, name=None if root.name is None else str(root.name))
