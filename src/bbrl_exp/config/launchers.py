"""Hydra's launchers of joblib, Ray and Slurm, each called with the overrides of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hydra._internal.callbacks import Callbacks  # no other way to make what a launcher is handed
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from bbrl_exp.config.compose import quoted
from bbrl_exp.errors import WorkerError

LOCAL = "basic"


def open_launcher(
    master: DictConfig, task: Callable[[DictConfig], object]
) -> Callable[[Sequence[tuple[Sequence[str], str]]], list[object]]:
    """The launcher of a sweep's configuration, as a function of the overrides and the folder's name of each job.

    It gives what the task returned or raised for each job, and a WorkerError for one that the launcher lost.

    Args:
        master: the configuration of the sweep, with the sweep's folder as an override.
        task: called with the configuration of each job, in a process of the launcher's choice.
    """
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(master))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)

    def launch(jobs: Sequence[tuple[Sequence[str], str]]) -> list[object]:
        overrides = [[*texts, f"hydra.sweep.subdir={quoted(folder)}"] for texts, folder in jobs]
        found: Sequence[object] = launcher.launch(overrides, initial_job_idx=0)
        # The property return_value would raise what failed, and print it.
        return [
            result._return_value
            if isinstance(result, JobReturn)
            else WorkerError(f"the launcher lost it: {in_one_line(result)}")
            for result in found
        ]

    return launch


def in_one_line(error: object) -> str:
    """What an error says first; some continue with the whole output of a job."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
