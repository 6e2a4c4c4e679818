"""What a learner remembers is found among its attributes, whatever kind it is of."""

from __future__ import annotations

import io
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.parts.state import attribute_state, load_attribute_state, replay_buffers
from bbrl_exp.nn.flat_optimizer import FlatOptimizer


class Tally:
    """Has a state of its own."""

    def __init__(self) -> None:
        self.count = 0

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


class Dealer(Tally):
    """Fills a replay buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = ReplayBuffer(8, ["env/env_obs"], ["action"], discount=0.5, n_steps=1, extras=())


class Remembers(Learner):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(2, 1)
        self.register_buffer("average", torch.zeros(()))
        self.n_updates, self._temperature, self.is_warm = 0, 0.5, False
        self._torch_generator = torch.Generator().manual_seed(3)
        self._numpy_generator = np.random.default_rng(3)
        self._optimizer = torch.optim.Adam(self.network.parameters(), 0.1)
        self._tally = Tally()
        self._replay = Dealer()
        self.reads = ("env/reward",)
        self.label = "not remembered"
        self.of_a_list = [Tally()]

    def learn(self) -> list[float]:
        """Something that depends on all that is remembered, and changes it."""
        self.n_updates += 1
        self._temperature *= 0.9
        self.is_warm = not self.is_warm
        self._tally.count += 2
        noise = torch.rand(2, generator=self._torch_generator) + self._numpy_generator.standard_normal()
        loss = self.network(noise.float()).sum() * self._temperature * self._tally.count
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return [loss.item(), self.n_updates, self.is_warm, *self.network.weight.flatten().tolist()]


def stored(state: Any) -> Any:
    """The state as it comes from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


FOUND = {
    "n_updates",
    "_temperature",
    "is_warm",
    "_torch_generator",
    "_numpy_generator",
    "_optimizer",
    "_tally",
    "_replay",
}


def test_optimizers_generators_numbers_and_objects_with_a_state_are_found_but_no_text_and_no_objects_in_lists() -> None:
    assert set(attribute_state(Remembers())) == FOUND


def test_collections_of_plain_python_are_remembered_as_what_they_are() -> None:
    class Keeps(Learner):
        def __init__(self) -> None:
            super().__init__()
            self.history: list[Any] = []
            self.seen: set[Any] = set()
            self.counts: dict[Any, Any] = {}
            self.last: deque[float] = deque(maxlen=2)
            self.best: Any = 0.0
            self.kept = [torch.zeros(2)]

    learner, restored = Keeps(), Keeps()
    learner.history += [1, np.float64(2.5), ("a", None)]
    learner.seen |= {"b", "a"}
    learner.counts[3] = [True, {"x": 1}]
    learner.last.extend([1.0, 2.0, 3.0])
    learner.best = np.float32(0.5)
    learner.kept.append(torch.ones(2))
    restored.load_state_dict(stored(learner.state_dict()))
    assert (restored.history, restored.seen, restored.counts) == ([1, 2.5, ("a", None)], {"a", "b"}, learner.counts)
    assert (restored.last, restored.last.maxlen, restored.best) == (deque([2.0, 3.0]), 2, 0.5)
    assert len(restored.kept) == 1


def test_neither_whether_a_module_trains_nor_what_pytorch_keeps_in_it_is_remembered() -> None:
    learner, restored = Remembers(), Remembers()
    learner.eval()
    restored.load_state_dict(stored(learner.state_dict()))
    assert restored.training


def test_a_learner_that_takes_over_a_stored_state_goes_on_to_the_bit() -> None:
    learner, restored = Remembers(), Remembers()
    for _ in range(3):
        learner.learn()
    restored.load_state_dict(stored(learner.state_dict()))
    assert [restored.learn() for _ in range(3)] == [learner.learn() for _ in range(3)]
    assert restored.of_a_list[0].count == 0


def test_the_state_of_the_flat_optimizer_is_among_them() -> None:
    class Flat(Learner):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self._optimizer = FlatOptimizer([self.weight], lambda parameters: torch.optim.Adam(parameters, 0.1))

        def learn(self) -> list[float]:
            self._optimizer.step((self.weight**2).sum())
            numbers: list[float] = self.weight.tolist()
            return numbers

    learner, restored = Flat(), Flat()
    for _ in range(3):
        learner.learn()
    restored.load_state_dict(stored(learner.state_dict()))
    assert [restored.learn() for _ in range(3)] == [learner.learn() for _ in range(3)]


def test_replay_buffers_are_found_by_their_names_alone_or_in_what_fills_them() -> None:
    learner = Remembers()
    learner.second = Dealer().buffer
    assert replay_buffers(learner) == {"replay": learner._replay.buffer, "second": learner.second}
    assert replay_buffers(nn.Linear(1, 1)) == {}


def test_an_option_that_an_earlier_version_kept_as_a_number_is_left_to_the_configuration() -> None:
    module = nn.Module()
    module.count = 1
    load_attribute_state(module, {"_learning_rate": 0.1, "count": 2})
    assert (module.count, hasattr(module, "_learning_rate")) == (2, False)
    with pytest.raises(AttributeError, match="_optimizer"):
        load_attribute_state(module, {"_optimizer": {"state": {}}})
