"""The process that jobs are forked from: it has imported what they need, and has done nothing else.

A message ``JOB`` starts one; ``SIGNAL`` hands it a signal; its end is answered with ``DONE`` and a :class:`JobEnding`.
Whatever happens to a job happens to a process that serves nobody else, and what that process has left behind is killed.
When the connection closes the job is asked to stop, as by SIGTERM, and killed if it does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from bbrl_exp.config.carried import CarriedJob
from bbrl_exp.config.check import CheckedRun
from bbrl_exp.processes.messages import DONE, anonymous_file, receive, send
from bbrl_exp.records.layout import LOG
from bbrl_exp.runs.ending import JobEnding

JOB, SIGNAL = b"J", b"S"
_HANDED_OVER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SECONDS_TO_STOP = 60.0
_PR_SET_PDEATHSIG = 1
_PREFERRED_VICTIM = "500"
_IMPORTED = (
    "torch",
    "gymnasium",
    "bbrl_exp.runs.session",
    "bbrl_exp.tracking.tracker",
    "bbrl_exp.training.checkpoints",
)
# Imported once for all jobs if a job has imported them. A user's own package is not: it may do anything.
_KNOWN_PACKAGES = ("bbrl_exp", "torch", "numpy", "gymnasium", "tensorboard", "google", "PIL", "logging", "importlib")


def main() -> None:
    """Serves until the connection closes."""
    connection = socket.socket(fileno=int(sys.argv[2]))
    os.set_inheritable(connection.fileno(), False)
    for number in _HANDED_OVER:
        signal.signal(number, signal.SIG_IGN)
    _import(_IMPORTED)
    is_warm = False
    while True:
        try:
            kind, content = receive(connection)
        except (EOFError, OSError):
            return
        if kind == JOB:
            job, directory, folder, sys.argv = pickle.loads(content)  # records state the command of the sweep
            if isinstance(job, CarriedJob) and not is_warm:
                _warm_up(job)
                is_warm = True
            _serve_job(connection, job, directory, folder)


def _warm_up(job: CarriedJob) -> None:
    """Lets the parser of interpolations see what it will see in every job: it is ten times as fast from then on."""
    from bbrl_exp.config.identity import identity

    with contextlib.suppress(Exception):
        identity(job.config())


def _serve_job(connection: socket.socket, job: CheckedRun | CarriedJob, cwd: str, folder: str) -> None:
    said = anonymous_file("what a job said", 0)
    # A signal that comes before the new process has dispositions of its own waits until it has them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDED_OVER)
    host = os.getpid()
    process = os.fork()
    if process == 0:
        connection.close()
        _become_job(said, host, job, cwd, folder)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDED_OVER)
    ended = threading.Event()
    waiting = threading.Thread(target=_answer, args=(connection, process, said, ended))
    waiting.start()
    try:
        while not ended.is_set():
            kind, content = receive(connection)
            if kind == SIGNAL:
                with contextlib.suppress(ProcessLookupError):  # it ended just now
                    if not ended.is_set():
                        os.kill(process, int.from_bytes(content))
            else:  # the word that the end of this job was heard
                break
    except (EOFError, OSError):
        _stop(process, ended)
    waiting.join()


def _stop(process: int, ended: threading.Event) -> NoReturn:
    """Nobody is there any more: the job saves, and everything ends."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        if ended.wait(_SECONDS_TO_STOP):
            break
    os._exit(0)


def _answer(connection: socket.socket, process: int, said: int, ended: threading.Event) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    ended.set()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what it has left behind, if anything
        os.killpg(process, signal.SIGKILL)
    with open(said, "rb") as file:
        file.seek(0)
        content = file.read()
    told = json.loads(content) if content.endswith(b"}") else {}
    _import(told.get("modules", ()))
    with contextlib.suppress(OSError):
        send(connection, DONE, pickle.dumps(JobEnding(code, told.get("refusal"))))


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def _become_job(said: int, host: int, job: CheckedRun | CarriedJob, cwd: str, folder: str) -> NoReturn:
    """Runs the job in this forked process; it never returns."""
    known = set(sys.modules)
    code, refusal = 1, None
    try:
        _prepare(host, folder, cwd)
        from bbrl_exp.runs.job import run_job

        code, refusal = run_job(job, Path(folder))
    except BaseException:
        traceback.print_exc()
    finally:
        modules = [name for name in sys.modules if name not in known and name.partition(".")[0] in _KNOWN_PACKAGES]
        with contextlib.suppress(OSError):
            os.write(said, json.dumps({"refusal": refusal, "modules": modules}).encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare(host: int, folder: str, cwd: str) -> None:
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_PREFERRED_VICTIM)
    for number in _HANDED_OVER:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDED_OVER)
    if os.getppid() != host:  # it died before the kernel knew that this process is to hear of it
        os.kill(os.getpid(), signal.SIGTERM)
    os.chdir(cwd)
    log = os.open(Path(folder) / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()


if __name__ == "__main__":
    main()
