"""One job of a sweep, in the process that it has for itself."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bbrl_exp.app.check import check
from bbrl_exp.app.compose import register_resolvers
from bbrl_exp.app.folder import FolderClaim
from bbrl_exp.app.job import execute
from bbrl_exp.app.resume import AUTO, is_complete, standing
from bbrl_exp.app.sweeps.ending import record_refusal
from bbrl_exp.app.trial import task_overrides
from bbrl_exp.errors import BbrlExpError


def run_job(config: DictConfig, folder: Path) -> tuple[int, str | None]:
    """Runs a job to its end or to the signal that stops it; every failure is recorded in its folder.

    Args:
        config: composed, with its ``hydra`` node.
        folder: of the job.

    Returns:
        The exit code, and why the job could not begin, None where it began.
    """
    register_resolvers()
    HydraConfig.instance().set_config(config)
    overrides = task_overrides(config.hydra)
    try:
        with FolderClaim(folder):
            try:
                run = check(config)
                if run.root.resume == AUTO and is_complete(folder, run):  # a scheduler may have queued it again
                    return 0, None
                before = standing(folder, run)
            except BbrlExpError as error:
                record_refusal(folder, str(error), overrides, None)
                return error.exit_code, str(error)
            return execute(run, folder, overrides, before, in_sweep=True).exit_code, None
    except BbrlExpError as error:
        return error.exit_code, str(error)
