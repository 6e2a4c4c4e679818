"""How this process was called, and how a shell calls the same program again from the same directory."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "bbrl-exp"
_MODULE = ("python", "-m", "bbrl_exp")
_VERBS_OF_SCRIPTS = ("run", "rerun", "evaluate", "record", "report", "list")
_SPECIAL_IN_DOUBLE_QUOTES = frozenset('"$`\\!')
# What a command needs of the environment in which it was typed.
VARIABLES = ("BBRL_EXP_ALLOW", "PYTHONPATH")


@dataclass(frozen=True)
class Invocation:
    """The command line of a process.

    Attributes:
        program: ``bbrl-exp``, ``python -m bbrl_exp`` or ``python <script>``, a word each.
        verb: of the command, such as ``run``; None for a program that is none of ours.
        arguments: the words after program and verb.
    """

    program: tuple[str, ...]
    verb: str | None
    arguments: tuple[str, ...]

    @classmethod
    def of_this_process(cls) -> Invocation:
        """As ``sys.argv`` has it; a job has that of its sweep."""
        called, *arguments = sys.argv or [""]
        path = Path(called)
        is_module = path.name == "__main__.py" and path.parent.name == "bbrl_exp"
        if is_module or path.name == PROGRAM:
            return cls(_MODULE if is_module else (PROGRAM,), next(iter(arguments), None), tuple(arguments[1:]))
        verb = path.stem if path.suffix == ".py" and path.stem in _VERBS_OF_SCRIPTS else None
        return cls(("python", called), verb, tuple(arguments))

    @property
    def words(self) -> list[str]:
        """All words."""
        is_script = self.program[-1].endswith(".py") or self.verb is None
        return [*self.program, *([] if is_script else [str(self.verb)]), *self.arguments]

    def calling(self, verb: str) -> list[str]:
        """The words that call another command in the same way: ``python scripts/rerun.py``, ``bbrl-exp rerun``."""
        if self.program == _MODULE or self.program[0] == PROGRAM:
            return [*self.program, verb]
        script = Path(self.program[-1])
        if self.verb is not None and verb in _VERBS_OF_SCRIPTS:
            return [self.program[0], str(script.with_name(f"{verb}.py"))]
        return [PROGRAM, verb]


def shell_command(words: Sequence[str]) -> str:
    """A command for the shell from which this process was called, with the variables and the program that it needs.

    Args:
        words: of a command, as :meth:`Invocation.calling` begins it.
    """
    variables = [f"{name}={_in_a_shell(value)}" for name in VARIABLES if (value := os.environ.get(name))]
    program, *others = words
    found = _interpreter() if program == "python" else _installed() if program == PROGRAM else [program]
    return " ".join([*variables, *map(_in_a_shell, [*found, *others])])


def _in_a_shell(word: str) -> str:
    """The word, quoted where a shell needs that; single quotes in it, which Hydra reads, are easy to read too."""
    return f'"{word}"' if "'" in word and not set(word) & _SPECIAL_IN_DOUBLE_QUOTES else shlex.quote(word)


def _interpreter() -> list[str]:
    """This interpreter: by its name where a shell finds it by that, else by its path."""
    folder = os.path.dirname(sys.executable)
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found is not None and _is_same_file(os.path.dirname(found), folder):
            return [name]
    return [sys.executable]


def _installed() -> list[str]:
    """The installed program: as it was called, else the one of this interpreter, which can also do without."""
    beside_interpreter = os.path.join(os.path.dirname(sys.executable), PROGRAM)
    called = sys.argv[0] if os.path.basename(sys.argv[0]) == PROGRAM else beside_interpreter
    if not os.path.isfile(called):
        return [*_interpreter(), *_MODULE[1:]]
    found = shutil.which(PROGRAM)
    return [PROGRAM if found is not None and _is_same_file(found, called) else called]


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
