"""The keys of a configuration's root: their types, their defaults, what is allowed, and one line of help each.

YAML states the values; this module is the one source of what a value may be. Hydra accepts ``+misspelt=3``, so the
composed configuration is compared with these classes afterwards.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.config import texts_in
from bbrl_exp.records.metrics import MEASURED, Acting
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
    shown,
    text,
)

_DEVICE = re.compile(r"cpu|auto|cuda|cuda:\d+|mps")
_BELOW_GROUP = re.compile(r"\+*(env|memory)\.([^.=]+)")
_REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)")
_FOLDER_NAME = re.compile(r"[^\W_][\w.=,+-]{0,119}")
_Settings = TypeVar(
    "_Settings",
    "RootSettings",
    "AgentSettings",
    "MemorySettings",
    "EnvSettings",
    "EvalSettings",
    "CheckpointSettings",
    "StopSettings",
)
SWEEPS_FOLDER = "multirun"
_MOST_THREADS = 4096
_MOST_STEPS = 10**15  # 30 years at a million steps per second; products with it are exact in 64 bits
_MOST_EPISODES = 100_000  # each has its own environment
ACTION_SPACES = ("any", "discrete", "continuous")
ACTING: tuple[Acting, ...] = get_args(Acting)
BOTH = "both"
STOP_METRICS = tuple(f"eval_{policy}{name}" for policy in ("", *(f"{each}_" for each in ACTING)) for name in MEASURED)


def _is_device(value: object) -> bool:
    return isinstance(value, str) and _DEVICE.fullmatch(value) is not None


def _is_folder_name(value: object) -> bool:
    """Whether it can name a folder; a number names the folder of its digits."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        return False
    return value is None or (_FOLDER_NAME.fullmatch(str(value)) is not None and value != SWEEPS_FOLDER)


