"""Records the updates of a learner as a graph: its own code runs on stand-ins for all tensors that it holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bbrl_exp.compilation.compiler import NotCompilableError
from bbrl_exp.compilation.products import thin_products
from bbrl_exp.learners.compiled.optimizers import OptimizerState, RecordedOptimizer
from bbrl_exp.learners.parts.target_follower import TargetFollower
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.seeding import untouched_global_generators

# One update, from the stand-ins of what it was given: the number of the update among those of the graph, then these.
Body = Callable[[int, Sequence[Tensor]], Sequence[Tensor]]


_SECONDS_OF_TRIES = 0.1


class LearnerTensors:
    """All tensors of a learner that an update may read or change, in a fixed order.

    Args:
        learner: a module with its optimizers among its attributes, or those of its parts.

    Raises:
        NotCompilableError: an optimizer cannot be compiled.
    """

    def __init__(self, learner: nn.Module) -> None:
        self._learner = learner
        self._others: list[tuple[dict[str, Any], str]] | None = None
        self._owners: list[tuple[Any, str]] = []
        self.optimizers: list[OptimizerState] = []
        for module in learner.modules():
            for name, value in vars(module).items():
                if isinstance(value, FlatOptimizer | Optimizer):
                    self._owners.append((module, name))
                    self.optimizers.append(OptimizerState(value))

    def of_optimizers(self) -> list[list[Tensor]]:
        """What each optimizer moves, and its moments."""
        return [each.tensors() for each in self.optimizers]

    def others(self) -> list[Tensor]:
        """Parameters and buffers that no optimizer moves, nor has in a block, also those that replace earlier ones."""
        if self._others is None:
            self._others = self._places_of_others()
        return [held[name] for held, name in self._others]

    def _places_of_others(self) -> list[tuple[dict[str, Any], str]]:
        known = {id(each) for state in self.optimizers for each in (*state.leaves, *state.moved)}
        places = []
        for module in self._learner.modules():
            for held in (module._parameters, module._buffers):
                for name, value in held.items():
                    if value is not None and id(value) not in known:
                        known.add(id(value))
                        places.append((held, name))
        return places

    def all(self) -> list[Tensor]:
        """All of them: first those of the optimizers, then the others."""
        return [*(each for tensors in self.of_optimizers() for each in tensors), *self.others()]

    def seconds_of(self, clock: Callable[[], float], *updates: Callable[[], object]) -> list[float]:
        """Seconds that each of several kinds of updates takes, the shortest of a few tries; nothing stays changed."""
        tensors = self.all()
        before = [each.detach().clone() for each in tensors]
        counts = [state.counts() for state in self.optimizers]
        found = []
        for update in updates:
            tries: list[float] = []
            begun = time.perf_counter()
            while len(tries) < 3 or (len(tries) < 20 and time.perf_counter() - begun < _SECONDS_OF_TRIES):
                start = clock()
                update()
                if tensors[0].is_cuda:
                    torch.cuda.synchronize(tensors[0].device)
                tries.append(clock() - start)
            found.append(min(tries))
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        for state, count in zip(self.optimizers, counts, strict=True):
            state.set_counts(count)
        return found

    @contextlib.contextmanager
    def replaced(self, stand_ins: Sequence[Tensor]) -> Iterator[list[RecordedOptimizer]]:
        """The learner works on ``stand_ins`` for :meth:`all`, and on recorded optimizers, while the block runs."""
        by_id: dict[int, Tensor] = {}
        recorded, first = [], 0
        for state in self.optimizers:
            n_tensors = len(state.tensors())
            own = stand_ins[first : first + n_tensors]
            leaves = _leaves(state, own)
            by_id.update((id(each), leaf) for each, leaf in zip(state.leaves, leaves, strict=True))
            recorded.append(RecordedOptimizer(state, own, leaves))
            first += n_tensors
        by_id.update((id(each), own) for each, own in zip(self.others(), stand_ins[first:], strict=True))
        undo: list[Callable[[], None]] = []
        try:
            for module in self._learner.modules():
                for held in (module._parameters, module._buffers):
                    _replace(held, [(name, value) for name, value in held.items() if value is not None], by_id, undo)
                for container in (
                    module,
                    *(each for each in vars(module).values() if isinstance(each, TargetFollower)),
                ):
                    for value in vars(container).values():
                        if isinstance(value, list) and value and isinstance(value[0], Tensor):
                            _replace(value, list(enumerate(value)), by_id, undo)
            for (owner, name), optimizer in zip(self._owners, recorded, strict=True):
                undo.append(_restoring(vars(owner), name))
                vars(owner)[name] = optimizer
            yield recorded
            self._check_buffers(by_id)
        finally:
            for restore in reversed(undo):
                restore()

    def _check_buffers(self, by_id: Mapping[int, Tensor]) -> None:
        """Refuses buffers that were replaced, not changed in place: a graph would not replace them."""
        stand_ins = set(map(id, by_id.values()))
        for module in self._learner.modules():
            for name, value in module._buffers.items():
                if value is not None and id(value) not in stand_ins:
                    raise NotCompilableError(
                        f"{type(module).__name__} replaces its buffer '{name}' in an update; it must change it in place"
                    )


def _leaves(state: OptimizerState, own: Sequence[Tensor]) -> list[Tensor]:
    """The parameters that an optimizer moves, from the stand-ins of what it moves."""
    moved = own[: len(state.moved)]
    if len(moved) == len(state.leaves) and all(a is b for a, b in zip(state.moved, state.leaves, strict=True)):
        return [each.detach().requires_grad_() for each in moved]
    parts, first = [], 0
    for parameter in state.leaves:
        part = moved[0][first : first + parameter.numel()].view_as(parameter)
        parts.append(part.detach().requires_grad_())
        first += parameter.numel()
    return parts


def _replace(held: Any, items: Sequence[tuple[Any, Tensor]], by_id: dict[int, Tensor], undo: list[Any]) -> None:
    for key, value in items:
        if id(value) in by_id:
            undo.append(_restoring(held, key))
            held[key] = by_id[id(value)]


def _restoring(held: Any, key: Any) -> Callable[[], None]:
    missing = object()
    before = held[key] if isinstance(held, list) else held.get(key, missing)

    def restore() -> None:
        if before is missing:
            held.pop(key, None)
        else:
            held[key] = before

    return restore


@contextlib.contextmanager
def attributes(owner: Any, values: dict[str, Any]) -> Iterator[None]:
    """Attributes of ``owner`` and of its parts, by dotted names, have these values while the block runs."""
    undo: list[Callable[[], None]] = []
    try:
        for path, value in values.items():
            *parents, name = path.split(".")
            held = owner
            for parent in parents:
                held = getattr(held, parent)
            undo.append(_restoring(vars(held), name))
            vars(held)[name] = value
        yield
    finally:
        for restore in reversed(undo):
            restore()


def record(
    function: Callable[..., tuple[Tensor, ...]], examples: Sequence[Tensor], n_given: int = 0
) -> torch.fx.GraphModule:
    """The graph of the operations that ``function`` does on tensors like the examples, which it may change.

    Args:
        function: leaves the global random generators as they are here, whatever it does.
        examples: of all its arguments.
        n_given: how many of the last ones have rows in any order.

    Raises:
        NotCompilableError: it does other things from case to case, or draws random numbers.
    """
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    copies = [each.detach().clone() for each in examples]
    # Shapes are noted for each operation; without a mode for all, torch makes one for each, which doubles the time.
    of_shapes = tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True)))
    with torch.enable_grad(), untouched_global_generators():
        with of_shapes:
            graph = make_fx(function, decomposition_table=thin_products())(*copies)
        _check_draws(graph)
        _check_constants(graph, function, examples, n_given)
    return graph


def _check_constants(
    graph: torch.fx.GraphModule, function: Callable[..., tuple[Tensor, ...]], examples: Sequence[Tensor], n_given: int
) -> None:
    """Refuses a graph that does something else than the function on other numbers: it has some of these in it."""
    generator, others = torch.Generator().manual_seed(0), []
    for index, each in enumerate(examples):
        if each.is_floating_point():
            factor = 0.9 + 0.1 * torch.rand(each.shape, generator=generator)
            others.append(each.detach() * factor.to(each))
        else:
            is_given = index >= len(examples) - n_given and each.dim() > 0
            others.append(each.roll(1, 0) if is_given else each.clone())
    copies = [each.clone() for each in others]
    found, expected = graph(*others), function(*copies)
    for ours, theirs in zip((*found, *others), (*expected, *copies), strict=True):
        if not torch.allclose(ours.double(), theirs.double(), rtol=1e-3, atol=1e-5, equal_nan=True):
            raise NotCompilableError("some of its numbers are computed outside torch, such as by numpy")


def check_equal(graph: torch.fx.GraphModule, one: Sequence[Tensor], other: Sequence[Tensor], kept: slice) -> None:
    """Refuses a graph that gives other numbers, or leaves others in ``kept`` of its inputs, for each of two inputs.

    Raises:
        NotCompilableError: it does, where the inputs differ in samples that do not count.
    """
    found = []
    for inputs in (one, other):
        copies = [each.detach().clone() for each in inputs]
        found.append([*(each for each in graph(*copies) if each.dim() == 0), *copies[kept]])
    if any(not torch.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True) for a, b in zip(*found, strict=True)):
        raise NotCompilableError("its network mixes the samples of a minibatch, which others fill up")


def _check_draws(graph: torch.fx.GraphModule) -> None:
    for node in graph.graph.nodes:
        tags = getattr(node.target, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags:
            name = str(getattr(node.target, "__name__", node.target)).partition(".")[0]
            raise NotCompilableError(f"its network draws random numbers ({name})")
