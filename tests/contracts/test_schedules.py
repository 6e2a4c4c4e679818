"""What a learner does depends on the length of the run if and only if it says so."""

import contextlib
import copy
import functools
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from composed_agents import composed

from bbrl_exp.arguments import NodeOf, marks_of
from bbrl_exp.config.graph import check_nodes
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import build_graph_and_learner
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Progress
from bbrl_exp.seeding import seed_global_generators
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

CONF = default_config_dir()
FEW = {
    "learning_starts": 32,
    "updates_per_step": 0.1,
    "batch_size": 4,
    "n_epochs": 1,
    "episodes_per_update": 1,
    "policy_delay": 1,
}
# What learns nothing has no schedules; behaviour cloning needs a recording: tests/runs/test_recording.py.
AGENTS = sorted(
    path.stem
    for path in (CONF / "agent").glob("*.yaml")
    if path.stem not in ("random", "constant", "mlp", "behaviour_cloning")
)
ANNEALED = ("a2c", "dqn", "ppo", "pqn", "recurrent_a2c", "recurrent_dqn", "recurrent_ppo", "recurrent_pqn", "reinforce")


# Values of an option that make a difference, in order, and the options with which it has an effect.
VALUES: dict[str, tuple[float, float]] = {
    "clip_range": (0.2, 1e-4),
    "critic_learning_rate": (1e-3, 1e-2),
    "discount": (0.99, 0.5),
    "elite_fraction": (0.2, 0.9),
    "entropy_weight": (0.0, 1.0),
    "epsilon": (0.1, 0.9),
    "extra_variance": (0.0, 1.0),
    "importance_exponent": (0.4, 1.0),
    "initial_temperature": (1.0, 0.1),
    "kl_target": (0.01, 1e-9),
    "learning_rate": (1e-3, 1e-2),
    "max_grad_norm": (0.5, 1e-4),
    "memory_learning_rate": (1e-3, 1e-2),
    "policy_learning_rate": (1e-3, 1e-2),
    "smoothing_clip": (0.5, 0.01),
    "smoothing_std": (0.2, 2.0),
    "target_entropy": (-1.0, 2.0),
    "target_entropy_ratio": (0.5, 0.1),
    "target_kl": (1e9, 1e-12),
    "target_rate": (0.005, 0.5),
    "temperature_learning_rate": (1e-3, 1e-2),
    "trace_decay": (0.9, 0.1),
    "value_clip_range": (10.0, 1e-4),
    "value_weight": (0.5, 5.0),
}
WITH: dict[str, dict[str, Any]] = {
    "clip_range": {"anneal_clip_range": False},
    "extra_variance": {"extra_variance_generations": 1},
    "importance_exponent": {"prioritised": True},
    "initial_temperature": {"temperature_learning_rate": None},
    "kl_target": {"objective": "kl", "anneal_learning_rate": False},
    "learning_rate": {"anneal_learning_rate": False},
    "target_kl": {"n_epochs": 4},
}
WITHOUT = {
    "initial_temperature": ("target_entropy", "target_entropy_ratio"),
    "kl_target": ("clip_range", "anneal_clip_range"),
}
# Two batches, or no whole generation, are not enough to see much of these.
TOO_SLOW = ("importance_exponent", "elite_fraction", "extra_variance")
SCHEDULES = "bbrl_exp.functional.schedules"


def learner_class(agent: str) -> type[Any]:
    return find_target(composed(agent, batch_size=1)["agent"]["learner"]["_target_"], "agent.learner._target_")


def scheduled_options(agent: str) -> list[str]:
    """The options of an agent's learner that may be schedules."""
    return [name for name, mark in marks_of(learner_class(agent), NodeOf).items() if mark.kind == "schedule"]


