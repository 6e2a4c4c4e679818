"""Texts, paths and numbers as a report shows them: names of files and messages may hold anything."""

from __future__ import annotations

import math
import os
import urllib.parse
from pathlib import Path

_LONGEST = 2_000
_WIDEST = 60
_LEAST = 1e-12


def short(text: str) -> str:
    """:func:`readable` for a picture: the middle of a long text is left out."""
    line = readable(text)
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST // 2]} … {line[-_WIDEST // 2 :]}"


def readable(text: str) -> str:
    """The text in one line, without what cannot be written or printed, cut where it is very long."""
    try:
        contents = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        contents = text.encode("utf-8", "replace")
    line = "".join(letter if letter.isprintable() else " " for letter in contents.decode("utf-8", "replace"))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


def integer(value: float | None) -> str:
    """A whole number, thousands apart; a dash for none, ``never`` for infinity."""
    return number(value) if value is None or not math.isfinite(value) else f"{value:,.0f}".replace("-", "−")


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many digits that count, thousands apart; a dash for none, ``never`` for infinity."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    if abs(value) < _LEAST:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude >= 15 or magnitude < -4:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}".replace("-", "−")


def relative(path: Path, start: Path) -> str:
    """``path`` as seen from the folder ``start``, links resolved, so that runs can be moved with their report."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(start))


def link(path: Path, start: Path) -> str:
    """``path`` as a relative URL on a page in the folder ``start``."""
    return urllib.parse.quote(os.fsencode(relative(path, start)))
