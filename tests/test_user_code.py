"""What user code raises cannot end the process or a loop without a word."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from bbrl_exp.errors import UserCodeError, described, user_code


def exits() -> NoReturn:
    sys.exit(3)


def exits_without_a_code() -> NoReturn:
    exit()


def stops() -> object:
    return next(iter([]))


def ends_its_generator() -> NoReturn:
    raise GeneratorExit


def types_nothing() -> NoReturn:
    raise KeyboardInterrupt("said the environment")


def is_cancelled() -> NoReturn:
    raise asyncio.CancelledError("not here")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (exits, "SystemExit: 3"),
        (exits_without_a_code, "SystemExit: None"),
        (stops, "StopIteration"),
        (ends_its_generator, "GeneratorExit"),
        (types_nothing, "KeyboardInterrupt: said the environment"),
        (is_cancelled, "CancelledError: not here"),
    ],
)
def test_what_ends_silently_becomes_an_error_that_names_whose_code_and_where(
    code: Callable[[], object], said: str
) -> None:
    line = code.__code__.co_firstlineno + 1
    with pytest.raises(UserCodeError) as caught, user_code("environment 2 of Maze-v0"):
        code()
    assert str(caught.value) == f"{said} (in environment 2 of Maze-v0, {Path(__file__).name}:{line})"
    assert type(caught.value.__cause__).__name__ == said.split(":")[0]


def test_a_note_says_where_instead() -> None:
    def noted() -> None:
        error = SystemExit(1)
        error.add_note("in environment 7")
        raise error

    with pytest.raises(UserCodeError, match=r"^SystemExit: 1 \(in environment 7\)$"), user_code("an environment"):
        noted()


def test_every_other_exception_passes_as_it_is() -> None:
    error = ValueError("a message")
    with pytest.raises(ValueError, match="a message") as caught, user_code("an environment"):
        raise error
    assert caught.value is error


def interrupted() -> None:
    signal.raise_signal(signal.SIGALRM)


def interrupted_while_it_computes() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while True:
        pass


@pytest.mark.parametrize("code", [interrupted, interrupted_while_it_computes])
def test_ctrl_c_passes(code: Callable[[], None]) -> None:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), user_code("an environment"):
            code()
    finally:
        signal.signal(signal.SIGALRM, before)


class Stop:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def handler(self, number: int, frame: FrameType | None) -> NoReturn:
        self.give_up()

    def give_up(self) -> NoReturn:
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_what_a_signal_handler_of_the_program_raises_passes(error: BaseException) -> None:
    before = signal.signal(signal.SIGTERM, Stop(error).handler)
    try:
        with pytest.raises(type(error)) as caught, user_code("an environment"):
            signal.raise_signal(signal.SIGTERM)
        assert caught.value is error
    finally:
        signal.signal(signal.SIGTERM, before)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (ValueError(), "ValueError"),
        (ValueError("half a \ud800 pair"), "ValueError: half a \\ud800 pair"),
        (UnprintableError(), "UnprintableError: (its message cannot be printed)"),
    ],
    ids=["lines", "empty", "surrogate", "unprintable"],
)
def test_every_exception_can_be_described_on_one_line(error: Exception, expected: str) -> None:
    assert described(error) == expected
    assert described(error).encode()
