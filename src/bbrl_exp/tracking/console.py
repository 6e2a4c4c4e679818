"""What a run says while it runs: a progress bar on a terminal, or plain lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from bbrl_exp.text import aligned_table, clock_time

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_REFRESHES = 0.5


class Console(Protocol):
    """Where a run's lines, tables and progress go."""

    def line(self, text: str) -> None:
        """Show one line of text."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""

    def progress(self, done: int, total: int, steps_per_second: float | None, mean_return: float | None) -> None:
        """Say how far the run is, in environment steps; ``steps_per_second`` is None before it is measured,
        ``mean_return`` before the first end of an episode.
        """

    def close(self) -> None:
        """End the progress; lines and tables may still follow."""


class PlainConsole:
    """Plain lines, for logs: progress at most once in 10 % of the run and once in 5 seconds, and at its end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last_tenth = 0
        self._last_seconds = clock() - SECONDS_BETWEEN_LINES

    def line(self, text: str) -> None:
        """Write one line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write the table with columns of even width, without frames."""
        self.line("\n".join([title, *(f"  {row}" for row in aligned_table(columns, rows))]))

    def progress(self, done: int, total: int, steps_per_second: float | None, mean_return: float | None) -> None:
        """Write a line if one is due."""
        tenth, now = 10 * done // total, self._clock()
        if tenth <= self._last_tenth or (done < total and now - self._last_seconds < SECONDS_BETWEEN_LINES):
            return
        self._last_tenth, self._last_seconds = tenth, now
        returns = "" if mean_return is None else f", mean return {mean_return:.4g}"
        left = f", {clock_time((total - done) / steps_per_second)} left" if done < total and steps_per_second else ""
        speed = "" if steps_per_second is None else f", {steps_per_second:,.0f} steps/s"
        percent = 100 * done // total
        self.line(f"{done:,} of {total:,} steps ({percent} %){speed}{left}{returns}")

    def close(self) -> None:
        """Nothing to end."""


class TerminalConsole:
    """A progress bar on a terminal that stays below the lines, redrawn at most twice a second."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console as RichConsole  # 50 ms that only a terminal needs
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._clock = clock
        self._console = RichConsole(file=stream)
        self._bar = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            auto_refresh=False,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._last_seconds: float | None = None

    def line(self, text: str) -> None:
        """Print one line above the bar; square brackets mean nothing."""
        self._console.print(text, markup=False, highlight=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table above the bar."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left")
        for column in columns:
            table.add_column(Text(column))
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)

    def progress(self, done: int, total: int, steps_per_second: float | None, mean_return: float | None) -> None:
        """Redraw the bar if half a second has passed, or at the end."""
        now = self._clock()
        if self._last_seconds is None:
            self._bar.start()
        elif done < total and now - self._last_seconds < SECONDS_BETWEEN_REFRESHES:
            return
        self._last_seconds = now
        left = f"{clock_time((total - done) / steps_per_second)} left" if steps_per_second else ""
        returns = "" if mean_return is None else f"  return {mean_return:.4g}"
        speed = "" if steps_per_second is None else f"{steps_per_second:,.0f}/s  "
        description = f"{done:,} / {total:,} steps  {speed}{left}{returns}"
        self._bar.update(self._task, completed=done, total=total, description=description, refresh=True)

    def close(self) -> None:
        """Leave the bar as it is; what follows is printed below it."""
        self._bar.stop()


def make_console(stream: TextIO | None = None) -> Console:
    """The console that fits ``stream``, by default standard output: a terminal's or a plain one."""
    stream = stream or sys.stdout
    return TerminalConsole(stream) if stream.isatty() else PlainConsole(stream)
