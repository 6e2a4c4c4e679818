"""The command ``show-memory``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bbrl_exp.commands.parsing import CommandParser, exit_code_of
from bbrl_exp.errors import BbrlExpError, ConfigurationError

if TYPE_CHECKING:
    from bbrl_exp.reports.memory_picture import SeenMemory

FILE = "memory.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws what the memories of a run keep in an episode, and prints a summary; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser("show-memory", description="Shows what the memory of a finished run keeps in an episode.")
    parser.add_argument("run_folder", type=Path, help="folder of the run, such as outputs/mine, or an exported policy")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help=f"the picture, a new file; default: {FILE} in the folder of the run"
    )
    parser.add_argument(
        "--which", choices=("last", "best"), default="last", help="the last policy of the run (default) or the best"
    )
    parser.add_argument(
        "--policy",
        choices=("mode", "sample"),
        help="most likely actions or sampled ones; default: what the run is judged by",
    )
    parser.add_argument("--seed", type=int, help="root seed of the episode; default: eval.seed of the run")
    return exit_code_of(lambda: _show(parser.parse_args(arguments)))


def _show(args: argparse.Namespace) -> int:
    path = _checked(args.to) if args.to is not None else args.run_folder / FILE
    from bbrl_exp.processes.threads import set_threads
    from bbrl_exp.records.files import create_file, replace_file
    from bbrl_exp.reports.memory_picture import draw_memories
    from bbrl_exp.runs.seen_memory import see_memory

    if args.to is None and args.run_folder.is_file():
        raise ConfigurationError(f"{args.run_folder} is not a folder: name the picture, such as --to memory.png")
    set_threads(1)  # the matrices are small
    episode = see_memory(args.run_folder, args.which, args.seed, args.policy)
    picture = draw_memories(episode)
    try:
        (replace_file if args.to is None else create_file)(path, picture)
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error
    lines = [episode.in_words, *(line for memory in episode.memories for line in _lines(memory)), f"picture {path}"]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _checked(path: Path) -> Path:
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise ConfigurationError(f"to='{path}': only .png is supported, and the folder must exist")
    if path.exists():
        raise ConfigurationError(f"to='{path}': exists already; name another file or remove it")
    return path


def _lines(memory: SeenMemory) -> list[str]:
    from bbrl_exp.functional.influence import memory_length

    saturated = "" if memory.saturation is None else f", {memory.saturation:.1%} of the units saturated"
    cell = "" if memory.cell is None else f"{memory.cell}, "
    lines = [f"{memory.name}: {cell}mean norm of the state {memory.norms[1:].mean():.4g}{saturated.replace('%', ' %')}"]
    if memory.influence is None:
        return [*lines, f"{memory.name}: no gradients, the agent has no bbrl_exp.policies.memory.Memory"]
    length, last = memory_length(memory.influence.by_lag), memory_length(memory.influence.of_last)
    if length is None:
        return [*lines, f"{memory.name}: the {memory.head} depend on no input"]
    of_last = "" if last is None else f", {last:,} (last output)"
    return [*lines, f"{memory.name}: memory length {length:,} steps (mean over outputs){of_last}"]
