"""What sinks are given, and what becomes of one that fails: a warning, and a run that knows nothing of it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.tracking import background
from bbrl_exp.tracking.background import BackgroundSink, UnavailableSink, built_in_time
from bbrl_exp.tracking.console import PlainConsole
from bbrl_exp.tracking.positions import Positions
from bbrl_exp.tracking.settings import STANDARD_SINKS, TrackingSettings
from bbrl_exp.tracking.sink import LocalSink, RunFacts, Sink
from bbrl_exp.tracking.sinks import CsvSink, TensorBoardSink
from bbrl_exp.workspace import Workspace

from ..records.event_scalars import read_scalars
from .records import facts, tracker_for

NONE = TrackingSettings(sinks={})


class Notebook(Sink):
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()

    def start(self, facts: RunFacts) -> None:
        self.note_call("start", facts.resumed_at)

    def resume(self, position: Any) -> None:
        self.note_call("resume", position)

    def scalars(self, env_steps: Any, names: Any, values: Any) -> None:
        assert (env_steps.dtype, values.dtype) == (np.int64, np.float64)
        self.note_call("scalars", env_steps.tolist(), list(names), values.tolist())

    def episodes(self, env_steps: Any, environments: Any, returns: Any, lengths: Any) -> None:
        self.note_call("episodes", *(each.tolist() for each in (env_steps, environments, returns, lengths)))

    def histogram(self, env_steps: int, name: str, values: Any) -> None:
        self.note_call("histogram", env_steps, name, values.tolist())

    def text(self, name: str, markdown: str) -> None:
        self.note_call("text", name, markdown)

    def image(self, env_steps: int, name: str, data: bytes, size: tuple[int, int]) -> None:
        self.note_call("image", env_steps, name, data, size)

    def results(self, env_steps: int, values: Any) -> None:
        self.note_call("results", env_steps, values)

    def progress(self, env_steps: int, steps_per_second: float | None, return_mean: float | None) -> None:
        self.note_call("progress", env_steps, return_mean)

    def position(self) -> Any:
        return len(self.calls)

    def close(self, status: str) -> None:
        self.note_call("close", status)

    def note_call(self, *call: Any) -> None:
        self.threads.add(threading.get_ident())
        self.calls.append(call)

    def of(self, method: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == method]


class All(Notebook):
    wants_workspace = True


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("sink ")] == []


def chunk() -> Workspace:
    """Three rows of two environments; an episode of environment 1 ends in the last one, and y is a row shorter."""
    workspace = Workspace()
    workspace.set_full("x", torch.tensor([[0.0, 1.0], [100.0, 101.0], [200.0, 201.0]]))
    workspace.set_full("y", torch.tensor([[5.0, 5.0], [6.0, 6.0]]))
    workspace.set_full("env/done", torch.tensor([[False, False], [False, False], [False, True]]))
    workspace.set_full("env/timestep", torch.tensor([[0, 0], [1, 1], [2, 2]]))
    workspace.set_full("env/cumulated_reward", torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 7.5]]))
    return workspace


def tracked(tmp_path: Path, sink: Sink, settings: TrackingSettings = NONE, **told: Any) -> str:
    """What a run with this sink prints beside its progress."""
    stream = io.StringIO()
    console = PlainConsole(stream)
    tracker = tracker_for(tmp_path, settings, others={"mine": sink}, batch_size=2, console=console, **told)
    tracker.introduce({"plan": "# Plan"}, {"picture": (b"png", (3, 4))})
    tracker.scalars(2, {"losses/policy": 0.5})
    tracker.chunk(chunk(), 0, 0)
    tracker.evaluation(4, "eval", {"return_mean": 2.0}, [1.0, 3.0])
    tracker.positions()
    tracker.sync()
    tracker.complete({"return_mean": 7.5})
    tracker.close("completed")
    return stream.getvalue()


def test_a_sink_is_given_everything_once_in_one_other_thread(tmp_path: Path) -> None:
    sink = Notebook()
    assert tracked(tmp_path, sink) == ""
    assert sink.calls[0] == ("start", None)
    assert sink.calls[-1] == ("close", "completed")
    assert sink.of("text") == [("plan", "# Plan")]
    assert sink.of("image") == [(0, "picture", b"png", (3, 4))]
    assert sink.of("episodes") == [([4], [1], [7.5], [2])]
    assert sink.of("histogram") == [(4, "eval/return", [1.0, 3.0])]
    assert sink.of("results") == [(4, {"return_mean": 7.5})]
    assert sink.of("progress") == [(4, 7.5)]
    scalars = [call for call in sink.of("scalars") if call[1] != ["time/steps_per_second"]]
    assert scalars == [([2], ["losses/policy"], [[0.5]]), ([4], ["eval/return_mean"], [[2.0]])]
    assert len(sink.threads) == 1
    assert threading.get_ident() not in sink.threads


def test_a_sink_that_wants_the_workspace_has_nan_where_a_variable_has_no_row(tmp_path: Path) -> None:
    sink = All()
    tracked(tmp_path, sink, TrackingSettings(sinks={}, include=("x", "y")), learns=True)
    (env_steps, names, values) = next(call for call in sink.of("scalars") if "workspace/x/mean" in call[1])
    assert (env_steps, names) == ([0, 2, 4], ["workspace/x/mean", "workspace/y/mean"])
    np.testing.assert_array_equal(values, [[0.5, 5.0], [100.5, 6.0], [200.5, np.nan]])


@pytest.mark.parametrize(
    ("learns", "bands", "expected"),
    [(False, None, {"mean", "min", "max"}), (True, None, {"mean"}), (True, True, {"mean", "min", "max"})],
)
def test_minimum_and_maximum_are_left_out_for_learners_unless_asked_for(
    tmp_path: Path, learns: bool, bands: bool | None, expected: set[str]
) -> None:
    sink = All()
    settings = TrackingSettings(sinks={}, include=("x",), workspace_bands=bands)
    tracked(tmp_path, sink, settings, learns=learns)
    names = {name for call in sink.of("scalars") for name in call[1] if name.startswith("workspace/")}
    assert names == {f"workspace/x/{statistic}" for statistic in expected}


def test_the_arrays_of_a_sink_are_its_own(tmp_path: Path) -> None:
    sink, go = All(), threading.Event()
    sink.start = lambda facts: go.wait()  # type: ignore[assignment, method-assign]
    tracker = tracker_for(tmp_path, NONE, others={"mine": sink}, batch_size=2)
    workspace = Workspace()
    workspace.set_full("env/reward", torch.ones(2, 2))
    tracker.chunk(workspace, 0, 0)
    workspace["env/reward"].zero_()
    go.set()
    tracker.close("completed")
    assert sink.of("histogram") == [(2, "histograms/env/reward", [1.0] * 4)]


def test_a_sink_that_defines_nothing_has_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    tracker = tracker_for(tmp_path, NONE, others={"mine": Sink()})
    tracker.scalars(1, {"a": 1.0})
    assert threading.active_count() == before
    tracker.close("completed")


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), KeyboardInterrupt(), StopIteration()])
@pytest.mark.parametrize("method", ["start", "scalars", "episodes", "position", "close"])
def test_a_sink_that_raises_is_one_warning_and_takes_nothing_from_the_others(
    tmp_path: Path, method: str, error: BaseException
) -> None:
    sink = Notebook()

    def broken(*_: Any) -> None:
        raise error

    setattr(sink, method, broken)
    with_broken, alone = tmp_path / "broken", tmp_path / "alone"
    for folder in (with_broken, alone):
        folder.mkdir()
    said = tracked(with_broken, sink, TrackingSettings(console=False))
    tracked(alone, Sink(), TrackingSettings(console=False))
    what = {RuntimeError: "RuntimeError: boom", SystemExit: "SystemExit: 3"}.get(type(error), type(error).__name__)
    (warning,) = said.splitlines()
    assert warning.startswith(f"warning: sink 'mine' has failed: {what} (test_sinks.py:")
    assert warning.endswith(("); the run continues without it", "); its records may be incomplete"))
    rows = [
        [row for row in (folder / "metrics.csv").read_text().splitlines() if ",time/" not in row]
        for folder in (with_broken, alone)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 7


def test_a_dropped_sink_is_not_called_again(tmp_path: Path) -> None:
    class Fragile(Notebook):
        def scalars(self, env_steps: Any, names: Any, values: Any) -> None:
            raise RuntimeError

    sink = Fragile()
    tracked(tmp_path, sink)
    assert {call[0] for call in sink.calls} <= {"start", "text", "image"}


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        ("scalars", "has not answered within 0.1 s at a checkpoint; the run continues without it"),
        ("close", "has not finished 0.1 s after the end of the run; its records may be incomplete"),
    ],
)
def test_a_sink_that_hangs_is_one_warning(
    tmp_path: Path, method: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr("bbrl_exp.tracking.sink.Sink.end_seconds", 0.1)
    sink = Notebook()

    def stuck(*_: Any) -> None:
        while True:
            time.sleep(0.01)

    setattr(sink, method, stuck)
    assert tracked(tmp_path, sink) == f"warning: sink 'mine' {failure}\n"


@pytest.mark.parametrize(("limit", "most"), [("MOST_CALLS", 2), ("MOST_BYTES", 20)])
def test_a_sink_that_cannot_keep_up_is_dropped(limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, limit, most)
    go = threading.Event()

    class Slow(Sink):
        def text(self, name: str, markdown: str) -> None:
            go.wait()

    sink = BackgroundSink("mine", Slow())
    for _ in range(4):
        sink.call("text", "name", "markdown")
    warning = "warning: sink 'mine' cannot keep up, {} records wait for it; the run continues without it"
    assert sink.take_warning() in {warning.format(2), warning.format(3)}
    assert sink.take_warning() is None
    go.set()
    sink.end(time.monotonic() + 10)


@pytest.mark.parametrize("error", [None, RuntimeError()])
def test_a_dropped_sink_is_abandoned_even_while_it_is_busy(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MOST_CALLS", 2)
    abandoned = threading.Event()

    class Stuck(Sink):
        def text(self, name: str, markdown: str) -> None:
            abandoned.wait()

        def abandon(self) -> None:
            abandoned.set()
            if error is not None:
                raise error

    sink = BackgroundSink("mine", Stuck())
    for _ in range(4):
        sink.call("text", "name", "markdown")
    assert "cannot keep up" in str(sink.take_warning())
    assert abandoned.wait(10)
    sink.end(time.monotonic() + 10)
    assert sink.take_warning() is None


def test_a_position_that_a_checkpoint_cannot_hold_drops_the_sink(tmp_path: Path) -> None:
    class Lost(Sink):
        def position(self) -> Any:
            return tmp_path

    said = tracked(tmp_path, Lost())
    assert "TypeError: position() gave PosixPath(" in said
    assert "must be plain numbers, texts, lists and dictionaries (background.py:" in said


def test_a_resumed_sink_is_given_its_position_and_the_texts_only_if_it_is_new(tmp_path: Path) -> None:
    known, new = Notebook(), Notebook()
    continued = Positions({"known": {"line": 3}})
    tracker = tracker_for(tmp_path, NONE, others={"known": known, "new": new}, continued=continued, resumed_at=6)
    tracker.introduce({"plan": "# Plan"}, {})
    tracker.close("completed")
    assert known.calls == [("start", 6), ("resume", {"line": 3}), ("close", "completed")]
    assert new.calls == [("start", 6), ("resume", None), ("text", "plan", "# Plan"), ("close", "completed")]


def test_the_position_of_a_sink_is_that_after_everything_recorded_before(tmp_path: Path) -> None:
    sink = Notebook()
    tracker = tracker_for(tmp_path, NONE, others={"mine": sink})
    for step in range(50):
        tracker.scalars(step, {"a": 1.0})
    positions = tracker.positions()
    tracker.scalars(50, {"a": 1.0})
    tracker.close("completed")
    assert (positions.sinks, positions.run_id) == ({"mine": 51}, "0123456789abcdef")


def test_a_dropped_sink_keeps_its_last_position(tmp_path: Path) -> None:
    class Fragile(Notebook):
        def scalars(self, env_steps: Any, names: Any, values: Any) -> None:
            if values[0, 0] > 1:
                raise RuntimeError
            super().scalars(env_steps, names, values)

    for steps, expected in (([2.0], 7), ([1.0, 2.0], 3)):  # start, resume, scalars
        continued = Positions({"mine": 7})
        tracker = tracker_for(tmp_path, NONE, others={"mine": Fragile()}, continued=continued, resumed_at=6)
        for value in steps:
            tracker.scalars(8, {"a": value})
            found = tracker.positions().sinks["mine"]
        tracker.close("completed")
        assert found == expected


def test_a_sink_is_not_given_again_what_it_has(tmp_path: Path) -> None:
    class Remote(Notebook):
        def start(self, facts: RunFacts) -> None:
            self.recorded_until = 2

    sink = Remote()
    tracker = tracker_for(tmp_path, NONE, others={"mine": sink}, batch_size=2)
    for step in (1, 2, 3):
        tracker.scalars(step, {"a": float(step)})
        tracker.evaluation(step, "eval", {}, [1.0])
    tracker._tell("episodes", *(np.array([1, 2, 4]) for _ in range(4)))
    tracker.close("completed")
    assert sink.of("scalars") == [([3], ["a"], [[3.0]])]
    assert sink.of("histogram") == [(3, "eval/return", [1.0])]
    assert sink.of("episodes") == [([4], [4], [4], [4])]


def test_an_error_of_a_local_sink_is_the_run_s(tmp_path: Path) -> None:
    class Local(LocalSink):
        def scalars(self, env_steps: Any, names: Any, values: Any) -> None:
            raise BbrlExpError("disk full")

    with pytest.raises(BbrlExpError, match="disk full"):
        tracked(tmp_path, Local())


def test_a_sink_that_could_not_be_built_fails_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "ANSWER_SECONDS", 0.1)
    go = threading.Event()

    def slow() -> Sink:
        go.wait()
        return Sink()

    late = built_in_time(slow)
    go.set()
    assert "TimeoutError: not built within 0.1 s" in tracked(tmp_path, late)
    assert "ImportError: no tracker (" in tracked(tmp_path, UnavailableSink(raised(ImportError("no tracker"))))


def raised(error: Exception) -> Exception:
    try:
        raise error
    except ImportError as caught:
        return caught


def test_positions_of_version_0_1_0_are_those_of_its_files() -> None:
    old = {"csv": 70, "events": ("events.out.tfevents.1.2", 80), "seconds_at_last_speed": 1.5}
    positions = Positions.of(old)
    assert positions.sinks == {"csv": ("metrics.csv", 70), "tensorboard": ("events.out.tfevents.1.2", 80)}
    assert positions.seconds == 1.5
    assert positions.files == {"metrics.csv", "events.out.tfevents.1.2"}
    assert Positions.of(positions.saved()) == positions
    assert Positions.of({**old, "csv": None, "events": None}).sinks == {}


@pytest.mark.parametrize(
    ("given", "active"),
    [
        ({}, {"tensorboard", "csv", "console"}),
        ({"tensorboard": False}, {"csv", "console"}),
        ({"sinks": {"tensorboard": None, "csv": {"_target_": STANDARD_SINKS["csv"]}}}, {"csv"}),
        ({"sinks": {"mine": {"_target_": "a.B"}}, "csv": True}, {"csv", "mine"}),
        ({"sinks": {"csv": None}, "csv": True}, set()),
        ({"sinks": {"workspace": {"_target_": "a.B"}}, "workspace": False}, {"workspace"}),
        ({"enabled": False}, set()),
    ],
)
def test_sinks_are_switched_off_by_null_and_by_the_keys_of_version_0_1_0(
    given: dict[str, Any], active: set[str]
) -> None:
    assert set(TrackingSettings(**given).active_sinks) == active


def test_a_measured_run_keeps_its_sinks_on_this_machine() -> None:
    settings = TrackingSettings(sinks={"mine": {"_target_": "a.B"}}, csv=False).to_measure()
    assert set(settings.active_sinks) == {"csv"}
    assert set(TrackingSettings().to_measure().active_sinks) == {"csv", "tensorboard"}


def test_a_series_without_a_value_has_no_point_in_either_file(tmp_path: Path) -> None:
    values = np.array([[1.0, np.nan], [2.0, 20.0], [np.nan, 30.0]])
    for sink in (TensorBoardSink(), CsvSink()):
        sink.start(facts(tmp_path))
        sink.scalars(np.array([4, 8, 12]), ("a", "b"), values)
        sink.close("completed")
    (events,) = tmp_path.glob("events*")
    series = read_scalars(events).series
    assert {name: (series[name].steps.tolist(), series[name].values.tolist()) for name in ("a", "b")} == {
        "a": ([4, 8], [1.0, 2.0]),
        "b": ([8, 12], [20.0, 30.0]),
    }
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == [
        "4,a,1.0,",
        "8,a,2.0,",
        "8,b,20.0,",
        "12,b,30.0,",
    ]


def test_a_step_without_any_value_has_no_event(tmp_path: Path) -> None:
    sink = TensorBoardSink()
    sink.start(facts(tmp_path))
    _, length = sink.position()
    sink.scalars(np.array([4]), ("a",), np.array([[np.nan]]))
    assert sink.position()[1] == length
    sink.close("completed")


def test_the_learning_curves_are_the_first_group_and_the_final_points_the_first_metrics(tmp_path: Path) -> None:
    tracker = tracker_for(tmp_path, TrackingSettings(csv=False), batch_size=2)
    tracker.chunk(chunk(), 0, 0)
    tracker.evaluation(4, "eval", {"return_mean": 2.0, "success_rate": 0.5}, [1.0, 3.0])
    tracker.complete({"return_mean": 7.5})
    tracker.close("completed")
    (events,) = tmp_path.glob("events*")
    found = {name: each.values.tolist() for name, each in read_scalars(events).series.items()}
    curves = {name: values for name, values in found.items() if name.startswith("1_learning_curves/")}
    assert curves == {
        "1_learning_curves/eval_return_mean": found["eval/return_mean"],
        "1_learning_curves/eval_success_rate": [0.5],
        "1_learning_curves/train_return": [7.5],
    }
    assert sorted(found)[:2] == ["(final)/failed", "(final)/return_mean"]
