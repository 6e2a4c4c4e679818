"""Runs scripts/run.py in processes forked from this one, which has imported everything: a start takes no seconds.

A line of standard input is ``{"cwd": …, "output": …, "arguments": […]}``, which starts a process and is answered by its
id, or that id, which is answered by the exit code of the process once it has ended (negative: the signal's number).
"""

import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "run.py"


def warm_up() -> None:
    """Imports what a run imports, some of it in the midst of it."""
    from bbrl_exp.runs.run import run

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for agent in ("ppo", "dqn"):
            run([f"agent={agent}", "total_steps=1", "eval.final_episodes=0", "agent.steps_per_chunk=8"])
        os.chdir(here)


def serve() -> None:
    """Answers line by line; in a process that was started, becomes the script."""
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


def become(cwd: str, output: str, arguments: list[str]) -> None:
    """Runs the script with standard output and error in a file."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(cwd)
    sys.argv = [str(SCRIPT), *arguments]
    runpy.run_path(str(SCRIPT), run_name="__main__")


if __name__ == "__main__":
    said = os.dup(1)
    os.dup2(2, 1)  # what the warming up prints is no answer
    warm_up()
    sys.stdout.flush()
    os.dup2(said, 1)
    serve()
