"""Pictures for TensorBoard's IMAGES page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_FONT_SIZE = 14
_ROW, _MARGIN, _RADIUS = 24, 12, 5
_PAPER, _INK, _LINE, _WRITES, _READS = "white", "black", "#dddddd", "#d95f02", "#1f77b4"


@dataclass(frozen=True)
class Line:
    """One variable of a graph: its name, who writes it, who reads it."""

    variable: str
    writers: Sequence[str]
    readers: Sequence[str]


def graph_picture(lines: Sequence[Line]) -> Image.Image:
    """Who writes what and who reads it: a line for each variable, a column for each agent, those that write first.

    A full disc is an agent that writes the variable, a ring one that reads it.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    writers = [agent for line in lines for agent in line.writers]
    readers = [agent for line in lines for agent in line.readers]
    agents = list(dict.fromkeys((*writers, *readers)))
    left = round(max((font.getlength(line.variable) for line in lines), default=0)) + 2 * _MARGIN
    widths = [round(font.getlength(agent)) + 2 * _MARGIN for agent in agents]
    centres = [left + sum(widths[:index]) + width // 2 for index, width in enumerate(widths)]
    legend = "disc: writes   ring: reads"
    width = max(left + sum(widths), round(font.getlength(legend)) + 2 * _MARGIN)
    picture = Image.new("RGB", (width, (len(lines) + 2) * _ROW + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(picture)
    for agent, x in zip(agents, centres, strict=True):
        draw.text((x, _ROW // 2), agent, _INK, font, anchor="mm")
    for index, line in enumerate(lines):
        y = (index + 1) * _ROW + _ROW // 2
        draw.line((_MARGIN, y - _ROW // 2, width - _MARGIN, y - _ROW // 2), _LINE)
        draw.text((_MARGIN, y), line.variable, _INK, font, anchor="lm")
        for agent, x in zip(agents, centres, strict=True):
            if agent in line.writers:
                draw.circle((x, y), _RADIUS, fill=_WRITES)
            if agent in line.readers:
                draw.circle((x, y), _RADIUS + 3, outline=_READS, width=2)
    draw.text((_MARGIN, (len(lines) + 1) * _ROW + _ROW // 2), legend, _INK, font, anchor="lm")
    return picture


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()
