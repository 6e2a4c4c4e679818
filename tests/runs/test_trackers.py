"""Weights & Biases and Trackio hold what ``metrics.csv`` holds, whoever sent it and however often."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from bbrl_exp.commands.main import main as bbrl_exp
from bbrl_exp.tracking.background import BackgroundSink
from bbrl_exp.tracking.console import PlainConsole
from bbrl_exp.tracking.mirror import LocalRun
from bbrl_exp.tracking.remote import WandbSink

from .conftest import CommandLine
from .tracker_records import RemoteRecords, local, of_trackio, of_wandb

pytest.importorskip("wandb", reason="needs the extra wandb")
pytest.importorskip("trackio", reason="needs the extra trackio")

ROOT = Path(__file__).parents[2]
FOLDER = Path("outputs/x")
PPO = ["agent=ppo", "env=cartpole", "batch_size=2", "agent.steps_per_chunk=32", "agent.learner.n_epochs=1"]
SIZES = ["total_steps=768", "eval.every=256", "eval.episodes=2", "eval.final_episodes=2", "checkpoint.every=256"]
SHORT = [*PPO, *SIZES, "tracking.metrics_every=100"]


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    # A machine with other work takes longer than the 20 s of a run of a user's own.
    monkeypatch.setattr("bbrl_exp.tracking.remote.RemoteSink.end_seconds", 120.0)


def remote(tracker: str, folder: Path = FOLDER) -> RemoteRecords:
    return of_wandb(folder) if tracker == "wandb" else of_trackio(folder / "trackio")


def mirror(command_line_out: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    command_line_out.readouterr()
    assert bbrl_exp(["mirror", *arguments]) == code
    printed = command_line_out.readouterr()
    return printed.out + printed.err


def files_outside(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "outputs" not in path.parts]


def without_time(points: Counter[tuple[int, str, float]]) -> Counter[tuple[int, str, float]]:
    return Counter({point: n for point, n in points.items() if not point[1].startswith("time/")})


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_run_that_was_resumed_is_one_remote_run_equal_to_its_metrics(
    tracker: str, command_line: CommandLine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = [*SHORT, f"tracking={tracker}", "seed=3", "name=x"]
    assert command_line(*settings, "pause_after=384").code == 0
    at_the_pause = local(FOLDER)
    assert remote(tracker).points == at_the_pause
    ended = command_line(*settings)
    assert ended.code == 0
    assert ended.err == ""
    assert sum(tracker in line for line in ended.out.splitlines()) == 1  # where the records are
    found = remote(tracker)
    assert found.points == local(FOLDER) | at_the_pause  # a tracker cannot be cut back
    assert found.points.total() > 100
    assert found.pictures == ["variables"]
    (session, *_) = json.loads((FOLDER / "provenance.json").read_text())["sessions"]
    assert found.ids == {session["run_id"]}
    assert (found.about["name"], found.about["project"]) == ("x", "bbrl_exp")
    assert {"agent=ppo", "env=cartpole", "batch_size=2", "agent.learner.n_epochs=1"} <= set(found.about["tags"])
    assert not {"seed=3", "name=x", f"tracking={tracker}"} & set(found.about["tags"])
    assert found.about["config"]["seed"] == 3
    assert found.about["config"]["agent"]["learner"]["n_epochs"] == 1
    summary = json.loads((FOLDER / "summary.json").read_text())
    for name in ("return_mean", "eval_return_mean", "eval_curve_mean", "best_eval_return_mean"):
        assert found.summary[name] == summary[name]
    assert files_outside(tmp_path) == []
    assert f"{FOLDER}: nothing new; " in mirror(capfd, str(FOLDER), "--to", tracker)
    assert remote(tracker) == found


def test_a_sweep_is_a_group_and_its_seeds_are_runs(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line("-m", *SHORT, "tracking=none", "seed=1", "name=before").code == 0
    monkeypatch.setenv("TRACKIO_DIR", "all")  # a job has the variables of its sweep, not of an earlier one
    sink = ["tracking=trackio", "+tracking.sinks.trackio.project=mine"]
    assert command_line("-m", *SHORT, *sink, "seed=1,2", "name=sweep").code == 0
    sweep = Path("outputs/multirun/sweep")
    for seed in (1, 2):
        job = sweep / f"seed={seed}"
        (session,) = json.loads((job / "provenance.json").read_text())["sessions"]
        found = of_trackio(Path("all"), session["run_id"], "mine")
        assert found.points == local(job)
        assert (found.about["group"], found.about["name"]) == ("sweep", f"seed={seed}")
        assert found.about["config"]["seed"] == seed
    assert "nothing new" in mirror(capfd, str(sweep / "seed=1"), "--to", "trackio")  # to the run's own project
    assert not (sweep / "seed=1" / "trackio" / "mine.db").exists()


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_mirror_of_a_run_that_is_running_is_completed_by_a_later_one(
    tracker: str, command_line: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line(*SHORT, "name=x").code == 0
    whole = {name: (FOLDER / name).read_bytes() for name in ("metrics.csv", "summary.json")}
    summary = json.loads(whole["summary.json"])
    lines = whole["metrics.csv"].splitlines(keepends=True)
    part = b"".join(lines[: len(lines) // 2])[:-3]
    (FOLDER / "metrics.csv").write_bytes(part)
    (FOLDER / "summary.json").write_text(json.dumps(summary | {"status": "running", "return_mean": None}))
    mirror(capfd, str(FOLDER), "--to", tracker)
    assert remote(tracker).points.total() == len(lines) // 2 - 2  # neither the header nor the row that is not whole
    for name, contents in whole.items():
        (FOLDER / name).write_bytes(contents)
    mirror(capfd, str(FOLDER), "--to", tracker)
    found = remote(tracker)
    assert found.points == local(FOLDER)
    assert found.pictures == ["variables"]
    assert found.summary["return_mean"] == summary["return_mean"]


FAKES = {
    "raises": "def setup():\n    raise ConnectionError('tracker.example does not answer')\n",
    "hangs": "import time\ntime.sleep(3600)\n",
}
WARNINGS = {
    "raises": "has failed: RemoteError: ConnectionError: tracker.example does not answer (remote.py:",
    "hangs": "has not finished 1 s after the end of the run",
    "no network": "has not finished 1 s after the end of the run",
}


@pytest.mark.parametrize("fault", WARNINGS)
def test_a_tracker_that_fails_costs_the_run_nothing_and_the_mirror_completes_it(
    fault: str,
    command_line: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert command_line(*SHORT, "name=sound").code == 0
    with monkeypatch.context() as broken:
        if fault == "no network":
            broken.setenv("WANDB_MODE", "online")
            broken.setenv("WANDB_API_KEY", "0" * 40)
            broken.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        else:
            (tmp_path / "fake" / "wandb").mkdir(parents=True)
            (tmp_path / "fake" / "wandb" / "__init__.py").write_text(f"Settings = dict\n{FAKES[fault]}")
            broken.setenv("PYTHONPATH", str(tmp_path / "fake"))
        if "finished 1 s" in WARNINGS[fault]:
            broken.setattr("bbrl_exp.tracking.remote.RemoteSink.end_seconds", 1.0)
        ended = command_line(*SHORT, "tracking=wandb", "name=x")
    assert ended.code == 0
    assert ended.out.count(f"warning: sink 'wandb' {WARNINGS[fault]}") == 1
    assert without_time(local(FOLDER)) == without_time(local(Path("outputs/sound")))
    assert json.loads((FOLDER / "summary.json").read_text())["status"] == "completed"
    deadline = time.monotonic() + 10.0
    while children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children() == []
    mirror(capfd, str(FOLDER), "--to", "wandb")
    assert of_wandb(FOLDER).points == local(FOLDER)


def test_a_tracker_that_cannot_keep_up_ends_at_once_and_the_running_run_can_be_mirrored(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line(*SHORT, "name=x").code == 0
    (tmp_path / "fake" / "wandb").mkdir(parents=True)
    (tmp_path / "fake" / "wandb" / "__init__.py").write_text(FAKES["hangs"])
    monkeypatch.setattr("bbrl_exp.tracking.background.MOST_CALLS", 2)
    monkeypatch.setattr("bbrl_exp.records.sent._WAIT_SECONDS", 2.0)
    sink = BackgroundSink("wandb", WandbSink())
    with monkeypatch.context() as hanging:
        hanging.setenv("PYTHONPATH", str(tmp_path / "fake"))
        sink.call("start", LocalRun.read(FOLDER, PlainConsole(io.StringIO())).facts)
        while not (FOLDER / "wandb").exists():
            time.sleep(0.01)
    for _ in range(3):
        sink.call("image", 0, "name", b"", (1, 1))
    assert "cannot keep up" in str(sink.take_warning())
    mirror(capfd, str(FOLDER), "--to", "wandb")
    assert of_wandb(FOLDER).points == local(FOLDER)
    assert children() == []
    sink.end(time.monotonic() + 10)


def test_a_mirror_waits_for_its_tracker_however_long_it_takes(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bbrl_exp.tracking.remote.RemoteSink.answer_seconds", 0.01)
    ended = command_line(*SHORT, "tracking=trackio", "name=x")
    assert "warning: sink 'trackio' has failed: RemoteError: trackio has not answered within 0.01 s (" in ended.out
    monkeypatch.setattr("bbrl_exp.commands.mirror._PATIENCE_SECONDS", 0.01)
    said = mirror(capfd, str(FOLDER), "--to", "trackio")
    assert said.endswith(f"{FOLDER}: still sending; Ctrl-C stops it\n")
    assert of_trackio(FOLDER / "trackio").points == local(FOLDER)


def test_what_trackio_has_dropped_in_the_middle_is_sent_by_the_next_mirror(
    command_line: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line(*SHORT, "tracking=trackio", "name=x").code == 0
    whole = of_trackio(FOLDER / "trackio")
    steps = sorted({step for step, _, _ in whole.points})
    connection = sqlite3.connect(FOLDER / "trackio" / "bbrl_exp.db")
    with connection:
        dropped = connection.execute("DELETE FROM metrics WHERE step BETWEEN ? AND ?", (steps[3], steps[-5])).rowcount
    connection.close()
    assert dropped > 10
    mirror(capfd, str(FOLDER), "--to", "trackio")
    assert "nothing new" in mirror(capfd, str(FOLDER), "--to", "trackio")
    found = of_trackio(FOLDER / "trackio")
    assert (found.points, found.pictures, found.summary) == (whole.points, whole.pictures, whole.summary)


SLOW_TRACKIO = """
from pathlib import Path
from bbrl_exp.records.sent import SentRecords
from bbrl_exp.tracking.remote_process import RemoteRun
from bbrl_exp.tracking.trackio_client import TrackioClient

