"""The graph of agents, built from the node ``graph`` of a resolved configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.nodes import ORDER_KEYS, Node, build, nodes_below, refusals
from bbrl_exp.config.targets import check_prefix, find_target
from bbrl_exp.errors import ConfigurationError, described, did_you_mean, is_of_user_code
from bbrl_exp.seeding import untouched_global_generators

if TYPE_CHECKING:
    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.envs.environment_agent import EnvironmentAgent
    from bbrl_exp.envs.spec import EnvSpec

    StandIn = Callable[[EnvironmentAgent, int, Callable[[], EnvironmentAgent]], Agent | None]

Contents = dict[str, Any]
Filled = Callable[[type[Any]], Mapping[str, Any]]
LEARNER_KEY = "agent.learner"
SINKS_KEY = "tracking.sinks"


def check_nodes(
    config: Mapping[str, Any], written: Callable[[str], str] = str, sinks: Mapping[str, Any] | None = None
) -> None:
    """Checks every target of the configuration, the keys of every node, and the order of the members; builds nothing.

    Args:
        config: resolved.
        written: where the user writes what is found at a key.
        sinks: the nodes of the run's sinks by name; None where nothing is recorded.

    Raises:
        ConfigurationError: a node is refused.
    """
    agent = {name: node for name, node in config["agent"].items() if name != "learner"}
    graph = list(nodes_below(config["graph"], "graph"))
    learner = config["agent"]["learner"]
    nodes = [
        *nodes_below(agent, "agent"),
        *graph,
        *(nodes_below(learner, LEARNER_KEY, "learner") if learner is not None else ()),
        *(node for name, sink in (sinks or {}).items() for node in nodes_below(sink, f"{SINKS_KEY}.{name}", "sink")),
    ]
    try:
        for node in (*nodes, *nodes_below(config["env"], "env")):
            if "_target_" in node.content:
                check_prefix(node.content["_target_"], f"{node.key}._target_")
        for node in graph:
            _check_members(node)
        Node("env.agent", "environment", config["env"]["agent"]).check()
        for node in nodes:
            node.check()
    except ConfigurationError as error:
        raise with_written_key(error, written) from error


def with_written_key(error: ConfigurationError, written: Callable[[str], str]) -> ConfigurationError:
    """The error with the key that the user wrote in place of the one that it begins with."""
    start, quote, rest = str(error).partition("key '")
    key, _, end = rest.partition("'")
    return type(error)(f"{start}{quote}{written(key)}'{end}") if quote and not start else error


def _check_members(node: Node) -> None:
    """Refuses, in the mapping ``members`` of a node, what is no node or cannot be ordered."""
    members, key = node.content.get("members"), f"{node.key}.members"
    if not isinstance(members, Mapping):
        return
    for name, member in members.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"key '{key}.{name}': the name of a member must be a text")
        if not isinstance(member, Mapping) or "_target_" not in member:
            others = [other for other in members if other != name]
            near = did_you_mean(name, others) or ";"
            raise ConfigurationError(
                f"key '{key}.{name}' has no _target_, and a new member needs one{near} members: {', '.join(others)}"
            )
    ordered_members(members, key)


def ordered_members(members: Mapping[str, Contents], key: str) -> dict[str, Contents]:
    """The members in the order in which they run: as written, but for those that say ``after`` or ``before``.

    Several that say ``after`` the same member keep the order in which they are written.

    Raises:
        ConfigurationError: ``after`` or ``before`` names no member, both are said, or they go round in a circle.
    """
    order = [name for name, node in members.items() if not any(word in node for word in ORDER_KEYS)]
    waiting = {name: node for name, node in members.items() if name not in order}
    for name, node in waiting.items():
        if all(word in node for word in ORDER_KEYS):
            raise ConfigurationError(f"key '{key}.{name}': says both after and before; one of them is allowed")
        word, anchor = _anchor(node)
        if not isinstance(anchor, str) or anchor == name or anchor not in members:
            others = [other for other in members if other != name]
            near = did_you_mean(str(anchor), others) or ";"
            raise ConfigurationError(
                f"key '{key}.{name}.{word}' = '{anchor}': no such member{near} members: {', '.join(others)}"
            )
    last_after: dict[str, str] = {}
    while waiting:
        ready = next((name for name, node in waiting.items() if _anchor(node)[1] in order), None)
        if ready is None:
            raise ConfigurationError(f"key '{key}': {', '.join(waiting)} wait for each other by after and before")
        word, anchor = _anchor(waiting.pop(ready))
        if word == "after":
            order.insert(order.index(last_after.get(anchor, anchor)) + 1, ready)
            last_after[anchor] = ready
        else:
            order.insert(order.index(anchor), ready)
    return {name: members[name] for name in order}


def _anchor(node: Contents) -> tuple[str, str]:
    word = next(word for word in ORDER_KEYS if word in node)
    return word, node[word]


def build_graph_of(
    config: Mapping[str, Any], written: Callable[[str], str] = str, stand_in: StandIn | None = None
) -> TemporalAgent:
    """Builds the graph.

    A constructor parameter ``env_spec`` is filled in with the facts about the first environment; agents that
    have one are therefore built after all others. An environment agent that takes ``batch_size`` and ``seed`` is given
    those of the run where its node does not state them.

    Args:
        config: resolved and checked.
        written: where the user writes what is found at a key.
        stand_in: gives what takes the place of an environment agent, from that agent with one environment, the batch
            size that it should have, and a function that builds another one; where it gives None, and where it is None,
            the agent itself is built. The global generators are where they were when it is called.

    Raises:
        ConfigurationError: an agent refuses its arguments, an environment is unknown or lacks its extra.
    """
    from bbrl_exp.agents.combinators import TemporalAgent

    try:
        filled = functools.partial(_of_run, run=config)
        members = _built_members(config["graph"], "graph", None, filled, stand_in)
        graph = build(members, "graph", filled)
    except ConfigurationError as error:
        raise with_written_key(error, written) from error
    if not isinstance(graph, TemporalAgent):
        raise ConfigurationError(f"key 'graph._target_' = '{config['graph'].get('_target_')}': must be a TemporalAgent")
    return graph


def env_spec_of(graph: Agent) -> EnvSpec | None:
    """The facts about the first environment in ``graph``; None if there is none."""
    from bbrl_exp.envs.spec import EnvSpec

    specs = (getattr(module, "env_spec", None) for module in graph.modules())
    return next((spec for spec in specs if isinstance(spec, EnvSpec)), None)


def _built_members(
    node: Contents, key: str, spec: EnvSpec | None, filled: Filled, stand_in: StandIn | None
) -> Contents:
    """``node`` with each mapping ``members`` in it replaced by agents."""
    replaced: Contents = {}
    for name, child in node.items():
        if name == "members" and isinstance(child, Mapping) and "_target_" in node:
            replaced[name] = _build_members(dict(child), f"{key}.{name}", spec, filled, stand_in)
        elif isinstance(child, Mapping):
            replaced[name] = _built_members(dict(child), f"{key}.{name}", spec, filled, stand_in)
        else:
            replaced[name] = child
    return replaced


def _build_members(
    members: dict[str, Contents], key: str, spec: EnvSpec | None, filled: Filled, stand_in: StandIn | None
) -> dict[str, Any]:
    order = ordered_members(members, key)
    built: dict[str, Any] = {}
    for name in sorted(order, key=lambda name: _asks_for_facts(order[name], f"{key}.{name}")):
        without_order = {word: value for word, value in order[name].items() if word not in ORDER_KEYS}
        node = _built_members(without_order, f"{key}.{name}", spec, filled, stand_in)
        target = find_target(node["_target_"], f"{key}.{name}._target_")
        if "name" in inspect.signature(target).parameters:
            node.setdefault("name", name)
        if stand_in is not None:
            node = _with_stand_ins(node, f"{key}.{name}", filled, stand_in)
        given = functools.partial(_env_spec_for, spec=spec, key=key, filled=filled)
        built[name] = build(node, f"{key}.{name}", given)
        if spec is None:
            spec = env_spec_of(built[name])
    return {name: built[name] for name in order}


def _with_stand_ins(node: Any, key: str, filled: Filled, stand_in: StandIn) -> Any:
    """``node`` with its environment agents replaced, also those inside another agent, such as a remote one."""
    from bbrl_exp.envs.environment_agent import EnvironmentAgent

    if isinstance(node, list):
        return [_with_stand_ins(child, f"{key}.{index}", filled, stand_in) for index, child in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    target = find_target(node["_target_"], f"{key}._target_") if "_target_" in node else None
    if target is not None and issubclass(target, EnvironmentAgent):
        replaced = _stand_in(target, {**filled(target), **node}, key, stand_in)
        return node if replaced is None else replaced
    return {name: _with_stand_ins(child, f"{key}.{name}", filled, stand_in) for name, child in node.items()}


def _stand_in(target: type[EnvironmentAgent], node: Contents, key: str, stand_in: StandIn) -> Agent | None:
    with refusals(target, node, key):
        of_one = target.arguments_of_one(node)

    def make() -> EnvironmentAgent:
        with untouched_global_generators():
            made: EnvironmentAgent = build(of_one, key, lambda target: {})
        if getattr(made, "env_spec", None) is None:
            raise ConfigurationError(
                f"key '{key}': {target.__name__} has no env_spec: it must call super().__init__(…)"
            )
        return made

    single = make()
    try:
        return stand_in(single, node.get("batch_size", single.batch_size), make)
    except ConfigurationError as error:
        raise type(error)(str(error) if str(error).startswith("key '") else f"key '{key}': {error}") from error
    finally:
        try:
            single.close()
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            raise ConfigurationError(f"key '{key}': {target.__name__}.close() fails: {described(error)}") from error


def _asks_for_facts(node: object, key: str) -> bool:
    """Whether a class in ``node`` has a parameter ``env_spec``."""
    if isinstance(node, Mapping):
        target = find_target(node["_target_"], f"{key}._target_") if "_target_" in node else None
        if target is not None and "env_spec" in inspect.signature(target).parameters:
            return True
        return any(_asks_for_facts(child, f"{key}.{name}") for name, child in node.items())
    return isinstance(node, list) and any(_asks_for_facts(child, key) for child in node)


def _of_run(target: type[Any], *, run: Mapping[str, Any]) -> dict[str, Any]:
    """What an environment agent is given of the run's own settings."""
    from bbrl_exp.envs.environment_agent import EnvironmentAgent

    if not issubclass(target, EnvironmentAgent):
        return {}
    return {name: run[name] for name in ("batch_size", "seed") if name in inspect.signature(target).parameters}


def _env_spec_for(target: type[Any], *, spec: EnvSpec | None, key: str, filled: Filled) -> dict[str, Any]:
    if "env_spec" not in inspect.signature(target).parameters:
        return dict(filled(target))
    if spec is None:
        raise ConfigurationError(
            f"key '{key}': {target.__name__} needs the facts of an environment, and no member is one"
        )
    return {"env_spec": spec}
