"""Which jobs of a sweep are stacked, and why others are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bbrl_exp.config.overrides import parse
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.runs.run import open_composer
from bbrl_exp.sweeps import stacks
from bbrl_exp.sweeps.jobs import Job, JobChecks, expand
from bbrl_exp.sweeps.stacks import _shared, plan


def checked(*overrides: str) -> list[Job]:
    with open_composer() as composer:
        config = SweepConfig.of(composer, overrides)
        return JobChecks(composer, config.of_hydra, are_stacked=True)(expand(parse(list(overrides))))


def sizes(jobs: list[Job], jobs_per_stack: int = 32) -> list[int]:
    return [len(stack) for stack in plan(jobs, jobs_per_stack).stacks]


@pytest.fixture(scope="module")
def rates() -> list[Job]:
    return checked("agent=ppo", "seed=1,2,3", "agent.learner.learning_rate=1e-3,3e-4")


def test_seeds_and_rates_are_one_stack(rates: list[Job]) -> None:
    assert sizes(rates) == [6]


def test_large_stacks_are_divided_evenly(rates: list[Job]) -> None:
    assert sizes(rates, 4) == [3, 3]
    planned = plan(rates[:5], 2)
    assert [len(stack) for stack in planned.stacks] == [2, 2]
    assert [reason for _, reason in planned.alone] == [
        "hydra.launcher.jobs_per_stack=2 leaves no other job for its stack"
    ]


def test_stacks_fit_in_memory(rates: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    assert rates[0].run is not None
    size = rates[0].run.size
    monkeypatch.setattr(stacks, "available_memory", lambda: 4 * size.workspace_bytes + 1)
    assert plan(rates, 32).lines == ["side by side: 6 jobs in 3 stacks of 2 jobs (the memory suffices for no more)"]
    monkeypatch.setattr(stacks, "available_memory", lambda: 2 * size.workspace_bytes)
    planned = plan(rates[:2], 32)
    assert [reason for _, reason in planned.alone] == ["the memory leaves no other job for its stack"] * 2


def test_numbers_that_change_shapes_or_counts_divide_the_jobs() -> None:
    jobs = checked("agent=ppo", "seed=1,2", "agent.learner.n_epochs=2,3", "total_steps=4096")
    assert sizes(jobs) == [2, 2]
    planned = plan([*jobs[:2], jobs[2]][1:], 32)
    assert planned.stacks == ()
    assert planned.lines == [
        f"on its own: {jobs[1].folder} and 1 more: no other job differs from it in seed or numbers of the learner "
        "only; the nearest differs in agent.learner.n_epochs"
    ]


@pytest.mark.parametrize(
    ("varied", "reason"),
    [
        ("batch_size=4,8", "batch_size"),
        ("env.backend=gym,array", "env.backend"),
        ("agent.members.policy.hidden_sizes=[32,32],[64,64]", "agent.members.policy.hidden_sizes"),
        ("env=cartpole,acrobot", "env"),
        ("agent=ppo,a2c", "agent"),
    ],
)
def test_what_divides_jobs_is_named_by_the_key_that_a_user_types(varied: str, reason: str) -> None:
    jobs = checked("agent=ppo", "env=cartpole", "seed=1,2", varied)
    assert plan(jobs, 32).lines == [f"side by side: 4 jobs in 2 stacks of 2 jobs (they differ in {reason})"]
    single = [jobs[0], next(job for job in jobs if _shared(job) != _shared(jobs[0]))]
    assert plan(single, 32).alone[0][1] == (
        f"no other job differs from it in seed or numbers of the learner only; the nearest differs in {reason}"
    )


def test_stacks_of_several_kinds_and_of_limited_size_have_both_reasons(rates: list[Job]) -> None:
    other = checked("agent=ppo", "seed=1,2", "agent.learner.n_epochs=3")
    assert plan([*rates[:5], *other], 3).lines == [
        "side by side: 7 jobs in 3 stacks of 2, 3 and 2 jobs (they differ in agent.learner.n_epochs; at most 3 jobs "
        "per stack)"
    ]


@pytest.mark.parametrize("option", ["target_kl", "value_clip_range", "max_grad_norm"])
def test_an_option_that_is_null_is_not_beside_one_that_is_a_number(option: str) -> None:
    jobs = checked("agent=ppo", "seed=1,2", f"+agent.learner.{option}=null,0.01,0.02")
    assert [sorted({job.varied[1] for job in stack}) for stack in plan(jobs, 32).stacks] == [
        [f"+agent.learner.{option}=null"],
        [f"+agent.learner.{option}=0.01", f"+agent.learner.{option}=0.02"],
    ]


def test_a_job_whose_neighbours_are_complete_is_still_of_a_stack(rates: list[Job]) -> None:
    complete = [replace(job, is_complete=True) for job in rates[:2]]
    assert plan([*complete, rates[2]], 32).lines == ["side by side: 1 job in 1 stack"]
    assert plan(complete, 32).lines == []


def test_a_single_job_has_nobody_beside_it(rates: list[Job]) -> None:
    assert plan(rates[:1], 32).lines == [f"on its own: {rates[0].folder}: it is the only job"]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["agent=sac", "env=pendulum"], "SAC cannot be stacked, only PPO, A2C, DQN, PQN can"),
        (["agent=random"], "the agent learns nothing"),
        (["agent=ppo", "agent.learner.objective=kl"], "PPO with objective=kl cannot be stacked, only with clip"),
        (["agent=ppo", "eval.workers=1"], "eval.workers=1 is for a process that has one job"),
        (["agent=ppo", "debug=true"], "debug=true is for a process that has one job"),
        (["agent=ppo", "compile=true"], "compile=true and side_by_side exclude each other; leave one of them out"),
        (["agent=ppo", "env=minigrid_empty"], "it sees images or grids (GridFeatures)"),
    ],
)
def test_what_cannot_be_stacked_has_a_reason(overrides: list[str], reason: str) -> None:
    (job,) = checked(*overrides)
    assert job.error is None
    assert job.not_stackable == reason
    other = replace(job, folder="other")
    assert plan([job, other], 32).lines == [f"on its own: {job.folder} and 1 more: {reason}"]
