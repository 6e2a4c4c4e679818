"""What a tracker has already is left out, by the order of the records of each name."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bbrl_exp.records.metrics import Point
from bbrl_exp.tracking.new_only import NewOnly
from bbrl_exp.tracking.remote_process import Service, rows_of

STREAM = [(4, "a"), (4, "a"), (4, "b"), (8, "a"), (8, "b"), (8, "b"), (6, "late"), (9, "late")]


def knowing(records: list[tuple[int, str]]) -> NewOnly:
    new = NewOnly()
    for env_steps, name in records:
        new.add(env_steps, [name])
    return new


def test_whatever_part_of_the_records_is_there_the_rest_is_new_and_nothing_twice() -> None:
    for first in range(len(STREAM) + 1):
        new = knowing(STREAM[:first])
        assert [record for record in STREAM if new.is_new(*record)] == STREAM[first:]
        new.restart()
        assert [record for record in STREAM if new.is_new(*record)] == []


def test_a_hole_in_what_a_tracker_has_is_new_and_nothing_else() -> None:
    for first in range(len(STREAM)):
        for last in range(first, len(STREAM)):
            hole = STREAM[first:last]
            new = knowing(STREAM[last:] + STREAM[:first])  # in whatever order the tracker has them
            # Equal records are told apart by their number alone.
            assert Counter(record for record in STREAM if new.is_new(*record)) == Counter(hole)


def test_a_stream_that_begins_at_a_checkpoint_is_continued_where_the_tracker_is() -> None:
    new = knowing([(4, "a"), (4, "b"), (8, "a")])
    assert [record for record in STREAM[3:6] if new.is_new(*record)] == [(8, "b"), (8, "b")]


class Recorder:
    """A tracker that keeps its rows."""

    where, is_off = "", False

    def __init__(self) -> None:
        self.new = NewOnly()
        self.rows: list[tuple[int, Mapping[str, float]]] = []

    def row(self, env_steps: int, numbers: Mapping[str, float]) -> None:
        self.rows.append((env_steps, numbers))

    def image(self, env_steps: int, name: str, path: Path) -> None:
        self.rows.append((env_steps, {name: 0.0}))

    def results(self, env_steps: int, values: Mapping[str, float]) -> None:
        raise NotImplementedError

    def finish(self, status: str) -> None:
        raise NotImplementedError


def test_names_that_a_tracker_reserves_are_kept_below_metrics(tmp_path: Path) -> None:
    recorder = Recorder()
    service = Service(recorder, tmp_path, tmp_path / "pictures")
    for _ in range(2):
        service.row(4, {"step": 1.0, "_mine": 2.0, "": 3.0, "loss/step": 4.0})
        service.image(4, "time", b"")
        recorder.new.restart()
    numbers = {"metrics/step": 1.0, "metrics/_mine": 2.0, "metrics/": 3.0, "loss/step": 4.0}
    assert recorder.rows == [(4, numbers), (4, {"metrics/time": 0.0})]


def test_points_are_rows_again_with_each_name_once_and_none_lost() -> None:
    points = [Point(4, "a", 1.0), Point(4, "b", 2.0), Point(4, "a", 3.0), Point(8, "a", 4.0), Point(4, "c", 5.0)]
    rows = list(rows_of(points))
    assert rows == [(4, {"a": 1.0, "b": 2.0}), (4, {"a": 3.0}), (8, {"a": 4.0}), (4, {"c": 5.0})]
    assert list(rows_of([])) == []
