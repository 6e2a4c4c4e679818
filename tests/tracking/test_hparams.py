"""The HPARAMS page as TensorBoard's own server shows it, from files that trackers wrote."""

import contextlib
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tb_logging

from bbrl_exp.records.event_file import EventFile
from bbrl_exp.records.layout import EVENTS
from bbrl_exp.tracking.hparams import HparamsEntry, mark_failed
from bbrl_exp.tracking.settings import TrackingSettings

from ..records.event_scalars import read_scalars
from .hparams_page import hparams_page
from .records import tracker_for


@contextlib.contextmanager
def tracker_of(folder: Path, entry: HparamsEntry, continued=None, **settings):
    folder.mkdir(exist_ok=True)
    told = {"hyperparameters": entry.parameters, "setting": entry.setting}
    tracker = tracker_for(folder, TrackingSettings(csv=False, **settings), continued=continued, **told)
    try:
        yield tracker
    finally:
        tracker.close("interrupted")


def run(folder: Path, entry: HparamsEntry, metrics=None, losses=()):
    with tracker_of(folder, entry) as tracker:
        for step, loss in enumerate(losses):
            tracker.scalars(step, {"losses/policy": loss})
        if metrics is not None:
            tracker.complete(metrics)


def event_file(folder: Path) -> Path:
    (path,) = folder.glob(f"{EVENTS}*")
    return path


def test_a_run_is_on_the_page_from_its_start_on_with_typed_values(tmp_path):
    run(tmp_path / "mine", HparamsEntry({"agent": "ppo", "rate": 1e-3, "batch_size": 8, "clip": True}, "setting"))
    row = hparams_page(tmp_path).row
    assert row.name == "setting"
    assert row.parameters == {"agent": "ppo", "rate": 1e-3, "batch_size": 8, "clip": True}
    assert row.metrics == {}
    assert row.trials == {"mine": "STATUS_UNKNOWN"}


def test_the_reader_of_tensorboard_has_nothing_to_complain_of(tmp_path, monkeypatch):
    run(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "setting"), {"return_mean": 1.0}, losses=[1.0, 2.0])
    complaints = []
    for level in ("warning", "error"):
        monkeypatch.setattr(tb_logging.get_logger(), level, lambda *said: complaints.append(said))
    reader = EventAccumulator(str(tmp_path / "mine"))
    reader.Reload()
    assert [event.value for event in reader.Scalars("losses/policy")] == [1.0, 2.0]
    assert complaints == []


def test_the_seeds_of_a_setting_are_one_row_with_the_mean_of_their_final_metrics(tmp_path):
    for name, setting, value in (("a0", "a", 1.0), ("a1", "a", 4.0), ("b0", "b", 10.0)):
        run(
            tmp_path / name, HparamsEntry({"agent": setting}, setting), {"return_mean": value, "eval_return_mean": None}
        )
    rows = {row.name: row for row in hparams_page(tmp_path).rows}
    assert {name: row.metrics for name, row in rows.items()} == {
        "a": {"(final)/return_mean": 2.5, "(final)/failed": 0.0},
        "b": {"(final)/return_mean": 10.0, "(final)/failed": 0.0},
    }
    assert rows["a"].trials == {"a0": "STATUS_SUCCESS", "a1": "STATUS_SUCCESS"}


def test_runs_that_were_asked_different_things_have_all_their_columns_whichever_is_read_first(tmp_path):
    run(tmp_path / "1", HparamsEntry({"agent": "ppo", "clip": 0.2}, "1"), {"return_mean": 1.0})
    run(tmp_path / "2", HparamsEntry({"agent": "dqn", "epsilon": 0.1}, "2"), {"best_eval_return_mean": 2.0})
    page = hparams_page(tmp_path)
    assert sorted(page.columns) == ["agent", "clip", "epsilon"]
    assert page.columns[0] == "agent"  # what differs comes first
    assert page.metrics == ["(final)/best_eval_return_mean", "(final)/failed", "(final)/return_mean"]


def test_the_final_metrics_are_the_first_that_the_page_offers(tmp_path):
    run(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "a"), {"return_mean": 1.0}, losses=[3.0])
    assert hparams_page(tmp_path).metrics == ["(final)/failed", "(final)/return_mean", "losses/policy"]


def test_a_metric_that_is_no_number_is_left_out_and_does_not_spoil_the_mean(tmp_path):
    run(tmp_path / "1", HparamsEntry({"agent": "ppo"}, "a"), {"return_mean": float("nan")})
    run(tmp_path / "2", HparamsEntry({"agent": "ppo"}, "a"), {"return_mean": 2.0})
    assert hparams_page(tmp_path).row.metrics == {"(final)/return_mean": 2.0, "(final)/failed": 0.0}


