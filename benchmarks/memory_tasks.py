"""The tasks and the contestants of the memory benchmark, and the command line of each pair of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parent.parent / "conf"
CELLS = ("gru", "lstm", "min_gru", "lru", "stack", "gtrxl")
FEED_FORWARD, PEER = "feed_forward", "sb3_contrib"
CONTESTANTS = (*CELLS, FEED_FORWARD, PEER)
"""The options of the group ``memory``, PPO without a memory, and sb3-contrib's RecurrentPPO, which has an LSTM."""
OF_OTHER_TASKS = ("gru", "lru")
# What the two learners have in common.
_SHARED = ("learning_rate", "discount", "trace_decay", "n_epochs", "n_minibatches", "clip_range", "entropy_weight")


@dataclass(frozen=True)
class Task:
    """An environment, and how it is learned: the same way with every memory.

    Attributes:
        title: for tables and plots.
        experiment: whose settings are used, a file of ``conf/experiment``.
        env_steps: the budget.
        best: the optimum or, where none is known, the return at which the environment counts as solved.
        overrides: what deviates from the experiment.
        is_main: whether every memory learns it, instead of ``OF_OTHER_TASKS`` alone.
        has_peer: whether the peer learns it, under the name of the experiment.
        cpu_minutes: after so many a run is stopped.
        n_seeds: of how many seeds at most.
    """

    title: str
    experiment: str
    env_steps: int
    best: float
    overrides: Sequence[str] = ()
    is_main: bool = False
    has_peer: bool = False
    cpu_minutes: float = 15.0
    n_seeds: int | None = None

    @property
    def contestants(self) -> tuple[str, ...]:
        """Who learns it."""
        if not self.is_main:
            return OF_OTHER_TASKS
        return tuple(name for name in CONTESTANTS if name != PEER or self.has_peer)


def _popgym(name: str, title: str, env_steps: int) -> Task:
    env = ("env=popgym", f"env.id=popgym-{name}-v0")
    return Task(title, "recurrent_ppo_repeat_previous_easy", env_steps, 1.0, env)


TASKS: Mapping[str, Task] = {
    "t_maze_20": Task("T-maze 20", "recurrent_ppo_t_maze", 100_000, 1.0, is_main=True, has_peer=True),
    "repeat_first_easy": Task(
        "RepeatFirst Easy", "recurrent_ppo_repeat_first_easy", 100_000, 1.0, is_main=True, has_peer=True
    ),
    "repeat_previous_easy": Task(
        "RepeatPrevious Easy", "recurrent_ppo_repeat_previous_easy", 200_000, 1.0, is_main=True, has_peer=True
    ),
    "masked_cartpole": Task("masked CartPole", "recurrent_ppo_masked_cartpole", 50_000, 500, is_main=True),
    "t_maze_100": Task(
        "T-maze 100",
        "recurrent_ppo_t_maze",
        300_000,
        1.0,
        ("env.kwargs.corridor_length=100",),
    ),
    "masked_pendulum": Task("masked Pendulum", "recurrent_ppo_masked_pendulum", 200_000, -150),
    "masked_mountain_car_continuous": Task(
        "masked MountainCarContinuous", "recurrent_ppo_masked_mountain_car_continuous", 300_000, 90
    ),
    "autoencode_easy": _popgym("AutoencodeEasy", "Autoencode Easy", 300_000),
    "position_only_cartpole_easy": _popgym("PositionOnlyCartPoleEasy", "PositionOnlyCartPole Easy", 100_000),
    "higher_lower_easy": _popgym("HigherLowerEasy", "HigherLower Easy", 100_000),
    "count_recall_easy": _popgym("CountRecallEasy", "CountRecall Easy", 300_000),
    "repeat_first_medium": _popgym("RepeatFirstMedium", "RepeatFirst Medium", 300_000),
    "repeat_first_hard": _popgym("RepeatFirstHard", "RepeatFirst Hard", 300_000),
    "repeat_previous_medium": _popgym("RepeatPreviousMedium", "RepeatPrevious Medium", 300_000),
    "minigrid_memory_s7": Task("MiniGrid memory S7", "recurrent_ppo_minigrid_memory", 300_000, 1.0),
    "minigrid_memory_s9": Task(
        "MiniGrid memory S9",
        "recurrent_ppo_minigrid_memory",
        2_000_000,
        1.0,
        ("env.id=MiniGrid-MemoryS9-v0",),
        cpu_minutes=30.0,
        n_seeds=1,
    ),
}


def overrides(task: Task, contestant: str) -> list[str]:
    """What follows ``scripts/run.py`` on the command line, but for seed, name and evaluation.

    Without a memory, the learner has the settings of the experiment that it knows.
    """
    shared = [f"total_steps={task.env_steps}"]
    if contestant != FEED_FORWARD:
        return [f"experiment={task.experiment}", f"memory={contestant}", *task.overrides, *shared]
    experiment = OmegaConf.load(CONF / "experiment" / f"{task.experiment}.yaml")
    assert isinstance(experiment, DictConfig)
    env = next(entry["override /env"] for entry in experiment["defaults"] if "override /env" in entry)
    agent = OmegaConf.merge(OmegaConf.load(CONF / "agent" / "recurrent_ppo.yaml"), experiment["agent"])
    env_settings = [f"env.{key}={value}" for key, value in _flat(experiment.get("env", {})).items()]
    return [
        "agent=ppo",
        f"env={env}",
        *env_settings,
        *task.overrides,
        f"batch_size={experiment['batch_size']}",
        f"agent.steps_per_chunk={agent['steps_per_chunk']}",
        *(f"agent.learner.{key}={agent['learner'][key]}" for key in _SHARED),
        *shared,
    ]


def _flat(node: Mapping[str, Any]) -> dict[str, Any]:
    """The values of nested mappings by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping | DictConfig):
            flat |= {f"{key}.{inner}": leaf for inner, leaf in _flat(value).items()}
        else:
            flat[key] = value
    return flat