@dataclass(frozen=True, kw_only=True)
class RootSettings:
    """The root of a configuration. The fields without a plain value are the groups and the graph."""

    agent: dict[str, Any] = setting("group: who acts", Allowed("an agent of the group", MAPPING.accepts))
    env: dict[str, Any] = setting("group: where it acts", Allowed("an environment of the group", MAPPING.accepts))
    memory: dict[str, Any] | None = setting(
        "group: what an agent with a memory remembers by, and what its memory sees; null without a memory",
        Allowed("an option of the group, for an agent with a memory", MAPPING.or_null.accepts),
        default=None,
    )
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
    stop_when: dict[str, Any] | None = setting(
        "when the run is complete before total_steps: any of its keys suffices; null: never",
        MAPPING.or_null,
        default=None,
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
    schedule_steps: int | None = setting(
        "environment steps that schedules (anneal_...) refer to, keeping their last values after them; null: "
        "total_steps",
        integer(1, _MOST_STEPS).or_null,
        default=None,
    )
    device: str = setting(
        "device of the networks; auto: an accelerator if there is one, else cpu, and the plan says which",
        Allowed("cpu, auto, cuda, cuda:<n> or mps", _is_device),
    )
    num_threads: int = setting("number of torch threads", integer(1, _MOST_THREADS))
    compile: bool = setting(
        "compile the learner's updates: faster once that is done, and kept for later runs; rounds differently",
        TRUE_OR_FALSE,
        default=False,
    )
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
class MemorySettings:
    """The keys below ``memory`` that every option has."""

    cell: dict[str, Any] = setting("the node of the memory cell, which is given the number of its inputs", NODE)
    inputs: list[str] = setting(
        "what the cell sees: the observation, the action before it, the reward of that action",
        Allowed("a list of observation, action, reward, at least one", lambda value: isinstance(value, list)),
    )


@dataclass(frozen=True)
class EnvSettings:
    """The keys below ``env`` that every option has; its others are those that its node refers to."""

    agent: dict[str, Any] = setting("the node of the environment agent, which is given batch_size and seed", NODE)


@dataclass(frozen=True, kw_only=True)
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
    policy: str = setting(
        "how actions are chosen: mode takes the most likely, sample samples them, both plays each episode both ways",
        one_of((*ACTING, BOTH)),
        default="mode",
    )
    judged_by: str | None = setting(
        "with both, the one that eval_return_mean, the best checkpoint and stop_when follow; null: mode",
        one_of(ACTING).or_null,
        default=None,
    )
    success: str | None = setting(
        "key of info, recorded by env.info_keys, that says at an episode's end whether it was a success; null: "
        "is_success where it is recorded",
        text("a key of info, such as is_success").or_null,
        default=None,
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


@dataclass(frozen=True, kw_only=True)
class StopSettings:
    """The keys below ``stop_when``."""

    metric: str = setting(
        "the number of the evaluations along the run that at_least and no_improvement are about",
        one_of(STOP_METRICS),
        default=STOP_METRICS[0],
    )
    at_least: float | None = setting(
        "stop where the metric is at least this", number_between("a number", -math.inf).or_null, default=None
    )
    evaluations: int = setting("in how many evaluations in a row it must be", integer(1), default=1)
    no_improvement: int | None = setting(
        "stop after so many evaluations in a row without a new best", integer(1).or_null, default=None
    )
    wall_minutes: float | None = setting(
        "stop after so many minutes of the run, all its sessions together",
        number_between("a number above 0", 0).or_null,
        default=None,
    )

    @property
    def needs_evaluations(self) -> bool:
        """Whether the evaluations along the run are looked at."""
        return self.at_least is not None or self.no_improvement is not None


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the keys that those of earlier versions lack."""
    found = {**_defaults(RootSettings), **values}
    for key, kind in (("eval", EvalSettings), ("stop_when", StopSettings)):
        if isinstance(found.get(key), Mapping):
            found[key] = {**_defaults(kind), **found[key]}
    return found


def _defaults(kind: type[Any]) -> dict[str, Any]:
    fields = dataclasses.fields(kind)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def acting_of(settings: Mapping[str, Any]) -> Acting:
    """How the policy acts in the evaluations that a run is judged by.

    Args:
        settings: the keys below ``eval``.
    """
    policy: Acting = settings["policy"] if settings["policy"] in ACTING else settings["judged_by"] or ACTING[0]
    return policy


def measured_of(settings: Mapping[str, Any]) -> tuple[Acting, ...]:
    """The ways in which the policy acts in evaluations, one or both."""
    return ACTING if settings["policy"] == BOTH else (acting_of(settings),)


def success_variable(settings: Mapping[str, Any]) -> str:
    """The variable that says at the end of an episode whether it was a success; it need not be recorded."""
    return f"env/info/{settings['success'] or 'is_success'}"


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


def check_group_keys(written: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuses an override of a key below ``env`` or ``memory`` that nothing refers to: it would have no effect.

    Args:
        written: the root, interpolations as they are written.
        overrides: of the run.

    Raises:
        ConfigurationError: there is one.
    """
    referred = {name for text in texts_in(written) for name in _REFERENCE.findall(text)}
    relative = {part for name in referred if name.startswith(".") for part in name.split(".")}
    for override in overrides:
        if (match := _BELOW_GROUP.match(override)) is None:
            continue
        group, key = match[1], match[2]
        is_used = any(name == group or f"{name}.".startswith(f"{group}.{key}.") for name in referred)
        if not is_used and key not in ("agent", *relative):
            if override.startswith("+"):
                raise unknown_key(f"{group}.{key}", written[group].keys() - {key})
            users = "env.agent" if group == "env" else "a policy"
            raise ConfigurationError(f"key '{group}.{key}' has no effect: nothing refers to it, such as {users}")


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
    root = _read(RootSettings, with_defaults(values), "")
    _read(AgentSettings, root.agent, "agent")
    if root.memory is not None:
        _read(MemorySettings, {name: root.memory[name] for name in ("cell", "inputs") if name in root.memory}, "memory")
    _read(EnvSettings, {name: value for name, value in root.env.items() if name == "agent"}, "env")
    _read(EvalSettings, root.eval, "eval")
    _read(CheckpointSettings, root.checkpoint, "checkpoint")
    if root.eval["judged_by"] not in (None, *measured_of(root.eval)):
        policy = root.eval["policy"]
        allowed = f"null or {policy} with eval.policy={policy}, or eval.policy=both"
        raise bad_value("eval.judged_by", root.eval["judged_by"], allowed)
    if root.stop_when is not None:
        _check_stopping(_read(StopSettings, root.stop_when, "stop_when"), root)
    if root.pause_after is not None and root.checkpoint["every"] == 0:
        raise bad_value(
            "pause_after", root.pause_after, "null with checkpoint.every=0, which leaves nothing to resume from"
        )
    return dataclasses.replace(root, name=None if root.name is None else str(root.name))


def _check_stopping(stop: StopSettings, root: RootSettings) -> None:
    """Refuses keys without effect, numbers that are not measured, and what no evaluation could ever fulfil."""
    if stop.at_least is None and stop.evaluations != 1:
        raise bad_value("stop_when.evaluations", stop.evaluations, "left out without stop_when.at_least")
    if not stop.needs_evaluations:
        if stop.metric != STOP_METRICS[0]:
            allowed = "left out without stop_when.at_least and stop_when.no_improvement"
            raise bad_value("stop_when.metric", stop.metric, allowed)
        return
    measured = measured_of(root.eval)
    acting = next((each for each in ACTING if stop.metric.startswith(f"eval_{each}_")), measured[0])
    if acting not in measured:
        other = stop.metric.replace(f"_{acting}_", "_")
        raise bad_value("stop_when.metric", stop.metric, f"{other} with eval.policy={measured[0]}, or eval.policy=both")
    key = "stop_when.at_least" if stop.at_least is not None else "stop_when.no_improvement"
    value = stop.at_least if stop.at_least is not None else stop.no_improvement
    every = root.eval["every"]
    if every == 0 or (every is None and root.agent["learner"] is None):
        raise bad_value(key, value, f"null with eval.every={shown(every)}, which evaluates nothing along the run")
    if every is not None and every > root.total_steps:
        allowed = f"null with eval.every={every}, which is more than total_steps, {root.total_steps}"
        raise bad_value(key, value, allowed)
