"""The command ``evaluate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bbrl_exp.commands.parsing import CommandParser, exit_code_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates the policy of a run and prints mean, standard deviation and returns; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser("evaluate", description="Evaluates the policy of a finished run.")
    parser.add_argument("run_folder", help="folder of the run, such as outputs/mine, or an exported policy")
    parser.add_argument("--episodes", type=int, help="number of episodes; default: as in the run's final evaluation")
    parser.add_argument(
        "--which", choices=("last", "best"), default="last", help="the last policy of the run (default) or the best"
    )
    parser.add_argument(
        "--policy",
        choices=("mode", "sample"),
        help="most likely actions or sampled ones; default: what the run is judged by",
    )
    parser.add_argument("--seed", type=int, help="root seed of the episodes; default: eval.seed of the run")
    parser.add_argument("--animation", metavar="FILE", help="film the first episode: film.gif or film.mp4")
    return exit_code_of(lambda: _evaluate(parser.parse_args(arguments)))


def _evaluate(args: argparse.Namespace) -> int:
    from bbrl_exp.records.metrics import ACTIONS_IN_WORDS
    from bbrl_exp.runs.policy import evaluate

    evaluation = evaluate(args.run_folder, args.episodes, args.which, args.seed, args.animation, args.policy)
    numbers = evaluation.scalars()
    how = "" if evaluation.acting == "mode" else f", {ACTIONS_IN_WORDS[evaluation.acting]}"
    returns = f"return {evaluation.return_mean:.6g} ± {evaluation.return_std:.4g}"
    lines = [
        f"{returns} over {len(evaluation.returns)} episodes{how}",
        f"mean length {numbers['length_mean']:.6g}",
        *([f"success rate {numbers['success_rate']:.4g}"] if "success_rate" in numbers else []),
        *([f"{evaluation.n_cut} episodes were cut: the environment sets no limit"] if evaluation.n_cut else []),
        f"returns {' '.join(f'{value:.6g}' for value in evaluation.returns)}",
        *([f"animation {args.animation}"] if args.animation else []),
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
