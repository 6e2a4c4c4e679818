"""An agent that draws from a RandomStreams is seeded, resumed and divided without writing a method for any of that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bbrl_exp.agents import Agent, Agents
from bbrl_exp.agents.resumable import load_run_state, run_state
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.agents.streams import BlockedDraws, RandomStreams
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace

N_STEPS = 300  # more than two blocks of draws


class Noisy(Agent):
    """Writes the next number of each of two sequences."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.noise = RandomStreams(self._draws, seed)

    def forward(self, t: int, **kwargs: Any) -> None:
        first, second = self.noise.next(len(self.get(("obs", t))))
        self.set(("noise", t), torch.from_numpy(first + 10 * second))

    def _draws(self, seed: int, batch_size: int) -> list[BlockedDraws]:
        return [BlockedDraws(uniform, numpy_generator(seed, name), (batch_size,)) for name in ("first", "second")]


def uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return generator.random(shape)


def numbers(agent: Agent, batch_size: int, n_steps: int = N_STEPS) -> torch.Tensor:
    workspace = Workspace()
    for t in range(n_steps):
        workspace.set("obs", t, torch.zeros(batch_size))
        agent(workspace, t=t)
    return workspace["noise"]


def test_the_numbers_are_those_of_the_generators_whatever_the_blocks() -> None:
    generators = [numpy_generator(4, name) for name in ("first", "second")]
    expected = [generators[0].random(3) + 10 * generators[1].random(3) for _ in range(N_STEPS)]
    assert numbers(Noisy(4), 3).tolist() == np.array(expected).tolist()


def test_a_container_seeds_the_streams_of_its_members() -> None:
    graph = Agents(Noisy(0))
    numbers(graph, 3)
    graph.seed(4)
    assert torch.equal(numbers(graph, 3), numbers(Noisy(4), 3))


@pytest.mark.parametrize("n_before", [1, 128, 200])
def test_streams_resume_where_they_were(n_before: int) -> None:
    straight, resumed = Agents(Noisy(4)), Agents(Noisy())
    numbers(straight, 3, n_before)
    numbers(straight, 2, 5)
    load_run_state(resumed, run_state(straight))
    for batch_size in (3, 2, 1):
        assert torch.equal(numbers(resumed, batch_size), numbers(straight, batch_size))
    assert run_state(resumed) == run_state(straight)


def test_a_copy_for_a_part_of_the_batch_uses_its_part_of_the_numbers_and_counts_the_whole_batch() -> None:
    whole = numbers(Noisy(4), 5)
    for first, count in ((0, 2), (2, 3)):
        copy = Noisy(4).for_slice(BatchSlice(first, count, 5))
        assert torch.equal(numbers(copy, count), whole[:, first : first + count])
        assert run_state(copy)["noise"]["n_drawn"] == 5 * N_STEPS


def test_copies_draw_by_themselves() -> None:
    agent = Noisy(4)
    clone = agent.clone()
    drawn = numbers(agent, 3)
    assert torch.equal(numbers(clone, 3), drawn)
    assert not torch.equal(numbers(clone, 3), drawn)
