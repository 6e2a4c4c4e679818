"""One job of a sweep, in the process that it has for itself."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Sequence
from pathlib import Path

from bbrl_exp.config.carried import CarriedJob
from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.preparation import prepare
from bbrl_exp.errors import BbrlExpError, described
from bbrl_exp.records.claim import FolderClaim
from bbrl_exp.runs.ending import record_refusal
from bbrl_exp.runs.execution import execute
from bbrl_exp.runs.resume import AUTO, is_complete, resume_point


def run_job(job: CheckedRun | CarriedJob, folder: Path) -> tuple[int, str | None]:
    """Runs a job to its end or to the signal that stops it; every failure is recorded in its folder.

    Args:
        job: checked by the sweep, which has tried its environments; or composed by a launcher elsewhere.
        folder: of the job.

    Returns:
        The exit code, and why the job could not begin, None where it began.
    """
    try:
        with FolderClaim(folder):
            try:
                run = job if isinstance(job, CheckedRun) else job.check()
                if run.root.resume == AUTO and is_complete(folder, run):  # a scheduler may have queued it again
                    return 0, None
                before = resume_point(folder, run)
                prepared = prepare(run, is_tried=isinstance(job, CheckedRun))
            except Exception as error:  # user code may raise anything
                return refuse(error, folder, job.overrides)
            with prepared:
                return execute(prepared, folder, before, in_sweep=True).exit_code, None
    except BbrlExpError as error:
        return error.exit_code, str(error)


def refuse(error: Exception, folder: Path, overrides: Sequence[str]) -> tuple[int, str]:
    """Records that a job could not begin, in its claimed folder where that can be; gives exit code and reason."""
    is_ours = isinstance(error, BbrlExpError)
    if not is_ours:
        traceback.print_exception(error)
    reason = str(error) if is_ours else described(error)
    with contextlib.suppress(BbrlExpError, OSError):  # the sweep shows it all the same
        record_refusal(folder, reason, overrides, None)
    return getattr(error, "exit_code", 1), reason
