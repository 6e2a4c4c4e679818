"""The graph that is evaluated: the members of a configuration with environments that play one episode each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.graph import build_graph_of
from bbrl_exp.config.nodes import ORDER_KEYS
from bbrl_exp.config.schema import acting_of, success_variable
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError

if TYPE_CHECKING:
    from bbrl_exp.records.metrics import Acting
    from bbrl_exp.training.evaluation import Evaluator

PERIODIC, FINAL = "eval", "final_eval"
_ONE_EPISODE_EACH = "bbrl_exp.envs.gym_agents.NoAutoResetGymAgent"


def build_evaluator(
    config: Mapping[str, Any],
    role: str,
    episodes: int,
    *,
    device: str = "cpu",
    seed: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    acting: Acting | None = None,
) -> Evaluator:
    """Builds a second graph from the same nodes; global generators are where they were afterwards.

    Args:
        config: resolved and checked.
        role: which list of episodes: ``eval`` where a policy may be chosen by it, ``final_eval`` for the last word.
        episodes: how many, each in its own environment.
        device: where networks live.
        seed: root of the list; None for ``eval.seed``.
        env_kwargs: more arguments of the environments.
        acting: whether the likeliest actions are taken or actions drawn; None for what the run is judged by.

    Raises:
        ConfigurationError: the graph cannot be built, or has no environments.
    """
    from bbrl_exp.seeding import seed_global_generators, stream_seed, untouched_global_generators
    from bbrl_exp.training.evaluation import Evaluator

    root_seed = config["eval"]["seed"] if seed is None else seed
    sampling_seed = stream_seed(root_seed, role, "drawn actions")
    policy_seed = stream_seed(config["seed"], role, "policy")
    changes = {"batch_size": episodes, "seed": root_seed, "role": role, "stepping": "scalar", "workers": 0}
    with untouched_global_generators():
        seed_global_generators(root_seed, role, "made")
        graph = build_graph_of({"graph": _replaced(config["graph"], changes, env_kwargs or {})}).to(device)
        acting = acting or acting_of(config["eval"])
        return Evaluator(graph, root_seed, policy_seed, sampling_seed, acting, success_variable(config["eval"]))


def _replaced(node: Any, changes: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Any:
    """``node`` with every environment agent changed to one without automatic reset; remote agents run here."""
    if not isinstance(node, Mapping):
        return node
    children = {name: _replaced(child, changes, env_kwargs) for name, child in node.items()}
    if "_target_" in node and _is_remote(node):
        return {**children["agent"], **{name: node[name] for name in ORDER_KEYS if name in node}}
    if "_target_" not in node or not _is_environment(node):
        return children
    kept = inspect.signature(find_target(_ONE_EPISODE_EACH, "_target_")).parameters
    children = {name: child for name, child in children.items() if name in (*kept, "after", "before")}
    kwargs = {**(children.get("kwargs") or {}), **env_kwargs}
    return {**children, **changes, "kwargs": kwargs, "_target_": _ONE_EPISODE_EACH}


def _is_remote(node: Mapping[str, Any]) -> bool:
    from bbrl_exp.agents.remote.agents import NRemoteAgent, RemoteAgent

    return issubclass(find_target(node["_target_"], "_target_"), (RemoteAgent, NRemoteAgent))


def _is_environment(node: Mapping[str, Any]) -> bool:
    from bbrl_exp.envs.gym_agents import GymAgent

    target = find_target(node["_target_"], "_target_")
    if not issubclass(target, GymAgent):
        return False
    if node.get("env") is None:
        raise ConfigurationError(f"{target.__name__} cannot be evaluated: its node does not say env")
    return True
