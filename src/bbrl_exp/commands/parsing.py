"""What the commands of ``scripts/`` share: an error is one line and has its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.text import print_any_character

INTERRUPTED = 130  # 128 + SIGINT


class CommandParser(argparse.ArgumentParser):
    """A parser that refuses in one line, without the usage before it.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def exit_code_of(command: Callable[[], int], when_interrupted: str = "interrupted") -> int:
    """Runs a command; an error of the project and Ctrl-C are one line on standard error.

    Args:
        command: gives its exit code.
        when_interrupted: what is said after Ctrl-C.
    """
    print_any_character()
    try:
        return command()
    except BbrlExpError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"error: {when_interrupted}\n")
        return INTERRUPTED
