"""The agent of docs/check_memory.md: checked by the command and in tests, as it is and with a fault."""

from __future__ import annotations

import os
from pathlib import Path

import prepared
import pytest
from pages import Page, finished, run

PAGE = Page.read("check_memory.md")
CHECK, CHECK_TRACE = PAGE.commands
SHORT = "agent.steps_per_chunk=8"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's files."""
    PAGE.write_files(tmp_path)
    return tmp_path


def test_the_first_command_passes_all_checks(folder: Path) -> None:
    printed = run(folder, CHECK, "agent.steps_per_chunk=8", "memory.cell.n_hidden=8").stdout
    assert printed.endswith("\n\n18 of 18 checks passed\n")


def test_the_page_s_agent_passes_and_without_its_reset_it_fails_as_shown(folder: Path) -> None:
    there = sorted(folder.rglob("*"))
    printed = run(folder, CHECK_TRACE, SHORT).stdout
    assert printed.startswith("agent=trace_ppo env=masked_cartpole: memory trace/env/env_obs\n")
    assert printed.endswith("\n\n14 of 14 checks passed\n")
    module = folder / "my_package" / "trace.py"
    lines = module.read_text(encoding="utf-8").splitlines()
    module.write_text("\n".join(line for line in lines if "masked_fill" not in line), encoding="utf-8")
    (shown,) = (
        line
        for line in Path(__file__).parents[2].joinpath("docs/check_memory.md").read_text().splitlines()
        if line.startswith("failed: ")
    )
    assert shown.removesuffix("…") in run(folder, CHECK_TRACE, SHORT, exit_code=1).stdout
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == there


def test_the_page_s_tests_pass(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": "."}
    called = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_trace.py"]
    assert "2 passed" in finished(prepared.run(called, folder, environment)).stdout
