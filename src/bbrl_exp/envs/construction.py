"""Copies of agents that hold what cannot be copied: the class is constructed once more, with the same arguments."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, ParamSpec, TypeVar

from torch import Tensor, nn

A = TypeVar("A", bound=nn.Module)
P = ParamSpec("P")

_MADE_BY, _REPLACED = "_made_by", "_replaced_arguments"
_OF_SUBCLASSES = ("batch_size", "seed")


@dataclass(frozen=True, eq=False)
class Construction(Generic[A]):
    """How an agent was constructed, and how another one like it is to be.

    Attributes:
        kind: its class.
        args: the arguments of its constructor.
        kwargs: the same, by name.
        replaced: arguments that the constructor of the base class is given in place of what a subclass passes on; a
            subclass whose own constructor takes ``batch_size`` or ``seed`` is given these too.
        attributes: set before anything is constructed.
        state: parameters and buffers, of a subclass that has some.
    """

    kind: type[A]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    replaced: Mapping[str, Any]
    attributes: Mapping[str, Any]
    state: Mapping[str, Tensor]

    @classmethod
    def of(cls, agent: A, replaced: Mapping[str, Any], **attributes: Any) -> Construction[A]:
        """How another agent like ``agent`` is constructed, with other arguments of the base class."""
        args, kwargs = agent.__dict__[_MADE_BY]
        return cls(type(agent), args, kwargs, replaced, attributes, agent.state_dict())

    def copied(self, memo: dict[int, Any]) -> Construction[A]:
        """The same with copies of the modules among the arguments."""
        args = tuple(_copied(value, memo) for value in self.args)
        return replace(self, args=args, kwargs={name: _copied(value, memo) for name, value in self.kwargs.items()})

    def __call__(self) -> A:
        """Constructs the agent."""
        agent = self.kind.__new__(self.kind)
        agent.__dict__.update(self.attributes, **{_REPLACED: self.replaced})
        agent.__init__(*self.args, **self.kwargs)  # type: ignore[misc]
        del agent.__dict__[_REPLACED]
        if self.state:
            agent.load_state_dict(self.state)
        return agent


def remembered(constructor: Callable[P, None]) -> Callable[P, None]:
    """The ``__init__`` of a subclass, which remembers its arguments, and takes other ones for a copy."""
    return _remembered(constructor, _OF_SUBCLASSES)


def remembered_of_base(constructor: Callable[P, None]) -> Callable[P, None]:
    """The same for the base class, all of whose arguments can be replaced."""
    return _remembered(constructor, tuple(inspect.signature(constructor).parameters))


def _remembered(constructor: Callable[P, None], replaceable: Sequence[str]) -> Callable[P, None]:
    signature = inspect.signature(constructor)
    names = [name for name in replaceable if name in signature.parameters]

    @functools.wraps(constructor)
    def construct(*args: P.args, **kwargs: P.kwargs) -> None:
        attributes = vars(args[0])
        attributes.setdefault(_MADE_BY, (args[1:], kwargs))
        if replaced := attributes.get(_REPLACED):
            bound = signature.bind(*args, **kwargs)
            bound.arguments.update({name: replaced[name] for name in names if name in replaced})
            constructor(*bound.args, **bound.kwargs)
        else:
            constructor(*args, **kwargs)

    return construct


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    return copy.deepcopy(value, memo) if isinstance(value, nn.Module) else value
