"""What the commands share: how each is called, its project, and errors of one line with their exit codes."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from bbrl_exp.config.project import project_of
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.records.invocation import Invocation
from bbrl_exp.text import print_any_character

INTERRUPTED = 130  # 128 + SIGINT


class CommandParser(argparse.ArgumentParser):
    """A parser that refuses in one line, without the usage before it.

    Args:
        verb: the command.
        others: as of any parser.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    def __init__(self, verb: str, **others: Any) -> None:
        super().__init__(prog=called(verb), **others)

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def version_line() -> str:
    """What ``--version`` prints."""
    return f"bbrl_exp {importlib.import_module('bbrl_exp').__version__}\n"


def called(verb: str) -> str:
    """How this process calls a command: ``bbrl-exp run``, ``python scripts/run.py``, …"""
    return shlex.join(Invocation.of_this_process().calling(verb))


def exit_code_of(command: Callable[[], int], when_interrupted: str = "interrupted") -> int:
    """Runs a command with the project of the working directory; errors and Ctrl-C are one line on standard error.

    Args:
        command: gives its exit code.
        when_interrupted: what is said after Ctrl-C.
    """
    print_any_character()
    try:
        with project_of(Path()):
            return command()
    except BbrlExpError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"error: {when_interrupted}\n")
        return INTERRUPTED
