"""The command ``bbrl-exp``, which is also ``python -m bbrl_exp``: it hands over to one of its verbs."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Sequence

from bbrl_exp.commands.parsing import version_line
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.invocation import PROGRAM, Invocation
from bbrl_exp.text import print_any_character

# A verb is a module of this package with a function `main`; a hyphen is an underscore there.
VERBS = {
    "run": "run one experiment, or with -m a sweep or a search",
    "evaluate": "play the policy of a finished run, and film it",
    "record": "record what the policy of a finished run does",
    "export": "export the policy of a finished run: safetensors, ONNX, Hugging Face",
    "show-memory": "draw what the memory of a finished run keeps in an episode",
    "report": "compare the settings of sweeps and runs",
    "mirror": "send the records of runs to Weights & Biases or Trackio",
    "check-memory": "check that an agent with a memory remembers correctly",
    "list": "list agents, environments, experiments, … and what they take",
    "rerun": "repeat a run from the configuration in its folder",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code of the verb, see :func:`bbrl_exp.commands.run.main`.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    first = given[0] if given else "--help"
    print_any_character()
    if first in VERBS:
        return _call(first, given[1:])
    if first in ("-sc", "--shell-completion"):
        return _complete(given)
    if first not in ("-h", "--help", "--version"):
        near = did_you_mean(first, VERBS) or ";"
        sys.stderr.write(f"error: command '{first}' is not known{near} allowed: {', '.join(VERBS)}\n")
        return ConfigurationError.exit_code
    sys.stdout.write(version_line() if first == "--version" else _help())
    return 0


def _call(verb: str, arguments: Sequence[str]) -> int:
    code: int = importlib.import_module(f"bbrl_exp.commands.{verb.replace('-', '_')}").main(arguments)
    return code


def _help() -> str:
    program = shlex.join(Invocation.of_this_process().calling("run")[:-1])
    lines = [
        f"usage: {program} <command> …",
        "",
        *(f"  {verb:<13} {line}" for verb, line in VERBS.items()),
        "",
        f"What a command takes: {program} <command> --help. The version: {program} --version.",
    ]
    if program == PROGRAM:
        lines.append(f'Completion by TAB in this shell: eval "$({program} -sc install=bash)"; also zsh and fish.')
    return "".join(f"{line}\n" for line in lines)


def _complete(given: Sequence[str]) -> int:
    """Completes the verb here, and what follows ``run`` there: a shell asks with the line that was typed."""
    if not any(text.startswith("query=") for text in given):
        return _call("run", given)
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        sys.stdout.write(f"{' '.join(verb for verb in VERBS if verb.startswith(''.join(words[1:])))}\n")
    elif words[1] == "run":
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:], *([""] if line.endswith(" ") else [])])
        return _call("run", given)
    return 0
