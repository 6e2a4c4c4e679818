"""Paths as the page and the tables show them: relative, so that a folder of runs can be moved with its report."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path


def relative(path: Path, start: Path) -> str:
    """``path`` as seen from the folder ``start``, links resolved."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(start))


def link(path: Path, start: Path) -> str:
    """``path`` as a relative URL on a page in the folder ``start``."""
    return urllib.parse.quote(os.fsencode(relative(path, start)))
