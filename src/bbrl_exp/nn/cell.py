"""Memory cells: what one is, how a user's own is built, and how it is tried before anything is learned."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.arguments import AT_LEAST_1, BuiltLater, is_integer
from bbrl_exp.errors import ConfigurationError, described
from bbrl_exp.nn.network import check_parameters
from bbrl_exp.seeding import seed_global_generators, untouched_global_generators

ArrayStep = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]

_N_STEPS, _N_ROWS = 4, 3


class Cell(nn.Module):
    """A layer with memory: from an input and a state to an output and the next state. Subclasses define :meth:`step`.

    The state is one float32 tensor ``[B, S]``, which is kept outside, in the workspace. An episode begins with zeros,
    whichever cell it is. A row of a batch must not depend on the others.

    Args:
        n_inputs: number D of numbers of an input.
        n_hidden: number H of numbers of an output.
        state_size: number S of numbers of the state.

    Attributes:
        replayed: whether learners that replay stored states take it; false for a cell with states that are too large
            to keep for each row.

    Raises:
        ConfigurationError: a size below 1.
    """

    replayed = True

    def __init__(self, n_inputs: int, n_hidden: int, state_size: int) -> None:
        super().__init__()
        AT_LEAST_1.check(n_inputs=n_inputs, n_hidden=n_hidden, state_size=state_size)
        self.n_inputs = int(n_inputs)  # torch splits by Python's integers only
        self.n_hidden = int(n_hidden)
        self.state_size = int(state_size)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state with which an episode begins: zeros, ``[B, S]``, where the parameters are."""
        like = next(self.parameters(), None)
        return torch.zeros(batch_size, self.state_size) if like is None else like.new_zeros(batch_size, self.state_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One time step.

        Args:
            x: ``[B, D]``.
            state: ``[B, S]``.

        Returns:
            The output ``[B, H]`` and the next state ``[B, S]``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """T time steps of B sequences, with gradients through all of them up to where an episode starts.

        Equal to T calls of :meth:`step`, which is what this method makes; a cell may override it by what is faster.

        Args:
            x: ``[T, B, D]``.
            state: before the first step, ``[B, S]``.
            starts: bool ``[T, B]``: the state is zeroed before step t where ``starts[t]``.

        Returns:
            The outputs ``[T, B, H]`` and the states after each step, ``[T, B, S]``.
        """
        outputs, states = [], []
        for row, start in zip(x, starts, strict=True):
            output, state = self.step(row, state.masked_fill(start.unsqueeze(1), 0.0))
            outputs.append(output)
            states.append(state)
        return torch.stack(outputs), torch.stack(states)

    def outputs(self, x: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        """The outputs ``[T, B, H]`` of :meth:`unroll` alone, which a cell of large states may find faster."""
        return self.unroll(x, state, starts)[0]

    def bounded_units(self, state: Tensor) -> Tensor | None:
        """The units ``[…, U]`` of states ``[…, S]`` that an activation such as tanh keeps between −1 and 1.

        From them runs record how many units are saturated (docs/seeing_memory.md). None where a cell has none.
        """
        return None

    def on_arrays(self) -> ArrayStep | None:
        """:meth:`step` on float32 arrays of numpy, without gradients, for the interaction loop on the CPU.

        It must agree with :meth:`step` up to rounding, and see changes of the parameters. None by default.
        """
        return None


MakeCell = Callable[..., Cell]
# The argument ``cell`` of policies and critics.
CellNode = Annotated[MakeCell, BuiltLater("cell", ("n_inputs", "generator"))] | None


def build_cell(make: MakeCell, n_inputs: int, generator: torch.Generator | None = None) -> Cell:
    """Builds a cell, and runs it on a few numbers between 0 and 1, in evaluation mode.

    Args:
        make: its class, or a function; called with ``n_inputs=``, and with ``generator=`` where it takes that.
        n_inputs: number D of numbers of an input.
        generator: source of the initial weights: handed over, or the seed of the global generators where ``make`` does
            not take one; None leaves these as they are.

    Raises:
        ConfigurationError: what was built is no such cell; the message begins with ``cell``.
    """
    if isinstance(make, nn.Module) or not callable(make):
        raise ConfigurationError(f"cell: must be a class or a function of n_inputs, found a built {_name(make)}")
    try:
        signature = inspect.signature(make)
        takes_generator = "generator" in signature.parameters
        given = {"generator": generator} if takes_generator else {}
        signature.bind(n_inputs=n_inputs, **given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"cell: must be a class or a function of n_inputs: {described(error)}") from error
    with untouched_global_generators():
        if generator is not None and not takes_generator:
            seed_global_generators(int(torch.randint(2**62, (), generator=generator)))
        cell = make(n_inputs=n_inputs, **given)
        if not isinstance(cell, Cell):
            raise ConfigurationError(f"cell: must be a bbrl_exp.nn.cell.Cell, found a {_name(cell)}")
        for name, what in (("n_hidden", "size H of its output [B, H]"), ("state_size", "size S of its state [B, S]")):
            size = getattr(cell, name, None)
            if size is None or not is_integer(size) or size < 1:
                found = f"has no {name}" if size is None else f"has {name}={size!r}"
                raise ConfigurationError(f"cell: {_name(cell)} {found}; must be the {what}")
        _try_out(cell, n_inputs)
        check_parameters(cell, "cell")
    return cell


@torch.no_grad()
def _try_out(cell: Cell, n_inputs: int) -> None:
    """Refuses a cell that fails, that gives something else than it has to, or whose parts contradict each other."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(_N_STEPS, _N_ROWS, n_inputs, generator=generator)
    starts = torch.zeros(_N_STEPS, _N_ROWS, dtype=torch.bool)
    starts[1, 1] = starts[2, 2] = True
    cell.eval()
    first = _call(cell, "initial_state", "", _N_ROWS)
    _check(cell, "initial_state", "the state", first, (_N_ROWS, cell.state_size))
    if first.any():
        raise ConfigurationError(f"cell: {_name(cell)}.initial_state must be zeros, with which every episode begins")
    state, outputs, states = first, [], []
    for row, start in zip(x, starts, strict=True):
        state = state.masked_fill(start.unsqueeze(1), 0.0)
        output, state = _step(cell, row, state)
        outputs.append(output)
        states.append(state)
    stepped = torch.stack(outputs), torch.stack(states)
    for what, rows, same in zip(("output", "state"), stepped, _step(cell, x[0], first), strict=True):
        _compare(cell, f"step gives another {what} for the same input and state", rows[0], same, "keep nothing in self")
    others = torch.cat((x[0, :1], torch.rand(_N_ROWS - 1, n_inputs, generator=generator)))
    for what, rows, same in zip(("output", "state"), stepped, _step(cell, others, first), strict=True):
        fix = "rows must not depend on each other"
        _compare(cell, f"step gives another {what} for a row in another batch", rows[0, 0], same[0], fix)
    for what, rows, same in zip(("output", "state"), stepped, _step(cell, x[0, :1], first[:1]), strict=True):
        _compare(cell, f"step gives another {what} for a row alone", rows[0, :1], same, fix)
    unrolled = _call(cell, "unroll", f" on {_shown(x, first)}", x, first, starts)
    for what, rows, same in zip(("outputs", "states"), stepped, _pair(cell, "unroll", unrolled), strict=True):
        _check(cell, "unroll", what, same, tuple(rows.shape))
        fix = "the state is zeroed before step t where starts[t], and states[t] is the one after step t"
        _compare(cell, f"unroll gives other {what} than its steps", rows, same, fix)
    alone = _call(cell, "outputs", f" on {_shown(x, first)}", x, first, starts)
    _check(cell, "outputs", "the outputs", alone, tuple(stepped[0].shape))
    _compare(cell, "outputs differ from those of its steps", stepped[0], alone, "both must agree")
    _try_out_arrays(cell, x[1], stepped[1][0])
    units = _call(cell, "bounded_units", "", stepped[1])
    if units is not None and (not isinstance(units, Tensor) or units.shape[:-1] != stepped[1].shape[:-1]):
        found = list(units.shape) if isinstance(units, Tensor) else f"a {_name(units)}"
        raise ConfigurationError(
            f"cell: {_name(cell)}.bounded_units gives {found}; must be [{_N_STEPS}, {_N_ROWS}, U] of states "
            f"{list(stepped[1].shape)}, or None"
        )
    cell.train()


def _try_out_arrays(cell: Cell, x: Tensor, state: Tensor) -> None:
    """Compares :meth:`Cell.on_arrays` with :meth:`Cell.step`."""
    on_arrays = _call(cell, "on_arrays", "")
    if on_arrays is None:
        return
    try:
        output, following = (torch.from_numpy(each) for each in on_arrays(x.numpy().copy(), state.numpy().copy()))
    except Exception as error:
        raise ConfigurationError(
            f"cell: {_name(cell)}.on_arrays must give a function of two arrays that gives two arrays, as step does: "
            f"{described(error)}"
        ) from error
    _check(cell, "on_arrays", "the output", output, (len(x), cell.n_hidden))
    _check(cell, "on_arrays", "the next state", following, (len(x), cell.state_size))
    for what, rows, same in zip(("output", "state"), _step(cell, x, state), (output, following), strict=True):
        _compare(cell, f"on_arrays gives another {what} than step", rows, same, "both must agree")


def _call(cell: Cell, method: str, on: str, *values: Any) -> Any:
    try:
        return getattr(cell, method)(*values)
    except Exception as error:
        raise ConfigurationError(f"cell: {_name(cell)}.{method} fails{on}: {described(error)}") from error


def _step(cell: Cell, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    found = _call(cell, "step", f" on {_shown(x, state)}", x, state)
    output, following = _pair(cell, "step", found)
    _check(cell, "step", "the output", output, (len(x), cell.n_hidden))
    _check(cell, "step", "the next state", following, (len(x), cell.state_size))
    return output, following


def _pair(cell: Cell, method: str, found: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(found, tuple) or len(found) != 2:
        raise ConfigurationError(f"cell: {_name(cell)}.{method} gives a {_name(found)}; must be two tensors")
    return found


def _check(cell: Cell, method: str, what: str, found: Any, shape: tuple[int, ...]) -> None:
    wanted = f"must be float32 {list(shape)} (n_hidden={cell.n_hidden}, state_size={cell.state_size})"
    if not isinstance(found, Tensor):
        raise ConfigurationError(f"cell: {_name(cell)}.{method} gives a {_name(found)} as {what}; {wanted}")
    if found.shape != shape or found.dtype != torch.float32:
        is_now = f"{str(found.dtype).removeprefix('torch.')} {list(found.shape)}"
        raise ConfigurationError(f"cell: {_name(cell)}.{method} gives {is_now} as {what}; {wanted}")
    if not found.isfinite().all():
        raise ConfigurationError(f"cell: {_name(cell)}.{method} gives NaN or infinity for numbers between 0 and 1")


def _compare(cell: Cell, what: str, expected: Tensor, found: Tensor, fix: str) -> None:
    if not torch.allclose(expected, found, rtol=1e-3, atol=1e-4):
        difference = float((expected - found).abs().max())
        raise ConfigurationError(f"cell: {_name(cell)}.{what} (by {difference:.2g}); {fix}")


def _shown(x: Tensor, state: Tensor) -> str:
    return f"inputs {list(x.shape)} and a state {list(state.shape)}"


def _name(value: object) -> str:
    return type(value).__name__