with SentRecords(Path(), "trackio") as sent:
    client = TrackioClient(RemoteRun("", "ab", "name", None, None, [], {}), sent)
    for step in range(1000):
        client.row(step, {"a": 1.0})
    client._run.finish = client._run._stop_flag.set  # as after the 30 s for which it waits
    client.finish("completed")
"""


def test_the_end_waits_until_trackio_has_written_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", SLOW_TRACKIO], check=True)
    assert of_trackio(Path("trackio")).points.total() == 1000


def test_a_mirror_sends_to_the_project_of_the_run_unless_that_calls_a_function(
    command_line: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line(*SHORT, "name=x", "seed=4").code == 0
    path = FOLDER / ".hydra" / "config.yaml"
    config = path.read_text()
    sink = "tracking:\n  sinks:\n    trackio:\n      _target_: bbrl_exp.tracking.remote.TrackioSink\n      project: "
    path.write_text(f"seed: 4\nhome: ${{oc.env:HOME}}\n{sink}of_${{seed}}\n")
    mirror(capfd, str(FOLDER), "--to", "trackio")
    assert of_trackio(FOLDER / "trackio", project="of_4").points == local(FOLDER)
    path.write_text(f"{sink}${{oc.env:HOME}}\n")
    said = mirror(capfd, str(FOLDER), "--to", "trackio", code=2)
    assert said == f"error: {FOLDER}: the project of the run is '${{oc.env:HOME}}', not a name: use --project\n"
    path.write_text(config)
    assert "nothing new" in mirror(capfd, str(FOLDER), "--to", "trackio", "--project", "of_4")
    for project in ("one", "two"):
        for expected in ("1 picture sent; ", "nothing new; "):
            assert expected in mirror(capfd, str(FOLDER), "--to", "wandb", "--project", project)


def children() -> list[int]:
    """The trackers' processes that this process has started and that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes().decode()
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and "remote_process" in command:
            found.append(int(path.name))
    return found


