"""Numbers of samples, steps and rows are whole numbers; anything else is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.data.prioritised import PrioritisedReplay, SumTree
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.data.transitions import align, minibatches, parts
from bbrl_exp.errors import ConfigurationError, WorkspaceError
from bbrl_exp.workspace import Workspace

N_ROWS = 5


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def recording() -> Workspace:
    workspace = Workspace()
    workspace.set_full("env/env_obs", torch.arange(2.0 * N_ROWS).reshape(N_ROWS, 2, 1))
    workspace.set_full("action", torch.zeros(N_ROWS, 2, dtype=torch.int64))
    workspace.set_full("env/reward", torch.ones(N_ROWS, 2))
    for name in ("terminated", "truncated", "done", "initial_state"):
        workspace.set_full(f"env/{name}", torch.zeros(N_ROWS, 2, dtype=torch.bool))
    return workspace


def buffer(capacity: Any = 8, n_steps: Any = 1) -> ReplayBuffer:
    return ReplayBuffer(capacity, ["env/env_obs"], ["action"], discount=0.9, n_steps=n_steps, extras=())


def filled() -> ReplayBuffer:
    replay = buffer()
    replay.put(recording(), 0)
    return replay


def prioritised() -> PrioritisedReplay:
    replay = PrioritisedReplay(buffer())
    replay.put(recording(), 0)
    return replay


CALLS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "samples of minibatches": ("n_samples", lambda value: minibatches(value, 2, generator())),
    "size of minibatches": ("size", lambda value: minibatches(6, value, generator())),
    "samples of parts": ("n_samples", lambda value: parts(value, 2, generator())),
    "parts": ("n_parts", lambda value: parts(6, value, generator())),
    "capacity": ("capacity", lambda value: buffer(capacity=value)),
    "steps": ("n_steps", lambda value: buffer(n_steps=value)),
    "rows kept": ("batch_size", lambda value: buffer().rows_kept(value)),
    "batch": ("batch_size", lambda value: filled().sample(value, generator())),
    "batch of sequences": ("batch_size", lambda value: filled().sample_sequences(value, 3, generator())),
    "length of sequences": ("length", lambda value: filled().sample_sequences(2, value, generator())),
    "prioritised batch": ("batch_size", lambda value: prioritised().sample(value, generator(), importance_exponent=1)),
    "weights": ("n_weights", SumTree),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, True])
def test_what_is_not_a_whole_number_of_at_least_1_is_refused_by_its_name(call: str, value: Any) -> None:
    name, function = CALLS[call]
    with pytest.raises(ConfigurationError, match=f"^{name}={value}: must be (at least 1|a whole number, at least 1)$"):
        function(value)


@pytest.mark.parametrize("call", CALLS)
def test_integers_of_numpy_are_whole_numbers(call: str) -> None:
    CALLS[call][1](np.int64(3))


@pytest.mark.parametrize("value", [-1, 0.5, 1.0, True])
def test_a_first_row_is_the_number_of_a_row(value: Any) -> None:
    with pytest.raises(WorkspaceError, match=f"^replay: no row {value}: 'env/done' has 5 rows$"):
        buffer().put(recording(), value)
    with pytest.raises(WorkspaceError, match=f"^no transition from row {value} on: 'env/done' has 5 rows$"):
        align(recording(), ["env/env_obs"], ["action"], first_row=value)
