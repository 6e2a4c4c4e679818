"""The loop over the rows of a batch, which numba compiles once for each task.

The functions here are templates: :mod:`bbrl_exp.envs.arrays.compiling` gives them the functions of a task in place of
the names that are declared below.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bbrl_exp.envs.arrays.streams import UNIT, bits53, philox

begin_row: Any = None
advance_row: Any = None
observe_row: Any = None
inform_row: Any = None
action_of: Any = None
is_outside: Any = None


def is_no_choice(actions: Any, row: int, bounds: Any) -> bool:
    """Whether a discrete action is outside of its space."""
    return bool(actions[row] < 0 or actions[row] >= bounds[1, 0])


def is_no_number(actions: Any, row: int, bounds: Any) -> bool:
    """Whether a box action holds a NaN or an infinity."""
    for value in actions[row]:  # noqa: SIM110 (numba compiles no generator expressions)
        if not math.isfinite(value):
            return True
    return False


def choice_of(actions: Any, row: int, bounds: Any, clips: bool, room: Any) -> Any:
    """A discrete action."""
    return actions[row]


def box_of(actions: Any, row: int, bounds: Any, clips: bool, room: Any) -> Any:
    """A box action, clipped where that is wanted; the workspace's own array is left alone."""
    for index in range(len(room)):
        value = actions[row, index]
        room[index] = min(max(value, bounds[0, index]), bounds[1, index]) if clips else value
    return room


def fill_rows(
    begins_all: bool,
    parameters: Any,
    keys: Any,
    visible: Any,
    bounds: Any,
    n_random: int,
    n_shown: int,
    limit: int,
    auto_reset: bool,
    clips: bool,
    counts: Any,
    totals: Any,
    states: Any,
    infos: Any,
    actions: Any,
    observation: Any,
    reward: Any,
    terminated: Any,
    truncated: Any,
    done: Any,
    timestep: Any,
    initial_state: Any,
    cumulated_reward: Any,
) -> int:
    """Steps every environment and fills its row.

    Gives 0, or -1 - i where environment i is given a bad action, or 1 + i where its row has a number that is not
    finite.

    Args:
        begins_all: whether all begin an episode, whatever was before.
        parameters: of the task, ``[P]``.
        keys: of the streams, int64 ``[3, B]``.
        visible: indices of the components of the observation that are recorded.
        bounds: of the actions, ``[2, A]``; of discrete ones 0 and their number.
        n_random: random numbers that begin an episode.
        n_shown: size of the observation of the task.
        limit: of time; 0 for none.
        auto_reset: whether those that have ended begin the next one.
        clips: whether box actions are clipped.
        counts: int64 ``[3, B]``: number of the episode, steps in it, how it has ended.
        totals: sums of rewards, float64 ``[B]``.
        states: float64 ``[B, n_state]``.
        infos: what is filled in for the task's infos, float64 ``[B, n_info]``.
        actions: ``[B]`` or ``[B, A]``.
        observation: the rows, from here to the last argument.
    """
    size = len(totals)
    if not begins_all:
        for i in range(size):
            if is_outside(actions, i, bounds):
                return -1 - i
    bad = 0
    random = np.empty(n_random, np.float64)
    shown = np.empty(n_shown, np.float32)
    room = np.empty(bounds.shape[1], np.float32)
    for i in range(size):
        gain = 0.0
        begins = begins_all or (auto_reset and counts[2, i] != 0)
        if begins:
            counts[0, i] += 1
            for pair in range((n_random + 1) // 2):
                x0, x1, x2, x3 = philox(pair, keys[2, i], counts[0, i], 0, keys[0, i], keys[1, i])
                random[2 * pair] = bits53(x0, x1) * UNIT
                if 2 * pair + 1 < n_random:
                    random[2 * pair + 1] = bits53(x2, x3) * UNIT
            begin_row(random, parameters, states[i])
            counts[1, i], counts[2, i], totals[i] = 0, 0, 0.0
        elif counts[2, i] == 0:
            gain, is_over = advance_row(states[i], action_of(actions, i, bounds, clips, room), parameters)
            totals[i] += gain
            counts[1, i] += 1
            counts[2, i] = (1 if is_over else 0) + (2 if limit > 0 and counts[1, i] >= limit else 0)
        observe_row(states[i], parameters, shown)
        is_finite = math.isfinite(np.float32(totals[i])) and math.isfinite(np.float32(gain))
        for column in range(len(visible)):
            value = shown[visible[column]]
            observation[i, column] = value
            is_finite = is_finite and math.isfinite(value)
        if not is_finite and bad == 0:
            bad = 1 + i
        if infos.shape[1] > 0:
            inform_row(states[i], parameters, infos[i])
        reward[i] = gain
        terminated[i] = counts[2, i] & 1 != 0
        truncated[i] = counts[2, i] & 2 != 0
        done[i] = counts[2, i] != 0
        timestep[i] = counts[1, i]
        initial_state[i] = begins
        cumulated_reward[i] = totals[i]
    return bad
