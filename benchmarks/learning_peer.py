"""The peer on the tuned pairs: stable-baselines3 and sb3-contrib with the zoo's settings, evaluated as this project is.

    OMP_NUM_THREADS=1 python benchmarks/learning_peer.py [pair …] [--seeds 0 1 2] [--again]

A run that has a record is not repeated. Twenty evaluations of ten episodes along training, and a final one of twenty
episodes of the last policy, deterministic, from the starts that this project's evaluations begin with. Statistics of
normalised observations belong to the policy. Needs the extra ``bench``; Box2D for lunar_lander, MuJoCo for half_cheetah
and hopper.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from learning_peer_settings import PEER_RUNS, PeerRun
from learning_records import (
    EVALUATION_EPISODES,
    EVALUATION_SEED,
    EVALUATIONS,
    FINAL_EPISODES,
    Record,
    append_record,
    cpu_seconds_of,
    env_of,
    read_records,
)

from bbrl_exp.envs.wrappers import MaskObservation
from bbrl_exp.seeding import EpisodeSeeds

IMPLEMENTATION = "stable-baselines3"
ENV_IDS = {
    "cartpole": "CartPole-v1",
    "masked_cartpole": "CartPole-v1",
    "t_maze": "bbrl_exp/TMaze-v0",
    "repeat_first_easy": "popgym-RepeatFirstEasy-v0",
    "acrobot": "Acrobot-v1",
    "pendulum": "Pendulum-v1",
    "mountain_car": "MountainCar-v0",
    "mountain_car_continuous": "MountainCarContinuous-v0",
    "lunar_lander": "LunarLander-v3",
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
}


def make_env(name: str) -> gymnasium.Env[Any, Any]:
    import bbrl_exp.envs.make  # noqa: F401 (registers the T-maze)

    if ENV_IDS[name].startswith("popgym"):
        import popgym  # noqa: F401 (registers its environments)
    env = gymnasium.make(ENV_IDS[name])
    return MaskObservation(env, hidden=[1, 3]) if name == "masked_cartpole" else env


class Evaluation:
    """One episode of each of a batch of environments, from the same starts every time.

    Args:
        env_name: a name of ``ENV_IDS``.
        role: the role of the episode seeds.
        episodes: how many environments.
    """

    def __init__(self, env_name: str, role: str, episodes: int) -> None:
        self._envs = [make_env(env_name) for _ in range(episodes)]
        self._seeds = [EpisodeSeeds(EVALUATION_SEED, role, i)(0) for i in range(episodes)]

    def returns(self, model: Any) -> list[float]:
        """The return of each episode."""
        normalizer = model.get_vec_normalize_env()
        observations = np.stack([env.reset(seed=seed)[0] for env, seed in zip(self._envs, self._seeds, strict=True)])
        totals, is_over = np.zeros(len(self._envs)), np.zeros(len(self._envs), np.bool_)
        state, is_start = None, np.ones(len(self._envs), np.bool_)
        while not is_over.all():
            shown = observations if normalizer is None else normalizer.normalize_obs(observations)
            actions, state = model.predict(shown, state, is_start, deterministic=True)
            is_start[:] = False
            for i in np.flatnonzero(~is_over):
                observations[i], reward, terminated, truncated, _ = self._envs[i].step(actions[i])
                totals[i] += float(reward)
                is_over[i] = terminated or truncated
        return totals.tolist()


def make_model(run: PeerRun, env_name: str, seed: int) -> Any:
    import sb3_contrib
    import stable_baselines3
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env: Any = DummyVecEnv([lambda: make_env(env_name)] * run.n_envs)
    if run.is_normalized:
        is_vector = isinstance(env.observation_space, gymnasium.spaces.Box)
        env = VecNormalize(env, norm_obs=is_vector, gamma=run.settings["gamma"])
    settings = dict(run.settings)
    if run.noise_std is not None:
        size = env.action_space.shape[0]
        settings["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, run.noise_std))
    algorithm = getattr(stable_baselines3, run.algorithm, None) or getattr(sb3_contrib, run.algorithm)
    return algorithm(run.policy, env, seed=seed, device="cpu", **settings)


def learn(pair: str, seed: int, cpu_seconds: float = math.inf) -> dict[str, Any]:
    """Trains, at most so many CPU seconds, and evaluates; the fields of a record that the run itself knows."""
    from stable_baselines3.common.callbacks import BaseCallback

    run, env_name = PEER_RUNS[pair], env_of(pair)
    model = make_model(run, env_name, seed)
    every = run.env_steps // EVALUATIONS
    curve: list[tuple[int, float]] = []

    class Curve(BaseCallback):
        """Evaluates after the update that follows each multiple of ``every`` environment steps."""

        def __init__(self) -> None:
            super().__init__()
            self.evaluation = Evaluation(env_name, "eval", EVALUATION_EPISODES)

        def _on_step(self) -> bool:
            return time.process_time() < cpu_seconds

        def _on_rollout_start(self) -> None:
            if self.num_timesteps // every > (curve[-1][0] if curve else 0) // every:
                curve.append((self.num_timesteps, float(np.mean(self.evaluation.returns(self.model)))))

        def _on_training_end(self) -> None:
            self._on_rollout_start()

    model.learn(run.env_steps, callback=Curve())
    is_stopped = model.num_timesteps < run.env_steps
    return {
        "note": f"stopped after {cpu_seconds / 60:g} CPU minutes" if is_stopped else "",
        "env_steps": model.num_timesteps,
        "curve": curve,
        "final_returns": Evaluation(env_name, "final_eval", FINAL_EPISODES).returns(model),
    }


def measure(pair: str, seed: int, cpu_seconds: float = math.inf, is_detached: bool = False) -> Record:
    """The record of one run, made in its own process, at most so many CPU seconds; Ctrl-C may not reach it."""
    import stable_baselines3

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, __file__, pair, "--seeds", str(seed), "--child", str(folder / "result.json")]
        command += ["--cpu-seconds", str(cpu_seconds)]
        taken = cpu_seconds_of(command, folder, folder / "log", is_detached=is_detached)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return Record(pair, IMPLEMENTATION, stable_baselines3.__version__, seed, cpu_seconds=round(taken, 1), **result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", metavar="pair", help=f"of: {', '.join(PEER_RUNS)} (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="repeat runs that have a record")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cpu-seconds", type=float, default=math.inf, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.pairs) - set(PEER_RUNS))
    if unknown:
        parser.error(f"unknown pair {', '.join(unknown)}; known: {', '.join(PEER_RUNS)}")
    if arguments.child is not None:
        torch.set_num_threads(1)
        result = learn(arguments.pairs[0], arguments.seeds[0], arguments.cpu_seconds)
        arguments.child.write_text(json.dumps(result), encoding="utf-8")
        return
    for pair in arguments.pairs or PEER_RUNS:
        for seed in arguments.seeds:
            if (pair, IMPLEMENTATION, seed) in read_records() and not arguments.again:
                continue
            try:
                record = measure(pair, seed)
            except RuntimeError as error:
                print(f"{pair} seed {seed}: {error}", flush=True)
                continue
            append_record(record)
            print(
                f"{pair} seed {seed}: final {record.final:.1f}, curve {record.curve_mean:.1f}, "
                f"{record.cpu_seconds:.0f} CPU s",
                flush=True,
            )


if __name__ == "__main__":
    main()
