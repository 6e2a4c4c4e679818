"""Writes a report: one HTML page with everything in it, with its tables and pictures beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.files import replace_file
from bbrl_exp.records.metrics import EVALUATIONS
from bbrl_exp.records.summary import beside_in_words
from bbrl_exp.reports.contents import Report
from bbrl_exp.reports.courses import MEASURES
from bbrl_exp.reports.curves import FIRST_EPISODE, WINDOW
from bbrl_exp.reports.line_pictures import MOST_LINES, draw_curves, draw_efficiency, draw_profiles
from bbrl_exp.reports.panels import Look, looks, saved, style
from bbrl_exp.reports.readable import integer, link, number, readable, relative
from bbrl_exp.reports.row_pictures import MOST_ROWS, draw_improvement, draw_scores, draw_speed
from bbrl_exp.reports.statistics import CONFIDENCE, RESAMPLES, SEED, Estimate
from bbrl_exp.reports.tables import csv_files

PAGE = "index.html"
_MOST_PAIRED = 12
_MOST_COMPARED = 10
_PICTURES: Mapping[str, Callable[[Report, Mapping[str, Look]], Figure | None]] = {
    "scores": draw_scores,
    "improvement": draw_improvement,
    "profiles": draw_profiles,
    "curves": draw_curves,
    "efficiency": draw_efficiency,
    "speed": draw_speed,
}


def write_report(report: Report, title: str, folder: Path) -> Path:
    """Writes the page, its tables and its pictures; those of an earlier report are replaced, other files left alone.

    Returns:
        The page in ``folder``, which is made where it is missing.

    Raises:
        BbrlExpError: the disk refuses.
    """
    pictures = draw_figures(report)
    files = {name: text.encode() for name, text in csv_files(report, folder).items()}
    for name, (svg, png) in pictures.items():
        files |= {f"{name}.svg": svg, f"{name}.png": png}
    files[PAGE] = _page(report, title, folder, pictures).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _PICTURES:
            if name not in pictures:
                (folder / f"{name}.svg").unlink(missing_ok=True)
                (folder / f"{name}.png").unlink(missing_ok=True)
        for name, contents in files.items():
            replace_file(folder / name, contents)
    except OSError as error:
        raise BbrlExpError(f"cannot write the report in '{folder}': {error.strerror or error}") from error
    return folder / PAGE


def draw_figures(report: Report) -> dict[str, tuple[bytes, bytes]]:
    """The pictures that have something to show: name → SVG, PNG."""
    pictures = {}
    with style():
        for name, make in _PICTURES.items():
            figure = make(report, looks(report.best_first))
            if figure is not None:
                # Laid out once, not for each of the two files.
                figure.draw_without_rendering()
                figure.set_layout_engine(None)
                pictures[name] = (saved(figure, "svg"), saved(figure, "png"))
    return pictures


def _page(report: Report, title: str, folder: Path, pictures: Mapping[str, tuple[bytes, bytes]]) -> str:
    """The page's HTML; links are relative to ``folder``, and ``pictures`` are name → SVG, PNG."""
    source = resources.files("bbrl_exp.reports").joinpath("page.html").read_text(encoding="utf-8")
    # Texts from run folders are not trusted: escaped.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = {"number": number, "integer": integer, "readable": readable, "estimate": _estimate, "ends": _ends}
    environment.filters |= filters
    counted = [line for line in report.lines if line.counts]
    beside = [number for speed in report.speeds for number in speed.side_by_side]
    return environment.from_string(source).render(
        report=report,
        title=readable(title),
        counted=counted,
        uncounted=[line for line in report.lines if not line.counts],
        flawed=[line for line in counted if line.words],
        beside=beside_in_words(beside) if beside else None,
        is_plain=all(course.is_plain for course in report.courses),
        measured=[key for key in MEASURES if any(key in course.measures for course in report.courses)],
        measures=MEASURES,
        smallest=min(
            (len(scores) for table in report.tables for row in table.rows for scores in row.scores), default=0
        ),
        pairs={(item.one, item.other): item for item in report.improvements},
        pictures={name: base64.b64encode(svg).decode("ascii") for name, (svg, _) in pictures.items()},
        place=lambda path: readable(relative(path, folder)),
        link=lambda path: link(path, folder),
        confidence=f"{CONFIDENCE:.0%}".replace("%", " %"),
        resamples=RESAMPLES,
        seed=SEED,
        is_evaluated=report.source == EVALUATIONS,
        window=WINDOW,
        first_episode=FIRST_EPISODE,
        most_lines=MOST_LINES,
        most_rows=MOST_ROWS,
        most_paired=_MOST_PAIRED,
        most_compared=_MOST_COMPARED,
    )


def _estimate(estimate: Estimate, fixed: int | None = None) -> str:
    """The value, with ``fixed`` decimals if given."""
    return number(estimate.value) if fixed is None else f"{estimate.value:.{fixed}f}"


def _ends(estimate: Estimate, fixed: int | None = None) -> str:
    """The interval, in the same form; a dash for none."""
    if estimate.lower is None or estimate.upper is None:
        return "–"
    return " to ".join(_estimate(Estimate(end), fixed) for end in (estimate.lower, estimate.upper))
