"""The command ``check-memory`` prints a table, and its exit code says what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbrl_exp.commands.main import main

SMALL = ["agent.steps_per_chunk=8", "memory.cell.n_hidden=8"]
FAULT = """
import torch

from bbrl_exp.policies.recurrent import RecurrentPolicy


class Shared(RecurrentPolicy):
    def read_rows(self, t, names):
        rows = super().read_rows(t, names)
        return [row.mean(0, keepdims=True).repeat(len(row), 0) if "next" in name else row
                for name, row in zip(names, rows)]
"""


def test_a_memory_without_a_fault_gives_0_and_a_line_for_each_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check-memory", "agent=recurrent_a2c", "env=masked_cartpole", "memory=min_gru", *SMALL]) == 0
    first, setting, _, heading, *lines = capsys.readouterr().out.splitlines()
    assert first == "agent=recurrent_a2c env=masked_cartpole memory=min_gru: memory policy/state, policy/next_state"
    assert setting.startswith("4 environments, 17 rows each in 2 chunks of 8 steps, ")
    assert heading.split() == ["claim", "rule", "result", "difference", "tolerance"]
    assert [line.split("  ")[0] for line in lines[:-2]] == [
        *["sequences"] * 4, *["resets"] * 4, *["stored states"] * 5, *["agreement"] * 5
    ]  # fmt: skip
    assert lines[-1] == "18 of 18 checks passed"
    assert list(tmp_path.iterdir()) == []


def test_a_fault_gives_1_and_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faulty.py").write_text(FAULT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "faulty")
    policy = "agent.members.policy._target_=faulty.Shared"
    assert main(["check-memory", policy, "agent=recurrent_a2c", "env=masked_cartpole", *SMALL]) == 1
    lines = capsys.readouterr().out.splitlines()
    said = "failed: environments do not depend on each other: 'policy/state' at t=1, environment 1: "
    assert any(line.startswith(said) for line in lines)
    assert lines[-1].endswith(" of 18 checks passed")


def test_an_agent_without_a_memory_gives_0_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-memory", "agent=a2c", "env=cartpole"]) == 0
    assert capsys.readouterr().out == "agent=a2c env=cartpole: no memory, nothing to check\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["agent=recurrent_ppo", "memory=gru,lstm"],
            "key 'memory' = gru,lstm: several values; check-memory checks one agent at a time",
        ),
        (
            ["agent=recurrent_ppo", "env=masked_cartpole", "agent.learner.sequence_length=5"],
            "key 'agent.learner.sequence_length' = 5: does not divide the 128 steps of a chunk; must be a divisor, "
            "or null for all of them",
        ),
        (
            ["agent=recurrent_ppo", "env=masked_cartpole", "+agent.members.second=${env.agent}"],
            "key 'env.agent': check-memory needs a graph with one environment agent; found a second one",
        ),
        (["-m", "agent=recurrent_ppo"], "unrecognized arguments: -m"),
        (["--config-dir", "nowhere"], f"configuration folder {Path('nowhere').absolute()} does not exist"),
    ],
)
def test_what_cannot_be_checked_gives_2_and_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-memory", *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"error: {said}\n")


def test_a_misspelt_agent_is_refused_as_a_run_refuses_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-memory", "agent=recurent_ppo"]) == 2
    said = "error: key 'agent' = 'recurent_ppo': no such option; did you mean 'recurrent_ppo'? allowed: "
    assert capsys.readouterr().err.startswith(said)
