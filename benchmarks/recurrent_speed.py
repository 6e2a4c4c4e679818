"""How fast PPO with a memory trains on the ordinary path: this project and sb3-contrib's RecurrentPPO, one thread.

    OMP_NUM_THREADS=1 python benchmarks/recurrent_speed.py [--rounds 3] [--tasks …] [--chunks 10] [--out <file>]

Equal work: the same environment and numbers of environments, steps, epochs and minibatches, whole chunks as sequences,
normalised observations and rewards, and the same networks, one linear layer behind the memory. sb3-contrib has no GRU:
this project's GRU is compared with its LSTM of that size. Every contestant starts afresh in every round, all of them in
turn, and the tables show medians over the rounds. The clock starts after the first update, so that what a contestant
does once is not counted. Seconds are CPU seconds of the process. This project runs as from the command line, without
tracking and evaluation. Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import torch

import bbrl_exp
from bbrl_exp.envs.wrappers import MaskObservation
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO

N_ENVS, N_STEPS, N_EPOCHS, N_MINIBATCHES = 8, 128, 10, 4
ENVS: Mapping[str, tuple[str, list[int]]] = {
    "masked_cartpole": ("CartPole-v1", [1, 3]),
    "masked_pendulum": ("Pendulum-v1", [2]),
}
PEER = "sb3-contrib, LSTM"


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        env: a name of ``ENVS``.
        n_hidden: units of a memory.
        has_two: whether policy and critic have a memory each, instead of one together.
    """

    env: str
    n_hidden: int
    has_two: bool = False

    def __str__(self) -> str:
        memories = "two memories" if self.has_two else "one memory"
        return (
            f"{self.env.replace('_', ' ')}, {memories} of {self.n_hidden} units, {N_ENVS} × {N_STEPS}, "
            f"{N_EPOCHS} epochs × {N_MINIBATCHES} minibatches"
        )


TASKS: Mapping[str, Task] = {
    "cartpole-64": Task("masked_cartpole", 64),
    "cartpole-256": Task("masked_cartpole", 256),
    "cartpole-two-64": Task("masked_cartpole", 64, has_two=True),
    "pendulum-64": Task("masked_pendulum", 64),
}


@dataclass
class Clock:
    """CPU seconds of the updates, and of all from the end of the first one to the end of the last one.

    Attributes:
        n: how many updates there were after the first.
        update: their seconds.
        whole: seconds of them and of the rollouts before them.
    """

    n: int = -1
    update: float = 0.0
    whole: float = 0.0
    _start: float = field(default=0.0, repr=False)

    def finish(self, begun: float) -> None:
        """An update that began then is over."""
        now = time.process_time()
        self.n += 1
        if self.n == 0:
            self._start = now
        else:
            self.update += now - begun
            self.whole = now - self._start

    @property
    def speeds(self) -> tuple[float, float, float]:
        """Environment steps per CPU second: of the rollouts, of the updates, of both."""
        env_steps = self.n * N_ENVS * N_STEPS
        return env_steps / (self.whole - self.update), env_steps / self.update, env_steps / self.whole


Contestant = Callable[[Task, int, int], Clock]
"""From a task, a seed and a number of chunks."""


@contextlib.contextmanager
def timed(owner: type, method: str) -> Iterator[Clock]:
    """Times all calls of a method of ``owner``."""
    clock, update = Clock(), getattr(owner, method)

    @functools.wraps(update)
    def measured(*arguments: Any, **others: Any) -> Any:
        begun = time.process_time()
        result = update(*arguments, **others)
        clock.finish(begun)
        return result

    with mock.patch.object(owner, method, measured):
        yield clock


def sb3_contrib(task: Task, seed: int, n_chunks: int) -> Clock:
    from sb3_contrib import RecurrentPPO as Peer
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env_id, hidden = ENVS[task.env]
    env = VecNormalize(DummyVecEnv([lambda: MaskObservation(gymnasium.make(env_id), hidden=hidden)] * N_ENVS))
    model = Peer(
        "MlpLstmPolicy",
        env,
        n_steps=N_STEPS,
        batch_size=N_ENVS * N_STEPS // N_MINIBATCHES,
        n_epochs=N_EPOCHS,
        learning_rate=1e-3,
        policy_kwargs={
            "lstm_hidden_size": task.n_hidden,
            "shared_lstm": not task.has_two,
            "enable_critic_lstm": task.has_two,
            "net_arch": [],
        },
        seed=seed,
        device="cpu",
    )
    with timed(Peer, "train") as clock:
        model.learn((n_chunks + 1) * N_ENVS * N_STEPS)
    return clock


