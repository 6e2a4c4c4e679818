"""Marks of functions, for a cache on disk of what they are compiled to."""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# What they hold changes with their version only.
_FIXED = ("builtins", "cmath", "math", "numba", "numpy")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def mark_of(functions: Iterable[Any]) -> str | None:
    """Sixteen digits that change with whatever the machine code of functions may depend on; None where it is unknown.

    That is their code, also of functions inside them, their defaults, what they close over, the functions that they
    call, the constants that they read, also from other modules, and the source of all modules that these come from.
    """
    digest = hashlib.sha256()
    try:
        for part in _Parts().of_all(functions):
            digest.update(b"%d:" % len(part) + part)
    except _UnknownError:
        return None
    return digest.hexdigest()[:16]


def names_in(code: types.CodeType) -> list[str]:
    """The names of globals and of attributes in a function and in the functions inside it."""
    inner = [name for each in code.co_consts if isinstance(each, types.CodeType) for name in names_in(each)]
    return [*code.co_names, *inner]


class _UnknownError(Exception):
    """Something that no mark can be made of."""


class _Parts:
    """The bytes that a mark is made of."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._files: set[str] = set()

    def of_all(self, values: Iterable[Any]) -> Iterator[bytes]:
        values = list(values)
        yield b"%d of" % len(values)
        for value in values:
            yield from self._of(value)

    def _of(self, value: Any) -> Iterator[bytes]:
        kind = type(value)
        if kind in _PLAIN:
            yield f"{kind.__name__} {value!r}".encode()
        elif kind in (tuple, list):
            yield kind.__name__.encode()
            yield from self.of_all(value)
        elif kind is frozenset:
            yield from self.of_all(sorted(value, key=repr))
        elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            yield f"{kind.__name__} {value.dtype} {value.shape}".encode() + value.tobytes()
        elif isinstance(value, np.dtype):
            yield repr(value).encode()
        elif isinstance(value, types.FunctionType):
            yield from self._of_function(value)
        elif isinstance(inner := getattr(value, "py_func", None), types.FunctionType):  # what numba has wrapped
            yield _stable(repr(sorted(getattr(value, "targetoptions", {}).items(), key=repr)))
            yield from self._of_function(inner)
        elif isinstance(value, types.CodeType):
            yield from self._of_code(value)
        elif isinstance(value, type | types.BuiltinFunctionType | np.ufunc) and _is_fixed(_home_of(value)):
            yield f"{_home_of(value)}.{value.__name__} {_version_of(_home_of(value))}".encode()
        else:
            raise _UnknownError

    def _of_function(self, function: types.FunctionType) -> Iterator[bytes]:
        if id(function) in self._seen:
            yield b"function %d" % self._seen[id(function)]
            return
        self._seen[id(function)] = len(self._seen)
        code = function.__code__
        yield from self._source(code.co_filename)
        yield from self._of_code(code)
        yield from self.of_all(function.__defaults__ or ())
        for name, default in sorted((function.__kwdefaults__ or {}).items()):
            yield from self.of_all((name, default))
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                held = cell.cell_contents
            except ValueError as error:  # it is given a value later
                raise _UnknownError from error
            yield from self._of_named(name, held, code)
        for name in names_in(code):
            if name in function.__globals__:
                yield from self._of_named(name, function.__globals__[name], code)

    def _of_named(self, name: str, value: Any, code: types.CodeType) -> Iterator[bytes]:
        yield name.encode()
        yield from self._of_module(value, code) if isinstance(value, types.ModuleType) else self._of(value)

    def _of_module(self, module: types.ModuleType, code: types.CodeType) -> Iterator[bytes]:
        """A module, and what code may read from it: whatever has a name in the code, or one in its strings."""
        yield f"{module.__name__} {_version_of(module.__name__)}".encode()
        if _is_fixed(module.__name__):
            return
        yield from self._source(getattr(module, "__file__", None))
        strings = [each for each in code.co_consts if isinstance(each, str)]
        for name in sorted({*names_in(code), *strings} & vars(module).keys()):
            value = vars(module)[name]
            if value is not module:
                yield from self._of_named(name, value, code)

    def _of_code(self, code: types.CodeType) -> Iterator[bytes]:
        yield code.co_code + code.co_exceptiontable
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        yield repr((names, code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)).encode()
        yield from self.of_all(code.co_consts)

    def _source(self, file: str | None) -> Iterator[bytes]:
        """What is in a file, once; functions that were typed in have none."""
        if file is None or file in self._files:
            return
        self._files.add(file)
        try:
            yield Path(file).read_bytes()
        except OSError:
            yield b"no file"


def _stable(shown: str) -> bytes:
    if " at 0x" in shown:
        raise _UnknownError
    return shown.encode()


def _is_fixed(module: str) -> bool:
    return module.partition(".")[0] in _FIXED


def _home_of(value: Any) -> str:
    return "numpy" if isinstance(value, np.ufunc) else str(getattr(value, "__module__", None))


def _version_of(module: str) -> str:
    return str(getattr(sys.modules.get(module.partition(".")[0]), "__version__", sys.version))
