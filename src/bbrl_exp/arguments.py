"""What the arguments of a constructor may be. A refusal is one line that begins with ``name=value``.

By that name the application finds the key of the configuration. A dataclass states the range of a field in its type,
``discount: FromZeroToOne = 0.99``, and calls :func:`check_fields`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from bbrl_exp.errors import ConfigurationError

# What torch takes: int64, and float32, in which numbers meet tensors.
_LARGEST_INT, _LARGEST_FLOAT = 2**63 - 1, 3.4028234663852886e38

Mark = TypeVar("Mark")
Constructor = TypeVar("Constructor", bound=Callable[..., None])


@dataclass(frozen=True)
class Range:
    """Finite numbers between bounds: ``FROM_0_TO_1.check(discount=discount, trace_decay=trace_decay)``.

    Attributes:
        words: which numbers they are, for messages.
        holds: whether a finite number is one of them.
        is_whole: whether they are whole numbers: integers of Python or numpy, no bools.
    """

    words: str
    holds: Callable[[float], bool]
    is_whole: bool = False

    def check(self, **arguments: float | None) -> None:
        """Refuses the first argument out of the range; None, which leaves an option open, passes.

        Raises:
            ConfigurationError: such as ``discount=1.5: must be 0 to 1``.
        """
        for name, value in arguments.items():
            if value is not None and (complaint := self.complaint(value)) is not None:
                raise ConfigurationError(f"{name}={value}: {complaint}")

    def complaint(self, value: float) -> str | None:
        """What a number must be that is out of the range, ``must be 0 to 1``; None for one that is in it."""
        if self.is_whole and not is_integer(value):
            return f"must be a whole number, {self.words}"
        largest = _LARGEST_INT if isinstance(value, int) else _LARGEST_FLOAT
        if self.holds(value) and abs(value) <= largest:
            return None
        limit = ""
        if isinstance(value, float) and not math.isfinite(value):
            limit = ", and finite"
        elif abs(value) > largest:
            limit = f", at most {largest:,}" if isinstance(value, int) else f", at most {largest:.6g} (float32)"
        return f"must be {self.words}{limit}"


FINITE = Range("a number", lambda value: True)
FROM_0_TO_1 = Range("0 to 1", lambda value: 0 <= value <= 1)
FROM_0_BELOW_1 = Range("at least 0, below 1", lambda value: 0 <= value < 1)
ABOVE_0_TO_1 = Range("above 0, at most 1", lambda value: 0 < value <= 1)
ABOVE_0 = Range("above 0", lambda value: value > 0)
ABOVE_0_TO_A_MILLION = Range("above 0, at most 1,000,000", lambda value: 0 < value <= 1_000_000)
AT_LEAST_0 = Range("at least 0", lambda value: value >= 0)
AT_LEAST_1 = Range("at least 1", lambda value: value >= 1, is_whole=True)
COUNT_FROM_0 = Range("at least 0", lambda value: value >= 0, is_whole=True)


def is_integer(value: object) -> bool:
    """Whether a value is an integer of Python or numpy, and no bool."""
    return type(value) is int or (isinstance(value, numbers.Integral) and not isinstance(value, bool))


def check_sizes(**arguments: Sequence[int]) -> None:
    """Refuses the first argument that is not a list of whole numbers of at least 1.

    Raises:
        ConfigurationError: such as ``hidden_sizes=[64, 0]: must be a list of whole numbers, none below 1``.
    """
    for name, sizes in arguments.items():
        if not isinstance(sizes, Sequence) or not all(is_integer(size) and size >= 1 for size in sizes):
            shown = list(sizes) if isinstance(sizes, tuple) else sizes
            raise ConfigurationError(f"{name}={shown}: must be a list of whole numbers, none below 1")


Finite = Annotated[float, FINITE]
FromZeroToOne = Annotated[float, FROM_0_TO_1]
FromZeroBelowOne = Annotated[float, FROM_0_BELOW_1]
AboveZeroToOne = Annotated[float, ABOVE_0_TO_1]
AboveZeroToAMillion = Annotated[float, ABOVE_0_TO_A_MILLION]
AboveZero = Annotated[float, ABOVE_0]
AtLeastZero = Annotated[float, AT_LEAST_0]
Count = Annotated[int, AT_LEAST_1]
CountOrZero = Annotated[int, COUNT_FROM_0]


@dataclass(frozen=True)
class NodeOf:
    """What the node of an argument must be, as a mark in its annotation: ``Annotated[Loss, NodeOf("loss")]``.

    Attributes:
        kind: one that ``config/targets.py`` knows.
    """

    kind: str


@dataclass(frozen=True)
class BuiltLater(NodeOf):
    """Marks an argument whose node the class calls itself, when it has the rest of what the node's class needs.

    From a node such an argument gets a callable that takes what is ``given`` and has all that the node says:
    ``optimizer: Annotated[Callable[..., Optimizer], BuiltLater("optimizer", ("params", "lr"))]`` is called as
    ``optimizer(parameters, lr=1e-3)``.

    Attributes:
        given: names of the parameters that the class fills in, which no node may set.
        instead: options of the class by which the user sets them, for the message.
    """

    given: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()


Number = TypeVar("Number")
Scheduled = Annotated[Number, NodeOf("schedule")]
"""``Scheduled[AboveZero]``: a number above 0, or a schedule of such numbers, which a learner reads at each update."""


def annotations_of(target: type[Any], *, with_marks: bool = False) -> dict[str, Any]:
    """The types of a constructor's parameters; the fields of a dataclass have them from the modules they are from."""
    of = target if dataclasses.is_dataclass(target) else target.__init__
    try:
        return typing.get_type_hints(of, include_extras=with_marks)
    except (NameError, AttributeError, TypeError):
        return {}


