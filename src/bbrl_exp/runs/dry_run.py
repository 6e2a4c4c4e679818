"""What ``dry_run=true`` shows of a run: its graph, its plan, and about how long it will take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bbrl_exp.config.preparation import prepare
from bbrl_exp.errors import BbrlExpError
from bbrl_exp.runs.console import Terminal, show_start
from bbrl_exp.runs.estimate import MEASURED_SECONDS, MeasurementFailure, measure
from bbrl_exp.runs.job_host import JobHost
from bbrl_exp.text import size_in_words, time_in_words

if TYPE_CHECKING:
    from bbrl_exp.config.check import CheckedRun


def show_run(run: CheckedRun, folder: Path) -> None:
    """Prints what the run would print at its start, and an estimate; makes nothing.

    Args:
        run: checked.
        folder: where the run would be.

    Raises:
        BbrlExpError: the run failed while its speed was measured.
    """
    terminal = Terminal()
    with prepare(run) as prepared:
        show_start(terminal, prepared.graph, prepared.variables, prepared.run, folder)
    estimate = measure(run, JobHost())
    if isinstance(estimate, MeasurementFailure):
        raise BbrlExpError(f"the run failed while its speed was measured: {estimate.error}")
    if estimate is None:
        terminal.line(f"  {'time':<19}unknown: no step was done while it was measured")
    else:
        seconds = run.size.env_steps / estimate.steps_per_second
        terminal.line(
            f"  {'time':<19}about {time_in_words(seconds)} at {estimate.steps_per_second:,.0f} steps/s, "
            f"measured for {MEASURED_SECONDS:g} s, evaluations left out"
        )
        n_bytes = run.size.env_steps * estimate.bytes_per_step
        terminal.line(f"  {'disk':<19}at most about {size_in_words(n_bytes)}, checkpoints left out")
    terminal.line("dry run: nothing was made")
