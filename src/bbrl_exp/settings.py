"""Declares the keys of a configuration: each is a dataclass field with its help, what is allowed, and a check of it."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bbrl_exp.errors import ConfigurationError

_LONGEST_BELOW = 100


@dataclass(frozen=True)
class Allowed:
    """The values that a key may have.

    Attributes:
        words: which they are, for messages and ``--help``.
        accepts: whether a value is one of them.
    """

    words: str
    accepts: Callable[[Any], bool]

    @property
    def or_null(self) -> Allowed:
        """The same values and null."""
        return Allowed(f"null or {self.words}", lambda value: value is None or self.accepts(value))


TRUE_OR_FALSE = Allowed("true or false", lambda value: isinstance(value, bool))
MAPPING = Allowed("a mapping", lambda value: isinstance(value, Mapping))
NODE = Allowed("a node with a _target_", MAPPING.accepts)
NODES = Allowed("a mapping of nodes", MAPPING.accepts)


def integer(lowest: int, highest: int | None = None) -> Allowed:
    """The integers from ``lowest`` on, to ``highest`` if there is one."""
    words = "an integer of 0 or more" if lowest == 0 else f"an integer of at least {lowest}"
    if highest is not None:
        words = f"an integer from {lowest} to {highest}"

    def accepts(value: object) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return lowest <= value and (highest is None or value <= highest)

    return Allowed(words, accepts)


def number_between(words: str, low: float, high: float = float("inf")) -> Allowed:
    """The numbers between ``low`` and ``high``, neither of them included."""
    return Allowed(
        words, lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low < value < high
    )


def one_of(names: Collection[str]) -> Allowed:
    """The ``names``."""
    return Allowed(f"one of {', '.join(names)}", lambda value: value in names)


def text(words: str) -> Allowed:
    """Every text but the empty one."""
    return Allowed(words, lambda value: isinstance(value, str) and bool(value))


def folder(words: str) -> Allowed:
    """Every text that can be the path of a folder, which need not exist."""
    return Allowed(words, lambda value: isinstance(value, str) and bool(value) and can_be_a_path(value))


def can_be_a_path(text: str) -> bool:
    """Whether a folder with a run's files could have this path: not too long, no forbidden character."""
    try:
        os.stat(os.path.join(text, "x" * _LONGEST_BELOW))
    except OSError as error:
        return error.errno not in (errno.ENAMETOOLONG, errno.ELOOP)
    except ValueError:  # a null character, or one that cannot be encoded
        return False
    return True


def setting(help_line: str, allowed: Allowed, **default: Any) -> Any:
    """A field for a key of a configuration.

    Args:
        help_line: for ``--help``.
        allowed: what it may be.
        default: ``default=`` or ``default_factory=``, as of a dataclass's field; none for a key that must be there.
    """
    metadata = {"help": help_line, "allowed": allowed.words, "accepts": allowed.accepts}
    return dataclasses.field(metadata=metadata, **default)


def check_settings(kind: type[Any], values: Mapping[str, Any], parent: str) -> None:
    """Refuses the first value that its key does not allow.

    Args:
        kind: a dataclass whose fields are made by :func:`setting`.
        values: of each of its fields.
        parent: the key that they are below; empty for the root.

    Raises:
        ConfigurationError: there is one.
    """
    for field in dataclasses.fields(kind):
        if not field.metadata["accepts"](values[field.name]):
            key = f"{parent}.{field.name}" if parent else field.name
            raise bad_value(key, values[field.name], field.metadata["allowed"])


def value_at(contents: object, key: str, otherwise: object = None) -> Any:
    """The value at a dotted key of a configuration in plain mappings; ``otherwise`` where there is no such key."""
    for name in key.split("."):
        if not isinstance(contents, Mapping) or name not in contents:
            return otherwise
        contents = contents[name]
    return contents


def bad_value(key: str, value: object, allowed: str) -> ConfigurationError:
    """The error for a ``value`` at ``key``; ``allowed`` says what it may be."""
    hint = ""
    if isinstance(value, float) and value.is_integer() and "an integer" in allowed:
        hint = f", written {int(value):_}"
    return ConfigurationError(f"key '{key}' = {shown(value)}: must be {allowed}{hint}")


def shown(value: object) -> str:
    """``value`` as a user would write it on the command line, shortened to one line."""
    words = {None: "null", True: "true", False: "false"}
    written = words[value] if value is None or isinstance(value, bool) else repr(value)
    written = " ".join(written.split())
    return written if len(written) <= 80 else f"{written[:77]}..."
