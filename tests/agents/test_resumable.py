"""What the agents of a graph carry from step to step is saved, whether they say so or not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.agents.resumable import load_run_state, run_state
from bbrl_exp.workspace import Workspace


class Wanders(Agent):
    """A user's agent: its numbers depend on a generator, a counter and a tensor that are plain attributes."""

    reads, writes = (), ("number",)

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(3)
        self.n_steps = 0
        self.last = torch.zeros(2)
        self.log = object()  # has no state, and is left as it is

    def forward(self, t: int, **kwargs: Any) -> None:
        self.n_steps += 1
        self.last = self.last / 2 + self.n_steps + torch.from_numpy(self.generator.random(2))
        self.seen = [*getattr(self, "seen", []), t]
        self.set(("number", t), self.last + len(self.seen))


class Speaks(Wanders):
    """The same, which says what it carries."""

    def run_state(self) -> dict[str, Any]:
        return {"n_steps": self.n_steps}

    def load_run_state(self, state: Any) -> None:
        self.n_steps = state["n_steps"]


def numbers(graph: TemporalAgent, n_steps: int) -> Tensor:
    workspace = Workspace()
    graph(workspace, t=0, n_steps=n_steps)
    return workspace.get_full("number")


def test_attributes_of_an_agent_that_does_not_speak_for_itself_resume_bit_for_bit() -> None:
    straight, resumed = (TemporalAgent(Agents(Wanders())) for _ in range(2))
    numbers(straight, 5)
    file = io.BytesIO()
    torch.save(run_state(straight), file)
    file.seek(0)
    load_run_state(resumed, torch.load(file, weights_only=True))
    assert torch.equal(numbers(straight, 5), numbers(resumed, 5))


def test_an_agent_that_speaks_for_itself_is_asked_and_not_searched() -> None:
    graph = TemporalAgent(Agents(Speaks()))
    numbers(graph, 2)
    assert list(run_state(graph).values()) == [{"n_steps": 2}]


def test_a_state_without_attributes_leaves_them_as_they_are() -> None:
    graph = TemporalAgent(Agents(Wanders()))
    load_run_state(graph, {})
    assert graph.agent[0].n_steps == 0
