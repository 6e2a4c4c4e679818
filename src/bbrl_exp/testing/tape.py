"""Rows of real observations with chosen beginnings and ends of episodes, and environments that show them.

Actions do not change what such environments show, so that two runs can differ in exactly one thing. Episodes are as
short as two rows, and some begin in the first rows of a chunk, whatever the environment's own are like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.checks import played, random_actions
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace

N_ENVIRONMENTS = 4
_N_REAL_ROWS = 384
_LONGEST_EPISODE = 24  # rows
_SHORTEST_CHUNK = 8  # steps of a chunk of which episodes are placed around the beginning
_AROUND = 3  # rows on both sides of the beginning of a chunk in which environment 0 begins no episode
_FLAGS = ("env/initial_state", "env/done", "env/terminated", "env/truncated", "env/timestep", "env/cumulated_reward")


@dataclass(frozen=True, eq=False)
class RealRows:
    """What an environment has shown while actions were drawn at random.

    Attributes:
        rows: every variable that it writes, ``[N, …]``.
        env_spec: of one environment.
        info: info key → dtype name.
    """

    rows: Mapping[str, Tensor]
    env_spec: EnvSpec
    info: Mapping[str, str]

    @classmethod
    def of(cls, environments: EnvironmentAgent, seed: int) -> RealRows:
        """Plays ``environments``."""
        environments.seed(seed)
        n_steps = -(-_N_REAL_ROWS // environments.batch_size)
        workspace = played(environments, Workspace(), random_actions(environments.env_spec, n_steps, seed))
        rows = {name: workspace[name].transpose(0, 1).flatten(0, 1).cpu().clone() for name in environments.writes}
        return cls(rows, replace(environments.env_spec, batch_size=1), environments.info)


@dataclass(frozen=True, eq=False)
class Tape:
    """T rows of B environments.

    Attributes:
        real: where the observations come from.
        rows: variable → ``[T, B, …]``.
    """

    real: RealRows
    rows: Mapping[str, Tensor]

    @classmethod
    def of(cls, real: RealRows, n_rows: int, steps_per_chunk: int, seed: int) -> Tape:
        """A tape of ``n_rows`` rows, to be played in chunks."""
        generator = numpy_generator(seed, "memory check", "tape")
        n_real = len(real.rows["env/reward"])
        begins = generator.permutation(n_real)[np.arange(N_ENVIRONMENTS) % n_real]
        index = torch.from_numpy((begins + np.arange(n_rows)[:, None]) % n_real)
        rows = {name: value[index] for name, value in real.rows.items() if name not in _FLAGS}
        starts = _starts(n_rows, steps_per_chunk, generator)
        return cls(real, rows)._with_starts(starts, generator)

    def __len__(self) -> int:
        return len(self.rows["env/reward"])

    @property
    def starts(self) -> Tensor:
        """Where an episode begins, bool ``[T, B]``."""
        return self.rows["env/initial_state"]

    @property
    def env_spec(self) -> EnvSpec:
        """Of B environments."""
        return spec_of_tape(self.real.env_spec)

    def first(self, n_rows: int) -> Tape:
        """The first rows, as many as there are at most."""
        return Tape(self.real, {name: value[:n_rows] for name, value in self.rows.items()})

    def changed(self, where: Tensor, seed: int) -> Tape:
        """The same with other observations and rewards in the rows ``where``, bool ``[T, B]``."""
        generator = numpy_generator(seed, "memory check", "changed")
        spec = replace(self.env_spec, actions=self.env_spec.observations)
        drawn = random_actions(spec, len(self), int(generator.integers(2**31)))
        rows = dict(self.rows)
        for index, leaf in enumerate(spec.actions):
            other = torch.stack([leaves[index] for leaves in drawn])
            rows[leaf.name] = torch.where(where.view(*where.shape, *[1] * len(leaf.shape)), other, rows[leaf.name])
        noise = torch.from_numpy(generator.standard_normal(where.shape)).float()
        rows["env/reward"] = torch.where(where & ~self.starts, noise, rows["env/reward"])
        return Tape(self.real, rows)._with_totals()

    def with_other_episodes(self, environments: Tensor, seed: int) -> Tape:
        """The same with other beginnings and ends in some ``environments``, bool ``[B]``."""
        generator = numpy_generator(seed, "memory check", "episodes")
        drawn = _starts(len(self), 1, generator)
        starts = np.where(environments.numpy(), drawn, self.starts.numpy())
        return self._with_starts(starts, generator)

    def episodes(self) -> tuple[Tape, Tensor]:
        """One whole episode of each environment, frozen after its end, and the time at which each begins, ``[B]``."""
        done, starts = self.rows["env/done"].numpy(), self.starts.numpy()
        lengths, begins = [], []
        for b in range(starts.shape[1]):
            found = [
                (int(np.argmax(done[t:, b])) + 1, int(t)) for t in np.flatnonzero(starts[:, b]) if done[t:, b].any()
            ]
            length, begin = max(found, key=lambda each: (min(each[0], _LONGEST_EPISODE), each[1]))
            lengths.append(length)
            begins.append(begin)
        steps = np.minimum(np.arange(max(lengths))[:, None], np.array(lengths) - 1)
        index = torch.from_numpy(steps + np.array(begins)), torch.arange(len(begins))
        rows = {name: value[index] for name, value in self.rows.items()}
        is_over = torch.from_numpy(np.arange(max(lengths))[:, None] >= np.array(lengths))
        rows["env/reward"] = rows["env/reward"].masked_fill(is_over, 0.0)
        return Tape(self.real, rows), torch.tensor(begins)

    def _with_starts(self, starts: NDArray[np.bool_], generator: np.random.Generator) -> Tape:
        done = np.zeros_like(starts)
        done[:-1] = starts[1:]
        is_cut = generator.random(starts.shape) < 0.5
        times = np.arange(len(starts))[:, None]
        rows = dict(self.rows)
        rows["env/initial_state"] = torch.from_numpy(starts)
        rows["env/done"] = torch.from_numpy(done)
        rows["env/terminated"] = torch.from_numpy(done & ~is_cut)
        rows["env/truncated"] = torch.from_numpy(done & is_cut)
        rows["env/timestep"] = torch.from_numpy(times - np.maximum.accumulate(np.where(starts, times, 0), axis=0))
        return Tape(self.real, rows)._with_totals()

    def _with_totals(self) -> Tape:
        rows = dict(self.rows)
        rewards = rows["env/reward"].masked_fill(self.starts, 0.0)
        totals, total = [], torch.zeros_like(rewards[0])
        for reward, start in zip(rewards, self.starts, strict=True):
            total = total.masked_fill(start, 0.0) + reward
            totals.append(total)
        rows["env/reward"], rows["env/cumulated_reward"] = rewards, torch.stack(totals)
        return Tape(self.real, rows)


def spec_of_tape(spec: EnvSpec) -> EnvSpec:
    """The facts of environments that show a tape, from those of any number of real ones."""
    return replace(spec, batch_size=N_ENVIRONMENTS)


def _starts(n_rows: int, steps_per_chunk: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Where episodes begin, ``[T, B]``; each has two rows or more.

    At the beginning of a chunk, environment 0 is in the middle of an episode, one begins in environment 1 in the row
    that two chunks share, and in environment 2 in the row after it.
    """
    starts = np.zeros((n_rows, N_ENVIRONMENTS), np.bool_)
    boundaries = np.arange(steps_per_chunk, n_rows, steps_per_chunk)
    is_placed = steps_per_chunk >= _SHORTEST_CHUNK
    for b in range(N_ENVIRONMENTS):
        lengths = generator.integers(2, _LONGEST_EPISODE, n_rows)
        times = np.cumsum(lengths)
        starts[times[times < n_rows], b] = True
        if is_placed and b < 3:
            near = boundaries[:, None] + np.arange(-_AROUND, _AROUND + 1)
            starts[near[near < n_rows], b] = False
            begins = boundaries + b - 1
            starts[begins[begins < n_rows], b] = b > 0
    starts[0] = True
    for t in range(1, n_rows):  # one that would follow another at once
        starts[t] &= ~starts[t - 1]
    return starts


