"""Everything that is checked before a run makes anything: keys, values, targets, reads and writes, memory."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from bbrl_exp.app.action_space import check_action_space
from bbrl_exp.app.compose import resolve, written_key
from bbrl_exp.app.experiment import other_experiment, with_experiment
from bbrl_exp.app.graph import check_nodes
from bbrl_exp.app.identity import identity
from bbrl_exp.app.learner import build_graph_and_learner, check_chunks, check_reads
from bbrl_exp.app.plan import Plan, chunks_per_recording
from bbrl_exp.app.provenance import config_hash
from bbrl_exp.app.schema import RootSettings, bad_value, check_keys, read_root
from bbrl_exp.app.targets import import_allowed_packages
from bbrl_exp.app.trial import trial_of
from bbrl_exp.errors import ConfigurationError, WorkspaceError
from bbrl_exp.memory import available_memory
from bbrl_exp.tracking.trial import Trial

if TYPE_CHECKING:
    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.data.packing import Field
    from bbrl_exp.data.replay import ReplayBuffer
    from bbrl_exp.envs.gym_agents import GymAgent
    from bbrl_exp.tracking.settings import TrackingSettings

_DEBUG_RECORDINGS = 2
_CHECKPOINTS_OF_A_LEARNER, _CHECKPOINTS_OF_OTHERS = 10, 2


@dataclass(frozen=True)
class CheckedRun:
    """A configuration that passed every check.

    Attributes:
        config: resolved, plain.
        root: its root.
        tracking: what is recorded.
        device: where networks live, ``"cpu"``, ``"cuda:0"``, …
        plan: the size of the run.
        identity: the part of ``config`` that makes it the same run as another.
        config_hash: of ``identity``.
        written: where the user writes what stands at a key.
        choices: option of each group, ``{"agent": "random", …}``.
        make_trial: makes what of it stands on TensorBoard's HPARAMS page.
        note: what the user may not have meant; None for nothing.
    """

    config: dict[str, Any]
    root: RootSettings
    tracking: TrackingSettings
    device: str
    plan: Plan
    identity: dict[str, Any]
    config_hash: str
    written: Callable[[str], str]
    choices: dict[str, str | None]
    make_trial: Callable[[], Trial]
    note: str | None = None

    @property
    def trial(self) -> Trial:
        """What of the run stands on TensorBoard's HPARAMS page."""
        return self.make_trial()

    @property
    def shown_trial(self) -> Trial | None:
        """The trial, None where nothing is written for TensorBoard."""
        return self.trial if self.tracking.enabled and self.tracking.tensorboard else None

    @property
    def checkpoint_every(self) -> int:
        """Environment steps between two checkpoints, 0 for none at all."""
        every = self.root.checkpoint["every"]
        if every is not None:
            return int(every)
        learns = self.root.agent["learner"] is not None
        return math.ceil(self.plan.total_steps / (_CHECKPOINTS_OF_A_LEARNER if learns else _CHECKPOINTS_OF_OTHERS))


def check(config: DictConfig, same: dict[str, Any] | None = None, *, graph_too: bool = True) -> CheckedRun:
    """Checks a composed configuration and makes nothing.

    Args:
        config: with its ``hydra`` node.
        same: its identity, if that is known.
        graph_too: check the nodes, build the graph for one environment, run it dry and throw it away; without it, the
            memory of the plan is unknown and counted as 0.

    Raises:
        ConfigurationError: something cannot be used; the message names key, value and what is allowed.
    """
    plain = resolve(config)
    root = read_root(plain)
    tracking = _read_tracking(root.tracking)
    device = resolve_device(root.device)
    import_allowed_packages()
    written = functools.partial(written_key, config)
    plan = _plan(root)
    if graph_too:
        try:
            check_nodes(plain, written)
            plan = _with_memory(plan, config, plain, written, films=tracking.films)
        except ConfigurationError as error:
            raise with_experiment(error, config) from error
    same = identity(config) if same is None else same
    return CheckedRun(
        config=plain,
        root=root,
        tracking=tracking,
        device=device,
        plan=plan,
        identity=same,
        config_hash=config_hash(same),
        written=written,
        choices=_choices(config),
        make_trial=functools.partial(trial_of, config, plain),
        note=other_experiment(config),
    )


