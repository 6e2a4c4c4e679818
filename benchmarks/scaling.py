"""How time and memory grow with the steps of a chunk, environments, seeds and environment steps, as table and plot.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--scale 1] [--rounds 3] [--out <file>] [--plot <file>]

PPO and DQN on CartPole-v1 with its own vector code, one thread, no tracking, no evaluation. Along a series one number
grows, and all else stays the same. Each measurement is a separate process, forked from one that has everything
imported: CPU seconds of the run, its start included, and the most memory that it has, beyond what the process had
before. Growth is linear as long as the time per environment step stays the same; ``×`` is how that time compares with
the row before.

Needs Linux and the extra ``bench``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from side_by_side import train_together

import bbrl_exp

QUIET = ["env=cartpole", "env.stepping=vectorized", "tracking=none", "eval.every=0", "eval.final_episodes=0"]
_RUNS = ("seeds", "jobs")
PPO = ["agent=ppo", "agent.learner.n_epochs=4", "agent.learner.n_minibatches=4"]
DQN = ["agent=dqn", "agent.steps_per_chunk=8", "batch_size=8", "agent.learner.replay_capacity=10000"]


@dataclass(frozen=True)
class Series:
    """One number that grows.

    Attributes:
        name: what the table and the plot call it.
        overrides: what stays the same.
        key: the option that is the number; ``seeds`` for so many runs, one after the other in one process, or
            ``jobs`` for so many side by side.
        values: its values, in ascending order.
        env_steps: environment steps of each run, at least; None where they are the number.
        chunk: environment steps of a chunk for each unit of the number; a run has at least four chunks.
    """

    name: str
    overrides: Sequence[str]
    key: str
    values: Sequence[int]
    env_steps: int | None
    chunk: int = 0

    def arguments(self, value: int, scale: float) -> tuple[list[str], int]:
        """Overrides of a run, and how many runs."""
        env_steps = max(round(scale * (value if self.env_steps is None else self.env_steps)), 4 * self.chunk * value)
        overrides = [*QUIET, *self.overrides, f"total_steps={env_steps}"]
        if self.key not in (*_RUNS, "total_steps"):
            overrides.append(f"{self.key}={value}")
        return overrides, value if self.key in _RUNS else 1


B8, T128 = "batch_size=8", "agent.steps_per_chunk=128"
SERIES = (
    Series(
        "T: steps per chunk (PPO, B = 8)", [*PPO, B8], "agent.steps_per_chunk", (16, 64, 256, 1024, 4096), 16_384, 8
    ),
    Series(
        "B: environments (PPO, T = 32)",
        [*PPO, "agent.steps_per_chunk=32"],
        "batch_size",
        (4, 16, 64, 256, 1024, 4096),
        16_384,
        32,
    ),
    Series("seeds, one after the other (PPO, B = 8, T = 128)", [*PPO, B8, T128], "seeds", (1, 2, 4, 8), 16_384),
    Series(
        "seeds, side by side (PPO, B = 8, T = 128, array environments)",
        [*PPO, B8, T128, "env.stepping=auto", "env.backend=array", "checkpoint.every=0"],
        "jobs",
        (2, 4, 8, 16, 32, 64),
        65_536,
    ),
    Series(
        "environment steps of PPO (B = 8, T = 128)", [*PPO, B8, T128], "total_steps", (8_192, 32_768, 131_072), None
    ),
    Series(
        "environment steps of DQN (B = 8, replay of 10,000)",
        DQN,
        "total_steps",
        (1_250, 2_500, 5_000, 10_000, 20_000),
        None,
    ),
)


@dataclass(frozen=True)
class Cost:
    """What one measurement gave.

    Attributes:
        value: the number.
        seconds: CPU seconds.
        megabytes: memory beyond that before the run, at most.
        env_steps: environment steps of all runs.
    """

    value: int
    seconds: float
    megabytes: float
    env_steps: int

    @property
    def microseconds_per_step(self) -> float:
        return self.seconds / self.env_steps * 1e6


def memory(field: str) -> float:
    """``VmRSS``, the memory of this process in MB, or ``VmHWM``, the most that it had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def run_all(overrides: Sequence[str], n_runs: int) -> int:
    """So many runs, one after the other; returns the environment steps of all."""
    env_steps = 0
    for seed in range(n_runs):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            env_steps += (
                bbrl_exp.run([*overrides, f"seed={seed}", f"hydra.run.dir={folder}/run"]).summary.env_steps or 0
            )
    return env_steps


