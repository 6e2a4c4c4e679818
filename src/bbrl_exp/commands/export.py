"""The command ``export``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bbrl_exp.commands.parsing import CommandParser, exit_code_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports the policy of a run; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser("export", description="Exports the policy of a finished run for other programs.")
    parser.add_argument("run_folder", help="folder of the run, such as outputs/mine")
    parser.add_argument(
        "--to", required=True, metavar="PATH", help="policy.safetensors, policy.onnx, or a folder for the hub"
    )
    parser.add_argument(
        "--which", choices=("last", "best"), default="last", help="the last policy of the run (default) or the best"
    )
    parser.add_argument("--episodes", type=int, help="number of episodes to evaluate; default: as in the run")
    parser.add_argument("--seed", type=int, help="root seed of the episodes; default: eval.seed of the run")
    return exit_code_of(lambda: _export(parser.parse_args(arguments)))


def _export(args: argparse.Namespace) -> int:
    from bbrl_exp.export.card import hub_name_of
    from bbrl_exp.export.export import export

    exported = export(args.run_folder, args.to, args.which, args.episodes, args.seed)
    card = exported.card
    lines = [_in_words(card["evaluation"])]
    if "onnx" in card:
        compared = card["onnx"]["compared"]
        if compared["evaluation"]["actions"] != card["evaluation"]["actions"]:
            lines.append(f"ONNX: {_in_words(compared['evaluation'])}")
        ties = f", {compared['ties']} of them decided by rounding" if compared["ties"] else ""
        lines.append(f"ONNX: the policy's actions in all {compared['steps']:,} steps of these episodes{ties}")
        if card["onnx"]["batch"] == 1:
            lines.append("ONNX: one observation at a time, because an agent depends on the batch size")
    lines += [*exported.left_out, f"exported {exported.path}"]
    if exported.path.is_dir():
        words = ["hf", "upload", f"<user>/{hub_name_of(card)}", str(exported.path)]
        lines.append(f"upload it by: {shlex.join(words).replace(chr(39) + words[2] + chr(39), words[2])}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _in_words(evaluation: Mapping[str, Any]) -> str:
    from bbrl_exp.records.metrics import ACTIONS_IN_WORDS

    returns = f"return {evaluation['return_mean']:.6g} ± {evaluation['return_std']:.4g}"
    cut = f"; {evaluation['cut']} were cut, the environment sets no limit" if evaluation["cut"] else ""
    return f"{returns} over {evaluation['episodes']} episodes, {ACTIONS_IN_WORDS[evaluation['actions']]}{cut}"
