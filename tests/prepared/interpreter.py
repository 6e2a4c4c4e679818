"""An interpreter that has imported everything, and forks processes that begin as ``python`` would: without the imports.

A line of standard input is a request: to start a process, answered by its id, or that id, answered by the exit code of
the process once it has ended (negative: the signal's number).

What these processes start by ``python -m``, such as the host of a sweep's jobs, is forked too: each has a nursery, a
copy that was made before it did anything, whose forks are its children (as are those of the tests' own process).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import fast_children

OWN_ENVIRONMENT = dict(os.environ)
_IGNORED_BY_NURSERIES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_CLONE_PARENT, _PR_SET_PDEATHSIG = 0x8000, 1


def import_everything() -> None:
    """Imports what commands import, some of them in the midst of a run; nothing else happens."""
    import bbrl_exp

    for name in ("gymnasium.envs.classic_control", "PIL.Image"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(bbrl_exp.__path__, "bbrl_exp."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)


def serve() -> None:
    """Answers line by line; in a process that was started, becomes what was asked for."""
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            say(os.waitstatus_to_exitcode(os.waitpid(request, 0)[1]))
        elif pid := os.fork():
            say(pid)
        else:
            begin(**request)
            return


def say(number: int) -> None:
    """Answers."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def begin(stdout: str, stderr: str, own_session: bool, **request: Any) -> None:
    """Becomes a process whose output is in files; it has a nursery of its own."""
    if own_session:
        os.setsid()
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    if fast_children.CLONE is not None:
        connection, of_nursery = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            connection.close()
            request = serve_children(of_nursery.detach())
        else:
            of_nursery.close()
            fast_children.fork_in(connection)
    become(**request)


def become(words: list[str], cwd: str, environment: dict[str, str]) -> None:
    """Does what ``python`` with these words does: ``[-W error] ([-P] -m module | -c code | script) arguments…``."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if words[0] == "-W":
        warnings.simplefilter(words[1])  # type: ignore[arg-type]
        words = words[2:]
    sys.path[: 1 + len(path_of(OWN_ENVIRONMENT))] = path_of(environment)  # in place of this script's folder and path
    is_safe = words[0] == "-P"
    words = words[is_safe:]
    if words[0] == "-m":
        if not is_safe:
            sys.path.insert(0, os.getcwd())
        sys.argv = words[1:]
        if words[1] != "bbrl_exp":
            sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def serve_children(number: int) -> dict[str, Any]:
    """A nursery: forks children of its parent as that asks for them, and ends with it. In a child, what that is to do.

    Args:
        number: descriptor of the socket. A message is a request with the child's files, and is answered by its id.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    handlers = {caught: signal.signal(caught, signal.SIG_IGN) for caught in _IGNORED_BY_NURSERIES}
    connection = socket.socket(fileno=fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 500))
    os.close(number)
    while True:
        content, files, _, _ = socket.recv_fds(connection, 1 << 20, 32)
        if not content:
            os._exit(0)
        if pid := fork_sibling():
            connection.send(str(pid).encode())
            for file in files:
                os.close(file)
            continue
        for caught, handler in handlers.items():
            signal.signal(caught, handler)
        request = json.loads(content)
        high = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 600) for file in files]
        connection.close()
        for file in files:
            os.close(file)
        for file, descriptor in zip(high, request.pop("descriptors"), strict=True):
            os.dup2(file, descriptor)
            os.close(file)
        return request


def end_threads() -> None:
    """Ends the threads of OpenBLAS, which ends them at each fork, but does not see how siblings are made.

    A sibling would wait for them for ever.
    """
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("an import has started a thread: processes of the tests cannot be forked")


def fork_sibling() -> int:
    """As ``os.fork``, but the new process is another child of this one's parent."""
    python = ctypes.PyDLL(None)
    python.PyOS_BeforeFork()
    pid = int(python.syscall(fast_children.CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return pid


def path_of(environment: dict[str, str]) -> list[str]:
    """The folders of PYTHONPATH."""
    return [os.path.abspath(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]


if __name__ == "__main__":
    said = os.dup(1)
    os.dup2(2, 1)  # what imports print is no answer
    import_everything()
    gc.freeze()
    sys.stdout.flush()
    of_tests = int(sys.argv[1])
    is_nursery = False
    if fast_children.CLONE is not None:
        end_threads()
        is_nursery = fork_sibling() == 0
    if is_nursery:
        os.close(said)
        become(**serve_children(of_tests))
    else:
        os.close(of_tests)
        os.dup2(said, 1)
        serve()
