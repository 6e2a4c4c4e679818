"""What is beside the curves on TensorBoard's pages: texts, pictures, the laid-out charts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.text import metadata as text

_RGB = 3


def text_summary(tag: str, markdown: str) -> Summary:
    """A text for the TEXT page."""
    metadata = text.create_summary_metadata(display_name=None, description=None)
    return _string_summary(tag, markdown.encode(), metadata)


def image_summary(tag: str, data: bytes, size: tuple[int, int]) -> Summary:
    """A picture for the IMAGES page.

    Args:
        tag: its name.
        data: a file that browsers show: PNG, GIF, …; an animated one plays.
        size: width and height in pixels.
    """
    image = Summary.Image(width=size[0], height=size[1], colorspace=_RGB, encoded_image_string=data)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def layout_summary(workspace_tags: Iterable[str]) -> Summary:
    """The CUSTOM SCALARS page: training first, then a chart for each variable or component.

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
    training = [_lines(tag, [tag]) for tag in ("train/return", "train/length", "time/steps_per_second")]
    charts = [
        _band(stem, tags["mean"], tags["min"], tags["max"]) if "min" in tags else _lines(stem, tags.values())
        for stem, tags in bands.items()
    ]
    charts += [_lines(f"{stem}: fractions", tags) for stem, tags in fractions.items()]
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(title="training", chart=training),
            layout_pb2.Category(title="workspace", chart=charts),
        ]
    )
    metadata = custom_scalar.create_summary_metadata()
    return _string_summary(custom_scalar.CONFIG_SUMMARY_TAG, layout.SerializeToString(), metadata)


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
