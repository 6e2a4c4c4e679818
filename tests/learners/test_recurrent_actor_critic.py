"""Recurrent A2C and PPO: sequences as they were experienced, reductions of one to the other, state that is complete."""

from __future__ import annotations

import dataclasses
import io
import math
from functools import partial
from typing import Any

import pytest
import torch
from chunks import env_spec_of, whole
from torch import Tensor, nn

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import generalized_advantages
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.sequences import SequenceAdvantageOptions, Sequences, collect_sequences
from bbrl_exp.learners.recurrent_a2c import RecurrentA2C
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO
from bbrl_exp.nn.recurrent import LSTM
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentCritic, RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

ENV, N_STEPS = "CartPole-v1", 40
CRITICS = pytest.mark.parametrize("own_memory", [False, True])


class Setting:
    """A policy, a critic and what they recorded in two chunks, of which the workspace holds the second.

    A critic with its own memory, and the policy beside it, see the action before and its reward too.
    """

    def __init__(self, own_memory: bool = False, batch_size: int = 3, kind: Any = LSTM) -> None:
        spec = env_spec_of(ENV, batch_size)
        inputs = ("observation", "action", "reward") if own_memory else ("observation",)
        self.policy = RecurrentPolicy(spec, partial(kind, n_hidden=8), inputs)
        self.critic: RecurrentCritic = (
            MemoryCritic(spec, partial(kind, n_hidden=6), inputs) if own_memory else SharedMemoryCritic(self.policy)
        )
        env = AutoResetGymAgent(ENV, batch_size, 0)
        members = [env, self.policy, *([self.critic] if own_memory else [])]
        self.chunk = Workspace()
        chunks = collect(
            TemporalAgent(Agents(*members)),
            self.chunk,
            total_steps=2 * batch_size * N_STEPS,
            batch_size=batch_size,
            steps_per_chunk=N_STEPS,
        )
        assert len(list(chunks)) == 2
        env.close()

    def sequences(self, length: int | None = None, chunk: Workspace | None = None) -> Sequences:
        chunk = self.chunk if chunk is None else chunk
        return collect_sequences(
            chunk,
            whole(chunk),
            self.policy,
            self.critic,
            BehaviourLogProbs(),
            SequenceAdvantageOptions(discount=0.9, trace_decay=0.8, sequence_length=length),
        )

    def gradients(self, loss: Tensor) -> list[Tensor]:
        parameters = dict.fromkeys([*self.policy.parameters(), *self.critic.parameters()])
        return list(torch.autograd.grad(loss, list(parameters), materialize_grads=True))

    def values_step_by_step(self) -> Tensor:
        """Values of all rows, ``[T, B]``, by one step of the memory after the other."""
        memory = self.critic.memory or self.policy.memory
        state, values = self.chunk.get(memory.state_name, 0), []
        shown = [self.chunk[name] for name in memory.names]
        for *rows, initial in zip(*shown, self.chunk["env/initial_state"], strict=True):
            output, state = memory.cell.step(memory.inputs(rows), state * ~initial[:, None])
            values.append(self.critic.network(output).squeeze(1))
        return torch.stack(values).detach()


@CRITICS
def test_final_observations_and_the_last_row_are_valued_with_the_state_that_they_were_reached_in(
    own_memory: bool,
) -> None:
    setting = Setting(own_memory)
    sequences, chunk = setting.sequences(), setting.chunk
    values = setting.values_step_by_step()
    done = chunk["env/done"]
    assert done[1:-1].any()
    torch.testing.assert_close(sequences.values, values[:-1])
    expected = generalized_advantages(
        chunk["env/reward"][1:],
        values[:-1],
        values[1:],
        chunk["env/terminated"][1:],
        done[1:] | done[:-1],
        0.9,
        0.8,
    )
    valid = ~done[:-1]
    assert torch.equal(sequences.valid, valid)
    torch.testing.assert_close(sequences.advantages[valid], expected[valid])
    torch.testing.assert_close(sequences.returns[valid], (expected + values[:-1])[valid])


