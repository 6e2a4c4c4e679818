"""On-policy learners know how likely each action was when it was chosen, also the one between two chunks."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import pytest
import torch
from chunks import env_spec_of
from torch import Tensor

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.functional.losses import truncated_ratios
from bbrl_exp.learners.a2c import A2C
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.sequences import Sequences
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.learners.recurrent_a2c import RecurrentA2C
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import ValueCritic
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

STEPS, BATCH_SIZE, CHUNKS = 6, 3, 6


LEARNERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a2c": (A2C, {}),
    "ppo": (PPO, {}),
    "recurrent a2c": (RecurrentA2C, {}),
    "recurrent ppo": (RecurrentPPO, {}),
    "recurrent ppo, sequences, lstm": (RecurrentPPO, {"sequence_length": 3}),
    "recurrent ppo, own memory": (RecurrentPPO, {"sequence_length": 2}),
}


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


def log_probs_now(policy: StochasticPolicy | RecurrentPolicy, workspace: Workspace, row: int) -> Tensor:
    """Of the actions in a row, under the policy as it is now."""
    alone = Workspace()
    for name in tuple(workspace.keys()):
        alone.set(name, 0, workspace.get(name, row))
    with torch.no_grad():
        LogProbs(policy)(alone, t=0)
    return alone.get("log_prob", 0)


def learner_of(name: str, env_id: str) -> Any:
    """A learner with a large learning rate."""
    spec = env_spec_of(env_id, BATCH_SIZE)
    kind, options = LEARNERS[name]
    if kind in (A2C, PPO):
        policy, critic = StochasticPolicy(spec, hidden_sizes=[8]), ValueCritic(spec, hidden_sizes=[8])
        return kind(policy, critic, learning_rate=0.05)
    memory = RecurrentPolicy(spec, partial(LSTM if "lstm" in name else GRU, n_hidden=4))
    of_sequences = MemoryCritic(spec, partial(GRU, n_hidden=4)) if "own memory" in name else SharedMemoryCritic(memory)
    return kind(memory, of_sequences, learning_rate=0.05, **options)


@pytest.mark.parametrize("chunks_per_recording", [1, 2])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "bbrl_exp/ProbeObservationAction-v0"])
@pytest.mark.parametrize("name", LEARNERS)
def test_log_probabilities_are_those_of_the_moment_of_acting_in_every_chunk(
    name: str, env_id: str, chunks_per_recording: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(name, env_id)
    collected: list[Any] = []
    original = learner.collect

    @functools.wraps(original)
    def spy(*args: Any, **kwargs: Any) -> Any:
        collected.append(original(*args, **kwargs))
        return collected[-1]

    monkeypatch.setattr(learner, "collect", spy)
    env = AutoResetGymAgent(env_id, BATCH_SIZE, seed=3)
    members = [env, learner.policy, *([learner.critic] if "own memory" in name else []), LogProbs(learner.policy)]
    workspace, total = Workspace(), CHUNKS * STEPS * BATCH_SIZE
    largest_change = 0.0
    for chunk in collect(
        TemporalAgent(Agents(*members)),
        workspace,
        total_steps=total,
        batch_size=BATCH_SIZE,
        steps_per_chunk=STEPS,
        chunks_per_recording=chunks_per_recording,
    ):
        first = chunk.first_row
        if chunk.number > 1:
            change = log_probs_now(learner.policy, workspace, first) - workspace.get("log_prob", first)
            largest_change = max(largest_change, float(change.abs().max()))
        learner.update(workspace, Progress(first, chunk.env_steps, total, chunk.new_steps))
        valid = ~workspace["env/done"][first:-1]
        acted = workspace["log_prob"][first:-1]
        found = collected[-1].log_probs
        if isinstance(collected[-1], Sequences):
            n_sequences = found.shape[1] // BATCH_SIZE
            found = found.unflatten(1, (n_sequences, BATCH_SIZE)).transpose(0, 1).flatten(0, 1)[valid]
        torch.testing.assert_close(found, acted[valid], rtol=1e-4, atol=1e-5)
    env.close()
    assert largest_change > 0.01  # an update does change what the action of a first row is worth


def rows(*numbers: float) -> Tensor:
    """``[T, 1]``."""
    return torch.tensor(numbers)[:, None]


def test_what_is_kept_survives_a_checkpoint() -> None:
    first = BehaviourLogProbs()
    first.of_chunk(rows(1.0, 2.0, 3.0), [rows(10.0, 20.0, 30.0)])
    second = BehaviourLogProbs()
    second.load_state(first.state())
    assert second.of_chunk(rows(9.0, 4.0), [rows(30.0, 40.0)]).tolist() == [[3.0]]


@pytest.mark.parametrize("begins_with", [torch.tensor([[31.0], [40.0]]), torch.tensor([[30.0, 30.0], [40.0, 40.0]])])
def test_another_recording_is_not_taken_for_the_next_chunk(begins_with: Tensor) -> None:
    behaviour = BehaviourLogProbs()
    behaviour.of_chunk(rows(1.0, 3.0), [rows(20.0, 30.0)])
    log_probs = torch.full(begins_with.shape, 9.0)
    assert behaviour.of_chunk(log_probs, [begins_with]).tolist() == log_probs[:1].tolist()


def test_a_ratio_counts_at_most_one() -> None:
    now, then = torch.tensor([0.0, -1.0, 1.0]), torch.tensor([0.0, 0.0, 0.0])
    torch.testing.assert_close(truncated_ratios(now, then), torch.tensor([1.0, 0.36787944, 1.0]))