def report(overrides: Sequence[str], n_runs: int, are_together: bool, answer: Connection) -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the most memory counts from here
    before, start = memory("VmRSS"), time.process_time()
    if are_together:
        env_steps = n_runs * int(train_together(overrides, range(n_runs))["env_steps"])
    else:
        env_steps = run_all(overrides, n_runs)
    answer.send((time.process_time() - start, memory("VmHWM") - before, env_steps))


def measured(series: Series, value: int, scale: float, rounds: int) -> Cost:
    """Medians over rounds."""
    overrides, n_runs = series.arguments(value, scale)
    context, found = multiprocessing.get_context("fork"), []
    for _ in range(rounds):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=report, args=(overrides, n_runs, series.key == "jobs", theirs))
        child.start()
        theirs.close()
        found.append(ours.recv())
        child.join()
    seconds, megabytes, env_steps = (statistics.median(each) for each in zip(*found, strict=True))
    return Cost(value, seconds, megabytes, round(env_steps))


def table(costs: dict[str, list[Cost]]) -> str:
    lines = [
        "| what grows | value | CPU s | µs per environment step | × | memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, series in costs.items():
        before: Cost | None = None
        for cost in series:
            growth = ""
            if before is not None:
                growth = f"{cost.microseconds_per_step / before.microseconds_per_step:.2f}"
            lines.append(
                f"| {name if before is None else ''} | {cost.value:,} | {cost.seconds:.2f} "
                f"| {cost.microseconds_per_step:.1f} | {growth} | {cost.megabytes:.1f} |"
            )
            before = cost
    return "\n".join(lines)


def plot(costs: dict[str, list[Cost]], path: Path) -> None:
    """Time per environment step and memory, against each number."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    n_columns = math.ceil(len(costs) / 2)
    figure, axes = pyplot.subplots(4, n_columns, figsize=(3.3 * n_columns, 8.4), squeeze=False, layout="constrained")
    for place, (name, series) in enumerate(costs.items()):
        block, column = divmod(place, n_columns)
        values = [cost.value for cost in series]
        for row, (label, numbers) in enumerate(
            (
                ("µs per environment step", [cost.microseconds_per_step for cost in series]),
                ("memory, MB", [cost.megabytes for cost in series]),
            )
        ):
            ax = axes[2 * block + row][column]
            ax.plot(values, numbers, marker="o", markersize=4, color="#1f77b4" if row == 0 else "#d62728")
            ax.set_xscale("log", base=2)
            ax.set_xticks(values, [f"{value:,}" for value in values], rotation=45, fontsize=9, minor=False)
            ax.set_ylim(0, 1.15 * max(numbers))
            ax.tick_params(axis="y", labelsize=9)
            ax.tick_params(axis="x", labelbottom=row == 1)
            ax.grid(alpha=0.3)
            if column == 0:
                ax.set_ylabel(label, fontsize=10)
            if row == 0:
                ax.set_title(name.replace(" (", "\n(").replace(", array", ",\narray"), fontsize=10)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the environment steps of every run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file to write the table to, beside standard output")
    parser.add_argument("--plot", type=Path, help="file to draw the plot into")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    out = None if arguments.out is None else arguments.out.absolute()
    picture = None if arguments.plot is None else arguments.plot.absolute()
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for agent in ([*PPO, "batch_size=8"], DQN):  # everything is imported and warm before the first measurement
            run_all([*QUIET, *agent, "total_steps=2048"], 1)
        for series in SERIES:
            if series.key == "jobs":
                train_together(series.arguments(2, 0.01)[0], range(2))
        for series in SERIES:
            costs[series.name] = [measured(series, value, arguments.scale, arguments.rounds) for value in series.values]
            sys.stderr.write(f"{series.name}: done\n")
        os.chdir("/")
    text = table(costs)
    print(text)
    if out is not None:
        command = (
            f"OMP_NUM_THREADS=1 python benchmarks/scaling.py --scale {arguments.scale:g} --rounds {arguments.rounds}"
        )
        out.write_text(f"Medians of `{command}`:\n\n{text}\n", encoding="utf-8")
    if picture is not None:
        plot(costs, picture)


if __name__ == "__main__":
    main()