@CRITICS
def test_a_chunk_cut_into_sequences_is_the_same_experience(own_memory: bool) -> None:
    setting = Setting(own_memory)
    one, cut = setting.sequences(), setting.sequences(10)
    assert (len(one), len(cut)) == (3, 12)
    for name in ("starts", "log_probs", "values", "advantages", "returns", "valid"):
        parts = getattr(cut, name)
        for k in range(4):
            assert torch.equal(parts[:, 3 * k : 3 * k + 3], getattr(one, name)[10 * k : 10 * k + 10])
    again = setting.policy.latent(cut.observations, cut.policy_state, cut.starts)
    latent = setting.policy.latent(one.observations, one.policy_state, one.starts)
    torch.testing.assert_close(again[:, 3:6], latent[10:20], atol=1e-5, rtol=1e-4)
    values = setting.critic.values(again, cut.observations, cut.critic_state, cut.starts)
    torch.testing.assert_close(values, cut.values, atol=1e-5, rtol=1e-4)


def test_the_second_chunk_begins_with_the_state_of_the_first() -> None:
    setting = Setting()
    states = setting.chunk["policy/state"]
    assert states[0].any(dim=1).tolist() == (~setting.chunk["env/initial_state"][0]).tolist()
    assert torch.equal(setting.sequences().policy_state, states[0])


