"""The process that jobs are forked from: ``python -m bbrl_exp.app.sweeps.job_host bbrl-job-host <socket> …``."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bbrl_exp.app.sweeps.ending import JobEnding
from bbrl_exp.processes.fork_host import serve_forks

_IMPORTED = ("torch", "gymnasium", "bbrl_exp.app.session", "bbrl_exp.tracking.tracker", "bbrl_exp.training.checkpoints")
# Imported once for all jobs if a job has imported them. A user's own package is not: it may do anything.
_KNOWN_PACKAGES = ("bbrl_exp", "torch", "numpy", "gymnasium", "tensorboard", "google", "PIL", "logging", "importlib")


class _Preparation:
    """Lets records see the command of the sweep, and the parser of interpolations what it will see in every job: it is
    ten times as fast from the first time on.
    """

    _is_warm = False

    def __call__(self, content: bytes) -> None:
        config, _, _, sys.argv = pickle.loads(content)
        if self._is_warm:
            return
        self._is_warm = True
        from bbrl_exp.app.identity import identity
        from bbrl_exp.app.sweeps.carried_config import unpacked

        with contextlib.suppress(Exception):
            identity(unpacked(config))


def run(content: bytes) -> tuple[int, Any]:
    """Runs a job in this forked process; gives its exit code, why it was refused, and what it has imported."""
    known = set(sys.modules)
    config, directory, folder, _ = pickle.loads(content)
    os.chdir(directory)
    log = os.open(Path(folder) / "run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    from bbrl_exp.app.sweeps.carried_config import unpacked
    from bbrl_exp.app.sweeps.job import run_job

    code, refusal = run_job(unpacked(config), Path(folder))
    modules = [name for name in sys.modules if name not in known and name.partition(".")[0] in _KNOWN_PACKAGES]
    return code, [refusal, modules]


def ended(code: int, report: Any) -> bytes:
    """Imports for the next jobs what this one has imported; gives the :class:`JobEnding`, pickled."""
    refusal, modules = report or (None, ())
    _import(modules)
    return pickle.dumps(JobEnding(code, refusal))


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


if __name__ == "__main__":
    _import(_IMPORTED)
    serve_forks(sys.argv[1:], _Preparation(), run, ended)
