"""What TensorBoard's readers find in the file is exactly what was written."""

import struct

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.event_file import MAX_STEP, EventFile, Picture, ScalarRecords, masked_crc, read_pictures
from bbrl_exp.tracking.summaries import image_summary, text_summary

from .event_scalars import read_scalars

LENGTHS = [1, 2, 7, 64, 65, 129]


def table(n_series, n_steps):
    """Values 100·t + s, recognisable wherever they turn up."""
    return (100 * np.arange(n_steps)[None] + np.arange(n_series)[:, None]).astype(np.float32)


def read_with_tensorboard(path):
    return EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()


@pytest.mark.parametrize("n_steps", LENGTHS)
@pytest.mark.parametrize("tags", [["a"], ["x" * 127, "y" * 128, "é/ü"], [f"workspace/v/{i}" for i in range(40)]])
def test_the_protobuf_parser_reads_time_step_tags_and_values_of_every_record(tags, n_steps):
    steps = np.arange(n_steps, dtype=np.int64) * 8 + 120
    data = bytes(ScalarRecords(tags).encode(1234.5, steps, table(len(tags), n_steps)))
    position = 0
    for row in range(n_steps):
        length, header_crc = struct.unpack_from("<QI", data, position)
        assert header_crc == masked_crc(data[position : position + 8])
        payload = data[position + 12 : position + 12 + length]
        assert struct.unpack_from("<I", data, position + 12 + length)[0] == masked_crc(payload)
        event = Event.FromString(payload)
        assert (event.wall_time, event.step) == (1234.5, 120 + 8 * row)
        assert [value.tag for value in event.summary.value] == tags
        assert [value.simple_value for value in event.summary.value] == [100 * row + s for s in range(len(tags))]
        position += length + 16
    assert position == len(data)


def test_the_masked_checksum_is_that_of_the_published_crc32c_check_value():
    crc = 0xE3069283  # crc32c of "123456789", from the polynomial's catalogue
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("step", [0, 1, 127, 128, 2**31, 2**32 + 5, MAX_STEP])
def test_steps_of_every_size_are_read_back(tmp_path, step):
    file = EventFile(tmp_path)
    file.scalars(["a"], np.array([step]), np.array([[1.5]], dtype=np.float32))
    file.close()
    assert [(p.step, p.value) for p in read_with_tensorboard(tmp_path).Scalars("a")] == [(step, 1.5)]
    assert read_scalars(file.path).series["a"].steps.tolist() == [step]


def test_a_step_that_does_not_fit_is_refused():
    for step in (-1, MAX_STEP + 1):
        with pytest.raises(ValueError, match="steps must be from 0"):
            ScalarRecords(["a"]).encode(0.0, np.array([step]), np.zeros((1, 1), dtype=np.float32))


def test_chunks_of_changing_size_and_layout_are_read_in_the_order_in_which_they_were_written(tmp_path):
    file = EventFile(tmp_path)
    first = 0
    for n_steps in [5, 129, 1, 64, 130]:
        file.scalars(["a", "b"], np.arange(first, first + n_steps), table(2, n_steps))
        file.scalars(["train/return"], np.array([first, first]), np.array([[3.0, 4.0]], dtype=np.float32))
        first += n_steps
    file.close()
    read = read_with_tensorboard(file.path)
    assert [p.step for p in read.Scalars("b")] == list(range(first))
    assert [p.value for p in read.Scalars("b")][5:134] == [100 * t + 1 for t in range(129)]
    assert [p.value for p in read.Scalars("train/return")] == [3.0, 4.0] * 5


def test_nan_and_infinity_are_read_back(tmp_path):
    file = EventFile(tmp_path)
    file.scalars(["a"], np.arange(3), np.array([[np.nan, np.inf, -np.inf]], dtype=np.float32))
    file.close()
    values = [p.value for p in read_with_tensorboard(tmp_path).Scalars("a")]
    assert np.array_equal(values, [np.nan, np.inf, -np.inf], equal_nan=True)


def test_every_call_has_reached_the_disk_and_truncating_at_its_position_leaves_whole_records(tmp_path):
    file = EventFile(tmp_path)
    file.scalars(["a"], np.arange(10), table(1, 10))
    position = file.tell()
    assert file.path.stat().st_size == position
    file.summary(3, text_summary("note", "text"))
    file.scalars(["a"], np.arange(10, 20), table(1, 10))
    file.close()
    file.path.write_bytes(file.path.read_bytes()[:position])
    assert read_scalars(file.path).damage is None
    assert [p.step for p in read_with_tensorboard(tmp_path).Scalars("a")] == list(range(10))


def test_the_file_begins_with_the_version_and_stands_directly_in_the_folder(tmp_path):
    file = EventFile(tmp_path)
    file.close()
    assert file.path.parent == tmp_path
    assert file.path.name.startswith("events.out.tfevents.")
    assert Event.FromString(file.path.read_bytes()[12:-4]).file_version == "brain.Event:2"


def test_a_folder_that_is_missing_is_one_error_that_names_the_file(tmp_path):
    with pytest.raises(BbrlExpError, match=r"cannot write '.*absent/events\.out\.tfevents.*No such file"):
        EventFile(tmp_path / "absent")


def test_the_pictures_are_read_back_among_other_records_and_from_a_file_that_is_cut_off(tmp_path):
    pictures = [Picture(4, "a", b"\x89PNG\r\n of a", (3, 2)), Picture(8, "b/c", b"GIF89a of b", (5, 7))]
    file = EventFile(tmp_path)
    for picture in pictures:
        file.scalars(["x"], np.array([1]), np.array([[1.0]], dtype=np.float32))
        file.summary(0, text_summary("text", "a GIF89a is no picture here"))
        file.summary(picture.env_steps, image_summary(picture.name, picture.data, picture.size))
    file.close()
    assert list(read_pictures(file.path)) == pictures
    file.path.write_bytes(file.path.read_bytes()[:-1])
    assert list(read_pictures(file.path)) == pictures[:1]
    assert list(read_pictures(tmp_path / "nowhere")) == []
