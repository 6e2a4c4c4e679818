"""How fast compiled updates are: this project with ``compile=true`` and without, SBX and Rejax, one thread.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py --peer-python <python with sbx-rl and rejax>
        [--rounds 3] [--tasks dqn sac ppo] [--scale 1] [--backend array] [--out benchmarks/results/compiled.md]

The work is that of ``benchmarks/training.py``: the whole loop, with the same numbers of environments, steps and
updates and the same networks; evaluation, tracking and compiling are left out. SBX steps gymnasium's environments, as
this project does; Rejax compiles the environment too. The matrix products of a SAC update alone show how much could be
gained at most. Every contestant runs in turn in every round; seconds are CPU seconds, and the tables show medians over
the rounds, of speeds and of the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

import torch
from rounds import REJAX_PPO, Contestant, cpu_time_in_another_folder, speed_of_program, speeds_of
from torch import Tensor
from training import DQN_OVERRIDES, PPO_OVERRIDES, SAC_OVERRIDES

import bbrl_exp
from bbrl_exp.compilation.compiler import Compiler
from bbrl_exp.learners.compiled.recording import LearnerTensors

STEPS = {"dqn": 12_000, "sac": 640, "ppo": 120 * 1024}
TITLES = {
    "dqn": "DQN, CartPole-v1, 8 environments, one update of 64 samples an environment step, 64-64: updates/s",
    "sac": "SAC, Pendulum-v1, 8 environments, one update of 256 samples an environment step, 256-256: updates/s",
    "ppo": "PPO, CartPole-v1, 8 × 128, 4 epochs × 4 minibatches, 64-64 tanh: environment steps/s",
}
OVERRIDES: Mapping[str, Sequence[str]] = {
    "dqn": ("env=cartpole", *DQN_OVERRIDES),
    "sac": ("env=pendulum", *SAC_OVERRIDES),
    "ppo": ("env=cartpole", *PPO_OVERRIDES),
}

_SBX = """
import sys, time
import gymnasium, sbx
from stable_baselines3.common.vec_env import DummyVecEnv
seed, n_steps = int(sys.argv[1]), int(sys.argv[2])
env = DummyVecEnv([lambda: gymnasium.make("{env_id}")] * 8)
model = sbx.{algorithm}("MlpPolicy", env, seed=seed, {settings})
model.learn({n_warm_up})
before, start = model.num_timesteps, time.process_time()
model.learn(n_steps, reset_num_timesteps=False)
print((model.num_timesteps - before) / (time.process_time() - start))
"""
_REJAX = f"""
import sys, time
import jax, rejax
seed, n_steps = int(sys.argv[1]), int(sys.argv[2])
{REJAX_PPO}
train = jax.jit(learner.train)
jax.block_until_ready(train(jax.random.PRNGKey(seed)))
start = time.process_time()
jax.block_until_ready(train(jax.random.PRNGKey(seed + 1)))
print(n_steps / (time.process_time() - start))
"""
PEERS: Mapping[str, tuple[str, str]] = {
    "dqn": (
        "SBX (JAX)",
        _SBX.format(
            algorithm="DQN",
            env_id="CartPole-v1",
            n_warm_up=1024,
            settings="learning_rate=1e-3, buffer_size=100_000, learning_starts=128, batch_size=64, train_freq=1, "
            "gradient_steps=8, target_update_interval=500, policy_kwargs=dict(net_arch=[64, 64])",
        ),
    ),
    "sac": (
        "SBX (JAX)",
        _SBX.format(
            algorithm="SAC",
            env_id="Pendulum-v1",
            n_warm_up=320,
            settings="learning_rate=1e-3, buffer_size=100_000, learning_starts=256, batch_size=256, train_freq=1, "
            "gradient_steps=8",
        ),
    ),
    "ppo": ("Rejax (JAX, environment compiled too)", _REJAX),
}


def peer(task: str, python: str) -> Contestant:
    def contestant(seed: int, scale: float) -> float:
        return speed_of_program(python, PEERS[task][1], seed, round(scale * STEPS[task]))

    return contestant


def this_project(task: str, compiles: bool, others: Sequence[str]) -> Contestant:
    def contestant(seed: int, scale: float) -> float:
        compiling = 0.0

        def left_out(function: Callable[..., object]) -> Callable[..., object]:
            def measured(*arguments: object) -> object:
                nonlocal compiling
                begun = time.process_time()
                try:
                    return function(*arguments)
                finally:
                    compiling += time.process_time() - begun

            return measured

        options = [
            "batch_size=8",
            "tracking=none",
            "checkpoint.every=0",
            "eval.every=0",
            "eval.final_episodes=0",
            f"seed={seed}",
            f"total_steps={round(scale * STEPS[task])}",
            f"compile={str(compiles).lower()}",
        ]
        with (
            contextlib.redirect_stdout(io.StringIO()),
            mock.patch.object(Compiler, "__call__", left_out(Compiler.__call__)),
            mock.patch.object(LearnerTensors, "seconds_of", left_out(LearnerTensors.seconds_of)),
        ):
            summary = bbrl_exp.run([*OVERRIDES[task], *options, *others]).summary
        assert summary.steps_per_second is not None
        return summary.env_steps / (summary.env_steps / summary.steps_per_second - compiling)

    return contestant


def products_of_sac(seed: int, scale: float) -> float:
    """Only the matrix products that an update of SAC cannot do without, by torch."""

    def products(
        sizes: Sequence[int], *, forward: int = 0, weights: int = 0, inputs: int = 0, first: int = 0
    ) -> list[tuple[Tensor, Tensor]]:
        """Those of a network, as often as given; ``first``: also the gradient of what the first layer sees."""
        found = []
        for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            rows, weight, gradient = torch.ones(256, n_in), torch.ones(n_in, n_out), torch.ones(256, n_out)
            found += forward * [(rows, weight)] + weights * [(rows.t(), gradient)]
            found += (inputs if index else first) * [(gradient, weight.t())]
        return found

    update = [
        *products((3, 256, 256, 2), forward=2, weights=1, inputs=1),  # actions now and next; the policy's gradient
        *products((4, 256, 256, 1), forward=4, weights=2, inputs=2),  # targets; the critics' gradients
        *products((4, 256, 256, 1), forward=2, inputs=2, first=2),  # the gradient of the actions
    ]
    n_updates = round(scale * STEPS["sac"] / 4)
    start = time.process_time()
    for _ in range(n_updates):
        for first, second in update:
            torch.mm(first, second)
    return n_updates / (time.process_time() - start)


def table(task: str, speeds: Mapping[str, Sequence[float]], theirs: str) -> str:
    """One table: the speed of each contestant, and its ratio to the peer's, medians over rounds."""
    lines = [f"| {TITLES[task]} | a CPU second | ÷ {theirs} |", "|---|---|---|"]
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, speeds[theirs], strict=True))
        lines.append(f"| {name} | {statistics.median(values):,.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="a Python in which sbx and rejax can be imported")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the work of every contestant")
    parser.add_argument("--backend", help="env.backend of CartPole in the PPO task")
    parser.add_argument("--out", type=Path, help="file to write the tables to, beside standard output")
    arguments = parser.parse_args()
    out = None if arguments.out is None else arguments.out.absolute()
    parts = []
    with cpu_time_in_another_folder():
        for task in arguments.tasks:
            others = [f"env.backend={arguments.backend}"] if task == "ppo" and arguments.backend else []
            contestants: dict[str, Contestant] = {
                PEERS[task][0]: peer(task, arguments.peer_python),
                "bbrl_exp": this_project(task, False, others),
                "**bbrl_exp, compile=true**": this_project(task, True, others),
            }
            if task == "sac":
                contestants["only the matrix products of its updates, by torch"] = products_of_sac
            speeds = speeds_of(task, contestants, arguments.rounds, arguments.scale)
            parts.append(table(task, speeds, PEERS[task][0]))
    text = "\n\n".join(parts) + "\n"
    print(text)
    if out is not None:
        backend = f" --backend {arguments.backend}" if arguments.backend else ""
        options = f"--rounds {arguments.rounds} --scale {arguments.scale:g}{backend}"
        command = f"OMP_NUM_THREADS=1 python benchmarks/compiled.py --peer-python … {options}"
        out.write_text(f"Medians over rounds of `{command}`:\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
