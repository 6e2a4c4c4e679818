"""What a learner remembers is found among its attributes, whatever kind it is of."""

from __future__ import annotations

import copy
import enum
import functools
import io
import itertools
import math
import random
import sys
import threading
from collections import Counter, deque, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bbrl_exp.agents.restored_attributes import restore_attributes
from bbrl_exp.arguments import Range
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.functional.schedules import Linear
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.parts.state import adopt_hidden_modules, attribute_state, prepare_state, replay_buffers
from bbrl_exp.nn.flat_optimizer import FlatOptimizer

Step = namedtuple("Step", "reward")


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
        self.label = "a text"
        self.of_a_list = [Tally()]

    def learn(self) -> list[float]:
        """Something that depends on all that is remembered, and changes it."""
        self.n_updates += 1
        self._temperature *= 0.9
        self.is_warm = not self.is_warm
        self._tally.count += 2
        self.of_a_list[0].count += 1
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
    "reads",
    "label",
    "of_a_list",
}


def test_plain_python_and_objects_with_a_state_are_found_also_in_lists() -> None:
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
    learner.kept.append(torch.tensor([1.0, math.nan]))
    restored.load_state_dict(stored(learner.state_dict()))
    assert (restored.history, restored.seen, restored.counts) == ([1, 2.5, ("a", None)], {"a", "b"}, learner.counts)
    assert (restored.last, restored.last.maxlen, restored.best) == (deque([2.0, 3.0]), 2, 0.5)
    assert [kept.tolist()[0] for kept in restored.kept] == [0.0, 1.0]
    assert math.isnan(restored.kept[1][1])
    assert type(restored.best) is np.float32


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
    assert restored.of_a_list[0].count == learner.of_a_list[0].count == 6


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


def test_replay_buffers_are_found_in_containers_too() -> None:
    learner = Remembers()
    learner.others = {"a": [Dealer().buffer]}
    assert replay_buffers(learner) == {"replay": learner._replay.buffer, "others_a_0": learner.others["a"][0]}


