"""What an environment agent must show: those of gymnasium and a simulator in torch do, and what breaks it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensor_environments
import torch
from tensor_environments import LIMIT, Walk

from bbrl_exp import AutoResetGymAgent, EnvironmentAgent, NoAutoResetGymAgent, Workspace, run
from bbrl_exp.envs.checks import played, random_actions
from bbrl_exp.envs.contract import check_environment_agent
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError, NonFiniteError


def gym(env: str, **options: Any) -> Callable[[int, int], EnvironmentAgent]:
    return lambda batch_size, seed: AutoResetGymAgent(env, batch_size, seed, **options)


@pytest.mark.parametrize(
    ("make", "n_steps"),
    [
        (gym("CartPole-v1"), 200),
        (gym("CartPole-v1", workers=2), 200),
        (gym("CartPole-v1", stepping="vectorized"), 200),
        (gym("Pendulum-v1"), 250),
        (gym("FrozenLake-v1", info_keys=["prob"]), 200),
        (gym("bbrl_exp/ProbeMemory-v0"), 20),
        (Walk, 40),
    ],
    ids=["scalar", "workers", "vectorised", "box", "info", "probe", "torch"],
)
def test_environment_agents_keep_the_contract(make: Callable[[int, int], EnvironmentAgent], n_steps: int) -> None:
    check_environment_agent(make, n_steps)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("Forgetful", "it can be resumed: Walk is not deterministic, or its run_state leaves something out: taken up"),
        ("Unseeded", "after seed(7) the same actions lead to the same rows: 'env/env_obs/place' differs"),
        ("OneStream", "training and evaluation share no stream of random numbers: rows 0 are equal"),
        ("NeverFrozen", "for_evaluation gives environments without automatic reset"),
        ("Thaws", "a finished environment repeats 'env/env_obs/way'"),
        ("KeepsRows", "t=0 starts a new recording: rows beyond 0 are left of {"),
        ("CountsWrong", "'env/timestep' counts the steps of an episode"),
        ("RewardsResets", "at t=0 'env/reward' is 0"),
        ("OneMore", "dry_copy writes the variables of the agent: expected {"),
        ("ShowsNoPicture", "frame gives a picture, uint8 [H, W, 3]"),
    ],
)
def test_a_rule_that_is_broken_is_named(kind: str, rule: str) -> None:
    with pytest.raises(AssertionError) as raised:
        check_environment_agent(getattr(tensor_environments, kind), 40)
    assert str(raised.value).startswith(rule)


def rows(agent: EnvironmentAgent, actions: list[list[int]]) -> Workspace:
    return played(agent, Workspace(), [[torch.tensor(row)] for row in actions])


def test_rows_of_episodes_are_kept_by_the_base_class() -> None:
    shown = rows(Walk(2), [[2, 0]] * 12)  # one goes up and is there after 3 steps, the other goes down until it is cut
    assert shown["env/env_obs/way"][:, 0, 0].tolist() == [0, 1, 2, 3] * 3
    assert shown["env/reward"][:, 0].tolist() == [0, 1, 1, 1] * 3
    assert shown["env/cumulated_reward"][:, 0].tolist() == [0, 1, 2, 3] * 3
    assert shown["env/terminated"][:, 0].tolist() == [False, False, False, True] * 3
    assert shown["env/info/is_success"][:, 0].tolist() == [False, False, False, True] * 3
    assert shown["env/timestep"][:, 1].tolist() == [*range(LIMIT + 1), 0, 1]
    assert shown["env/truncated"][:, 1].tolist() == [False] * LIMIT + [True, False, False]
    assert shown["env/initial_state"][:, 1].tolist() == [True] + [False] * LIMIT + [True, False]
    assert shown["env/info/level"].dtype == torch.int64
    start = shown["env/env_obs/place"][0, 1, 0].item()
    assert shown["env/env_obs/place"][:10, 1, 0].tolist() == [start - n for n in range(10)]


def test_without_automatic_reset_the_last_row_repeats_with_reward_0() -> None:
    shown = rows(Walk(2).for_evaluation(2, 0, "eval"), [[2, 0]] * 6)
    assert shown["env/env_obs/way"][:, 0, 0].tolist() == [0, 1, 2, 3, 3, 3]
    assert shown["env/reward"][:, 0].tolist() == [0, 1, 1, 1, 0, 0]
    assert shown["env/cumulated_reward"][:, 0].tolist() == [0, 1, 2, 3, 3, 3]
    assert shown["env/done"][:, 0].tolist() == [False, False, False, True, True, True]
    assert shown["env/info/is_success"][:, 0].tolist() == [False, False, False, True, True, True]
    assert shown["env/initial_state"][:, 0].tolist() == [True, False, False, False, False, False]
    assert shown["env/timestep"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3], [3, 4], [3, 5]]


@pytest.mark.parametrize(
    ("leaves", "reward", "message"),
    [
        ({"place": torch.zeros(2, 1)}, None, "'env/env_obs/way' at t=0: expected float32 [2, 1], found nothing"),
        (
            {"place": torch.zeros(2, 1), "way": torch.zeros(2)},
            None,
            "'env/env_obs/way' at t=0: expected float32 [2, 1], found float32 [2]",
        ),
        (
            {"place": torch.zeros(2, 1, dtype=torch.float64), "way": torch.zeros(2, 1)},
            None,
            "'env/env_obs/place' at t=0: expected float32 [2, 1], found float64 [2, 1]",
        ),
        (
            {"place": torch.zeros(2, 1), "way": torch.zeros(2, 1)},
            torch.zeros(2, 1),
            "'env/reward' at t=0: expected float32 [2], found float32 [2, 1]",
        ),
        (
            {"place": torch.zeros(2, 1), "way": torch.zeros(2, 1), "far": torch.zeros(2, 1)},
            None,
            "'env/env_obs/far' at t=0; stated are env/env_obs/place, env/env_obs/way, env/reward, env/terminated, ",
        ),
    ],
    ids=["missing", "shape", "dtype", "reward", "unknown"],
)
def test_a_row_that_is_not_as_stated_is_refused(
    leaves: dict[str, torch.Tensor], reward: torch.Tensor | None, message: str
) -> None:
    agent = Walk(2)
    agent.reset = lambda: agent.show(0, {f"env/env_obs/{n}": v for n, v in leaves.items()}, reward)  # type: ignore[method-assign]
    with pytest.raises(BbrlExpError) as raised:
        agent(Workspace(), t=0)
    assert str(raised.value).startswith(f"Walk shows {message}")


def test_a_number_that_is_not_finite_is_named_with_its_place() -> None:
    agent = Walk(2)
    rows_before = rows(agent, [[1, 1]] * 2)
    agent.way[1] = float("nan")
    with pytest.raises(NonFiniteError, match=r"'env/env_obs/way' from environment 1 at t=2: nan"):
        agent(rows_before, t=2)


def test_an_info_may_be_nan() -> None:
    spec = EnvSpec("Measured", 2, (LeafSpec.box("env/env_obs", (1,), -1, 1),), (LeafSpec.discrete("action", 2),))
    agent = EnvironmentAgent(spec, info={"distance": "float32"})
    infos = {"distance": torch.tensor([float("nan"), 1.0])}
    agent.reset = lambda: agent.show(0, torch.zeros(2, 1), info=infos)  # type: ignore[method-assign]
    workspace = Workspace()
    agent(workspace, t=0)
    assert workspace["env/info/distance"][0].isnan().tolist() == [True, False]


def test_what_cannot_be_resumed_says_why() -> None:
    class Fleeting(EnvironmentAgent):
        def reset(self) -> None:
            self.show(0, torch.zeros(1, 1))

    agent = Fleeting(Walk(1).env_spec)
    assert agent.not_resumable == "Fleeting does not define run_state and load_run_state"
    with pytest.raises(BbrlExpError, match="Walk cannot be resumed: Fleeting does not define run_state"):
        agent.run_state()
    with pytest.raises(ConfigurationError, match="Walk cannot be animated: Fleeting shows no pictures"):
        agent.check_frames()
    Walk(1).check_frames()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "NeverFrozen",
            "key 'env.agent': Walk cannot be evaluated: for_evaluation(1, …) must give an environment agent with "
            "batch_size 1 and auto_reset false",
        ),
        (
            "NotEvaluated",
            "key 'env.agent': Walk cannot be evaluated: NotImplementedError: NotEvaluated does not define "
            "for_evaluation",
        ),
        (
            "WithoutSpec",
            "key 'env.agent': WithoutSpec has no env_spec: it must call super().__init__(…)",
        ),
        ("Leaves", "key 'env.agent': Walk cannot be evaluated: SystemExit: 0"),
        ("NeverCloses", "key 'env.agent': NeverCloses.close() fails: RuntimeError: a window is still open"),
        ("NoTime", "key 'env.agent': NoTime: max_episode_steps=0: must be an integer of at least 1"),
        ("AlwaysThree", "key 'batch_size' = 8: must be 3, as Walk has it whatever is asked"),
        ("LIMIT", "key 'env.agent._target_' = 'tensor_environments.LIMIT': must be a class, and is a int"),
        ("EnvSpec", "key 'env.agent._target_' = 'tensor_environments.EnvSpec': must be an EnvironmentAgent"),
    ],
)
def test_what_would_fail_later_is_refused_before_a_folder_is_made(
    kind: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option(tmp_path, monkeypatch, kind)
    with pytest.raises(ConfigurationError) as raised:
        run(["agent=random", "env=walk"], extra_dir="conf")
    assert str(raised.value) == message
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            "Forgetful",
            "Walk is not deterministic, or its run_state leaves something out: taken up elsewhere, it shows another",
        ),
        ("RaisesItsState", "Walk: OSError: no state\n"),
        ("LeavesWithItsState", "Walk: SystemExit: 0\n"),
        ("StateOfNumpy", "Walk.run_state()['best'] is a float64: must be tensors and plain Python\n"),
    ],
)
def test_a_state_that_is_incomplete_or_cannot_be_had_keeps_no_checkpoints_and_says_so(
    kind: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    option(tmp_path, monkeypatch, kind)
    result = run(["agent=random", "env=walk", "total_steps=64", "tracking=none"], extra_dir="conf")
    assert result.summary.env_id == "Walk"
    assert f"no checkpoints, the run cannot be resumed once it has stopped: {reason}" in capfd.readouterr().out


def test_a_picture_that_ends_the_process_costs_the_animation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    option(tmp_path, monkeypatch, "PictureThatLeaves")
    arguments = ["agent=random", "env=walk", "total_steps=64", "tracking.animation_steps=3"]
    assert run(arguments, extra_dir="conf").summary.status == "completed"
    assert "no animation: " in capfd.readouterr().out


def option(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Makes ``env=walk`` an option with one of the simulators beside this file."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "tensor_environments")
    (folder / "conf" / "env").mkdir(parents=True)
    (folder / "conf" / "env" / "walk.yaml").write_text(f"agent: {{_target_: tensor_environments.{kind}}}\n")


def test_evaluations_of_gymnasium_agents_are_those_of_the_class_without_reset() -> None:
    training = AutoResetGymAgent("CartPole-v1", 2, seed=1, clip_actions=False, name="env")
    evaluating = training.for_evaluation(3, 5, "eval")
    expected = NoAutoResetGymAgent("CartPole-v1", 3, 5, role="eval", clip_actions=False)
    actions = random_actions(expected.env_spec, 60)
    found, wanted = (played(agent, Workspace(), actions) for agent in (evaluating, expected))
    assert evaluating.name == "env"
    assert all(torch.equal(found[name], wanted[name]) for name in wanted.keys())  # noqa: SIM118
