"""A run that is online in W&B is there once, whatever became of those who sent it. The server is a stand-in."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bbrl_exp.commands.main import main as bbrl_exp

from .conftest import CommandLine
from .test_trackers import FOLDER, SHORT, children
from .tracker_records import local
from .wandb_server import ServedRun, Server, wandb_server

pytest.importorskip("wandb", reason="needs the extra wandb")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr("bbrl_exp.tracking.remote.RemoteSink.end_seconds", 120.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        yield server


def the_run(server: Server) -> ServedRun:
    (run,) = server.runs.values()
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    assert sum("variables" in row for row in run.history) == 1
    assert sum(name.startswith("media/images/variables_") for name in run.files) == 1
    return run


def mirror(said: pytest.CaptureFixture[str], code: int = 0) -> str:
    said.readouterr()
    assert bbrl_exp(["mirror", str(FOLDER), "--to", "wandb"]) == code
    printed = said.readouterr()
    return printed.out + printed.err


def test_a_run_that_was_resumed_is_one_remote_run_equal_to_its_metrics(
    server: Server, command_line: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = [*SHORT, "tracking=wandb", "name=x"]
    assert command_line(*settings, "pause_after=384").code == 0
    at_the_pause = local(FOLDER)
    assert the_run(server).points == at_the_pause
    assert "warning" not in command_line(*settings).out
    assert the_run(server).points == local(FOLDER) | at_the_pause
    summary = json.loads((FOLDER / "summary.json").read_text())
    assert the_run(server).summary["eval_return_mean"] == summary["eval_return_mean"]
    assert the_run(server).fields["displayName"] == "x"
    assert f"{FOLDER}: nothing new; http" in mirror(capfd)
    assert the_run(server).points == local(FOLDER) | at_the_pause


def test_what_a_killed_sender_has_sent_is_not_sent_again_and_the_rest_is(
    server: Server, command_line: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line(*SHORT, "name=x").code == 0
    whole = (FOLDER / "metrics.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    (FOLDER / "metrics.csv").write_bytes(b"".join(lines[: len(lines) // 2]))
    mirror(capfd)
    half = local(FOLDER)
    assert the_run(server).points == half
    (FOLDER / "metrics.csv").write_bytes(whole)

    def kill() -> None:
        for process in children():
            os.kill(process, signal.SIGKILL)

    server.on_rows = kill
    assert mirror(capfd, code=1) == f"error: {FOLDER}: the process of wandb has died\n"
    assert the_run(server).points == half
    server.on_rows = None
    mirror(capfd)
    assert the_run(server).points == local(FOLDER) != half
    assert "nothing new" in mirror(capfd)
    for session in (FOLDER / "wandb").glob("run-*"):
        shutil.rmtree(session)
    assert "nothing new" in mirror(capfd)  # W&B itself says what it has
    assert the_run(server).points == local(FOLDER)
