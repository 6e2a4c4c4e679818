"""Replay: put one time step of 8 environments and draw 256 transitions of a million, against stable-baselines3.

    OMP_NUM_THREADS=1 python benchmarks/replay.py [--rounds 9] [--calls 1000] [--out <file>]

Observations of 17 and actions of 6 floats, one thread, seconds of processor time. All contestants are full, live in
this one process, and run in turn in every round; the table shows medians over the rounds, and the median of the ratios
of each round. The last draw of a round is checked: observation, action, reward and next observation belong together.

Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer as PeerReplayBuffer

from bbrl_exp.data.prioritised import PrioritisedReplay
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.workspace import Workspace

CAPACITY, BATCH_SIZE, N_SAMPLES = 1_000_000, 8, 256
OBSERVATION_SIZE, ACTION_SIZE = 17, 6
# Recognisable rows: every component of row t of environment b is 1000·t + b, and t counts to this and begins again.
PERIOD = 1000
ROWS_PER_RECORDING = 128

Step = Callable[[], None]
Draw = Callable[[], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Contestant:
    """A full replay buffer.

    Attributes:
        name: what the table calls it.
        step: makes the next time step, which is not measured.
        put: stores it.
        sample: draws, and returns observations, actions, rewards and next observations.
        n_steps: steps that a transition spans.
    """

    name: str
    step: Step
    put: Step
    sample: Draw
    n_steps: int = 1


def values_of(t: int) -> NDArray[np.float32]:
    """Row ``t``, ``[B]``."""
    return (1000 * (t % PERIOD) + np.arange(BATCH_SIZE)).astype(np.float32)


class Recording:
    """A workspace that is recorded step by step, and cut every ``ROWS_PER_RECORDING`` rows."""

    def __init__(self) -> None:
        self.workspace = Workspace()
        self._flags = np.zeros(BATCH_SIZE, np.bool_)
        self._facts = {
            "env/env_obs": ((BATCH_SIZE, OBSERVATION_SIZE), np.float32),
            "action": ((BATCH_SIZE, ACTION_SIZE), np.float32),
            "env/reward": ((BATCH_SIZE,), np.float32),
            **{
                f"env/{flag}": ((BATCH_SIZE,), np.bool_)
                for flag in ("terminated", "truncated", "done", "initial_state")
            },
        }
        self._time = 0
        self.last_row = -1

    def record(self, n_rows: int) -> int:
        """Records further rows, and returns the one before them."""
        if self.last_row >= ROWS_PER_RECORDING:
            self.workspace.copy_n_last_steps(1)
            self.last_row = 0
        before = max(self.last_row, 0)
        writer = self.workspace.row_writer(self._facts)
        for _ in range(n_rows):
            here, reward = values_of(self._time), values_of(self._time - 1)
            observation, action = (np.repeat(here[:, None], size, 1) for size in (OBSERVATION_SIZE, ACTION_SIZE))
            self._time += 1
            self.last_row += 1
            writer.write(self.last_row, (observation, action, reward, *[self._flags] * 4))
        return before


def bbrl_exp(n_steps: int = 1, *, prioritised: bool = False) -> tuple[Step, Step, Draw]:
    buffer = ReplayBuffer(CAPACITY, ["env/env_obs"], ["action"], discount=1.0, n_steps=n_steps)
    replay = PrioritisedReplay(buffer) if prioritised else buffer
    recording, generator = Recording(), np.random.default_rng(0)
    while len(buffer) < CAPACITY:
        first_row = recording.record(ROWS_PER_RECORDING)
        replay.put(recording.workspace, first_row)
    before = 0

    def step() -> None:
        nonlocal before
        before = recording.record(1)

    def put() -> None:
        replay.put(recording.workspace, before)

    def sample() -> tuple[torch.Tensor, ...]:
        if isinstance(replay, ReplayBuffer):
            batch = replay.sample(N_SAMPLES, generator)
        else:
            batch = replay.sample(N_SAMPLES, generator, importance_exponent=0.4)
            replay.update(batch.indexes, batch.weights)
        return *batch.observations, *batch.actions, batch.rewards, *batch.next_observations

    return step, put, sample


def stable_baselines3() -> tuple[Step, Step, Draw]:
    def box(size: int) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    buffer = PeerReplayBuffer(CAPACITY, box(OBSERVATION_SIZE), box(ACTION_SIZE), device="cpu", n_envs=BATCH_SIZE)
    time_steps = itertools.count()
    infos: list[dict[str, Any]] = [{} for _ in range(BATCH_SIZE)]
    ends = np.zeros(BATCH_SIZE, np.bool_)
    arguments: tuple[Any, ...] = ()

    def step() -> None:
        nonlocal arguments
        t = next(time_steps)
        here, after = values_of(t), values_of(t + 1)
        sizes = (here, OBSERVATION_SIZE), (after, OBSERVATION_SIZE), (here, ACTION_SIZE)
        arguments = (*(np.repeat(values[:, None], size, 1) for values, size in sizes), here, ends, infos)

    def put() -> None:
        buffer.add(*arguments)

    def sample() -> tuple[torch.Tensor, ...]:
        batch = buffer.sample(N_SAMPLES)
        return batch.observations, batch.actions, batch.rewards[:, 0], batch.next_observations

    while not buffer.full:
        step()
        put()
    return step, put, sample


def check(contestant: Contestant, drawn: tuple[torch.Tensor, ...]) -> None:
    """Refuses a batch of which observations, actions, rewards and next observations do not belong together."""
    observations, actions, rewards, next_observations = drawn
    here = observations[:, 0].double()
    environment = here % 1000
    at = [1000 * ((here.div(1000, rounding_mode="floor") + k) % PERIOD) + environment for k in range(4)]
    n_steps = contestant.n_steps
    # A window next to the last row spans fewer steps.
    then = sum((next_observations[:, 0] == at[k]) * at[k] for k in range(1, n_steps + 1))
    spans = [k for k in range(1, n_steps + 1) if (next_observations[:, 0] == at[k]).any()]
    returns = sum(sum(at[i] for i in range(k)) * (next_observations[:, 0] == at[k]) for k in spans)
    pairs = ((observations, here), (actions, here), (next_observations, then), (rewards[:, None], returns))
    if not all(bool((found == expected[:, None]).all()) for found, expected in pairs):
        raise SystemExit(f"{contestant.name}: what was drawn is no transition")


def measure(contestants: list[Contestant], rounds: int, calls: int) -> dict[str, list[tuple[float, float]]]:
    """Processor seconds of a put and of a draw, of each contestant in each round."""
    seconds: dict[str, list[tuple[float, float]]] = {contestant.name: [] for contestant in contestants}
    for round_index in range(rounds + 1):
        for contestant in contestants:
            put_seconds = sample_seconds = 0.0
            for _ in range(calls if round_index else 10):
                contestant.step()
                start = time.process_time()
                contestant.put()
                middle = time.process_time()
                drawn = contestant.sample()
                stop = time.process_time()
                put_seconds += middle - start
                sample_seconds += stop - middle
            check(contestant, drawn)
            if round_index:
                seconds[contestant.name].append((put_seconds / calls, sample_seconds / calls))
    return seconds


def table(seconds: dict[str, list[tuple[float, float]]], peer: str) -> str:
    """One row a contestant; the ratio is that of the speeds of both calls together."""
    lines = [
        f"| replay of {CAPACITY:,} transitions, processor time | put {BATCH_SIZE}, µs | draw {N_SAMPLES}, µs "
        f"| both, per second | ÷ {peer} (uniform, one step) |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in seconds.items():
        put, sample = (statistics.median(values) for values in zip(*rounds, strict=True))
        both = statistics.median(put + sample for put, sample in rounds)
        ratio = statistics.median(sum(theirs) / sum(ours) for ours, theirs in zip(rounds, seconds[peer], strict=True))
        lines.append(f"| {name} | {put * 1e6:.0f} | {sample * 1e6:.0f} | {1 / both:,.0f} | {ratio:.1f}× |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=1000, help="of each contestant in each round")
    parser.add_argument("--out", type=Path, help="file to write the table to, beside standard output")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    peer = "stable-baselines3"
    contestants = [
        Contestant(peer, *stable_baselines3()),
        Contestant("**bbrl_exp**", *bbrl_exp()),
        Contestant("bbrl_exp, 3 steps", *bbrl_exp(n_steps=3), n_steps=3),
        Contestant("bbrl_exp, prioritised (draw and update)", *bbrl_exp(prioritised=True)),
    ]
    text = table(measure(contestants, arguments.rounds, arguments.calls), peer)
    print(text)
    if arguments.out is not None:
        options = f"--rounds {arguments.rounds} --calls {arguments.calls}"
        command = f"OMP_NUM_THREADS=1 python benchmarks/replay.py {options}"
        arguments.out.write_text(f"Medians of `{command}`:\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
