"""What a job learns in a stack is what it learns alone, up to rounding, and does not depend on its neighbours."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import gymnasium
import pytest
import torch
from torch import Tensor, nn

from bbrl_exp.learners.learner import Learner
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.stacked.parameters import LearningStack
from bbrl_exp.stacked.stack import Stack, StackedJob
from bbrl_exp.workspace import Workspace

from .harness import StartsAt3, alone, assert_near, assert_same_bits, prepared_of, side_by_side

SMALL = ["env=cartpole", "batch_size=2", "agent.members.policy.hidden_sizes=[16,16]", "tracking=none"]
PPO = ["agent=ppo", "agent.steps_per_chunk=32", "agent.learner.n_epochs=2", "total_steps=192", *SMALL]
DQN = ["agent=dqn", "agent.learner.learning_starts=32", "agent.learner.batch_size=16", "total_steps=128", *SMALL]
CONTINUOUS = ["agent=ppo", "env=pendulum", "batch_size=2", "agent.steps_per_chunk=32", "total_steps=192"]
NORMALIZED = [
    "+agent.members.normal={_target_: bbrl_exp.policies.normalize.NormalizeObservation, after: env}",
    "+agent.members.policy.observation_prefix=normalized/",
    "+agent.learner.critic.observation_prefix=normalized/",
]
TRUNK = ["agent.learner.critic={_target_: bbrl_exp.policies.values.SharedTrunkCritic, seed: ${seed}}"]

CASES = {
    "ppo": PPO,
    "ppo, gelu, clipped values": [*PPO, "agent.members.policy.activation=gelu", "+agent.learner.value_clip_range=0.2"],
    "ppo, early stops": [*PPO, "+agent.learner.target_kl=1e-4", "agent.learner.learning_rate=1e-2"],
    "ppo, a schedule": [
        *PPO,
        "agent.learner.anneal_learning_rate=false",
        "agent.learner.learning_rate={_target_: bbrl_exp.functional.schedules.Linear, start: 1e-3, end: 0.0}",
    ],
    "ppo, continuous": [*CONTINUOUS, *NORMALIZED, "agent.learner.entropy_weight=0.01"],
    "a2c, rmsprop": ["agent=a2c", "agent.learner.optimizer=rmsprop", "total_steps=192", *SMALL],
    "a2c, float64 observations": ["agent=a2c", "env=acrobot", "batch_size=2", "total_steps=96"],
    "a2c, array environments": ["agent=a2c", "env.backend=array", "total_steps=192", *SMALL],
    "ppo, continuous, array environments": ["env.backend=array", *CONTINUOUS],
    "dqn": [*DQN, "agent.learner.n_steps=3"],
    "dqn, copies": [
        *DQN,
        "agent.learner.target_period=20",
        "agent.learner.target_rate=null",
        "agent.learner.double=false",
    ],
    "dqn, categorical, dueling": [
        *DQN,
        "agent.members.policy.dueling=true",
        "agent.members.policy.distribution=categorical",
        "agent.members.policy.lowest_return=0",
        "agent.members.policy.highest_return=50",
    ],
    "dqn, quantiles, prioritised": [
        *DQN,
        "agent.members.policy.distribution=quantile",
        "agent.members.policy.n_atoms=8",
        "agent.learner.prioritised=true",
    ],
    "pqn": ["agent=pqn", "agent.learner.minibatch_size=20", "total_steps=192", *SMALL],
}


@pytest.mark.parametrize("case", CASES)
def test_a_job_of_a_stack_learns_what_it_learns_alone(case: str) -> None:
    jobs = [[*CASES[case], f"seed={seed}"] for seed in (3, 4)]
    for job, trained in zip(jobs, side_by_side(jobs), strict=True):
        assert_near(alone(job), trained, tolerance=2e-4)


@pytest.mark.parametrize("agent", [PPO, CASES["pqn"]])
def test_jobs_whose_options_all_fail_have_the_error_of_their_options(
    agent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the schedule is broken")

    monkeypatch.setattr(Learner, "set_options", broken)
    with pytest.raises(AssertionError, match="the schedule is broken"):
        side_by_side([[*agent, f"seed={seed}"] for seed in (3, 4)])


def take_step(modules: list[nn.Linear], optimizers: list[FlatOptimizer], stack: LearningStack | None) -> None:
    """One step of all modules down the squares of their weights: together in ``stack``, or one by one."""
    if stack is None:
        for module, optimizer in zip(modules, optimizers, strict=True):
            optimizer.step(module.weight.square().sum())
    else:
        stack.step(stack.of(modules[0].weight).square().sum(dim=(1, 2)))
        stack.store()


def test_adam_with_decoupled_weight_decay_steps_as_it_does_alone() -> None:
    def after_three_steps(are_stacked: bool) -> list[Tensor]:
        modules = [nn.Linear(3, 1) for _ in range(2)]
        for module in modules:
            nn.init.ones_(module.weight)
            nn.init.ones_(module.bias)
        own = {"lr": 0.1, "weight_decay": 0.5, "decoupled_weight_decay": True, "fused": True}
        optimizers = [FlatOptimizer(module.parameters(), lambda p: torch.optim.Adam(p, **own)) for module in modules]  # type: ignore[arg-type]
        stack = LearningStack(optimizers)
        for _ in range(3):
            take_step(modules, optimizers, stack if are_stacked else None)
        return [parameter.detach() for module in modules for parameter in module.parameters()]

    torch.testing.assert_close(after_three_steps(True), after_three_steps(False))


def test_hooks_of_optimizers_see_every_step_of_their_job_and_may_change_it() -> None:
    calls: list[str] = []

    def keep_the_second(gradient: Tensor) -> None:
        calls.append("before")
        gradient[1] = 0.0

    def weights_after_three_steps(are_stacked: bool) -> list[Tensor]:
        modules = [nn.Linear(2, 1, bias=False) for _ in range(3)]
        for module in modules:
            nn.init.ones_(module.weight)
        optimizers = [
            FlatOptimizer(each.parameters(), lambda p: torch.optim.Adam(p, 0.1, fused=True)) for each in modules
        ]
        hooked = optimizers[1].optimizer
        hooked.register_step_pre_hook(lambda stepped, *_: keep_the_second(stepped.param_groups[0]["params"][0].grad))
        hooked.register_step_post_hook(lambda *_: calls.append("after"))
        stack = LearningStack(optimizers)
        for _ in range(3):
            take_step(modules, optimizers, stack if are_stacked else None)
        return [module.weight.detach() for module in modules]

    weights = weights_after_three_steps(True)
    assert calls == ["before", "after"] * 3
    assert weights[1][0, 1] == 1.0
    torch.testing.assert_close(weights, weights_after_three_steps(False))
    torch.testing.assert_close(weights[0], torch.full((1, 2), 0.7), atol=0.01, rtol=0.0)


def test_an_optimizer_keeps_its_own_state_whoever_changes_it_between_two_steps() -> None:
    def after(are_stacked: bool) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        modules = [nn.Linear(3, 1, bias=False) for _ in range(2)]
        for module in modules:
            nn.init.ones_(module.weight)
        optimizers = [
            FlatOptimizer(each.parameters(), lambda p: torch.optim.Adam(p, 0.1, fused=True)) for each in modules
        ]
        stack, saved = LearningStack(optimizers), {}
        for step in range(6):
            if step == 2:
                saved = copy.deepcopy(optimizers[1].state())
            elif step == 4:
                optimizers[1].load_state(saved)
                optimizers[0].optimizer.register_step_post_hook(lambda *_: None)
            take_step(modules, optimizers, stack if are_stacked else None)
        states = [next(iter(optimizer.optimizer.state.values())) for optimizer in optimizers]
        return [module.weight.detach() for module in modules], states

    weights, states = after(True)
    torch.testing.assert_close((weights, states), after(False))
    assert [float(state["step"]) for state in states] == [6.0, 4.0]


STARTS = ["batch_size=2", "agent.members.policy.hidden_sizes=[8]", "tracking=none"]


@pytest.mark.parametrize(
    "agent",
    [
        ["agent=ppo", "agent.steps_per_chunk=8", "agent.learner.n_minibatches=2", "total_steps=64"],
        ["agent=dqn", "agent.learner.learning_starts=4", "agent.learner.batch_size=4", "total_steps=32"],
        ["agent=pqn", "agent.learner.minibatch_size=20", "agent.steps_per_chunk=16", "total_steps=64"],
    ],
)
def test_a_job_may_leave_where_0_is_no_action(agent: list[str]) -> None:
    if "StartsAt3-v0" not in gymnasium.registry:
        gymnasium.register("StartsAt3-v0", entry_point=StartsAt3, max_episode_steps=10)
    jobs = [["env=cartpole", "env.id=StartsAt3-v0", *agent, *STARTS, f"seed={seed}"] for seed in (3, 4)]
    stays, left = side_by_side(jobs, leaves_after={1: 1})
    assert len(stays.metrics) > len(left.metrics) == 1
    assert_near(alone(jobs[0]), stays, tolerance=2e-4)


def test_a_job_whose_actions_are_refused_stops_alone() -> None:
    jobs = [[*CASES["ppo, continuous, array environments"], f"seed={seed}"] for seed in (3, 4)]
    runs = [prepared_of(job) for job in jobs]
    learners = [cast(Any, run.learner) for run in runs]
    for parameter in learners[1].policy.network.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    workspaces = [Workspace(), Workspace()]
    parts = zip(runs, learners, workspaces, strict=True)
    stack = Stack([StackedJob(run.graph, learner, own) for run, learner, own in parts])
    failures = stack.unroll(0, 33, [0, 1])
    assert {job: str(error) for job, error in failures.items()} == {
        1: "non-finite value in 'action' from environment 0 at t=0: nan"
    }
    assert list(workspaces[1].keys()) == []
    alone_in = Workspace()
    with prepared_of(jobs[0]) as run, torch.inference_mode():
        run.graph(alone_in, t=0, n_steps=33)
    names = list(alone_in.keys())
    assert names == list(workspaces[0].keys())
    for name in names:
        torch.testing.assert_close(workspaces[0].get_full(name), alone_in.get_full(name), msg=name)


def test_a_job_that_fails_in_a_later_chunk_keeps_the_rows_of_the_chunks_before() -> None:
    jobs = [[*CASES["ppo, continuous, array environments"], f"seed={seed}"] for seed in (3, 4, 5)]
    runs = [prepared_of(job) for job in jobs]
    workspaces = [Workspace() for _ in jobs]
    parts = [StackedJob(run.graph, cast(Any, run.learner), own) for run, own in zip(runs, workspaces, strict=True)]
    stack = Stack(parts)
    assert stack.unroll(0, 5, [0, 1, 2]) == {}
    cast(Any, runs[1].graph.agent)[0]._states[1, 0] = math.inf
    failures = stack.unroll(5, 4, [0, 1, 2])
    assert {job: str(error) for job, error in failures.items()} == {
        1: "non-finite value in 'env/env_obs' from environment 1 at t=5: nan"
    }
    assert [own.time_size() for own in workspaces] == [9, 5, 9]
    assert stack.unroll(9, 3, [0, 2]) == {}
    assert [own.time_size() for own in workspaces] == [12, 5, 12]


def test_jobs_may_differ_in_numbers_of_the_learner() -> None:
    numbers = [
        ["agent.learner.learning_rate=1e-2", "agent.learner.discount=0.9", "agent.learner.entropy_weight=0.1"],
        ["agent.learner.clip_range=0.05", "agent.learner.trace_decay=0.5", "+agent.learner.max_grad_norm=0.01"],
    ]
    jobs = [[*PPO, *own] for own in numbers]
    for job, trained in zip(jobs, side_by_side(jobs), strict=True):
        assert_near(alone(job), trained, tolerance=2e-4)


@pytest.mark.parametrize("case", ["ppo, early stops", "a2c, array environments", "dqn", "pqn"])
def test_a_job_gets_the_same_bits_whoever_its_neighbours_are(case: str) -> None:
    first, *others = ([*CASES[case], f"seed={seed}"] for seed in (3, 4, 5, 6))
    of_two = side_by_side([first, others[0]])[0]
    of_four = side_by_side([*others, first], leaves_after={0: 1, 2: 2})[3]
    assert_same_bits(of_two, of_four)
