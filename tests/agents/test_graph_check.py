"""The check of a graph before it runs."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bbrl_exp.agents import Agent, Agents, PrintAgent, TemporalAgent
from bbrl_exp.agents.graph_check import check_graph
from bbrl_exp.errors import GraphError
from bbrl_exp.workspace import Workspace


class Source(Agent):
    """Writes random observations and counts its calls."""

    writes = ("obs",)

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.generator = torch.Generator().manual_seed(3)
        self.n_calls = 0

    def forward(self, t: int, **kwargs: Any) -> None:
        self.n_calls += 1
        torch.rand(1)
        np.random.rand()
        random.random()
        self.set(("obs", t), torch.rand(3, 2, generator=self.generator))


class Policy(Agent):
    """Reads what it is told to and writes integers."""

    def __init__(self, variable: str = "obs", name: str | None = None) -> None:
        super().__init__(name)
        self.variable = variable
        self.linear = nn.Linear(2, 4)

    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("action", t), self.linear(self.get((self.variable, t))).argmax(1))


class Reader(Agent):
    """Reads a whole variable."""

    def forward(self, t: int, **kwargs: Any) -> None:
        self.get("action")


class Nested(Agent):
    """An agent that calls another one."""

    def __init__(self) -> None:
        super().__init__("outer")
        self.inner = Policy(name="inner")

    def forward(self, t: int, **kwargs: Any) -> None:
        assert self.workspace is not None
        self.inner(self.workspace, t=t)


def test_the_table_says_who_writes_and_who_reads() -> None:
    facts = check_graph(TemporalAgent(Agents(members={"env": Source(), "policy": Policy(), "log": Reader()})))
    assert [(f.name, f.shape, f.dtype, f.writers, f.readers) for f in facts] == [
        ("obs", (3, 2), torch.float32, ("env",), ("policy",)),
        ("action", (3,), torch.int64, ("policy",), ("log",)),
    ]
    assert [f.bytes_per_step for f in facts] == [24, 24]


def test_an_agent_inside_another_is_named_itself() -> None:
    facts = check_graph(Agents(Source("env"), Nested()))
    assert facts[1].writers == ("inner",)


def test_a_read_that_nobody_answers_is_told_before_the_run() -> None:
    with pytest.raises(
        GraphError, match=r"Policy 'policy' reads 'critic/value' at t=0: nobody has written.*present: obs"
    ):
        check_graph(TemporalAgent(Agents(Source(), Policy("critic/value", name="policy"))))


def test_a_reader_that_stands_too_early_is_told_so() -> None:
    with pytest.raises(GraphError, match=r"'obs'.*; Source 'env' writes it, but runs later in the same step"):
        check_graph(Agents(Policy(), Source("env")))


def test_a_network_of_another_size_is_told_with_its_agent() -> None:
    class Wide(Source):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("obs", t), torch.zeros(3, 5))

    with pytest.raises(GraphError, match="Policy 'policy' fails in the graph check: RuntimeError"):
        check_graph(Agents(Wide(), Policy(name="policy")))


def test_an_agent_that_touches_no_variable_is_told_where_it_fails() -> None:
    class Unfinished(Agent):
        pass

    with pytest.raises(GraphError, match="Unfinished 'x' fails in the graph check: NotImplementedError"):
        check_graph(TemporalAgent(Agents(Source(), Policy(name="policy"), Unfinished("x"))))


def test_an_agent_that_would_end_the_process_is_refused_with_its_place() -> None:
    class Quitter(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            raise SystemExit(0)

    with pytest.raises(
        GraphError, match=r"the graph check fails: SystemExit: 0 \(in Quitter 'x', test_graph_check\.py:\d+\)$"
    ):
        check_graph(TemporalAgent(Agents(Source(), Quitter("x"))))


def test_variables_of_several_batch_sizes_are_refused() -> None:
    class Half(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("half", t), self.get(("obs", t))[:1])

    with pytest.raises(GraphError, match=r"half writes 'half' for a batch of 1, env 'obs' for one of 3: must be the"):
        check_graph(TemporalAgent(Agents(Source("env"), Half("half"))))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_variable_without_a_batch_dimension_is_refused(is_first: bool) -> None:
    class Scalar(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("one", t), torch.tensor(1.0))

    agents = [Scalar("scalar"), Source("env")] if is_first else [Source("env"), Scalar("scalar")]
    with pytest.raises(GraphError, match=r"scalar' writes 'one' at t=0: expected a row \[(B|3), …\], found a scalar"):
        check_graph(TemporalAgent(Agents(*agents)))


def test_nothing_of_the_original_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    source = Source()
    graph = TemporalAgent(Agents(source, Policy(), PrintAgent()))
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), source.generator.get_state())
    check_graph(graph)
    after = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), source.generator.get_state())
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
    assert torch.equal(before[3], after[3])
    assert source.n_calls == 0
    assert capsys.readouterr().out == ""


def test_the_graph_check_records_nothing_in_the_workspace_of_the_run() -> None:
    workspace = Workspace()
    graph = TemporalAgent(Agents(Source(), Policy()))
    graph(workspace, t=0, n_steps=1)
    check_graph(graph)
    assert workspace.time_size() == 1


def test_a_declared_read_that_nobody_answers_is_told_even_if_it_comes_later() -> None:
    class Late(Agent):
        reads = ("obs_",)

        def forward(self, t: int, **kwargs: Any) -> None:
            if t > 5:
                self.get(("obs_", t))

    with pytest.raises(
        GraphError, match=r"Late 'late' declares to read 'obs_', which nobody writes; did you mean 'obs'"
    ):
        check_graph(Agents(Source(), Late("late")))


def test_stand_ins_are_used_however_deep_they_stand_and_kinds_of_containers_are_kept() -> None:
    class Live(Source):
        def dry_copy(self) -> Agent:
            return Source("stand-in")

    class Extra(Agents):
        def forward(self, **kwargs: Any) -> None:
            super().forward(**kwargs)
            self.set(("extra", kwargs["t"]), torch.zeros(3))

    live = Live("live")
    facts = check_graph(TemporalAgent(Agents(Extra(Agents(live), name="outer"), Policy())))
    assert [(f.name, f.writers) for f in facts] == [
        ("obs", ("stand-in",)),
        ("extra", ("outer",)),
        ("action", ("Policy",)),
    ]
    assert live.n_calls == 0
