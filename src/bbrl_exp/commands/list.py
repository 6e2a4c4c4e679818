"""The options of each group with one line of what they are, from the comment that each of their files begins with.

Of one option also its file; of an agent all that its nodes can be given.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from bbrl_exp.commands.parsing import CommandParser, exit_code_of
from bbrl_exp.config.options import default_config_dir, option_files
from bbrl_exp.config.project import own_config_dir
from bbrl_exp.errors import ConfigurationError, did_you_mean

GROUPS = {
    "agent": "who acts, and what it learns by",
    "memory": "what an agent with a memory remembers by, and what its memory sees",
    "env": "where it acts",
    "experiment": "an agent on an environment, with budget and settings that fit them",
    "tracking": "what is recorded",
    "launcher": "where the jobs of a sweep run",
    "search": "what a search varies",
}


def first_comment(path: Path) -> str:
    """The first line of a file that is a comment, and not one for Hydra; empty if there is none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def listing(folders: Sequence[Path], groups: Sequence[str]) -> str:
    """The groups as text: a block a group, a line an option."""
    blocks = []
    for group in groups:
        found = option_files(folders, group)
        width = max(map(len, found), default=0)
        lines = [f"  {name:<{width}}  {first_comment(path)}".rstrip() for name, path in found.items()]
        blocks.append("\n".join([f"{group}: {GROUPS[group]}", *lines]))
    return "\n\n".join(blocks)


def _answer(extra_dir: Path | None, group: str | None, option: str | None) -> str:
    folders = [default_config_dir(), *([] if extra_dir is None else [extra_dir])]
    if group is None:
        return listing(folders, list(GROUPS))
    _check_known("group", group, GROUPS)
    if option is None:
        return listing(folders, [group])
    files = option_files(folders, group)
    _check_known(group, option, files)
    path = files[option]
    if group != "agent":
        return f"# {os.path.relpath(path)}\n{path.read_text(encoding='utf-8').rstrip()}"

    from bbrl_exp.config.agent_arguments import arguments_of_agent, composed_agent

    heading = ": ".join(filter(None, (option, first_comment(path))))
    return f"{heading}\n\n{arguments_of_agent(composed_agent(option, extra_dir))}"


def _check_known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = did_you_mean(name, known) or ";"
        raise ConfigurationError(f"{kind} '{name}': no such {kind}{near} allowed: {', '.join(known)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the options of one group or of all, or one option; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser("list", description="Lists what can be chosen by group=option, with one line each.")
    parser.add_argument("group", nargs="?", help=f"one of {', '.join(GROUPS)}; default: all")
    parser.add_argument(
        "option", nargs="?", help="an option of the group: prints its file, or for an agent all its arguments"
    )
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="folder of your own options, as for run")
    return exit_code_of(lambda: _list(parser.parse_args(arguments)))


def _list(args: argparse.Namespace) -> int:
    config_dir = own_config_dir(args.config_dir)
    if config_dir is not None and not config_dir.is_dir():
        raise ConfigurationError(f"configuration folder {config_dir} is not there")
    sys.stdout.write(f"{_answer(config_dir, args.group, args.option)}\n")
    return 0
