"""What a run consists of, built from its checked configuration: the graph, the learner, the table of variables."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.check import CheckedRun, with_note
from bbrl_exp.config.graph import LEARNER_KEY, build_graph_of, env_spec_of, with_written_key
from bbrl_exp.config.nodes import build, parameters_of, refusals
from bbrl_exp.config.options import check_action_space
from bbrl_exp.config.run_size import RunSize
from bbrl_exp.config.schema import ACTING, success_variable
from bbrl_exp.config.sinks import build_sinks
from bbrl_exp.config.targets import import_allowed_packages
from bbrl_exp.errors import ConfigurationError, GraphError, WorkspaceError, did_you_mean
from bbrl_exp.memory import available_memory
from bbrl_exp.processes.threads import set_threads
from bbrl_exp.seeding import seed_global_generators
from bbrl_exp.settings import bad_value, shown
from bbrl_exp.training.saved_state import read_state

if TYPE_CHECKING:
    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.agents.graph_check import VariableFacts
    from bbrl_exp.config.graph import StandIn
    from bbrl_exp.data.replay import ReplayBuffer
    from bbrl_exp.data.ring import Field
    from bbrl_exp.envs.environment_agent import EnvironmentAgent
    from bbrl_exp.learners.learner import Learner
    from bbrl_exp.tracking.sink import Sink

_NOT_FILLED = ("name",)


@dataclass(frozen=True, eq=False)
class PreparedRun:
    """A run that is ready to begin; used as a context, which closes its environments.

    Attributes:
        run: its configuration, the memory in its size included.
        graph: on its device.
        learner: on its device; None where nothing is learned.
        variables: the table of the workspace, the learner among the readers.
        sinks: where it is recorded, by name; not started.
    """

    run: CheckedRun
    graph: TemporalAgent
    learner: Learner | None
    variables: Sequence[VariableFacts]
    sinks: Mapping[str, Sink]

    def __enter__(self) -> PreparedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.graph.close()


def prepare(run: CheckedRun, *, without_environments: bool = False, is_tried: bool = False) -> PreparedRun:
    """Builds the graph and the learner of a run, and checks them together.

    With environments, threads and global generators are set, so that a run depends on nothing that this process did
    before.

    Args:
        run: checked.
        without_environments: substitutes replace the environments: enough to check, not to run.
        is_tried: the environments of such a run have been tried before, and are not tried again.

    Raises:
        ConfigurationError: something cannot be built, the agent does not fit the environment, an environment fails at
            once, variables are read that nobody writes, or the memory does not suffice.
    """
    size = run.size

    def try_out(single: EnvironmentAgent, batch_size: int, make: Callable[[], EnvironmentAgent]) -> Agent | None:
        nonlocal size
        size = _try_out(run, size, single, batch_size, make)
        return single.dry_copy(batch_size) if without_environments else None

    import_allowed_packages()
    if not without_environments:
        set_threads(run.root.num_threads)
        seed_global_generators(run.root.seed)
    try:
        stand_in = None if is_tried else try_out
        graph, learner, begun_again = build_graph_and_learner(run.config, run.written_key, stand_in)
        try:
            return _checked(replace(run, size=replace(size, begun_again=begun_again)), graph, learner)
        except BaseException:
            graph.close()
            raise
    except ConfigurationError as error:
        raise with_note(error, run.note) from error


def _try_out(
    run: CheckedRun, size: RunSize, single: EnvironmentAgent, batch_size: int, make: Callable[[], EnvironmentAgent]
) -> RunSize:
    """Refuses an environment that the agent cannot act in, that fails at once, or whose batch does not fit in memory.

    Gives the size with what was found: why the environment may not repeat itself or be resumed, and whether it ends its
    episodes.
    """
    from bbrl_exp.envs.checks import check_evaluation, row_bytes, try_out, why_not_resumable

    if batch_size != size.batch_size:
        raise bad_value("env.agent.batch_size", batch_size, f"the run's own batch_size, {size.batch_size}")
    check_action_space(run.config["agent"]["action_space"], single.env_spec, run.choices["agent"], run.folders)
    not_repeatable = size.not_repeatable or try_out(single)
    check_evaluation(single)
    if run.tracking.films:
        single.check_frames()
    # Before a row of the whole batch is made: a mistyped batch size is refused, and not an attempt to hold it.
    replace(size, bytes_per_time_step=row_bytes(single) * batch_size).check_memory(available_memory())
    not_resumable = size.not_resumable or (why_not_resumable(single, make) if run.checkpoint_every else None)
    if not_resumable is not None and run.root.pause_after is not None:
        raise bad_value("pause_after", run.root.pause_after, f"null: {not_resumable}")
    return replace(
        size,
        not_repeatable=not_repeatable,
        not_resumable=not_resumable,
        has_time_limit=size.has_time_limit and single.env_spec.max_episode_steps is not None,
        longest_resumable_episode=size.longest_resumable_episode or single.longest_resumable_episode,
    )


def build_graph_and_learner(
    config: Mapping[str, Any], written: Callable[[str], str] = str, stand_in: StandIn | None = None
) -> tuple[TemporalAgent, Learner | None, tuple[str, ...]]:
    """Builds what a run consists of, with the parameters of the run ``init_from`` where one is named.

    The graph has these parameters before the learner is built, which may copy parts of it. The learner takes over those
    of its attributes that fit as a whole.

    Args:
        config: resolved and checked.
        written: where the user writes what is found at a key.
        stand_in: as for the graph.

    Returns:
        The graph, the learner (None where nothing is learned), and the learner's attributes with parameters that those
        of the run ``init_from`` did not fit.

    Raises:
        ConfigurationError: something cannot be built, or the other run's parameters do not fit the graph.
    """
    graph = build_graph_of(config, written, stand_in)
    try:
        if config["init_from"] is None:
            return graph, build_learner_of(config, graph, written), ()
        return graph, *_learner_from_run(config, graph, written)
    except BaseException:
        graph.close()
        raise


def _learner_from_run(
    config: Mapping[str, Any], graph: TemporalAgent, written: Callable[[str], str]
) -> tuple[Learner | None, tuple[str, ...]]:
    from bbrl_exp.training.checkpoint import load_fitting, load_graph

    run_folder = Path(config["init_from"])
    where = f"key 'init_from' = {shown(str(run_folder))}"
    try:
        state = read_state(run_folder)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    load_graph(graph, state, where)
    learner = build_learner_of(config, graph, written)
    if learner is None:
        return None, ()
    begun_again = load_fitting(learner, graph, state)
    learner.begin_from_loaded_parameters()
    return learner, begun_again


def build_learner_of(
    config: Mapping[str, Any], graph: TemporalAgent, written: Callable[[str], str] = str
) -> Learner | None:
    """Builds the learner of a configuration; None where the agent learns nothing.

    A constructor parameter of the learner, or of a node inside it, that is named like an agent of the graph is that
    agent unless YAML says otherwise; ``env_spec`` is filled in as in the graph.

    Raises:
        ConfigurationError: a required parameter is missing, or a class refuses its arguments.
    """
    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.learners.learner import Learner
    from bbrl_exp.learners.parts.state import adopt_hidden_modules

    node = config["agent"]["learner"]
    if node is None:
        return None
    known: dict[str, object] = {"env_spec": env_spec_of(graph)}
    for module in graph.modules():
        if isinstance(module, Agent) and module.name is not None and module.name not in _NOT_FILLED:
            known.setdefault(module.name, module)

    def filled(target: type[Any]) -> dict[str, object]:
        return {name: known[name] for name in inspect.signature(target).parameters if name in known}

    try:
        learner = build(node, LEARNER_KEY, filled)
    except ConfigurationError as error:
        raise with_written_key(error, written) from error
    assert isinstance(learner, Learner)
    adopt_hidden_modules(learner)
    return learner


def _checked(run: CheckedRun, graph: TemporalAgent, learner: Learner | None) -> PreparedRun:
    from bbrl_exp.agents.graph_check import check_graph
    from bbrl_exp.data.ring import Field
    from bbrl_exp.learners.parts.state import prepare_state

    for module in (graph, learner):
        if module is not None:
            try:
                module.to(run.device)
            except RecursionError as error:
                raise ConfigurationError(f"{type(module).__name__}: a module in it contains itself") from error
    spec = env_spec_of(graph)
    if spec is not None and spec.batch_size != run.size.batch_size:
        raise bad_value(
            "batch_size", run.size.batch_size, f"{spec.batch_size}, as {spec.env_id} has it whatever is asked"
        )
    variables = check_graph(graph)
    if learner is not None:
        _check_reads(learner, {variable.name for variable in variables})
        try:
            with refusals(type(learner), parameters_of(type(learner)), LEARNER_KEY):
                learner.check_chunks(run.size.steps_per_chunk, run.size.batch_size)
                learner.start_schedules(run.size.schedule_steps or run.size.env_steps)
                prepare_state(learner)
        except ConfigurationError as error:
            raise with_written_key(error, run.written_key) from error
    compiled = _compiled(run, learner) if run.root.compile else None
    buffers = [] if learner is None else list(learner.replay_buffers().values())
    stored = {variable.name: Field(variable.shape[1:], variable.dtype) for variable in variables}
    size = replace(
        run.size,
        bytes_per_time_step=sum(variable.bytes_per_step for variable in variables),
        replay_capacity=sum(buffer.capacity for buffer in buffers),
        replay_bytes=sum(_bytes_for(buffer, stored, run.size.batch_size) for buffer in buffers),
        schedules=() if learner is None else learner.schedules,
        idle={} if learner is None else _idle(graph, learner),
        compiled=compiled,
    )
    size.check_memory(available_memory())
    _check_evaluation(run, graph, variables)
    reads, label = set(getattr(learner, "reads", None) or ()), type(learner).__name__
    table = [replace(each, readers=(*each.readers, label)) if each.name in reads else each for each in variables]
    return PreparedRun(replace(run, size=size), graph, learner, table, build_sinks(run))


def _compiled(run: CheckedRun, learner: Learner | None) -> str:
    """Lets the learner compile its updates; says what that means, or why it does not."""
    from bbrl_exp.compilation.compiler import Compiler, NotCompilableError, why_no_compiler

    if learner is None:
        return "nothing: the agent learns nothing"
    try:
        if (reason := why_no_compiler(run.device)) is not None:
            raise NotCompilableError(reason)
        learner.compile_updates(
            Compiler(run.device, run.root.num_threads), run.size.steps_per_chunk, run.size.batch_size
        )
    except NotCompilableError as error:
        return f"nothing: {error}"
    at_once = 1 if learner.compiled is None else learner.compiled.at_once
    several = f", {at_once} in a graph" if at_once > 1 else ""
    return f"the updates of {type(learner).__name__}{several}, when the first is due; kept for later runs"


def _check_evaluation(run: CheckedRun, graph: TemporalAgent, variables: Sequence[VariableFacts]) -> None:
    """Refuses to draw actions where no policy has a distribution, and successes that nobody records."""
    settings, by_name = run.root.eval, {variable.name: variable for variable in variables}
    if settings["policy"] != ACTING[0] and all(getattr(module, "sampling", None) is None for module in graph.modules()):
        writers = {name for each in variables if each.name.split("/")[0] == "action" for name in each.writers}
        allowed = f"{ACTING[0]}: {', '.join(sorted(writers))} has no distribution over actions to sample from"
        raise bad_value("eval.policy", settings["policy"], allowed)
    found = by_name.get(success_variable(settings))
    success = success_variable(settings).removeprefix("env/info/")
    if settings["success"] is not None and (found is None or len(found.shape) != 1):
        allowed = f"a key of info with one number per environment that env.info_keys names (env.info_keys=[{success}])"
        raise bad_value("eval.success", success, allowed)
    metric = (run.root.stop_when or {}).get("metric", "")
    if metric.endswith("success_rate") and found is None:
        allowed = f"a metric of returns; for success rates record the key of info: env.info_keys=[{success}]"
        raise bad_value("stop_when.metric", metric, allowed)


def _check_reads(learner: Learner, written: Iterable[str]) -> None:
    """Refuses a learner that reads what nobody writes, be it declared by itself (``reads``) or by its own agents.

    Agents that are the learner's alone write nothing: it asks them for values, and does not call them on the workspace.
    """
    from bbrl_exp.agents.agent import Agent

    agents = [module for module in learner.modules() if isinstance(module, Agent)]
    readers = [(type(learner).__name__, getattr(learner, "reads", None))]
    readers += [(agent.label, agent.reads) for agent in agents]
    for label, reads in readers:
        for name in reads or ():
            if name not in written:
                raise GraphError(f"{label} reads '{name}', nobody writes it{did_you_mean(name, written)}")


def _idle(graph: TemporalAgent, learner: Learner) -> dict[str, int]:
    """Agents of the graph with parameters that the learner does not hold: label → number of parameters."""
    from bbrl_exp.agents.agent import Agent

    held = {id(parameter) for parameter in learner.parameters()}
    owners = {
        id(parameter): agent.label
        for agent in graph.modules()  # the innermost agent comes last
        if isinstance(agent, Agent)
        for parameter in agent.parameters()
    }
    sizes: dict[str, int] = {}
    for parameter in graph.parameters():
        if parameter.requires_grad and id(parameter) not in held:
            label = owners[id(parameter)]
            sizes[label] = sizes.get(label, 0) + parameter.numel()
    return sizes


def _bytes_for(buffer: ReplayBuffer, stored: Mapping[str, Field], batch_size: int) -> int:
    try:
        return buffer.bytes_for(stored, batch_size)
    except WorkspaceError as error:
        raise ConfigurationError(str(error)) from error
