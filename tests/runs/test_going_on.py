"""What a command does in a folder that holds a run: it goes on, or says why not and leaves the folder as it is."""

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from bbrl_exp.records.files import AppendOnlyFile
from bbrl_exp.runs import execution
from bbrl_exp.runs.run import run
from bbrl_exp.training.checkpoint import write_checkpoint
from bbrl_exp.training.checkpoints import Checkpoints
from bbrl_exp.training.evaluation import Evaluator

from .conftest import CommandLine
from .same_run import assert_same_run, events_of, state_of, summary_of
from .test_resume import PowerCut, at, power_cut

SMALL = [
    "total_steps=1024",
    "checkpoint.every=200",
    "eval.every=400",
    "eval.episodes=1",
    "eval.final_episodes=1",
    "tracking.metrics_every=200",
]
RANDOM = ["agent=random", "batch_size=2", "agent.steps_per_chunk=64", *SMALL]
PPO = ["agent=ppo", "agent.learner.n_epochs=1", "batch_size=2", "agent.steps_per_chunk=64", *SMALL]
SAC = [
    "agent=sac",
    "env=pendulum",
    "batch_size=2",
    "agent.learner.learning_starts=100",
    "agent.learner.updates_per_step=0.05",
    "agent.members.policy.hidden_sizes=[8]",
    "agent.learner.critic.hidden_sizes=[8]",
    *SMALL,
]
RUN = Path("outputs") / "run"


class HoldsAnObject(CartPoleVectorEnv):
    """Vectorised CartPole with something in it that is no number."""

    def __init__(self, num_envs: int = 1, **kwargs: object) -> None:
        super().__init__(num_envs)
        self.helper = object()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_in_the_middle(command_line: CommandLine, *arguments: str) -> None:
    with at(700, terminate):
        assert command_line(*arguments, "name=run").code == 128 + signal.SIGTERM


