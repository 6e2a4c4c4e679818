"""What checkpoints cost a run: the share of the loop's time that is spent on writing them.

    OMP_NUM_THREADS=1 python benchmarks/checkpoints.py [--out FILE]

Each row is one run with the settings of its agent's YAML and checkpoints as they come by default, ten a run. The last
one fills a replay buffer of a million transitions and continues beyond it without learning, so that nothing but the
environments hides the cost.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbrl_exp.runs.run import run
from bbrl_exp.training.checkpoints import Checkpoints

_NO_EVALUATION = ("eval.every=0", "eval.final_episodes=0", "tracking.console=false")
_RUNS = {
    "random cartpole": ("agent=random",),
    "ppo cartpole": ("agent=ppo",),
    "dqn cartpole": ("agent=dqn",),
    "sac pendulum": ("experiment=sac_pendulum",),
    "dqn cartpole, a million transitions, no updates": (
        "agent=dqn",
        "total_steps=1_200_000",
        "agent.learner.replay_capacity=1_000_000",
        "agent.learner.learning_starts=1_200_000",
        "tracking=none",
    ),
}


@dataclass
class Timed:
    """Seconds of each call of ``Checkpoints.write``."""

    seconds: list[float] = field(default_factory=list)

    def install(self) -> None:
        """Lets every checkpoint be timed from now on."""
        write = Checkpoints.write

        def timed(own: Checkpoints, env_steps: int, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
            begun = time.perf_counter()
            write(own, env_steps, state, meta)
            self.seconds.append(time.perf_counter() - begun)

        Checkpoints.write = timed  # type: ignore[method-assign]


def measure() -> list[str]:
    """The rows of the table."""
    timed = Timed()
    timed.install()
    rows = []
    for name, overrides in _RUNS.items():
        timed.seconds.clear()
        summary = run([*overrides, *_NO_EVALUATION]).summary
        assert summary.steps_per_second is not None
        loop_seconds = summary.env_steps / summary.steps_per_second
        spent = sum(timed.seconds)
        rows.append(
            f"| {name} | {summary.env_steps:,} | {loop_seconds:.1f} | {len(timed.seconds)} "
            f"| {1e3 * statistics.median(timed.seconds):.0f} | {1e3 * max(timed.seconds):.0f} "
            f"| {100 * spent / loop_seconds:.1f} % |"
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the table")
    out = parser.parse_args().out
    head = [
        "`OMP_NUM_THREADS=1 python benchmarks/checkpoints.py`:",
        "",
        "| run | env steps | loop, s | checkpoints | median, ms | longest, ms | share of the loop |",
        "|---|---|---|---|---|---|---|",
    ]
    path = None if out is None else out.absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        rows = measure()
        os.chdir("/")
    if path is not None:
        path.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
