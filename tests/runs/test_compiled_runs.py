"""Runs whose updates are machine code: they resume bit for bit, and the code is in the user's cache alone."""

import json
import re
import shutil
from pathlib import Path

import pytest

from bbrl_exp.compilation.compiler import why_no_compiler

from .conftest import CommandLine
from .same_run import assert_same_run

DQN = [
    "agent=dqn",
    "env=cartpole",
    "compile=true",
    "batch_size=2",
    "total_steps=160",
    "agent.steps_per_chunk=4",
    "agent.members.policy.hidden_sizes=[8]",
    "agent.members.policy.layer_norm=false",
    "agent.learner.double=false",
    "agent.learner.n_steps=1",
    "agent.learner.learning_starts=40",
    "agent.learner.updates_per_step=0.125",
    "agent.learner.batch_size=8",
    "eval.every=0",
    "eval.final_episodes=2",
    "checkpoint.keep=1",
]
OUTPUTS = Path("outputs")


@pytest.mark.skipif(why_no_compiler("cpu") is not None, reason="no C++ compiler")
def test_a_compiled_run_that_was_paused_ends_like_one_that_was_not(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "elsewhere")
    ended = command_line(*DQN, "name=straight")
    assert ended.code == 0, ended.err
    assert "the updates of DQN, when the first is due; kept for later runs" in ended.out
    said = re.findall(r"compile: .*", ended.out)
    assert said[0] == "compile: compiling the updates of DQN …"
    line = (
        r"compile: a graph of one update: %s in [\d.]+ s; an update takes [\d.]+ ms, [\d.]+ ms without "
        r"compiling: it (does not pay here|pays after about [\d,]+ updates; about 15 are left in this run)"
    )
    assert len(said) == 2
    assert re.fullmatch(line % "compiled", said[1])
    summary = json.loads((OUTPUTS / "straight" / "summary.json").read_text())
    seconds = float(re.findall(r"compiled in ([\d.]+) s", said[1])[0])
    assert seconds + 160 / summary["steps_per_second"] < summary["wall_seconds"] + 0.1  # compiling is no training
    assert command_line(*DQN, "name=run", "pause_after=80").code == 0
    ended = command_line(*DQN, "name=run")
    assert ended.code == 0
    (again,) = re.findall(r"compile: a .*", ended.out)
    assert re.fullmatch(line.replace("15", "10") % "loaded from the cache", again)
    assert_same_run(OUTPUTS / "straight", OUTPUTS / "run")
    assert any((tmp_path / "cache" / "bbrl_exp" / "compile" / "inductor").rglob("*.so"))
    assert not [path for path in OUTPUTS.rglob("*") if path.suffix in (".so", ".cpp", ".h")]


def test_a_run_is_not_resumed_as_one_that_rounds_differently(command_line: CommandLine) -> None:
    random = ["agent=random", "env=cartpole", "total_steps=64", "name=run"]
    assert command_line(*random).code == 0
    ended = command_line(*random, "compile=true")
    assert ended.code == 2
    assert ended.err.strip() == (
        f"error: folder {Path('outputs/run').absolute()} holds a run of another configuration, it differs in compile; "
        "choose another name"
    )
    shutil.rmtree("outputs")
    ended = command_line(*random, "compile=maybe")
    assert ended.code == 2
    assert ended.err.strip() == "error: key 'compile' = 'maybe': must be true or false"
    assert not Path("outputs").exists()
