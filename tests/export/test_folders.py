"""The folder for the Hugging Face hub, the command, and films as MP4."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from bbrl_exp.commands.main import main
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.export import export as exporting
from bbrl_exp.export.readme import readme_of
from bbrl_exp.export.target import new_folder
from bbrl_exp.records.files import create_file
from bbrl_exp.runs.policy import evaluate
from bbrl_exp.runs.run import run
from bbrl_exp.training.checkpoint import read_checkpoint, write_checkpoint
from bbrl_exp.training.policy_file import PolicyFile

pytest.importorskip("safetensors")
pytest.importorskip("onnxruntime")
ffmpeg = pytest.importorskip("imageio_ffmpeg")

NO_PICTURES = (
    "key 'graph.agent.members.env': bbrl_exp/ProbeMemory-v0 cannot be animated: it shows no pictures (rgb_array)"
)
SHORT = ["tracking=none", "total_steps=256", "batch_size=2", "eval.every=0", "eval.final_episodes=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, one in an environment without pictures, and one that is judged by sampled actions."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run([*SHORT, "name=lstm", "agent=recurrent_ppo", "env=masked_cartpole", "memory=lstm"])
        run([*SHORT, "name=blind", "agent=ppo", "env=probe_memory"])
        run([*SHORT, "name=sampled", "agent=ppo", "env=cartpole", "eval.policy=sample"])
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def frames_of(path: Path) -> NDArray[np.uint8]:
    """The frames of a film of CartPole, ``[T, 400, 600]``, in shades of grey."""
    assert b"avc1" in path.read_bytes()  # H.264
    program = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    frames = subprocess.run(program, capture_output=True, check=True).stdout
    return np.frombuffer(frames, np.uint8).reshape(-1, 400, 600)


def test_a_folder_for_the_hub_has_everything_and_its_upload_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "outputs/lstm", "--to", "hub", "--episodes", "3"]) == 0
    card = PolicyFile.read(Path("hub/policy.safetensors")).card
    evaluation = card["evaluation"]
    steps = sum(evaluation["lengths"])
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"return {evaluation['return_mean']:.6g} ± {evaluation['return_std']:.4g} over 3 episodes, most likely actions",
        f"ONNX: the policy's actions in all {steps} steps of these episodes",
        "exported hub",
        "upload it by: hf upload <user>/recurrent_ppo-CartPole-v1 hub",
    ]
    files = {"README.md", "config.yaml", "policy.onnx", "policy.safetensors", "replay.mp4"}
    assert {path.name for path in Path("hub").iterdir()} == files
    assert yaml.safe_load(Path("hub/config.yaml").read_text(encoding="utf-8")) == card["config"]
    readme = Path("hub/README.md").read_text(encoding="utf-8")
    _, front, body = readme.split("---\n", 2)
    front_matter = yaml.safe_load(front)
    assert front_matter["library_name"] == "bbrl_exp"
    assert {"reinforcement-learning", "CartPole-v1", "recurrent_ppo"} <= set(front_matter["tags"])
    (result,) = front_matter["model-index"][0]["results"]
    assert result["dataset"] == {"name": "CartPole-v1", "type": "CartPole-v1"}
    assert result["metrics"][0]["name"] == "mean_reward, most likely actions"
    assert result["metrics"][0]["value"] == f"{evaluation['return_mean']:.2f} +/- {evaluation['return_std']:.2f}"
    assert all(f"| `{name}` |" in body for name in files - {"README.md"})
    assert 'state = np.zeros((1, 128), "float32")' in body
    assert len(frames_of(Path("hub/replay.mp4"))) == evaluation["lengths"][0] + 1


def test_each_return_says_whether_actions_were_sampled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "outputs/sampled", "--to", "sampled", "--episodes", "3"]) == 0
    judged, compared, parity, *_ = capsys.readouterr().out.splitlines()[-5:]
    sample, mode = (evaluate("outputs/sampled", 3, policy=policy) for policy in ("sample", "mode"))
    assert sample.returns != mode.returns
    texts = [f"{each.return_mean:.6g} ± {each.return_std:.4g}" for each in (sample, mode)]
    assert judged == f"return {texts[0]} over 3 episodes, sampled actions"
    assert compared == f"ONNX: return {texts[1]} over 3 episodes, most likely actions"
    assert parity == f"ONNX: the policy's actions in all {sum(mode.lengths)} steps of these episodes"
    card = PolicyFile.read(Path("sampled/policy.safetensors")).card
    for found, expected in ((card["evaluation"], sample), (card["onnx"]["compared"]["evaluation"], mode)):
        assert (found["actions"], found["returns"]) == (expected.acting, list(expected.returns))
        assert found["lengths"] == list(expected.lengths)
    readme = Path("sampled/README.md").read_text(encoding="utf-8")
    assert f"| mean return, sampled actions | {texts[0]} |" in readme
    assert f"| mean return, most likely actions | {texts[1]} |" in readme
    assert "policy.act(observation, state, sample=True)" in readme
    assert "by onnxruntime (most likely actions):" in readme
    (result,) = yaml.safe_load(readme.split("---\n", 2)[1])["model-index"][0]["results"]
    assert [metric["name"] for metric in result["metrics"]] == [
        "mean_reward, sampled actions",
        "mean_reward, most likely actions",
    ]


def test_the_model_card_is_one_that_the_hub_reads() -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = {
        "run": {"agent": "ppo", "env_id": "Maze-v0", "env_steps": 1000, "policy": "best", "seed": 1, "overrides": []}
        | {"status": "failed"}
        | {"git_commit": None, "config_hash": "abc", "versions": {"python": "3.11"}},
        "evaluation": {"actions": "sample", "episodes": 2, "seed": 0, "return_mean": 1.5, "return_std": 0.5}
        | {"success_rate": 0.5},
    }
    found = hub.ModelCard(readme_of(card, {"policy.safetensors": "weights"}, "replay.gif"))
    assert found.data.library_name == "bbrl_exp"
    metrics = {(each.dataset_name, each.metric_type): each.metric_value for each in found.data.eval_results}
    assert metrics == {("Maze-v0", "mean_reward"): "1.50 +/- 0.50", ("Maze-v0", "success_rate"): 0.5}
    assert "| mean return, sampled actions | 1.5 ± 0.5 |" in found.text
    assert "| run | failed when the policy was exported |" in found.text
    assert "![the policy in its environment](replay.gif)" in found.text
    assert "policy.onnx" not in found.text


def test_what_a_folder_lacks_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", "outputs/blind", "--to", "blind", "--episodes", "2"]) == 0
    no_onnx, no_animation, exported, _ = capsys.readouterr().out.splitlines()[-4:]
    assert no_onnx == (
        "no policy.onnx: a file .onnx needs the extra 'export', which is not installed: "
        'pip install "bbrl_exp[export]"'
    )
    assert no_animation == f"no animation: {NO_PICTURES}"
    assert exported == "exported blind"
    assert {path.name for path in Path("blind").iterdir()} == {"README.md", "config.yaml", "policy.safetensors"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["outputs/lstm", "--to", "policy.pt"], "to='policy.pt': must be a file .safetensors or .onnx, or a folder"),
        (
            ["outputs/lstm", "--to", "policy.onx"],
            "to='policy.onx': must be a file .safetensors or .onnx, or a folder; did you mean '.onnx'?",
        ),
        (["outputs/lstm", "--to", ".onnx"], "to='.onnx': must be a file .safetensors or .onnx, or a folder"),
        (["outputs/lstm", "--to", "no/a.onnx"], "to='no/a.onnx': the folder no must exist"),
        (["outputs/lstm", "--to", "outputs"], "to='outputs': exists already; choose another name, or remove it first"),
        (["outputs/lst", "--to", "a"], "outputs/lst is not a run folder (no summary.json); did you mean 'lstm'?"),
        (["outputs/lstm", "--to", "a", "--episodes", "0"], "episodes=0: must be an integer of at least 1"),
        (["outputs/lstm", "--to", "a", "--which", "best"], "run outputs/lstm, completed, has kept no best policy; "),
        (["outputs/lstm"], "the following arguments are required: --to"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert main(["export", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {said}")
    assert printed.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["nan.onnx", "nan"])
def test_a_policy_of_nan_is_not_exported(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("outputs/nan").exists():
        run([*SHORT, "name=nan", "agent=ppo", "env=pendulum"])
        path = Path("outputs/nan/checkpoints/last.pt")
        kept = read_checkpoint(path)
        for tensor in kept["state"]["graph"].values():
            tensor.fill_(float("nan"))
        write_checkpoint(path, kept["state"], kept["meta"])
        capsys.readouterr()
    assert main(["export", "outputs/nan", "--to", name, "--episodes", "1"]) == 3
    assert capsys.readouterr() == ("", "error: non-finite value in 'action' from environment 0 at t=0: nan\n")
    assert not Path(name).exists()


@pytest.mark.parametrize("name", ["late.safetensors", "late.onnx", "late"])
def test_what_appears_at_the_target_meanwhile_is_not_overwritten(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_before, target = exporting.card_of, folder / name

    def appears(*arguments: Any) -> dict[str, Any]:
        target.write_text("mine", encoding="utf-8") if target.suffix else target.mkdir()
        return as_before(*arguments)

    monkeypatch.setattr(exporting, "card_of", appears)
    assert main(["export", "outputs/lstm", "--to", name, "--episodes", "1"]) == 2
    said = f"error: to='{name}': exists already; choose another name, or remove it first\n"
    assert capsys.readouterr() == ("", said)
    assert target.read_text(encoding="utf-8") == "mine" if target.suffix else not list(target.iterdir())
    assert not list(folder.glob(".late*"))


def test_a_folder_that_cannot_be_made_leaves_those_of_others_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda n: "7")
    foreign = folder / ".theirs.7.part"
    foreign.mkdir()
    with pytest.raises(BbrlExpError) as refused, new_folder(Path("theirs")):
        pass
    assert str(refused.value) == "cannot write 'theirs': File exists"
    assert foreign.is_dir()
    foreign.rmdir()


def test_a_new_file_is_made_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuses)
    create_file(tmp_path / "new", b"1")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "new", b"2")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("new", b"1")]


def test_a_read_only_folder_is_refused_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write anywhere
    with pytest.raises(ConfigurationError) as refused:
        exporting.export("outputs/lstm", tmp_path / "a.onnx")
    assert str(refused.value) == f"to='{tmp_path / 'a.onnx'}': nothing may be written in the folder {tmp_path}"


def test_an_evaluation_is_filmed_as_gif_or_mp4(tmp_path: Path) -> None:
    evaluation = evaluate("outputs/lstm", 1, animation=tmp_path / "a.mp4")
    assert evaluate("outputs/lstm", 1, animation=tmp_path / "a.gif") == evaluation
    frames = frames_of(tmp_path / "a.mp4")
    assert len(frames) == evaluation.lengths[0] + 1
    assert frames.std(axis=(1, 2)).min() > 1  # a cart and a pole on white
    with Image.open(tmp_path / "a.gif") as gif:  # in which a frame that repeats the last one is longer instead
        assert (gif.format, gif.size) == ("GIF", (600, 400))
    with pytest.raises(ConfigurationError) as refused:
        evaluate("outputs/lstm", 1, animation="a.avi")
    assert str(refused.value) == "animation='a.avi': only .gif and .mp4 are supported, and the folder must exist"


def test_a_film_without_pictures_is_refused_before_anything_is_played(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bbrl_exp.training.evaluation.Evaluator.run", None)
    assert main(["evaluate", "outputs/blind", "--animation", "blind.gif"]) == 2
    assert capsys.readouterr() == ("", f"error: {NO_PICTURES}\n")
    assert not Path("blind.gif").exists()


def test_a_recording_is_not_written_as_a_film(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "outputs/lstm", "--out", "a.mp4"]) == 2
    assert capsys.readouterr().err == (
        "error: out='a.mp4': a recording is no film; use evaluate outputs/lstm --animation a.mp4\n"
    )
