"""``show-memory``: the states of an episode, how long inputs matter, and what is printed and drawn of it."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bbrl_exp.commands.show_memory import main
from bbrl_exp.records.metrics import read_points
from bbrl_exp.runs.policy import evaluate, load_policy
from bbrl_exp.runs.run import run
from bbrl_exp.runs.seen_memory import see_memory

SHORT = ["total_steps=64", "batch_size=2", "agent.steps_per_chunk=16", "eval.every=0", "eval.final_episodes=0"]
QUIET = [*SHORT, "tracking=none"]
RATE = 0.5
OWN = f"""
import torch
from bbrl_exp.agents.agent import Agent
from bbrl_exp.nn.cell import Cell


class Decaying(Cell):
    # The state decays by a rate and takes the input up: the derivative of y(t) by x(t - lag) is rate ** lag.

    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs, n_inputs, n_inputs)

    def step(self, x, state):
        following = {RATE} * state + x
        return following, following


class Counts(Agent):
    # An agent with a memory of its own: how many steps the episode has.

    def forward(self, t: int, **kwargs) -> None:
        before = self.get(("counts/next_state", t - 1)) if t > 0 else torch.zeros(len(self.get(("env/reward", t))), 1)
        state = before.masked_fill(self.get(("env/initial_state", t)).unsqueeze(1), 0.0)
        self.set(("counts/state", t), state)
        self.set(("counts/next_state", t), state + 1)
"""


@pytest.fixture(autouse=True)
def _own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with a package of a user's own."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "owns_memories.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.setenv("BBRL_EXP_ALLOW", "owns_memories")
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()


def test_the_states_are_those_of_the_workspace_in_the_episode_that_evaluate_plays_first() -> None:
    folder = run(["agent=recurrent_dqn", "env=masked_cartpole", "memory=lstm", "name=run", *QUIET]).folder
    seen = see_memory(folder)
    evaluation = evaluate(folder, episodes=1)
    assert (seen.total_reward, seen.length, seen.acting) == (evaluation.returns[0], evaluation.lengths[0], "mode")
    policy = load_policy(folder)
    state, states = None, []
    for observation in seen.observations["env/env_obs"]:
        _, state = policy.act(observation, state)
        states.append(state["policy/state"])
    (memory,) = seen.memories
    assert (memory.name, memory.cell) == ("policy", "LSTM, state of 128 numbers")
    np.testing.assert_allclose(memory.states, torch.cat(states).numpy(), rtol=1e-5, atol=1e-6)
    units = np.tanh(memory.states[1:, 64:])
    assert memory.saturation == pytest.approx(float((np.abs(units) >= 0.99).mean()))
    assert memory.influence is not None
    assert memory.influence.norms.shape == (seen.length, seen.length)
    other = see_memory(folder, seed=5)
    assert other.total_reward == evaluate(folder, episodes=1, seed=5).returns[0]
    assert not np.array_equal(other.observations["env/env_obs"][0], seen.observations["env/env_obs"][0])


def test_the_command_prints_what_a_memory_with_a_known_decay_keeps_and_draws_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    decaying = ["memory.cell={_target_: owns_memories.Decaying}", "agent.members.observations=null"]
    decaying += ["agent.members.policy.observation_prefix="]
    run(
        [
            "agent=recurrent_ppo",
            "env=masked_pendulum",
            "+env.kwargs.max_episode_steps=40",
            "name=run",
            *decaying,
            *QUIET,
        ]
    )
    capsys.readouterr()
    assert main(["outputs/run"]) == 0
    seen = see_memory("outputs/run")
    (memory,) = seen.memories
    assert memory.influence is not None
    # Averages over outputs of the same weights: the norm of lag 0 is the norm of the weights of the head.
    expected = RATE ** np.arange(20.0)
    np.testing.assert_allclose(memory.influence.by_lag[:20] / memory.influence.by_lag[0], expected, rtol=1e-4)
    x = seen.observations["env/env_obs"]
    states = [np.zeros_like(x[0])]
    for row in x[:-1]:
        states.append(RATE * states[-1] + row)
    norm = np.linalg.norm(states[1:], axis=1).mean()
    assert capsys.readouterr().out.splitlines() == [
        f"return {evaluate('outputs/run', episodes=1).returns[0]:.6g} in 40 steps, most likely actions",
        f"policy: Decaying, state of 2 numbers, mean norm of the state {norm:.4g}",
        # 1 − 0.5^(lag + 1) is 0.875 at lag 2, 0.94 at lag 3
        "policy: memory length 3 steps (mean over outputs), 3 (last output)",
        "picture outputs/run/memory.png",
    ]
    with Image.open("outputs/run/memory.png") as picture:
        picture.load()
        assert (picture.format, picture.width) == ("PNG", 1680)
    assert main(["outputs/run", "--to", "other.png", "--policy", "sample", "--seed", "3"]) == 0
    assert "40 steps, sampled actions\n" in capsys.readouterr().out
    assert Path("other.png").exists()


def test_every_memory_is_seen_and_recorded_while_training(capsys: pytest.CaptureFixture[str]) -> None:
    members = [
        "+agent.members.critic={_target_: bbrl_exp.policies.recurrent.MemoryCritic, observation_prefix: normalized/}",
        "+agent.members.own={_target_: owns_memories.Counts}",
    ]
    run(["agent=recurrent_a2c", "env=probe_memory", "name=run", "~agent.learner.critic", *members, *SHORT])
    capsys.readouterr()
    assert main(["outputs/run"]) == 0
    printed = [line.partition(", mean")[0] for line in capsys.readouterr().out.splitlines()]
    assert printed[1::2][:2] == ["policy: GRU, state of 64 numbers", "critic: GRU, state of 64 numbers"]
    assert printed[-3:-1] == [
        "counts: mean norm of the state 2",
        "counts: no gradients, the agent has no bbrl_exp.policies.memory.Memory",
    ]
    names = {point.name for point in read_points(Path("outputs/run")) if point.name.startswith("memory/")}
    assert names == {
        "memory/policy/state_norm",
        "memory/policy/saturation",
        "memory/critic/state_norm",
        "memory/critic/saturation",
        "memory/counts/state_norm",
    }


def test_what_cannot_be_shown_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(["agent=random", "env=cartpole", "name=random", *QUIET])
    Path("exists.png").touch()
    Path("policy.safetensors").touch()
    capsys.readouterr()
    known = "docs/partial_observability.md names the agents that have one"
    for arguments, message in (
        (["outputs/random"], f"outputs/random: no agent of this run has a memory; {known}"),
        (["outputs/rando"], "outputs/rando is not a run folder (no summary.json); did you mean 'random'?"),
        (["outputs/random", "--which", "best"], "run outputs/random, completed, has kept no best policy"),
        (["outputs/random", "--to", "film.gif"], "to='film.gif': only .png is supported, and the folder must exist"),
        (["outputs/random", "--to", "no/it.png"], "to='no/it.png': only .png is supported, and the folder must exist"),
        (["outputs/random", "--to", "exists.png"], "to='exists.png': exists already; name another file or remove it"),
        (["policy.safetensors"], "policy.safetensors is not a folder: name the picture, such as --to memory.png"),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err == f"error: {message}\n"
    assert not list(Path().rglob("memory.png"))
