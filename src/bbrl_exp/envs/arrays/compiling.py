"""The compiled loop of a task, from numba, which is imported here and only where it is asked for.

What is compiled is kept in a folder of the user's alone, ``~/.cache/bbrl_exp/numba`` (below ``XDG_CACHE_HOME`` if that
is set), by the contents of the functions: a changed function is compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from bbrl_exp.compilation.cache import cache_folder, why_not_ours
from bbrl_exp.envs.arrays import row_loop
from bbrl_exp.envs.arrays.marks import mark_of, names_in
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
    numba = module_of_extra("numba", "array", "NumbaEnvironments")
    jit = numba.njit(error_model="numpy")
    loop = _with_compiled_helpers(row_loop.fill_rows, jit, functions)
    mark, folder = mark_of([row_loop.fill_rows, *functions.values()]), cache_folder("numba")
    if mark is None or folder is None or why_not_ours(folder) is not None:
        return jit(loop)  # type: ignore[no-any-return]
    loop.__qualname__ = f"{loop.__name__}_{task.__name__}_{mark}"  # the name of its files
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        compiled: Function = numba.njit(error_model="numpy", cache=True)(loop)
    finally:
        numba.config.CACHE_DIR = before
    _compile_where_damaged(compiled)
    return compiled


def _compile_where_damaged(compiled: Any) -> None:
    """Lets numba compile again, and keep that, where what it has kept cannot be read."""
    cache = compiled._cache
    load = cache.load_overload

    def load_or_forget(*of_what: Any) -> Any:
        try:
            return load(*of_what)
        except Exception:
            with contextlib.suppress(OSError):  # then it is compiled again in every process
                cache.flush()
            return None

    cache.load_overload = load_or_forget


def _with_compiled_helpers(function: Any, jit: Callable[[Function], Function], given: Mapping[str, Any]) -> Any:
    """A copy of a function in which the functions of its module that it calls, or those given by name, are compiled."""
    if not isinstance(function, types.FunctionType):  # what its author has compiled
        return function
    names = dict(function.__globals__)
    for name in names_in(function.__code__):
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