@pytest.mark.parametrize("cut", [0, 1, 5, 17])
def test_a_killed_run_is_marked_behind_its_last_whole_record(tmp_path, cut):
    run(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "a"), losses=[3.0, 2.0])
    path = event_file(tmp_path / "mine")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    mark_failed(tmp_path / "mine", 7, None)
    row = hparams_page(tmp_path).row
    assert row.trials == {"mine": "STATUS_FAILURE"}
    assert row.metrics["(final)/failed"] == 1.0
    found = read_scalars(event_file(tmp_path / "mine"))
    assert found.damage is None
    assert found.series["losses/policy"].values.tolist() == ([3.0, 2.0] if cut == 0 else [3.0])
    assert found.series["(final)/failed"].steps.tolist() == [7]


def test_the_metric_failed_is_the_fraction_of_a_settings_runs_that_failed(tmp_path):
    for name in ("1", "2", "3", "4"):
        run(tmp_path / name, HparamsEntry({"agent": "ppo"}, "a"), {"return_mean": 2.0} if name != "3" else None)
    mark_failed(tmp_path / "3", 0, None)
    row = hparams_page(tmp_path).row
    assert row.metrics == {"(final)/return_mean": 2.0, "(final)/failed": 0.25}
    assert row.trials["3"] == "STATUS_FAILURE"


def test_a_run_that_told_its_end_is_left_as_it_is(tmp_path):
    run(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "a"), {"return_mean": 1.0})
    before = event_file(tmp_path / "mine").read_bytes()
    mark_failed(tmp_path / "mine", 0, HparamsEntry({"agent": "ppo"}, "a"))
    assert event_file(tmp_path / "mine").read_bytes() == before


def test_marking_twice_is_marking_once(tmp_path):
    run(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "a"))
    mark_failed(tmp_path / "mine", 0, None)
    before = event_file(tmp_path / "mine").read_bytes()
    mark_failed(tmp_path / "mine", 0, None)
    assert event_file(tmp_path / "mine").read_bytes() == before


def test_a_run_that_could_not_start_has_a_small_file_of_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    mark_failed(tmp_path / "mine", 0, HparamsEntry({"agent": "randm"}, "a"))
    row = hparams_page(tmp_path).row
    assert (row.parameters, row.trials) == ({"agent": "randm"}, {"mine": "STATUS_FAILURE"})
    assert event_file(tmp_path / "mine").stat().st_size < 3000


@pytest.mark.parametrize("size", [0, 10, 40])
def test_a_run_that_was_killed_before_it_was_on_the_page_is_put_there(tmp_path, size):
    (tmp_path / "mine").mkdir()
    EventFile(tmp_path / "mine").close()
    path = event_file(tmp_path / "mine")
    path.write_bytes(path.read_bytes()[:size])
    mark_failed(tmp_path / "mine", 0, HparamsEntry({"agent": "ppo"}, "a"))
    assert hparams_page(tmp_path).row.trials == {"mine": "STATUS_FAILURE"}
    assert read_scalars(event_file(tmp_path / "mine")).damage is None


def test_a_run_that_writes_nothing_for_tensorboard_gets_no_file(tmp_path):
    mark_failed(tmp_path, 0, None)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_goes_on_is_on_the_page_once_and_takes_its_mark_back(tmp_path):
    entry = HparamsEntry({"agent": "ppo"}, "a")
    with tracker_of(tmp_path / "mine", entry) as tracker:
        positions = tracker.positions()
        tracker.scalars(1, {"losses/policy": 3.0})
    mark_failed(tmp_path / "mine", 1, None)
    with tracker_of(tmp_path / "mine", entry, positions) as tracker:
        tracker.complete({"return_mean": 5.0})
    row = hparams_page(tmp_path).row
    assert row.trials == {"mine": "STATUS_SUCCESS"}
    assert row.metrics == {"(final)/return_mean": 5.0, "(final)/failed": 0.0}
    assert event_file(tmp_path / "mine").read_bytes().count(b"session_start_info") == 1


def begun(folder: Path, entry: HparamsEntry):
    """A run that stopped, and where its files stood."""
    with tracker_of(folder, entry) as tracker:
        tracker.scalars(1, {"losses/policy": 3.0})
        return tracker.positions()


def gone_on(folder: Path, entry: HparamsEntry, positions) -> None:
    with tracker_of(folder, entry, positions) as tracker:
        tracker.complete({"return_mean": 5.0})


def test_what_a_resumed_run_was_asked_at_its_start_stays_on_the_page(tmp_path):
    positions = begun(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "a"))
    gone_on(tmp_path / "mine", HparamsEntry({"agent": "dqn"}, "b"), positions)
    row = hparams_page(tmp_path).row
    assert (row.name, row.parameters, row.trials) == ("a", {"agent": "ppo"}, {"mine": "STATUS_SUCCESS"})
    found = read_scalars(event_file(tmp_path / "mine"))
    assert found.damage is None
    assert found.series["losses/policy"].values.tolist() == [3.0]


def test_a_run_that_is_tracked_only_from_where_it_goes_on_is_on_the_page(tmp_path):
    with tracker_of(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "a"), tensorboard=False) as tracker:
        positions = tracker.positions()
    with tracker_of(tmp_path / "mine", HparamsEntry({"agent": "ppo"}, "a"), positions):
        pass
    assert hparams_page(tmp_path).row.trials == {"mine": "STATUS_UNKNOWN"}
