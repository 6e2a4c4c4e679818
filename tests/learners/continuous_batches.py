"""Batches, policies and critics for tests of learners with critics of actions, continuous ones unless it says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from chunks import written_chunk
from torch import Tensor

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.data.replay import Batch
from bbrl_exp.envs import AutoResetGymAgent, EnvSpec
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.9


def spec() -> EnvSpec:
    infinite = np.full(3, np.inf, np.float32)
    low, high = np.array([-2.0, 10.0], np.float32), np.array([2.0, 30.0], np.float32)
    return EnvSpec(
        "Boxes-v0",
        1,
        (LeafSpec("env/env_obs", "box", (3,), "float32", -infinite, infinite),),
        (LeafSpec("action", "box", (2,), "float32", low, high),),
    )


def discrete_spec() -> EnvSpec:
    return EnvSpec(
        "Coins-v0",
        1,
        spec().observations,
        (LeafSpec("action", "discrete", (), "int64", counts=np.array(3), start=np.array(5)),),
    )


def deterministic() -> DeterministicPolicy:
    policy = DeterministicPolicy(spec(), (8,), seed=1)
    torch.nn.init.normal_(policy.network.layers[-1].weight, generator=torch.Generator().manual_seed(1))
    return policy


def squashed() -> SquashedNormalPolicy:
    policy = SquashedNormalPolicy(spec(), (8,), seed=1)
    torch.nn.init.normal_(policy.network.layers[-1].weight, generator=torch.Generator().manual_seed(1))
    return policy


def critic(n_critics: int = 2, **options: Any) -> QEnsemble:
    return QEnsemble(spec(), n_critics, (8,), seed=2, **options)


def batch(first: int = 0, n: int = 6) -> Batch:
    """Transitions number ``first`` … of a sequence that never changes; every third one has terminated."""
    numbers = torch.arange(first, first + n, dtype=torch.float32)
    return Batch(
        observations=(torch.stack([torch.sin(numbers), torch.cos(numbers), numbers / 10], dim=1),),
        actions=(torch.stack([2 * torch.sin(3 * numbers), 20 + 10 * torch.cos(5 * numbers)], dim=1),),
        rewards=numbers - 2.0,
        terminated=numbers % 3 == 2,
        next_observations=(torch.stack([torch.sin(numbers + 1), torch.cos(numbers + 1), numbers / 10 + 0.1], dim=1),),
        discounts=torch.full((n,), DISCOUNT),
        indexes=np.arange(first, first + n),
        weights=torch.ones(n),
    )


def discrete_batch() -> Batch:
    return Batch(**{**vars(batch()), "actions": (torch.tensor([5, 6, 7, 7, 5, 6]),)})


def experience(*, discrete: bool = False) -> Workspace:
    """Four transitions of one environment, with actions of :func:`discrete_spec` or :func:`spec`."""
    never, rows = [[0]] * 5, torch.arange(5).view(5, 1)
    actions = 5 + rows % 3 if discrete else torch.stack([rows / 2.0 - 1.0, 20.0 + rows], dim=2)
    workspace = written_chunk([[float(t)] for t in range(5)], never, never, n_observed=3, actions=actions)
    workspace.set_full("env/initial_state", torch.zeros(5, 1, dtype=torch.bool))
    return workspace


def noise(first: int = 0, n: int = 6) -> Tensor:
    numbers = torch.arange(first, first + n, dtype=torch.float32)
    return torch.stack([torch.cos(7 * numbers), torch.sin(11 * numbers)], dim=1)


def gradients(learner: Learner) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in learner.parameters()]


def run(learner: Learner, policy: Any, n_steps: int, batch_size: int, steps_per_chunk: int) -> Iterator[dict[str, Any]]:
    """The metrics of every chunk of a run on a probe."""
    env = AutoResetGymAgent("bbrl_exp/ProbeObservationActionContinuous-v0", batch_size)
    workspace = Workspace()
    for chunk in collect(
        TemporalAgent(Agents(env, policy)),
        workspace,
        total_steps=n_steps,
        batch_size=batch_size,
        steps_per_chunk=steps_per_chunk,
        chunks_per_recording=4,
    ):
        yield dict(learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, n_steps, chunk.new_steps)))
    env.close()
