"""Every fault of the table has a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("| fault", "|---"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_fault_is_shown_by_tests_that_are_there(row: str) -> None:
    fault, outcome, tests = (cell.strip() for cell in row.strip("|").split("|"))
    assert fault
    assert outcome
    named = re.findall(r"`([^`]+)::([^`]+)`", tests)
    assert named
    assert len(named) == tests.count("::")
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_the_tests_that_the_page_on_security_names_are_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    paths = re.findall(r"`(tests/[^`]+)`", text)
    assert paths
    assert all((ROOT / path).is_file() for path in paths)
