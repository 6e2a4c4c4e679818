"""REINFORCE follows the gradient of its definition, from complete episodes only."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
from chunks import env_spec_of, written_chunk
from torch import Tensor

from bbrl_exp.envs import EnvSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.reinforce import Reinforce
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import SharedTrunkCritic, ValueCritic
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.5


@pytest.fixture(scope="module")
def facts() -> EnvSpec:
    return env_spec_of("bbrl_exp/ProbeAction-v0", 1)


def no_ends(n_rows: int, batch_size: int) -> list[list[int]]:
    return [[0] * batch_size for _ in range(n_rows)]


def one_environment(terminated_at: int | None, truncated_at: int | None, n_rows: int = 6) -> Workspace:
    """Row t pays t."""
    terminated, truncated = no_ends(n_rows, 1), no_ends(n_rows, 1)
    for ends, row in ((terminated, terminated_at), (truncated, truncated_at)):
        if row is not None:
            ends[row][0] = 1
    return written_chunk([[float(t)] for t in range(n_rows)], terminated, truncated)


def learner_of(facts: EnvSpec, *, baseline: bool = True, **arguments: object) -> Reinforce:
    policy = StochasticPolicy(facts, hidden_sizes=[4])
    critic = ValueCritic(facts, hidden_sizes=[4]) if baseline else None
    return Reinforce(policy, critic, discount=DISCOUNT, episodes_per_update=1, **arguments)  # type: ignore[arg-type]


def seen(workspace: Workspace) -> tuple[Tensor, Tensor]:
    return workspace["env/env_obs"], workspace["action"]


def gradients(learner: Reinforce) -> Iterator[Tensor]:
    for parameter in learner.parameters():
        assert parameter.grad is not None
        yield parameter.grad.clone()


def update(learner: Reinforce, workspace: Workspace, first_row: int = 0) -> dict[str, float]:
    found = learner.update(workspace, Progress(first_row, 100, 1000, 100))
    return {name: float(value) for name, value in found.items()}


def expect_gradient(learner: Reinforce, workspace: Workspace, n_steps: int, returns: list[float]) -> None:
    """Compares the gradient of the last update, before its step, with the definition."""
    policy, critic = learner.policy, learner.critic
    observations, actions = (values[:n_steps, 0] for values in seen(workspace))
    target = torch.tensor(returns)
    log_probs = policy.distribution([observations]).log_prob([actions])
    loss = -(log_probs * target).mean()
    if critic is not None:
        values = critic.values([observations])
        loss = -(log_probs * (target - values.detach())).mean() + 0.5 * 0.5 * ((values - target) ** 2).mean()
    expected = torch.autograd.grad(loss, list(learner.parameters()))
    update(learner, workspace)
    for found, right in zip(gradients(learner), expected, strict=True):
        torch.testing.assert_close(found, right)


@pytest.mark.parametrize("baseline", [True, False])
def test_the_gradient_is_that_of_the_definition(facts: EnvSpec, baseline: bool) -> None:
    # Rewards 1, 2, 3; then the episode is over.
    workspace = one_environment(terminated_at=3, truncated_at=None)
    expect_gradient(learner_of(facts, baseline=baseline), workspace, 3, [1 + 1 + 0.75, 2 + 1.5, 3])


def test_the_entropy_bonus_goes_up(facts: EnvSpec) -> None:
    learner = learner_of(facts, baseline=False, entropy_weight=0.3)
    workspace = one_environment(terminated_at=3, truncated_at=None)
    observations, actions = (values[:3, 0] for values in seen(workspace))
    distribution = learner.policy.distribution([observations])
    returns = torch.tensor([2.75, 3.5, 3])
    loss = -(distribution.log_prob([actions]) * returns).mean() - 0.3 * distribution.entropy().mean()
    expected = torch.autograd.grad(loss, list(learner.parameters()))
    update(learner, workspace)
    for found, right in zip(gradients(learner), expected, strict=True):
        torch.testing.assert_close(found, right)


@pytest.mark.parametrize("max_grad_norm", [0.01, 100.0])
def test_a_gradient_longer_than_the_largest_norm_is_scaled_down_to_it(facts: EnvSpec, max_grad_norm: float) -> None:
    found = []
    for learner in (learner_of(facts), learner_of(facts, max_grad_norm=max_grad_norm)):
        update(learner, one_environment(terminated_at=3, truncated_at=None))
        found.append(torch.cat([gradient.flatten() for gradient in gradients(learner)]))
    free, limited = found
    norm = float(free.norm())
    assert 0.02 < norm < 50.0
    torch.testing.assert_close(limited, free * min(max_grad_norm / norm, 1.0), atol=1e-7, rtol=1e-4)


def test_a_time_limit_is_worth_what_the_critic_says(facts: EnvSpec) -> None:
    workspace, learner = one_environment(terminated_at=None, truncated_at=3), learner_of(facts)
    assert learner.critic is not None
    with torch.no_grad():
        beyond = learner.critic.values([seen(workspace)[0][3]]).item()
    expect_gradient(learner, workspace, 3, [2.75 + beyond / 8, 3.5 + beyond / 4, 3 + beyond / 2])


def test_without_a_critic_a_time_limit_is_worth_nothing(facts: EnvSpec) -> None:
    expect_gradient(
        learner_of(facts, baseline=False), one_environment(terminated_at=None, truncated_at=3), 3, [2.75, 3.5, 3]
    )


def test_an_episode_that_ends_as_the_limit_strikes_is_worth_nothing_more(facts: EnvSpec) -> None:
    expect_gradient(learner_of(facts), one_environment(terminated_at=3, truncated_at=3), 3, [2.75, 3.5, 3])


def test_nothing_is_learned_before_enough_episodes_are_over(facts: EnvSpec) -> None:
    policy = StochasticPolicy(facts, hidden_sizes=[4])
    learner = Reinforce(policy, episodes_per_update=2)
    before = [parameter.clone() for parameter in policy.parameters()]
    assert update(learner, one_environment(terminated_at=3, truncated_at=None)) == {}
    assert all(torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))
    assert update(learner, one_environment(terminated_at=3, truncated_at=None))["learner/episodes"] == 2
    assert not all(torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))


@pytest.mark.parametrize("cuts", [[1], [2], [3], [1, 2, 3, 4, 5], [4]])
def test_chunks_change_nothing(facts: EnvSpec, cuts: list[int]) -> None:
    whole, cut = learner_of(facts), learner_of(facts)
    workspace = one_environment(terminated_at=3, truncated_at=None)
    update(whole, workspace)
    for first, last in zip([0, *cuts], [*cuts, 5], strict=True):
        if first < last:
            update(cut, workspace.subtime(first, last + 1))
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_rows_before_the_first_new_one_are_not_learned_again(facts: EnvSpec) -> None:
    whole, cut = learner_of(facts), learner_of(facts)
    workspace = one_environment(terminated_at=3, truncated_at=None)
    update(whole, workspace)
    update(cut, workspace.subtime(0, 3))
    update(cut, workspace, first_row=2)
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_of_two_environments_is_the_mean_over_the_steps_of_each_alone(facts: EnvSpec) -> None:
    rewards = [[float(t), float(10 * t)] for t in range(6)]
    ends = no_ends(6, 2)
    ends[2][0] = ends[4][1] = 1
    both = written_chunk(rewards, ends, no_ends(6, 2))
    found = []
    for environments, n_steps in (([0, 1], 6), ([0], 2), ([1], 4)):
        learner = learner_of(facts)
        update(learner, both.select_batch(torch.tensor(environments)))
        found.append([gradient * n_steps for gradient in gradients(learner)])
    for together, first, second in zip(*found, strict=True):
        torch.testing.assert_close(together, first + second)


def test_normalised_advantages_do_not_depend_on_the_scale_of_the_rewards(facts: EnvSpec) -> None:
    found = []
    for scale in (1.0, 50.0):
        learner = learner_of(facts, baseline=False, normalize_advantages=True)
        workspace = one_environment(terminated_at=5, truncated_at=None)
        workspace.set_full("env/reward", workspace["env/reward"] * scale)
        update(learner, workspace)
        found.append(list(gradients(learner)))
    for small, large in zip(*found, strict=True):
        torch.testing.assert_close(small, large)


def test_the_learning_rate_falls_linearly_and_the_last_update_counts(facts: EnvSpec) -> None:
    def changes(new_steps: int) -> list[Tensor]:
        torch.manual_seed(0)
        learner = learner_of(facts, anneal_learning_rate=True)
        before = [parameter.clone() for parameter in learner.parameters()]
        workspace = one_environment(terminated_at=3, truncated_at=None)
        learner.update(workspace, Progress(0, 1000, 1000, new_steps))
        return [new - old for old, new in zip(before, learner.parameters(), strict=True)]

    for quarter, whole_run in zip(changes(250), changes(1000), strict=True):
        torch.testing.assert_close(quarter, whole_run / 4, atol=1e-6, rtol=1e-3)
    assert any(change.any() for change in changes(250))


def test_a_shared_trunk_is_learned_once(facts: EnvSpec) -> None:
    policy = StochasticPolicy(facts, hidden_sizes=[4])
    learner = Reinforce(policy, SharedTrunkCritic(policy), episodes_per_update=1)
    assert update(learner, one_environment(terminated_at=3, truncated_at=None))["losses/value"] > 0


def test_a_learner_restored_in_the_middle_of_an_episode_goes_on_as_before(facts: EnvSpec) -> None:
    straight, restored = learner_of(facts), learner_of(facts)
    workspace = one_environment(terminated_at=3, truncated_at=None)
    update(straight, workspace)
    update(straight, workspace.subtime(0, 3))
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for learner in (straight, restored):
        assert update(learner, workspace, first_row=2)["learner/episodes"] == 1
    for one, other in zip(straight.parameters(), restored.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discount": 1.1}, r"discount=1\.1: must be 0 to 1"),
        ({"value_weight": 0.5}, r"value_weight=0\.5: has no effect with critic=null"),
    ],
)
def test_values_that_cannot_be_used_are_refused(facts: EnvSpec, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Reinforce(StochasticPolicy(facts), **arguments)  # type: ignore[arg-type]


def test_a_critic_that_sees_something_else_is_refused(facts: EnvSpec) -> None:
    with pytest.raises(ConfigurationError, match="give both one observation_prefix"):
        Reinforce(StochasticPolicy(facts), ValueCritic(facts, observation_prefix="normalized/"))
