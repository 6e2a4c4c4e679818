"""The checkpoints of a run: when they come, which are kept, which one a run goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bbrl_exp.agents.tools import CopyTAgent
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.errors import BbrlExpError, ConfigurationError, DivergedError
from bbrl_exp.seeding import global_generator_states
from bbrl_exp.training.checkpoints import Checkpoints, newest_checkpoint
from bbrl_exp.training.resumption import RunningParts, buffer_names, check_finite, check_parameters
from bbrl_exp.workspace import Workspace


def checkpoints(folder: Path, every: int = 100, keep: int = 2, **buffers: ReplayBuffer) -> Checkpoints:
    return Checkpoints(folder, every, keep, buffers, steps_per_recording=30)


def written(folder: Path, *env_steps: int, keep: int = 2) -> None:
    for number in env_steps:
        checkpoints(folder, keep=keep).write(number, {"number": number}, {"env_steps": number})


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def filled(first: int, stop: int) -> ReplayBuffer:
    """A buffer of 20 transitions after the rows ``first`` … ``stop - 1`` of a recording without an end."""
    buffer = ReplayBuffer(20, ["env/env_obs"], ["action"], discount=0.5, n_steps=1, extras=())
    put(buffer, first, stop)
    return buffer


def put(buffer: ReplayBuffer, first: int, stop: int) -> None:
    time = torch.arange(first, stop)[:, None]
    workspace = Workspace()
    workspace.set_full("env/env_obs", time[:, :, None].float())
    workspace.set_full("action", time)
    workspace.set_full("env/reward", time.float())
    for name in ("terminated", "truncated", "done"):
        workspace.set_full(f"env/{name}", torch.zeros_like(time, dtype=torch.bool))
    workspace.set_full("env/initial_state", time == 0)
    buffer.put(workspace, 0)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("every", "due"),
    [
        (0, []),
        (1, [30, 60, 90, 120, 150, 180, 210]),
        (30, [30, 60, 90, 120, 150, 180, 210]),
        (100, [120, 210]),
        (70, [90, 150, 210]),
        (1000, []),
    ],
)
def test_one_is_due_at_the_first_cut_at_or_after_every_multiple_whatever_came_before(
    every: int, due: list[int], tmp_path: Path
) -> None:
    cuts = range(30, 211, 30)
    own = checkpoints(tmp_path, every)
    assert [env_steps for env_steps in cuts if own.is_due(env_steps)] == due
    own.write(45, {}, {})  # a run that was stopped, between two cuts
    assert [env_steps for env_steps in reversed(cuts) if own.is_due(env_steps)] == due[::-1]


def test_the_newest_are_kept_each_with_its_checksum(tmp_path: Path) -> None:
    written(tmp_path, 90, 120, 1000, keep=2)
    assert names(tmp_path) == {"step_120.pt", "step_120.pt.sha256", "step_1000.pt", "step_1000.pt.sha256"}
    found, complaints = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found.path.name, found.state, found.meta["env_steps"]) == ("step_1000.pt", {"number": 1000}, 1000)
    assert complaints == []


def test_none_is_written_where_there_shall_be_none(tmp_path: Path) -> None:
    checkpoints(tmp_path, every=0).write(100, {}, {})
    assert list(tmp_path.iterdir()) == []
    assert newest_checkpoint(tmp_path) == (None, [])


def test_files_of_other_names_are_no_checkpoints_and_stay(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    others = {"best.pt", "step_x.pt", "step_900.pt.part", "step_900.txt"}
    for name in others:
        (tmp_path / "checkpoints" / name).write_text("no checkpoint")
    assert newest_checkpoint(tmp_path) == (None, [])
    written(tmp_path, 10, 20, keep=1)
    assert names(tmp_path) == others | {"step_20.pt", "step_20.pt.sha256"}


def test_a_checksum_that_a_killed_run_left_without_its_checkpoint_is_removed(tmp_path: Path) -> None:
    written(tmp_path, 100, keep=1)
    for name in ("step_90.pt.sha256", "step_300.pt.sha256"):
        (tmp_path / "checkpoints" / name).write_text("left")
    written(tmp_path, 200, keep=1)
    assert names(tmp_path) == {"step_200.pt", "step_200.pt.sha256"}


def test_a_run_that_goes_on_before_a_damaged_one_does_not_count_it_among_those_it_keeps(tmp_path: Path) -> None:
    written(tmp_path, 100, 200, 300, keep=3)
    damage(tmp_path / "checkpoints" / "step_300.pt")
    written(tmp_path, 250, keep=2)
    assert {name for name in names(tmp_path) if name.endswith(".pt")} == {"step_200.pt", "step_250.pt", "step_300.pt"}
    found, complaints = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.path.name == "step_250.pt"
    assert [("step_300.pt" in complaint, "damaged" in complaint) for complaint in complaints] == [(True, True)]
    written(tmp_path, 300, keep=2)
    assert {name for name in names(tmp_path) if name.endswith(".pt")} == {"step_250.pt", "step_300.pt"}
    assert newest_checkpoint(tmp_path)[1] == []


def test_a_damaged_one_is_named_and_the_one_before_it_used_and_without_any_the_run_is_refused(tmp_path: Path) -> None:
    written(tmp_path, 100, 200, 300, keep=3)
    damage(tmp_path / "checkpoints" / "step_300.pt")
    (tmp_path / "checkpoints" / "step_200.pt.sha256").unlink()
    found, complaints = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.state == {"number": 100}
    assert len(complaints) == 2
    for number, complaint in zip((300, 200), complaints, strict=True):
        assert f"step_{number}.pt' is damaged" in complaint
    damage(tmp_path / "checkpoints" / "step_100.pt")
    message = r"no checkpoint in .* is whole: .*step_300.*step_200.*step_100"
    with pytest.raises(ConfigurationError, match=message) as error:
        newest_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_the_rows_of_a_buffer_lie_apart_and_come_back(tmp_path: Path) -> None:
    buffer = filled(0, 11)
    own = checkpoints(tmp_path, keep=1, replay=buffer)
    own.write(10, {"replay": buffer.state()}, {})
    put(buffer, 10, 21)
    own.write(20, {"replay": buffer.state()}, {})
    found, _ = newest_checkpoint(tmp_path)
    assert found is not None
    assert "segments" not in found.state
    restored = ReplayBuffer(20, ["env/env_obs"], ["action"], discount=0.5, n_steps=1, extras=())
    restored.load_state(found.state["replay"])
    checkpoints(tmp_path, keep=1, replay=restored).load_rows(found)
    kept = buffer.kept_rows
    rows = buffer.read_rows(kept.start, kept.stop), restored.read_rows(kept.start, kept.stop)
    assert rows[0].keys() == rows[1].keys()
    assert all(torch.equal(value, rows[1][name]) for name, value in rows[0].items())


def test_a_checkpoint_whose_rows_are_damaged_is_not_whole(tmp_path: Path) -> None:
    buffer = filled(0, 11)
    checkpoints(tmp_path, replay=buffer).write(10, {}, {})
    (rows,) = (tmp_path / "checkpoints" / "replay").glob("*.pt")
    damage(rows)
    with pytest.raises(ConfigurationError, match=rf"is whole: checkpoint '.*{rows.name}' is damaged"):
        newest_checkpoint(tmp_path)
    rows.unlink()
    with pytest.raises(ConfigurationError, match=rf"is whole: no checkpoint '.*{rows.name}'"):
        newest_checkpoint(tmp_path)


def test_a_disk_that_refuses_leaves_those_that_were_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 100)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(BbrlExpError, match=r"step_200\.pt': No space left on device"):
            written(tmp_path, 200)
    found, complaints = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found.path.name, complaints) == ("step_100.pt", [])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("state", "name"),
    [
        (lambda bad: {"graph": {"policy.weight": bad}}, "graph.policy.weight"),
        (lambda bad: {"learner": {"_extra_state": {"_optimizer": {"state": {0: {"exp_avg": bad}}}}}}, None),
        (lambda bad: {"a": [torch.zeros(2), (torch.ones(1), bad)]}, "a.1.1"),
    ],
)
def test_numbers_that_are_none_are_refused_by_the_name_of_their_tensor(
    state: Any, name: str | None, number: float
) -> None:
    name = name or "learner._extra_state._optimizer.state.0.exp_avg"
    tensor = torch.tensor([1.0, number])
    with pytest.raises(DivergedError, match=rf"^'{name}' contains NaN or infinity after 1,200 environment"):
        check_finite(state(tensor), 1200)


def test_finite_numbers_integers_and_what_is_no_tensor_pass() -> None:
    check_finite({"a": torch.tensor([3.4e38, -3.4e38]), "b": torch.tensor([2**62]), "c": float("nan"), "d": None}, 1)


def test_an_infinity_may_stand_in_a_buffer_and_a_nan_may_not() -> None:
    module = torch.nn.Module()
    module.register_buffer("bound", torch.tensor([-float("inf"), 1.0]))
    state = {"graph": module.state_dict()}
    names = buffer_names(module, None)
    check_finite(state, 1, names)
    with pytest.raises(DivergedError, match=r"'graph\.bound'"):
        check_finite(state, 1)
    module.bound.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"'graph\.bound'"):
        check_finite(state, 1, names)


def test_a_parameter_that_is_no_number_is_named_and_large_ones_pass() -> None:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.fill_(3e38)  # of which the sum is none in single precision
    check_parameters(module, 5)
    check_parameters(nn.Module(), 5)
    with torch.no_grad():
        module.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"^'bias' contains NaN or infinity after 5 environment steps"):
        check_parameters(module, 5)


def test_rows_are_loaded_to_where_the_graph_is_also_if_it_has_no_tensors() -> None:
    graph = CopyTAgent("a", "b").to("meta")
    workspace = Workspace()
    saved = {"a": torch.ones(1, 2)}
    state = {"graph": {}, "workspace": saved, "run": {}, "records": {}, "generators": global_generator_states()}
    RunningParts(graph, None, workspace, {}).load_state(state)
    assert workspace.get("a", 0).device.type == "meta"
