"""The tables of sweeps and searches come back as they were written, and damage is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.layout import UnreadableError
from bbrl_exp.records.tables import SweepRow, read_sweep_table, write_search_table, write_sweep_table

ROWS = [
    SweepRow("seed=1", "completed", 20.0, 21.5, 1000.0, "seed=1"),
    SweepRow("a=[1, 2] seed=2", "failed", None, None, None, "seed=2", 'it says "no", twice\nover'),
]


def test_the_rows_of_a_sweep_come_back(tmp_path: Path) -> None:
    write_sweep_table(tmp_path, ROWS)
    assert read_sweep_table(tmp_path) == ROWS
    with (tmp_path / "sweep.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["error"] for row in found] == ["", ROWS[1].error]
    assert [row["eval_return_mean"] for row in found] == ["21.5", ""]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: "", "sweep.json is empty"),
        (lambda text: text[:30], "sweep.json is not JSON, or only a part of it"),
        (lambda text: f"[{text}]", "sweep.json holds no keys"),
        (lambda text: text.replace("jobs", "rows"), "sweep.json cannot be read"),
        (lambda text: text.replace('"seed=2"', "[]"), "sweep.json cannot be read"),
        (lambda text: json.dumps({"jobs": 3}), "sweep.json cannot be read"),
        (lambda text: json.dumps({"jobs": [3, None]}), "sweep.json cannot be read"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, damage: Callable[[str], str], words: str) -> None:
    write_sweep_table(tmp_path, ROWS)
    path = tmp_path / "sweep.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UnreadableError) as error:
        read_sweep_table(tmp_path)
    assert str(error.value) == words


def test_a_search_has_its_rows_in_both_files(tmp_path: Path) -> None:
    write_search_table(tmp_path, {"best": float("nan")}, ["number", "value"], [[0, None], [1, 2.5]])
    assert json.loads((tmp_path / "search.json").read_text()) == {"best": None}
    assert (tmp_path / "search.csv").read_text() == "number,value\n0,\n1,2.5\n"


def test_a_table_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").mkdir()
    with pytest.raises(BbrlExpError, match=r"^cannot write '.*sweep\.csv': Is a directory$"):
        write_sweep_table(tmp_path, ROWS)
