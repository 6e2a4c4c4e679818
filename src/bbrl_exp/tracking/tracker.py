"""What a run records of itself: computed once, a chunk at a time, and handed to every sink."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.records.metrics import SPEED
from bbrl_exp.text import size_in_words
from bbrl_exp.tracking.background import BackgroundSink
from bbrl_exp.tracking.episodes import EpisodeCount, FinishedEpisodes, finished_episodes
from bbrl_exp.tracking.memories import MemoryRecords, UnitsOf
from bbrl_exp.tracking.positions import Positions
from bbrl_exp.tracking.settings import Thinning, TrackingSettings
from bbrl_exp.tracking.sink import LocalSink, RunFacts, Sink, defines
from bbrl_exp.tracking.sinks import WORKSPACE_HISTOGRAMS, TensorBoardSink
from bbrl_exp.tracking.workspace_series import rows_on_cpu, workspace_series
from bbrl_exp.workspace import Workspace

_EPISODE_VARIABLES = ("env/done", "env/cumulated_reward", "env/timestep")
_HISTOGRAM_PREFIXES = ("env/env_obs", "env/reward", "action")


class Tracker:
    """Records a run in its sinks.

    Make it just before the loop starts: speed is measured from then on. Without sinks it has the same methods.
    A :class:`LocalSink` is written at once, and its errors are the run's; every other sink has its own thread, and
    is dropped with one warning where it fails.

    Args:
        sinks: by name.
        facts: about the run.
        settings: what is recorded; its ``sinks`` are not looked at.
        learns: whether the agent learns.
        discrete_actions: name → (smallest value, number of values) of action variables from discrete spaces.
        units: variable → those units of a memory's states that can be saturated.
        clock: seconds spent in the loop, from any origin; a clock that stops during evaluations keeps them out
            of the measured speed.
        continued: what :meth:`positions` gave at the checkpoint that the run resumes from. None for a new run.

    Attributes:
        episodes: the episodes that have finished, counted with or without sinks.

    Raises:
        BbrlExpError: if a file cannot be made or written, in :meth:`begin` or any later method, naming the file.
    """

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        facts: RunFacts,
        settings: TrackingSettings,
        *,
        learns: bool = False,
        discrete_actions: Mapping[str, tuple[int, int]] | None = None,
        units: Mapping[str, UnitsOf] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        continued: Positions | None = None,
    ) -> None:
        self.episodes = EpisodeCount()
        self._facts = facts
        self._settings = settings
        self._discrete_actions = dict(discrete_actions or {})
        self._continued = continued
        seconds = clock() if continued is None else continued.seconds
        self._local = {name: sink for name, sink in sinks.items() if isinstance(sink, LocalSink)}
        known = {} if continued is None else continued.sinks
        others = [name for name in sinks if name not in self._local]
        self._background = {name: BackgroundSink(name, sinks[name], known.get(name)) for name in others}
        self._started: list[LocalSink] = []
        self._has_begun = self._is_closed = False
        self._new = {name for name, sink in sinks.items() if defines(sink, "text") or defines(sink, "image")}
        self._wants_workspace = any(sink.wants_workspace for sink in sinks.values())
        self._without_workspace = {name for name, sink in sinks.items() if not sink.wants_workspace}
        self._planned_time_steps = facts.total_steps // facts.batch_size
        self._thinning = Thinning.of(settings, self._planned_time_steps, learns=learns)
        self._bands = not learns if settings.workspace_bands is None else settings.workspace_bands
        self._selected: dict[str, bool] = {}
        self._is_announced = False
        self._next_histogram = 0
        self._memories = MemoryRecords(settings.metrics_every, units or {})
        self._env_steps = 0
        self._speed = _SpeedMeter(clock, seconds)

    def begin(self) -> bool:
        """Starts the sinks.

        Returns:
            Whether there are some that want its texts or pictures, and know nothing of the run yet.
        """
        known = {} if self._continued is None else self._continued.sinks
        for name, sink in self._local.items():
            sink.start(self._facts)
            if self._facts.resumed_at is not None:
                sink.resume(known.get(name))
            self._started.append(sink)
        self._has_begun = True
        for name, background in self._background.items():
            background.call("start", self._facts)
            if self._facts.resumed_at is not None:
                background.call("resume", known.get(name))
        self._new -= set(known)
        return bool(self._new)

    def introduce(self, texts: Mapping[str, str], images: Mapping[str, tuple[bytes, tuple[int, int]]]) -> None:
        """Records texts, and pictures with their sizes, in the sinks that know nothing of the run yet."""
        others = {*self._local, *self._background} - self._new
        for name, markdown in texts.items():
            self._tell("text", name, markdown, without=others)
        for name, (data, size) in images.items():
            self._tell("image", self._env_steps, name, data, size, without=others)

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
            if name in _EPISODE_VARIABLES or (self._wants_workspace and self._selects(name))
        }
        rows = rows_on_cpu(variables, first_new_row - before)
        n_new = max((len(array) - before for array in rows.values()), default=0)
        self._env_steps = (first_global_time + n_new - 1) * self._facts.batch_size
        if self._wants_workspace:
            new_rows = {name: array[before:] for name, array in rows.items() if self._selects(name)}
            if self._settings.workspace:
                self._record_series(new_rows, first_global_time, n_new)
            if self._settings.histogram_every and self._env_steps >= self._next_histogram:
                self._record_histograms(new_rows)
        if all(name in rows for name in _EPISODE_VARIABLES):
            done, cumulated_reward, timestep = (rows[name] for name in _EPISODE_VARIABLES)
            episodes = finished_episodes(done, cumulated_reward, timestep, before)
            self._record_episodes(episodes, (episodes.time - before + first_global_time) * self._facts.batch_size)
        if self._local or self._background:
            self.scalars(self._env_steps, self._memories.take(workspace, first_new_row, self._env_steps))
        self._measure_speed(self._settings.speed_every)
        self._tell("progress", self._env_steps, self._speed.latest, self.episodes.return_mean)

    def scalars(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Record single numbers (an evaluation, losses) at an environment step."""
        if values:
            row = np.array([[float(value) for value in values.values()]])
            self._tell("scalars", np.array([env_steps]), list(values), row)

    def evaluation(self, env_steps: int, name: str, values: Mapping[str, float], returns: Sequence[float]) -> None:
        """Record an evaluation of the policy at an environment step: ``<name>/<value>``, and every single return."""
        self.scalars(env_steps, {f"{name}/{key}": value for key, value in values.items()})
        self._tell("histogram", env_steps, f"{name}/return", np.array(returns))

    def image(self, name: str, data: bytes, size: tuple[int, int]) -> None:
        """Record a picture: a file that browsers show, and its width and height."""
        self._tell("image", self._env_steps, name, data, size)

    def complete(self, results: Mapping[str, float | None]) -> None:
        """Say that the run is complete, and what came out."""
        self._tell("results", self._env_steps, results)

    def state(self) -> dict[str, Any]:
        """How far the records are, as plain Python; equal between equal runs."""
        return {
            "episodes": self.episodes.state(),
            "env_steps": self._env_steps,
            "next_histogram": self._next_histogram,
            "next_memory_record": self._memories.next_record,
            "steps_at_last_speed": self._speed.steps,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self.episodes.load_state(state["episodes"])
        self._env_steps = state["env_steps"]
        self._next_histogram = state["next_histogram"]
        self._memories.next_record = state.get("next_memory_record", 0)  # not in checkpoints of version 0.1.0
        self._speed.steps = state["steps_at_last_speed"]

    def positions(self) -> Positions:
        """Where the sinks are, and what the clock shows.

        Sinks that are off keep their last position, and so do those that were dropped.
        """
        sinks = {} if self._continued is None else dict(self._continued.sinks)
        sinks |= {name: sink.position() for name, sink in self._local.items()}
        sinks |= {name: sink.position() for name, sink in self._background.items()}
        return Positions(sinks, self._facts.run_id, self._speed.seconds)

    def sync(self) -> None:
        """Returns when the records would be what they are after a power cut: a checkpoint may refer to them then."""
        for sink in self._local.values():
            sink.sync()
        for background in self._background.values():
            background.sync()
        self._warn()

    def close(self, status: str) -> None:
        """Record the last speed and close the sinks; closing again does nothing.

        Args:
            status: of the run, as in ``summary.json``.
        """
        if self._is_closed:
            return
        self._is_closed = True
        ended_at = time.monotonic()
        with contextlib.ExitStack() as afterwards:  # an error is raised when all are closed
            for sink in self._started:
                afterwards.callback(sink.close, status)
            if self._has_begun:
                afterwards.callback(self._end_background, status, ended_at)
                self._measure_speed(least_env_steps=1)

    def _end_background(self, status: str, ended_at: float) -> None:
        for sink in self._background.values():
            sink.call("close", status)
        for sink in self._background.values():
            sink.end(ended_at)
        self._warn()

    def _tell(self, method: str, *arguments: Any, without: set[str] | frozenset[str] = frozenset()) -> None:
        """Calls a method of every sink but some."""
        for name, sink in self._local.items():
            if name not in without and defines(sink, method):
                getattr(sink, method)(*arguments)
        for name, background in self._background.items():
            if name not in without:
                background.call(method, *arguments)
        if self._background:
            self._warn()

    def _warn(self) -> None:
        """Prints why sinks were dropped, once each."""
        for background in self._background.values():
            if (warning := background.take_warning()) is not None:
                self._facts.console.line(warning)

    def _selects(self, variable: str) -> bool:
        if variable not in self._selected:
            self._selected[variable] = self._settings.selects(variable)
        return self._selected[variable]

    def _record_series(self, new_rows: Mapping[str, NDArray[Any]], first_global_time: int, n_new: int) -> None:
        kept = self._thinning.kept(first_global_time, n_new)
        if not len(kept):
            return
        by_length: dict[int, dict[str, NDArray[Any]]] = {}
        for name, array in new_rows.items():
            by_length.setdefault(len(array), {})[name] = array
        names: list[str] = []
        columns: list[NDArray[np.float64]] = []
        for length, group in by_length.items():
            times = kept[kept < length]
            if len(times) < length:
                group = {name: array[times] for name, array in group.items()}
            tags, values = workspace_series(
                group,
                max_components=self._settings.max_components,
                discrete_actions=self._discrete_actions,
                bands=self._bands,
            )
            names += tags
            columns.append(values.T if len(times) == len(kept) else _with_gaps(values.T, len(kept)))
        if not columns:
            return
        together = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        env_steps = (first_global_time + kept) * self._facts.batch_size
        self._tell("scalars", env_steps, names, together, without=self._without_workspace)
        if not self._is_announced:
            self._is_announced = True
            self._announce(names)

    def _announce(self, names: Sequence[str]) -> None:
        """Says how large the event file will be; once in a session of a run that begins."""
        sizes = [sink.record_length(names) for sink in self._local.values() if isinstance(sink, TensorBoardSink)]
        if not sizes or self._facts.resumed_at is not None:
            return
        planned, full, stride = self._planned_time_steps, self._thinning.full_steps, self._thinning.stride
        size = size_in_words(self._thinning.n_kept(planned + 1) * sum(sizes))
        if planned < full or stride == 1:
            what = "at every time step"
        else:
            rest = f"one in {stride:,} after that" if stride else "none after that"
            what = f"at each of the first {full:,} time steps, {rest}"
        self._tell("note", f"TensorBoard: {len(names)} workspace series {what}, about {size}")

    def _record_histograms(self, new_rows: Mapping[str, NDArray[Any]]) -> None:
        self._next_histogram = self._env_steps + self._settings.histogram_every
        for name, array in new_rows.items():
            if len(array) and any(name == prefix or name.startswith(f"{prefix}/") for prefix in _HISTOGRAM_PREFIXES):
                for tag, values in _components(f"{WORKSPACE_HISTOGRAMS}{name}", array, self._settings.max_components):
                    self._tell("histogram", self._env_steps, tag, values, without=self._without_workspace)

    def _record_episodes(self, episodes: FinishedEpisodes, env_steps: NDArray[np.int64]) -> None:
        self.episodes.add(episodes)
        if len(env_steps):
            self._tell("episodes", env_steps, episodes.environment, episodes.total_reward, episodes.length)

    def _measure_speed(self, least_env_steps: int) -> None:
        if self._speed.measure(self._env_steps, least_env_steps) and self._speed.latest is not None:
            self.scalars(self._env_steps, {SPEED: self._speed.latest})


def _with_gaps(values: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """``[N, S]`` with rows of NaN at its end."""
    longer = np.full((n_rows, values.shape[1]), np.nan)
    longer[: len(values)] = values
    return longer


def _components(name: str, array: NDArray[Any], max_components: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """The values of each component of a small vector ``[T, B, …]``; of all together for a scalar or a larger tensor."""
    if array.ndim <= 2 or array[0, 0].size > max_components:
        yield name, array.reshape(-1)
        return
    flat = array.reshape(*array.shape[:2], -1)
    for index in range(flat.shape[2]):
        yield f"{name}/{index}", flat[:, :, index].reshape(-1)


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
