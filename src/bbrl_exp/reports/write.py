"""Writes a report's files."""

from __future__ import annotations

from pathlib import Path

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.json_file import replace_file
from bbrl_exp.reports.contents import Report
from bbrl_exp.reports.figures import PICTURES, draw_figures
from bbrl_exp.reports.page import page
from bbrl_exp.reports.tables import csv_files

PAGE = "index.html"


def write_report(report: Report, title: str, folder: Path) -> Path:
    """Writes the page, its tables and its pictures; those of an earlier report are replaced, other files left alone.

    Args:
        report: what to show.
        title: of the page.
        folder: made where it is missing.

    Returns:
        The page.

    Raises:
        BbrlExpError: the disk refuses.
    """
    pictures = draw_figures(report)
    files = {name: text.encode() for name, text in csv_files(report, folder).items()}
    for name, (svg, png) in pictures.items():
        files |= {f"{name}.svg": svg, f"{name}.png": png}
    files[PAGE] = page(report, title, folder, pictures).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in PICTURES:
            if name not in pictures:
                (folder / f"{name}.svg").unlink(missing_ok=True)
                (folder / f"{name}.png").unlink(missing_ok=True)
        for name, contents in files.items():
            replace_file(folder / name, contents)
    except OSError as error:
        raise BbrlExpError(f"cannot write the report in '{folder}': {error.strerror or error}") from error
    return folder / PAGE
