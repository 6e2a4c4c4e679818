"""How often replay learners learn, and that their whole state can be kept."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from chunks import hand_over_rows
from continuous_batches import run

from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.learners.crossq import CrossQ
from bbrl_exp.learners.droq import DroQ
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.sac import SAC
from bbrl_exp.learners.td3 import TD3
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.workspace import Workspace


def probe_spec():
    env = AutoResetGymAgent("bbrl_exp/ProbeObservationActionContinuous-v0", 1)
    env.close()
    return env.env_spec


def sac(updates_per_step: float = 1.0, learning_starts: int = 10) -> SAC:
    spec = probe_spec()
    return SAC(
        SquashedNormalPolicy(spec, (4,), random_steps=5),
        QEnsemble(spec, 2, (4,)),
        batch_size=4,
        learning_starts=learning_starts,
        updates_per_step=updates_per_step,
        replay_capacity=1000,
    )


@pytest.mark.parametrize(("batch_size", "steps_per_chunk"), [(1, 1), (1, 8), (2, 4), (4, 1)])
@pytest.mark.parametrize(("updates_per_step", "expected"), [(1.0, 30), (0.25, 7), (2.5, 75)])
def test_updates_are_counted_in_environment_steps(
    batch_size: int, steps_per_chunk: int, updates_per_step: float, expected: int
) -> None:
    learner = sac(updates_per_step)
    metrics = list(run(learner, learner.policy, 40, batch_size, steps_per_chunk))
    assert max(chunk.get("learner/updates", 0.0) for chunk in metrics) == expected
    assert metrics[0] == {}


def test_metrics_are_detached_and_without_dimensions() -> None:
    learner = sac()
    *_, last = run(learner, learner.policy, 20, 1, 4)
    expected = {
        "losses/q",
        "losses/policy",
        "learner/q_mean",
        "learner/entropy",
        "learner/temperature",
        "learner/updates",
    }
    assert set(last) == expected
    for value in last.values():
        assert not isinstance(value, torch.Tensor) or (value.shape == () and not value.requires_grad)


@pytest.mark.parametrize(
    ("kind", "policy", "critic", "with_it"),
    [
        (TD3, DeterministicPolicy, {}, "target_critic"),
        (DroQ, SquashedNormalPolicy, {}, "temperature"),
        (CrossQ, SquashedNormalPolicy, {"normalization": "batch"}, "temperature"),
    ],
)
def test_the_policy_and_what_goes_with_it_move_once_in_every_delay(
    kind: Any, policy: Any, critic: dict[str, Any], with_it: str
) -> None:
    spec = probe_spec()
    learner = kind(
        policy(spec, (4,)),
        QEnsemble(spec, 2, (4,), **critic),
        policy_delay=3,
        learning_starts=4,
        updates_per_step=1.0,
        batch_size=4,
    )

    def now(part: str) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in getattr(learner, part).parameters()])

    parts = ("policy", with_it)
    found = [[now(part) for part in parts]]
    found += [[now(part) for part in parts] for _ in run(learner, learner.policy, 10, 1, 1)]
    for values in zip(*found, strict=True):
        assert [t for t in range(1, 11) if not torch.equal(values[t], values[t - 1])] == [7, 10]


def test_updates_do_not_depend_on_the_global_generator() -> None:
    def parameters(global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        learner = sac()
        for _ in run(learner, learner.policy, 40, 2, 2):
            pass
        return torch.cat([p.detach().flatten() for p in learner.parameters()])

    assert torch.equal(parameters(0), parameters(1))


def test_a_learner_with_the_state_of_another_goes_on_as_that_one() -> None:
    learner, file = sac(), io.BytesIO()
    for _ in run(learner, learner.policy, 40, 2, 2):
        pass
    torch.save(learner.state_dict(), file)
    file.seek(0)
    other = sac()
    other.load_state_dict(torch.load(file, weights_only=True))
    hand_over_rows(learner, other)
    for one in (learner, other):
        workspace = Workspace()
        workspace.set_full("env/env_obs", torch.stack([learner_rows(t) for t in range(2)]))
        workspace.set_full("action", torch.zeros(2, 2, 1))
        workspace.set_full("env/reward", torch.ones(2, 2))
        for name in ("terminated", "truncated", "done", "initial_state"):
            workspace.set_full(f"env/{name}", torch.zeros(2, 2, dtype=torch.bool))
        one._replayed.buffer.begin_recording()
        assert one.update(workspace, Progress(0, 50, 100, 50))["learner/updates"] == 40
    for ours, theirs in zip(learner.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def learner_rows(t: int) -> torch.Tensor:
    return torch.tensor([[0.1 * t, 0.2], [0.3, 0.4 * t]])
