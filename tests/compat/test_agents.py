"""BBRL's agents: names, seeds, files, combinations, data sets."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from bbrl import Agent, SeedableAgent, SerializableAgent, TimeAgent
from bbrl.agents import (
    Agents,
    CopyTAgent,
    DataLoaderAgent,
    EpisodesDone,
    KWAgentWrapper,
    PrintAgent,
    ShuffledDatasetAgent,
    TemporalAgent,
)
from bbrl.agents.seeding import SeedableAgentLast, SeedableAgentMean, SeedableAgentSum
from bbrl.workspace import Workspace
from torch import nn

from bbrl_exp.errors import BbrlExpError, ConfigurationError


class Linear(TimeAgent, SeedableAgent, SerializableAgent):
    """An agent in the manner of the course's: keywords only, and a network."""

    def __init__(self, size: int = 3, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.model = nn.Linear(size, 1)

    def forward(self, t: int, **kwargs: object) -> None:
        self.set((f"{self.name}/value", t), self.model(self.get(("x", t))).squeeze(-1))


class Counter(Agent):
    def forward(self, t: int, **kwargs: object) -> None:
        self.set(("count", t), torch.tensor([float(t)]))
        self.set(("stop", t), torch.tensor([float(t >= 3)]))


def test_a_stop_variable_may_be_a_number() -> None:
    workspace = Workspace()
    TemporalAgent(Agents(Counter()))(workspace, t=0, stop_variable="stop")
    assert workspace["count"].flatten().tolist() == [0, 1, 2, 3]


def test_agents_are_named_seeded_and_found() -> None:
    agent = Linear(name="critic", seed=3)
    graph = TemporalAgent(Agents(agent, Linear(name="other")))
    assert graph.get_by_name("critic") == [agent]
    assert (agent.name, agent.get_name(), agent._seed) == ("critic", "critic", 3)
    assert Linear().seed(4)._seed == 4
    with pytest.raises(ConfigurationError) as caught:
        agent.seed(5)
    assert str(caught.value) == (
        "Linear 'critic'.seed(5): it has the seed 3 already; derive it from SeedableAgentLast, SeedableAgentSum or "
        "SeedableAgentMean to seed it again"
    )
    assert isinstance(graph.agent[0:1], Agents)
    assert list(graph.agent[0:1]) == [graph.agent[0]] == [agent]


@pytest.mark.parametrize(("kind", "expected"), [(SeedableAgentLast, 5), (SeedableAgentSum, 13), (SeedableAgentMean, 4)])
def test_agents_that_may_be_seeded_again(kind: type[SeedableAgent], expected: int) -> None:
    agent = kind()
    for seed in (2, 6, 5):
        agent.seed(seed)
    assert agent._seed == expected


def test_a_saved_model_is_loaded_by_an_agent_of_its_kind(tmp_path: Path) -> None:
    agent, file = Linear(name="critic"), tmp_path / "critic.agt"
    agent.save_model(file)
    loaded = Linear().load_model(file)
    assert (type(loaded), loaded.name) == (Linear, "critic")
    assert torch.equal(loaded.model.weight, agent.model.weight)
    assert torch.equal(torch.load(file, weights_only=False).model.weight, agent.model.weight)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "critic.agt"
    TemporalAgent(Linear()).save_model(file)
    with pytest.raises(ConfigurationError) as caught:
        Linear().load_model(file)
    assert str(caught.value) == (
        f"load_model('{file}'): the file holds more than the classes of this Linear. torch.load(filename, "
        "weights_only=False) builds it too, and runs any code that is in the file: use it only for files that you trust"
    )


def test_an_agent_is_saved_by_what_it_serializes_to(tmp_path: Path) -> None:
    agent = Linear(name="critic")
    agent.save(str(tmp_path / "agent"))
    assert pickle.loads((tmp_path / "agent").read_bytes()).name == "critic"
    agent.file = (tmp_path / "open").open("w")
    with pytest.raises(BbrlExpError) as caught:
        agent.save("here")
    agent.file.close()
    assert str(caught.value) == (
        "Linear 'critic' cannot be saved as 'here': TypeError: cannot pickle '_io.TextIOWrapper' object; override "
        "serialize to leave it out"
    )


def test_traces_are_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Linear().set_trace_file("trace.txt")
    assert str(caught.value) == (
        "set_trace_file('trace.txt'): agents are not traced; put a PrintAgent after it, or print the workspace"
    )


def test_small_agents_copy_print_latch_and_fix_keywords(capsys: pytest.CaptureFixture[str]) -> None:
    class Scaled(Agent):
        def forward(self, t: int, factor: float = 1.0, **kwargs: object) -> None:
            self.set(("scaled", t), factor * self.get(("copy", t)))

    class Done(Agent):
        def forward(self, t: int, **kwargs: object) -> None:
            self.set(("env/done", t), torch.tensor([t == 1]))

    members = (Counter(), CopyTAgent("count", "copy"), KWAgentWrapper(Scaled(), factor=10.0), Done(), EpisodesDone())
    workspace = Workspace()
    TemporalAgent(Agents(*members, PrintAgent("scaled")))(workspace, t=0, n_steps=3)
    assert workspace["scaled"].flatten().tolist() == [0, 10, 20]
    assert workspace["env/done"].flatten().tolist() == [False, True, True]
    assert capsys.readouterr().out.splitlines()[2] == "t=2 scaled = tensor([20.])"


def test_data_sets_are_written_at_the_first_row() -> None:
    examples = [(torch.tensor([float(i)]), i % 2) for i in range(10)]
    shuffled = ShuffledDatasetAgent(examples, batch_size=4)
    drawn = []
    for _ in range(2):
        shuffled.seed(1)
        workspace = Workspace()
        shuffled(workspace)
        assert torch.equal(workspace["x"][0, :, 0] % 2, workspace["y"][0])
        drawn.append(workspace["x"])
    assert torch.equal(*drawn)

    loader = DataLoaderAgent(torch.utils.data.DataLoader(examples, batch_size=5), output_names=("x", "y"))
    seen = []
    while not loader.finished():
        workspace = Workspace()
        loader(workspace)
        seen += [workspace["x"][0, :, 0].tolist()] if "x" in workspace else []
    assert seen == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
