"""A run as the loop records it, read back with TensorBoard's own reader and as CSV."""

import csv
import io
import os
import resource
import signal

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.tracking.console import PlainConsole
from bbrl_exp.tracking.positions import Positions
from bbrl_exp.tracking.settings import TrackingSettings
from bbrl_exp.workspace import Workspace

from .records import tracker_for

B = 4
OF_A_RUN = {"batch_size": B, "time_steps": 20, "discrete_actions": {"action": (0, 2)}}


class Clock:
    """One second passes with every look at it."""

    seconds = 0.0

    def __call__(self):
        self.seconds += 1.0
        return self.seconds


def recording(n_rows, batch_size=B):
    """Rows of a whole run: x = 100·t + b, and episodes of 3 + b rows in environment b."""
    time = torch.arange(n_rows)[:, None]
    environment = torch.arange(batch_size)[None]
    timestep = time % (3 + environment)
    done = timestep == 2 + environment
    return {
        "x": (100 * time + environment).float(),
        "env/env_obs": torch.stack([time + environment, time - environment], dim=-1).float(),
        "env/done": done,
        "env/timestep": timestep,
        "env/cumulated_reward": timestep * 0.5,
        "env/reward": torch.ones(n_rows, batch_size),
        "action": (time + environment) % 2,
    }


def run(tracker, rows, chunk, done=0):
    """What the loop does: the first chunk has a row more, the others begin with the last row of the one before."""
    n_steps = len(rows["x"]) - 1
    for first in range(done, n_steps, chunk):
        workspace = Workspace()
        for name, values in rows.items():
            workspace.set_full(name, values[first : first + chunk + 1])
        tracker.chunk(workspace, min(first, 1), first + min(first, 1))


def tracked(folder, n_steps=20, chunk=5, batch_size=B, console=None, **settings):
    tracker = tracker_for(
        folder,
        TrackingSettings(**settings),
        batch_size=batch_size,
        time_steps=n_steps,
        discrete_actions={"action": (0, 2)},
        console=console,
        clock=Clock(),
    )
    run(tracker, recording(n_steps + 1, batch_size), chunk)
    return tracker


def read(folder):
    return EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "tensors", "histograms"), 0)).Reload()


def points(accumulator, tag):
    return [(point.step, point.value) for point in accumulator.Scalars(tag)]


def csv_rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("chunk", [1, 3, 5, 20])
def test_every_time_step_has_its_point_at_its_environment_step_whatever_the_chunks(tmp_path, chunk):
    tracked(tmp_path, chunk=chunk).close("completed")
    events = read(tmp_path)
    assert points(events, "workspace/x/mean") == [(t * B, 100 * t + 1.5) for t in range(21)]
    assert points(events, "workspace/x/max") == [(t * B, 100 * t + 3) for t in range(21)]
    assert points(events, "workspace/env/env_obs/1/min") == [(t * B, t - 3) for t in range(21)]
    assert points(events, "workspace/action/0/fraction") == [(t * B, 0.5) for t in range(21)]


@pytest.mark.parametrize("chunk", [1, 4, 20])
def test_every_episode_is_in_both_files_also_when_several_end_in_one_step(tmp_path, chunk):
    tracked(tmp_path, chunk=chunk).close("completed")
    expected = [(t, b) for t in range(21) for b in range(B) if t % (3 + b) == 2 + b]
    assert len({t for t, _ in expected}) < len(expected)
    events = read(tmp_path)
    assert points(events, "train/length") == [(t * B, 2 + b) for t, b in expected]
    assert points(events, "train/return") == [(t * B, (2 + b) * 0.5) for t, b in expected]
    returns = [row for row in csv_rows(tmp_path) if row["name"] == "train/return"]
    found = [(int(row["env_steps"]), int(row["environment"]), float(row["value"])) for row in returns]
    assert found == [(t * B, b, (2 + b) * 0.5) for t, b in expected]


