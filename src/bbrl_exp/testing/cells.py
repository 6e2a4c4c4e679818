"""Memory cells: whether whole sequences are their steps, and what a learner asks of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.seeding import torch_generator
from bbrl_exp.testing.differences import Difference, Rows, differences

EXACT, ROUNDED = 1e-10, 1e-5  # float64, float32
_ROUNDED_GRADIENTS = 1e-4
_N_STEPS, _N_SEQUENCES = 24, 4
_MOST_CALLS = 64
LEARNER = "learner."
_OF_SEQUENCES = ("unroll", "outputs")


@runtime_checkable
class Unrollable(Protocol):
    """A module that goes from inputs and a state to outputs and the next state, a step or a whole sequence at a time.

    The state is ``[B, S]`` and zeroed where an episode begins.
    """

    n_inputs: int

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros ``[B, S]``."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The output ``[B, H]`` and the next state ``[B, S]``."""

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs ``[T, B, H]``, and the states after each step ``[T, B, S]`` or after the last one ``[B, S]``."""


Cells = dict[str, Any]


def cells_of(graph: Agent, learner: nn.Module | None = None) -> Cells:
    """The cells of a graph by agent and path, and those that only its learner has, below ``learner.``."""
    cells: Cells = {}
    agents = {path: part.name for path, part in graph.named_modules() if isinstance(part, Agent) and part.name}
    for path, part in graph.named_modules():
        if isinstance(part, Unrollable):
            inside = max((each for each in agents if f"{path}.".startswith(f"{each}.")), key=len, default="")
            cells[f"{agents.get(inside, '')}{path.removeprefix(inside)}"] = part
    known = set(map(id, cells.values()))
    for path, part in () if learner is None else learner.named_modules():
        if isinstance(part, Unrollable) and id(part) not in known:
            cells[LEARNER + path] = part
    return cells


@dataclass(frozen=True, eq=False)
class Sequences:
    """Inputs of a cell."""

    x: Tensor
    state: Tensor
    starts: Tensor


def sequences_for(cell: Any, dtype: torch.dtype) -> Sequences:
    """Random inputs, a state to which others have led, and beginnings of episodes, in the first row and others."""
    generator = torch_generator(0, "memory check", "sequences")
    x = torch.randn(2 * _N_STEPS, _N_SEQUENCES, cell.n_inputs, generator=generator, dtype=torch.float64).to(dtype)
    state = cell.initial_state(_N_SEQUENCES).to(dtype)
    with torch.no_grad():
        for row in x[:_N_STEPS]:
            _, state = cell.step(row, state)
    starts = torch.rand(_N_STEPS, _N_SEQUENCES, generator=generator) < 0.15
    starts[:, 3] = False
    for row, sequence in ((0, 1), (1, 2), (-2, 1), (-1, 0)):  # next to both ends, and in rows that follow each other
        starts[row] = torch.arange(_N_SEQUENCES) == sequence
    return Sequences(x[_N_STEPS:].contiguous(), state.detach().clone(), starts)


def stepped(cell: Any, given: Sequences) -> tuple[Tensor, Tensor]:
    """Outputs and states after each row, by :meth:`Unrollable.step` alone."""
    state, outputs, states = given.state, [], []
    for row, start in zip(given.x, given.starts, strict=True):
        output, state = cell.step(row, state.masked_fill(start.unsqueeze(1), 0.0))
        outputs.append(output)
        states.append(state)
    return torch.stack(outputs), torch.stack(states)


def unrolled(cell: Any, given: Sequences) -> tuple[Tensor, Tensor]:
    """Outputs and the states that :meth:`Unrollable.unroll` gives, ``[T or 1, B, S]``."""
    outputs, states = cell.unroll(given.x, given.state, given.starts)
    return outputs, states if states.ndim == 3 else states.unsqueeze(0)


def sequence_difference(cell: Any, dtype: torch.dtype) -> Difference:
    """Between ``unroll`` and the steps of a copy of a cell: outputs, states and gradients."""
    cell = copy.deepcopy(cell).to(dtype).requires_grad_(True)  # also where only another one is learned
    given = sequences_for(cell, dtype)
    expected, expected_gradients = _with_gradients(cell, given, stepped)
    found, found_gradients = _with_gradients(cell, given, unrolled)
    expected["state after"] = expected["state after"][-len(found["state after"]) :]
    is_exact = dtype == torch.float64
    values = differences(expected, found, EXACT if is_exact else ROUNDED)
    gradients = differences(expected_gradients, found_gradients, EXACT if is_exact else _ROUNDED_GRADIENTS)
    return values & gradients.at("gradients")


def _with_gradients(
    cell: Any, given: Sequences, run: Callable[[Any, Sequences], tuple[Tensor, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    inputs = Sequences(given.x.clone().requires_grad_(), given.state.clone().requires_grad_(), given.starts)
    outputs, states = run(cell, inputs)
    weights = torch.randn(outputs.shape, generator=torch_generator(0, "memory check", "weights"), dtype=torch.float64)
    wanted = {"inputs": inputs.x, "state before": inputs.state, **dict(cell.named_parameters())}
    loss = (outputs * weights.to(outputs.dtype)).sum()
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    full = {
        # as rows of one time step, so that any shape can be compared
        name: (torch.zeros_like(value) if gradient is None else gradient)
        for (name, value), gradient in zip(wanted.items(), gradients, strict=True)
    }
    rows = {name: value if name == "inputs" else value.reshape(1, 1, -1) for name, value in full.items()}
    return {"output": outputs, "state after": states}, rows


def gradient_leak(cell: Any, *, across_resets: bool) -> Difference:
    """The largest gradient of outputs with respect to what they must not depend on.

    Args:
        cell: as it is.
        across_resets: outputs since an episode began with respect to what was before; else outputs of some sequences
            with respect to others.
    """
    cell = copy.deepcopy(cell)
    given = sequences_for(cell, _dtype_of(cell))
    leaf = Sequences(given.x.clone().requires_grad_(), given.state.clone().requires_grad_(), given.starts)
    outputs, _ = cell.unroll(leaf.x, leaf.state, leaf.starts)
    if across_resets:
        times = torch.arange(len(given.x)).unsqueeze(1)
        last = torch.where(given.starts, times, -1).amax(0)
        counts, forbidden = (times >= last) & (last >= 0), times < last
    else:
        is_even = torch.arange(outputs.shape[1]) % 2 == 0
        counts = is_even.expand(len(given.x), -1)
        forbidden = ~counts
    loss = (outputs * counts.unsqueeze(2)).sum()
    found_gradients: Sequence[Tensor | None] = torch.autograd.grad(loss, [leaf.x, leaf.state], allow_unused=True)
    x_gradient, state_gradient = found_gradients
    gradients = torch.zeros_like(leaf.x) if x_gradient is None else x_gradient
    found = differences(
        {"gradient of the inputs": torch.zeros_like(gradients)}, {"gradient of the inputs": gradients}, 0.0, forbidden
    )
    if state_gradient is None:
        return found
    whole = {"gradient of the state before": state_gradient.unsqueeze(0)}
    zeros = {name: torch.zeros_like(value) for name, value in whole.items()}
    rows = (counts.any(0) & (last >= 0) if across_resets else forbidden[0]).unsqueeze(0)
    return found & differences(zeros, whole, 0.0, rows)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of ``unroll``, or of ``outputs``, which gives no states, by a learner.

    Attributes:
        path: of the cell, see :func:`cells_of`.
        parameters: a number for those that the learner and the graph had.
        given: what the cell was given.
        outputs: ``[T, N, H]``.
        states: those that were returned, ``[M, S]``.
    """

    path: str
    parameters: float
    given: Sequences
    outputs: Tensor
    states: Tensor


