"""What is beside the curves on TensorBoard's pages: texts, pictures, histograms, the laid-out charts."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.text import metadata as text

from bbrl_exp.agents.graph_check import VariableFacts

LAYOUT: str = custom_scalar.CONFIG_SUMMARY_TAG
N_BUCKETS = 30
_FLOAT = np.finfo(np.float64)
_LARGEST_WITH_HALVES = 2.0**52  # from here on, there is no float64 between two whole numbers
_RGB = 3
_FONT_SIZE = 14
_ROW, _MARGIN, _RADIUS = 24, 12, 5
_TRAINING = ("eval/return_mean", "train/return", "eval/length_mean", "train/length", "time/steps_per_second")
_PAPER, _INK, _LINE, _WRITES, _READS = "white", "black", "#dddddd", "#d95f02", "#1f77b4"


def text_summary(tag: str, markdown: str) -> Summary:
    """A text for the TEXT page."""
    metadata = text.create_summary_metadata(display_name=None, description=None)
    return _string_summary(tag, markdown.encode(), metadata)


def image_summary(tag: str, data: bytes, size: tuple[int, int]) -> Summary:
    """A picture for the IMAGES page, from a file that browsers show; ``size`` is its width and height in pixels."""
    image = Summary.Image(width=size[0], height=size[1], colorspace=_RGB, encoded_image_string=data)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def graph_picture(variables: Sequence[VariableFacts]) -> Image.Image:
    """Who writes what and who reads it: a line for each variable, a column for each agent, those that write first.

    A full disc is an agent that writes the variable, a ring one that reads it.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    writers = [agent for variable in variables for agent in variable.writers]
    readers = [agent for variable in variables for agent in variable.readers]
    agents = list(dict.fromkeys((*writers, *readers)))
    left = round(max((font.getlength(variable.name) for variable in variables), default=0)) + 2 * _MARGIN
    widths = [round(font.getlength(agent)) + 2 * _MARGIN for agent in agents]
    centres = [left + sum(widths[:index]) + width // 2 for index, width in enumerate(widths)]
    legend = "disc: writes   ring: reads"
    width = max(left + sum(widths), round(font.getlength(legend)) + 2 * _MARGIN)
    picture = Image.new("RGB", (width, (len(variables) + 2) * _ROW + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(picture)
    for agent, x in zip(agents, centres, strict=True):
        draw.text((x, _ROW // 2), agent, _INK, font, anchor="mm")
    for index, variable in enumerate(variables):
        y = (index + 1) * _ROW + _ROW // 2
        draw.line((_MARGIN, y - _ROW // 2, width - _MARGIN, y - _ROW // 2), _LINE)
        draw.text((_MARGIN, y), variable.name, _INK, font, anchor="lm")
        for agent, x in zip(agents, centres, strict=True):
            if agent in variable.writers:
                draw.circle((x, y), _RADIUS, fill=_WRITES)
            if agent in variable.readers:
                draw.circle((x, y), _RADIUS + 3, outline=_READS, width=2)
    draw.text((_MARGIN, (len(variables) + 1) * _ROW + _ROW // 2), legend, _INK, font, anchor="lm")
    return picture


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()


def histogram_of(values: NDArray[Any]) -> HistogramProto | None:
    """The histogram of numbers in any shape; None where none of them is finite."""
    numbers = values.astype(np.float64).reshape(-1)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    size = max(abs(low), abs(high))
    if np.issubdtype(values.dtype, np.integer) and high - low < N_BUCKETS and size < _LARGEST_WITH_HALVES:
        edges = np.arange(low, high + 2) - 0.5
    elif np.isfinite(high - low) and (high - low) / N_BUCKETS > size * _FLOAT.eps:
        edges = np.linspace(low, high, N_BUCKETS + 1)
    else:
        above = high if high == _FLOAT.max else np.nextafter(high, np.inf)
        edges = np.array([low if low < above else np.nextafter(low, -np.inf), above])
    counts, _ = np.histogram(numbers, edges)
    with np.errstate(over="ignore"):
        return HistogramProto(
            min=float(edges[0]),
            max=float(edges[-1]),
            num=float(numbers.size),
            sum=float(numbers.sum()),
            sum_squares=float(np.square(numbers).sum()),
            bucket_limit=edges[1:].tolist(),
            bucket=counts.tolist(),
        )


def layout_summary(workspace_tags: Iterable[str]) -> Summary:
    """The CUSTOM SCALARS page: learning curves first, then a chart for each variable or component.

    Mean, minimum and maximum of a number are one line in its band; the fractions of neighbouring variables
    (``env/terminated``, ``env/truncated``, … or the values of an action) share a chart.
    """
    bands: dict[str, dict[str, str]] = {}
    fractions: dict[str, list[str]] = {}
    for tag in workspace_tags:
        stem, _, statistic = tag.rpartition("/")
        if statistic == "fraction":
            fractions.setdefault(stem.rpartition("/")[0], []).append(tag)
        else:
            bands.setdefault(stem, {})[statistic] = tag
    training = [_lines(tag, [tag]) for tag in _TRAINING]
    charts = [
        _band(stem, tags["mean"], tags["min"], tags["max"]) if "min" in tags else _lines(stem, tags.values())
        for stem, tags in bands.items()
    ]
    charts += [_lines(f"{stem}: fractions", tags) for stem, tags in fractions.items()]
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(title="learning curves", chart=training),
            layout_pb2.Category(title="workspace", chart=charts),
        ]
    )
    metadata = custom_scalar.create_summary_metadata()
    return _string_summary(LAYOUT, layout.SerializeToString(), metadata)


def _band(title: str, mean: str, lowest: str, highest: str) -> layout_pb2.Chart:
    series = layout_pb2.MarginChartContent.Series(value=mean, lower=lowest, upper=highest)
    return layout_pb2.Chart(title=_without_group(title), margin=layout_pb2.MarginChartContent(series=[series]))


def _lines(title: str, tags: Iterable[str]) -> layout_pb2.Chart:
    patterns = [f"^{re.escape(tag)}$" for tag in tags]
    return layout_pb2.Chart(title=_without_group(title), multiline=layout_pb2.MultilineChartContent(tag=patterns))


def _without_group(title: str) -> str:
    return title.removeprefix("workspace/")


def _string_summary(tag: str, content: bytes, metadata: SummaryMetadata) -> Summary:
    metadata.data_class = DATA_CLASS_TENSOR
    tensor = TensorProto(dtype=DT_STRING, string_val=[content], tensor_shape=TensorShapeProto())
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
