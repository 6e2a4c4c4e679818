"""What a learner is: it is shown the workspace after every chunk, and changes its agents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from bbrl_exp.arguments import Range, check_fields, marks_of
from bbrl_exp.compilation.compiler import Compiler, NotCompilableError
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.schedules import Schedule, depends_on_total_steps
from bbrl_exp.learners.compiled.updates import CompiledUpdates
from bbrl_exp.learners.parts.state import SavesAttributes, replay_buffers
from bbrl_exp.workspace import Workspace

Metrics = Mapping[str, float | Tensor]

# Points of a run at which the values of a schedule are checked before it begins.
_N_CHECKED = 1001


@dataclass(frozen=True)
class Progress:
    """How far a run is, and which rows of the workspace are new to the learner.

    Attributes:
        first_row: the row from which transitions are new: the pairs (t, t + 1) from t = ``first_row`` to the last row.
        env_steps: environment steps done since the beginning of the run.
        total_steps: environment steps that the run will have.
        new_steps: environment steps of the new rows, which are among ``env_steps``.
        schedule_steps: environment steps that schedules refer to, after which they keep their last values; None for
            ``total_steps``.
    """

    first_row: int
    env_steps: int
    total_steps: int
    new_steps: int
    schedule_steps: int | None = None

    @property
    def length(self) -> int:
        """Environment steps of the run for all that depends on its length."""
        return self.total_steps if self.schedule_steps is None else self.schedule_steps

    @property
    def fraction(self) -> float:
        """The part of ``length`` that is done, between 0 and 1."""
        return min(self.env_steps / self.length, 1.0)

    @property
    def remaining(self) -> float:
        """The fraction of ``length`` that was to come when the new rows began; 1 for the first chunk.

        It is above 0 for the last chunk, so that every chunk is learned from, and it keeps this value if the run is
        longer. What anneals to zero is multiplied by it.
        """
        begun = max(min(self.env_steps, self.length) - self.new_steps, 0)
        return 1.0 - begun / self.length

    def updates_due(self, learning_starts: int, updates_per_step: float) -> int:
        """How many updates are due by now, ``updates_per_step`` for each environment step after ``learning_starts``."""
        return max(int((self.env_steps - learning_starts) * updates_per_step), 0)


class Learner(SavesAttributes):
    """Holds the agents that it changes, and whatever else an algorithm needs: optimizers, targets, a replay buffer.

    A subclass must define :meth:`update`. It may define

    * ``reads``, an attribute: the variables of the workspace that it reads, so that a graph without them is refused;
    * :meth:`check_chunks`, :meth:`awaits`, :meth:`begin_from_loaded_parameters`, ``schedules``, ``needs_episodes``;
    * :meth:`follow_schedules`, where a part has a copy of an option that may be a schedule;
    * ``not_saved``, ``get_extra_state`` and ``set_extra_state``.

    All that it remembers is in its ``state_dict``: parameters, buffers, and what is found among its attributes, also in
    containers: numbers, texts, tensors, arrays, optimizers, random generators and objects with ``state`` and
    ``load_state``. A run is refused before it begins where an attribute is neither saved, nor one that nobody can
    change, nor named in ``not_saved``.

    Attributes:
        schedules: options that make it depend on the length of the run; a run with any is made longer with
            ``schedule_steps`` only. Those whose value is a schedule are added by themselves.
        needs_episodes: whether it learns from whole episodes only; a run in which none ends has failed.
        not_saved: attributes that only the constructor sets.
        compiled: what does the updates, where they are compiled.
    """

    schedules: tuple[str, ...] = ()
    needs_episodes = False
    not_saved: ClassVar[tuple[str, ...]] = ("compiled", "_news")
    compiled: CompiledUpdates | None = None
    _news: tuple[str, ...] = ()
    _scheduled: Mapping[str, tuple[Schedule, Range | None]] = {}

    def __post_init__(self) -> None:
        """Where the arguments are the fields of a dataclass: refuses those out of the range that their type gives."""
        self._find_schedules()
        check_fields(self)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        """Learns from the new rows.

        Args:
            workspace: the recording, with ``progress.first_row`` as the first row of the first new transition.
            progress: how far the run is.

        Returns:
            Metrics by name, ``losses/…`` and ``learner/…``, as numbers or detached tensors without dimensions. Empty
            where nothing was learned.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define update")

    def learn_from(self, workspace: Workspace, progress: Progress) -> Metrics:
        """What a run calls after every chunk: :meth:`update`, with each scheduled option at its value.

        A schedule is asked for the moment at which the new rows began, so that the first chunk is learned from with the
        first value. The values are among the metrics, ``learner/<option>``.
        """
        values = self.set_options(progress)
        if self.compiled is not None:
            self.compiled.env_steps_left = progress.total_steps - progress.env_steps + progress.new_steps
        return {**values, **self.update(workspace, progress)} if values else self.update(workspace, progress)

    def set_options(self, progress: Progress) -> dict[str, float]:
        """Sets each scheduled option to its value for new rows, and gives these values as metrics."""
        if not self._scheduled:
            return {}
        self.follow_schedules(progress.env_steps - progress.new_steps, progress.length)
        return {f"learner/{name}": float(getattr(self, name)) for name in self._scheduled}

    def start_schedules(self, total_steps: int) -> None:
        """Checks the schedules among the options, and sets the options to their first values; a run begins with it.

        An attribute that is a schedule becomes a number here, and is the present number whenever :meth:`update` is
        called. ``schedules`` then names it where it depends on the length of the run.

        Args:
            total_steps: the environment steps that the run has for its schedules.

        Raises:
            ConfigurationError: a value of a schedule is not a number, or out of its option's range; 0 is always in.
        """
        self._find_schedules()
        for name, (schedule, _) in self._scheduled.items():
            for index in sorted(range(_N_CHECKED), key=lambda index: -index % (_N_CHECKED - 1)):
                self._value_of(name, total_steps * index // (_N_CHECKED - 1), total_steps)
            if depends_on_total_steps(schedule) and name not in self.schedules:
                self.schedules = (*self.schedules, name)
        if self._scheduled:
            self.follow_schedules(0, total_steps)

    def follow_schedules(self, env_steps: int, total_steps: int) -> None:
        """Sets each scheduled option to its value when ``env_steps`` are done.

        A learner with a part that has a copy of such a number, an optimizer for instance, sets it there too.
        """
        for name in self._scheduled:
            setattr(self, name, self._value_of(name, env_steps, total_steps))

    def _find_schedules(self) -> None:
        found = {name: value for name, value in vars(self).items() if isinstance(value, Schedule)}
        allowed = marks_of(type(self), Range) if found else {}
        self._scheduled = {**self._scheduled, **{name: (found[name], allowed.get(name)) for name in found}}

    def _value_of(self, name: str, env_steps: int, total_steps: int) -> float:
        schedule, allowed = self._scheduled[name]
        value: object = schedule.value_at(env_steps, total_steps)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
            complaint: str | None = "must be a finite number"
        elif value == 0 or allowed is None or (complaint := allowed.complaint(float(value))) is None:
            return float(value)
        at = f"after {env_steps:,} of {total_steps:,} environment steps"
        raise ConfigurationError(f"{name}: {type(schedule).__name__} gives {value} {at}: {complaint}")

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses chunks that it cannot learn from; a run asks before it makes anything. This one learns from any.

        Args:
            steps_per_chunk: time steps of a chunk.
            batch_size: number B of environments.

        Raises:
            ConfigurationError: begins with the name of a constructor's argument, ``sequence_length=5: …``.
        """

    def compile_updates(self, compiler: Compiler, steps_per_chunk: int, batch_size: int) -> None:
        """Makes the updates that follow compiled ones: sets ``compiled``. This one cannot.

        Args:
            compiler: compiles what is needed when it is first needed.
            steps_per_chunk: time steps of a chunk.
            batch_size: number B of environments.

        Raises:
            NotCompilableError: its updates cannot be compiled; it then learns without.
        """
        raise NotCompilableError(f"{type(self).__name__} has no compiled update")

    def give_up_compiling(self, reason: NotCompilableError) -> None:
        """Learns without compiled updates from now on; the reason is among the next news."""
        self.compiled = None
        self._news = (*self._news, f"compile: updates are not compiled: {reason}")

    def news(self) -> tuple[str, ...]:
        """Lines for the console that have not been given before."""
        news, self._news = self._news, ()
        if self.compiled is not None:
            news = (*news, *self.compiled.news())
        return news

    def awaits(self) -> str | None:
        """What it still waits for where it has made no update, such as ``"8 whole episodes"``; None where it has.

        A run asks at its end, and prints it.
        """
        return None

    def begin_from_loaded_parameters(self) -> None:
        """Called once the run ``init_from`` has given its parameters and buffers, before anything is learned.

        The agents have all of them, the learner those of its attributes that fit as a whole. This does nothing; a
        learner with buffers that belong to a moment of the other run starts them from scratch here.
        """

    def replay_buffers(self) -> dict[str, ReplayBuffer]:
        """The replay buffers among the attributes, by name; their rows are kept apart from the rest of the state."""
        return replay_buffers(self)
