"""How a sweep becomes jobs."""

from bbrl_exp.config.overrides import parse
from bbrl_exp.sweeps.jobs import Job, expand


def jobs(*overrides: str) -> list[Job]:
    return expand(parse(overrides))


def test_a_sweep_is_the_product_of_its_lists() -> None:
    assert [job.folder for job in jobs("agent=random,mlp", "batch_size=1,8", "env=pendulum")] == [
        "agent=random,batch_size=1",
        "agent=random,batch_size=8",
        "agent=mlp,batch_size=1",
        "agent=mlp,batch_size=8",
    ]


def test_ranges_and_choices_are_swept_too() -> None:
    assert [job.varied for job in jobs("seed=range(0,2)", "env=choice(cartpole,pendulum)")] == [
        ("seed=0", "env=cartpole"),
        ("seed=0", "env=pendulum"),
        ("seed=1", "env=cartpole"),
        ("seed=1", "env=pendulum"),
    ]


def test_every_job_has_all_overrides() -> None:
    assert jobs("agent=random,mlp", "env=pendulum")[1].overrides == ("agent=mlp", "env=pendulum")


def test_a_job_that_is_written_twice_runs_once() -> None:
    assert [job.folder for job in jobs("seed=1,1,2")] == ["seed=1", "seed=2"]