def marks_of(target: type[Any], kind: type[Mark]) -> dict[str, Mark]:
    """What a class says of its arguments in their types, by name: the marks of one kind, such as :class:`Range`."""
    return {
        name: mark
        for name, hint in annotations_of(target, with_marks=True).items()
        for part in (hint, *typing.get_args(hint))  # an optional number is a union
        for mark in getattr(part, "__metadata__", ())
        if isinstance(mark, kind)
    }


def check_fields(instance: object) -> None:
    """Refuses the first field of a dataclass that is out of the range in its type; None passes, as does a schedule.

    Raises:
        ConfigurationError: as :meth:`Range.check`.
    """
    may_be_nodes = marks_of(type(instance), NodeOf)
    for name, allowed in marks_of(type(instance), Range).items():
        value = getattr(instance, name)
        if name not in may_be_nodes or not hasattr(value, "value_at"):
            allowed.check(**{name: value})


def without_former(**names: str) -> Callable[[Constructor], Constructor]:
    """Marks a constructor that had arguments of these ``names``, which it refuses with what is to be written instead.

    Raises:
        ConfigurationError: of the constructor, such as ``kind='lstm': …``.
    """

    def marked(constructor: Constructor) -> Constructor:
        @functools.wraps(constructor)
        def refusing(*args: Any, **kwargs: Any) -> None:
            for name, value in kwargs.items():
                if name in names:
                    raise ConfigurationError(f"{name}={value!r}: {names[name]}")
            constructor(*args, **kwargs)

        refusing.former_arguments = names  # type: ignore[attr-defined]
        return cast("Constructor", refusing)

    return marked


def former_argument(target: type[Any], name: str) -> str | None:
    """What is to be written instead of an argument that a class had; None where it had none of that name."""
    former: dict[str, str] = getattr(target.__init__, "former_arguments", {})
    return former.get(name)


def check_default(setting: str, instance: Any, *names: str) -> None:
    """Refuses the first field of a dataclass that is not its default: with ``setting`` it does nothing.

    Raises:
        ConfigurationError: such as ``exploration_fraction=0.1: has no effect with epsilon; must be 0.2, the default``.
    """
    for each in dataclasses.fields(instance):
        if each.name in names and (value := getattr(instance, each.name)) != each.default:
            raise ConfigurationError(
                f"{each.name}={value}: has no effect with {setting}; must be {each.default}, the default"
            )


def check_unused(setting: str, **arguments: object) -> None:
    """Refuses the first argument that is neither None nor False: with ``setting`` it does nothing.

    Args:
        setting: such as ``prioritised=false``.
        arguments: by name.

    Raises:
        ConfigurationError: such as ``priority_exponent=0.6: has no effect with prioritised=false; must be null``.
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            written, neutral = ("true", "false") if value is True else (value, "null")
            raise ConfigurationError(f"{name}={written}: has no effect with {setting}; must be {neutral}")
