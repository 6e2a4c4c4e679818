"""What a learner does depends on the length of the run if and only if it says so."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from composed_agents import composed

from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import build_graph_and_learner
from bbrl_exp.learners.learner import Progress
from bbrl_exp.seeding import seed_global_generators
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

CONF = default_config_dir()
FEW = {"learning_starts": 32, "updates_per_step": 0.1, "batch_size": 4, "n_epochs": 1, "episodes_per_update": 1}
# What learns nothing has no schedules; behaviour cloning needs a recording: tests/runs/test_recording.py.
AGENTS = sorted(
    path.stem
    for path in (CONF / "agent").glob("*.yaml")
    if path.stem not in ("random", "constant", "mlp", "behaviour_cloning")
)
ANNEALED = ("a2c", "dqn", "ppo", "pqn", "recurrent_a2c", "recurrent_dqn", "recurrent_ppo", "reinforce")


def learned(agent: str, options: dict[str, Any], total_steps: int) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The schedules of a learner, and what is left after the first chunks of a run of ``total_steps``."""
    config = copy.deepcopy(composed(agent, batch_size=2))
    node = config["agent"]["learner"]
    node |= {name: value for name, value in FEW.items() if name in node} | options
    seed_global_generators(0)
    graph, learner, _ = build_graph_and_learner(config)
    assert learner is not None
    workspace, metrics = Workspace(), []
    with contextlib.closing(graph):
        for chunk in collect(graph, workspace, total_steps=128, batch_size=2, steps_per_chunk=32):
            metrics.append(
                learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, total_steps, chunk.new_steps))
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
