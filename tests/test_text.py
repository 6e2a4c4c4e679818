"""Durations, sizes and tables as text."""

from __future__ import annotations

import csv
import io

import pytest

from bbrl_exp.text import aligned_table, clock_time, csv_table, markdown_table, one_line, size_in_words, time_in_words


def test_sizes_are_said_in_words() -> None:
    sizes = (12, 1500, 2.5e9, 4.2e15)
    assert [size_in_words(size) for size in sizes] == ["12 B", "1.5 kB", "2.5 GB", "4,200.0 TB"]


@pytest.mark.parametrize(
    ("seconds", "clock", "words"),
    [
        (0.4, "0:00", "0 s"),
        (59.6, "1:00", "60 s"),
        (89, "1:29", "89 s"),
        (150, "2:30", "2 min"),
        (3600, "1:00:00", "60 min"),
        (7500, "2:05:00", "2 h 5 min"),
    ],
)
def test_a_duration_is_shown_as_a_clock_does_or_as_people_say_it(seconds: float, clock: str, words: str) -> None:
    assert (clock_time(seconds), time_in_words(seconds)) == (clock, words)


def test_an_error_of_several_lines_is_one_line_and_one_without_words_its_type() -> None:
    assert one_line(ValueError("a\n  b\n")) == "a b"
    assert one_line(ValueError()) == "ValueError"


def test_columns_are_aligned_without_spaces_at_the_ends() -> None:
    assert aligned_table(["a", "long"], [["xyz", "1"], ["", ""]]) == ["a    long", "xyz  1", ""]


def test_a_bar_in_a_cell_is_no_border_in_markdown() -> None:
    assert markdown_table(["a", "b"], [["1|2", "3"]]) == "| a | b |\n| --- | --- |\n| 1&#124;2 | 3 |"


def test_a_csv_table_is_read_back() -> None:
    text = csv_table(["a", "b"], [[1, 'x,"y"\nz'], [None, 2.5]])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "b"], ["1", 'x,"y"\nz'], ["", "2.5"]]
