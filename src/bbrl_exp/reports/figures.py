"""The pictures of a report, each as SVG and as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping

import matplotlib
from matplotlib.figure import Figure

from bbrl_exp.reports.contents import Report
from bbrl_exp.reports.line_pictures import draw_curves, draw_efficiency, draw_profiles
from bbrl_exp.reports.panels import STYLE, Look, looks
from bbrl_exp.reports.row_pictures import draw_improvement, draw_scores, draw_speed

PICTURES: Mapping[str, Callable[[Report, Mapping[str, Look]], Figure | None]] = {
    "scores": draw_scores,
    "improvement": draw_improvement,
    "profiles": draw_profiles,
    "curves": draw_curves,
    "efficiency": draw_efficiency,
    "speed": draw_speed,
}


def draw_figures(report: Report) -> dict[str, tuple[bytes, bytes]]:
    """The pictures that have something to show: name → SVG, PNG."""
    pictures = {}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        # Names may have any letters: a box is drawn where the font lacks one.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        for name, make in PICTURES.items():
            figure = make(report, looks(report.best_first))
            if figure is not None:
                # Laid out once, not for each of the two files.
                figure.draw_without_rendering()
                figure.set_layout_engine(None)
                pictures[name] = (_saved(figure, "svg"), _saved(figure, "png"))
    return pictures


def _saved(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    figure.savefig(file, format=form, metadata=metadata)
    return file.getvalue()
