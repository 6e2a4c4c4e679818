"""Plain lines when they are due, a bar on a terminal, nothing when silent."""

import io

from bbrl_exp.tracking.console import PlainConsole, TerminalConsole, make_console


class Clock:
    """Time that the test sets."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


def test_progress_is_written_once_in_a_tenth_of_the_run_and_at_its_end():
    stream, clock = io.StringIO(), Clock()
    console = PlainConsole(stream, clock)
    for done in range(1, 101):
        clock.seconds += 10.0
        console.progress(done, 100, 10.0, None)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "10 of 100 steps (10 %), 10 steps/s, 0:09 left"
    assert lines[-1] == "100 of 100 steps (100 %), 10 steps/s"


def test_a_speed_that_has_not_been_measured_is_left_out() -> None:
    stream = io.StringIO()
    PlainConsole(stream, Clock()).progress(50, 100, None, 2.0)
    assert stream.getvalue() == "50 of 100 steps (50 %), mean return 2\n"


def test_a_fast_run_writes_lines_at_least_five_seconds_apart_but_always_its_last():
    stream, clock = io.StringIO(), Clock()
    console = PlainConsole(stream, clock)
    for done in range(1, 101):
        clock.seconds += 0.07
        console.progress(done, 100, 14.0, 21.53)
    assert stream.getvalue().splitlines() == [
        "10 of 100 steps (10 %), 14 steps/s, 0:06 left, mean return 21.53",
        "82 of 100 steps (82 %), 14 steps/s, 0:01 left, mean return 21.53",
        "100 of 100 steps (100 %), 14 steps/s, mean return 21.53",
    ]


def test_hours_are_shown():
    stream = io.StringIO()
    PlainConsole(stream, Clock()).progress(10, 100, 0.01, None)
    assert "2:30:00 left" in stream.getvalue()


def test_a_plain_table_is_aligned_and_may_be_empty():
    stream = io.StringIO()
    console = PlainConsole(stream)
    console.table("jobs", ["name", "return"], [["a", "22.5"], ["longer", "1"]])
    console.table("none", ["name"], [])
    assert stream.getvalue() == "jobs\n  name    return\n  a       22.5\n  longer  1\nnone\n  name\n"


def test_a_terminal_shows_the_bar_lines_and_tables_and_reads_no_markup():
    stream, clock = Terminal(), Clock()
    console = TerminalConsole(stream, clock)
    for done in (0, 1, 50, 100):
        clock.seconds += 1.0
        console.progress(done, 100, 10.0, 21.5)
    console.line("a [bold]line")
    console.table("jobs", ["name"], [["[red]"]])
    console.close()
    console.close()
    for text in ("100 / 100 steps", "10/s", "return 21.5", "a [bold]line", "[red]"):
        assert text in stream.getvalue()


def test_the_console_fits_the_stream():
    assert isinstance(make_console(io.StringIO()), PlainConsole)
    assert isinstance(make_console(Terminal()), TerminalConsole)
