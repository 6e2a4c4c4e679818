"""The simulator of docs/environment_agents.md: trained, resumed, killed, evaluated, filmed and swept."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import prepared
import pytest
from pages import Page, finished, job_summaries, run, summary, words_of
from PIL import Image

PAGE = Page.read("environment_agents.md")
VARIABLES = "BBRL_EXP_ALLOW=my_package PYTHONPATH=. python"
TRAIN, MASSES, ELSEWHERE = PAGE.commands
SHORT = ("total_steps=2560", "eval.every=640", "eval.episodes=5", "eval.final_episodes=5", "checkpoint.every=640")

# An agent that kills its run, once, as soon as there is a checkpoint.
KILLED = "+agent.members.kills={_target_: my_package.kills.Kills}"
KILLS = """
import os
import signal
from pathlib import Path

from bbrl_exp import Agent


class Kills(Agent):
    def forward(self, t, **kwargs):
        if os.path.exists("kill") and list(Path("outputs/killed/checkpoints").glob("step_*.pt")):
            os.remove("kill")
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files and two runs, ``straight`` and ``long``."""
    folder = tmp_path_factory.mktemp("reader")
    PAGE.write_files(folder)
    run(folder, TRAIN, *SHORT, "name=straight", "tracking.animation_steps=8")
    run(folder, TRAIN, "total_steps=12800", "eval.every=0", "eval.final_episodes=10", "tracking=none", "name=long")
    return folder


def python(folder: Path, code: str) -> str:
    """What a program of the reader's prints."""
    environment = {**os.environ, "PYTHONPATH": ".", "BBRL_EXP_ALLOW": "my_package"}
    return finished(prepared.run(["-W", "error", "-c", code], folder, environment)).stdout


def results(folder: Path, name: str) -> dict[str, Any]:
    """What must be equal between equal runs."""
    found = summary(folder, name)
    return {key: found[key] for key in ("status", "env_steps", "return_mean", "eval_returns", "evaluations")}


def test_the_page_s_files_are_there() -> None:
    assert len(PAGE.files) == 5


def test_the_page_s_simulator_keeps_the_contract(folder: Path) -> None:
    python(folder, "import test_point_masses; test_point_masses.test_point_masses_keep_the_contract()")


def test_a_policy_learns_and_its_summary_names_the_task(folder: Path) -> None:
    found = summary(folder, "long")
    assert (found["env"], found["env_id"], found["status"]) == ("point_masses", "PointMasses", "completed")
    assert found["eval_return_mean"] > -20  # one that does nothing gets -38: 50 steps 0.77 away
    evaluations = summary(folder, "straight")["evaluations"]
    assert [each["env_steps"] for each in evaluations] == [640, 1280, 1920, 2560]


def test_a_paused_run_and_one_that_was_killed_end_as_one_that_was_not(folder: Path) -> None:
    run(folder, TRAIN, *SHORT, "name=paused", "pause_after=1280")
    assert summary(folder, "paused")["env_steps"] == 1280
    run(folder, TRAIN, *SHORT, "name=paused")
    assert results(folder, "paused") == results(folder, "straight")
    assert kill_after_a_checkpoint(folder, "killed") < 2560
    ended = run(folder, TRAIN, *SHORT, KILLED, "name=killed")
    assert "resumes after " in ended.stdout
    assert results(folder, "killed") == results(folder, "straight")


def kill_after_a_checkpoint(folder: Path, name: str) -> int:
    """Runs the page's command until there is a checkpoint, and ends it by kill -9; gives the step that was noted."""
    (folder / "my_package" / "kills.py").write_text(KILLS)
    (folder / "kill").touch()
    words, variables = words_of(TRAIN, *SHORT, KILLED, f"name={name}")
    assert prepared.run(words, folder, {**os.environ, **variables}).wait() == -signal.SIGKILL
    return int(summary(folder, name)["env_steps"])


