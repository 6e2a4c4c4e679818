"""What a batch teaches is the mean of what its parts teach: no transition leaks into another one's gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from chunks import env_spec_of, recorded_chunk, whole, written_chunk
from continuous_batches import DISCOUNT, batch, critic, deterministic, noise, spec, squashed
from torch import Tensor

from bbrl_exp.data.replay import Batch
from bbrl_exp.envs import EnvSpec
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.learners.discrete_sac import DiscreteSAC
from bbrl_exp.learners.dqn import DQN
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.pqn import PQN
from bbrl_exp.learners.recurrent_dqn import RecurrentDQN
from bbrl_exp.learners.sac import SAC
from bbrl_exp.learners.td3 import TD3
from bbrl_exp.nn.recurrent import GRU
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace

N = 8
CATEGORICAL: dict[str, Any] = {"distribution": "categorical", "lowest_return": -5.0, "highest_return": 5.0}
Losses = Callable[[Any, Batch, Tensor], list[Tensor]]


def discrete_spec() -> EnvSpec:
    action = LeafSpec("action", "discrete", (), "int64", counts=np.array(3), start=np.array(0))
    return EnvSpec("Coins-v0", 1, spec().observations, (action,))


def part_of(data: Batch, rows: slice) -> Batch:
    def cut(value: Any) -> Any:
        return tuple(leaf[rows] for leaf in value) if isinstance(value, tuple) else value[rows]

    return Batch(**{name: cut(value) for name, value in vars(data).items()})


def gradients(learner: Learner, loss: Tensor) -> list[Tensor]:
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


def kept_gradients(learner: Any) -> list[Tensor]:
    """Of the last step of the optimizer."""
    return [parameter.grad for parameter in learner.policy.parameters()]


def assert_sums(found: list[list[Tensor]]) -> None:
    """The first gradients are the sums of the second and the third ones."""
    assert max(float(gradient.abs().max()) for gradient in found[0]) > 1e-2
    for together, first, second in zip(*found, strict=True):
        torch.testing.assert_close(together, first + second, rtol=1e-4, atol=1e-4)


def a_dqn(policy: dict[str, Any] | None = None, **options: Any) -> DQN:
    return DQN(QPolicy(discrete_spec(), (8,), layer_norm=True, seed=1, **(policy or {})), **options)


def a_discrete_sac() -> DiscreteSAC:
    policy = StochasticPolicy(discrete_spec(), (8,), seed=1)
    return DiscreteSAC(policy, DiscreteQEnsemble(discrete_spec(), 2, (8,), seed=2), discount=DISCOUNT)


CASES: dict[str, tuple[Callable[[], Learner], Losses]] = {
    "dqn": (a_dqn, lambda learner, data, _: [learner.loss_of(data)[1]]),
    "dqn squared": (lambda: a_dqn(loss="squared"), lambda learner, data, _: [learner.loss_of(data)[1]]),
    "dqn prioritised": (lambda: a_dqn(prioritised=True), lambda learner, data, _: [learner.loss_of(data)[1]]),
    "dqn categorical": (lambda: a_dqn(CATEGORICAL), lambda learner, data, _: [learner.loss_of(data)[1]]),
    "dqn quantile": (lambda: a_dqn({"distribution": "quantile"}), lambda learner, data, _: [learner.loss_of(data)[1]]),
    "discrete sac": (
        a_discrete_sac,
        lambda learner, data, _: [learner.critic_loss(data)[0], learner.policy_loss(data)[0]],
    ),
    "sac": (
        lambda: SAC(squashed(), critic(), discount=DISCOUNT),
        lambda learner, data, drawn: [learner.critic_loss(data, drawn)[0], learner.policy_loss(data, drawn)[0]],
    ),
    "td3": (
        lambda: TD3(deterministic(), critic(), discount=DISCOUNT),
        lambda learner, data, drawn: [
            learner.critic_loss(data, learner.smoothed_actions(data, drawn))[0],
            learner.policy_loss(data),
        ],
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_gradient_of_a_batch_is_the_mean_of_those_of_its_halves(case: str) -> None:
    make, losses = CASES[case]
    learner, data, drawn = make(), batch(0, N), noise(0, N)
    if case.startswith(("dqn", "discrete")):
        weights = torch.linspace(0.2, 1.0, N)  # of which only `prioritised` and distributions know
        data = Batch(**{**vars(data), "actions": (torch.arange(N) % 3,), "weights": weights})
    halves = slice(0, N // 2), slice(N // 2, N)
    alone = [losses(learner, part_of(data, rows), drawn[rows]) for rows in halves]
    for together, first, second in zip(losses(learner, data, drawn), *alone, strict=True):
        expected = [
            (one + other) / 2 for one, other in zip(gradients(learner, first), gradients(learner, second), strict=True)
        ]
        assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3
        for gradient, mean in zip(gradients(learner, together), expected, strict=True):
            torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_sequences_is_the_mean_of_those_of_their_halves_by_their_valid_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = env_spec_of("CartPole-v1", 4)

    def a_learner() -> RecurrentDQN:
        policy = RecurrentQPolicy(facts, partial(GRU, n_hidden=8), head_sizes=[8], seed=1)
        return RecurrentDQN(policy, n_steps=3, burn_in=5, sequence_length=50, max_grad_norm=None)

    recorded = recorded_chunk("CartPole-v1", 4, 55, a_learner().policy)
    found, n_valid = [], []
    for environments in ([0, 1, 2, 3], [0, 1], [2, 3]):
        learner, part = a_learner(), recorded.select_batch(torch.tensor(environments))
        n_valid.append(int(learner.sequences(part)[2].sum()))
        monkeypatch.setattr(learner._replay, "sample_sequences", lambda *_, part=part: part)
        learner.learn(fraction=0.0)
        found.append([gradient.clone() * n_valid[-1] for gradient in kept_gradients(learner)])
    assert n_valid[1] != n_valid[2]
    assert_sums(found)


def test_the_gradient_of_a_chunk_of_pqn_is_the_mean_over_the_steps_of_each_environment_alone() -> None:
    rewards = [[float(t), 5.0 - t] for t in range(6)]
    terminated, truncated = [[0, 0] for _ in range(6)], [[0, 0] for _ in range(6)]
    terminated[2][0] = truncated[3][1] = terminated[4][0] = 1
    both = written_chunk(rewards, terminated, truncated)
    found = []
    for environments, n_valid in (([0, 1], 7), ([0], 3), ([1], 4)):
        policy = QPolicy(env_spec_of("bbrl_exp/ProbeObservationAction-v0", 2), (8,), layer_norm=True, seed=1)
        learner = PQN(policy, n_epochs=1, minibatch_size=100, max_grad_norm=None)
        chunk: Workspace = both.select_batch(torch.tensor(environments))
        assert len(learner.collect(chunk, whole(chunk))[2]) == n_valid
        learner.update(chunk, whole(chunk))
        found.append([gradient.clone() * n_valid for gradient in kept_gradients(learner)])
    assert_sums(found)
