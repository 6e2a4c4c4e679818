"""Agents and their combinations: who runs when, what messages say, how copies and names behave."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from bbrl_exp.agents import Agent, Agents, CopyTAgent, EpisodesDone, KWAgentWrapper, PrintAgent, TemporalAgent
from bbrl_exp.errors import ConfigurationError, UserCodeError, WorkspaceError
from bbrl_exp.workspace import Workspace


class Clock(Agent):
    """Writes 100·t + b, and done for element b from t = b + 1 on."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.times: list[int] = []

    def forward(self, t: int, **kwargs: Any) -> None:
        self.times.append(t)
        self.set(("clock", t), 100 * t + torch.arange(2))
        self.set(("done", t), torch.tensor([t >= 1, t >= 2]))


class Add(Agent):
    """Writes what it reads from ``clock``, plus a number."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.linear = nn.Linear(2, 2)

    def forward(self, t: int, number: int = 1, **kwargs: Any) -> None:
        self.set(("sum", t), self.get(("clock", t)) + number)


def test_agents_run_in_order_on_the_same_workspace() -> None:
    workspace = Workspace()
    Agents(Clock(), Add())(workspace, t=0)
    assert workspace["sum"].tolist() == [[1, 2]]


def test_keywords_reach_every_agent() -> None:
    workspace = Workspace()
    TemporalAgent(Agents(Clock(), Add()))(workspace, n_steps=2, number=5)
    assert workspace["sum"].tolist() == [[5, 6], [105, 106]]


@pytest.mark.parametrize(("t", "n_steps", "times"), [(0, 3, [0, 1, 2]), (2, 2, [2, 3]), (1, 0, [])])
def test_a_temporal_agent_runs_the_number_of_steps_that_it_is_told(t: int, n_steps: int, times: list[int]) -> None:
    workspace = Workspace()
    clock = Clock()
    TemporalAgent(clock)(workspace, t=0, n_steps=t)
    clock.times.clear()
    TemporalAgent(clock)(workspace, t=t, n_steps=n_steps)
    assert clock.times == times


@pytest.mark.parametrize(("n_steps", "last"), [(None, 2), (10, 2), (2, 1)])
def test_a_temporal_agent_stops_after_the_step_at_which_all_are_done(n_steps: int | None, last: int) -> None:
    workspace = Workspace()
    TemporalAgent(Clock())(workspace, t=0, n_steps=n_steps, stop_variable="done")
    assert workspace.time_size() == last + 1


def test_a_temporal_agent_that_would_never_end_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs n_steps or stop_variable"):
        TemporalAgent(Clock())(Workspace(), t=0)


@pytest.mark.parametrize("name", ["t", "n_steps"])
@pytest.mark.parametrize("value", [-1, np.int64(-1), 2.5, 2.0, np.float32(2), True, np.bool_(True), "2"])
def test_times_and_numbers_of_steps_are_whole_and_not_negative(name: str, value: Any) -> None:
    workspace = Workspace()
    expected = "at least 0" if isinstance(value, int | np.integer) and value == -1 else "a whole number, at least 0"
    with pytest.raises(ConfigurationError, match=rf"^{name}={value}: must be {expected}$"):
        TemporalAgent(Clock())(workspace, **{"t": 0, "n_steps": 2, name: value})
    assert not workspace.keys()


def test_a_time_and_a_number_of_steps_may_be_integers_of_numpy() -> None:
    workspace = Workspace()
    TemporalAgent(Clock())(workspace, t=np.int32(0), n_steps=np.uint8(3))
    assert workspace["clock"][:, 0].tolist() == [0, 100, 200]


@pytest.mark.parametrize("value", [torch.zeros(2), torch.ones(2, dtype=torch.int64)])
def test_a_stop_variable_is_bool(value: torch.Tensor) -> None:
    class Stop(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("stop", t), value)

    with pytest.raises(WorkspaceError, match=rf"^TemporalAgent 'graph': stop_variable 'stop' is {value.dtype}: "):
        TemporalAgent(Stop(), name="graph")(Workspace(), stop_variable="stop")


def exits() -> None:
    sys.exit(3)


def looks_in_vain() -> None:
    next(iter([]))


def types_nothing() -> None:
    raise KeyboardInterrupt


class Calls(Agent):
    """Calls a function at t = 1."""

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__("caller")
        self.function = function

    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("called", t), torch.zeros(2))
        if t == 1:
            self.function()


@pytest.mark.parametrize(
    ("function", "said"),
    [(exits, "SystemExit: 3"), (looks_in_vain, "StopIteration"), (types_nothing, "KeyboardInterrupt")],
)
@pytest.mark.parametrize(
    "wrapped", [lambda agent: agent, Agents, TemporalAgent, lambda agent: TemporalAgent(Agents(Clock(), agent))]
)
def test_what_would_end_the_process_or_a_loop_is_an_error_that_names_the_agent_and_where(
    function: Callable[[], None], said: str, wrapped: Callable[[Agent], Agent]
) -> None:
    agent, workspace = Calls(function), Workspace()
    graph = wrapped(agent)
    line = inspect.getsourcelines(Calls.forward)[1] + 3
    steps = {"n_steps": 1} if isinstance(graph, TemporalAgent) else {}
    graph(workspace, t=0, **steps)
    with pytest.raises(UserCodeError, match=rf"^{said} \(in Calls 'caller', test_agent.py:{line}\)$"):
        graph(workspace, t=1, **steps)
    assert agent.workspace is None
    assert graph.workspace is None


def test_ctrl_c_passes_through_agents() -> None:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            TemporalAgent(Calls(lambda: signal.raise_signal(signal.SIGALRM)))(Workspace(), t=0, n_steps=2)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_messages_name_the_agent() -> None:
    with pytest.raises(WorkspaceError, match=r"Add 'adder' reads 'clock' at t=3: nobody has written this variable"):
        Add("adder")(Workspace(), t=3)
    with pytest.raises(WorkspaceError, match=r"Clock writes 'clock' at t=1"):
        Clock()(Workspace(), t=1)
    with pytest.raises(TypeError, match="Clock is called on a Workspace, not on int"):
        Clock()(3, t=1)  # type: ignore[arg-type]


def test_an_agent_forgets_the_workspace_after_the_call_even_if_it_fails() -> None:
    agent = Add()
    with pytest.raises(WorkspaceError):
        agent(Workspace(), t=0)
    assert agent.workspace is None


def test_agents_are_found_by_name() -> None:
    inner = Add("x")
    graph = TemporalAgent(Agents(Clock("clock"), Agents(inner, name="pair")), name="x")
    assert graph.get_by_name("x") == [graph, inner]
    assert graph.get_by_name("nobody") == []
    assert Clock().set_name("y").get_name() == "y"


def test_members_of_a_mapping_keep_their_order_and_take_their_names() -> None:
    agents = Agents(members={"second": Clock(), "first": Add(), "third": Add("own")})
    assert [agent.name for agent in agents] == ["second", "first", "own"]
    assert agents["first"] is agents[1]
    with pytest.raises(KeyError, match="no member 'frist'; members: second, first, own; did you mean 'first'"):
        agents["frist"]


def test_a_slice_of_agents_is_agents_that_run_those_members() -> None:
    agents = Agents(*(Agent(name) for name in ("one", "two", "three")))
    for part, names in (
        (slice(0, 1), ["one"]),
        (slice(1, None), ["two", "three"]),
        (slice(None, None, -2), ["three", "one"]),
    ):
        found = agents[part]
        assert type(found) is Agents
        assert [agent.name for agent in found] == names
        assert all(agent is agents[str(agent.name)] for agent in found)
    assert len(agents[5:]) == 0
    with pytest.raises(IndexError):
        agents[3]


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="member 1 is not an Agent but a Linear"):
        Agents(Clock(), nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not a int"):
        TemporalAgent(3)  # type: ignore[arg-type]


def test_a_clone_shares_no_parameters_and_carries_no_gradients() -> None:
    agent = Add("adder")
    agent.linear(torch.ones(2)).sum().backward()
    clone = agent.clone()
    assert clone.linear.weight.grad is None
    assert agent.linear.weight.grad is not None
    with torch.no_grad():
        clone.linear.weight.zero_()
    assert bool((agent.linear.weight != 0).any())
    assert clone.name == "adder"


def test_seeds_and_closing_reach_every_member() -> None:
    calls: list[str] = []

    class Leaf(Agent):
        def seed(self, seed: int) -> None:
            calls.append(f"{self.name} {seed}")

        def close(self) -> None:
            calls.append(f"{self.name} closed")

    graph = TemporalAgent(Agents(Leaf("a"), KWAgentWrapper(Leaf("b"))))
    graph.seed(7)
    graph.close()
    assert calls == ["a 7", "b 7", "a closed", "b closed"]


def test_a_keyword_wrapper_fixes_keywords() -> None:
    workspace = Workspace()
    Agents(Clock(), KWAgentWrapper(Add(), number=50))(workspace, t=0, number=1)
    assert workspace["sum"].tolist() == [[50, 51]]


def test_a_variable_is_copied_at_a_step_and_as_a_whole() -> None:
    workspace = Workspace()
    workspace.set_full("x", torch.ones(2, 3, requires_grad=True) * 2)
    CopyTAgent("x", "y")(workspace, t=0)
    CopyTAgent("x", "z", detach=True)(workspace)
    assert torch.equal(workspace.get("y", 0), torch.full((3,), 2.0))
    assert workspace["y"].requires_grad
    assert not workspace["z"].requires_grad
    assert torch.equal(workspace["z"], torch.full((2, 3), 2.0))


@pytest.mark.parametrize("out_var", ["done", "over"])
def test_the_end_of_an_episode_is_latched_until_the_next_recording(out_var: str) -> None:
    ends = torch.tensor([[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]], dtype=torch.bool)
    latch = EpisodesDone("done", out_var)
    for _ in range(2):
        workspace = Workspace()
        for t in range(5):
            workspace.set("done", t, ends[t])
            latch(workspace, t=t)
        assert workspace[out_var].int().tolist() == [[0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]


def test_the_printer_prints_the_variables_of_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace()
    Agents(Clock(), PrintAgent("clock"))(workspace, t=0)
    Agents(Clock(), PrintAgent())(workspace, t=1)
    assert capsys.readouterr().out.splitlines() == [
        "t=0 clock = tensor([0, 1])",
        "t=1 clock = tensor([100, 101])",
        "t=1 done = tensor([ True, False])",
    ]


class Rows(Agent):
    """Doubles a variable on arrays."""

    facts: ClassVar = {"double": ((2,), "int64")}

    def forward(self, t: int, **kwargs: Any) -> None:
        (clock,) = self.read_rows(t, ("clock",))
        self.write_rows(t, self.facts, [clock * 2])


def test_rows_are_read_and_written_as_arrays() -> None:
    workspace = Workspace()
    TemporalAgent(Agents(Clock(), Rows()))(workspace, t=0, n_steps=40)
    assert torch.equal(workspace["double"], 2 * workspace["clock"])
    with pytest.raises(WorkspaceError, match="Rows 'r' reads 'clock' at t=50: row t=50 was never written"):
        Rows("r")(workspace, t=50)
    with pytest.raises(ValueError, match="read-only"):
        workspace.row_reader(("clock",)).rows(0)[0][:] = 0


def test_arrays_of_another_shape_or_dtype_are_refused_and_nothing_is_recorded() -> None:
    class Wrong(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.write_rows(t, Rows.facts, [kwargs["value"]])

    for value in (np.zeros(1, np.int64), np.zeros(2, np.float64)):
        workspace = Workspace()
        with pytest.raises(WorkspaceError, match=r"Wrong writes 'double' at t=0: expected \[2\] int64, found"):
            Wrong()(workspace, t=0, value=value)
        assert workspace.n_steps("double") == 0


def test_an_agent_knows_the_device_that_it_was_moved_to() -> None:
    graph = TemporalAgent(Agents(Clock(), Add()))
    assert graph.agent_device == torch.device("cpu")
    graph.to("meta")
    assert {agent.agent_device.type for agent in graph.modules() if isinstance(agent, Agent)} == {"meta"}
