"""What ``dry_run=true`` shows of a run: its graph, its plan, and about how long it will take."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from bbrl_exp.app.estimate import TRIAL_SECONDS, TrialFailure, Trials
from bbrl_exp.app.learner import build_graph_and_learner, variables_of
from bbrl_exp.app.report import Terminal, show_start
from bbrl_exp.errors import BbrlExpError
from bbrl_exp.memory import in_words

if TYPE_CHECKING:
    from bbrl_exp.app.check import CheckedRun


def show_run(config: DictConfig, run: CheckedRun, folder: Path) -> None:
    """Prints what the run would say at its start, and an estimate; makes nothing.

    Args:
        config: composed, with its ``hydra`` node.
        run: the same, checked.
        folder: where the run would lie.

    Raises:
        BbrlExpError: a trial of the run failed.
    """
    terminal = Terminal()
    built = build_graph_and_learner(run.config, run.written)
    with contextlib.closing(built.graph):
        show_start(terminal, built.graph, variables_of(built.graph, built.learner), run, folder)
    estimate = Trials()(config)
    if isinstance(estimate, TrialFailure):
        raise BbrlExpError(f"a trial of the run failed: {estimate.error}")
    if estimate is None:
        terminal.line(f"  {'time':<19}unknown: a trial of {TRIAL_SECONDS:g} s came to no end")
    else:
        seconds = run.plan.env_steps / estimate.steps_per_second
        terminal.line(
            f"  {'time':<19}about {time_in_words(seconds)} at {estimate.steps_per_second:,.0f} steps/s, "
            f"from a trial of {TRIAL_SECONDS:g} s, evaluations left out"
        )
        n_bytes = run.plan.env_steps * estimate.bytes_per_step
        terminal.line(f"  {'disk':<19}at most about {in_words(n_bytes)}, checkpoints left out")
    terminal.line("dry run: nothing was made")


def time_in_words(seconds: float) -> str:
    """A duration as people say it, ``"2 h 5 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
