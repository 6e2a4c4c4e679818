"""From a run to a recording to its clone, by the commands of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbrl_exp.commands.record import main, record
from bbrl_exp.data.recording import load_recording
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.run import run

FAST = ["tracking=none", "total_steps=128", "batch_size=2", "agent.steps_per_chunk=16", "eval.every=0"]


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    assert run(["agent=cem", "name=teacher", "eval.final_episodes=0", *FAST]).summary.status == "completed"
    return "outputs/teacher"


def test_a_run_is_recorded_and_cloned(teacher: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([teacher, "--steps", "301", "--out", "teacher.pt"]) == 0
    assert capsys.readouterr().out.startswith("recorded teacher.pt (mean return ")
    recording = load_recording(Path("teacher.pt"))
    assert (recording.time_size(), recording.batch_size()) == (152, 2)
    assert recording["policy/candidate"].unique().tolist() == [-1]
    clone = run(["agent=behaviour_cloning", "agent.learner.recording=teacher.pt", "eval.final_episodes=2", *FAST])
    assert clone.summary.status == "completed"
    assert clone.summary.eval_return_mean is not None
    with_memory = [
        "agent.members.policy._target_=bbrl_exp.policies.recurrent.RecurrentPolicy",
        "~agent.members.policy.hidden_sizes",
        "~agent.members.policy.activation",
    ]
    with pytest.raises(ConfigurationError, match="BehaviourCloning needs a StochasticPolicy, not a RecurrentPolicy"):
        run(["agent=behaviour_cloning", "agent.learner.recording=teacher.pt", *with_memory, *FAST])


def test_the_same_seed_records_the_same_and_another_seed_something_else(teacher: str) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        record(teacher, 40, Path(f"{name}.pt"), seed)
    one, same, other = (load_recording(Path(f"{name}.pt"))["env/env_obs"] for name in ("one", "same", "other"))
    assert one.equal(same)
    assert not one.equal(other)


def test_what_cannot_be_recorded_is_refused_in_one_line(teacher: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["nowhere", "--out", "it.pt"], "error: nowhere is not a run folder"),
        ([teacher, "--out", "it.pt", "--steps", "0"], "error: steps=0: must be at least 1"),
        (
            [teacher, "--out", f"{teacher}/checkpoints/last.pt"],
            "error: out='outputs/teacher/checkpoints/last.pt': exists already",
        ),
        ([teacher, "--out", "no/folder/it.pt"], "error: out='no/folder/it.pt': the folder must exist"),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(message)
    with pytest.raises(ConfigurationError, match="a file is needed"):
        run(["agent=behaviour_cloning", *FAST])
