"""What would end a process without a word, or cannot be printed, is one line, and the run is recorded as failed."""

import io
import sys
from pathlib import Path

import pytest

from bbrl_exp.commands.run import main

from .conftest import CommandLine
from .same_run import summary_of

SMALL = ["total_steps=64", "batch_size=2", "agent.steps_per_chunk=16", "tracking=none", "name=run"]
RUN = Path("outputs") / "run"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of a user's own whose classes end the process, or raise what cannot be printed."""
    (tmp_path / "ends.py").write_text(
        """
import torch
from bbrl_exp.agents.agent import Agent
from bbrl_exp.learners.learner import Learner


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no words")


RAISED = {
    "exit": SystemExit(0),
    "generator": GeneratorExit(),
    "interrupt": KeyboardInterrupt("typed"),
    "surrogate": ValueError("a \\ud800 b"),
    "unprintable": Unprintable(),
}


class OfConstructor(Agent):
    def __init__(self, error, name=None):
        super().__init__(name)
        raise RAISED[error]

    def forward(self, t, **kwargs):
        pass


class OfForward(Agent):
    def __init__(self, error, at, name=None):
        super().__init__(name)
        self.error, self.at = error, at

    def forward(self, t, **kwargs):
        if t == self.at:
            raise RAISED[self.error]


class OfUpdate(Learner):
    def __init__(self, error):
        super().__init__()
        self.error = error
        self.parameter = torch.nn.Parameter(torch.zeros(1))

    def update(self, workspace, progress):
        raise RAISED[self.error]


class OfLearner(Learner):
    def __init__(self, error):
        super().__init__()
        raise RAISED[error]

    def update(self, workspace, progress):
        return {}
"""
    )
    (tmp_path / "exits_at_import.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "ends")


@pytest.mark.parametrize("error", ["exit", "generator", "interrupt", "surrogate", "unprintable"])
@pytest.mark.parametrize(
    "node",
    [
        "+agent.members.x={_target_: ends.OfConstructor, error: %s}",
        "agent.learner={_target_: ends.OfLearner, error: %s}",
    ],
    ids=["agent", "learner"],
)
def test_what_a_constructor_raises_is_one_line_and_nothing_is_made(
    node: str, error: str, command_line: CommandLine
) -> None:
    ended = command_line(*SMALL, node % error)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "refuses its arguments" in ended.err
    assert not RUN.exists()


def test_an_allowed_package_that_exits_when_it_is_imported_is_named(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBRL_EXP_ALLOW", "exits_at_import")
    ended = command_line(*SMALL)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "'exits_at_import', which cannot be imported: SystemExit: 0" in ended.err
    assert not RUN.exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("exit", "SystemExit: 0"),
        ("generator", "GeneratorExit"),
        ("interrupt", "KeyboardInterrupt: typed"),
        ("surrogate", "ValueError: a \\ud800 b"),
        ("unprintable", "Unprintable: (its message cannot be printed)"),
    ],
)
@pytest.mark.parametrize(
    "node",
    [
        "+agent.members.x={_target_: ends.OfForward, error: %s, at: 10}",
        "agent.learner={_target_: ends.OfUpdate, error: %s}",
    ],
    ids=["agent", "learner"],
)
def test_what_ends_a_run_is_recorded_in_one_line(node: str, error: str, said: str, command_line: CommandLine) -> None:
    ended = command_line(*SMALL, node % error)
    assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
    assert ended.err.startswith(f"error: {said} (in ")
    summary = summary_of(RUN)
    assert summary["status"] == "failed"
    assert summary["error"].startswith(said)


@pytest.mark.parametrize("error", ["exit", "generator", "interrupt"])
def test_an_agent_that_exits_in_the_check_of_the_graph_is_one_line(error: str, command_line: CommandLine) -> None:
    ended = command_line(*SMALL, f"+agent.members.x={{_target_: ends.OfForward, error: {error}, at: 0}}")
    assert ended.code in (1, 2)
    assert ended.err.count("\n") == 1
    assert not RUN.exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_run_completes_where_standard_output_cannot_encode_all_it_prints(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(contents, encoding=encoding))
    assert main(SMALL) == 0
    assert b"?" in contents.getvalue()
    assert summary_of(RUN)["status"] == "completed"
