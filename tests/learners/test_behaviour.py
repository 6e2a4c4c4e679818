"""On-policy learners know how likely each action was when it was chosen, also the one between two chunks."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from chunks import env_spec_of
from torch import Tensor

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.functional.losses import truncated_ratios
from bbrl_exp.learners import a2c, ppo, recurrent_a2c, recurrent_ppo
from bbrl_exp.learners.behaviour import BehaviourLogProbs
from bbrl_exp.learners.learner import Progress
from bbrl_exp.policies.recurrent import RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import ValueCritic
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

ENVS = ["bbrl_exp/ProbeObservationAction-v0", "bbrl_exp/ProbeObservationActionContinuous-v0"]
STEPS, BATCH_SIZE, CHUNKS = 5, 3, 4


class LogProbs(Agent):
    """Writes the log-probability of the action under the policy as it is when the action is chosen."""

    def __init__(self, policy: StochasticPolicy | RecurrentPolicy) -> None:
        super().__init__()
        self.policy = [policy]

    def forward(self, t: int, **kwargs: Any) -> None:
        policy = self.policy[0]
        observation, action = self.get(("env/env_obs", t)), self.get(("action", t))
        if isinstance(policy, RecurrentPolicy):
            state = self.get((policy.memory.state_name, t))
            starts = self.get(("env/initial_state", t))
            latent = policy.latent([observation[None]], state, starts[None])[0]
        else:
            latent = policy.latent([observation])
        self.set(("log_prob", t), policy.distribution_of(latent).log_prob([action]))


def log_probs_now(policy: StochasticPolicy | RecurrentPolicy, workspace: Workspace) -> Tensor:
    """Of the actions in row 0, under the policy as it is now."""
    row = Workspace()
    for name in tuple(workspace.keys()):
        row.set(name, 0, workspace.get(name, 0))
    with torch.no_grad():
        LogProbs(policy)(row, t=0)
    return row.get("log_prob", 0)


def learner_of(name: str, env_id: str) -> tuple[Any, Any, str]:
    """A learner with a large learning rate, its module, and the name of the function that collects."""
    spec = env_spec_of(env_id, BATCH_SIZE)
    if name.startswith("recurrent"):
        policy: Any = RecurrentPolicy(spec, n_hidden=4)
        critic: Any = SharedMemoryCritic(policy)
        kinds = {"recurrent_a2c": (recurrent_a2c, "RecurrentA2C"), "recurrent_ppo": (recurrent_ppo, "RecurrentPPO")}
    else:
        policy, critic = StochasticPolicy(spec, hidden_sizes=[8]), ValueCritic(spec, hidden_sizes=[8])
        kinds = {"a2c": (a2c, "A2C"), "ppo": (ppo, "PPO")}
    module, kind = kinds[name]
    collects = "collect_sequences" if name.startswith("recurrent") else "collect_samples"
    return getattr(module, kind)(policy, critic, learning_rate=0.05), module, collects


@pytest.mark.parametrize("env_id", ENVS)
@pytest.mark.parametrize("name", ["a2c", "ppo", "recurrent_a2c", "recurrent_ppo"])
def test_log_probabilities_are_those_of_the_moment_of_acting_in_every_chunk(
    name: str, env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, module, collects = learner_of(name, env_id)
    collected: list[Any] = []
    original = getattr(module, collects)

    @functools.wraps(original)
    def spy(*args: Any, **kwargs: Any) -> Any:
        collected.append(original(*args, **kwargs))
        return collected[-1]

    monkeypatch.setattr(module, collects, spy)
    env = AutoResetGymAgent(env_id, BATCH_SIZE, seed=3)
    graph = TemporalAgent(Agents(env, learner.policy, LogProbs(learner.policy)))
    workspace, total = Workspace(), CHUNKS * STEPS * BATCH_SIZE
    of_update = 0.0
    for chunk in collect(graph, workspace, total_steps=total, batch_size=BATCH_SIZE, steps_per_chunk=STEPS):
        learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, total))
        valid = ~workspace["env/done"][:-1]
        acted = workspace["log_prob"][:-1]
        found = collected[-1].log_probs
        if name.startswith("recurrent"):
            torch.testing.assert_close(collected[-1].valid, valid)
            found = found[valid]
        torch.testing.assert_close(found, acted[valid], rtol=1e-4, atol=1e-5)
        if chunk.number > 1:
            now = log_probs_now(learner.policy, workspace)
            of_update = max(of_update, float((now - acted[0]).abs().max()))
    env.close()
    assert of_update > 0.01  # the update did change what the first row's actions are worth


def test_what_is_kept_survives_a_checkpoint() -> None:
    first = BehaviourLogProbs()
    first.of_chunk(torch.tensor([[1.0], [2.0], [3.0]]))
    second = BehaviourLogProbs()
    second.load_state(first.state())
    assert second.of_chunk(torch.tensor([[9.0], [4.0]])).tolist() == [[3.0]]


def test_a_ratio_counts_at_most_one() -> None:
    now, then = torch.tensor([0.0, -1.0, 1.0]), torch.tensor([0.0, 0.0, 0.0])
    torch.testing.assert_close(truncated_ratios(now, then), torch.tensor([1.0, 0.36787944, 1.0]))
