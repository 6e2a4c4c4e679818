"""Policies as safetensors: the same actions, without unpickling, and with the checks of a run's configuration."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.commands.main import main
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.export.export import export
from bbrl_exp.records.files import write_json
from bbrl_exp.runs.evaluator import build_evaluator
from bbrl_exp.runs.policy import evaluate, load_policy
from bbrl_exp.runs.run import run
from bbrl_exp.training.checkpoint import read_checkpoint, write_checkpoint
from bbrl_exp.training.evaluation import Evaluator
from bbrl_exp.training.policy_file import PolicyFile

safetensors = pytest.importorskip("safetensors.torch")

BIAS = "agent.agents.3.memory.cell.bias"
SHORT = ["tracking=none", "total_steps=256", "batch_size=2", "eval.every=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs and their policies as files."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run([*SHORT, "name=gru", "agent=recurrent_ppo", "env=masked_pendulum", "eval.final_episodes=3", "eval.seed=7"])
        run([*SHORT, "name=cem", "agent=cem", "env=cartpole", "eval.final_episodes=0"])
        export("outputs/gru", "gru.safetensors")
        export("outputs/cem", "cem.safetensors", episodes=2, seed=5)
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(("name", "size"), [("gru", 2), ("cem", 4)])
def test_a_file_acts_as_the_run_does(name: str, size: int) -> None:
    of_file, of_run = load_policy(f"{name}.safetensors"), load_policy(f"outputs/{name}")
    states: list[Any] = [None, None]
    for observation in np.random.default_rng(0).normal(size=(50, 3, size)).astype(np.float32):
        actions = []
        for i, policy in enumerate((of_file, of_run)):
            action, states[i] = policy.act(observation, states[i])
            actions.append(action)
        np.testing.assert_array_equal(*actions)
    assert evaluate(f"{name}.safetensors", episodes=2) == evaluate(f"outputs/{name}", episodes=2)


def test_a_file_holds_every_tensor_of_the_policy_its_spaces_and_the_evidence() -> None:
    summary = json.loads(Path("outputs/gru/summary.json").read_text(encoding="utf-8"))
    kept = torch.load("outputs/gru/checkpoints/last.pt", weights_only=True)["state"]["graph"]
    file = PolicyFile.read(Path("gru.safetensors"))
    assert file.state.keys() == kept.keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in file.state.items())
    card = file.card
    assert card["run"] == {
        **{name: summary[name] for name in ("agent", "env", "env_id", "seed", "batch_size", "status")},
        **{name: summary[name] for name in ("git_commit", "config_hash", "versions")},
        "overrides": [text for text in summary["overrides"] if text != "tracking=none"],
        "policy": "last",
        "env_steps": 256,
    }
    assert card["evaluation"]["returns"] == summary["eval_returns"]
    assert (card["evaluation"]["seed"], card["evaluation"]["actions"]) == (7, "mode")
    assert card["memory"] == {"policy/next_state": {"dtype": "float32", "shape": [64]}}
    observation = {"name": "env/env_obs", "kind": "box", "shape": [2], "dtype": "float32", "low": -1.0, "high": 1.0}
    action = {"name": "action", "kind": "box", "shape": [1], "dtype": "float32", "low": -2.0, "high": 2.0}
    assert card["spaces"]["observations"] == [observation]
    assert card["spaces"]["actions"] == [action]
    assert card["config"]["memory"]["inputs"] == ["observation"]
    assert card["config"]["tracking"] == {"sinks": {}}
    assert len(PolicyFile.read(Path("cem.safetensors")).card["evaluation"]["returns"]) == 2


def test_a_run_that_goes_on_meanwhile_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = tmp_path / "running"
    shutil.copytree("outputs/gru", running)
    summary = json.loads((running / "summary.json").read_text(encoding="utf-8"))
    write_json(running / "summary.json", {**summary, "status": "running"})

    def goes_on(*arguments: Any, **options: Any) -> Evaluator:
        later = read_checkpoint(running / "checkpoints/last.pt")
        later["state"]["graph"][BIAS] += 1
        write_checkpoint(running / "checkpoints/last.pt", later["state"], {**later["meta"], "env_steps": 512})
        write_json(running / "summary.json", {**summary, "env_steps": 512})
        return build_evaluator(*arguments, **options)

    monkeypatch.setattr("bbrl_exp.export.export.build_evaluator", goes_on)
    card = export(running, tmp_path / "now.safetensors", episodes=2).card
    assert (card["run"]["env_steps"], card["run"]["status"]) == (256, "running")
    state = PolicyFile.read(tmp_path / "now.safetensors").state
    assert torch.equal(state[BIAS], PolicyFile.read(Path("gru.safetensors")).state[BIAS])
    assert read_checkpoint(running / "checkpoints/last.pt")["meta"]["env_steps"] == 512


def changed(folder: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> str:
    """The file of the first policy after a change of its card and its tensors."""
    with safetensors.safe_open("gru.safetensors", "pt") as file:
        card = json.loads(file.metadata()["bbrl_exp"])
    tensors = safetensors.load_file("gru.safetensors")
    change(card, tensors)
    safetensors.save_file(tensors, folder / "changed.safetensors", {"bbrl_exp": json.dumps(card)})
    return str(folder / "changed.safetensors")


def calls_another_class(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    card["config"]["graph"]["agent"]["members"]["policy"]["_target_"] = "subprocess.Popen"


def has_another_size(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors[BIAS] = tensors[BIAS][:-1].clone()


def lacks_a_tensor(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del tensors[BIAS]


def has_no_configuration(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del card["config"]


def is_of_another_format(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    card["format"] = 2


def replaces_a_tensor(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    card["plain_state"] = {BIAS: [1]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            calls_another_class,
            "{}: key 'graph.agent.members.policy._target_' = 'subprocess.Popen': not allowed; ",
        ),
        (
            has_another_size,
            "{}: its parameters do not fit: 'agent.agents.3.memory.cell.bias' is [191] there and [192] here",
        ),
        (
            lacks_a_tensor,
            "{}: its parameters do not fit: 'agent.agents.3.memory.cell.bias' is missing there (1 differ)",
        ),
        (has_no_configuration, "'{}' holds no policy of bbrl_exp, only tensors; export makes such files"),
        (replaces_a_tensor, "'{}' is damaged: its plain state does not fit"),
        (is_of_another_format, "'{}' has the format 2; this version reads 1"),
    ],
)
def test_a_file_that_was_changed_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(ConfigurationError) as refused:
        load_policy(path)
    assert str(refused.value).startswith(said.format(path))


def test_what_is_no_policy_file_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(Path("gru.safetensors").read_bytes()[:-1])
    for path, said in (
        (damaged, f"'{damaged}' cannot be read: SafetensorError: "),
        (tmp_path / "none.safetensors", f"'{tmp_path / 'none.safetensors'}' cannot be read: FileNotFoundError: "),
    ):
        assert main(["evaluate", str(path)]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert printed.err.startswith(f"error: {said}")
    with pytest.raises(ConfigurationError) as refused:
        load_policy("gru.safetensors", which="best")
    assert str(refused.value) == "which='best': 'gru.safetensors' holds one policy; leave it out"


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("safetensors", "safetensors.torch", "onnxruntime", "imageio_ffmpeg"):
        monkeypatch.setitem(sys.modules, name, None)
    missing = "which is not installed: pip install"
    for call, said in (
        (lambda: load_policy("gru.safetensors"), f"'gru.safetensors' needs the extra 'export', {missing}"),
        (lambda: export("outputs/gru", "a.safetensors"), f"'a.safetensors' needs the extra 'export', {missing}"),
        (lambda: export("outputs/gru", "hub"), f"'hub' needs the extra 'export', {missing}"),
        (lambda: export("outputs/gru", "a.onnx"), f"a file .onnx needs the extra 'export', {missing}"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            call()
        assert str(refused.value) == f'{said} "bbrl_exp[export]"'
    with pytest.raises(ConfigurationError) as refused:
        evaluate("outputs/gru", 1, animation="a.mp4")
    assert str(refused.value) == f"animation='a.mp4' needs the extra 'video', {missing} \"bbrl_exp[video]\""
