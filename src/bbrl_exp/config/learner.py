"""The learner, built from the node ``agent.learner`` beside the graph that it changes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.graph import LEARNER_KEY, build_graph_of, env_spec_of, with_written_key
from bbrl_exp.config.nodes import build, parameters_of, refusals
from bbrl_exp.errors import ConfigurationError, GraphError, did_you_mean
from bbrl_exp.settings import shown
from bbrl_exp.training.saved_state import read_state

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.config.graph import StandIn
    from bbrl_exp.learners.learner import Learner

_NOT_FILLED = ("name",)


@dataclass(frozen=True, eq=False)
class Built:
    """What a run consists of.

    Attributes:
        graph: with the environments.
        learner: None where nothing is learned.
        begun_anew: attributes of the learner with parameters that those of the run ``init_from`` did not fit.
    """

    graph: TemporalAgent
    learner: Learner | None
    begun_anew: tuple[str, ...] = ()

    @property
    def idle(self) -> dict[str, int]:
        """Agents of the graph with parameters that the learner does not hold: label → how many numbers that are."""
        from bbrl_exp.agents.agent import Agent

        if self.learner is None:
            return {}
        held = {id(parameter) for parameter in self.learner.parameters()}
        owners = {
            id(parameter): agent.label
            for agent in self.graph.modules()  # the innermost agent comes last
            if isinstance(agent, Agent)
            for parameter in agent.parameters()
        }
        sizes: dict[str, int] = {}
        for parameter in self.graph.parameters():
            if parameter.requires_grad and id(parameter) not in held:
                label = owners[id(parameter)]
                sizes[label] = sizes.get(label, 0) + parameter.numel()
        return sizes


def build_learner_of(
    config: Mapping[str, Any], graph: TemporalAgent, written: Callable[[str], str] = str
) -> Learner | None:
    """Builds the learner of a configuration; None where the agent learns nothing.

    A constructor parameter of the learner, or of a node inside it, that is named like an agent of the graph is that
    agent unless YAML says otherwise; ``env_spec`` is filled in as in the graph.

    Args:
        config: resolved and checked.
        graph: what was built from it.
        written: where the user writes what stands at a key.

    Raises:
        ConfigurationError: a required parameter is missing, or a class refuses its arguments.
    """
    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.learners.learner import Learner

    node = config["agent"]["learner"]
    if node is None:
        return None
    known: dict[str, object] = {"env_spec": env_spec_of(graph)}
    for module in graph.modules():
        if isinstance(module, Agent) and module.name is not None and module.name not in _NOT_FILLED:
            known.setdefault(module.name, module)
    try:
        learner = build(node, LEARNER_KEY, functools.partial(_filled, known=known))
    except ConfigurationError as error:
        raise with_written_key(error, written) from error
    assert isinstance(learner, Learner)
    return learner


def build_graph_and_learner(
    config: Mapping[str, Any], written: Callable[[str], str] = str, stand_in: StandIn | None = None
) -> Built:
    """Builds what a run consists of, with the parameters of the run ``init_from`` where one is named.

    The graph has these parameters before the learner is built, which may copy parts of it. The learner takes over those
    of its own attributes that fit as a whole, and is told.

    Args:
        config: resolved and checked.
        written: where the user writes what stands at a key.
        stand_in: as for the graph.

    Raises:
        ConfigurationError: something cannot be built, or the other run's parameters do not fit the graph.
    """
    graph = build_graph_of(config, written, stand_in)
    try:
        if config["init_from"] is None:
            return Built(graph, build_learner_of(config, graph, written))
        return _built_from_run(config, graph, written)
    except BaseException:
        graph.close()
        raise


def _built_from_run(config: Mapping[str, Any], graph: TemporalAgent, written: Callable[[str], str]) -> Built:
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
        return Built(graph, None)
    begun_anew = load_fitting(learner, graph, state)
    learner.begin_from_loaded_parameters()
    return Built(graph, learner, begun_anew)


def _filled(target: type[Any], known: Mapping[str, object]) -> dict[str, object]:
    return {name: known[name] for name in inspect.signature(target).parameters if name in known}


def check_reads(learner: Learner, written: Iterable[str]) -> None:
    """Refuses a learner that reads what nobody writes, be it declared by itself (``reads``) or by an agent of its own.

    Agents that are the learner's alone write nothing: it asks them for values, and does not call them on the workspace.

    Args:
        learner: the learner.
        written: the variables of the graph.

    Raises:
        GraphError: the reader and the variable.
    """
    from bbrl_exp.agents.agent import Agent

    agents = [module for module in learner.modules() if isinstance(module, Agent)]
    known = set(written)
    readers = [(type(learner).__name__, getattr(learner, "reads", None))]
    readers += [(agent.label, agent.reads) for agent in agents]
    for label, reads in readers:
        for name in reads or ():
            if name not in known:
                raise GraphError(f"{label} reads '{name}', nobody writes it{did_you_mean(name, known)}")


def check_chunks(learner: Learner, steps_per_chunk: int, batch_size: int, written: Callable[[str], str] = str) -> None:
    """Asks a learner whether it can learn from the chunks of a run.

    Args:
        learner: the learner.
        steps_per_chunk: time steps of a chunk.
        batch_size: environments side by side.
        written: where the user writes what stands at a key.

    Raises:
        ConfigurationError: it cannot; the message names the key.
    """
    target = type(learner)
    try:
        with refusals(target, parameters_of(target), LEARNER_KEY):
            learner.check_chunks(steps_per_chunk, batch_size)
    except ConfigurationError as error:
        raise with_written_key(error, written) from error