def contents_of(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Everything in a folder: when it was changed, and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def checkpoints_of(folder: Path) -> list[Path]:
    """From the oldest one to the newest."""
    return sorted((folder / "checkpoints").glob("step_*.pt"), key=lambda path: int(path.stem.removeprefix("step_")))


def damage(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def assert_refused(command_line: CommandLine, *arguments: str) -> str:
    """Exit code 2, one line of error, and nothing in the run's folder is changed; gives the line."""
    before = contents_of(RUN)
    ended = command_line(*arguments)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert contents_of(RUN) == before
    return ended.err


def test_a_run_that_is_complete_says_so_and_changes_nothing(command_line: CommandLine) -> None:
    assert command_line(*PPO, "name=run").code == 0
    before = contents_of(RUN)
    for more in ([], [f"resume={RUN}"], ["checkpoint.keep=5", "tracking=none"]):
        ended = command_line(*PPO, "name=run", *more)
        assert (ended.code, ended.err) == (0, "")
        assert "already complete" in ended.out
        assert contents_of(RUN) == before


def test_the_evaluation_that_is_due_at_a_pause_runs_once_and_no_speed_is_invented(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations = 0
    evaluated = Evaluator.run

    def counted(self: Evaluator, *arguments: Any, **named: Any) -> Any:
        nonlocal evaluations
        evaluations += 1
        return evaluated(self, *arguments, **named)

    monkeypatch.setattr(Evaluator, "run", counted)
    command = [*RANDOM, "name=run", "eval.every=384", "tracking.speed_every=100"]
    for _ in range(2):  # the second time the run is there already
        assert command_line(*command, "pause_after=384").code == 0
        assert evaluations == 1
    ended = command_line(*command, "tracking.speed_every=1000000")
    assert ended.code == 0
    assert evaluations == 3  # at 768, and the last policy
    assert ", 0 steps/s" not in ended.out
    progress = [line for line in ended.out.splitlines() if " of 1,024 steps (" in line]
    assert progress
    assert not any("steps/s" in line for line in progress)


@pytest.mark.parametrize("agent", [PPO, SAC], ids=["ppo", "sac"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(agent: list[str], command_line: CommandLine) -> None:
    assert command_line(*agent, "name=straight").code == 0
    stop_in_the_middle(command_line, *agent)
    older, newest = checkpoints_of(RUN)
    damage(newest)
    ended = command_line(*agent, "name=run")
    assert ended.code == 0
    assert f"{newest.name}' is damaged" in ended.out
    assert f"from {older.name}" in ended.out
    assert_same_run(Path("outputs") / "straight", RUN)


def test_a_damaged_file_of_replay_rows_spoils_the_checkpoints_that_need_it(command_line: CommandLine) -> None:
    stop_in_the_middle(command_line, *SAC)
    for path in (RUN / "checkpoints" / "replay").glob("*.pt"):
        damage(path)
    assert "replay" in assert_refused(command_line, *SAC, "name=run")


def test_where_no_checkpoint_is_whole_the_run_stops_and_deletes_nothing(command_line: CommandLine) -> None:
    stop_in_the_middle(command_line, *PPO)
    for path in checkpoints_of(RUN):
        damage(path)
    said = assert_refused(command_line, *PPO, "name=run")
    assert "no checkpoint in" in said
    assert all(path.name in said for path in checkpoints_of(RUN))


def test_another_configuration_is_refused_with_the_keys_that_differ(command_line: CommandLine) -> None:
    stop_in_the_middle(command_line, *PPO)
    said = assert_refused(command_line, *PPO, "name=run", "seed=1", "agent.learner.discount=0.9")
    assert "it differs in seed, agent.learner.discount; choose another name" in said
    assert "it differs in seed; choose" in assert_refused(command_line, *PPO, f"resume={RUN}", "seed=1")
    assert "it differs in batch_size; choose" in assert_refused(command_line, *PPO, "name=run", "batch_size=3")
    assert "it differs in env.backend; choose" in assert_refused(command_line, *PPO, "name=run", "env.backend=array")
    assert "it differs in agent, env; choose" in assert_refused(command_line, *SAC, "name=run")


def test_a_run_is_not_touched_where_resume_is_never(command_line: CommandLine) -> None:
    stop_in_the_middle(command_line, *PPO)
    assert "choose another name" in assert_refused(command_line, *PPO, "name=run", "resume=never")
    assert command_line(*PPO, "name=another", "resume=never").code == 0


def test_a_run_goes_on_by_the_path_of_its_folder(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command_line(*PPO, "name=straight").code == 0
    stop_in_the_middle(command_line, *PPO)
    (tmp_path / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "down")
    for path in (tmp_path, tmp_path / "missing"):
        ended = command_line(*PPO, f"resume={path}")
        assert (ended.code, ended.err.count("\n")) == (2, 1)
    ended = command_line(*PPO, f"resume={tmp_path / RUN}")
    assert ended.code == 0
    assert f"folder: {tmp_path / RUN}" in ended.out
    assert not list(Path.cwd().iterdir())
    assert_same_run(tmp_path / "outputs" / "straight", tmp_path / RUN)


@pytest.mark.parametrize("agent", [RANDOM, SAC], ids=["random", "sac"])
def test_a_run_may_be_made_longer(agent: list[str], command_line: CommandLine) -> None:
    longer = [text for text in agent if not text.startswith("total_steps")] + ["total_steps=2048"]
    assert command_line(*longer, "name=straight").code == 0
    assert command_line(*agent, "name=run").code == 0
    ended = command_line(*longer, "name=run")
    assert ended.code == 0
    assert "resumes after 1,024 environment steps" in ended.out
    assert summary_of(RUN)["env_steps"] == 2048
    assert_same_run(Path("outputs") / "straight", RUN)


def test_a_run_with_a_schedule_cannot_be_made_longer(command_line: CommandLine) -> None:
    assert command_line(*PPO, "name=run").code == 0
    assert "agent.learner.anneal_learning_rate depends on it" in assert_refused(
        command_line, *PPO, "name=run", "total_steps=2048"
    )
    assert "differs in total_steps" in assert_refused(command_line, *PPO, "name=run", "total_steps=512")


def test_no_job_of_a_sweep_with_a_schedule_can_be_made_longer(command_line: CommandLine) -> None:
    sweep = ["-m", *PPO, "name=s", "seed=1,2", "total_steps=256", "eval.every=0", "eval.final_episodes=0"]
    assert command_line(*sweep).code == 0
    ended = command_line(*sweep, "total_steps=512")
    assert ended.code == 1
    assert ended.out.count("anneal_learning_rate depends on it") == 2


def test_what_is_recorded_and_kept_may_differ(command_line: CommandLine) -> None:
    assert command_line(*PPO, "name=straight").code == 0
    stop_in_the_middle(command_line, *PPO, "tracking.workspace=false", "checkpoint.every=100")
    assert command_line(*PPO, "name=run", "checkpoint.keep=1", "tracking.metrics_every=100").code == 0
    (newest,) = checkpoints_of(RUN)
    states = [state_of(folder, newest.name) for folder in (RUN, Path("outputs") / "straight")]
    for name, value in states[0]["learner"].items():
        assert str(value) == str(states[1]["learner"][name]), name


def test_vectorised_environments_go_on_too(command_line: CommandLine) -> None:
    vectorized = [*PPO, "env.stepping=vectorized", "batch_size=8", "agent.steps_per_chunk=16", "total_steps=4096"]
    assert command_line(*vectorized, "name=straight").code == 0
    stop_in_the_middle(command_line, *vectorized)
    ended = command_line(*vectorized, "name=run")
    assert ended.code == 0
    assert "resumes after" in ended.out
    assert_same_run(Path("outputs") / "straight", RUN)


def test_environments_that_cannot_be_saved_run_without_checkpoints_and_say_why(command_line: CommandLine) -> None:
    gymnasium.register(
        "HoldsAnObject-v0",
        "gymnasium.envs.classic_control:CartPoleEnv",
        vector_entry_point=HoldsAnObject,
        max_episode_steps=500,
    )
    arguments = [*PPO, "env.id=HoldsAnObject-v0", "env.stepping=vectorized", "name=run"]
    try:
        with at(700, terminate):
            ended = command_line(*arguments)
        assert ended.code == 128 + signal.SIGTERM
        assert "no checkpoints, the run cannot be resumed once it has stopped" in ended.out
        assert "attribute helper" in ended.out
        assert "to resume: " not in ended.out
        assert not checkpoints_of(RUN)
        ended = command_line(*arguments)
    finally:
        del gymnasium.registry["HoldsAnObject-v0"]
    assert ended.code == 0
    assert "goes on" not in ended.out


def test_files_of_records_that_are_in_no_checkpoint_are_begun_anew(command_line: CommandLine) -> None:
    stop_in_the_middle(command_line, *PPO, "tracking=none")
    with at(768, power_cut), pytest.raises(PowerCut):
        run([*PPO, "name=run", "checkpoint.every=1024"])
    assert (RUN / "metrics.csv").exists()
    assert command_line(*PPO, "name=run").code == 0
    events_of(RUN)  # there is one file


def test_a_run_that_was_killed_before_it_was_made_longer_is_not_taken_for_complete(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command_line(*RANDOM, "name=run", "total_steps=512").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(execution, "git_commit", power_cut)  # Hydra has written its files, the run has not
        with pytest.raises(PowerCut):
            run([*RANDOM, "name=run"])
    ended = command_line(*RANDOM, "name=run")
    assert ended.code == 0
    assert "resumes after 512" in ended.out
    assert summary_of(RUN)["env_steps"] == 1024


def test_a_run_goes_on_where_the_power_went_while_hydra_wrote_its_copy(command_line: CommandLine) -> None:
    stop_in_the_middle(command_line, *PPO)
    (RUN / ".hydra" / "config.yaml").write_text("")
    ended = command_line(*PPO, "name=run")
    assert ended.code == 0
    assert "resumes after" in ended.out


def test_what_a_checkpoint_says_of_the_records_is_on_the_disk_before_it(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[int] = []
    beyond: list[int] = []
    sync, write = AppendOnlyFile.sync, Checkpoints.write

    def noted_sync(self: AppendOnlyFile) -> None:
        sync(self)
        handed.append(self.tell())

    def noted_write(self: Checkpoints, env_steps: int, state: Any, meta: Any) -> None:
        events, csv = handed[-2:]
        sinks = meta["positions"]["sinks"]
        beyond.append(max(sinks["csv"][1] - csv, sinks["tensorboard"][1] - events))
        write(self, env_steps, state, meta)

    monkeypatch.setattr(AppendOnlyFile, "sync", noted_sync)
    monkeypatch.setattr(Checkpoints, "write", noted_write)
    assert command_line(*PPO, "name=run").code == 0
    assert len(beyond) >= 2
    assert max(beyond) <= 0


def test_a_checkpoint_of_another_version_is_refused(command_line: CommandLine) -> None:
    stop_in_the_middle(command_line, *RANDOM)
    path = checkpoints_of(RUN)[-1]
    found = torch.load(path, weights_only=True)
    del found["meta"]["positions"]
    write_checkpoint(path, found["state"], found["meta"])
    assert "has no 'positions': it is of another version" in assert_refused(command_line, *RANDOM, "name=run")


def test_the_command_that_goes_on_is_the_one_that_was_typed(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["scripts/run.py", "--config-dir", "my conf", *RANDOM, "name=run"]
    monkeypatch.setattr(sys, "argv", typed)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    Path("my conf").mkdir()
    with at(700, terminate):
        ended = command_line(*typed[1:])
    assert ended.code == 128 + signal.SIGTERM
    line = next(line for line in ended.out.splitlines() if line.startswith("to resume: "))
    assert shlex.split(line.removeprefix("to resume: "))[1:] == [*typed, f"resume={RUN.absolute()}"]
