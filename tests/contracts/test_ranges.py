"""Every number that a learner takes is refused where it makes no sense, with the key, before anything is learned."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from composed_agents import composed

from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.config.graph import build_graph_of
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import build_graph_and_learner, build_learner_of
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Progress
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

CONF = default_config_dir()
AGENTS = sorted(path.stem for path in (CONF / "agent").glob("*.yaml") if path.stem not in ("random", "constant", "mlp"))
NUMBERS = (int, float, int | None, float | None)
ANY_NUMBER = ("seed",)
BELOW_ONE, NOT_POSITIVE, NEGATIVE, NO_PART, NO_POSITIVE_PART = (0, -1), (0, -1), (-1,), (-0.1, 1.5), (0, 7)
# What makes no sense, by name.
OUTSIDE: dict[str, tuple[float, ...]] = {
    "batch_size": BELOW_ONE,
    "burn_in": NEGATIVE,
    "clip_range": NOT_POSITIVE,
    "critic_learning_rate": NOT_POSITIVE,
    "discount": NO_PART,
    "dropped_quantiles": (-1, 25),
    "elite_fraction": NO_POSITIVE_PART,
    "entropy_weight": NEGATIVE,
    "epsilon": NO_PART,
    "episodes_per_update": BELOW_ONE,
    "exploration_fraction": NO_PART,
    "extra_variance": NEGATIVE,
    "extra_variance_generations": BELOW_ONE,
    "final_epsilon": NO_PART,
    "first_moment_decay": (-0.1, 1.0),
    "held_out": (-0.1, 1.0),
    "importance_exponent": NO_PART,
    "initial_epsilon": NO_PART,
    "initial_std": NOT_POSITIVE,
    "initial_temperature": NOT_POSITIVE,
    "kl_target": NOT_POSITIVE,
    "kl_weight": NOT_POSITIVE,
    "learning_rate": NOT_POSITIVE,
    "learning_starts": NEGATIVE,
    "max_grad_norm": NOT_POSITIVE,
    "memory_learning_rate": NOT_POSITIVE,
    "minibatch_size": BELOW_ONE,
    "n_epochs": BELOW_ONE,
    "n_minibatches": BELOW_ONE,
    "n_steps": BELOW_ONE,
    "policy_delay": BELOW_ONE,
    "policy_learning_rate": NOT_POSITIVE,
    "priority_exponent": NO_PART,
    "replay_capacity": BELOW_ONE,
    "sequence_length": BELOW_ONE,
    "sequence_stride": BELOW_ONE,
    "smoothing_clip": NEGATIVE,
    "smoothing_std": NEGATIVE,
    "target_entropy_ratio": (-0.1, 1.0),
    "target_kl": NOT_POSITIVE,
    "target_period": BELOW_ONE,
    "target_entropy": (float("nan"), float("inf")),
    "target_rate": NO_POSITIVE_PART,
    "temperature_learning_rate": NOT_POSITIVE,
    "trace_decay": NO_PART,
    "updates_per_step": NOT_POSITIVE,
    "value_clip_range": NOT_POSITIVE,
    "value_weight": NEGATIVE,
}


@pytest.fixture(scope="module")
def graphs() -> Iterator[dict[str, TemporalAgent]]:
    """The graph of every agent, built when it is first needed."""
    built: dict[str, TemporalAgent] = {}
    yield built
    for graph in built.values():
        graph.close()


def numbers_of(agent: str) -> dict[str, object]:
    """The parameters of an agent's learner that are numbers, with their annotations."""
    target = find_target(composed(agent, batch_size=1)["agent"]["learner"]["_target_"], "agent.learner._target_")
    hints, parameters = typing.get_type_hints(target), inspect.signature(target).parameters
    return {name: hint for name, hint in hints.items() if name in parameters and hint in NUMBERS}


@pytest.mark.parametrize(
    ("agent", "name"), [(agent, name) for agent in AGENTS for name in numbers_of(agent) if name not in ANY_NUMBER]
)
def test_a_number_that_makes_no_sense_is_refused_with_its_key(
    agent: str, name: str, graphs: dict[str, TemporalAgent]
) -> None:
    assert name in OUTSIDE, f"say which values of '{name}' make no sense"
    if agent not in graphs:
        graphs[agent] = build_graph_of(composed(agent, batch_size=1))
    hint = numbers_of(agent)[name]
    nan = () if hint in (int, int | None) else (math.nan,)
    too_large = (2**63,) if hint in (int, int | None) else (1e39, math.inf)
    for value in (*OUTSIDE[name], *nan, *(too_large if name != "dropped_quantiles" else ())):
        config = copy.deepcopy(composed(agent, batch_size=1))
        config["agent"]["learner"][name] = value
        with pytest.raises(ConfigurationError, match=rf"^key 'agent\.learner\.{name}' = {re.escape(str(value))}: "):
            build_learner_of(config, graphs[agent])


# Options whose size other options bound.
BOUNDED = (
    "batch_size",
    "burn_in",
    "dropped_quantiles",
    "n_minibatches",
    "n_steps",
    "replay_capacity",
    "sequence_length",
    "sequence_stride",
)
SMALLEST_AND_LARGEST = {int: (2**63 - 1,), float: (1e-300, 3e38)}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy warns of overflow where torch does not
@pytest.mark.parametrize("agent", AGENTS)
def test_extreme_numbers_are_refused_with_their_key_or_do_for_a_chunk(agent: str) -> None:
    if agent == "behaviour_cloning":
        pytest.skip("needs a recording")
    for name, hint in numbers_of(agent).items():
        kind = int if hint in (int, int | None) else float
        if name in (*ANY_NUMBER, *BOUNDED, "sequence_length", "n_epochs"):  # an epoch takes its time
            continue
        for value in SMALLEST_AND_LARGEST[kind]:
            config = copy.deepcopy(composed(agent, batch_size=2))
            nodes = (config["agent"]["members"]["policy"], node := config["agent"]["learner"], node.get("critic", {}))
            for each in nodes:
                each |= {key: few for key, few in SMALL.items() if key in each}
            node[name] = value
            outcome = one_chunk(config)
            assert outcome is None or outcome.startswith(f"key 'agent.learner.{name}' = "), (name, value, outcome)


SMALL: dict[str, Any] = {
    "hidden_sizes": [8],
    "n_hidden": 8,
    "replay_capacity": 1000,
    "learning_starts": 8,
    "batch_size": 4,
    "n_epochs": 1,
    "updates_per_step": 0.25,
    "sequence_length": 8,
}


def one_chunk(config: dict[str, Any]) -> str | None:
    """What is refused of a configuration; None where a chunk can be learned from, whatever comes of it."""
    try:
        graph, learner, _ = build_graph_and_learner(config)
    except ConfigurationError as error:
        return str(error)
    assert learner is not None
    workspace = Workspace()
    with contextlib.closing(graph):
        for chunk in collect(graph, workspace, total_steps=32, batch_size=2, steps_per_chunk=16):
            learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, 32, chunk.new_steps))
    return None
