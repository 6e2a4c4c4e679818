"""How long a report takes over many small runs: reading, computing, drawing and writing.

    OMP_NUM_THREADS=1 python benchmarks/report.py [--runs 20 200] [--seeds 10 2]

The runs are made up: two environments, settings of three keys, 20 evaluations and 500 training episodes each.
Each report is its own process, as `python scripts/report.py` is, the start of Python and its imports included.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from bbrl_exp.records.layout import CONFIG, HYDRA
from bbrl_exp.records.metrics import EVALUATIONS, MetricsFile
from bbrl_exp.records.summary import Summary

SCRIPT = Path(__file__).parents[1] / "scripts" / "report.py"
N_EVALUATIONS, N_EPISODES = 20, 500


def write_runs(folder: Path, n_runs: int, n_seeds: int) -> None:
    for index in range(n_runs):
        setting, seed = divmod(index, n_seeds)
        env = ("cartpole", "acrobot")[setting % 2]
        write_run(folder / f"setting={setting},seed={seed}", env, setting // 2, seed)


def write_run(folder: Path, env: str, setting: int, seed: int) -> None:
    generator = np.random.default_rng([len(env), setting, seed])
    returns = np.linspace(20, 200 + 10 * setting, N_EPISODES) + generator.normal(0, 30, N_EPISODES)
    evaluations = returns[:: N_EPISODES // N_EVALUATIONS]
    (folder / HYDRA).mkdir(parents=True)
    with contextlib.closing(MetricsFile(folder)) as metrics:
        for k, value in enumerate(returns.tolist()):
            metrics.episodes([100 * k], [0], [value], [round(value)])
        for k, value in enumerate(evaluations.tolist(), 1):
            metrics.scalars(2500 * k, {EVALUATIONS: value})
    learner = {f"key_{key}": key for key in range(60)} | {"learning_rate": 10.0 ** -(1 + setting % 5)}
    config = {"agent": {"learner": learner}, "batch_size": 8 * (1 + setting // 5), "seed": seed}
    OmegaConf.save(OmegaConf.create(config), folder / CONFIG)
    Summary(
        "completed",
        agent="ppo",
        env=env,
        env_id=env,
        seed=seed,
        batch_size=8,
        env_steps=50_000,
        return_mean=float(returns[-100:].mean()),
        eval_return_mean=float(evaluations[-1]),
        wall_seconds=10.0,
        steps_per_second=5_000.0 + seed,
    ).write(folder)


def measure(folder: str) -> tuple[float, float]:
    """Wall and CPU seconds of a report."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, str(SCRIPT), folder], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 2])
    arguments = parser.parse_args()
    print("| runs | settings | environments | seeds | seconds | CPU seconds | page, kB |")
    print("|---|---|---|---|---|---|---|")
    for n_runs in arguments.runs:
        for n_seeds in arguments.seeds:
            with tempfile.TemporaryDirectory() as name:
                write_runs(Path(name), n_runs, n_seeds)
                seconds, cpu = measure(name)
                size = (Path(name) / "report" / "index.html").stat().st_size / 1000
            n_settings = -(-n_runs // (2 * n_seeds))
            print(f"| {n_runs:,} | {n_settings} | 2 | {n_seeds} | {seconds:.1f} | {cpu:.1f} | {size:,.0f} |")


if __name__ == "__main__":
    main()
