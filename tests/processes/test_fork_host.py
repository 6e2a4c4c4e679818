"""The process that others are forked from."""

import os
import signal
import socket
from typing import Any

import pytest

from bbrl_exp.processes import fork_host
from bbrl_exp.processes.child import HANDED_OVER
from bbrl_exp.processes.messages import DONE, receive, send


def answered(work: Any, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGCONT) -> str:
    """Exit code and report of a fork that got a signal as soon as it was there, before it did anything itself."""
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
    monkeypatch.setattr(os, "fork", signal_at_once)
    ours, host_side = socket.socketpair()
    before = {each: signal.signal(each, signal.SIG_IGN) for each in HANDED_OVER}
    try:
        send(ours, b"A")  # the end was heard
        fork_host.serve_fork(host_side, b"content", work, lambda code, report: f"{code} {report}".encode())
        kind, answer = receive(ours)
        assert kind == DONE
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        ours.close()
        host_side.close()
        for descriptor in signalled:
            os.close(descriptor)
    return answer.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_in_the_instant_in_which_a_fork_begins_is_not_lost(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answered(lambda content: (0, None), monkeypatch, number) == f"{-number} None"


def test_a_fork_reports_what_it_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answered(lambda content: (3, [content.decode()]), monkeypatch) == "3 ['content']"


@pytest.mark.parametrize("error", [ValueError("no configuration"), SystemExit(0)])
def test_a_fork_that_raises_ends_with_1(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(content: bytes) -> None:
        raise error

    assert answered(raises, monkeypatch) == "1 None"
