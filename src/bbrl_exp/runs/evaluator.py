"""The graph that is evaluated: the members of a configuration with environments that play one episode each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.graph import build_graph_of
from bbrl_exp.config.nodes import ORDER_KEYS
from bbrl_exp.config.schema import acting_of, success_variable
from bbrl_exp.config.targets import find_target

if TYPE_CHECKING:
    from bbrl_exp.envs.environment_agent import EnvironmentAgent
    from bbrl_exp.records.metrics import Acting
    from bbrl_exp.training.evaluation import Evaluator

PERIODIC, FINAL = "eval", "final_eval"


def build_evaluator(
    config: Mapping[str, Any],
    role: str,
    episodes: int,
    *,
    device: str = "cpu",
    seed: int | None = None,
    acting: Acting | None = None,
    shows_frames: bool = False,
) -> Evaluator:
    """Builds a second graph from the same nodes; global generators are where they were afterwards.

    Args:
        config: resolved and checked.
        role: which list of episodes: ``eval`` where a policy may be chosen by it, ``final_eval`` for the last word.
        episodes: how many, each in its own environment.
        device: where networks live.
        seed: root of the list; None for ``eval.seed``.
        acting: whether the most likely actions are taken or sampled ones; None for what the run is judged by.
        shows_frames: whether pictures will be asked for.

    Raises:
        ConfigurationError: the graph cannot be built, has no environments, or they show no pictures.
    """
    from bbrl_exp.seeding import seed_global_generators, stream_seed, untouched_global_generators
    from bbrl_exp.training.evaluation import Evaluator

    root_seed = config["eval"]["seed"] if seed is None else seed
    sampling_seed = stream_seed(root_seed, role, "drawn actions")
    policy_seed = stream_seed(config["seed"], role, "policy")

    def for_evaluation(
        single: EnvironmentAgent, batch_size: int, make: Callable[[], EnvironmentAgent]
    ) -> EnvironmentAgent:
        if shows_frames:
            single.check_frames()
        environments = single.for_evaluation(episodes, root_seed, role)
        if shows_frames and (with_frames := environments.with_frames()) is not environments:
            environments.close()
            return with_frames
        return environments

    with untouched_global_generators():
        seed_global_generators(root_seed, role, "made")
        here = {**config, "graph": without_remotes(config["graph"])}
        graph = build_graph_of(here, stand_in=for_evaluation).to(device)
        acting = acting or acting_of(config["eval"])
        return Evaluator(graph, root_seed, policy_seed, sampling_seed, acting, success_variable(config["eval"]))


def without_remotes(node: Any) -> Any:
    """``node`` with what remote agents run in their place: an evaluation runs here."""
    if not isinstance(node, Mapping):
        return node
    children = {name: without_remotes(child) for name, child in node.items()}
    if "_target_" in node and _is_remote(node):
        return {**children["agent"], **{name: node[name] for name in ORDER_KEYS if name in node}}
    return children


def _is_remote(node: Mapping[str, Any]) -> bool:
    from bbrl_exp.agents.remote.agents import NRemoteAgent, RemoteAgent

    return issubclass(find_target(node["_target_"], "_target_"), (RemoteAgent, NRemoteAgent))
