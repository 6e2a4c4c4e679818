"""Numbers and tables as text: durations, sizes, one-line messages."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence

from bbrl_exp.errors import described


def one_line(error: BaseException) -> str:
    """The message of an error in one line; the error's type where it has none."""
    return described(error).removeprefix(f"{type(error).__name__}: ")


def clock_time(seconds: float) -> str:
    """A duration as a clock shows it, ``"1:02:03"`` or ``"2:03"``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def time_in_words(seconds: float) -> str:
    """A duration as people say it, ``"2 h 5 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, noun: str) -> str:
    """A number of things, ``"1 job"`` or ``"2 jobs"``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_in_words(n_bytes: float) -> str:
    """A number of bytes as people say it, ``"1.5 GB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def aligned_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table with columns of even width, without frames."""
    lines = [columns, *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines]


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def csv_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV, None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def print_any_character() -> None:
    """Lets standard output print ``?`` for a character that its encoding does not have, where it would fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
