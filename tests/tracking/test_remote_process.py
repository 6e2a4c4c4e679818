"""What a tracker has already is left out, by the order of the records of each name."""

from collections import Counter

from bbrl_exp.records.metrics import Point
from bbrl_exp.tracking.new_only import NewOnly
from bbrl_exp.tracking.remote_process import rows_of

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


def test_points_are_rows_again_with_each_name_once_and_none_lost() -> None:
    points = [Point(4, "a", 1.0), Point(4, "b", 2.0), Point(4, "a", 3.0), Point(8, "a", 4.0), Point(4, "c", 5.0)]
    rows = list(rows_of(points))
    assert rows == [(4, {"a": 1.0, "b": 2.0}), (4, {"a": 3.0}), (8, {"a": 4.0}), (4, {"c": 5.0})]
    assert list(rows_of([])) == []