class TapeEnvironments(EnvironmentAgent):
    """Shows the rows of a tape, one after the other, whatever the actions are.

    Args:
        tape: the rows.
        auto_reset: whether they are those of environments with automatic reset.
        name: the agent's name.
    """

    repeats_itself = False

    def __init__(self, tape: Tape, auto_reset: bool = True, name: str | None = None) -> None:
        super().__init__(tape.env_spec, info=tape.real.info, auto_reset=auto_reset, name=name)
        self._tape, self._row = tape, 0

    def reset(self) -> None:
        self._row = 0
        self._show(0)

    def step(self, t: int) -> None:
        self._row += 1
        self._show(t)

    def seed(self, seed: int) -> None:
        """Does nothing: the rows are what they are."""

    def for_evaluation(self, batch_size: int, seed: int, role: str) -> EnvironmentAgent:
        return TapeEnvironments(self._tape.episodes()[0], auto_reset=False, name=self.name)

    def _show(self, t: int) -> None:
        for name in self.writes:
            self.set((name, t), self._tape.rows[name][self._row].to(self.agent_device))


def taken_apart(rows: Mapping[str, Tensor], spec: EnvSpec, t: int) -> Any:
    """The observations of row ``t`` as an environment shows them: arrays, or a mapping or tuple of these."""
    if len(spec.observations) == 1 and not spec.observations[0].path:
        return rows[spec.observations[0].name][t].numpy()
    whole: Any = None
    for leaf in spec.observations:
        whole = _put(whole, leaf.path, rows[leaf.name][t].numpy())
    return _tuples(whole)


def _put(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    whole = {} if whole is None else whole
    whole[path[0]] = _put(whole.get(path[0]), path[1:], value)
    return whole


def _tuples(whole: Any) -> Any:
    """Mappings from 0, 1, … as tuples."""
    if not isinstance(whole, dict):
        return whole
    values = {key: _tuples(value) for key, value in whole.items()}
    return tuple(values.values()) if all(isinstance(key, int) for key in values) else values
