"""What actor-critic learners learn from, against values worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from chunks import env_spec_of, recorded_chunk, whole, written_chunk
from torch import Tensor

from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.options import AdvantageOptions
from bbrl_exp.learners.parts.samples import Samples, collect_samples
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import Critic, ValueCritic
from bbrl_exp.workspace import Workspace


class FirstComponent(Critic):
    """Values a state by the first component of its observation: 0.1 t + 0.01 b in a written chunk."""

    def values(self, observations: Sequence[Tensor], policy_latent: Tensor | None = None) -> Tensor:
        return observations[0][:, 0]


def a_policy(n_envs: int = 2) -> StochasticPolicy:
    return StochasticPolicy(env_spec_of("bbrl_exp/ProbeAction-v0", n_envs))


def samples_of(workspace: Workspace, progress: Progress, policy: StochasticPolicy, trace_decay: float) -> Samples:
    return collect_samples(
        workspace,
        progress,
        policy,
        FirstComponent(),
        BehaviourLogProbs(),
        AdvantageOptions(discount=0.5, trace_decay=trace_decay),
    )


def test_a_pair_of_rows_across_a_reset_is_no_sample() -> None:
    chunk = written_chunk(
        rewards=[[0, 0], [1, 2], [3, 4], [5, 6]],
        terminated=[[0, 0], [1, 0], [0, 0], [0, 0]],
        truncated=[[0, 0], [0, 0], [0, 1], [0, 0]],
    )
    samples = samples_of(chunk, whole(chunk), a_policy(), trace_decay=0.0)
    observed = [round(1000 * value) for value in samples.observations[0][:, 0].tolist()]
    assert observed == [0, 10, 110, 200]
    assert samples.actions[0].tolist() == [0, 1, 0, 0]


def test_without_a_trace_the_return_is_the_reward_and_the_next_value_unless_terminated() -> None:
    chunk = written_chunk(
        rewards=[[0, 0], [1, 2], [3, 4]],
        terminated=[[0, 0], [1, 0], [0, 0]],
        truncated=[[0, 0], [0, 1], [0, 0]],
    )
    samples = samples_of(chunk, whole(chunk), a_policy(), trace_decay=0.0)
    # environment 0 terminates at row 1: worth 1; environment 1 is cut there: 2 + 0.5 · value(row 1, env 1) = 0.11
    assert samples.returns.tolist() == pytest.approx([1.0, 2 + 0.5 * 0.11])
    assert samples.values.tolist() == pytest.approx([0.0, 0.01])
    assert samples.advantages.tolist() == pytest.approx([1.0, 2 + 0.5 * 0.11 - 0.01])


def test_a_full_trace_sums_all_rewards_and_ends_with_the_value_of_the_last_row() -> None:
    chunk = written_chunk(rewards=[[0], [1], [3], [5]], terminated=[[0]] * 4, truncated=[[0]] * 4)
    samples = samples_of(chunk, whole(chunk), a_policy(1), trace_decay=1.0)
    last = 5 + 0.5 * 0.3
    assert samples.returns.tolist() == pytest.approx([1 + 0.5 * (3 + 0.5 * last), 3 + 0.5 * last, last])


def test_only_the_new_rows_are_used() -> None:
    chunk = written_chunk(rewards=[[0], [1], [3], [5]], terminated=[[0]] * 4, truncated=[[0]] * 4)
    samples = samples_of(chunk, Progress(2, 3, 100, 1), a_policy(1), trace_decay=1.0)
    assert samples.returns.tolist() == pytest.approx([5 + 0.5 * 0.3])
    assert samples.observations[0][:, 0].tolist() == pytest.approx([0.2])


def test_log_probabilities_are_those_of_the_policy() -> None:
    policy = a_policy(3)
    chunk = recorded_chunk("bbrl_exp/ProbeObservationAction-v0", 3, 10, policy)
    samples = collect_samples(
        chunk,
        whole(chunk),
        policy,
        ValueCritic(env_spec_of("bbrl_exp/ProbeObservationAction-v0", 3)),
        BehaviourLogProbs(),
        AdvantageOptions(discount=0.9, trace_decay=0.9),
    )
    logits = policy.network(samples.observations[0])
    expected = torch.distributions.Categorical(logits=logits).log_prob(samples.actions[0])
    torch.testing.assert_close(samples.log_probs, expected.detach())
    assert not samples.log_probs.requires_grad


def test_two_environments_together_give_what_each_gives_alone() -> None:
    both = written_chunk(
        rewards=[[0, 0], [1, 2], [3, 4], [5, 6]],
        terminated=[[0, 0], [0, 1], [0, 0], [0, 0]],
        truncated=[[0, 0], [0, 0], [1, 0], [0, 0]],
    )
    policy = a_policy()
    together = samples_of(both, whole(both), policy, trace_decay=0.8)
    alone = [
        samples_of(part, whole(part), policy, trace_decay=0.8)
        for part in (both.select_batch(torch.tensor([b])) for b in range(2))
    ]
    expected = sorted(value for samples in alone for value in samples.returns.tolist())
    assert sorted(together.returns.tolist()) == pytest.approx(expected)


def test_selected_samples_keep_together() -> None:
    chunk = written_chunk(rewards=[[0], [1], [3], [5]], terminated=[[0]] * 4, truncated=[[0]] * 4)
    samples = samples_of(chunk, whole(chunk), a_policy(1), trace_decay=0.0)
    chosen = samples.select(torch.tensor([2, 0]))
    assert len(chosen) == 2
    assert chosen.observations[0][:, 0].tolist() == pytest.approx([0.2, 0.0])
    assert chosen.values.tolist() == pytest.approx([0.2, 0.0])
    assert chosen.returns.tolist() == pytest.approx([samples.returns[2].item(), samples.returns[0].item()])