def test_evaluating_again_in_another_process_or_by_hand_gives_the_same_returns(folder: Path) -> None:
    returns = summary(folder, "straight")["eval_returns"]
    run(folder, TRAIN, *SHORT, "name=beside", "eval.workers=1")
    assert results(folder, "beside") == results(folder, "straight")
    said = python(folder, "from bbrl_exp import evaluate\nprint(list(evaluate('outputs/straight').returns))")
    assert said == f"{returns}\n"
    said = python(
        folder,
        "from bbrl_exp import Agents, TemporalAgent, Workspace, load_policy\n"
        "from my_package.point_masses import PointMasses\n"
        "environments = PointMasses(5, seed=0, role='final_eval', auto_reset=False)\n"
        "workspace = Workspace()\n"
        "graph = TemporalAgent(Agents(environments, load_policy('outputs/straight')))\n"
        "graph(workspace, t=0, stop_variable='env/done')\n"
        "print(workspace['env/cumulated_reward'][-1].tolist())",
    )
    assert said == f"{returns}\n"


def test_a_run_is_filmed_and_recorded(folder: Path) -> None:
    run(folder, f"{VARIABLES} scripts/evaluate.py outputs/straight --animation film.gif")
    with Image.open(folder / "film.gif") as film:
        assert (film.size, film.n_frames > 1) == ((104, 104), True)  # type: ignore[attr-defined]
    run(folder, f"{VARIABLES} scripts/record.py outputs/straight --steps 80 --out record.pt")
    said = python(
        folder,
        "from pathlib import Path\nfrom bbrl_exp.data.recording import load_recording\n"
        "print(load_recording(Path('record.pt'), 'PointMasses')['env/env_obs'].shape)",
    )
    assert said == "torch.Size([11, 8, 4])\n"


def test_batch_sizes_are_swept(folder: Path) -> None:
    run(folder, TRAIN, "-m", "batch_size=2,16", "total_steps=512", "eval.every=0", "name=sizes", "tracking=none")
    found = job_summaries(folder, "sizes")
    assert {each["batch_size"]: (each["status"], each["env_id"]) for each in found} == {
        2: ("completed", "PointMasses"),
        16: ("completed", "PointMasses"),
    }


def test_an_option_may_select_between_simulators(folder: Path) -> None:
    run(folder, MASSES, "total_steps=512", "eval.every=0", "name=masses", "tracking=none")
    assert summary(folder, "masses")["env_id"] == "PointMasses"
    for option, message in (
        ("env.backend=there", "key 'env.backend' = 'there': must be one of here, elsewhere"),
        ("env.friction=2", "key 'env.friction' = 2: must be 0 to 1"),
        ("env.friction=much", "key 'env.friction' = 'much': must be a number (PointMasses)"),
        ("env.workers=2", "key 'env.workers' is not known; known below 'env': agent, backend, backends, friction"),
        (
            "agent=dqn",
            "key 'agent' = 'dqn': needs one discrete action, and PointMasses has 'action', box [2] of float32",
        ),
        ("agent=nobody", "key 'agent' = 'nobody': no such option"),
    ):
        ended = run(folder, MASSES, option, "name=refused", exit_code=2)
        assert ended.stderr.startswith(f"error: {message}"), ended.stderr
        assert ended.stderr.count("\n") == 1
    assert not (folder / "outputs" / "refused").exists()


def test_one_that_cannot_be_resumed_says_so(folder: Path) -> None:
    short = ("total_steps=512", "eval.every=0", "tracking=none", "name=elsewhere")
    ended = run(folder, ELSEWHERE, *short, "pause_after=256", exit_code=2)
    sentence = "the simulator keeps its state to itself"
    assert ended.stderr == f"error: key 'pause_after' = 256: must be null: {sentence}\n"
    ended = run(folder, ELSEWHERE, *short)
    assert f"checkpoints        none: {sentence}" in ended.stdout
    assert f"no checkpoints, the run cannot be resumed once it has stopped: {sentence}" in ended.stdout
    assert summary(folder, "elsewhere")["status"] == "completed"
    assert not [*(folder / "outputs" / "elsewhere" / "checkpoints").glob("step_*.pt")]
