"""The tasks and the contestants of the memory benchmark, and the command line of each pair of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parent.parent / "conf"
CELLS = ("gru", "lstm", "min_gru", "lru", "stack", "gtrxl")
DEFAULT, FEED_FORWARD, PEER = "gru", "feed_forward", "sb3_contrib"
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


def _popgym(title: str, env_steps: int, best: float = 1.0) -> Task:
    env = f"env=popgym_{title.lower().replace(' ', '_')}"
    return Task(title, "recurrent_ppo_repeat_previous_easy", env_steps, best, (env,))


TASKS: Mapping[str, Task] = {
    "t_maze_20": Task("T-maze 20", "recurrent_ppo_t_maze", 100_000, 1.0, is_main=True, has_peer=True),
    "repeat_first_easy": Task(
        "Repeat First Easy", "recurrent_ppo_repeat_first_easy", 100_000, 1.0, is_main=True, has_peer=True
    ),
    "repeat_previous_easy": Task(
        "Repeat Previous Easy", "recurrent_ppo_repeat_previous_easy", 150_000, 1.0, is_main=True
    ),
    "masked_cartpole": Task(
        "masked CartPole", "recurrent_ppo_masked_cartpole", 50_000, 500, is_main=True, has_peer=True
    ),
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
    "repeat_first_medium": _popgym("Repeat First Medium", 300_000),
    "repeat_previous_medium": _popgym("Repeat Previous Medium", 300_000),
    "position_only_cartpole_easy": _popgym("Position Only CartPole Easy", 100_000),
    "higher_lower_easy": _popgym("Higher Lower Easy", 100_000),
    "count_recall_easy": _popgym("Count Recall Easy", 300_000),
    "autoencode_easy": _popgym("Autoencode Easy", 300_000),
    "repeat_first_hard": _popgym("Repeat First Hard", 300_000),
    "minigrid_memory_s7": Task("MiniGrid memory S7", "recurrent_ppo_minigrid_memory", 300_000, 1.0),
    "minigrid_memory_s9": Task(
        "MiniGrid memory S9",
        "recurrent_ppo_minigrid_memory",
        2_000_000,
        1.0,
        ("env=minigrid_memory_s9",),
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
    return [
        "agent=ppo",
        f"env={env}",
        *task.overrides,
        f"batch_size={experiment['batch_size']}",
        f"agent.steps_per_chunk={agent['steps_per_chunk']}",
        *(f"agent.learner.{key}={_written(agent['learner'][key])}" for key in _SHARED),
        *shared,
    ]


def _written(value: object) -> str:
    """A value, or the node of a schedule, as it is written on the command line."""
    if not isinstance(value, DictConfig):
        return str(value)
    return "{" + ", ".join(f"{key}: {_written(inner)}" for key, inner in value.items()) + "}"
