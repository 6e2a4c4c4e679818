"""The fragments of Python that pages show inside a text do what the text says; each has a test here."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from pages import Page, finished
from prepared import run as run_prepared
from test_commands import OWNED, names

from bbrl_exp import Agent, Agents, AutoResetGymAgent, Sink, TemporalAgent, Workspace
from bbrl_exp.errors import WorkspaceError
from bbrl_exp.learners.learner import Learner
from bbrl_exp.policies.stochastic import StochasticPolicy

TESTED = {
    "../README.md": 1,
    "concepts.md": 3,
    "migration.md": 1,
    "own_learner.md": 1,
    "partial_observability.md": 1,
    "remote_agents.md": 1,
    "seeing_memory.md": 1,
    "sinks.md": 1,
}


def test_every_snippet_has_a_test() -> None:
    own = {name for name, tree in OWNED.items() if "PAGE.snippets" in ast.unparse(tree)}
    found = {name: len(Page.read(name).snippets) for name in names() if name not in own}
    assert {name: number for name, number in found.items() if number} == {
        name: number for name, number in TESTED.items() if name in found
    }


def test_a_workspace_is_read_and_written_as_the_page_on_concepts_says() -> None:
    workspace = Workspace()
    env = AutoResetGymAgent("CartPole-v1", 2, seed=0)
    policy = StochasticPolicy(env.env_spec, name="policy")
    TemporalAgent(Agents(env, policy))(workspace, t=0, n_steps=6)
    actions = torch.tensor([0, 1])
    names_there: dict[str, Any] = {"workspace": workspace, "actions": actions}
    exec(Page.read("concepts.md").snippets[0], names_there)
    assert workspace.get("action", 3).tolist() == [0, 1]


def test_a_target_network_runs_on_the_second_row_as_the_page_on_concepts_says() -> None:
    class Target(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("target/q_values", t), 10 * self.get(("env/env_obs", t)))

    workspace = Workspace()
    workspace.set_full("env/env_obs", torch.arange(4.0).view(2, 1, 2))
    exec(
        Page.read("concepts.md").snippets[1],
        {"TemporalAgent": TemporalAgent, "target": Target(), "workspace": workspace},
    )
    assert workspace.get("target/q_values", 1).tolist() == [[20.0, 30.0]]
    for read in (lambda: workspace.get("target/q_values", 0), lambda: workspace["target/q_values"]):
        with pytest.raises(WorkspaceError, match=r"row t?=?0 was never written"):
            read()


def test_a_loss_of_what_is_read_from_the_workspace_flows_back_as_the_page_on_concepts_says() -> None:
    class LogProb(Agent):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("log_prob", t), (self.get(("env/env_obs", t)) * self.weight).sum(1))

    workspace, policy = Workspace(), LogProb()
    observations = torch.arange(12.0).view(3, 2, 2)
    workspace.set_full("env/env_obs", observations)
    workspace.set_full("advantage", torch.ones(3, 2))
    here = {"TemporalAgent": TemporalAgent, "policy": policy, "workspace": workspace}
    exec(Page.read("concepts.md").snippets[2], here)
    assert policy.weight.grad is not None
    assert torch.allclose(policy.weight.grad, -observations.mean(dim=(0, 1)))


def test_an_object_with_two_methods_is_saved_as_the_page_on_learners_says() -> None:
    defined: dict[str, Any] = {}
    exec(Page.read("own_learner.md").snippets[0], defined)

    class Normalizing(Learner):
        def __init__(self) -> None:
            super().__init__()
            self.normalizer = defined["Normalizer"]()

    one, other = Normalizing(), Normalizing()
    one.normalizer.mean = 3.0
    other.load_state_dict(one.state_dict())
    assert other.normalizer.mean == 3.0


def test_remote_agents_run_as_their_page_says(tmp_path: Path) -> None:
    (snippet,) = Page.read("remote_agents.md").snippets
    (tmp_path / "program.py").write_text(f"{snippet}    print(workspace.time_size(), workspace.batch_size())\n")
    assert finished(run_prepared([str(tmp_path / "program.py")], tmp_path)).stdout == "128 8\n"


def test_an_lstm_has_a_state_of_two_numbers_per_unit_in_the_page_on_partial_observability(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exec(Page.read("partial_observability.md").snippets[0], {})
    assert capsys.readouterr().out == "torch.Size([10, 4, 256])\n"


def test_an_lstm_begins_with_a_longer_memory_than_a_gru_in_the_page_on_seeing_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exec(Page.read("seeing_memory.md").snippets[0], {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [cell for cell, _ in printed] == ["GRU", "LSTM"]
    assert 0 < int(printed[0][1]) < int(printed[1][1]) < 100


def test_a_sink_that_asks_a_server_how_far_it_is_is_given_what_is_beyond() -> None:
    class Server:
        last_step = staticmethod(lambda: 512)

    class Facts:
        run_id, group = "a", None

    (snippet,) = Page.read("sinks.md").snippets
    defined: dict[str, Any] = {"connect": lambda run, group: Server()}
    exec(snippet, defined)
    remote = type("Remote", (Sink,), {"start": defined["start"]})()
    remote.start(Facts())
    assert remote.recorded_until == 512


@pytest.mark.skipif("migration.md" not in names(), reason="there is no page on migration")
def test_programs_for_bbrl_find_it_after_two_lines(tmp_path: Path) -> None:
    (snippet,) = Page.read("migration.md").snippets
    program = f"{snippet}\nfrom bbrl.agents import Agents\nprint(Agents.__module__.split('.')[0])"
    assert finished(run_prepared(["-c", program], tmp_path)).stdout == "bbrl_exp\n"


def test_the_readme_s_program_runs_evaluates_and_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = Page.read("../README.md").snippets
    short = snippet.replace('"total_steps=20000"', '"total_steps=64", "agent.steps_per_chunk=8", "eval.every=32"')
    assert short != snippet
    observation, _ = gymnasium.make("CartPole-v1").reset(seed=0)
    names_there: dict[str, Any] = {"observation": observation}
    exec(short.replace("episodes=50", "episodes=2"), names_there)
    assert names_there["action"] in (0, 1)
    assert isinstance(names_there["result"].summary.overrides, Sequence)
