"""What a run consists of, built from its checked configuration: the graph, the learner, the table of variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from bbrl_exp.config.action_space import check_action_space
from bbrl_exp.config.check import CheckedRun, with_note
from bbrl_exp.config.learner import build_graph_and_learner, check_chunks, check_reads
from bbrl_exp.config.run_size import RunSize
from bbrl_exp.config.targets import import_allowed_packages
from bbrl_exp.errors import ConfigurationError, WorkspaceError
from bbrl_exp.memory import available_memory
from bbrl_exp.processes.threads import set_threads
from bbrl_exp.seeding import seed_global_generators
from bbrl_exp.settings import bad_value

if TYPE_CHECKING:
    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.agents.graph_check import VariableFacts
    from bbrl_exp.data.replay import ReplayBuffer
    from bbrl_exp.data.ring import Field
    from bbrl_exp.envs.gym_agents import GymAgent
    from bbrl_exp.learners.learner import Learner


@dataclass(frozen=True, eq=False)
class PreparedRun:
    """A run that is ready to begin; used as a context, which closes its environments.

    Attributes:
        run: its configuration, the memory in its size included.
        graph: on its device.
        learner: on its device; None where nothing is learned.
        variables: the table of the workspace.
    """

    run: CheckedRun
    graph: TemporalAgent
    learner: Learner | None
    variables: Sequence[VariableFacts]

    def __enter__(self) -> PreparedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.graph.close()


@dataclass(frozen=True)
class _Trial:
    """What was found of an environment: why it may not repeat itself, and whether it ends its episodes."""

    not_repeatable: str | None
    has_time_limit: bool


def prepare(run: CheckedRun, *, without_environments: bool = False, is_tried: bool = False) -> PreparedRun:
    """Builds the graph and the learner of a run, and checks them together.

    With environments, threads and global generators are set, so that a run depends on nothing that this process did
    before.

    Args:
        run: checked.
        without_environments: stand-ins take the place of the environments: enough to check, not to run.
        is_tried: the environments of such a run have been tried before, and are not tried again.

    Raises:
        ConfigurationError: something cannot be built, the agent does not fit the environment, an environment fails at
            once, variables are read that nobody writes, or the memory does not suffice.
    """

    tried: list[_Trial] = []

    def try_out(single: GymAgent, batch_size: int) -> Agent | None:
        tried.append(_try_out(run, single, batch_size))
        return single.dry_copy(batch_size) if without_environments else None

    import_allowed_packages()
    if not without_environments:
        set_threads(run.root.num_threads)
        seed_global_generators(run.root.seed)
    try:
        built = build_graph_and_learner(run.config, run.written_key, None if is_tried else try_out)
        try:
            if not is_tried:
                run = replace(run, size=_with_trials(run.size, tried))
            return _checked(run, built.graph, built.learner, built.begun_anew, built.idle)
        except BaseException:
            built.graph.close()
            raise
    except ConfigurationError as error:
        raise with_note(error, run.note) from error


def _with_trials(size: RunSize, tried: Sequence[_Trial]) -> RunSize:
    return replace(
        size,
        not_repeatable=next((trial.not_repeatable for trial in tried if trial.not_repeatable), None),
        has_time_limit=all(trial.has_time_limit for trial in tried),
    )


def _try_out(run: CheckedRun, single: GymAgent, batch_size: int) -> _Trial:
    """Refuses an environment that the agent cannot act in, that fails at once, or whose batch does not fit in memory.

    Args:
        run: checked.
        single: the environment agent with one environment.
        batch_size: of the environment agent of the run.
    """
    from bbrl_exp.envs.checks import try_out
    from bbrl_exp.envs.pictures import check_pictures

    if batch_size != run.size.batch_size:
        raise bad_value("env.agent.batch_size", batch_size, f"the run's own batch_size, {run.size.batch_size}")
    check_action_space(run.config["agent"]["action_space"], single.env_spec, run.choices["agent"], run.folders)
    not_repeatable = try_out(single)
    if run.tracking.films:
        check_pictures(single)
    # Before a row of the whole batch is made: a mistyped batch size is refused, and not an attempt to hold it.
    row = single.dry_copy().bytes_per_step * batch_size
    replace(run.size, bytes_per_time_step=row).check_memory(available_memory())
    return _Trial(not_repeatable, single.env_spec.max_episode_steps is not None)


def _checked(
    run: CheckedRun,
    graph: TemporalAgent,
    learner: Learner | None,
    begun_anew: tuple[str, ...],
    idle: Mapping[str, int],
) -> PreparedRun:
    from bbrl_exp.agents.graph_check import check_graph
    from bbrl_exp.data.ring import Field

    for module in (graph, learner):
        if module is not None:
            module.to(run.device)
    variables = check_graph(graph)
    if learner is not None:
        check_reads(learner, [variable.name for variable in variables])
        check_chunks(learner, run.size.steps_per_chunk, run.size.batch_size, run.written_key)
    buffers = [] if learner is None else list(learner.replay_buffers().values())
    stored = {variable.name: Field(variable.shape[1:], variable.dtype) for variable in variables}
    size = replace(
        run.size,
        bytes_per_time_step=sum(variable.bytes_per_step for variable in variables),
        replay_capacity=sum(buffer.capacity for buffer in buffers),
        replay_bytes=sum(_bytes_for(buffer, stored, run.size.batch_size) for buffer in buffers),
        schedules=() if learner is None else learner.schedules,
        begun_anew=begun_anew,
        idle=idle,
    )
    size.check_memory(available_memory())
    return PreparedRun(replace(run, size=size), graph, learner, _with_reader(variables, learner))


def _with_reader(variables: Sequence[VariableFacts], learner: Learner | None) -> list[VariableFacts]:
    """The table of variables, in which the learner is among the readers of what it says it reads."""
    reads = set(getattr(learner, "reads", None) or ())
    label = type(learner).__name__
    return [replace(facts, readers=(*facts.readers, label)) if facts.name in reads else facts for facts in variables]


def _bytes_for(buffer: ReplayBuffer, stored: Mapping[str, Field], batch_size: int) -> int:
    try:
        return buffer.bytes_for(stored, batch_size)
    except WorkspaceError as error:
        raise ConfigurationError(str(error)) from error