@CRITICS
def test_the_first_gradient_of_ppo_is_that_of_a2c(own_memory: bool) -> None:
    setting = Setting(own_memory)
    options = {"entropy_weight": 0.02, "value_weight": 0.3}
    sequences = setting.sequences()
    ppo = RecurrentPPO(setting.policy, setting.critic, normalize_advantages=False, **options)
    a2c = RecurrentA2C(setting.policy, setting.critic, **options)
    expected = setting.gradients(a2c.loss(sequences).total)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-3
    for ours, theirs in zip(setting.gradients(ppo.loss(sequences).total), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("make", [RecurrentA2C, lambda *parts: RecurrentPPO(*parts, normalize_advantages=False)])
def test_the_gradient_of_two_environments_is_the_mean_of_each_alone_by_their_valid_steps(make: Any) -> None:
    setting = Setting(batch_size=2)
    learner = make(setting.policy, setting.critic)
    both = setting.sequences()
    together = setting.gradients(learner.loss(both).total)
    weights = (both.valid.sum(dim=0) / both.valid.sum()).tolist()
    alone = [setting.gradients(learner.loss(both.select(torch.tensor([b]))).total) for b in range(2)]
    for mean, first, second in zip(together, *alone, strict=True):
        torch.testing.assert_close(mean, weights[0] * first + weights[1] * second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [RecurrentA2C, RecurrentPPO])
def test_where_no_action_is_better_than_another_the_entropy_goes_up(make: Any) -> None:
    setting = Setting()
    nn.init.normal_(setting.policy.network.layers[-1].weight)
    sequences = setting.sequences()
    flat = dataclasses.replace(sequences, advantages=torch.zeros_like(sequences.advantages))
    latent = setting.policy.latent(flat.observations, flat.policy_state, flat.starts)
    entropy = setting.policy.distribution_of(latent[flat.valid]).entropy().mean()
    expected = setting.gradients(-0.3 * entropy)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-2
    learner = make(setting.policy, setting.critic, entropy_weight=0.3, value_weight=0.0)
    for ours, theirs in zip(setting.gradients(learner.loss(flat).total), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_what_stands_where_no_action_was_taken_changes_nothing() -> None:
    setting = Setting()
    sequences = setting.sequences()
    assert not sequences.valid.all()
    ppo = RecurrentPPO(setting.policy, setting.critic)
    expected = ppo.loss(sequences).total
    for name in ("log_probs", "advantages", "returns"):
        getattr(sequences, name)[~sequences.valid] = 1000.0
    sequences.actions[0][~sequences.valid] = 0
    found = ppo.loss(sequences).total
    assert float(found.detach()) == float(expected.detach())


@pytest.mark.parametrize("make", [RecurrentA2C, RecurrentPPO])
def test_a_learner_goes_on_from_its_saved_state_as_if_it_had_never_stopped(make: Any) -> None:
    def update(learner: Learner, setting: Setting) -> None:
        learner.update(setting.chunk, whole(setting.chunk))

    straight = Setting()
    learner = make(straight.policy, straight.critic, learning_rate=1e-2)
    update(learner, straight)
    saved = io.BytesIO()
    torch.save(learner.state_dict(), saved)
    update(learner, straight)

    resumed = Setting()
    other = make(resumed.policy, resumed.critic, learning_rate=1e-2)
    saved.seek(0)
    other.load_state_dict(torch.load(saved, weights_only=True))
    update(other, resumed)
    for ours, theirs in zip(other.parameters(), learner.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_annealed_rates_and_ranges_fall_linearly_and_the_last_update_counts() -> None:
    setting = Setting()
    ppo = RecurrentPPO(
        setting.policy, setting.critic, learning_rate=0.1, anneal_learning_rate=True, anneal_clip_range=True
    )
    metrics = ppo.update(setting.chunk, Progress(0, 75, 100, 25))
    assert metrics["learner/learning_rate"] == pytest.approx(0.05)
    before = [parameter.detach().clone() for parameter in ppo.parameters()]
    metrics = ppo.update(setting.chunk, Progress(0, 100, 100, 25))
    assert metrics["learner/learning_rate"] == pytest.approx(0.025)
    assert not all(map(torch.equal, ppo.parameters(), before))


def test_an_update_ends_at_the_divergence_that_is_asked_for() -> None:
    setting = Setting()
    options = {"learning_rate": 0.1, "n_epochs": 10, "n_minibatches": 1}
    ppo = RecurrentPPO(setting.policy, setting.critic, target_kl=1e-4, **options)
    steps = 0
    original = ppo.loss

    def counted(sequences: Sequences) -> Any:
        nonlocal steps
        steps += 1
        return original(sequences)

    ppo.loss = counted  # type: ignore[method-assign]
    ppo.update(setting.chunk, whole(setting.chunk))
    assert steps == 2


def test_a_chunk_without_a_step_teaches_nothing() -> None:
    setting = Setting(batch_size=1)
    last = int(setting.chunk["env/done"][:-1, 0].nonzero()[0])
    window = setting.chunk.subtime(last, last + 2)
    for make in (RecurrentA2C, RecurrentPPO):
        learner = make(setting.policy, setting.critic)
        assert learner.update(window, whole(window)) == {}


@pytest.mark.parametrize("make", [RecurrentA2C, RecurrentPPO])
def test_a_memory_that_sees_something_else_than_the_policy_s_is_refused(make: Any) -> None:
    spec = env_spec_of(ENV, 2)
    policy, critic = RecurrentPolicy(spec), MemoryCritic(spec, observation_prefix="normalized/")
    with pytest.raises(ConfigurationError, match="critic: reads normalized/env/env_obs, and the policy env/env_obs"):
        make(policy, critic)
    make(RecurrentPolicy(spec, observation_prefix="normalized/"), critic)


def test_a_length_that_does_not_divide_a_chunk_is_refused() -> None:
    setting = Setting()
    learner = RecurrentPPO(setting.policy, setting.critic, sequence_length=16)
    for refused in (
        lambda: learner.check_chunks(steps_per_chunk=40, batch_size=3),
        lambda: learner.update(setting.chunk, whole(setting.chunk)),
    ):
        with pytest.raises(ConfigurationError, match="sequence_length=16: does not divide the 40 steps of a chunk"):
            refused()
    for steps_per_chunk in (12, 16, 32):
        learner.check_chunks(steps_per_chunk, batch_size=3)
    RecurrentPPO(setting.policy, setting.critic).check_chunks(steps_per_chunk=40, batch_size=3)


def test_an_update_that_ends_early_tells_the_last_gradient() -> None:
    setting = Setting()
    learner = RecurrentPPO(setting.policy, setting.critic, learning_rate=0.1, target_kl=1e-6)
    metrics = learner.update(setting.chunk, whole(setting.chunk))
    assert float(metrics["learner/approximate_kl"]) > 1.5e-6
    assert float(metrics["learner/gradient_norm"]) > 0.0


def test_a2c_weighs_an_action_of_an_earlier_policy_by_the_truncated_ratio() -> None:
    setting = Setting()
    sequences = setting.sequences()
    latent = setting.policy.latent(sequences.observations, sequences.policy_state, sequences.starts)
    actions = [leaf.flatten(0, 1) for leaf in sequences.actions]
    log_probs = setting.policy.distribution_of(latent.flatten(0, 1)).log_prob(actions).view_as(sequences.log_probs)
    shift = torch.where(torch.arange(len(log_probs)) % 2 == 0, 0.5, -0.5)[:, None]  # likelier then, or now
    earlier = dataclasses.replace(sequences, log_probs=log_probs.detach() + shift)
    weights = torch.where(shift > 0, math.exp(-0.5), 1.0)
    learner = RecurrentA2C(setting.policy, setting.critic)
    found = learner.loss(earlier).policy
    terms = -(weights * sequences.advantages * log_probs)[sequences.valid]
    torch.testing.assert_close(found, terms.mean())