def resolve_device(device: str) -> str:
    """The device that ``device`` stands for: ``auto`` becomes an accelerator where there is one, else ``cpu``.

    Raises:
        ConfigurationError: a device is asked for that is not there.
    """
    if device == "cpu":
        return device
    import torch

    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if n_cuda else "mps" if has_mps else "cpu"
    there = ["cpu", *(f"cuda:{index}" for index in range(n_cuda)), *(["mps"] if has_mps else [])]
    if device not in there and not (device == "cuda" and n_cuda):
        raise ConfigurationError(
            f"key 'device' = '{device}': there is none here; allowed here: {', '.join(there)}, auto"
        )
    return device


def _read_tracking(values: Mapping[str, Any]) -> TrackingSettings:
    from bbrl_exp.tracking.settings import TrackingSettings

    check_keys(values, [field.name for field in fields(TrackingSettings)], "tracking")
    try:
        return TrackingSettings(**values)
    except ConfigurationError as error:
        raise ConfigurationError(re.sub(r"^([\w.]+)=", r"key '\1' = ", str(error))) from error


def _plan(root: RootSettings) -> Plan:
    steps_per_chunk = root.agent["steps_per_chunk"]
    chunks = chunks_per_recording(steps_per_chunk, learns=root.agent["learner"] is not None)
    total_steps = root.total_steps
    if root.debug:
        total_steps = min(total_steps, _DEBUG_RECORDINGS * chunks * steps_per_chunk * root.batch_size)
    return Plan(total_steps, root.batch_size, steps_per_chunk, chunks, bytes_per_time_step=0)


def _with_memory(
    plan: Plan, composed: DictConfig, config: Mapping[str, Any], written: Callable[[str], str], *, films: bool
) -> Plan:
    """The plan with the memory of one row of all variables, from a dry run of the graph without its environments.

    Raises:
        ConfigurationError: the graph or the learner cannot be built, the agent does not fit the environment, an
            environment fails at once, or the memory is not there.
    """
    from bbrl_exp.agents.dry_run import check_graph
    from bbrl_exp.data.packing import Field
    from bbrl_exp.envs.pictures import check_pictures
    from bbrl_exp.envs.try_out import try_out

    def stand_in(single: GymAgent, batch_size: int) -> Agent:
        if batch_size != plan.batch_size:
            raise bad_value("env.agent.batch_size", batch_size, f"the run's own batch_size, {plan.batch_size}")
        check_action_space(composed, config["agent"]["action_space"], single.env_spec)
        try_out(single)
        if films:
            check_pictures(single)
        # Before a row of the whole batch is made: a mistyped batch size is refused, and not an attempt to hold it.
        replace(plan, bytes_per_time_step=single.dry_copy().bytes_per_step * batch_size).check_memory(
            available_memory()
        )
        return single.dry_copy(batch_size)

    built = build_graph_and_learner(config, written, stand_in)
    learner = built.learner
    with contextlib.closing(built.graph):
        variables = check_graph(built.graph)
        if learner is not None:
            check_reads(learner, [variable.name for variable in variables])
            check_chunks(learner, plan.steps_per_chunk, plan.batch_size, written)
    buffers = [] if learner is None else list(learner.replay_buffers().values())
    stored = {variable.name: Field(variable.shape[1:], variable.dtype) for variable in variables}
    plan = replace(
        plan,
        bytes_per_time_step=sum(variable.bytes_per_step for variable in variables),
        replay_capacity=sum(buffer.capacity for buffer in buffers),
        replay_bytes=sum(_bytes_for(buffer, stored, plan.batch_size) for buffer in buffers),
        schedules=() if learner is None else learner.schedules,
        begun_anew=built.begun_anew,
        idle=built.idle,
    )
    plan.check_memory(available_memory())
    return plan


def _bytes_for(buffer: ReplayBuffer, stored: Mapping[str, Field], batch_size: int) -> int:
    try:
        return buffer.bytes_for(stored, batch_size)
    except WorkspaceError as error:
        raise ConfigurationError(str(error)) from error


def _choices(config: DictConfig) -> dict[str, str | None]:
    found = config.hydra.runtime.choices
    return {group: found.get(group) for group in ("agent", "env", "tracking", "experiment")}
