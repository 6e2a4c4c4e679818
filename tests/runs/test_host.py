"""The process that jobs are forked from."""

import os
import signal
from pathlib import Path

import pytest

from bbrl_exp.processes.messages import receive, send
from bbrl_exp.sweeps import job_host


def ended_by(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a job's process that got a signal as soon as it was there, before it did anything itself."""
    (tmp_path / "job").mkdir(exist_ok=True)
    signalled = os.pipe()

    def signal_at_once() -> int:
        process = fork()
        if process == 0:
            os.read(signalled[0], 1)
        else:
            os.kill(process, number)
            os.write(signalled[1], b".")
        return process

    fork = os.fork
    monkeypatch.setattr(job_host.os, "fork", signal_at_once)
    ours, host_side = job_host.socket.socketpair()
    before = {each: signal.signal(each, signal.SIG_IGN) for each in job_host._HANDED_OVER}
    try:
        send(ours, b"A")  # the end of the job was heard
        job_host._serve_job(host_side, b"no configuration", str(tmp_path), str(tmp_path / "job"))
        ending = job_host.pickle.loads(receive(ours)[1])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        ours.close()
        host_side.close()
        for descriptor in signalled:
            os.close(descriptor)
    return int(ending.code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_in_the_instant_in_which_a_job_begins_is_not_lost(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ended_by(number, tmp_path, monkeypatch) == -number


def test_a_job_whose_configuration_cannot_be_read_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended_by(signal.SIGCONT, tmp_path, monkeypatch) == 1