def test_a_long_run_keeps_its_first_steps_and_thins_the_rest_as_it_says(tmp_path):
    stream = io.StringIO()
    tracked(
        tmp_path,
        n_steps=100,
        chunk=7,
        console=PlainConsole(stream),
        workspace_full_steps=20,
        workspace_thinned_steps=10,
    ).close("completed")
    kept = [*range(20), *range(20, 101, 8)]
    found = [step // B for step, _ in points(read(tmp_path), "workspace/x/mean")]
    assert found == kept
    assert "at each of the first 20 time steps, one in 8 after that, about " in stream.getvalue()
    assert stream.getvalue().count("TensorBoard:") == 1


def test_the_stated_size_is_that_of_the_file(tmp_path):
    stream = io.StringIO()
    tracked(tmp_path, n_steps=3000, chunk=100, console=PlainConsole(stream), histogram_every=0).close("completed")
    size, unit = stream.getvalue().split("about ")[1].split()[:2]
    (events,) = tmp_path.glob("events*")
    assert float(size) * {"kB": 1e3, "MB": 1e6}[unit] == pytest.approx(events.stat().st_size, rel=0.2)


def test_patterns_leave_variables_out_of_the_curves_but_not_out_of_the_episodes(tmp_path):
    tracked(tmp_path, include=["x", "env/*"], exclude=["env/done"]).close("completed")
    tags = read(tmp_path).Tags()["scalars"]
    assert {tag.rpartition("/")[0] for tag in tags if tag.startswith("workspace/")} == {
        "workspace/x",
        "workspace/env/env_obs/0",
        "workspace/env/env_obs/1",
        "workspace/env/timestep",
        "workspace/env/cumulated_reward",
        "workspace/env/reward",
    }
    assert "train/return" in tags


def test_a_variable_that_ends_earlier_has_points_for_the_rows_that_it_has(tmp_path):
    tracker = tracker_for(tmp_path, TrackingSettings(), batch_size=1, time_steps=4)
    workspace = Workspace()
    workspace.set_full("long", torch.arange(5.0)[:, None])
    workspace.set_full("short", torch.arange(4.0)[:, None])
    tracker.chunk(workspace, 0, 0)
    tracker.close("completed")
    events = read(tmp_path)
    assert points(events, "workspace/long/mean") == [(t, t) for t in range(5)]
    assert points(events, "workspace/short/mean") == [(t, t) for t in range(4)]


def test_histograms_of_observations_actions_and_rewards_come_as_often_as_asked(tmp_path):
    tracked(tmp_path, chunk=5, histogram_every=40).close("completed")
    events = read(tmp_path)
    tags = {"histograms/env/env_obs/0", "histograms/env/env_obs/1", "histograms/env/reward", "histograms/action"}
    assert set(events.Tags()["histograms"]) == tags
    histograms = events.Histograms("histograms/action")
    assert [histogram.step for histogram in histograms] == [20, 60]
    value = histograms[1].histogram_value
    assert (value.num, value.sum, value.bucket) == (20, 10, [10, 10])
    assert value.bucket_limit == [0.5, 1.5]


def test_a_histogram_leaves_out_what_is_not_finite(tmp_path):
    tracker = tracker_for(tmp_path, TrackingSettings(), batch_size=2, time_steps=4)
    workspace = Workspace()
    workspace.set_full("env/reward", torch.tensor([[0.0, torch.nan], [torch.inf, 3.0]]))
    workspace.set_full("action", torch.full((2, 2), torch.nan))
    workspace.set_full("env/env_obs", torch.full((2, 2), 0.1))
    tracker.chunk(workspace, 0, 0)
    tracker.close("completed")
    events = read(tmp_path)
    assert set(events.Tags()["histograms"]) == {"histograms/env/reward", "histograms/env/env_obs"}
    value = events.Histograms("histograms/env/reward")[0].histogram_value
    assert (value.num, value.sum, value.min, value.max, sum(value.bucket)) == (2, 3, 0, 3, 2)
    assert sum(events.Histograms("histograms/env/env_obs")[0].histogram_value.bucket) == 4


def test_speed_is_measured_on_the_clock_and_stands_under_time_in_both_files(tmp_path):
    tracked(tmp_path, chunk=5, speed_every=20).close("completed")
    speeds = points(read(tmp_path), "time/steps_per_second")
    assert speeds == [(20, 20.0), (40, 20.0), (60, 20.0), (80, 20.0)]
    rows = [row for row in csv_rows(tmp_path) if row["name"] == "time/steps_per_second"]
    assert [tuple(row.values()) for row in rows] == [
        (str(n), "time/steps_per_second", "20.0", "") for n in (20, 40, 60, 80)
    ]


def test_a_run_shorter_than_the_interval_has_its_speed_at_the_end(tmp_path):
    tracked(tmp_path).close("completed")
    assert [step for step, _ in points(read(tmp_path), "time/steps_per_second")] == [80]


def test_single_numbers_are_in_both_files_and_exact_in_the_csv(tmp_path):
    tracker = tracked(tmp_path)
    tracker.scalars(80, {"eval/return_mean": np.float32(0.1), "losses/critic": 1 / 3, "losses/huge": 1e300})
    tracker.scalars(80, {})
    tracker.close("completed")
    assert points(read(tmp_path), "losses/critic") == [(80, np.float32(1 / 3))]
    assert points(read(tmp_path), "losses/huge") == [(80, np.inf)]
    rows = {row["name"]: row for row in csv_rows(tmp_path)}
    assert float(rows["losses/critic"]["value"]) == 1 / 3
    assert float(rows["eval/return_mean"]["value"]) == float(np.float32(0.1))


def test_the_configuration_is_a_text_as_a_block_of_yaml(tmp_path):
    tracker = tracked(tmp_path)
    tracker.introduce({"config": "```yaml\nseed: 0\nenv:\n  id: CartPole-v1\n```"}, {})
    tracker.close("completed")
    (text,) = read(tmp_path).Tensors("config")
    assert text.tensor_proto.string_val[0].decode() == "```yaml\nseed: 0\nenv:\n  id: CartPole-v1\n```"


def test_the_laid_out_page_has_a_band_for_each_number_and_one_chart_for_the_values_of_an_action(tmp_path):
    tracked(tmp_path).close("completed")
    (config,) = read(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(config.tensor_proto.string_val[0])
    charts = {chart.title: chart for category in layout.category for chart in category.chart}
    (series,) = charts["x"].margin.series
    assert (series.value, series.lower, series.upper) == ("workspace/x/mean", "workspace/x/min", "workspace/x/max")
    assert len(charts["action: fractions"].multiline.tag) == 2
    assert "train/return" in charts


def test_tracking_that_is_off_has_the_same_methods_and_makes_no_file(tmp_path, capsys):
    tracker = tracked(tmp_path / "absent", enabled=False, console=None)
    tracker.scalars(1, {"a": 1.0})
    tracker.introduce({"a": "b"}, {})
    tracker.complete({"b": 2.0})
    tracker.close("completed")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("off", "left"),
    [("tensorboard", ["metrics.csv"]), ("csv", ["events"])],
)
def test_each_file_can_be_left_out(tmp_path, off, left):
    tracked(tmp_path, **{off: False}).close("completed")
    assert [path.name.partition(".out")[0] for path in tmp_path.iterdir()] == left


def test_without_workspace_curves_there_are_episodes_and_speed(tmp_path):
    tracked(tmp_path, workspace=False, histogram_every=0).close("completed")
    assert set(read(tmp_path).Tags()["scalars"]) == {
        "1_learning_curves/train_return",
        "train/return",
        "train/length",
        "time/steps_per_second",
    }


def test_progress_shows_the_mean_return_of_the_last_episodes(tmp_path):
    stream = io.StringIO()
    tracked(tmp_path, console=PlainConsole(stream)).close("completed")
    assert stream.getvalue().splitlines()[-1].startswith("80 of 80 steps (100 %)")
    assert "mean return" in stream.getvalue()


def test_the_console_can_be_silenced_by_the_settings(tmp_path):
    stream = io.StringIO()
    tracker = tracker_for(
        tmp_path,
        TrackingSettings(console=False),
        batch_size=B,
        time_steps=5,
        console=PlainConsole(stream),
    )
    run(tracker, recording(6), 5)
    tracker.close("completed")
    assert stream.getvalue() == ""


def test_a_tracker_without_a_console_says_nothing(tmp_path, capsys):
    tracked(tmp_path).close("completed")
    assert capsys.readouterr() == ("", "")


def test_closing_twice_is_closing_once(tmp_path):
    tracker = tracked(tmp_path)
    tracker.close("completed")
    size = (tmp_path / "metrics.csv").stat().st_size
    tracker.close("completed")
    assert (tmp_path / "metrics.csv").stat().st_size == size


@pytest.mark.parametrize("name", ["metrics.csv", "events"])
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, name):
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    tracker = tracker_for(
        tmp_path,
        TrackingSettings(tensorboard=name == "events", csv=name == "metrics.csv"),
        batch_size=B,
        time_steps=200,
    )
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
        with pytest.raises(BbrlExpError, match=rf"cannot write '{tmp_path}/{name}.*: File too large"):
            run(tracker, recording(201), 50)
        with pytest.raises(BbrlExpError, match="File too large"):
            tracker.close("completed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_run_folder_that_has_metrics_already_is_not_overwritten(tmp_path):
    (tmp_path / "metrics.csv").write_text("mine")
    with pytest.raises(BbrlExpError, match=r"metrics\.csv': File exists"):
        tracker_for(tmp_path, TrackingSettings(), batch_size=B, time_steps=5)
    assert (tmp_path / "metrics.csv").read_text() == "mine"


def interrupted(folder, before, after, chunk=5):
    """A run of which state and positions were kept after ``before`` time steps; it recorded ``after`` more."""
    tracker = tracker_for(folder, TrackingSettings(speed_every=20, histogram_every=40), **OF_A_RUN, clock=Clock())
    run(tracker, recording(before + 1), chunk)
    kept = tracker.state(), tracker.positions()
    run(tracker, recording(before + after + 1), chunk, done=before)
    tracker.introduce({"later": "cut off"}, {})
    tracker.scalars(10**6, {"losses/later": 1.0})
    tracker.close("completed")
    return kept


def resumed(folder, state, positions, before, n_steps=20, chunk=5):
    clock = Clock()
    clock.seconds = positions.seconds
    settings = TrackingSettings(speed_every=20, histogram_every=40)
    tracker = tracker_for(folder, settings, **OF_A_RUN, clock=clock, continued=positions)
    tracker.load_state(state)
    run(tracker, recording(n_steps + 1), chunk, done=before)
    return tracker


@pytest.mark.parametrize("before", [5, 10, 15])
def test_a_tracker_that_goes_on_cuts_off_what_stands_beyond_and_ends_like_one_that_never_stopped(tmp_path, before):
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
    straight = tracked(tmp_path / "straight", speed_every=20, histogram_every=40)
    state, positions = interrupted(tmp_path / "stopped", before, 5)
    tracker = resumed(tmp_path / "stopped", state, positions, before)
    assert tracker.state() == straight.state()
    assert tracker.episodes.finished == straight.episodes.finished
    for one in (straight, tracker):
        one.close("completed")
    assert len(list((tmp_path / "stopped").iterdir())) == 2
    found, expected = csv_rows(tmp_path / "stopped"), csv_rows(tmp_path / "straight")
    assert [row for row in found if "time/" not in row["name"]] == [r for r in expected if "time/" not in r["name"]]
    events = read(tmp_path / "stopped"), read(tmp_path / "straight")
    assert events[0].Tags() == events[1].Tags()
    for tag in events[0].Tags()["scalars"]:
        if not tag.startswith("time/"):
            assert points(events[0], tag) == points(events[1], tag), tag
    for tag in events[0].Tags()["histograms"]:
        steps = [[histogram.step for histogram in each.Histograms(tag)] for each in events]
        assert steps[0] == steps[1]


def test_the_state_and_the_positions_are_plain_python(tmp_path):
    tracker = tracked(tmp_path)
    kept = {"state": tracker.state(), "positions": tracker.positions().saved()}
    tracker.close("completed")
    torch.save(kept, tmp_path / "kept.pt")
    assert torch.load(tmp_path / "kept.pt", weights_only=True) == kept
    (events,) = tmp_path.glob("events*")
    assert kept["positions"]["sinks"]["csv"][1] <= (tmp_path / "metrics.csv").stat().st_size
    assert kept["positions"]["sinks"]["tensorboard"][0] == events.name


@pytest.mark.parametrize("name", ["metrics.csv", "events"])
def test_a_file_that_is_shorter_than_it_was_is_one_error_that_names_it(tmp_path, name):
    state, positions = interrupted(tmp_path, 10, 5)
    (path,) = tmp_path.glob(f"{name}*")
    path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(BbrlExpError, match=rf"^cannot continue '{path}': it has 9 bytes and had \d+$"):
        resumed(tmp_path, state, positions, 10)
    path.unlink()
    with pytest.raises(BbrlExpError, match=rf"^cannot write '{path}': No such file or directory$"):
        resumed(tmp_path, state, positions, 10)


def test_a_file_that_was_left_out_before_begins_where_the_run_goes_on_and_one_left_out_later_keeps_its_place(tmp_path):
    tracker = tracked(tmp_path, n_steps=10, tensorboard=False)
    state, positions = tracker.state(), tracker.positions()
    tracker.close("completed")
    assert set(positions.sinks) == {"csv", "console"}
    assert positions.sinks["csv"][1] > 0
    tracker = tracker_for(tmp_path, TrackingSettings(csv=False), **OF_A_RUN, continued=positions)
    tracker.load_state(state)
    assert tracker.positions().sinks["csv"] == positions.sinks["csv"]
    tracker.scalars(44, {"losses/new": 2.0})
    tracker.close("completed")
    assert points(read(tmp_path), "losses/new") == [(44, 2.0)]
    assert "losses/new" not in {row["name"] for row in csv_rows(tmp_path)}


def test_synchronised_files_have_been_handed_to_the_disk(tmp_path, monkeypatch):
    handed = []
    monkeypatch.setattr("os.fsync", lambda number: handed.append(os.fstat(number).st_size))
    tracker = tracked(tmp_path)
    tracker.sync()
    positions = tracker.positions()
    assert sorted(handed) == sorted(positions.sinks[name][1] for name in ("csv", "tensorboard"))
    tracker.close("completed")


@pytest.mark.parametrize("name", ["../mine", "/tmp/mine", "mine", "events.out.tfevents.1/../../mine"])
def test_a_tracker_goes_on_in_an_event_file_of_its_folder_only(tmp_path, name):
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "mine", tmp_path / "run" / "mine"):
        path.write_text("mine")
    positions = Positions({"tensorboard": (name, 0)})
    with pytest.raises(BbrlExpError, match="not the name of an event file"):
        tracker_for(tmp_path / "run", TrackingSettings(csv=False), **OF_A_RUN, continued=positions)
    assert (tmp_path / "mine").read_text() == (tmp_path / "run" / "mine").read_text() == "mine"
