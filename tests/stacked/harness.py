"""Jobs that are built alike, trained one by one and side by side, without folders."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from torch import Tensor

from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.preparation import PreparedRun, prepare
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.runs.run import open_composer
from bbrl_exp.stacked.stack import Stack, StackedJob
from bbrl_exp.training.loop import Chunk, Pass, passes
from bbrl_exp.workspace import Workspace


class StartsAt3(gymnasium.ActionWrapper[Any, Any, Any]):
    """CartPole with the actions 3 and 4."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(gymnasium.make("CartPole-v1").unwrapped)
        self.action_space = gymnasium.spaces.Discrete(2, start=3)

    def action(self, action: Any) -> Any:
        return action - 3


@dataclass
class Trained:
    """A job after its chunks: its parameters and buffers, and the metrics of each chunk."""

    state: dict[str, Tensor]
    metrics: list[Metrics]


@functools.cache
def _checked(overrides: tuple[str, ...]) -> CheckedRun:
    with open_composer() as composer:
        return check(composer.compose(overrides))


def prepared_of(overrides: Sequence[str]) -> PreparedRun:
    return prepare(_checked(tuple(overrides)), is_tried=True)


def _passes(run: PreparedRun) -> Iterator[Pass]:
    size = run.run.size
    return passes(size.total_steps, size.batch_size, size.steps_per_chunk, size.chunks_per_recording, 0)


def _progress(run: PreparedRun, chunk: Chunk) -> Progress:
    return Progress(chunk.first_row, chunk.env_steps, run.run.size.env_steps, chunk.new_steps)


def _state(run: PreparedRun) -> dict[str, Tensor]:
    assert run.learner is not None
    named = (*run.graph.named_parameters(), *run.learner.named_parameters(), *run.learner.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


def alone(overrides: Sequence[str]) -> Trained:
    """One job, as an ordinary run trains it."""
    with prepared_of(overrides) as run:
        workspace, metrics = Workspace(), []
        assert run.learner is not None
        for due in _passes(run):
            with torch.inference_mode():
                due.prepare(workspace)
                run.graph(workspace, t=due.first_new_row, n_steps=due.n_new_rows)
            metrics.append(run.learner.learn_from(workspace, _progress(run, due.chunk)))
        return Trained(_state(run), metrics)


def side_by_side(jobs: Sequence[Sequence[str]], leaves_after: dict[int, int] | None = None) -> list[Trained]:
    """All jobs in one stack.

    Args:
        jobs: the overrides of each.
        leaves_after: job → number of chunks after which it takes no further part.
    """
    runs = [prepared_of(job) for job in jobs]
    workspaces = [Workspace() for _ in runs]
    metrics: list[list[Metrics]] = [[] for _ in runs]
    stack = Stack(
        [
            StackedJob(run.graph, run.learner, workspace)
            for run, workspace in zip(runs, workspaces, strict=True)
            if run.learner is not None
        ]
    )
    left = list(range(len(runs)))
    for due in _passes(runs[0]):
        for job in left:
            due.prepare(workspaces[job])
        assert stack.unroll(due.first_new_row, due.n_new_rows, left) == {}
        found, failures = stack.learn(_progress(runs[0], due.chunk), left)
        assert failures == {}, failures
        for job in left:
            metrics[job].append(found[job])
        left = [job for job in left if (leaves_after or {}).get(job, due.chunk.number + 1) > due.chunk.number]
    trained = [Trained(_state(run), own) for run, own in zip(runs, metrics, strict=True)]
    for run in runs:
        run.graph.close()
    return trained


def assert_near(one: Trained, other: Trained, tolerance: float) -> None:
    """Equal up to rounding."""
    assert one.state.keys() == other.state.keys()
    for name, tensor in one.state.items():
        torch.testing.assert_close(tensor, other.state[name], rtol=tolerance, atol=tolerance, msg=name)
    for own, others in zip(one.metrics, other.metrics, strict=True):
        assert {name: float(value) for name, value in own.items()}.keys() == others.keys()
        for name, value in own.items():
            torch.testing.assert_close(
                float(value), float(others[name]), rtol=50 * tolerance, atol=50 * tolerance, msg=name
            )


def assert_same_bits(one: Trained, other: Trained) -> None:
    assert all(torch.equal(tensor, other.state[name]) for name, tensor in one.state.items())
    assert [{name: float(each[name]) for name in each} for each in one.metrics] == [
        {name: float(each[name]) for name in each} for each in other.metrics
    ]
