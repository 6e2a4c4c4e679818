"""The command ``record``."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bbrl_exp.commands.parsing import CommandParser, exit_code_of
from bbrl_exp.errors import ConfigurationError

_FILMS = (".gif", ".mp4")


def record(run_folder: str, env_steps: int, out: Path, seed: int = 0) -> float | None:
    """Lets the policy of a run play as it is evaluated, and writes every variable of every step to a file.

    Args:
        run_folder: the folder of the run.
        env_steps: environment steps, rounded up to whole time steps of the run's environments.
        out: the file, in a folder that exists.
        seed: root of the episodes.

    Returns:
        Mean return of the episodes that ended in the recording; None if none did.

    Raises:
        ConfigurationError: it is not a run folder, or a number or a file that cannot be used.
    """
    if env_steps < 1:
        raise ConfigurationError(f"steps={env_steps}: must be at least 1")
    if not out.absolute().parent.is_dir():
        raise ConfigurationError(f"out='{out}': the folder must exist")
    if out.suffix in _FILMS:
        raise ConfigurationError(f"out='{out}': a recording is no film; use evaluate {run_folder} --animation {out}")
    if out.exists():
        raise ConfigurationError(f"out='{out}': exists already; choose another name, or remove it first")
    from bbrl_exp.agents.combinators import Agents, TemporalAgent
    from bbrl_exp.config.graph import build_graph_of
    from bbrl_exp.data.recording import save_recording
    from bbrl_exp.envs.environment_agent import EnvironmentAgent
    from bbrl_exp.runs.policy import SavedRun, load_policy
    from bbrl_exp.seeding import seed_global_generators, untouched_global_generators
    from bbrl_exp.training.loop import collect
    from bbrl_exp.workspace import Workspace

    with contextlib.ExitStack() as afterwards:
        afterwards.enter_context(untouched_global_generators())
        seed_global_generators(seed)
        workspace, policy = Workspace(), load_policy(run_folder)
        graph = afterwards.enter_context(contextlib.closing(build_graph_of(SavedRun.read(run_folder).config)))
        environments = next(module for module in graph.modules() if isinstance(module, EnvironmentAgent))
        environments.seed(seed)
        batch_size = environments.batch_size
        for _ in collect(
            TemporalAgent(Agents(environments, policy)),
            workspace,
            total_steps=env_steps,
            batch_size=batch_size,
            steps_per_chunk=math.ceil(env_steps / batch_size),
        ):
            pass
        save_recording(out, workspace, environments.env_spec.env_id)
    returns = workspace["env/cumulated_reward"][workspace["env/done"]]
    return float(returns.mean()) if len(returns) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Records the policy of a run; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser("record", description="Records what the policy of a finished run does.")
    parser.add_argument("run_folder", help="folder of the run, such as outputs/mine")
    parser.add_argument("--steps", type=int, default=10_000, help="environment steps; default: 10000")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--seed", type=int, default=0, help="root seed of the episodes; default: 0")
    return exit_code_of(lambda: _record(parser.parse_args(arguments)))


def _record(args: argparse.Namespace) -> int:
    return_mean = record(args.run_folder, args.steps, args.out, args.seed)
    mean = "no episode ended" if return_mean is None else f"mean return {return_mean:.6g}"
    sys.stdout.write(f"recorded {args.out} ({mean})\n")
    return 0
