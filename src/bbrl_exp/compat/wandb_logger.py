"""BBRL's logger for Weights & Biases (the extra ``wandb``)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from bbrl_exp.compat.logger import plain
from bbrl_exp.extras import module_of_extra


class WandbLogger:
    """Sends numbers to a run of Weights & Biases, which is begun at once.

    Args:
        project: of the run.
        group: of the run.
        job_type: of the run.
        tags: separated by underscores.
        every_n_seconds: unused.
        verbose: whether numbers are printed.
        log_loss: unused.
        kwargs: unused; other loggers have them.

    Raises:
        ConfigurationError: the extra is not installed.
    """

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: str = "",
        every_n_seconds: float | None = None,
        verbose: bool = False,
        log_loss: bool = False,
        **kwargs: Any,
    ) -> None:
        self.verbose = verbose
        self._wandb = module_of_extra("wandb", "wandb", "WandbLogger")
        named = {"project": project, "group": group, "job_type": job_type}
        self._run = self._wandb.init(**named, tags=[tag for tag in tags.split("_") if tag])

    def save_hps(self, hps: Mapping[str, Any], verbose: bool = True) -> None:
        """Sends the hyperparameters."""
        if verbose:
            sys.stdout.write(f"{plain(hps)}\n")
        self._run.config.update(plain(hps))

    def get_logger(self, prefix: str) -> WandbLogger:
        """This logger: the prefix is left out, as in BBRL."""
        return self

    def message(self, msg: object, from_name: str = "") -> None:
        """Prints a message."""
        sys.stdout.write(f"[ {from_name} ]:  {msg}\n")

    def add_scalar(self, name: str, value: Any, iteration: float) -> None:
        """Sends a number and its iteration."""
        if self.verbose:
            sys.stdout.write(f"['{name}' at {iteration}] = {value}\n")
        self._run.log({name: value, "iteration": iteration}, commit=True)

    def add_images(self, name: str, value: Any, iteration: float) -> None:
        """Sends nothing, as in BBRL."""

    add_figure = add_images

    def add_video(self, name: str, value: Any, iteration: float, fps: float = 10) -> None:
        """Sends nothing, as in BBRL."""

    def add_html(self, name: str, value: Any) -> None:
        """Sends a page of HTML."""
        self._run.log({name: self._wandb.Html(value)})

    def close(self, exit_code: int = 0) -> None:
        """Ends the run."""
        self._run.finish(exit_code=exit_code)
