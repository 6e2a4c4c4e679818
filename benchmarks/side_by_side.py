"""How fast jobs train side by side: this project's ordinary runs one after the other, stacks of them, and Rejax.

    OMP_NUM_THREADS=1 python benchmarks/side_by_side.py --peer-python <python with rejax>
        [--rounds 3] [--tasks ppo dqn] [--jobs 2 8 32] [--scale 1] [--out benchmarks/results/side_by_side.md]

The work is that of ``benchmarks/training.py``: the whole loop, with the same numbers of environments, steps and updates
and the same networks; evaluation and tracking are left out, and so is what a run does once, at its start. PPO also with
array environments. Rejax (JAX) compiles the training of all seeds, environment included, as one function; compiling is
not counted. Every contestant runs in turn in every round; seconds are CPU seconds, and the tables show medians over
the rounds, of speeds of all jobs together and of the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rounds import REJAX_PPO, Contestant, cpu_time_in_another_folder, speed_of_program, speeds_of
from training import DQN_OVERRIDES, PPO_OVERRIDES

import bbrl_exp
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.records.summary import read_summary
from bbrl_exp.runs.run import open_composer
from bbrl_exp.runs.stack import run_stack
from bbrl_exp.sweeps.jobs import JobChecks, expand

STEPS = {"ppo": 20 * 1024, "ppo on arrays": 20 * 1024, "dqn": 1600}
TITLES = {
    "ppo": "PPO, CartPole-v1, 8 × 128, 4 epochs × 4 minibatches, 64-64 tanh: environment steps of all jobs",
    "ppo on arrays": "the same with env.backend=array",
    "dqn": "DQN, CartPole-v1, 8 environments, one update of 64 samples an environment step, 64-64: updates of all jobs",
}
OVERRIDES: Mapping[str, Sequence[str]] = {
    "ppo": ("env=cartpole", *PPO_OVERRIDES),
    "ppo on arrays": ("env=cartpole", "env.backend=array", *PPO_OVERRIDES),
    "dqn": ("env=cartpole", *DQN_OVERRIDES),
}
_COMMON = ("batch_size=8", "tracking=none", "checkpoint.every=0", "eval.every=0", "eval.final_episodes=0")
_REJAX = f"""
import sys, time
import jax, rejax
seed, n_steps, n_jobs = map(int, sys.argv[1:])
{REJAX_PPO}
train = jax.jit(jax.vmap(learner.train))
jax.block_until_ready(train(jax.random.split(jax.random.PRNGKey(seed), n_jobs)))
start = time.process_time()
jax.block_until_ready(train(jax.random.split(jax.random.PRNGKey(seed + 1), n_jobs)))
print(n_jobs * n_steps / (time.process_time() - start))
"""
_ALONE = "bbrl_exp, one job after the other"


def alone(task: str) -> Contestant:
    def contestant(seed: int, scale: float) -> float:
        options = [*OVERRIDES[task], *_COMMON, f"seed={seed}", f"total_steps={round(scale * STEPS[task])}"]
        with contextlib.redirect_stdout(io.StringIO()):
            summary = bbrl_exp.run(options).summary
        assert summary.steps_per_second is not None
        return summary.steps_per_second

    return contestant


def train_together(options: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Trains the jobs of these options side by side; what ``summary.json`` of the last one that begins says.

    Of its seconds, none are spent on the others before their first chunk.
    """
    with open_composer() as composer:
        config = SweepConfig.of(composer, [*options, f"seed={','.join(map(str, seeds))}"])
        jobs = JobChecks(composer, config.of_hydra, are_stacked=True)(expand(config.typed))
    runs = [job.run for job in jobs if job.run is not None and job.not_stackable is None]
    assert len(runs) == len(seeds), [job.error or job.not_stackable for job in jobs]
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / job.folder for job in jobs]
        run_stack(runs, folders)
        return read_summary(folders[-1]) or {}


def stack(task: str, n_jobs: int) -> Contestant:
    def contestant(seed: int, scale: float) -> float:
        options = [*OVERRIDES[task], *_COMMON, f"total_steps={round(scale * STEPS[task])}"]
        summary = train_together(options, [1000 * seed + index for index in range(n_jobs)])
        return float(n_jobs * summary["steps_per_second"])

    return contestant


def rejax(task: str, n_jobs: int, python: str) -> Contestant:
    def contestant(seed: int, scale: float) -> float:
        return speed_of_program(python, _REJAX, seed, round(scale * STEPS[task]), n_jobs)

    return contestant


def table(task: str, speeds: Mapping[str, Sequence[float]]) -> str:
    """One table: the speed of each contestant and its ratios to others, medians over rounds."""
    others = {"one after the other": _ALONE, **{name: name for name in speeds if name.startswith("Rejax")}}
    lines = [f"| {TITLES[task]} | a CPU second |{''.join(f' ÷ {name} |' for name in others)}"]
    lines.append("|---|---|" + "---|" * len(others))
    for name, values in speeds.items():
        ratios = [statistics.median(a / b for a, b in zip(values, speeds[of], strict=True)) for of in others.values()]
        shown = "".join(f" {ratio:.2f} |" for ratio in ratios)
        lines.append(f"| {name} | {statistics.median(values):,.0f} |{shown}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="a Python in which rejax can be imported; left out: without Rejax")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--jobs", nargs="+", type=int, default=[2, 8, 32])
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the work of every contestant")
    parser.add_argument("--out", type=Path, help="file to write the tables to, beside standard output")
    arguments = parser.parse_args()
    out = None if arguments.out is None else arguments.out.absolute()
    parts = []
    with cpu_time_in_another_folder():
        for task in arguments.tasks:
            contestants: dict[str, Contestant] = {_ALONE: alone(task)}
            for n_jobs in arguments.jobs:
                contestants[f"**bbrl_exp, {n_jobs} side by side**"] = stack(task, n_jobs)
            if arguments.peer_python and task.startswith("ppo"):
                most = max(arguments.jobs)
                contestants[f"Rejax, vmapped over {most}"] = rejax(task, most, arguments.peer_python)
            speeds = speeds_of(task, contestants, arguments.rounds, arguments.scale)
            parts.append(table(task, speeds))
    text = "\n\n".join(parts) + "\n"
    print(text)
    if out is not None:
        jobs = " ".join(map(str, arguments.jobs))
        options = f"--rounds {arguments.rounds} --jobs {jobs} --scale {arguments.scale:g}"
        peer = " --peer-python …" if arguments.peer_python else ""
        tasks = " ".join(f'"{task}"' if " " in task else task for task in arguments.tasks)
        command = f"OMP_NUM_THREADS=1 python benchmarks/side_by_side.py{peer} {options} --tasks {tasks}"
        out.write_text(f"Medians over rounds of `{command}`:\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
