"""Sinks from the command line: wrong nodes are one line before the run, whatever fails later is a warning."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import prepared
import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.run import run

from .conftest import CommandLine

SHORT = ["total_steps=64", "batch_size=2", "agent.steps_per_chunk=16", "name=x"]
OWN = """
import threading
import time
from bbrl_exp import Sink

class Fussy(Sink):
    def __init__(self, level: int = 1, error: str = "ValueError"):
        if level < 1:
            raise {"ValueError": ValueError, "OSError": OSError}[error](f"level {level} is too low")

class NoSink:
    pass

class Sleepy(Sink):
    def __init__(self):
        time.sleep(3600)

class Stuck(Sink):
    def episodes(self, *_):
        while True:
            time.sleep(0.01)

class Ends(Sink):
    def progress(self, *_):
        raise SystemExit(7)

class Undecided(Sink):
    @property
    def wants_workspace(self):
        raise RuntimeError("perhaps")
"""


@pytest.fixture(autouse=True)
def _own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_sinks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BBRL_EXP_ALLOW", "own_sinks")
    monkeypatch.chdir(tmp_path)


def added(target: str, **arguments: object) -> str:
    node = ", ".join([f"_target_: {target}", *(f"{name}: {value}" for name, value in arguments.items())])
    return f"+tracking.sinks.mine={{{node}}}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+tracking.sinks.mine=5", "key 'tracking.sinks.mine' = 5: must be null or a node with a _target_"),
        ("+tracking.sinks.mine={a: 1}", "key 'tracking.sinks.mine' has no _target_, and a sink needs one"),
        (added("own_sinks.NoSink"), "key 'tracking.sinks.mine._target_' = 'own_sinks.NoSink': must be a Sink"),
        (added("torch.nn.Linear"), "key 'tracking.sinks.mine._target_' = 'torch.nn.Linear': must be a Sink"),
        (
            added("own_sinks.Fusy"),
            "key 'tracking.sinks.mine._target_' = 'own_sinks.Fusy': there is no 'Fusy' there; did you mean 'Fussy'?",
        ),
        (
            added("own_sinks.Fussy", levl=3),
            "key 'tracking.sinks.mine': Fussy has no parameter 'levl'; did you mean 'level'? known: level, error",
        ),
        (
            added("own_sinks.Fussy", level="high"),
            "key 'tracking.sinks.mine.level' = 'high': must be an integer (Fussy)",
        ),
        (
            added("own_sinks.Fussy", level=0),
            "key 'tracking.sinks.mine': Fussy refuses its arguments: level 0 is too low",
        ),
        ("tracking.sinks=3", "key 'tracking.sinks' = 3: must be a mapping of nodes"),
        ("tracking.workspace_bands=5", "key 'tracking.workspace_bands' = 5: must be null or true or false"),
    ],
)
def test_a_wrong_node_is_refused_before_the_run(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run([override, *SHORT])
    assert str(caught.value) == message
    assert not (tmp_path / "outputs").exists()


def test_a_target_that_is_not_allowed_is_refused_without_being_imported(tmp_path: Path) -> None:
    (tmp_path / "not_allowed.py").write_text("raise SystemExit('imported')")
    with pytest.raises(ConfigurationError, match=r"key 'tracking\.sinks\.mine\._target_' = .* not allowed"):
        run([added("not_allowed.Mine"), *SHORT])
    assert "not_allowed" not in sys.modules


@pytest.mark.parametrize(
    ("override", "warning"),
    [
        (
            added("own_sinks.Fussy", level=0, error="OSError"),
            "warning: sink 'mine' has failed: OSError: level 0 is too low (own_sinks.py:9)",
        ),
        (added("own_sinks.Ends"), "warning: sink 'mine' has failed: SystemExit: 7 (own_sinks.py:25)"),
        (added("own_sinks.Sleepy"), "warning: sink 'mine' has failed: TimeoutError: not built within 0.1 s ("),
        (added("own_sinks.Stuck"), "warning: sink 'mine' has not finished 0.1 s after the end of the run"),
    ],
)
def test_a_sink_that_fails_is_one_warning_on_the_console_and_in_the_log(
    override: str, warning: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbrl_exp.tracking.background.ANSWER_SECONDS", 0.1)
    if "Stuck" in override:
        monkeypatch.setattr("bbrl_exp.tracking.sink.Sink.end_seconds", 0.1)
    ended = command_line(override, *SHORT)
    assert ended.code == 0
    assert ended.out.count(warning) == 1
    assert (Path("outputs/x") / "run.log").read_text().count(warning) == 1
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("sink ")] == []


def test_sinks_are_no_part_of_what_makes_a_run_the_same(command_line: CommandLine) -> None:
    assert command_line(*SHORT, "agent=ppo", "pause_after=32").code == 0
    assert command_line(*SHORT, "agent=ppo", added("own_sinks.Ends"), "tracking.sinks.console=null").code == 0


@pytest.mark.parametrize("override", ["tracking.sinks.csv=null", "tracking.csv=false", "~tracking.sinks.csv"])
def test_a_sink_is_switched_off_from_the_command_line(override: str, command_line: CommandLine) -> None:
    assert command_line(override, *SHORT).code == 0
    assert not Path("outputs/x/metrics.csv").exists()
    assert len(list(Path("outputs/x").glob("events*"))) == 1


def test_a_sink_is_one_value_of_a_sweep(command_line: CommandLine) -> None:
    assert command_line("-m", "tracking.sinks.csv=null,{_target_: bbrl_exp.tracking.sinks.CsvSink}", *SHORT).code == 0
    jobs = sorted(Path("outputs/multirun/x").glob("*/summary.json"))
    assert len(jobs) == 2
    assert sum((job.parent / "metrics.csv").exists() for job in jobs) == 1


def test_ctrl_c_stops_a_run_whose_sink_hangs(tmp_path: Path) -> None:
    process = prepared.start([*prepared.RUN, added("own_sinks.Stuck"), "name=x", "total_steps=100_000_000"], tmp_path)
    process.wait_for("workspace series")
    process.send(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    out = process.stdout
    assert out.count("warning: sink 'mine' has not ") == 1
    assert "interrupted: " in out


def test_a_property_that_raises_is_a_warning(command_line: CommandLine) -> None:
    ended = command_line(*SHORT, "agent=random", "env=cartpole", added("own_sinks.Undecided"))
    assert (ended.code, "warning: sink 'mine' has failed: RuntimeError: perhaps (own_sinks.py:" in ended.out) == (
        0,
        True,
    )
