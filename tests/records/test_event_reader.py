"""The reader reads the files of any writer, and names what is broken."""

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from bbrl_exp.records.event_file import EventFile, ScalarRecords, framed, whole_length
from bbrl_exp.tracking.summaries import text_summary

from .event_scalars import read_scalars

RECORD_OF_C = len(bytes(ScalarRecords(["c"]).encode(0.0, np.array([0]), np.array([[0.0]]))))


@pytest.fixture
def path(tmp_path):
    """Ten records of 'a' and 'b', a text between them, then three of 'c'."""
    file = EventFile(tmp_path)
    file.scalars(["a", "b"], np.arange(5), np.arange(10, dtype=np.float32).reshape(2, 5))
    file.summary(4, text_summary("config", "seed: 0"))
    file.scalars(["a", "b"], np.arange(5, 10), np.arange(10, 20, dtype=np.float32).reshape(2, 5))
    file.scalars(["c"], np.arange(3), np.array([[1, 2, 3]], dtype=np.float32))
    file.close()
    return file.path


def test_scalars_are_read_in_the_order_in_which_they_were_written(path):
    read = read_scalars(path)
    assert read.damage is None
    assert set(read.series) == {"a", "b", "c"}
    assert read.series["a"].steps.tolist() == list(range(10))
    assert read.series["b"].values.tolist() == [5, 6, 7, 8, 9, 15, 16, 17, 18, 19]
    assert read.series["c"].values.tolist() == [1, 2, 3]


def test_events_of_another_writer_with_steps_of_changing_width_and_tags_of_one_length_are_read(tmp_path):
    path = tmp_path / "events.out.tfevents.other"
    expected = {"ab": [], "cd": []}
    with path.open("wb") as file:
        file.write(framed(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString()))
        for index, step in enumerate([0, 1, 126, 127, 128, 129, 300, 16384, 2**40]):
            tag = "ab" if index % 3 else "cd"
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=float(index))])
            file.write(framed(Event(wall_time=float(index), step=step, summary=summary).SerializeToString()))
            expected[tag].append((step, float(index)))
    series = read_scalars(path).series
    for tag, points in expected.items():
        assert list(zip(series[tag].steps.tolist(), series[tag].values.tolist(), strict=True)) == points


@pytest.mark.parametrize("cut", [1, 15, 40])
def test_a_cut_tail_is_named_and_the_rest_is_read(path, cut):
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert whole_length(path.read_bytes()) == len(whole) - RECORD_OF_C
    read = read_scalars(path)
    assert "cut off" in read.damage
    assert read.series["a"].steps.tolist() == list(range(10))
    assert read.series["c"].values.tolist() == [1, 2]


def test_a_changed_byte_is_found_by_its_checksum(path):
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    read = read_scalars(path)
    assert "wrong checksum of the record" in read.damage
    assert read.series["c"].values.tolist() == [1, 2]


def test_zeros_after_the_last_record_are_named(path):
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(64))
    assert whole_length(path.read_bytes()) == len(whole) == whole_length(whole)
    read = read_scalars(path)
    assert "wrong checksum of the length" in read.damage
    assert read.series["c"].values.tolist() == [1, 2, 3]


def test_an_empty_file_has_no_scalars(tmp_path):
    path = tmp_path / "events.out.tfevents.empty"
    path.touch()
    assert read_scalars(path).series == {}
