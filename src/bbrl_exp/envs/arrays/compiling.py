"""The compiled loop of a task, from numba, which is imported here and only where it is asked for.

What is compiled is kept in a directory of the user's alone, ``~/.cache/bbrl_exp/numba`` (below ``XDG_CACHE_HOME`` if
that is set), by the contents of the functions: a changed function is compiled again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bbrl_exp.envs.arrays import row_loop
from bbrl_exp.envs.arrays.task import ArrayTask
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.extras import module_of_extra

Function = Callable[..., Any]


def compiled_loop(task: ArrayTask) -> Function:
    """:func:`~bbrl_exp.envs.arrays.row_loop.fill_rows` with the functions of a task, compiled when it is first called.

    Raises:
        ConfigurationError: numba is not installed, or the task does not have the functions for one row.
    """
    kind: Any = type(task)
    return _compiled(kind, task.action.kind != "box", bool(task.info))


@functools.cache
def _compiled(task: type[ArrayTask], is_discrete: bool, informs: bool) -> Function:
    functions = {
        "begin_row": task.begin_row,
        "advance_row": task.advance_row,
        "observe_row": task.observe_row,
        "inform_row": task.inform_row if informs else _no_info,
        "action_of": row_loop.choice_of if is_discrete else row_loop.box_of,
        "is_outside": row_loop.is_no_choice if is_discrete else row_loop.is_no_number,
    }
    if missing := [name for name, function in functions.items() if function is None]:
        raise ConfigurationError(f"{task.__name__} does not define {', '.join(missing)}, which numba would compile")
    numba = module_of_extra("numba", "array", "env.backend=array")
    jit = numba.njit(error_model="numpy")
    loop = _with_compiled_helpers(row_loop.fill_rows, jit, functions)
    loop.__qualname__ = f"{loop.__name__}_{task.__module__}_{task.__name__}"
    place = cache_directory(f"{loop.__qualname__}-{_mark_of([row_loop.fill_rows, *functions.values()])}")
    if place is None:
        return jit(loop)  # type: ignore[no-any-return]
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(place)
    try:
        return numba.njit(error_model="numpy", cache=True)(loop)  # type: ignore[no-any-return]
    finally:
        numba.config.CACHE_DIR = before


def _with_compiled_helpers(function: Any, jit: Callable[[Function], Function], given: Mapping[str, Any]) -> Any:
    """A copy of a function in which the functions of its module that it calls, or those given by name, are compiled."""
    if not isinstance(function, types.FunctionType):  # what its author has compiled
        return function
    names = dict(function.__globals__)
    for name in function.__code__.co_names:
        called = given.get(name, names.get(name))
        if isinstance(called, types.FunctionType):
            names[name] = jit(_with_compiled_helpers(called, jit, {}))
    copied = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__module__, copied.__qualname__ = function.__module__, function.__qualname__
    return copied


def _no_info(state: Any, parameters: Any, info: Any) -> None:
    """For tasks without infos."""


def cache_directory(name: str) -> Path | None:
    """A directory in the user's cache that nobody else can write into; None where there can be none.

    What is loaded from it is run: one that others may have written into is not used, and each process compiles again.
    """
    if os.name != "posix":
        return None
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        place.mkdir(parents=True, exist_ok=True)
        for part in ("bbrl_exp", "numba", name):
            place /= part
            place.mkdir(mode=0o700, exist_ok=True)
            found = place.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
                return None
        return place if os.access(place, os.W_OK) else None
    except OSError:
        return None


def _mark_of(functions: list[Any]) -> str:
    """Twelve digits that change with the code of functions, of those that they call, and of the constants they read."""
    digest = hashlib.sha256()
    for part in _parts_of(functions, set()):
        digest.update(part)
    return digest.hexdigest()[:12]


def _parts_of(functions: list[Any], seen: set[int]) -> Iterator[bytes]:
    for function in functions:
        function = getattr(function, "py_func", function)  # what numba has wrapped already
        if id(function) in seen:
            continue
        seen.add(id(function))
        code = function.__code__
        yield repr((code.co_code, [c for c in code.co_consts if not isinstance(c, types.CodeType)])).encode()
        for name in code.co_names:
            value = function.__globals__.get(name)
            if isinstance(getattr(value, "py_func", value), types.FunctionType):
                yield from _parts_of([value], seen)
            elif not isinstance(value, types.ModuleType):
                yield f"{name}={value!r}".encode()
