"""TensorBoard's HPARAMS page: a run is one trial there, from its start on, and the trials of a setting are one row.

A trial is two records in the run's own event file: what it was asked, written when the file is made, and how it ended.
Its metrics are the scalars ``Final/<name>``. There is no record of the whole experiment: TensorBoard takes the columns
from the first such record that it finds, and without one from all trials below its folder. It then offers every tag as
a metric and shows the first five; the capital letter puts these before all others. The page reads the first record of
a kind: that of a run which is made longer is written over.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.event_file import EventFile
from bbrl_exp.records.event_reader import FILE_PATTERN, end_of_whole_records, whole_records
from bbrl_exp.records.event_records import HEADER_LENGTH, framed
from bbrl_exp.tracking.trial import Trial

_FAILED = "failed"
# What makes room is the record's description, which the page does not show. Beyond 127 characters the length of a text
# takes one byte more; so each character more makes an event one byte longer, up to 16,383.
_FILLING, _LEAST_FILLING = ".", 256
_BLOCK = 1024
_HEAD = 65_536


def write_start(events: EventFile, trial: Trial) -> None:
    """Puts the run on the page; its status is unknown there until :func:`write_end`."""
    events.event(_start(trial, time.time()))


def renew_start(path: Path, trial: Trial) -> None:
    """Puts the trial of a run that goes on with more steps in the place of the one that stands in its event file.

    The record has room to spare. It is written over, since what stands behind it is where checkpoints say that it is; a
    trial for which the room does not suffice is left as it was.

    Raises:
        BbrlExpError: the file cannot be written.
    """
    try:
        with path.open("r+b", buffering=0) as file:
            head = file.read(_HEAD)
            for first, length in whole_records(head):
                old = head[first : first + length]
                if metadata.SESSION_START_INFO_TAG.encode() in old:
                    new = _start(trial, Event.FromString(old).wall_time, length).SerializeToString()
                    if len(new) == length:
                        file.seek(first - HEADER_LENGTH)
                        file.write(framed(new))
                    return
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error


def _start(trial: Trial, seconds: float, length: int | None = None) -> Event:
    """The event that puts a run on the page, of ``length`` bytes if there is room; without one, of whole blocks."""
    start = plugin_data_pb2.SessionStartInfo(group_name=trial.setting, start_time_secs=seconds)
    for name, value in sorted(trial.parameters.items()):
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, (int, float)):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = value
    data = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    event = Event(wall_time=seconds, summary=_summary(metadata.SESSION_START_INFO_TAG, data))
    record = event.summary.value[0].metadata
    record.summary_description = _FILLING * _LEAST_FILLING
    least = event.ByteSize()
    wanted = length or math.ceil(least / _BLOCK) * _BLOCK
    record.summary_description = _FILLING * (_LEAST_FILLING + max(wanted - least, 0))
    return event


def write_end(events: EventFile, env_steps: int, metrics: Mapping[str, float | None], *, failed: bool) -> None:
    """Tells the page how the run ended.

    Args:
        events: the run's file.
        env_steps: environment steps done.
        metrics: what came out, no times: each becomes a scalar ``Final/<name>``; None and NaN are left out.
        failed: also a scalar, ``Final/failed``, whose mean is the fraction of a setting's trials that failed.
    """
    found = {name: value for name, value in metrics.items() if value is not None and not math.isnan(value)}
    values = {**found, _FAILED: float(failed)}
    events.scalars(
        [f"Final/{name}" for name in values], np.array([env_steps]), np.array([[v] for v in values.values()])
    )
    status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    events.summary(env_steps, _summary(metadata.SESSION_END_INFO_TAG, data))


def mark_failed(folder: Path, env_steps: int, trial: Trial | None) -> None:
    """Marks a run as failed that has not told so itself: its process was killed, or it could not start.

    A record that was cut off at the end of its event file is removed. A run whose end the file tells already is left as
    it is.

    Args:
        folder: of the run; it must exist, and no process may write in it.
        env_steps: environment steps that the run is known to have done.
        trial: the run, for which a file is made where there is none; None where it is to have none.

    Raises:
        BbrlExpError: the file cannot be made or written.
    """
    there = max(folder.glob(FILE_PATTERN), default=None)
    data = there.read_bytes() if there is not None else b""
    end = end_of_whole_records(data)
    has_started = data.find(metadata.SESSION_START_INFO_TAG.encode(), 0, end) >= 0
    if data.find(metadata.SESSION_END_INFO_TAG.encode(), 0, end) >= 0 or (trial is None and not has_started):
        return
    if there is not None and not end:  # killed before its first record was whole
        there.unlink()
    with contextlib.closing(EventFile(folder, (there.name, end) if there is not None and end else None)) as events:
        if trial is not None and not has_started:
            write_start(events, trial)
        write_end(events, env_steps, {}, failed=True)


def _summary(tag: str, content: plugin_data_pb2.HParamsPluginData) -> Summary:
    empty = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content), tensor=empty)])
