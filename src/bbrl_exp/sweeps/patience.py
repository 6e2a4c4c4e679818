"""Lets Ray's and submitit's launchers wait for all jobs where one of them is lost.

Both give up at the first job whose result cannot be had, because its worker, its machine or its place in a queue has
gone. The others run on, and nobody would wait for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def patience(launcher: str, when_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """While the block runs, the error of a lost job takes the place of its result.

    Args:
        launcher: its name in Hydra's group ``hydra/launcher``.
        when_waiting: called before Ray is waited for, which takes the handlers of signals for itself when it starts.
    """
    if launcher == "ray":
        import ray

        def wrapped(get: Callable[..., Any]) -> Callable[..., Any]:
            return _error_as_result(get, when_waiting)

        with _replaced(ray, "get", wrapped):
            yield
    elif launcher.startswith("submitit"):
        import submitit

        with _replaced(submitit.Job, "results", _error_as_only_result):
            yield
    else:
        yield


@contextlib.contextmanager
def _replaced(owner: object, name: str, wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, wrapped(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


def _error_as_only_result(get: Callable[..., Any]) -> Callable[..., Any]:
    def results_or_error(job: Any) -> Any:
        try:
            return get(job)
        except Exception as error:
            return [error]

    return results_or_error


def _error_as_result(get: Callable[..., Any], when_waiting: Callable[[], None] | None) -> Callable[..., Any]:
    def result_or_error(*arguments: Any) -> Any:
        if when_waiting is not None:
            when_waiting()
        try:
            return get(*arguments)
        except Exception as error:
            return error

    return result_or_error
