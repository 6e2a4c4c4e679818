"""What a reader passes and what is repeated stays within bounds: see benchmarks/structure.py."""

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "structure.py"
spec = importlib.util.spec_from_file_location("structure", SCRIPT)
assert spec is not None
assert spec.loader is not None
structure = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = structure
spec.loader.exec_module(structure)


def test_a_line_is_repeated_where_it_is_in_three_files(tmp_path: Path) -> None:
    for name, text in {
        "a": "x = 1\nx = 1\ny = 2\n",
        "b": "import os\nx = 1\n",
        "c": "    # y = 2\nx = 1\ny = 2\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    repeated, n_counted = structure.repeated_lines(tmp_path.glob("*.py"))
    assert (repeated, n_counted) == ({"x = 1": 4}, 6)


def test_learners_repeat_little_of_each_other() -> None:
    repeated, n_counted = structure.repeated_lines(structure.files_of("learners"))
    assert repeated.total() <= 0.15 * n_counted
