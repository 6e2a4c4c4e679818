"""Memory cells: a user's own with nothing but a step, how it is built, and what is refused before anything runs."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.cell import ArrayStep, Cell, build_cell
from bbrl_exp.nn.recurrent import GRU, LSTM

N_INPUTS = 2


class Average(Cell):
    """A moving average of a layer's output: a complete cell of a user's own."""

    def __init__(self, n_inputs: int, n_hidden: int = 3, rate: float = 0.5) -> None:
        super().__init__(n_inputs, n_hidden, n_hidden)
        self.layer = nn.Linear(n_inputs, n_hidden)
        self.rate = rate

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        following = torch.lerp(state, self.layer(x), self.rate)
        return following.tanh(), following


class NoSize(Average):
    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs)
        del self.n_hidden


class NoStep(Cell):
    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs, 1, 1)


class Fails(Average):
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(x, state[:, :1] @ state)


class One(Average):
    def step(self, x: Tensor, state: Tensor) -> Any:
        return super().step(x, state)[0]


class Wide(Average):
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, following = super().step(x, state)
        return torch.cat((output, output), dim=1), following


class Doubles(Average):
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, following = super().step(x, state)
        return output, following.double()


class Infinite(Average):
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(x / 0, state)


class Ones(Average):
    def initial_state(self, batch_size: int) -> Tensor:
        return torch.ones(batch_size, self.state_size)


class Remembers(Average):
    """Keeps something in itself, where no workspace sees it."""

    before: Tensor | float = 0.0

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, following = super().step(x + self.before, state)
        self.before = x
        return output, following


class MixesRows(Average):
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(x - x.mean(dim=0), state)


class NoResets(Average):
    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        return super().unroll(x, state, torch.zeros_like(starts))


class LastState(Average):
    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        outputs, states = super().unroll(x, state, starts)
        return outputs, states[-1]


class StatesBefore(Average):
    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        outputs, states = super().unroll(x, state, starts)
        return outputs, torch.cat((state[None], states[:-1]))


class OtherArrays(Average):
    def on_arrays(self) -> ArrayStep:
        return lambda x, state: (x[:, :1].repeat(3, 1), state)


class FailingArrays(Average):
    def on_arrays(self) -> ArrayStep:
        return lambda x, state: (x,)  # type: ignore[return-value]


class DoubleArrays(Average):
    def on_arrays(self) -> ArrayStep:
        return lambda x, state: (state.astype("float64"), state)


class OtherOutputs(Average):
    def outputs(self, x: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        return super().outputs(x, state, torch.zeros_like(starts))


class Squeezes(Average):
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, state = super().step(x, state)
        return output.squeeze(), state


class NoFirstState(Average):
    def initial_state(self, batch_size: int) -> Tensor:
        raise ValueError("no state")


class FailingUnits(Average):
    def bounded_units(self, state: Tensor) -> Tensor | None:
        return state.tanh(1)  # type: ignore[call-arg]


class FewUnits(Average):
    def bounded_units(self, state: Tensor) -> Tensor | None:
        return state[0, 0]


class DoubleWeights(Average):
    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs)
        self.other = nn.Linear(1, 1).double()


def test_a_cell_needs_nothing_but_a_step() -> None:
    cell = build_cell(Average, N_INPUTS, torch.Generator().manual_seed(0))
    x, state = torch.rand(3, 2, N_INPUTS), torch.rand(2, 3)
    starts = torch.tensor([[False, False], [False, True], [True, False]])
    outputs, states = cell.unroll(x, state, starts)
    expected = state
    for t in range(3):
        expected = torch.where(starts[t, :, None], 0.0, expected)
        output, expected = cell.step(x[t], expected)
        assert torch.equal(outputs[t], output)
        assert torch.equal(states[t], expected)
    assert cell.training
    assert cell.on_arrays() is None
    assert cell.initial_state(2).tolist() == [[0.0] * 3] * 2


def test_options_are_handed_over_and_a_generator_where_it_is_taken() -> None:
    assert build_cell(partial(Average, n_hidden=5, rate=1.0), N_INPUTS).n_hidden == 5
    one, same = (build_cell(GRU, N_INPUTS, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.state_dict()["input_weight"], same.state_dict()["input_weight"])
    expected = GRU(N_INPUTS, 64, torch.Generator().manual_seed(4)).state_dict()["input_weight"]
    assert torch.equal(one.state_dict()["input_weight"], expected)


def test_weights_come_from_the_generator_and_the_global_one_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    weights = [build_cell(Average, N_INPUTS, torch.Generator().manual_seed(seed)).layer.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])  # type: ignore[arg-type]
    assert not torch.equal(weights[0], weights[2])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_steps_on_arrays_survive_a_copy(kind: Any) -> None:
    cell = build_cell(kind, N_INPUTS)
    for copied in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert torch.equal(copied.hidden_weight, cell.hidden_weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Average(2), "cell: must be a class or a function of n_inputs, found a built Average"),
        (8, "cell: must be a class or a function of n_inputs, found a built int"),
        (lambda n_inputs: nn.GRUCell(n_inputs, 3), "cell: must be a bbrl_exp.nn.cell.Cell, found a GRUCell"),
        (
            lambda inputs: GRU(inputs, 3),
            "cell: must be a class or a function of n_inputs: TypeError: missing a required argument: 'inputs'",
        ),
        (partial(Average, units=3), "cell: must be a class or a function of n_inputs: ValueError: "),
        (NoSize, "cell: NoSize has no n_hidden; must be the size H of its output [B, H]"),
        (NoStep, "cell: NoStep.step fails on inputs [3, 2] and a state [3, 1]: NotImplementedError: NoStep does not"),
        (Fails, "cell: Fails.step fails on inputs [3, 2] and a state [3, 3]: RuntimeError: "),
        (One, "cell: One.step gives a Tensor; must be two tensors"),
        (
            Wide,
            "cell: Wide.step gives float32 [3, 6] as the output; must be float32 [3, 3] (n_hidden=3, state_size=3)",
        ),
        (
            Doubles,
            "cell: Doubles.step gives float64 [3, 3] as the next state; must be float32 [3, 3] (n_hidden=3, "
            "state_size=3)",
        ),
        (Infinite, "cell: Infinite.step gives NaN or infinity for numbers between 0 and 1"),
        (Ones, "cell: Ones.initial_state must be zeros, with which every episode begins"),
        (Remembers, "cell: Remembers.step gives another output for the same input and state (by "),
        (MixesRows, "cell: MixesRows.step gives another output for a row in another batch (by "),
        (NoResets, "cell: NoResets.unroll gives other outputs than its steps (by "),
        (
            LastState,
            "cell: LastState.unroll gives float32 [3, 3] as states; must be float32 [4, 3, 3] (n_hidden=3, "
            "state_size=3)",
        ),
        (StatesBefore, "cell: StatesBefore.unroll gives other states than its steps (by "),
        (OtherArrays, "cell: OtherArrays.on_arrays gives another output than step"),
        (
            FailingArrays,
            "cell: FailingArrays.on_arrays must give a function of two arrays that gives two arrays, as step does: "
            "ValueError: not enough values to unpack (expected 2, got 1)",
        ),
        (
            DoubleArrays,
            "cell: DoubleArrays.on_arrays gives float64 [3, 3] as the output; must be float32 [3, 3] (n_hidden=3, "
            "state_size=3)",
        ),
        (OtherOutputs, "cell: OtherOutputs.outputs differ from those of its steps (by "),
        (
            Squeezes,
            "cell: Squeezes.step gives float32 [3] as the output; must be float32 [1, 3] (n_hidden=3, state_size=3)",
        ),
        (NoFirstState, "cell: NoFirstState.initial_state fails: ValueError: no state"),
        (FailingUnits, "cell: FailingUnits.bounded_units fails: TypeError: "),
        (
            FewUnits,
            "cell: FewUnits.bounded_units gives [3]; must be [4, 3, U] of states [4, 3, 3], or None",
        ),
        (DoubleWeights, "cell: DoubleWeights.other.weight is torch.float64; must be torch.float32"),
    ],
)
def test_what_is_no_cell_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_cell(make, N_INPUTS, torch.Generator().manual_seed(0))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_difference_says_by_how_much_and_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"\(by 0\.\d+\); the state is zeroed before step t where starts\[t\]"):
        build_cell(NoResets, N_INPUTS, torch.Generator().manual_seed(0))
