"""Every planted fault of a memory is caught by the check that names it, and agents without one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import planted
import pytest
import torch
from torch import Tensor

from bbrl_exp import Agent, AutoResetGymAgent, ConfigurationError
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.recurrent_dqn import RecurrentDQN
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.memory import Memory
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.recurrent import RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.testing import MemoryReport, agreement, check_agent_memory, check_memory, resets, stored
from bbrl_exp.testing.cells import gradient_leak, sequence_difference
from bbrl_exp.testing.differences import Difference
from bbrl_exp.testing.matching import sequences_difference
from bbrl_exp.testing.memory import report_on
from bbrl_exp.testing.report import checked
from bbrl_exp.testing.subject import BuiltSubject, repeatable
from bbrl_exp.testing.trial import Trial


def ppo(policy: Agent, kind: type[RecurrentPPO] = RecurrentPPO, burn_in: int = 0) -> Learner:
    assert isinstance(policy, RecurrentPolicy)
    critic = SharedMemoryCritic(policy)
    return kind(policy, critic, sequence_length=4, n_epochs=2, n_minibatches=2, burn_in=burn_in)


def dqn(policy: Agent, kind: type[RecurrentDQN] = RecurrentDQN) -> Learner:
    assert isinstance(policy, RecurrentQPolicy)
    return kind(policy, burn_in=2, sequence_length=4, batch_size=4, learning_starts=32, updates_per_step=0.25)


def trial(make: type[Agent], make_learner: object = None) -> Trial:
    environments = AutoResetGymAgent("CartPole-v1", 1, seed=0)
    return Trial.of(BuiltSubject(make.__name__, make, environments, make_learner, 8))  # type: ignore[arg-type]


def failed(found: MemoryReport) -> dict[str, str]:
    return {check.rule: check.where for check in found.failed}


@pytest.mark.parametrize(
    ("fault", "check", "where"),
    [
        (planted.NotReset, resets.episodes, "the state is not reset where an episode begins: 'policy/state' at t="),
        (planted.ResetLate, resets.episodes, "the state is reset a row late where an episode begins: 'policy/state'"),
        (planted.ResetTogether, resets.environments, "'policy/state' at t="),
        (planted.Shared, resets.environments, "'policy/state' at t=1, environment 1: "),
        (planted.DroppedAtChunks, stored.chunks, "in the first new row of a chunk, not the state handed on: "),
        (planted.Stale, stored.updated, "'policy/next_state' at t=9, environment 0: "),
    ],
)
def test_a_fault_of_a_policy_is_caught_by_the_check_that_names_it(
    fault: type[Agent], check: Callable[[Trial], Difference | str], where: str
) -> None:
    with repeatable():
        found = check(trial(fault, ppo))
    assert isinstance(found, Difference)
    assert found.where.startswith(where)


@pytest.mark.parametrize(
    ("policy", "make_learner", "where"),
    [
        (RecurrentPolicy, ppo, ""),
        (RecurrentPolicy, partial(ppo, burn_in=2), ""),
        (RecurrentPolicy, partial(ppo, kind=planted.ZeroStates), "t=4, environment 3 is given zeros"),
        (RecurrentPolicy, partial(ppo, kind=planted.StatesOfTheFirstChunk), "t=8, environment 2 is given zeros"),
        (
            RecurrentPolicy,
            partial(ppo, kind=planted.StatesOfTheRowAfter),
            "t=4, environment 3 is given the state of t=5, environment 3",
        ),
        (RecurrentQPolicy, dqn, ""),
        (
            RecurrentQPolicy,
            partial(dqn, kind=planted.StaleBurnIn),
            "is given a state that was neither recorded there nor computed since",
        ),
    ],
)
def test_a_learner_that_begins_its_sequences_with_other_states_is_caught(
    policy: type[Agent], make_learner: object, where: str
) -> None:
    with repeatable():
        tried = trial(policy, make_learner)
        _, states = sequences_difference(tried.subject, tried.tape, tried.memory, tried.learned)
    assert isinstance(states, Difference)
    assert states.where.endswith(where)
    assert bool(states.where) == bool(where)


def test_a_fault_that_only_evaluations_show_is_the_only_line_that_fails() -> None:
    environments = AutoResetGymAgent("CartPole-v1", 1, seed=0)
    found = report_on(BuiltSubject("planted", planted.AdvancedByEvaluations, environments, ppo, 8))
    assert list(failed(found)) == [agreement.LEFT_ALONE]
    assert failed(found)[agreement.LEFT_ALONE].startswith("'policy/state' at t=9, environment 0: ")


def test_a_state_in_an_attribute_is_found_with_its_name() -> None:
    environments = AutoResetGymAgent("CartPole-v1", 1, seed=0)
    found = failed(report_on(BuiltSubject("planted", planted.InAnAttribute, environments, None, 8)))
    assert set(found) == {stored.OUTSIDE, agreement.ACT}
    assert found[stored.OUTSIDE].startswith("what changes while the agents act: attribute policy.state: 'action' at t=")


class WithoutLastStart(GRU):
    """Does not reset in the last row of a sequence."""

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        return super().unroll(x, state, torch.cat((starts[:-1], torch.zeros_like(starts[-1:]))))


class WithoutGradients(GRU):
    """Lets no gradient flow into the state before a sequence."""

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        return super().unroll(x, state.detach(), starts)


class WithoutStarts(GRU):
    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        return super().unroll(x, state, torch.zeros_like(starts))


class OfAllRows(GRU):
    """Centres its inputs over the batch."""

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        return super().unroll(x - x.mean(1, keepdim=True), state, starts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sequences_of_a_cell_are_compared_with_its_steps_gradients_included(dtype: torch.dtype) -> None:
    with repeatable():
        assert [sequence_difference(kind(3, 8), dtype).where for kind in (GRU, LSTM)] == ["", ""]
        assert sequence_difference(WithoutLastStart(3, 8), dtype).where.startswith("'output' at t=23, environment ")
        found = sequence_difference(WithoutGradients(3, 8), dtype).where
    assert found.startswith("gradients: 'state before' at t=0, environment 0: 0 instead of ")


def test_gradients_between_episodes_and_sequences_are_found() -> None:
    both = {"across_resets": True}, {"across_resets": False}
    with repeatable():
        assert [gradient_leak(GRU(3, 8), **which).where for which in both] == ["", ""]
        assert [bool(gradient_leak(WithoutStarts(3, 8), **which).where) for which in both] == [True, False]
        assert [bool(gradient_leak(OfAllRows(3, 8), **which).where) for which in both] == [True, True]


@pytest.mark.parametrize(
    ("overrides", "n_checks"),
    [
        (["agent=recurrent_pqn", "env=probe_memory", "memory=stack"], 18),
        (["agent=recurrent_sac", "env=masked_pendulum", "memory=lstm", "agent.learner.updates_per_step=0.1"], 22),
        (
            [
                *("agent=recurrent_dqn", "env=masked_cartpole", "memory=lru", "memory.inputs=[action,observation]"),
                "+agent.members.observations={_target_: bbrl_exp.policies.normalize.NormalizeObservation, after: env}",
                "+agent.members.policy.observation_prefix=normalized/",
            ],
            20,
        ),
    ],
)
def test_agents_with_a_memory_pass_all_checks(overrides: list[str], n_checks: int) -> None:
    found = check_memory([*overrides, "agent.steps_per_chunk=16", "memory.cell.n_hidden=16"])
    assert [check.status for check in found.checks] == ["passed"] * n_checks
    assert set(found.variables) >= {"policy/state", "policy/next_state"}


def test_a_critic_with_a_memory_is_checked_too() -> None:
    critic = "{_target_: bbrl_exp.policies.recurrent.MemoryCritic, observation_prefix: normalized/}"
    found = check_memory(
        [
            *("agent=recurrent_ppo", "env=masked_pendulum", "memory=gtrxl", "memory.cell.n_hidden=16"),
            *("agent.steps_per_chunk=16", "agent.learner.sequence_length=8", "agent.learner.burn_in=4"),
            *("~agent.learner.critic", f"+agent.members.critic={critic}"),
        ]
    )
    assert found.variables == ("policy/state", "policy/next_state", "critic/state", "critic/next_state")
    assert sum(check.rule.startswith("critic.memory.cell: ") for check in found.checks) == 2


def test_what_depends_on_actions_that_are_drawn_is_no_fault() -> None:
    class WithNumbers(RecurrentPolicy):
        """Writes what depends on the action drawn in this very run."""

        def forward(self, t: int, **kwargs: object) -> None:
            super().forward(t, **kwargs)
            drawn = self.get(("action", t)).float()
            self.set(("policy/numbers", t), drawn + torch.rand(()) if self.training else drawn)

    found = check_agent_memory(WithNumbers, AutoResetGymAgent("CartPole-v1", 1, seed=0), steps_per_chunk=8)
    assert found.variables == ("policy/state", "policy/next_state")


def test_an_agent_without_a_memory_is_one_line_with_no_checks() -> None:
    found = check_agent_memory(StochasticPolicy, AutoResetGymAgent("CartPole-v1", 2, seed=0))
    assert (found.checks, str(found)) == ((), "StochasticPolicy in CartPole-v1: no memory, nothing to check")


def test_a_failure_in_a_test_of_a_user_shows_the_table() -> None:
    with pytest.raises(AssertionError, match=r"environments do not depend on each other +failed") as caught:
        check_agent_memory(planted.Shared, AutoResetGymAgent("CartPole-v1", 1, seed=0), steps_per_chunk=8)
    assert "\nskipped: the learner's sequences are what acting computed: nothing is learned\n" in str(caught.value)


def test_what_fails_in_a_check_fails_that_check_with_the_error() -> None:
    def fails() -> str:
        raise KeyError("state")

    found = checked("resets", "a rule", fails)
    assert (found.status, found.where) == ("failed", "it fails: KeyError: 'state'")


def test_what_cannot_be_checked_is_refused() -> None:
    environments = AutoResetGymAgent("CartPole-v1", 1, seed=0)
    with pytest.raises(ConfigurationError, match=r"^steps_per_chunk=0: must be at least 1$"):
        check_agent_memory(RecurrentPolicy, environments, steps_per_chunk=0)
    with pytest.raises(ConfigurationError, match=r"^make: must give an Agent, found Memory$"):
        check_agent_memory(lambda spec: Memory(spec, "policy"), environments)  # type: ignore[arg-type, return-value]
