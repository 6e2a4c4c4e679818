"""Recordings come back from disk as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recordings import endless

from bbrl_exp.data.recording import load_recording, save_recording
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.workspace import Workspace


def test_a_recording_comes_back_with_its_dtypes_and_can_be_read_without_pickles(tmp_path: Path) -> None:
    workspace = Workspace()
    workspace.set_full("frame", torch.arange(24, dtype=torch.uint8).view(3, 2, 4))
    workspace.set_full("done", torch.tensor([[False, True]] * 3))
    save_recording(tmp_path / "it.pt", workspace, "Toy-v0")
    found = load_recording(tmp_path / "it.pt")
    assert list(found.keys()) == ["frame", "done"]
    for name in workspace.keys():  # noqa: SIM118
        assert torch.equal(found[name], workspace[name])
        assert found[name].dtype == workspace[name].dtype
    assert torch.load(tmp_path / "it.pt", weights_only=True)["env_id"] == "Toy-v0"
    assert [path.name for path in tmp_path.iterdir()] == ["it.pt"]


def test_where_the_disk_is_full_the_recording_before_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it.pt"
    save_recording(path, endless(4, 2), "Toy-v0")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(BbrlExpError, match=r"cannot write '.*it\.pt': No space left on device"):
        save_recording(path, endless(8, 2), "Toy-v0")
    assert load_recording(path).time_size() == 4
    assert [each.name for each in tmp_path.iterdir()] == ["it.pt"]


def test_only_the_variables_asked_for_are_kept(tmp_path: Path) -> None:
    workspace = Workspace()
    for name in ("action", "env/reward"):
        workspace.set_full(name, torch.zeros(2, 1))
    save_recording(tmp_path / "it.pt", workspace, "Toy-v0", ["action"])
    assert list(load_recording(tmp_path / "it.pt").keys()) == ["action"]


def test_a_recording_of_another_environment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.pt"
    save_recording(path, endless(4, 2), "CartPole-v1")
    assert load_recording(path, "CartPole-v1").time_size() == 4
    with pytest.raises(ConfigurationError, match=r"it\.pt': of CartPole-v1, and the environment is Acrobot-v1"):
        load_recording(path, "Acrobot-v1")


def test_any_other_file_is_refused_with_what_writes_recordings(tmp_path: Path) -> None:
    path = tmp_path / "it.pt"
    for contents in (b"{}", b"", b"root:x:0:0:root:/root:/bin/bash\n"):
        path.write_bytes(contents)
        with pytest.raises(
            ConfigurationError, match=r"^recording='.*it\.pt': no recording that bbrl-exp record wrote$"
        ):
            load_recording(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "no recording of format 1"),
        ({"variables": {}}, "no recording of format 1"),
        ({"variables": [torch.zeros(2, 1)]}, "no recording of format 1"),
        ({"variables": {"action": [0, 1]}}, r"'action': expected a torch\.Tensor \[T, B, …\], found list"),
        ({"variables": {3: torch.zeros(2, 1)}}, "a variable's name is a non-empty string, found 3"),
        ({"env_id": None}, "of None, and the environment is Toy-v0"),
    ],
)
def test_a_recording_with_a_wrong_part_is_refused_by_its_file(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "it.pt"
    save_recording(path, endless(4, 2), "Toy-v0")
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(ConfigurationError, match=rf"^recording='.*it\.pt': {message}"):
        load_recording(path, "Toy-v0")