class Holds(Learner):
    """Holds what it is given as an attribute."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held


def restored_from(learner: Holds, other: Any) -> Any:
    """What another learner holds that takes over the state of ``learner``."""
    restored = Holds(other)
    restored.load_state_dict(stored(learner.state_dict()))
    return restored.held


def networks(seed: int) -> list[nn.Linear]:
    torch.manual_seed(seed)
    return [nn.Linear(2, 1), nn.Linear(2, 1)]


def optimizers_after(networks: list[nn.Linear], n_steps: int, there: Any = None) -> list[torch.optim.Optimizer]:
    """Two optimizers that have made some steps."""
    made = there or [torch.optim.Adam(network.parameters(), 0.1) for network in networks]
    for _ in range(n_steps):
        for optimizer, network in zip(made, networks, strict=True):
            optimizer.zero_grad()
            (network.weight.sum() ** 2).backward()
            optimizer.step()
    return made


@pytest.mark.parametrize(
    "hold", [list, tuple, lambda both: {"a": {"b": both}}, lambda both: deque([both[:1], both[1:]])]
)
def test_optimizers_in_containers_resume_bit_for_bit(hold: Any) -> None:
    ours, theirs = networks(0), networks(1)
    straight, fresh = optimizers_after(ours, 3), optimizers_after(theirs, 0)
    restored = restored_from(Holds(hold(straight)), hold(fresh))
    assert type(restored) is type(hold(fresh))
    for network, other in zip(ours, theirs, strict=True):
        other.load_state_dict(network.state_dict())
    optimizers_after(ours, 2, straight)
    optimizers_after(theirs, 2, fresh)
    assert all(torch.equal(one.weight, other.weight) for one, other in zip(ours, theirs, strict=True))


DATA: list[Any] = [
    [1, (2.5, "a", None), {"b": [True, b"c", 1 + 2j]}],
    {(1, "a"): {2}, "bbrl_exp": frozenset({3})},
    deque([[1.0], deque([2], maxlen=3)], maxlen=4),
    (np.float32(0.1), np.int64(3), np.arange(6.0).reshape(2, 3), np.zeros(0, np.int8), np.array(["ab", "c"])),
    np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
    [torch.arange(4).view(2, 2), torch.tensor(math.inf, dtype=torch.bfloat16), torch.zeros(0), torch.tensor([1j])],
    [nn.Parameter(torch.ones(2))],
    Counter("abca"),
    math.pi,
    None,
]


def in_words(value: Any) -> Any:
    """A value in which equal things are equal, and things of other types are not."""
    if isinstance(value, torch.Tensor):
        return ("tensor", str(value.dtype), tuple(value.shape), repr(value.tolist()), value.requires_grad)
    if isinstance(value, np.ndarray | np.generic):
        return (type(value).__name__, value.dtype.str, value.shape, repr(value.tolist()))
    if isinstance(value, dict):
        return (type(value).__name__, [(key, in_words(part)) for key, part in value.items()])
    if isinstance(value, list | tuple | deque):
        return (type(value).__name__, getattr(value, "maxlen", None), [in_words(part) for part in value])
    return (type(value).__name__, value)


@pytest.mark.parametrize("data", DATA, ids=[str(index) for index in range(len(DATA))])
def test_data_of_every_kind_comes_back_as_what_it_was(data: Any) -> None:
    fresh = Counter() if isinstance(data, Counter) else None
    assert in_words(restored_from(Holds(data), fresh)) == in_words(data)
    assert in_words(restored_from(Holds(data), copy.deepcopy(data))) == in_words(data)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1], [2, 3]),
        ({"a": 1}, {"b": 2}),
        ({1}, {2}),
        (deque([1], 2), deque([2, 3], 2)),
        (torch.zeros(2), torch.ones(2)),
        (np.zeros(2), np.ones(2)),
        (Counter("a"), Counter("bb")),
    ],
)
def test_containers_tensors_and_arrays_are_restored_in_place(before: Any, after: Any) -> None:
    assert restored_from(Holds(after), before) is before
    assert in_words(before) == in_words(after)


@pytest.mark.parametrize(
    "make",
    [
        lambda: random.Random(3),
        lambda: np.random.default_rng(3),
        lambda: np.random.Generator(np.random.MT19937(3)),
        lambda: torch.Generator().manual_seed(3),
        lambda: np.random.default_rng(3).random,
    ],
)
def test_random_generators_are_remembered_in_containers_and_behind_their_methods(make: Any) -> None:
    def draw(it: Any) -> float:
        if isinstance(it, torch.Generator):
            return float(torch.rand((), generator=it))
        return float(it() if callable(it) else it.random())

    one, other = make(), make()
    for _ in range(5):
        draw(one)
    restored_from(Holds([one]), [other])
    assert draw(one) == draw(other)


def test_schedulers_of_torch_resume_with_their_optimizer() -> None:
    def made() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    straight, fresh = made(), made()
    for _ in range(3):
        straight[0].step()
        straight[1].step()
    restored_from(Holds(list(straight)), list(fresh))
    assert fresh[1].get_last_lr() == straight[1].get_last_lr() == [0.5]
    straight[1].step()
    fresh[1].step()
    assert fresh[0].param_groups[0]["lr"] == straight[0].param_groups[0]["lr"] == 0.25


class Phase(enum.Enum):
    FIRST = 1
    SECOND = 2


class Stateless:
    """Has methods only."""


class Open:
    """Has attributes, and no state."""

    def __init__(self) -> None:
        self.count = 0


class Reports:
    """Has the state that a function gives."""

    def __init__(self, state: Callable[[], Any]) -> None:
        self.state = state

    def load_state(self, state: Any) -> None:
        self.state = lambda: state


def in_itself(container: Any) -> Any:
    """The container, with itself as its only element."""
    if isinstance(container, dict):
        container["self"] = container
    else:
        container.append(container)
    return container


Step = namedtuple("Step", "reward")


@pytest.mark.parametrize(
    "constant",
    [
        Phase.FIRST,
        nn.ReLU,
        math.sin,
        np.mean,
        torch.relu,
        lambda: None,
        functools.partial(round, ndigits=1),
        torch.device("cpu"),
        torch.float32,
        Stateless(),
        Linear(1.0, 0.0),
        Range("0 to 1", bool),
        Path("a"),
        Step(nn.ReLU),
        [nn.ReLU, Stateless()],
    ],
)
def test_what_nobody_can_change_needs_no_state(constant: Any) -> None:
    learner = Holds(constant)
    prepare_state(learner)
    assert attribute_state(learner) == {}


HOW = (
    "which cannot be saved: give its class the methods state() and load_state(state), or, where only the constructor "
    "sets it, name it in the class: not_saved = ('held',)"
)


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        (Open(), f"held is an Open, {HOW}"),
        ([1, {"a": Open()}], f"held[1]['a'] is an Open, {HOW}"),
        (Open().__init__, f"held.__self__ is an Open, {HOW}"),
        (functools.partial(round, Open()), f"held is a partial, {HOW}"),
        (itertools.count(), f"held is a count, {HOW}"),
        (threading.Lock(), f"held is a lock, {HOW}"),
        (np.array([None]), f"held is an array of Python objects, {HOW}"),
        ({Open: 1}, f"held has a type as a key, {HOW}"),
        ({Phase.FIRST}, f"held is a set of other things than numbers and texts, {HOW}"),
        (io.BytesIO(), f"held is a BytesIO, {HOW}"),
        (torch.eye(2).to_sparse(), f"held is a tensor that is sparse, quantized or has no numbers, {HOW}"),
        (torch.ones(2, device="meta"), f"held is a tensor that is sparse, quantized or has no numbers, {HOW}"),
        (Reports(lambda: 1 / 0), "held is a Reports, whose state cannot be read: ZeroDivisionError: division by zero"),
        (Reports(sys.exit), "held is a Reports, whose state cannot be read: SystemExit"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_the_run_begins(held: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        prepare_state(Holds(held))
    assert str(refused.value) == problem


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({"a": [1, Step(1.0)]}, "held.state()['a'][1] is a Step"),
        ({"a": np.zeros(2)}, "held.state()['a'] is a ndarray"),
        ({Phase.FIRST: 1}, "held.state() has a Phase as a key"),
        ([open], "held.state()[0] is a builtin_function_or_method"),
        ({"a": np.float32(1)}, "held.state()['a'] is a float32"),
        (in_itself({}), "held.state()['self'] is a dict in itself"),
    ],
)
def test_a_state_that_no_checkpoint_gives_back_is_refused(state: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        prepare_state(Holds(Reports(lambda: state)))
    allowed = "must be tensors, numbers, texts, lists, tuples, sets and dictionaries"
    assert str(refused.value) == f"{problem}, which cannot be saved: {allowed}"
    learner = Holds(Reports(dict))
    prepare_state(learner)
    learner.held.load_state(state)  # as a memory that is empty at first
    with pytest.raises(BbrlExpError, match="cannot be saved"):
        learner.state_dict()


def test_what_a_named_tuple_holds_is_restored() -> None:
    learner = Holds(Step(torch.zeros(2)))
    prepare_state(learner)
    learner.held.reward.add_(1)
    restored = restored_from(learner, Step(torch.zeros(2)))
    assert in_words(restored) == in_words(Step(torch.ones(2)))
    assert isinstance(restored, Step)


def test_what_the_class_names_is_left_to_the_constructor() -> None:
    class Declares(Holds):
        not_saved = ("held",)

    class Inherits(Declares):
        not_saved = ("other",)

        def __init__(self) -> None:
            super().__init__(Open())
            self.other = Open()

    for learner in (Declares(Open()), Inherits()):
        prepare_state(learner)
        assert attribute_state(learner) == {}


def test_data_that_appears_during_the_run_is_saved() -> None:
    learner, restored = Holds(None), Holds(None)
    prepare_state(learner)
    prepare_state(restored)
    learner.held = [torch.ones(1)]
    learner.later = {"seen": deque([1])}
    restored.load_state_dict(stored(learner.state_dict()))
    assert in_words([restored.held, restored.later]) == in_words([learner.held, learner.later])


ADDED = " was not there when the run began; make modules and parameters in the constructor"
REMOVED = " is no longer there; make modules and parameters in the constructor"


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (
            None,
            [np.random.default_rng(0)],
            "Holds.held[0] is a Generator that was not there when the run began; make it in the constructor",
        ),
        (Phase.FIRST, Phase.SECOND, f"Holds.held has become a Phase, {HOW}"),
        (
            deque(),
            deque([Step(1.0)]),
            "Holds.held[0] is a Step that was not there when the run began; make it in the constructor",
        ),
        (0, Open(), f"held is an Open, {HOW}"),
        (
            [],
            in_itself([]),
            "Holds.held[0] is a list that was not there when the run began; make it in the constructor",
        ),
        (0, nn.Linear(1, 1), f"Holds.held{ADDED}"),
        (nn.Linear(1, 1), nn.Identity(), f"Holds.held.bias{REMOVED}"),
        (nn.Identity(), nn.Linear(1, 1), f"Holds.held.bias{ADDED}"),
    ],
)
def test_what_cannot_be_saved_any_more_ends_the_run_at_its_first_checkpoint(
    before: Any, after: Any, problem: str
) -> None:
    learner = Holds(before)
    prepare_state(learner)
    learner.held = after
    with pytest.raises(BbrlExpError) as refused:
        learner.state_dict()
    assert str(refused.value) == problem


def test_an_order_of_modules_that_changes_during_the_run_is_refused() -> None:
    both = [nn.Linear(1, 1), nn.Linear(1, 1)]
    learner = Holds(both)
    adopt_hidden_modules(learner)
    prepare_state(learner)
    learner.state_dict()
    both.reverse()
    with pytest.raises(BbrlExpError) as refused:
        learner.state_dict()
    assert str(refused.value) == f"Holds.held[0] has become a Linear, {HOW}"


def test_a_list_that_is_nested_too_deeply_is_refused_in_one_line() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    for look in (prepare_state, adopt_hidden_modules, replay_buffers):
        with pytest.raises(ConfigurationError) as refused:
            look(Holds(nested))
        assert str(refused.value) == "held is nested too deeply to be saved"


def test_a_container_in_itself_keeps_its_place_and_restores_the_rest() -> None:
    learner, restored = Holds(in_itself({"count": 1})), Holds(in_itself({"count": 1}))
    prepare_state(learner)
    learner.held["count"] = 2
    restored.load_state_dict(stored(learner.state_dict()))
    assert restored.held["count"] == 2
    assert restored.held["self"] is restored.held


def test_modules_in_containers_become_modules_of_the_learner() -> None:
    shared = nn.Linear(1, 1)
    learner = Holds([shared, {"a.b": nn.Linear(2, 1)}, shared])
    adopt_hidden_modules(learner)
    assert [name for name, _ in learner.named_parameters()] == [
        "held[0].weight",
        "held[0].bias",
        "held[1][a_b].weight",
        "held[1][a_b].bias",
    ]
    prepare_state(learner)
    assert attribute_state(learner) == {}


def test_an_option_that_an_earlier_version_kept_as_a_number_is_left_to_the_configuration() -> None:
    module = nn.Module()
    module.count = 1
    restore_attributes(module, {"_learning_rate": 0.1, "count": 2})
    assert (module.count, hasattr(module, "_learning_rate")) == (2, False)
    with pytest.raises(AttributeError, match="_optimizer"):
        restore_attributes(module, {"_optimizer": {"state": {}}})
