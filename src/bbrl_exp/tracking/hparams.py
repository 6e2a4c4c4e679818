"""TensorBoard's HPARAMS page: every run is there from its start on, and the runs of a setting share one row.

A run has two records in its event file: what it was asked, written when the file is made, and how it ended. Its metrics
are the scalars ``(final)/<name>``. There is no record of the whole experiment: TensorBoard takes the columns from the
first such record that it finds, and without one from all runs below its folder. It then offers every tag as a metric
and shows the first five; the bracket puts these before all others, and yet behind the learning curves on the pages of
curves, where digits come first. The page reads the first record of a kind, so that nothing in it may change when a run
is resumed.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from bbrl_exp.records.event_file import EventFile, whole_length
from bbrl_exp.records.layout import EVENTS

FINAL = "(final)"
_FAILED = "failed"
# As in tensorboard.plugins.hparams.metadata, whose import takes a third of a second.
_PLUGIN = "hparams"
_START = "_hparams_/session_start_info"
_END = "_hparams_/session_end_info"

Parameter = bool | int | float | str


@dataclass(frozen=True)
class HparamsEntry:
    """What the page shows of a run before it has results: what it was asked, flat, one column each.

    ``setting`` is equal for runs that differ in their seed alone: the page shows their mean in one row.
    """

    parameters: Mapping[str, Parameter]
    setting: str


def write_start(events: EventFile, entry: HparamsEntry) -> None:
    """Puts the run on the page; its status is unknown there until :func:`write_end`."""
    start = plugin_data_pb2.SessionStartInfo(group_name=entry.setting, start_time_secs=time.time())
    for name, value in sorted(entry.parameters.items()):
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, (int, float)):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = value
    data = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    events.summary(0, _summary(_START, data))


def write_end(events: EventFile, env_steps: int, metrics: Mapping[str, float | None], *, failed: bool) -> None:
    """Says on the page how the run ended.

    Each metric (no time is one) becomes a scalar ``(final)/<name>``; None and NaN are left out. So does ``failed``,
    whose mean is the fraction of a setting's runs that failed.
    """
    found = {name: value for name, value in metrics.items() if value is not None and not math.isnan(value)}
    values = {**found, _FAILED: float(failed)}
    events.scalars(
        [f"{FINAL}/{name}" for name in values], np.array([env_steps]), np.array([[v] for v in values.values()])
    )
    status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    events.summary(env_steps, _summary(_END, data))


def mark_failed(folder: Path, env_steps: int, entry: HparamsEntry | None) -> None:
    """Marks a run as failed that could not record so itself: its process was killed, or it could not start.

    No process may write in its folder. A record that was cut off at the end of its event file is removed. A run whose
    end is in the file already is left as it is. If there is no file, one is made if there is an ``entry``.

    Raises:
        BbrlExpError: the file cannot be made or written.
    """
    there = max(folder.glob(f"{EVENTS}*"), default=None)
    data = there.read_bytes() if there is not None else b""
    end = whole_length(data)
    has_started = data.find(_START.encode(), 0, end) >= 0
    if data.find(_END.encode(), 0, end) >= 0 or (entry is None and not has_started):
        return
    if there is not None and not end:  # killed before its first record was whole
        there.unlink()
    with contextlib.closing(EventFile(folder, (there.name, end) if there is not None and end else None)) as events:
        if entry is not None and not has_started:
            write_start(events, entry)
        write_end(events, env_steps, {}, failed=True)


def _summary(tag: str, content: plugin_data_pb2.HParamsPluginData) -> Summary:
    empty = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))
    plugin = SummaryMetadata.PluginData(plugin_name=_PLUGIN, content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=empty)])
