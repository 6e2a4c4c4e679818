"""What a run will take: steps, chunks, memory; and whether the memory is there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.text import size_in_words

_STEPS_OF_A_RECORDING = 128


@dataclass(frozen=True)
class RunSize:
    """The size of a run.

    Attributes:
        total_steps: environment steps that were asked for.
        batch_size: environments side by side.
        steps_per_chunk: time steps of a chunk.
        chunks_per_recording: chunks after which the recording in the workspace is cut.
        bytes_per_time_step: memory of one row of all variables.
        replay_capacity: transitions that the learner's replay buffers keep.
        replay_bytes: memory of these buffers once they are full.
        schedules: options below ``agent.learner`` that depend on ``total_steps``, or on ``asked_schedule``.
        begun_again: attributes of the learner with parameters that the run ``init_from`` could not give.
        idle: agents of the graph that the learner does not change, and how many parameters they have.
        not_repeatable: why the environment may keep runs from repeating themselves; None where nothing does.
        has_time_limit: whether the environment ends its episodes.
        asked_schedule: environment steps that schedules refer to; None for ``total_steps``.
        not_resumable: why the environment keeps the run from being resumed; None where nothing does.
        longest_resumable_episode: steps after which an episode cannot be resumed; None for no limit.
        compiled: what is compiled, or why nothing is; None where nothing was to be.
    """

    total_steps: int
    batch_size: int
    steps_per_chunk: int
    chunks_per_recording: int
    bytes_per_time_step: int
    replay_capacity: int = 0
    replay_bytes: int = 0
    schedules: tuple[str, ...] = ()
    begun_again: tuple[str, ...] = ()
    idle: Mapping[str, int] = field(default_factory=dict)
    not_repeatable: str | None = None
    has_time_limit: bool = True
    asked_schedule: int | None = None
    not_resumable: str | None = None
    longest_resumable_episode: int | None = None
    compiled: str | None = None

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        from bbrl_exp.training.loop import n_chunks

        return n_chunks(self.total_steps, self.batch_size, self.steps_per_chunk)

    @property
    def time_steps(self) -> int:
        """Time steps that the run will have, without the first row."""
        return self.chunks * self.steps_per_chunk

    @property
    def env_steps(self) -> int:
        """Environment steps that the run will have: those asked for, rounded up to a whole chunk."""
        return self.time_steps * self.batch_size

    @property
    def schedule_steps(self) -> int | None:
        """``asked_schedule``, rounded up to a whole chunk as the run is."""
        return None if self.asked_schedule is None else replace(self, total_steps=self.asked_schedule).env_steps

    @property
    def steps_per_recording(self) -> int:
        """Environment steps between two cuts of the recording."""
        return self.chunks_per_recording * self.steps_per_chunk * self.batch_size

    @property
    def workspace_bytes(self) -> int:
        """Memory of the workspace: a recording, and the row that it begins with."""
        return (self.steps_per_chunk * self.chunks_per_recording + 1) * self.bytes_per_time_step

    def check_memory(self, available: int) -> None:
        """Refuses a workspace that cannot fit, and replay buffers that cannot fit beside it.

        Raises:
            ConfigurationError: more than ``available`` bytes are needed.
        """
        if self.workspace_bytes > available:
            raise ConfigurationError(
                f"key 'batch_size' = {self.batch_size} with 'agent.steps_per_chunk' = {self.steps_per_chunk}: the "
                f"workspace needs {size_in_words(self.workspace_bytes)} and {size_in_words(available)} of memory are "
                "there; must be fewer environments or shorter chunks"
            )
        if self.workspace_bytes + self.replay_bytes > available:
            raise ConfigurationError(
                f"key 'agent.learner.replay_capacity' = {self.replay_capacity}: the replay buffer needs "
                f"{size_in_words(self.replay_bytes)}, the workspace {size_in_words(self.workspace_bytes)}, and "
                f"{size_in_words(available)} of memory are there; must be fewer transitions"
            )


def chunks_per_recording(steps_per_chunk: int, *, learns: bool) -> int:
    """How many chunks stay in the workspace together: several short ones, so that cutting it costs them little.

    Agents that learn nothing have chunks for the sake of the workspace's size alone: one at a time.
    """
    return math.ceil(_STEPS_OF_A_RECORDING / steps_per_chunk) if learns else 1