def test_a_run_that_was_killed_loses_and_repeats_nothing(
    tmp_path: Path, command_line: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    endless = [*SHORT, "total_steps=100_000", "eval.every=2048", "tracking=wandb", "name=x"]
    command = [sys.executable, str(ROOT / "scripts" / "run.py"), *endless]
    log = tmp_path / FOLDER / "run.log"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (log.exists() and "wandb: " in log.read_text()):
            assert process.poll() is None
            assert not (log.exists() and "warning: sink" in log.read_text())
            time.sleep(0.1)
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
    assert command_line(*endless, "pause_after=4096").code == 0
    mirror(capfd, str(FOLDER), "--to", "wandb")
    found = of_wandb(FOLDER)
    assert len(found.ids) == 1
    # Where a run pauses it records the losses since their last record, perhaps before what was sent of its first life.
    paused_at = json.loads((FOLDER / "summary.json").read_text())["env_steps"]
    before = Counter({point: n for point, n in without_time(local(FOLDER)).items() if point[0] < paused_at})
    assert before.total() > 100
    assert {point: found.points[point] for point in before} == dict(before)


def test_a_run_without_an_id_of_its_own_is_mirrored_once(
    command_line: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line(*SHORT, "name=x").code == 0
    path = FOLDER / "provenance.json"
    sessions = json.loads(path.read_text())["sessions"]
    del sessions[0]["run_id"]  # as version 0.1.0 wrote it
    path.write_text(json.dumps({"sessions": sessions}))
    mirror(capfd, str(FOLDER), "--to", "trackio")
    first = of_trackio(FOLDER / "trackio")
    shutil.copytree(FOLDER, Path("elsewhere") / "x")
    mirror(capfd, "elsewhere/x", "--to", "trackio")
    assert of_trackio(Path("elsewhere/x/trackio")) == first
    assert first.points == local(FOLDER)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--to", "wandb"], "error: 'nowhere': no such folder\n"),
        (
            ["nowhere", "--to", "mlflow"],
            "error: argument --to: invalid choice: 'mlflow' (choose from 'wandb', 'trackio')\n",
        ),
        (["nowhere"], "error: the following arguments are required: --to\n"),
        ([".", "--to", "wandb"], "error: no runs below '.': no summary.json there\n"),
    ],
)
def test_a_mirror_of_nothing_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert mirror(capfd, *arguments, code=2) == message


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_refused_by_the_name_of_its_extra(
    tracker: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("bbrl_exp.tracking.remote.version", missing)
    fix = f"needs the extra '{tracker}': pip install \"bbrl_exp[{tracker}]\""
    sink = {"wandb": "WandbSink", "trackio": "TrackioSink"}[tracker]
    ended = command_line(*SHORT, f"tracking={tracker}", "name=x")
    assert (ended.code, ended.err) == (2, f"error: key 'tracking.sinks.{tracker}': {sink}: {fix}\n")
    assert not FOLDER.exists()
    assert mirror(capfd, ".", "--to", tracker, code=2) == f"error: {fix}\n"


def test_a_database_that_cannot_be_written_is_an_error_of_the_mirror_and_the_next_one_completes_it(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line(*SHORT, "name=x").code == 0
    Path("file").touch()
    monkeypatch.setenv("TRACKIO_DIR", "file")
    said = mirror(capfd, str(FOLDER), "--to", "trackio", code=1)
    assert said == f"error: {FOLDER}: FileExistsError: [Errno 17] File exists: 'file'\n"
    monkeypatch.setenv("TRACKIO_DIR", "place")
    Path("place").mkdir()
    Path("place/bbrl_exp.db").mkdir()  # Trackio itself says nothing
    assert mirror(capfd, str(FOLDER), "--to", "trackio", code=1).startswith(f"error: {FOLDER}: ")
    Path("place/bbrl_exp.db").rmdir()
    mirror(capfd, str(FOLDER), "--to", "trackio")
    assert of_trackio(Path("place")).points == local(FOLDER)
