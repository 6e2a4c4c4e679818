"""Runs a learner's updates as compiled graphs, one for each kind of update, made when it is first due."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbrl_exp.compilation.compiler import Compiler, Function, NotCompilableError
from bbrl_exp.learners.compiled.optimizers import N_NUMBERS
from bbrl_exp.learners.compiled.recording import Body, LearnerTensors, attributes, check_equal, record

# Most updates in one graph: more make it longer to compile, and hardly faster to run.
MOST_UPDATES = 4


@dataclass(frozen=True)
class _Graph:
    """One kind of update.

    Attributes:
        run: the code.
        used: the inputs that it takes, among all that there are.
        moved: which optimizers make steps, by their places.
    """

    run: Function
    used: tuple[int, ...]
    moved: tuple[int, ...]


class CompiledUpdates:
    """The graphs of one learner.

    Args:
        learner: whose tensors they change.
        compiler: compiles them.
        numbers: dotted names of attributes of the learner that may change from one update to the next one; those that
            are None are left as they are.
        at_once: updates in a graph where so many are due.
        most_samples: of a chunk; 0 where the size of what is learned from is known.
        most_rows: of a chunk, with the one that it begins with; 0 where nobody asks for all at once.
        per_env_step: updates that are due for an environment step.

    Attributes:
        at_once: as above.
        most_samples: as above.
        most_rows: as above.
        around_compiling: entered with a line for the console while a graph is made; None for a line that was given.
        env_steps_left: of the run, those that are being learned from included; None where nobody counts.

    Raises:
        NotCompilableError: the learner has an optimizer that is not compiled.
    """

    def __init__(
        self,
        learner: nn.Module,
        compiler: Compiler,
        numbers: Sequence[str],
        at_once: int = 1,
        most_samples: int = 0,
        most_rows: int = 0,
        per_env_step: float = 0.0,
    ) -> None:
        self.around_compiling: Callable[[str | None], AbstractContextManager[object]] = contextlib.nullcontext
        self.env_steps_left: int | None = None
        self._per_env_step = per_env_step
        self.most_rows = most_rows
        self.at_once = at_once
        self.most_samples = most_samples
        self._learner = learner
        self._compiler = compiler
        self._tensors = LearnerTensors(learner)
        self._numbers = {name: operator.attrgetter(name) for name in numbers}
        self._graphs: dict[Hashable, _Graph] = {}
        self._news: list[str] = []

    def news(self) -> list[str]:
        """What has been compiled since the last call, what it cost and when it pays, in lines for the console."""
        news, self._news = self._news, []
        return news

    @contextlib.contextmanager
    def drawing(self, kind: Hashable, n_updates: int, *generators: Any) -> Iterator[None]:
        """Puts random generators back where an update that is made in this block cannot be compiled."""
        if (kind, n_updates) in self._graphs:
            yield
            return
        before = [_position(each) for each in generators]
        try:
            yield
        except NotCompilableError:
            for generator, position in zip(generators, before, strict=True):
                _put_back(generator, position)
            raise

    def __call__(
        self,
        kind: Hashable,
        n_updates: int,
        body: Body,
        given: Sequence[Tensor],
        replaced: Callable[[Sequence[Tensor]], Mapping[str, Any]] | None = None,
        what: str | None = None,
        equal: Callable[[Sequence[Tensor]], Sequence[Sequence[Tensor]]] | None = None,
    ) -> tuple[Tensor, ...]:
        """Does ``n_updates`` updates.

        Args:
            kind: of which all calls do the same operations on tensors of the same shapes.
            n_updates: in one graph.
            body: one of them, run where a graph is recorded.
            given: what they are made from.
            replaced: attributes of the learner, by dotted names, that are others while a graph is recorded, for the
                stand-ins of ``given``.
            what: the graph, for the console, where it is no update.
            equal: gives two others in the place of ``given``, for which an update must be the same.

        Returns:
            What the last of the updates gives.

        Raises:
            NotCompilableError: it cannot be compiled; nothing was changed.
        """
        values = {name: get(self._learner) for name, get in self._numbers.items()}
        names = [name for name, value in values.items() if value is not None]
        rows = [[float(values[name]) for name in names]] * n_updates
        steps = [state.numbers(n_updates) for state in self._tensors.optimizers]
        table = [[*row, *(number for step in steps for number in step[index])] for index, row in enumerate(rows)]
        numbers = torch.from_numpy(np.array(table, np.float32)).to(given[0].device)
        inputs = [*self._tensors.all(), numbers, *given]
        graph = self._graphs.get((kind, n_updates))
        if graph is None:
            begun = None if self._graphs else f"compile: compiling the updates of {type(self._learner).__name__} …"
            with self.around_compiling(begun):
                graph = self._make(n_updates, body, inputs, len(given), names, replaced, equal)
                self._graphs[kind, n_updates] = graph

                def without() -> None:
                    with attributes(self._learner, {} if replaced is None else dict(replaced(given))):
                        body(0, given)

                self._report(graph, n_updates, inputs, without, what)
        outputs = self._run(graph, inputs)
        for index in graph.moved:
            self._tensors.optimizers[index].count(n_updates)
        return outputs

    def _report(
        self, graph: _Graph, n_updates: int, inputs: Sequence[Tensor], without: Callable[[], None], what: str | None
    ) -> None:
        """Adds what a new graph has cost to the news, and where it does updates when it pays."""
        compiler = self._compiler
        self._news += compiler.complaints()
        if what is not None:
            self._news.append(f"compile: {what}: {compiler.newest}")
            return
        run, tensors = functools.partial(self._run, graph, inputs), self._tensors
        compiled, eager = tensors.seconds_of(compiler.clock, run, without)
        left = None
        if self.env_steps_left is not None and self._per_env_step:
            left = self._per_env_step * self.env_steps_left
        times = (compiled / n_updates, eager)
        self._news.append(in_words(n_updates, compiler.newest, compiler.seconds, times, left))

    @staticmethod
    @torch.no_grad()
    def _run(graph: _Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return graph.run(*[inputs[index] for index in graph.used])

    def _make(
        self,
        n_updates: int,
        body: Body,
        inputs: Sequence[Tensor],
        n_given: int,
        names: Sequence[str],
        replaced: Callable[[Sequence[Tensor]], Mapping[str, Any]] | None,
        equal: Callable[[Sequence[Tensor]], Sequence[Sequence[Tensor]]] | None,
    ) -> _Graph:
        moved: list[int] = []

        def function(*stand_ins: Tensor) -> tuple[Tensor, ...]:
            tensors, numbers, given = stand_ins[: -n_given - 1], stand_ins[-n_given - 1], stand_ins[-n_given:]
            others = {} if replaced is None else dict(replaced(given))
            outputs: Sequence[Tensor] = ()
            with self._tensors.replaced(tensors) as optimizers, attributes(self._learner, others):
                for index in range(n_updates):
                    row, first = numbers[index], len(names)
                    for optimizer, state in zip(optimizers, self._tensors.optimizers, strict=True):
                        n_numbers = N_NUMBERS * len(state.optimizer.param_groups)
                        optimizer.numbers = row[first : first + n_numbers]
                        first += n_numbers
                    with attributes(self._learner, {name: row[place] for place, name in enumerate(names)}):
                        outputs = body(index, given)
            moved[:] = [index for index, optimizer in enumerate(optimizers) if optimizer.has_moved]
            return tuple(each.detach() for each in outputs)

        def recorded() -> tuple[torch.fx.GraphModule, list[Tensor]]:
            graph = record(function, inputs, n_given)
            if equal is not None:
                one, other = ([*inputs[:-n_given], *others] for others in equal(inputs[-n_given:]))
                stop = len(inputs) - n_given - 1
                check_equal(graph, one, other, slice(stop - len(self._tensors.others()), stop))
            places = [node for node in graph.graph.nodes if node.op == "placeholder"]
            used[:] = [index for index, node in enumerate(places) if node.users]
            for node in places:
                if not node.users:
                    graph.graph.erase_node(node)
            graph.recompile()
            return graph, [inputs[index].clone() if inputs[index].is_inference() else inputs[index] for index in used]

        used: list[int] = []
        return _Graph(self._compiler(recorded), tuple(used), tuple(moved))


def in_words(
    n_updates: int, took: str, spent: float, seconds_per_update: tuple[float, float], left: float | None
) -> str:
    """What a graph has cost and when it pays.

    Args:
        n_updates: in the graph.
        took: how it was made and how long that took, such as ``compiled in 3.0 s``.
        spent: seconds that all graphs so far have taken.
        seconds_per_update: with the graph and without.
        left: updates that the run has yet to make; None where that is not known.
    """
    compiled, eager = seconds_per_update
    graph = "one update" if n_updates == 1 else f"{n_updates} updates"
    said = (
        f"compile: a graph of {graph}: {took}; "
        f"an update takes {1000 * compiled:.3g} ms, {1000 * eager:.3g} ms without compiling: "
    )
    if compiled >= eager:
        return f"{said}it does not pay here"
    said += f"it pays after about {_about(spent / (eager - compiled))} updates"
    return said if left is None else f"{said}; about {_about(left)} are left in this run"


def _about(number: float) -> str:
    return f"{float(f'{number:.2g}'):,.0f}"


def updates_per_graph(n_updates: float, most: float = MOST_UPDATES) -> int:
    """How many updates go in one graph where ``n_updates`` are due at a time: so many that none are left over.

    Args:
        n_updates: that are due.
        most: that may be in a graph, where these are fewer than :data:`MOST_UPDATES`.
    """
    due, largest = int(n_updates), min(int(most), MOST_UPDATES)
    return max((n for n in range(1, largest + 1) if due and due % n == 0), default=1)


def _position(generator: np.random.Generator | torch.Generator) -> Any:
    return generator.get_state() if isinstance(generator, torch.Generator) else generator.bit_generator.state


def _put_back(generator: np.random.Generator | torch.Generator, position: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(position)
    else:
        generator.bit_generator.state = position
