"""The cross-entropy method: who plays where, what counts, and how the distribution moves."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
import torch
from chunks import env_spec_of
from torch import Tensor

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent, EnvSpec, NoAutoResetGymAgent
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.cem import CrossEntropyMethod
from bbrl_exp.learners.learner import Progress
from bbrl_exp.policies.population import MEAN, PopulationPolicy
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

P = 4


@pytest.fixture(scope="module")
def facts() -> EnvSpec:
    return env_spec_of("CartPole-v1", 2)


def population(facts: EnvSpec, **arguments: object) -> PopulationPolicy:
    return PopulationPolicy(facts, population_size=P, **arguments)  # type: ignore[arg-type]


def rows(policy: PopulationPolicy, begins: list[list[int]]) -> Workspace:
    """Runs the policy where the environments begin episodes as ``begins``, ``[T, B]``, says."""
    workspace = Workspace()
    for t, row in enumerate(begins):
        generator = torch.Generator().manual_seed(t)
        workspace.set("env/env_obs", t, torch.randn(len(row), 4, generator=generator))
        workspace.set("env/initial_state", t, torch.tensor(row, dtype=torch.bool))
        policy(workspace, t=t)
    return workspace


def played(rewards_and_players: list[list[tuple[int, float, bool]]]) -> Workspace:
    """A recording ``[T, B]`` of (candidate, return so far, done)."""
    workspace = Workspace()
    rows = torch.tensor(rewards_and_players)
    workspace.set_full("policy/candidate", rows[..., 0].long())
    workspace.set_full("env/cumulated_reward", rows[..., 1])
    workspace.set_full("env/done", rows[..., 2].bool())
    return workspace


def test_candidates_are_handed_out_at_the_start_of_episodes_and_then_the_mean_plays(facts: EnvSpec) -> None:
    policy = population(facts)
    policy.begin_generation(torch.zeros(P, len(policy.mean)))
    found = rows(policy, [[1, 1], [0, 0], [0, 1], [1, 0], [0, 1], [1, 0]])
    assert found["policy/candidate"].tolist() == [[0, 1], [0, 1], [0, 2], [3, 2], [3, MEAN], [MEAN, MEAN]]


def test_every_candidate_plays_its_episodes(facts: EnvSpec) -> None:
    policy = population(facts, episodes_per_candidate=2)
    policy.begin_generation(torch.zeros(P, len(policy.mean)))
    found = rows(policy, [[1, 1, 1]] * 3)
    assert found["policy/candidate"].tolist() == [[0, 1, 2], [3, 0, 1], [2, 3, MEAN]]


def test_a_new_generation_waits_for_the_next_episodes(facts: EnvSpec) -> None:
    policy = population(facts)
    policy.begin_generation(torch.zeros(P, len(policy.mean)))
    rows(policy, [[1, 1]])
    policy.begin_generation(torch.zeros(P, len(policy.mean)))
    assert rows(policy, [[0, 0], [0, 1], [1, 0]])["policy/candidate"].tolist() == [[MEAN, MEAN], [MEAN, 0], [1, 0]]


@pytest.mark.parametrize("hidden_sizes", [[], [5], [5, 3]])
def test_each_environment_gets_the_action_of_its_own_candidate(facts: EnvSpec, hidden_sizes: list[int]) -> None:
    policy = population(facts, hidden_sizes=hidden_sizes)
    candidates = torch.randn(P, len(policy.mean), generator=torch.Generator().manual_seed(0))
    policy.begin_generation(candidates)
    found = rows(policy, [[1] * P])
    sizes = [4, *hidden_sizes, 2]
    for index, parameters in enumerate(candidates):
        hidden, start = found["env/env_obs"][0, index], 0
        for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
            hidden = hidden if layer == 0 else hidden.tanh()
            weight = parameters[start : start + n_in * n_out].view(n_in, n_out)
            start += n_in * n_out
            hidden = hidden @ weight + parameters[start : start + n_out]
            start += n_out
        assert start == len(parameters)
        assert found["action"][0, index] == hidden.argmax()
        assert found["policy/candidate"][0, index] == index


def test_in_evaluation_the_mean_plays_and_nobody_is_handed_out(facts: EnvSpec) -> None:
    policy = population(facts)
    policy.begin_generation(torch.randn(P, len(policy.mean), generator=torch.Generator().manual_seed(0)))
    policy.mean.copy_(torch.tensor([0.0] * 8 + [0.0, 1.0]))
    policy.eval()
    found = rows(policy, [[1] * 5, [0] * 5])
    assert found["action"].tolist() == [[1] * 5] * 2
    assert found["policy/candidate"].tolist() == [[MEAN] * 5] * 2
    policy.train()
    assert rows(policy, [[1, 1]])["policy/candidate"].tolist() == [[0, 1]]


def test_the_policy_runs_in_an_evaluation_without_automatic_reset(facts: EnvSpec) -> None:
    env = NoAutoResetGymAgent("CartPole-v1", 3, seed=0, role="eval")
    workspace = Workspace()
    TemporalAgent(Agents(env, population(facts).eval()))(workspace, t=0, n_steps=501, stop_variable="env/done")
    env.close()
    assert bool(workspace["env/done"][-1].all())


def a_learner(facts: EnvSpec, **arguments: object) -> CrossEntropyMethod:
    return CrossEntropyMethod(population(facts), elite_fraction=0.5, **arguments)  # type: ignore[arg-type]


def update(learner: CrossEntropyMethod, workspace: Workspace, first_row: int = 0) -> dict[str, float]:
    found = learner.update(workspace, Progress(first_row, 100, 1000, 100))
    return {name: float(value) for name, value in found.items()}


# Candidates 0 … 3 get 5, 50, 500 and 1; what the mean got counts for nothing.
GENERATION = [
    [(0, 0.0, False), (1, 0.0, False)],
    [(0, 5.0, True), (1, 25.0, False)],
    [(2, 0.0, False), (1, 50.0, True)],
    [(2, 9.0, False), (3, 0.0, False)],
    [(2, 99.0, False), (3, 1.0, True)],
    [(2, 499.0, False), (MEAN, 0.0, False)],
    [(2, 500.0, True), (MEAN, 1e6, True)],
]


def test_the_distribution_becomes_that_of_the_elite(facts: EnvSpec) -> None:
    learner = a_learner(facts)
    elite = learner.policy.candidates[[1, 2]].clone()
    metrics = update(learner, played(GENERATION))
    torch.testing.assert_close(learner.policy.mean, (elite[0] + elite[1]) / 2)
    torch.testing.assert_close(learner.std, (elite[0] - elite[1]).abs() / 2)
    assert metrics["learner/return_mean"] == (5 + 50 + 500 + 1) / 4
    assert metrics["learner/elite_return_mean"] == 275
    assert metrics["learner/elite_return_min"] == 50


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_chunks_change_nothing(facts: EnvSpec, cut: int) -> None:
    whole, parts = a_learner(facts), a_learner(facts)
    workspace = played(GENERATION)
    update(whole, workspace)
    assert update(parts, workspace.subtime(0, cut + 1)) == {}
    update(parts, workspace, first_row=cut)
    assert torch.equal(whole.policy.mean, parts.policy.mean)
    assert torch.equal(whole.policy.candidates, parts.policy.candidates)


def test_frozen_environments_count_once(facts: EnvSpec) -> None:
    learner = a_learner(facts)
    workspace = played([*GENERATION[:2], *[[(0, 5.0, True), (1, 25.0, False)]] * 3])
    update(learner, workspace)
    assert learner.n_episodes.tolist() == [1, 0, 0, 0]


def test_returns_of_several_episodes_are_averaged(facts: EnvSpec) -> None:
    policy = population(facts, episodes_per_candidate=2)
    learner = CrossEntropyMethod(policy, elite_fraction=0.5)
    assert update(learner, played(GENERATION)) == {}
    second = [[(b, 0.0, False) for b in range(P)], [(b, 100.0 * b, True) for b in range(P)]]
    assert update(learner, played(second))["learner/return_mean"] == (5 + 50 + 500 + 1 + 600) / 8


def test_the_extra_variance_falls_from_generation_to_generation(facts: EnvSpec) -> None:
    learner = a_learner(facts, extra_variance=3.0, extra_variance_generations=2)
    for expected in (3.0, 1.5, 0.0, 0.0):
        elite: Tensor = learner.policy.candidates[[1, 2]].clone()
        update(learner, played(GENERATION))
        torch.testing.assert_close(learner.std**2, ((elite[0] - elite[1]) / 2) ** 2 + expected)


def test_candidates_have_the_distribution_that_is_told(facts: EnvSpec) -> None:
    policy = PopulationPolicy(facts, population_size=20_000)
    CrossEntropyMethod(policy, initial_std=3.0)
    torch.testing.assert_close(policy.candidates.mean(0), torch.zeros(10), atol=0.1, rtol=0)
    torch.testing.assert_close(policy.candidates.std(0), torch.full((10,), 3.0), atol=0.1, rtol=0)


def run_of(learner: CrossEntropyMethod, n_chunks: int, batch_size: int) -> None:
    env = AutoResetGymAgent("CartPole-v1", batch_size, 0)
    workspace = Workspace()
    for chunk in collect(
        TemporalAgent(Agents(env, learner.policy)),
        workspace,
        total_steps=n_chunks * 25 * batch_size,
        batch_size=batch_size,
        steps_per_chunk=25,
        chunks_per_recording=4,
    ):
        learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, 10_000, chunk.new_steps))
    env.close()


def test_a_restored_learner_goes_on_as_before(facts: EnvSpec) -> None:
    straight, restored = a_learner(facts), a_learner(facts)
    run_of(straight, 13, 3)
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for learner in (straight, restored):
        run_of(learner, 20, 3)
    assert torch.equal(straight.policy.mean, restored.policy.mean)
    assert torch.equal(straight.policy.candidates, restored.policy.candidates)


def test_what_was_loaded_is_the_distribution_of_a_new_generation(facts: EnvSpec) -> None:
    learner = a_learner(facts, initial_std=3.0)
    learner.policy.mean.fill_(50.0)
    learner.std.fill_(0.01)
    learner.return_sums.fill_(7.0)
    learner.n_episodes.fill_(1)
    rows(learner.policy, [[1, 1]])
    learner.begin_from_loaded_parameters()
    distances = (learner.policy.candidates - 50.0).abs()
    assert 0.0 < distances.min() < distances.max() < 6 * 0.01
    assert (learner.return_sums.tolist(), learner.n_episodes.tolist()) == ([0.0] * P, [0] * P)
    assert rows(learner.policy, [[1, 1]])["policy/candidate"].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elite_fraction": 0.0}, r"elite_fraction=0\.0: must be above 0"),
        ({"initial_std": 0.0}, r"initial_std=0\.0: must be above 0"),
        ({"extra_variance": -1.0}, r"extra_variance=-1\.0: must be at least 0"),
        ({"extra_variance_generations": 0}, "extra_variance_generations=0: must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(facts: EnvSpec, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CrossEntropyMethod(population(facts), **arguments)  # type: ignore[arg-type]


def test_populations_that_cannot_be_are_refused(facts: EnvSpec) -> None:
    for arguments, message in (
        ({"population_size": 0}, "population_size=0: must be at least 1"),
        ({"episodes_per_candidate": 0}, "episodes_per_candidate=0: must be at least 1"),
        ({"hidden_sizes": [0]}, r"hidden_sizes=\[0\]"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            PopulationPolicy(facts, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="population_size=1: at least 2"):
        CrossEntropyMethod(PopulationPolicy(facts, population_size=1))
