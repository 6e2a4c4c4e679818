"""How fast environments and a policy interact, everything kept as ``[T, B, …]``: this project against its peers.

    OMP_NUM_THREADS=1 python benchmarks/interaction_loop.py [--rounds 5] [--seconds 0.4] [--out <file>]

CartPole-v1, one thread, no tracking; a random policy, and an untrained categorical policy 4-64-64-2 with tanh. Every
contestant runs in this one process, all of them in turn in every round, and the table shows medians over the rounds.
Each delivers observations, actions, rewards and ends of its last chunk, checked against CartPole's equations.

Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
import timeit
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from cartpole_equations import Recording, check_recording
from torch import nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.runs.policy import load_policy
from bbrl_exp.runs.run import run
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

BATCH_SIZES = (1, 8, 64, 512)
POLICIES = ("random", "mlp")
STEPS_PER_CHUNK = 128

Rollout = Callable[[int], Recording]


@dataclass(frozen=True)
class Contestant:
    """A way to collect chunks of ``STEPS_PER_CHUNK`` time steps.

    Attributes:
        name: what the table calls it.
        kind: ``scalar`` (B gymnasium environments one after the other) or ``vectorized`` (CartPole's own vector code).
        prepare: from a policy and a batch size to what runs a number of chunks and returns the last one.
    """

    name: str
    kind: str
    prepare: Callable[[str, int], Rollout]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))


def bbrl_exp(stepping: str) -> Callable[[str, int], Rollout]:
    def prepare(policy: str, batch_size: int) -> Rollout:
        env = AutoResetGymAgent("CartPole-v1", batch_size, stepping=stepping)
        actor: Agent = RandomAgent(env.env_spec) if policy == "random" else StochasticPolicy(env.env_spec)
        graph, workspace = TemporalAgent(Agents(env, actor)), Workspace()

        @torch.no_grad()
        def rollout(n_chunks: int) -> Recording:
            total_steps = n_chunks * STEPS_PER_CHUNK * batch_size
            for _ in collect(
                graph, workspace, total_steps=total_steps, batch_size=batch_size, steps_per_chunk=STEPS_PER_CHUNK
            ):
                obs, reward, terminated, truncated, action = workspace[
                    "env/env_obs", "env/reward", "env/terminated", "env/truncated", "action"
                ]
            return Recording(*(x.numpy().copy() for x in (obs, action, reward, terminated, truncated)))

        return rollout

    return prepare


def bbrl(policy: str, batch_size: int) -> Rollout:
    from bbrl.agents import Agent as BbrlAgent
    from bbrl.agents import Agents as BbrlAgents
    from bbrl.agents import TemporalAgent as BbrlTemporalAgent
    from bbrl.agents.gymnasium import ParallelGymAgent, make_env
    from bbrl.workspace import Workspace as BbrlWorkspace

    class Random(BbrlAgent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("action", t), torch.randint(0, 2, (batch_size,)))

    class Stochastic(BbrlAgent):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, t: int, **kwargs: Any) -> None:
            logits = self.network(self.get(("env/env_obs", t)))
            self.set(("action", t), torch.distributions.Categorical(logits=logits).sample())

    env = ParallelGymAgent(lambda: make_env("CartPole-v1", autoreset=True), batch_size, seed=1)
    graph = BbrlTemporalAgent(BbrlAgents(env, Random() if policy == "random" else Stochastic()))

    def rollout(n_chunks: int) -> Recording:
        with torch.no_grad():
            for index in range(n_chunks):
                if index == 0:
                    workspace = BbrlWorkspace()
                    graph(workspace, t=0, n_steps=STEPS_PER_CHUNK + 1)
                else:
                    workspace.zero_grad()
                    workspace.copy_n_last_steps(1)
                    graph(workspace, t=1, n_steps=STEPS_PER_CHUNK)
                names = ["env/env_obs", "action", "env/reward", "env/terminated", "env/truncated"]
                recording = [workspace[name] for name in names]
        return Recording(*(x.numpy() for x in recording))

    return rollout


def stable_baselines3(policy: str, batch_size: int) -> Rollout:
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * batch_size)
    actor = ActorCriticPolicy(env.observation_space, env.action_space, lambda _: 0.0)
    generator = np.random.default_rng(0)
    state = {"obs": env.reset()}

    def rollout(n_chunks: int) -> Recording:
        obs = state["obs"]
        for _ in range(n_chunks):
            recording = empty_recording(batch_size, STEPS_PER_CHUNK, with_final=True)
            for t in range(STEPS_PER_CHUNK):
                if policy == "random":
                    action = generator.integers(0, 2, batch_size)
                else:
                    action, _ = actor.predict(obs, deterministic=False)
                recording.obs[t], recording.action[t] = obs, action
                obs, recording.reward[t], done, infos = env.step(action)
                for i in np.flatnonzero(done):
                    recording.truncated[t, i] = infos[i]["TimeLimit.truncated"]
                    recording.terminated[t, i] = not infos[i]["TimeLimit.truncated"]
                    recording.final[t, i] = infos[i]["terminal_observation"]
        state["obs"] = obs
        return recording

    return rollout


def hand_written(
    make: Callable[[int], gymnasium.vector.VectorEnv], *, same_variables: bool = False
) -> Callable[[str, int], Rollout]:
    def prepare(policy: str, batch_size: int) -> Rollout:
        env, actor, generator = make(batch_size), network(), np.random.default_rng(0)
        first, _ = env.reset(seed=0)
        nothing = np.zeros(batch_size, np.bool_)
        rows = [(first, np.zeros(batch_size), nothing, nothing)]
        # What this project also records; done in the row before, which says where an episode begins.
        timestep, cumulated, was_done = np.full(batch_size, -1), np.zeros(batch_size), np.ones(batch_size, np.bool_)

        @torch.no_grad()
        def rollout(n_chunks: int) -> Recording:
            obs, reward, terminated, truncated = rows.pop()
            for _ in range(n_chunks):
                recording = empty_recording(batch_size, STEPS_PER_CHUNK + 1, with_final=False)
                shape = (STEPS_PER_CHUNK + 1, batch_size)
                if same_variables:
                    done, initial_state = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
                    timesteps, returns = np.empty(shape, np.int64), np.empty(shape, np.float32)
                for t in range(STEPS_PER_CHUNK + 1):
                    if policy == "random":
                        action = generator.integers(0, 2, batch_size)
                    else:
                        logits = actor(torch.from_numpy(obs))
                        action = torch.distributions.Categorical(logits=logits).sample().numpy()
                    recording.obs[t], recording.reward[t], recording.action[t] = obs, reward, action
                    recording.terminated[t], recording.truncated[t] = terminated, truncated
                    if same_variables:
                        np.logical_or(terminated, truncated, out=done[t])
                        if t > 0 or timestep[0] < 0:
                            np.add(timestep, 1, out=timestep)
                            np.add(cumulated, reward, out=cumulated)
                            timestep[was_done] = 0
                            cumulated[was_done] = 0.0
                        initial_state[t], timesteps[t], returns[t] = was_done, timestep, cumulated
                    if t < STEPS_PER_CHUNK:
                        if same_variables:
                            was_done[...] = done[t]
                        obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((obs, reward, terminated, truncated))
            return recording

        return rollout

    return prepare


def sync(batch_size: int) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec("CartPole-v1", batch_size, vectorization_mode="sync")


def own_vector_code(batch_size: int) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec("CartPole-v1", batch_size, vectorization_mode="vector_entry_point")


def empty_recording(batch_size: int, n_rows: int, *, with_final: bool) -> Recording:
    shape = (n_rows, batch_size)
    return Recording(
        obs=np.empty((*shape, 4), np.float32),
        action=np.empty(shape, np.int64),
        reward=np.empty(shape, np.float32),
        terminated=np.zeros(shape, np.bool_),
        truncated=np.zeros(shape, np.bool_),
        final=np.empty((*shape, 4), np.float32) if with_final else None,
    )


CONTESTANTS = (
    Contestant("bbrl 1.0.1", "scalar", bbrl),
    Contestant("stable-baselines3", "scalar", stable_baselines3),
    Contestant("hand-written, SyncVectorEnv", "scalar", hand_written(sync)),
    Contestant("hand-written, SyncVectorEnv, all variables", "scalar", hand_written(sync, same_variables=True)),
    Contestant("**bbrl_exp, scalar**", "scalar", bbrl_exp("scalar")),
    Contestant("hand-written, CartPoleVectorEnv", "vectorized", hand_written(own_vector_code)),
    Contestant(
        "hand-written, CartPoleVectorEnv, all variables",
        "vectorized",
        hand_written(own_vector_code, same_variables=True),
    ),
    Contestant("**bbrl_exp, vectorized**", "vectorized", bbrl_exp("vectorized")),
)


def measure(rounds: int, seconds: float, batch_sizes: Sequence[int]) -> dict[tuple[str, str, int], float]:
    """Median environment steps per second of each (contestant, policy, batch size)."""
    speeds: dict[tuple[str, str, int], float] = {}
    for policy in POLICIES:
        for batch_size in batch_sizes:
            env_steps = STEPS_PER_CHUNK * batch_size
            rollouts = {contestant: contestant.prepare(policy, batch_size) for contestant in CONTESTANTS}
            n_chunks = {}
            for contestant, rollout in rollouts.items():
                rollout(1)
                start = time.perf_counter()
                rollout(1)
                n_chunks[contestant] = max(1, round(seconds / (time.perf_counter() - start)))
            samples: dict[Contestant, list[float]] = {contestant: [] for contestant in CONTESTANTS}
            for _ in range(rounds):
                for contestant, rollout in rollouts.items():
                    start = time.perf_counter()
                    recording = rollout(n_chunks[contestant])
                    elapsed = time.perf_counter() - start
                    samples[contestant].append(n_chunks[contestant] * env_steps / elapsed)
                    check_recording(recording, contestant.name)
            for contestant, values in samples.items():
                speeds[contestant.name, policy, batch_size] = statistics.median(values)
            sys.stderr.write(f"{policy}, B = {batch_size}: done\n")
    return speeds


def speed_table(speeds: dict[tuple[str, str, int], float], batch_sizes: Sequence[int]) -> str:
    """The speeds, then the ratios of this project to each peer on the same kind of environment, and to bbrl."""

    def row(title: str, cell: Callable[[str, int], str]) -> str:
        cells = [" / ".join(cell(policy, batch_size) for policy in POLICIES) for batch_size in batch_sizes]
        return f"| {title} | {' | '.join(cells)} |"

    lines = [
        f"| thousands of environment steps per second, random / mlp | {' | '.join(f'B = {b}' for b in batch_sizes)} |",
        "|---" * (1 + len(batch_sizes)) + "|",
        *(
            row(contestant.name, lambda policy, b, name=contestant.name: f"{speeds[name, policy, b] / 1e3:,.1f}")
            for contestant in CONTESTANTS
        ),
    ]
    for ours in CONTESTANTS:
        for peer in CONTESTANTS:
            if ours.name.startswith("**") and not peer.name.startswith("**") and peer.kind in (ours.kind, "scalar"):
                if peer.kind != ours.kind and peer is not CONTESTANTS[0]:
                    continue
                lines.append(
                    row(
                        f"{ours.name.strip('*').removeprefix('bbrl_exp, ')} ÷ {peer.name}",
                        lambda policy, b, ours=ours.name, peer=peer.name: (
                            f"{speeds[ours, policy, b] / speeds[peer, policy, b]:.1f}×"
                        ),
                    )
                )
    return "\n".join(lines)


class Timer:
    """The seconds that calls take, by what they are for.

    Attributes:
        seconds: of all calls.
        lost: what the timing of the calls itself cost whoever made them.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.lost: dict[str, float] = {}
        self._cost = 0.0
        empty, n = self.timed(lambda: None, "nothing"), 20_000
        self._cost = (min(timeit.repeat(empty, number=n, repeat=5)) - self.seconds.pop("nothing") / 5) / n

    def watch(self, owner: Any, method: str, what: str) -> None:
        """Times every call of a method of this one object from now on."""
        setattr(owner, method, self.timed(getattr(owner, method), what))

    def timed(self, call: Callable[..., Any], what: str) -> Callable[..., Any]:
        seconds, lost = self.seconds, self.lost
        seconds.setdefault(what, 0.0)
        lost.setdefault(what, 0.0)

        def timed_call(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            found = call(*arguments, **keywords)
            seconds[what] += time.perf_counter() - start
            lost[what] += self._cost
            return found

        return timed_call


def share_table(cases: Sequence[tuple[str, int]] = (("scalar", 1), ("scalar", 64), ("vectorized", 64))) -> str:
    """Where this project's time goes with a random policy: µs per time step of the whole batch, medians of 5."""
    columns: dict[str, dict[str, float]] = {}
    for stepping, batch_size in cases:
        columns[f"{stepping}, B = {batch_size}"] = medians = {}
        found = [shares(stepping, batch_size) for _ in range(5)]
        for what in found[0]:
            medians[what] = statistics.median(one[what] for one in found)
    parts = list(next(iter(columns.values())))
    lines = [
        f"| µs per time step of the batch, random policy | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for what in parts:
        lines.append(f"| {what} | {' | '.join(f'{column[what]:.1f}' for column in columns.values())} |")
    return "\n".join(lines)


def shares(stepping: str, batch_size: int) -> dict[str, float]:
    env = AutoResetGymAgent("CartPole-v1", batch_size, stepping=stepping)
    actor, timer = RandomAgent(env.env_spec), Timer()
    kernel: Any = env._kernel
    timer.watch(actor, "forward", "draw")
    timer.watch(env, "_read_actions", "read")
    timer.watch(kernel, "step", "kernel")
    timer.watch(kernel._rows, "write", "write")
    if stepping == "vectorized":
        timer.watch(kernel._vector_env, "step", "step")
        timer.watch(kernel, "reset", "reset")
    else:
        kernel._steps = [timer.timed(step, "step") for step in kernel._steps]
        for one in kernel.envs:
            timer.watch(one, "reset", "reset")
    graph, workspace, seconds, lost = TemporalAgent(Agents(env, actor)), Workspace(), timer.seconds, timer.lost
    n_chunks = max(2, 160 // batch_size)
    start = 0.0
    for chunk in collect(
        graph,
        workspace,
        total_steps=n_chunks * STEPS_PER_CHUNK * batch_size,
        batch_size=batch_size,
        steps_per_chunk=STEPS_PER_CHUNK,
    ):
        if chunk.number == 1:
            for what in seconds:
                seconds[what] = lost[what] = 0.0
            start = time.perf_counter()
    per_step = 1e6 / ((n_chunks - 1) * STEPS_PER_CHUNK)
    whole = time.perf_counter() - start - sum(lost.values())
    within = {what: seconds[what] + lost[what] for what in ("step", "reset", "write")}
    kernel_seconds = seconds["kernel"] - sum(within.values())
    outside = seconds["draw"] + seconds["read"] + seconds["kernel"] - sum(lost[what] for what in within)
    timings = {
        "gymnasium's own steps": seconds["step"],
        "beginning episodes, each from its own seed": seconds["reset"],
        "drawing actions and recording them": seconds["draw"],
        "reading actions and checking them": seconds["read"],
        "recording observations, keeping what a resumed run needs": kernel_seconds,
        "checking rewards and observations, recording the other variables": seconds["write"],
        "the loop over time": whole - outside,
        "all": whole,
    }
    return {what: value * per_step for what, value in timings.items()}


def access_table() -> str:
    """What one read or write costs, beside the bare operation on a tensor that checks nothing."""
    workspace, value = Workspace(), torch.randn(8, 4)
    for t in range(STEPS_PER_CHUNK):
        workspace.set("x", t, value)
    tensor = workspace["x"].clone()
    views = list(tensor.unbind(0))

    def fill() -> None:
        workspace.truncate(0)
        for t in range(STEPS_PER_CHUNK):
            workspace.set("x", t, value)

    def copy() -> None:
        for t in range(STEPS_PER_CHUNK):
            views[t].copy_(value)

    def assign() -> None:
        for t in range(STEPS_PER_CHUNK):
            tensor[t] = value

    rows: list[tuple[str, Callable[[], Any], int]] = [
        ("read of a step: `workspace.get(name, t)`", lambda: workspace.get("x", 5), 1),
        ("… `tensor[t]`", lambda: tensor[5], 1),
        ("write of a step: `workspace.set(name, t, value)`", fill, STEPS_PER_CHUNK),
        ("… `tensor[t] = value`", assign, STEPS_PER_CHUNK),
        ("… `view.copy_(value)`, the least that a write can cost", copy, STEPS_PER_CHUNK),
        ("read of all steps: `workspace[name]`", lambda: workspace["x"], 1),
    ]
    lines = ["| one access, `[8, 4]` float32 | µs |", "|---|---|"]
    with torch.inference_mode():
        fill()
        nothing = min(timeit.repeat(lambda: None, number=20_000, repeat=5)) / 20_000
        for name, operation, n in rows:
            number = 20_000 // n
            seconds = min(timeit.repeat(operation, number=number, repeat=9)) / number - nothing
            lines.append(f"| {name} | {seconds / n * 1e6:.2f} |")
    return "\n".join(lines)


def answer_table() -> str:
    """What one answer of a loaded policy costs: ``policy.act(observation, state)``."""
    short = ["env=cartpole", "total_steps=256", "tracking=none", "eval.every=0", "eval.final_episodes=0"]
    lines = ["| one answer, `policy.act(observation, state)` | µs |", "|---|---|"]
    folder = Path.cwd()
    for agent, network in (("ppo", "4-64-64-2, tanh"), ("recurrent_ppo", "normaliser and GRU, 64 units")):
        with tempfile.TemporaryDirectory() as outputs, contextlib.redirect_stdout(io.StringIO()):
            os.chdir(outputs)
            try:
                policy = load_policy(run([f"agent={agent}", *short]).folder)
            finally:
                os.chdir(folder)
        for shape, what in (((4,), "one observation"), ((64, 4), "64 observations")):
            observation, state = np.zeros(shape, np.float32), None

            def answer() -> None:
                nonlocal state
                _, state = policy.act(observation, state)  # noqa: B023

            seconds = min(timeit.repeat(answer, number=2000, repeat=9)) / 2000
            lines.append(f"| {network}, {what} | {seconds * 1e6:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each contestant in each round")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--out", type=Path, help="file to write the tables to, beside standard output")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    speeds = measure(arguments.rounds, arguments.seconds, arguments.batch_sizes)
    text = f"{speed_table(speeds, arguments.batch_sizes)}\n\n{share_table()}\n\n{access_table()}\n\n{answer_table()}\n"
    print(text)
    if arguments.out is not None:
        options = f"--rounds {arguments.rounds} --seconds {arguments.seconds}"
        command = f"OMP_NUM_THREADS=1 python benchmarks/interaction_loop.py {options}"
        arguments.out.write_text(f"Medians of `{command}`:\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
