"""In evaluation mode a policy with a distribution draws from it where it is told so, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from continuous import rollout, spec_of

from bbrl_exp.agents import Agent, Agents
from bbrl_exp.agents.remote import RemoteAgent
from bbrl_exp.agents.remote.state import modes_of, take_modes
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.normalize import NormalizeObservation
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.policies.recurrent import RecurrentPolicy
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace

OBSERVATION = LeafSpec(
    "env/env_obs", "box", (3,), "float32", np.full(3, -np.inf, np.float32), np.full(3, np.inf, np.float32)
)
DISCRETE = LeafSpec("action", "discrete", (), "int64", counts=np.array(4), start=np.array(0))
CHOICE = EnvSpec("Choice-v0", 2, (OBSERVATION,), (DISCRETE,))


def actions_of(policy: Agent, n_steps: int = 400, gradients: bool = False) -> torch.Tensor:
    """Actions on the same observation of zeros at every step."""
    workspace = Workspace()
    with torch.set_grad_enabled(gradients):
        for t in range(n_steps):
            workspace.set("env/env_obs", t, torch.zeros(2, 3))
            workspace.set("env/initial_state", t, torch.full((2,), t == 0))
            policy(workspace, t=t)
    return workspace["action"]


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("kind", [StochasticPolicy, RecurrentPolicy])
def test_a_policy_samples_in_evaluation_mode_with_the_noise_of_training_mode(kind, gradients) -> None:
    def actions(prepare) -> torch.Tensor:
        return actions_of(prepare(kind(CHOICE, seed=5)), 200, gradients)

    trained = actions(lambda policy: policy.train())
    assert trained.unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(actions(lambda policy: policy.eval().sample_actions()), trained)
    mode = actions(lambda policy: policy.eval().sample_actions().sample_actions(False))
    assert torch.equal(mode, actions(lambda policy: policy.eval()))
    assert not torch.equal(mode, trained)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_squashed_policy_samples_without_random_steps_and_without_correlation(gradients: bool) -> None:
    def actions(**options) -> torch.Tensor:
        policy = SquashedNormalPolicy(spec_of(), (8,), seed=3, **options).eval().sample_actions()
        return rollout(policy, 50, gradients=gradients).detach()

    plain = actions()
    assert torch.equal(actions(noise_correlation=0.9, random_steps=1_000), plain)
    trained = rollout(SquashedNormalPolicy(spec_of(), (8,), seed=3), 50, gradients=gradients).detach()
    assert torch.equal(plain, trained)
    assert not torch.equal(plain, rollout(SquashedNormalPolicy(spec_of(), (8,), seed=3).eval(), 50))


def test_statistics_of_a_normaliser_stay_as_they_are_while_its_policy_samples() -> None:
    normaliser = NormalizeObservation(CHOICE)
    graph = Agents(normaliser, StochasticPolicy(CHOICE, observation_prefix="normalized/")).eval().sample_actions()
    before = {name: value.clone() for name, value in normaliser.state_dict().items()}
    actions_of(graph, 5)
    assert all(torch.equal(normaliser.state_dict()[name], value) for name, value in before.items())


def test_policies_without_a_distribution_refuse_to_sample_in_one_line() -> None:
    for policy in (QPolicy(CHOICE), DeterministicPolicy(spec_of())):
        with pytest.raises(ConfigurationError) as found:
            Agents(policy).eval().sample_actions()
        assert str(found.value) == "there is no distribution over actions to sample from; use the most likely action"
        policy.sample_actions(False)
        assert policy.sampling is None


def test_the_random_agent_draws_whatever_it_is_told() -> None:
    agents = [RandomAgent(CHOICE, seed=1).eval(), RandomAgent(CHOICE, seed=1).eval().sample_actions()]
    one, other = (actions_of(agent, 20) for agent in agents)
    assert torch.equal(one, other)


class OwnPolicy(Agent):
    """A user's policy: one attribute, and a distribution of torch."""

    sampling = False

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([0.0, 0.1, 0.2]))

    def forward(self, t: int, **kwargs: object) -> None:
        distribution = torch.distributions.Categorical(logits=self.logits.expand(2, 3))
        draws = self.training or self.sampling
        self.set(("action", t), distribution.sample() if draws else distribution.mode)


def test_a_policy_of_ones_own_takes_part_with_one_attribute_inside_other_agents() -> None:
    graph = Agents(Agents(OwnPolicy())).eval()
    assert actions_of(graph, 50).unique().tolist() == [2]
    assert actions_of(graph.sample_actions(), 50).unique().tolist() == [0, 1, 2]
    assert actions_of(graph.sample_actions(False), 50).unique().tolist() == [2]


def test_a_remote_agent_follows_whether_its_policy_samples() -> None:
    here, there = Agents(StochasticPolicy(CHOICE, seed=2)), Agents(StochasticPolicy(CHOICE, seed=2))
    remote = RemoteAgent(there)
    try:
        for sampling in (False, True, False, True):
            here.eval().sample_actions(sampling)
            remote.eval().sample_actions(sampling)
            assert torch.equal(actions_of(remote, 20), actions_of(here, 20))
    finally:
        remote.close()


def test_the_modes_of_an_agent_are_those_of_all_its_modules() -> None:
    one, other = (Agents(RandomAgent(CHOICE), StochasticPolicy(CHOICE)) for _ in range(2))
    one.eval().sample_actions()
    take_modes(other, modes_of(one))
    assert [(each.training, each.sampling) for each in other] == [(False, True), (False, True)]
    assert other.sampling is None