def learned(agent: str, options: dict[str, Any], total_steps: int) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The schedules of a learner, and what is left after the first chunks of a run of ``total_steps``."""
    config = copy.deepcopy(composed(agent, batch_size=2))
    node = config["agent"]["learner"]
    node |= {name: value for name, value in FEW.items() if name in node} | options
    seed_global_generators(0)
    graph, learner, _ = build_graph_and_learner(config)
    assert learner is not None
    learner.start_schedules(total_steps)
    workspace, metrics = Workspace(), []
    with contextlib.closing(graph):
        for chunk in collect(graph, workspace, total_steps=128, batch_size=2, steps_per_chunk=32):
            metrics.append(
                learner.learn_from(workspace, Progress(chunk.first_row, chunk.env_steps, total_steps, chunk.new_steps))
            )
    return learner.schedules, {"graph": graph.state_dict(), "learner": learner.state_dict(), "metrics": metrics}


def leaves(value: Any) -> Iterator[Any]:
    """All numbers that a state holds, as plain Python."""
    if isinstance(value, dict):
        for child in value.values():
            yield from leaves(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from leaves(child)
    else:
        yield value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize(
    ("agent", "options"),
    [
        *((agent, {}) for agent in AGENTS if agent not in ANNEALED),
        *((agent, {"anneal_learning_rate": on}) for agent in ANNEALED for on in (True, False)),
        ("dqn", {"prioritised": True}),
        *((agent, {"anneal_learning_rate": False, "anneal_clip_range": True}) for agent in ("ppo", "recurrent_ppo")),
    ],
)
def test_what_is_learned_depends_on_the_length_of_the_run_if_and_only_if_there_are_schedules(
    agent: str, options: dict[str, Any]
) -> None:
    schedules, of_short_run = learned(agent, options, 1000)
    _, of_long_run = learned(agent, options, 2000)
    assert (list(leaves(of_short_run)) != list(leaves(of_long_run))) == bool(schedules), schedules


@functools.cache
def with_numbers(agent: str, option: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """All options that may be schedules as numbers, with those that ``option`` needs, and what is left."""
    numbers: dict[str, Any] = {}
    for name in scheduled_options(agent):
        if name == option or name not in ("importance_exponent", "initial_temperature", "kl_target"):
            numbers |= {name: VALUES[name][0]} | ({} if option in WITHOUT and name != option else WITH.get(name, {}))
    numbers |= WITH.get(option, {})
    for name in WITHOUT.get(option, ()):
        numbers.pop(name, None)
    return numbers, learned(agent, numbers, 1000)[1]


def left(learned: dict[str, Any], *but: str) -> list[Any]:
    """What is left of a run as numbers, without the schedules that are among the metrics."""
    metrics = [{key: value for key, value in chunk.items() if key not in but} for chunk in learned["metrics"]]
    return list(leaves([learned["graph"], metrics]))


@pytest.mark.parametrize("agent", AGENTS)
def test_schedules_that_do_not_change_are_the_numbers_themselves(agent: str) -> None:
    numbers, of_numbers = with_numbers(agent)
    constant = {
        name: {"_target_": f"{SCHEDULES}.PiecewiseConstant", "values": [value], "steps": []}
        for name, value in numbers.items()
        if name in scheduled_options(agent) and name != "temperature_learning_rate"
    }
    schedules, of_schedules = learned(agent, numbers | constant, 1000)
    recorded = [f"learner/{name}" for name in constant if name not in ("epsilon", "learning_rate")]
    assert left(of_numbers) == left(of_schedules, *recorded) or "learner/learning_rate" in of_schedules["metrics"][0]
    assert list(leaves(of_numbers["graph"])) == list(leaves(of_schedules["graph"]))
    assert [{name: chunk[name] for name in recorded} for chunk in of_schedules["metrics"]] == [
        {name: numbers[name.removeprefix("learner/")] for name in recorded}
    ] * 2
    assert schedules == ()


@pytest.mark.parametrize(("agent", "name"), [(agent, name) for agent in AGENTS for name in scheduled_options(agent)])
def test_every_option_follows_its_schedule_which_is_recorded(agent: str, name: str) -> None:
    first, second = VALUES[name]
    own = name if name in ("importance_exponent", "initial_temperature", "kl_target") else ""
    numbers, unchanged = with_numbers(agent, own)
    jump = {"_target_": f"{SCHEDULES}.PiecewiseConstant", "values": [first, second], "steps": [64]}
    schedules, changed = learned(agent, {**numbers, name: jump}, 1000)
    assert schedules == ()
    # The second of two chunks begins when 64 steps are done; ε is that of the steps which come next.
    found = [chunk[f"learner/{name}"] for chunk in changed["metrics"]]
    assert found == ([second, second] if name == "epsilon" else [first, second])
    if name not in TOO_SLOW:
        assert left(changed, f"learner/{name}") != left(unchanged, f"learner/{name}")


@pytest.mark.parametrize("agent", ANNEALED)
def test_a_line_to_zero_is_annealing(agent: str) -> None:
    line = {"_target_": f"{SCHEDULES}.Linear", "start": 3e-3}
    schedules, by_schedule = learned(agent, {"learning_rate": line, "anneal_learning_rate": False}, 1000)
    _, by_annealing = learned(agent, {"learning_rate": 3e-3, "anneal_learning_rate": True}, 1000)
    assert "learning_rate" in schedules
    assert list(leaves(by_schedule["graph"])) == list(leaves(by_annealing["graph"]))


@pytest.mark.parametrize("agent", ["dqn", "recurrent_dqn", "pqn"])
def test_a_line_of_epsilon_is_the_three_options_that_say_it(agent: str) -> None:
    line = {"_target_": f"{SCHEDULES}.Linear", "start": 1.0, "end": 0.05, "fraction": 0.2}
    restored = {"initial_epsilon": 1.0, "final_epsilon": 0.05}
    default = learner_class(agent).__dataclass_fields__["exploration_fraction"].default
    _, by_schedule = learned(agent, {"epsilon": line, **restored, "exploration_fraction": default}, 500)
    _, by_options = learned(agent, {**restored, "exploration_fraction": 0.2}, 500)
    assert list(leaves(by_schedule["graph"])) == list(leaves(by_options["graph"]))
    assert [chunk["learner/epsilon"] for chunk in by_schedule["metrics"]] == [
        chunk["learner/epsilon"] for chunk in by_options["metrics"]
    ]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_number_that_is_read_once_refuses_a_schedule_with_its_key(agent: str) -> None:
    config = copy.deepcopy(composed(agent, batch_size=2))
    line = {"_target_": f"{SCHEDULES}.Linear", "start": 0.5}
    hints = typing.get_type_hints(learner_class(agent))
    known = inspect.signature(learner_class(agent)).parameters
    numbers = [name for name in known if hints[name] in (int, float, int | None, float | None)]
    for name in set(numbers) - set(scheduled_options(agent)):
        other = copy.deepcopy(config)
        other["agent"]["learner"][name] = line
        with pytest.raises(
            ConfigurationError, match=rf"^key 'agent\.learner\.{name}' = .*: must be an? (number|integer)"
        ):
            check_nodes(other)
