"""The layout of the source keeps what it has gained; `benchmarks/structure.py` counts."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from structure import counted_lines, files_of, repeated_lines


def test_blank_lines_comments_quotes_and_imports_are_not_counted() -> None:
    text = '"""A module.\n"""\n\nimport os\nfrom a import (\n    b,\n    c,\n)\n\n# why\nx = b(\n    c\n)  # same\n'
    assert counted_lines(text) == ['"""A module.', "x = b(", "c", ")  # same"]


def test_a_line_is_repeated_that_three_files_have(tmp_path: Path) -> None:
    for name, text in (("a", "x = 1\nx = 1\ny = 2\n"), ("b", "    x = 1\n".strip()), ("c", "x = 1\ny = 2\n")):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    repeated, n_counted = repeated_lines(sorted(tmp_path.glob("*.py")))
    assert (dict(repeated), n_counted) == ({"x = 1": 4}, 6)


def test_at_most_fifteen_percent_of_the_learners_are_repeated_from_file_to_file() -> None:
    repeated, n_counted = repeated_lines(files_of("learners"))
    assert repeated.total() / n_counted <= 0.15, repeated.most_common(20)
