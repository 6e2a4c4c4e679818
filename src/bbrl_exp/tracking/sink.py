"""What a destination of tracked values must and may define: TensorBoard, CSV, the console, or your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.tracking.console import Console

Parameter = bool | int | float | str


@dataclass(frozen=True)
class RunFacts:
    """What a sink knows of the run.

    Attributes:
        folder: of the run; it exists.
        run_id: 16 hexadecimal digits, kept when the run resumes.
        name: of the folder.
        group: name of the sweep's folder; None for a run that is no job of a sweep.
        agent: option of the group ``agent``.
        env: option of the group ``env``.
        env_id: name of the environment.
        seed: root seed.
        batch_size: environments side by side.
        total_steps: environment steps of the whole run.
        config: the resolved configuration.
        config_hash: equal for equal configurations.
        overrides: as they were typed.
        hyperparameters: flat: agent, environment, batch size, and every key that was overridden.
        setting: equal for runs that differ in their seed alone.
        git_commit: of the checkout; None outside one.
        resumed_at: environment steps at the checkpoint that the run resumes from; None where it begins.
        console: ``console.line(text)`` prints a line on the terminal and in ``run.log``.
    """

    folder: Path
    run_id: str
    name: str
    group: str | None
    agent: str | None
    env: str | None
    env_id: str | None
    seed: int
    batch_size: int
    total_steps: int
    config: Mapping[str, Any]
    config_hash: str
    overrides: Sequence[str]
    hyperparameters: Mapping[str, Parameter]
    setting: str
    git_commit: str | None
    resumed_at: int | None
    console: Console = field(repr=False, compare=False)


class Sink:
    """A destination of what a run records; what a subclass does not define is ignored, and costs nothing.

    Steps are environment steps. Those of one name never fall; those of different names may come in any order.

    A sink runs in its own thread, behind a queue: the run waits neither for it nor for its network. All methods
    but the constructor are called in that thread, one after the other, :meth:`start` first. The first exception, or a
    queue that is full, drops the sink with one warning; the run continues without it. The constructor should only keep
    its arguments, and may refuse them by :class:`~bbrl_exp.errors.ConfigurationError` before the run begins; whatever
    needs a network, a login or an optional package belongs into :meth:`start`.

    Attributes:
        wants_workspace: whether it is given the workspace's series at every time step, ``workspace/…``, and its
            histograms, ``histograms/…``: a lot of data.
        end_seconds: how long the end of the run waits for it; a sink that needs more is dropped with a warning.
        recorded_until: the environment step up to which it has everything already. A sink that cannot be cut back
            sets it in :meth:`start` or :meth:`resume`; what is not beyond that step is not given to it again.
    """

    wants_workspace: ClassVar[bool] = False
    end_seconds: ClassVar[float] = 5.0
    recorded_until: int = -1

    def start(self, facts: RunFacts) -> None:
        """The run begins, or resumes (``facts.resumed_at``)."""

    def resume(self, position: Any) -> None:
        """Called after :meth:`start` where the run resumes, to remove all that was recorded beyond a checkpoint.

        Args:
            position: what :meth:`position` gave at the checkpoint; None where the sink was not there yet.
        """

    def scalars(self, env_steps: NDArray[np.int64], names: Sequence[str], values: NDArray[np.float64]) -> None:
        """Records numbers: losses, evaluations, speed.

        Args:
            env_steps: ``[N]``.
            names: S.
            values: ``[N, S]``, NaN where a series has no value.
        """

    def episodes(
        self,
        env_steps: NDArray[np.int64],
        environments: NDArray[np.int64],
        returns: NDArray[np.float64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Records E finished training episodes: four arrays ``[E]``; ``environments`` are indices in the batch."""

    def histogram(self, env_steps: int, name: str, values: NDArray[Any]) -> None:
        """Records the distribution of ``values`` ``[K]``: of an evaluation (one per episode) or of a variable."""

    def text(self, name: str, markdown: str) -> None:
        """Records a text at the start of the run: ``config``, ``graph``, ``workspace``, ``plan``."""

    def image(self, env_steps: int, name: str, data: bytes, size: tuple[int, int]) -> None:
        """Records a PNG or GIF file; ``size`` is its width and height in pixels."""

    def results(self, env_steps: int, values: Mapping[str, float | None]) -> None:
        """Records what came of a run that is complete: ``return_mean``, ``eval_return_mean``, …; None for no value."""

    def progress(self, env_steps: int, steps_per_second: float | None, return_mean: float | None) -> None:
        """The run has recorded a chunk; the numbers are None before they are first measured."""

    def note(self, text: str) -> None:
        """A remark on the records, for people."""

    def position(self) -> Any:
        """How far the records are, for :meth:`resume`: numbers, texts, lists and dictionaries; None for no position.

        A checkpoint waits for it, at most 3 seconds.
        """
        return None

    def sync(self) -> None:
        """Returns when what was recorded up to now would be there after a power cut; called at checkpoints."""

    def close(self, status: str) -> None:
        """The run ends; ``status`` is that of ``summary.json``: completed, paused, interrupted, failed or diverged."""

    def abandon(self) -> None:
        """The sink was dropped: ends what it still holds, such as a process or a lock.

        Called once, in another thread, while a call of another method may still not have returned.
        """


class LocalSink(Sink):
    """A sink that is written at once by the run itself; an error of it, such as a full disk, ends the run."""


def defines(sink: Sink, method: str) -> bool:
    """Whether a sink does something in a method."""
    return getattr(type(sink), method) is not getattr(Sink, method)
