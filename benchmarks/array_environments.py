"""How fast array environments are: CartPole against bbrl 1.0.1, and each environment against gymnasium's own.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/array_environments.py [--rounds 3] [--seconds 0.2] [--out <file>]

The first table is the interaction loop of ``interaction_loop.py``: a random policy, and an untrained categorical policy
4-64-64-2 with tanh; every chunk of 128 time steps is recorded, and checked against CartPole's equations. The second one
is a random policy in each environment. All contestants run in this one process, in turn in every round; the tables show
environment steps per second of CPU time, medians over the rounds. The third one is what compiling costs.

Needs the extras ``bench`` and ``array``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from cartpole_equations import Recording, check_recording
from interaction_loop import POLICIES, STEPS_PER_CHUNK, bbrl

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.envs.arrays.backends import KNOWN_IDS, ArrayBackend, TorchBackend
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

BATCH_SIZES = (1, 8, 64, 512)
PEER = "bbrl 1.0.1"
BACKENDS: Mapping[str, Callable[[str, int], EnvironmentAgent]] = {
    "gym": AutoResetGymAgent,
    "array": ArrayBackend,
    "torch": TorchBackend,
}
_FIRST_STEP = """
import sys, time
from bbrl_exp.envs.arrays.backends import ArrayBackend
from bbrl_exp.workspace import Workspace
start = time.process_time()
ArrayBackend(sys.argv[1], 1)(Workspace(), t=0)
print(time.process_time() - start)
"""

Rollout = Callable[[int], Recording]


def prepared(env: EnvironmentAgent, policy: str) -> Rollout:
    """What runs a number of chunks and gives the last one."""
    actor: Agent = RandomAgent(env.env_spec) if policy == "random" else StochasticPolicy(env.env_spec)
    graph, workspace, size = TemporalAgent(Agents(env, actor)), Workspace(), env.batch_size
    names = ["env/env_obs", "action", "env/reward", "env/terminated", "env/truncated"]

    @torch.no_grad()
    def rollout(n_chunks: int) -> Recording:
        steps = n_chunks * STEPS_PER_CHUNK * size
        for _ in collect(graph, workspace, total_steps=steps, batch_size=size, steps_per_chunk=STEPS_PER_CHUNK):
            rows = workspace[names]
        return Recording(*(row.numpy().copy() for row in rows))

    return rollout


def measured(
    rollouts: Mapping[str, Rollout], batch_size: int, rounds: int, seconds: float, is_cartpole: bool
) -> dict[str, float]:
    """Median environment steps per CPU second of each contestant."""
    n_chunks, samples = {}, {name: list[float]() for name in rollouts}
    for name, rollout in rollouts.items():
        rollout(1)
        start = time.process_time()
        rollout(1)
        n_chunks[name] = max(1, round(seconds / (time.process_time() - start)))
    for _ in range(rounds):
        for name, rollout in rollouts.items():
            start = time.process_time()
            recording = rollout(n_chunks[name])
            elapsed = time.process_time() - start
            samples[name].append(n_chunks[name] * STEPS_PER_CHUNK * batch_size / elapsed)
            if is_cartpole:
                check_recording(recording, name)
    return {name: statistics.median(values) for name, values in samples.items()}


def cartpole_table(rounds: int, seconds: float, batch_sizes: Sequence[int]) -> str:
    """CartPole by every means, and how many times the peer's speed that is."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for policy in POLICIES:
        for size in batch_sizes:
            rollouts = {
                f"env.backend={name}": prepared(make("CartPole-v1", size), policy) for name, make in BACKENDS.items()
            }
            rollouts = {PEER: bbrl(policy, size), **rollouts}
            found[policy, size] = measured(rollouts, size, rounds, seconds, is_cartpole=True)
            sys.stderr.write(f"{policy}, B = {size}: done\n")
    lines = [
        f"| thousands of steps per second, random / mlp | {' | '.join(f'B = {size}' for size in batch_sizes)} |",
        "|---" * (1 + len(batch_sizes)) + "|",
    ]
    for name in found[POLICIES[0], batch_sizes[0]]:
        cells = [" / ".join(f"{found[policy, size][name] / 1e3:,.1f}" for policy in POLICIES) for size in batch_sizes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in list(found[POLICIES[0], batch_sizes[0]])[1:]:
        cells = [
            " / ".join(f"{found[policy, size][name] / found[policy, size][PEER]:,.1f}×" for policy in POLICIES)
            for size in batch_sizes
        ]
        lines.append(f"| {name} ÷ {PEER} | {' | '.join(cells)} |")
    return "\n".join(lines)


def environments_table(rounds: int, seconds: float, size: int) -> str:
    """Each environment by every backend, with a random policy."""
    lines = [
        f"| thousands of steps per second, random policy, B = {size} | gym | array | torch | array ÷ gym |",
        "|---|---|---|---|---|",
    ]
    for env_id in KNOWN_IDS:
        rollouts = {name: prepared(make(env_id, size), "random") for name, make in BACKENDS.items()}
        found = measured(rollouts, size, rounds, seconds, is_cartpole=env_id == "CartPole-v1")
        cells = [f"{found[name] / 1e3:,.1f}" for name in BACKENDS]
        lines.append(f"| {env_id} | {' | '.join(cells)} | {found['array'] / found['gym']:,.0f}× |")
        sys.stderr.write(f"{env_id}: done\n")
    return "\n".join(lines)


def compile_table(rounds: int) -> str:
    """CPU seconds until the first row: where nothing has been compiled yet, and from the cache."""
    lines = ["| CPU seconds to the first row | first run | later runs |", "|---|---|---|"]
    for env_id in KNOWN_IDS:
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, "-c", _FIRST_STEP, env_id]
            environment = {**os.environ, "XDG_CACHE_HOME": cache}
            first, *later = (
                float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
                for _ in range(1 + rounds)
            )
        lines.append(f"| {env_id} | {first:.1f} | {statistics.median(later):.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each contestant in each round")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--out", type=Path, help="file to write the tables to, beside standard output")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tables = [
        cartpole_table(arguments.rounds, arguments.seconds, arguments.batch_sizes),
        environments_table(arguments.rounds, arguments.seconds, 512),
        compile_table(min(arguments.rounds, 3)),
    ]
    text = "\n\n".join(tables) + "\n"
    print(text)
    if arguments.out is not None:
        options = f"--rounds {arguments.rounds} --seconds {arguments.seconds}"
        command = f"OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/array_environments.py {options}"
        arguments.out.write_text(f"Medians of `{command}`, CPU time of one core:\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
