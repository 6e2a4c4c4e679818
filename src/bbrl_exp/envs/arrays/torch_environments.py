"""Array environments as tensors, on any device: a step is a few operations for the whole batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.actions import ActionReader
from bbrl_exp.envs.arrays.environments import ArrayEnvironments
from bbrl_exp.envs.arrays.streams import uniforms
from bbrl_exp.envs.staging import packed_to_host, torch_dtype
from bbrl_exp.errors import BbrlExpError, NonFiniteError

# First states are computed for so many episodes of every environment at once; an episode has two rows at least.
_EPISODES_AHEAD = 16


class TorchEnvironments(ArrayEnvironments):
    """Environments of a task with methods for a batch of tensors: see :class:`ArrayEnvironments` for the arguments.

    Rows are computed in float64 on ``agent_device`` and recorded there. Nothing leaves the device but one bool per
    step, which says whether the actions and the row are as they must be.

    Raises:
        ConfigurationError: see :class:`ArrayEnvironments`.
    """

    computes_rows = True
    _episodes: Tensor

    def reset(self) -> None:
        """Begins an episode everywhere and writes row 0.

        Raises:
            NonFiniteError: a NaN or an infinity in an observation.
        """
        self._move_to(self.agent_device)
        everywhere = torch.ones(self.batch_size, dtype=torch.bool, device=self.agent_device)
        nothing = torch.zeros(self.batch_size, dtype=torch.float64, device=self.agent_device)
        self._episodes = self._episodes + 1
        self._rows_left = 0
        self._states = self.task.begin(uniforms(self._keys_there, self._episodes, self.task.n_random))
        self._steps = torch.zeros_like(self._episodes)
        self._totals, self._terminated, self._truncated = nothing, ~everywhere, ~everywhere
        self._has_begun = True
        self._write(0, nothing, everywhere, None)

    def step(self, t: int) -> None:
        """Writes row ``t``.

        Raises:
            NonFiniteError: a NaN or an infinity in a reward, an observation or an action.
            SpaceMismatchError: an action that is not of its space.
            WorkspaceError: the action at t - 1 was never written.
        """
        self._check_begun(t)
        chosen = self.get((self.reads[0], t - 1)).detach()
        if chosen.dtype != self._dtype or chosen.shape != self._shape:
            (values,) = packed_to_host([chosen])
            action = torch.from_numpy(self._reader(values, t - 1)).to(self.agent_device)
        else:
            action = chosen
        if self._is_box:
            is_allowed = action.isfinite().all()
        else:
            is_allowed = ((action >= 0) & (action < self._n_choices)).all()
            action = action.clamp(0, self._n_choices - 1)  # a wrong one is reported below, and indexes nothing
        if self._bounds[0] is not None and self._bounds[1] is not None:
            action = torch.minimum(torch.maximum(action, self._bounds[0]), self._bounds[1])
        was_over = self._terminated | self._truncated
        states, reward, terminated = self.task.advance(self._states, action)
        steps = self._steps + 1
        limit = self.task.max_episode_steps
        truncated = torch.zeros_like(terminated) if limit is None else steps >= limit
        reward = reward.double().masked_fill(was_over, 0.0)
        if self.auto_reset:
            states = torch.where(was_over[:, None], self._first_states(), states)
            self._episodes = self._episodes + was_over
            self._steps = steps.masked_fill(was_over, 0)
            self._totals = self._totals.masked_fill(was_over, 0.0) + reward
            self._terminated, self._truncated = terminated & ~was_over, truncated & ~was_over
        else:
            states = torch.where(was_over[:, None], self._states, states)
            self._steps = torch.where(was_over, self._steps, steps)
            self._totals = self._totals + reward
            self._terminated = torch.where(was_over, self._terminated, terminated)
            self._truncated = torch.where(was_over, self._truncated, truncated)
        self._states = states
        begins = was_over if self.auto_reset else torch.zeros_like(was_over)
        self._write(t, reward, begins, is_allowed, chosen)

    def run_state(self) -> dict[str, Any]:
        """Task, root seeds, numbers of episodes, steps, ends, states and sums of rewards: tensors and plain Python.

        Raises:
            BbrlExpError: environments that have failed.
        """
        self._check_begun(0)
        ends = self._terminated.long() + 2 * self._truncated.long()
        return {
            "env_id": self.env_spec.env_id,
            "seeds": list(self._seeds),
            "counts": torch.stack([self._episodes, self._steps, ends]),
            "totals": self._totals.clone(),
            "states": self._states.clone(),
        }

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Resumes from where :meth:`run_state` was taken.

        Raises:
            ConfigurationError: the state of another task, or of another number of environments.
        """
        self._check_state(state)
        self.seed(state["seeds"])
        self._episodes, self._steps, ends = state["counts"].clone().unbind(0)
        self._terminated, self._truncated = (ends & 1) != 0, (ends & 2) != 0
        self._totals, self._states = state["totals"].clone(), state["states"].clone()
        self._move_to(self.agent_device)
        self._has_begun = True

    def _use_keys(self, keys: NDArray[np.int64]) -> None:
        self._keys_there = torch.from_numpy(keys).to(self._episodes.device)
        self._episodes = torch.full_like(self._episodes, -1)
        self._rows_left = 0

    def _set_up(self) -> None:
        task = self.task
        self._reader = ActionReader(task.action, self.batch_size, clip=False)
        self._dtype, self._shape = torch_dtype(np.dtype(task.action.dtype)), (self.batch_size, *task.action.shape)
        self._is_box = task.action.kind == "box"
        self._n_choices = 0 if task.action.counts is None else int(task.action.counts)
        clips = self.env_spec.clips_actions and self._is_box
        bounds = (task.action.low, task.action.high) if clips else (None, None)
        self._bounds = tuple(None if bound is None else torch.from_numpy(np.array(bound)) for bound in bounds)
        self._shown = torch.from_numpy(self._visible)
        self._shows_all = len(self._visible) == task.observation.shape[0]
        self._casts = [torch_dtype(np.dtype(dtype)) for dtype in self.info.values()]
        self._episodes = torch.full((self.batch_size,), -1)
        self._steps, self._totals = torch.zeros(self.batch_size, dtype=torch.int64), torch.zeros(0)
        self._states = self._ahead = torch.zeros(0)
        self._terminated = self._truncated = torch.zeros(0, dtype=torch.bool)
        self._base = self._episodes

    def _state_of(self, index: int) -> NDArray[np.float64]:
        state: NDArray[np.float64] = self._states[index].double().cpu().numpy()
        return state

    def _move_to(self, device: torch.device) -> None:
        """Tensors are kept where the rows are."""
        for name in ("_keys_there", "_episodes", "_steps", "_totals", "_states", "_terminated", "_truncated", "_shown"):
            setattr(self, name, getattr(self, name).to(device))
        self._bounds = tuple(None if bound is None else bound.to(device) for bound in self._bounds)
        self._rows_left = 0

    def _first_states(self) -> Tensor:
        """The first state of the next episode of each environment, from a block that holds several of them."""
        if self._rows_left == 0:
            self._base = self._episodes + 1
            later = torch.arange(_EPISODES_AHEAD, device=self._base.device)[:, None]
            self._ahead = self.task.begin(uniforms(self._keys_there, self._base + later, self.task.n_random))
            self._rows_left = 2 * _EPISODES_AHEAD - 1
            self._environments = torch.arange(self.batch_size, device=self._base.device)
        self._rows_left -= 1
        return self._ahead[self._episodes + 1 - self._base, self._environments]

    def _write(
        self, t: int, reward: Tensor, begins: Tensor, is_allowed: Tensor | None, chosen: Tensor | None = None
    ) -> None:
        shown = self.task.observe(self._states).float()
        if not self._shows_all:
            shown = shown.index_select(1, self._shown)
        infos = self.task.inform(self._states) if self.info else {}
        row = [
            shown,
            reward.float(),
            self._terminated,
            self._truncated,
            self._terminated | self._truncated,
            self._steps,
            begins,
            self._totals.float(),
            *(infos[key].to(cast) for key, cast in zip(self.info, self._casts, strict=True)),
        ]
        is_finite = shown.isfinite().all() & row[7].isfinite().all() & row[1].isfinite().all()
        if not bool(is_finite if is_allowed is None else is_finite & is_allowed):
            self._fail(t, row, chosen)
        for name, values in zip(self.writes, row, strict=True):
            self.set((name, t), values)

    def _fail(self, t: int, row: Sequence[Tensor], chosen: Tensor | None) -> NoReturn:
        self._has_begun = False
        if chosen is not None:
            (found,) = packed_to_host([chosen])
            self._reader(found, t - 1)
        for name, values in zip(self.writes, row, strict=True):
            if values.is_floating_point():
                for index in (~values.isfinite()).nonzero().tolist():
                    raise NonFiniteError(name, index[0], t, values[tuple(index)].item())
        raise BbrlExpError(f"{self.label} at t={t}: an environment failed")