def this_project(cell: str) -> Contestant:
    def contestant(task: Task, seed: int, n_chunks: int) -> Clock:
        overrides = [
            "agent=recurrent_ppo",
            f"memory={cell}",
            f"memory.cell.n_hidden={task.n_hidden}",
            f"env={task.env}",
            f"batch_size={N_ENVS}",
            f"agent.steps_per_chunk={N_STEPS}",
            "agent.learner.sequence_length=null",
            f"agent.learner.n_epochs={N_EPOCHS}",
            f"agent.learner.n_minibatches={N_MINIBATCHES}",
            "agent.learner.learning_rate=1e-3",
            "agent.learner.anneal_learning_rate=false",
            f"seed={seed}",
            "tracking=none",
            f"total_steps={(n_chunks + 1) * N_ENVS * N_STEPS}",
            "eval.every=0",
            "eval.final_episodes=0",
        ]
        if task.has_two:
            critic = "{_target_: bbrl_exp.policies.recurrent.MemoryCritic, cell: ${memory.cell}, seed: ${seed}"
            overrides += [f"+agent.members.critic={critic}, observation_prefix: normalized/}}", "~agent.learner.critic"]
        with contextlib.redirect_stdout(io.StringIO()), timed(RecurrentPPO, "update") as clock:
            bbrl_exp.run(overrides)
        return clock

    return contestant


CONTESTANTS: Mapping[str, Contestant] = {
    PEER: sb3_contrib,
    "**bbrl_exp**, LSTM": this_project("lstm"),
    "**bbrl_exp**, GRU": this_project("gru"),
}


def measure(tasks: Sequence[str], rounds: int, n_chunks: int) -> dict[tuple[str, str], list[Clock]]:
    """What each (task, contestant) took in each round."""
    clocks: dict[tuple[str, str], list[Clock]] = {(task, name): [] for task in tasks for name in CONTESTANTS}
    for task in tasks:
        for seed in range(rounds):
            for name, contestant in CONTESTANTS.items():
                clocks[task, name].append(contestant(TASKS[task], seed, n_chunks))
            sys.stderr.write(f"{task}, round {seed + 1} of {rounds}: done\n")
    return clocks


def tables(clocks: Mapping[tuple[str, str], Sequence[Clock]]) -> str:
    """A table per task: environment steps per CPU second, and in brackets the multiple of the peer's in a round."""
    parts = []
    for task in dict.fromkeys(task for task, _ in clocks):
        lines = [f"| {TASKS[task]} | rollout | update | both |", "|---|---|---|---|"]
        theirs = [clock.speeds for clock in clocks[task, PEER]]
        for name in CONTESTANTS:
            speeds = [clock.speeds for clock in clocks[task, name]]
            cells = [name]
            for ours, peer in zip(zip(*speeds, strict=True), zip(*theirs, strict=True), strict=True):
                ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
                more = "" if name == PEER else f" ({ratio:.1f}×)"
                cells.append(f"{statistics.median(ours):,.0f}{more}")
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--chunks", type=int, default=10, help="rollouts and updates that are measured")
    parser.add_argument("--out", type=Path, help="file to write the tables to, beside standard output")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    out = None if arguments.out is None else arguments.out.absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        text = tables(measure(arguments.tasks, arguments.rounds, arguments.chunks))
        os.chdir("/")
    print(text)
    if out is not None:
        options = f"--rounds {arguments.rounds} --chunks {arguments.chunks}"
        command = f"OMP_NUM_THREADS=1 python benchmarks/recurrent_speed.py {options}"
        about = (
            "environment steps per CPU second, medians over rounds, and this project's as multiples of sb3-contrib's"
        )
        out.write_text(f"`{command}`: {about}.\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
