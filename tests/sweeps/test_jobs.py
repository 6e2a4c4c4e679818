"""How a sweep becomes jobs."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bbrl_exp.config.check import check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.overrides import parse
from bbrl_exp.sweeps.jobs import Job, JobChecks, expand


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


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        (["agent=ppo", "seed=1", "launcher=side_by_side", "name=s"], "seed=1"),
        (["agent=ppo", "batch_size=4", "launcher=joblib", "name=s", "tracking=none"], "agent=ppo,batch_size=4"),
        (["launcher=side_by_side"], "job"),
    ],
)
def test_a_single_job_is_named_by_its_seed_or_by_what_it_is(overrides: list[str], folder: str) -> None:
    assert [(job.folder, job.overrides) for job in jobs(*overrides)] == [(folder, tuple(overrides))]


@pytest.mark.parametrize(
    ("varied", "key", "value"),
    [
        (["agent=ppo,dqn"], "agent.learner.max_grad_norm", 0.7),  # which the YAML of dqn alone states
        (["experiment=ppo_cartpole,dqn_cartpole"], "agent.learner.max_grad_norm", 0.7),
        (["env=cartpole,own"], "env.agent.name", "world"),
    ],
)
@pytest.mark.parametrize("plus", ["", "+"])
def test_a_value_that_every_option_takes_is_accepted_whether_or_not_its_file_states_it(
    plus: str, varied: list[str], key: str, value: object, tmp_path: Path
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "own.yaml").write_text("defaults: [cartpole]\nagent: {name: own}\n", encoding="utf-8")
    with Composer(default_config_dir(), extra_dir=tmp_path) as composer:
        found = JobChecks(composer, [])(jobs(*varied, f"{plus}{key}={value}"))
        assert [job.error for job in found] == [None, None]
        for job in found:
            assert job.run is not None
            assert OmegaConf.select(OmegaConf.create(job.run.config), key) == value
            # What a job is known by, and what one of Hydra's launchers composes, is what a run alone would take.
            assert check(composer.compose(job.overrides)).config_hash == job.config_hash
        texts = {text for job in found for text in job.overrides if key in text}
        assert texts == {f"{key}={value}", f"+{key}={value}"}


def test_a_value_that_one_option_does_not_take_is_an_error_of_its_job_alone() -> None:
    with Composer(default_config_dir()) as composer:
        found = JobChecks(composer, [])(jobs("agent=ppo,dqn", "agent.learner.clip_range=0.1"))
    assert [job.error is None for job in found] == [True, False]
    assert "key 'agent.learner.clip_range' is not known" in (found[1].error or "")
