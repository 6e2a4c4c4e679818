"""How far a run is, for schedules that end with the run or before it."""

from __future__ import annotations

from bbrl_exp.learners.learner import Progress


def progress_after(env_steps: int, schedule_steps: int | None = None, total_steps: int = 80) -> Progress:
    return Progress(0, env_steps, total_steps, new_steps=10, schedule_steps=schedule_steps)


def test_schedules_end_with_the_run_by_default() -> None:
    ends = [progress_after(env_steps) for env_steps in (10, 40, 80)]
    assert [each.fraction for each in ends] == [0.125, 0.5, 1.0]
    assert [each.remaining for each in ends] == [1.0, 0.625, 0.125]


def test_a_run_that_is_longer_than_its_schedules_keeps_their_last_values() -> None:
    for env_steps in (10, 40):
        longer, shorter = progress_after(env_steps, schedule_steps=40), progress_after(env_steps, total_steps=40)
        assert (longer.fraction, longer.remaining) == (shorter.fraction, shorter.remaining)
    for env_steps in (50, 80):
        assert progress_after(env_steps, schedule_steps=40).fraction == 1.0
        assert progress_after(env_steps, schedule_steps=40).remaining == 0.25


def test_schedules_that_are_shorter_than_a_chunk_have_their_first_value() -> None:
    assert progress_after(10, schedule_steps=5).remaining == 1.0
    assert progress_after(80, schedule_steps=5).remaining == 1.0
