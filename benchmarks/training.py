"""How fast learners train on the ordinary path: this project, stable-baselines3 and a hand-written loop, one thread.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--rounds 5] [--tasks ppo dqn sac] [--scale 1] [--out <file>]

Plain gymnasium environments, no compilation, the whole loop: acting, storing and learning, evaluation left out. Equal
work: the same numbers of environments, steps, epochs, minibatches and updates, and the same networks. Every contestant
starts afresh in every round, all of them in turn, and the tables show medians over the rounds, of speeds and of the
ratios within a round; what a contestant does once, at its start, is not counted. This project runs as from the command
line, without tracking and with the default tracking. Seconds are CPU seconds of the process, so that what else runs on
the machine disturbs less. Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
from rounds import Contestant, cpu_time_in_another_folder, speeds_of
from training_single_file_ppo import SingleFilePpo

import bbrl_exp

PPO_STEPS = 30 * 1024
DQN_STEPS = 6000
SAC_STEPS = 640


def single_file_ppo(seed: int, scale: float) -> float:
    model = SingleFilePpo(seed)
    model.iterate()
    n = max(1, round(scale * PPO_STEPS / 1024))
    start = time.perf_counter()
    for _ in range(n):
        model.iterate()
    return n * 1024 / (time.perf_counter() - start)


def stable_baselines3(
    algorithm: str, env_id: str, n_steps: int, n_warm_up: int, settings: Mapping[str, Any]
) -> Contestant:
    def contestant(seed: int, scale: float) -> float:
        import stable_baselines3 as sb3
        from stable_baselines3.common.vec_env import DummyVecEnv

        env = DummyVecEnv([lambda: gymnasium.make(env_id)] * 8)
        model = getattr(sb3, algorithm)("MlpPolicy", env, seed=seed, device="cpu", **settings)
        model.learn(n_warm_up)
        before = model.num_timesteps
        start = time.perf_counter()
        model.learn(round(scale * n_steps), reset_num_timesteps=False)
        return float((model.num_timesteps - before) / (time.perf_counter() - start))

    return contestant


def this_project(tracking: str, n_steps: int, overrides: Sequence[str]) -> Contestant:
    def contestant(seed: int, scale: float) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            result = bbrl_exp.run(
                [
                    *overrides,
                    "batch_size=8",
                    f"seed={seed}",
                    f"tracking={tracking}",
                    f"total_steps={round(scale * n_steps)}",
                    "eval.every=0",
                    "eval.final_episodes=0",
                ]
            )
        assert result.summary.steps_per_second is not None
        return result.summary.steps_per_second

    return contestant


def both_trackings(n_steps: int, overrides: Sequence[str]) -> dict[str, Contestant]:
    return {
        "**bbrl_exp**": this_project("none", n_steps, overrides),
        "**bbrl_exp**, default tracking": this_project("default", n_steps, overrides),
    }


PPO_OVERRIDES = (
    "agent=ppo",
    "env=cartpole",
    "agent.steps_per_chunk=128",
    "agent.learner.n_epochs=4",
    "agent.learner.n_minibatches=4",
    "agent.learner.learning_rate=2.5e-4",
    "agent.learner.anneal_learning_rate=false",
    "agent.learner.entropy_weight=0.01",
)
DQN_OVERRIDES = (
    "agent=dqn",
    "env=cartpole",
    "agent.steps_per_chunk=1",
    "agent.members.policy.hidden_sizes=[64,64]",
    "agent.members.policy.layer_norm=false",
    "agent.learner.double=false",
    "agent.learner.n_steps=1",
    "agent.learner.anneal_learning_rate=false",
    "agent.learner.learning_rate=1e-3",
    "agent.learner.replay_capacity=100000",
    "agent.learner.learning_starts=8",
    "agent.learner.batch_size=64",
    "agent.learner.updates_per_step=1",
    "agent.learner.target_period=500",
    "agent.learner.target_rate=null",
)
SAC_OVERRIDES = (
    "agent=sac",
    "env=pendulum",
    "agent.steps_per_chunk=1",
    "agent.learner.policy_learning_rate=1e-3",
    "agent.learner.critic_learning_rate=1e-3",
    "agent.learner.temperature_learning_rate=1e-3",
    "agent.learner.replay_capacity=100000",
    "agent.learner.learning_starts=8",
    "agent.learner.batch_size=256",
    "agent.learner.updates_per_step=1",
)

_NETWORK_64 = {"policy_kwargs": {"net_arch": [64, 64]}}
TASKS: Mapping[str, tuple[str, Mapping[str, Contestant]]] = {
    "ppo": (
        "PPO, CartPole-v1, 8 × 128, 4 epochs × 4 minibatches, 64-64 tanh: environment steps/s",
        {
            "stable-baselines3": stable_baselines3(
                "PPO",
                "CartPole-v1",
                PPO_STEPS,
                1024,
                {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 2.5e-4, "ent_coef": 0.01},
            ),
            "hand-written, SyncVectorEnv": single_file_ppo,
            **both_trackings(
                PPO_STEPS,
                PPO_OVERRIDES,
            ),
        },
    ),
    "dqn": (
        "DQN, CartPole-v1, 8 environments, one update of 64 samples an environment step, 64-64: updates/s",
        {
            "stable-baselines3": stable_baselines3(
                "DQN",
                "CartPole-v1",
                DQN_STEPS,
                256,
                {
                    "learning_rate": 1e-3,
                    "buffer_size": 100_000,
                    "learning_starts": 128,
                    "batch_size": 64,
                    "train_freq": 1,
                    "gradient_steps": 8,
                    "target_update_interval": 500,
                    **_NETWORK_64,
                },
            ),
            **both_trackings(
                DQN_STEPS,
                DQN_OVERRIDES,
            ),
        },
    ),
    "sac": (
        "SAC, Pendulum-v1, 8 environments, one update of 256 samples an environment step, 256-256: updates/s",
        {
            "stable-baselines3": stable_baselines3(
                "SAC",
                "Pendulum-v1",
                SAC_STEPS,
                320,
                {
                    "learning_rate": 1e-3,
                    "buffer_size": 100_000,
                    "learning_starts": 256,
                    "batch_size": 256,
                    "train_freq": 1,
                    "gradient_steps": 8,
                },
            ),
            **both_trackings(
                SAC_STEPS,
                SAC_OVERRIDES,
            ),
        },
    ),
}


def measure(tasks: Sequence[str], rounds: int, scale: float) -> dict[tuple[str, str], list[float]]:
    """The speed of each (task, contestant) in each round."""
    speeds: dict[tuple[str, str], list[float]] = {}
    for task in tasks:
        found = speeds_of(task, TASKS[task][1], rounds, scale)
        speeds |= {(task, name): values for name, values in found.items()}
    return speeds


def tables(tasks: Sequence[str], speeds: Mapping[tuple[str, str], Sequence[float]]) -> str:
    """A table a task: speed of each contestant, and this project's speed as a multiple of it (medians over rounds)."""
    parts = []
    for task in tasks:
        title, contestants = TASKS[task]
        ours = [name for name in contestants if name.startswith("**")]
        header = [title, "a CPU second", *(f"{name} ÷" for name in ours)]
        lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
        for name in contestants:
            theirs = speeds[task, name]
            ratios = [
                statistics.median(a / b for a, b in zip(speeds[task, mine], theirs, strict=True)) for mine in ours
            ]
            cells = [name, f"{statistics.median(theirs):,.0f}", *(f"{ratio:.2f}×" for ratio in ratios)]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the work of every contestant")
    parser.add_argument("--out", type=Path, help="file to write the tables to, beside standard output")
    arguments = parser.parse_args()
    out = None if arguments.out is None else arguments.out.absolute()
    with cpu_time_in_another_folder():
        speeds = measure(arguments.tasks, arguments.rounds, arguments.scale)
    text = tables(arguments.tasks, speeds)
    print(text)
    if out is not None:
        options = f"--rounds {arguments.rounds} --scale {arguments.scale:g}"
        command = f"OMP_NUM_THREADS=1 python benchmarks/training.py {options}"
        out.write_text(f"Medians over rounds of `{command}`:\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