@contextlib.contextmanager
def watched(cells: Mapping[str, Any], modules: Sequence[nn.Module]) -> Iterator[list[Call]]:
    """Notes the first calls of ``unroll``, and of ``outputs`` where they have it, of cells while the block runs."""
    calls: list[Call] = []

    def watch(path: str, cell: Any, method: str) -> None:
        run = getattr(cell, method)

        def noting(x: Tensor, state: Tensor, starts: Tensor, *others: Any, **options: Any) -> Any:
            found = run(x, state, starts, *others, **options)
            if len(calls) < _MOST_CALLS:
                given = Sequences(x.detach().clone(), state.detach().clone(), starts.clone())
                outputs, states = found if isinstance(found, tuple) else (found, state[:0])
                kept = states.detach().flatten(0, -2).clone()
                calls.append(Call(path, fingerprint(modules), given, outputs.detach().clone(), kept))
            return found

        setattr(cell, method, noting)

    noted = [(cell, method) for cell in cells.values() for method in _OF_SEQUENCES if hasattr(cell, method)]
    for path, cell in cells.items():
        for method in _OF_SEQUENCES:
            if (cell, method) in noted:
                watch(path, cell, method)
    try:
        yield calls
    finally:
        for cell, method in noted:
            delattr(cell, method)


@dataclass(frozen=True, eq=False)
class Stepped:
    """What a cell did while its agent acted, row by row.

    Attributes:
        x: inputs, ``[T, B, D]``.
        state: before each row, ``[T, B, S]``.
        outputs: ``[T, B, H]``.
    """

    x: Tensor
    state: Tensor
    outputs: Tensor


@contextlib.contextmanager
def noted_steps(cells: Mapping[str, Any]) -> Iterator[Callable[[], dict[str, Stepped]]]:
    """Notes the calls of ``step`` of cells while the block runs; gives a function that puts them together."""
    rows: dict[str, list[tuple[Tensor, ...]]] = {path: [] for path in cells}

    def watch(path: str, cell: Any) -> None:
        step = cell.step

        def noting(x: Tensor, state: Tensor) -> Any:
            found = step(x, state)
            rows[path].append(tuple(value.detach().clone() for value in (x, state, found[0])))
            return found

        cell.step = noting

    for path, cell in cells.items():
        watch(path, cell)
    try:
        yield lambda: {
            path: Stepped(*(torch.stack(values) for values in zip(*noted, strict=True)))
            for path, noted in rows.items()
            if noted
        }
    finally:
        for cell in cells.values():
            del cell.step


def fingerprint(modules: Sequence[nn.Module]) -> float:
    """A number that is another one where a parameter is."""
    found = 0.0
    for module in modules:
        for index, parameter in enumerate(module.parameters()):
            values = parameter.detach().double().flatten()
            found += float((values * torch.cos(torch.arange(len(values)) + index)).sum())
    return found


def compared(cell: Any, like: Any) -> Difference:
    """Between ``unroll`` of a cell as it is and the steps of another one with the same parameters."""
    given = sequences_for(like, _dtype_of(like))
    with torch.no_grad():
        expected, states = stepped(like, given)
        found, found_states = unrolled(cell, given)
    rows: Rows = {"output": expected, "state after": states[-len(found_states) :]}
    return differences(rows, {"output": found, "state after": found_states}, ROUNDED)


def _dtype_of(cell: nn.Module) -> torch.dtype:
    return next((each.dtype for each in cell.parameters()), torch.float32)
