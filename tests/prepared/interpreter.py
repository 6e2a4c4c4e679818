"""An interpreter that has imported everything, and forks processes that begin as ``python`` would: without the imports.

A line of standard input is a request: to start a process, answered by its id, or that id, answered by the exit code of
the process once it has ended (negative: the signal's number).
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import sys
import warnings
from pathlib import Path

OWN_ENVIRONMENT = dict(os.environ)


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
            become(**request)
            return


def say(number: int) -> None:
    """Answers."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def become(
    words: list[str], cwd: str, environment: dict[str, str], stdout: str, stderr: str, own_session: bool
) -> None:
    """Does what ``python`` with these words does: ``[-W error] (-m module | -c code | script) arguments…``."""
    if own_session:
        os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if words[0] == "-W":
        warnings.simplefilter(words[1])  # type: ignore[arg-type]
        words = words[2:]
    sys.path[: 1 + len(path_of(OWN_ENVIRONMENT))] = path_of(environment)  # in place of this script's folder and path
    if words[0] == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def path_of(environment: dict[str, str]) -> list[str]:
    """The folders of PYTHONPATH."""
    return [os.path.abspath(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]


if __name__ == "__main__":
    said = os.dup(1)
    os.dup2(2, 1)  # what imports print is no answer
    import_everything()
    gc.freeze()
    sys.stdout.flush()
    os.dup2(said, 1)
    serve()
