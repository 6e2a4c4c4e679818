"""What a run records of itself, in one place: curves, histograms, episodes, speed; each written a chunk at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.event_file import EventFile
from bbrl_exp.records.metrics import SPEED, MetricsFile
from bbrl_exp.text import size_in_words
from bbrl_exp.tracking.console import Console
from bbrl_exp.tracking.episodes import EpisodeCount, FinishedEpisodes, finished_episodes
from bbrl_exp.tracking.hparams import HparamsEntry, write_end, write_start
from bbrl_exp.tracking.settings import Thinning, TrackingSettings
from bbrl_exp.tracking.summaries import histogram_values, image_summary, layout_summary, text_summary
from bbrl_exp.tracking.workspace_series import rows_on_cpu, workspace_series
from bbrl_exp.workspace import Workspace

_EPISODE_VARIABLES = ("env/done", "env/cumulated_reward", "env/timestep")
_HISTOGRAM_PREFIXES = ("env/env_obs", "env/reward", "action")


class Tracker:
    """Records a run into its folder.

    Make it just before the loop starts: speed is measured from then on. With ``settings.enabled`` false it has the same
    methods and makes no file.

    Args:
        folder: the run's folder, which exists; unused without files.
        batch_size: number B of environments; time step g of the run is environment step g · B.
        planned_time_steps: time steps that the run will have, not counting the first row.
        discrete_actions: name → (smallest value, number of values) of action variables from discrete spaces.
        clock: seconds spent in the loop, from any origin; a clock that stands still during evaluations keeps them out
            of the measured speed.
        continued: what :meth:`positions` gave, for a tracker that continues these files: what is beyond is cut
            off. None for new files.

    Attributes:
        episodes: the episodes that have finished, counted with or without files.

    Raises:
        BbrlExpError: if a file cannot be made or written, here or in any method, naming the file.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrackingSettings,
        *,
        batch_size: int,
        planned_time_steps: int,
        discrete_actions: Mapping[str, tuple[int, int]] | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.perf_counter,
        continued: Mapping[str, Any] | None = None,
    ) -> None:
        self.episodes = EpisodeCount()
        self._settings = settings
        self._batch_size = batch_size
        self._planned_time_steps = planned_time_steps
        self._discrete_actions = dict(discrete_actions or {})
        self._console = console if settings.console else None
        self._positions = dict(continued or {"csv": None, "events": None, "seconds_at_last_speed": clock()})
        csv, events = self._positions["csv"], self._positions["events"]
        self._csv = MetricsFile(folder, csv) if settings.enabled and settings.csv else None
        try:
            self._events = EventFile(folder, events) if settings.enabled and settings.tensorboard else None
        except BbrlExpError:
            if self._csv:
                self._csv.close()
            raise
        self._thinning = Thinning.of(settings, planned_time_steps)
        self._selected: dict[str, bool] = {}
        self._laid_out = False
        self._next_histogram = 0
        self._env_steps = 0
        self._speed = _SpeedMeter(clock, self._positions["seconds_at_last_speed"])

    def chunk(self, workspace: Workspace, first_new_row: int, first_global_time: int) -> None:
        """Record the new rows of a chunk.

        Args:
            workspace: the chunk.
            first_new_row: 0 in the first chunk, later the number of rows kept from the chunk before.
            first_global_time: time in the whole run of row ``first_new_row``.
        """
        before = 1 if first_new_row else 0
        variables = {
            name: workspace[name]
            for name in workspace.keys()  # noqa: SIM118  (a workspace is not a dict)
            if name in _EPISODE_VARIABLES or (self._events and self._selects(name))
        }
        rows = rows_on_cpu(variables, first_new_row - before)
        new_rows = {name: array[before:] for name, array in rows.items() if self._selects(name)}
        n_new = max((len(array) - before for array in rows.values()), default=0)
        self._env_steps = (first_global_time + n_new - 1) * self._batch_size
        if self._events and self._settings.workspace:
            self._write_series(self._events, new_rows, first_global_time, n_new)
        if self._events and self._settings.histogram_every and self._env_steps >= self._next_histogram:
            self._write_histograms(self._events, new_rows)
        if all(name in rows for name in _EPISODE_VARIABLES):
            done, cumulated_reward, timestep = (rows[name] for name in _EPISODE_VARIABLES)
            episodes = finished_episodes(done, cumulated_reward, timestep, before)
            self._write_episodes(episodes, (episodes.time - before + first_global_time) * self._batch_size)
        self._measure_speed(self._settings.speed_every)
        if self._console:
            total = self._planned_time_steps * self._batch_size
            self._console.progress(self._env_steps, total, self._speed.latest, self.episodes.return_mean)

    def scalars(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Record single numbers (an evaluation, losses) at an environment step, in TensorBoard and CSV."""
        if self._events:
            column = np.array([[float(value)] for value in values.values()])
            self._events.scalars(list(values), np.array([env_steps]), column)
        if self._csv:
            self._csv.scalars(env_steps, values)

    def evaluation(self, env_steps: int, name: str, values: Mapping[str, float], returns: Sequence[float]) -> None:
        """Record an evaluation of the policy at an environment step: ``<name>/<value>``, and every single return.

        The returns are a histogram in TensorBoard and one row per environment in CSV.
        """
        self.scalars(env_steps, {f"{name}/{key}": value for key, value in values.items()})
        tag = f"{name}/return"
        if self._events:
            column = np.array(returns)[:, None]
            self._events.summary(env_steps, Summary(value=histogram_values(tag, column, self._settings.max_components)))
        if self._csv:
            self._csv.environments(env_steps, tag, returns)

    def text(self, tag: str, markdown: str) -> None:
        """Put a text on TensorBoard's TEXT page."""
        if self._events:
            self._events.summary(self._env_steps, text_summary(tag, markdown))

    def config(self, yaml_text: str) -> None:
        """Put the run's configuration on TensorBoard's TEXT page."""
        self.text("config", f"```yaml\n{yaml_text.strip()}\n```")

    def image(self, tag: str, data: bytes, size: tuple[int, int]) -> None:
        """Put a picture on TensorBoard's IMAGES page: a file that browsers show (an animated one plays), its size."""
        if self._events:
            self._events.summary(self._env_steps, image_summary(tag, data, size))

    def begin(self, entry: HparamsEntry) -> bool:
        """Put the run on TensorBoard's HPARAMS page; the event file of a resumed run has it there already.

        Returns:
            Whether there is an event file that says nothing of the run yet.
        """
        if self._events is None or not self._events.is_new:
            return False
        write_start(self._events, entry)
        return True

    def complete(self, metrics: Mapping[str, float | None]) -> None:
        """Say on TensorBoard's HPARAMS page that the run is complete, and what came out, as :func:`write_end` does."""
        if self._events:
            write_end(self._events, self._env_steps, metrics, failed=False)

    def state(self) -> dict[str, Any]:
        """How far the records are, as plain Python; equal between equal runs."""
        return {
            "episodes": self.episodes.state(),
            "env_steps": self._env_steps,
            "next_histogram": self._next_histogram,
            "laid_out": self._laid_out,
            "steps_at_last_speed": self._speed.steps,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self.episodes.load_state(state["episodes"])
        self._env_steps = state["env_steps"]
        self._next_histogram = state["next_histogram"]
        self._laid_out = state["laid_out"]
        self._speed.steps = state["steps_at_last_speed"]

    def positions(self) -> dict[str, Any]:
        """Where the files end and what the clock shows.

        Returns:
            ``{"csv": bytes, "events": (file name, bytes), "seconds_at_last_speed": seconds}``; None for a file that
            was never made.
        """
        if self._csv:
            self._positions["csv"] = self._csv.tell()
        if self._events:
            self._positions["events"] = (self._events.path.name, self._events.tell())
        return {**self._positions, "seconds_at_last_speed": self._speed.seconds}

    def sync(self) -> None:
        """Returns when the files would be what they are after a power cut: a checkpoint may refer to them then."""
        for file in (self._events, self._csv):
            if file:
                file.sync()

    def close(self) -> None:
        """Record the last speed, end the progress and close the files; closing again does nothing."""
        if self._console:
            self._console.close()
        try:
            self._measure_speed(least_env_steps=1)
        finally:
            for file in (self._events, self._csv):
                if file:
                    file.close()
            self._events = self._csv = None

    def _selects(self, variable: str) -> bool:
        if variable not in self._selected:
            self._selected[variable] = self._settings.selects(variable)
        return self._selected[variable]

    def _write_series(
        self, events: EventFile, new_rows: Mapping[str, NDArray[Any]], first_global_time: int, n_new: int
    ) -> None:
        kept = self._thinning.kept(first_global_time, n_new)
        if not len(kept):
            return
        by_length: dict[int, dict[str, NDArray[Any]]] = {}
        for name, array in new_rows.items():
            by_length.setdefault(len(array), {})[name] = array
        tags_of_all: list[str] = []
        for length, group in by_length.items():
            times = kept[kept < length]
            if len(times) < length:
                group = {name: array[times] for name, array in group.items()}
            tags, values = workspace_series(
                group, max_components=self._settings.max_components, discrete_actions=self._discrete_actions
            )
            events.scalars(tags, (first_global_time + times) * self._batch_size, values)
            tags_of_all += tags
        if not self._laid_out:
            self._laid_out = True
            events.summary(0, layout_summary(tags_of_all))
            self._announce(len(tags_of_all), events.record_length(tags_of_all))

    def _announce(self, n_series: int, bytes_per_step: int) -> None:
        if self._console is None:
            return
        planned, full, stride = self._planned_time_steps, self._thinning.full_steps, self._thinning.stride
        size = size_in_words(self._thinning.n_kept(planned + 1) * bytes_per_step)
        if planned < full or stride == 1:
            what = "at every time step"
        else:
            rest = f"one in {stride:,} after that" if stride else "none after that"
            what = f"at each of the first {full:,} time steps, {rest}"
        self._console.line(f"TensorBoard: {n_series} workspace series {what}, about {size}")

    def _write_histograms(self, events: EventFile, new_rows: Mapping[str, NDArray[Any]]) -> None:
        self._next_histogram = self._env_steps + self._settings.histogram_every
        values = [
            value
            for name, array in new_rows.items()
            if len(array) and any(name == prefix or name.startswith(f"{prefix}/") for prefix in _HISTOGRAM_PREFIXES)
            for value in histogram_values(f"histograms/{name}", array, self._settings.max_components)
        ]
        events.summary(self._env_steps, Summary(value=values))

    def _write_episodes(self, episodes: FinishedEpisodes, env_steps: NDArray[np.int64]) -> None:
        self.episodes.add(episodes)
        if self._events:
            columns = np.stack([episodes.total_reward, episodes.length])
            self._events.scalars(("train/return", "train/length"), env_steps, columns)
        if self._csv:
            self._csv.episodes(
                env_steps.tolist(),
                episodes.environment.tolist(),
                episodes.total_reward.tolist(),
                episodes.length.tolist(),
            )

    def _measure_speed(self, least_env_steps: int) -> None:
        if self._speed.measure(self._env_steps, least_env_steps) and self._speed.latest is not None:
            self.scalars(self._env_steps, {SPEED: self._speed.latest})


class _SpeedMeter:
    """Environment steps per second, from one measurement to the next.

    Attributes:
        latest: steps per second, None before the first measurement.
        steps: environment steps at the last measurement.
        seconds: what the clock showed then.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self.latest: float | None = None
        self.steps = 0
        self.seconds = seconds
        self._clock = clock

    def measure(self, env_steps: int, least_env_steps: int) -> bool:
        """Whether there is a new measurement: at least so many steps after the one before."""
        steps, seconds = env_steps - self.steps, self._clock() - self.seconds
        if seconds <= 0 or steps <= 0:
            return False
        if self.steps == 0 or steps >= least_env_steps:
            self.latest = steps / seconds
        if steps < least_env_steps:
            return False
        self.steps += steps
        self.seconds += seconds
        return True
