"""What ``bbrl_utils`` offers to notebooks: a progress bar, videos, folders."""

from __future__ import annotations

import enum
import functools
import importlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class IPython(enum.Enum):
    """Where a program runs."""

    NONE = 0
    OTHER = 1
    IPYTHON = 2
    JUPYTER = 3
    GOOGLE_COLAB = 4

    def is_notebook(self) -> bool:
        """Whether it runs in a notebook."""
        return self in (IPython.JUPYTER, IPython.GOOGLE_COLAB)

    @staticmethod
    def get() -> Any:
        """IPython's shell; None outside."""
        loaded = sys.modules.get("IPython")
        return None if loaded is None else loaded.get_ipython()

    @staticmethod
    def mode() -> IPython:
        """Where this program runs."""
        shell = IPython.get()
        known = {
            "IPython.terminal.interactiveshell": IPython.IPYTHON,
            "ipykernel.zmqshell": IPython.JUPYTER,
            "google.colab._shell": IPython.GOOGLE_COLAB,
        }
        return IPython.NONE if shell is None else known.get(type(shell).__module__, IPython.OTHER)


MODE = IPython.mode()


class _Quiet:
    """Iterates without a progress bar, where the package tqdm is not installed."""

    def __init__(self, iterable: Iterable[Any], **_: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def set_description(self, description: str) -> None:
        """Shows nothing."""


def tqdm(iterable: Iterable[Any], **options: Any) -> Any:
    """A progress bar over an iterable, where the package tqdm is installed."""
    try:
        bar: Any = importlib.import_module("tqdm.auto").tqdm
    except ModuleNotFoundError:
        bar = _Quiet
    return bar(iterable, **options)


def video_display(path: str, *_: Any, **__: Any) -> Any:
    """Shows a video in a notebook; elsewhere nothing."""
    if not MODE.is_notebook():
        return None
    shown: Any = importlib.import_module("IPython.display")
    return shown.Image(filename=path) if path.endswith(".gif") else shown.Video(path, embed=True)


def display(*values: Any) -> None:
    """Shows values in a notebook; elsewhere prints them."""
    if MODE.is_notebook():
        importlib.import_module("IPython.display").display(*values)
    else:
        sys.stdout.write(f"{' '.join(map(str, values))}\n")


def setup_tensorboard(path: str | Path) -> None:
    """Opens TensorBoard in a notebook on Colab; elsewhere prints the command that starts it."""
    folder = str(outputs_dir().absolute())
    if MODE is IPython.GOOGLE_COLAB:
        IPython.get().run_line_magic("load_ext", "tensorboard")
        IPython.get().run_line_magic("tensorboard", f"--logdir '{folder}'")
    else:
        sys.stdout.write(f"Launch TensorBoard from the shell:\ntensorboard --logdir '{folder}'\n")


@functools.cache
def testing_mode() -> bool:
    """Whether the environment variable TESTING_MODE is on or 1."""
    return os.environ.get("TESTING_MODE", "").lower() in ("on", "1")


@functools.cache
def outputs_dir() -> Path:
    """The folder of what programs write."""
    return Path("outputs-testing" if testing_mode() else "outputs")


def setup(maze_mdp: bool = False, box2d: bool = True) -> None:
    """Registers OmegaConf's resolver ``current_time``; BBRL's also installs packages, which this one does not.

    Args:
        maze_mdp: unused; ``pip install mazemdp`` installs those environments.
        box2d: unused; ``pip install "bbrl_exp[box2d]"`` installs those environments.
    """
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("current_time", lambda: time.strftime("%Y%m%d-%H%M%S"), replace=True)
