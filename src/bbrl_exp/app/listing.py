"""The options of each group with one line of what they are, from the comment that each of their files begins with.

Of an agent also all that its nodes can be given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from bbrl_exp.errors import BbrlExpError, ConfigurationError, did_you_mean

GROUPS = {
    "agent": "who acts, and what it learns by",
    "env": "where it acts",
    "experiment": "an agent on an environment, with budget and settings that fit them",
    "tracking": "what is recorded",
    "launcher": "where the jobs of a sweep run",
    "search": "what a search varies",
}


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, as all commands do."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def options(config_dir: Path, group: str) -> dict[str, str]:
    """Each option of a group and its line: the first of its file that is a comment, and not one for Hydra."""
    files = sorted((config_dir / group).glob("*.yaml"))
    return {path.stem: _first_comment(path) for path in files}


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def listing(config_dir: Path, groups: Sequence[str]) -> str:
    """The groups as text."""
    blocks = []
    for group in groups:
        found = options(config_dir, group)
        width = max(map(len, found), default=0)
        lines = [f"  {name:<{width}}  {line}" for name, line in found.items()]
        blocks.append("\n".join([f"{group}: {GROUPS[group]}", *lines]))
    return "\n\n".join(blocks)


def _answer(config_dir: Path, group: str | None, agent: str | None) -> str:
    if group is None:
        return listing(config_dir, list(GROUPS))
    _check_known("group", group, GROUPS)
    if agent is None:
        return listing(config_dir, [group])
    if group != "agent":
        raise ConfigurationError(
            f"'{agent}': the group {group} is listed as a whole; run.py {group}={agent} --cfg job shows its keys"
        )
    agents = options(config_dir, "agent")
    _check_known("agent", agent, agents)

    from bbrl_exp.app.agent_arguments import arguments_of_agent

    return f"{agent}: {agents[agent]}\n\n{arguments_of_agent(config_dir / 'agent' / f'{agent}.yaml')}"


def _check_known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = did_you_mean(name, known) or ";"
        raise ConfigurationError(f"{kind} '{name}': no such {kind}{near} allowed: {', '.join(known)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the options of one group or of all, or an agent's arguments; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    from bbrl_exp.app.config_folder import default_config_dir

    parser = _Parser(prog="list.py", description="Lists what can be chosen by group=option, with one line each.")
    parser.add_argument("group", nargs="?", help=f"one of {', '.join(GROUPS)}; all if not given")
    parser.add_argument("agent", nargs="?", help="with the group agent: one of them, whose arguments are listed")
    try:
        parsed = parser.parse_args(arguments)
        sys.stdout.write(f"{_answer(default_config_dir(), parsed.group, parsed.agent)}\n")
    except BbrlExpError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code
    return 0
