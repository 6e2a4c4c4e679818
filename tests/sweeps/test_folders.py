"""Which folder a job has: the one that holds its configuration, else a free one."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.records.files import write_json
from bbrl_exp.records.summary import read_summary
from bbrl_exp.records.tables import write_sweep_table
from bbrl_exp.runs.ending import record_refusal
from bbrl_exp.runs.execution import first_summary
from bbrl_exp.sweeps.folders import hashes_in, with_folders
from bbrl_exp.sweeps.jobs import Job, JobChecks, named_jobs


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with Composer(default_config_dir()) as opened:
        yield opened


def jobs_of(composer: Composer, *batches: Sequence[str]) -> list[Job]:
    return JobChecks(composer, [])(named_jobs(batches))


def begin(composer: Composer, job: Job, sweep: Path, env_steps: int = 0) -> None:
    """Leaves what a completed run of so many steps leaves in the job's folder."""
    assert job.run is not None
    folder = sweep / job.folder
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(composer.compose(job.overrides), folder / ".hydra" / "config.yaml")
    replace(first_summary(job.run, "CartPole-v1", None), status="completed", env_steps=env_steps).write(folder)


def test_a_job_is_found_by_its_configuration_whatever_its_folder_is_called(composer: Composer, tmp_path: Path) -> None:
    for job in jobs_of(composer, ["seed=1"], ["seed=2"]):
        begin(composer, job, tmp_path, env_steps=10**9)
    wanted = jobs_of(composer, *(["agent=random", f"seed={seed}", "batch_size=8"] for seed in (2, 3)), ["agent=mlp"])
    placed = with_folders(wanted, tmp_path)
    assert [job.is_complete for job in placed] == [True, False, False]
    assert [job.folder for job in placed] == ["seed=2", wanted[1].folder, wanted[2].folder]


def test_the_folder_of_a_run_of_a_search_is_found_whatever_an_earlier_version_called_it(
    composer: Composer, tmp_path: Path
) -> None:
    runs = [["agent=mlp", f"seed={seed}"] for seed in (1, 2)]
    for job in jobs_of(composer, *runs):
        begin(composer, job, tmp_path, env_steps=10**9)
    now = named_jobs([*runs, ["agent=mlp", "seed=3"]], [], [f"trial=0,seed={seed}" for seed in (1, 2, 3)])
    placed = with_folders(JobChecks(composer, [])(now), tmp_path)
    assert [(job.folder, job.is_complete) for job in placed] == [
        ("seed=1", True),
        ("seed=2", True),
        ("trial=0,seed=3", False),
    ]


def test_a_folder_that_holds_another_configuration_is_left_alone(composer: Composer, tmp_path: Path) -> None:
    first = jobs_of(composer, ["agent=random", "seed=1"], ["agent=random", "seed=2"])
    for job in first:
        begin(composer, job, tmp_path, env_steps=10**9)
    other = with_folders(jobs_of(composer, ["agent=mlp", "seed=1"], ["agent=mlp", "seed=2"]), tmp_path)
    assert [job.folder for job in other] == ["agent=mlp,seed=1", "agent=mlp,seed=2"]
    for job in other:
        begin(composer, job, tmp_path)
    (tmp_path / "agent=mlp,seed=1" / "summary.json").unlink()
    shutil.copy(tmp_path / "seed=2" / "summary.json", tmp_path / "agent=mlp,seed=1" / "summary.json")
    again = with_folders(jobs_of(composer, ["agent=mlp", "seed=1"], ["agent=mlp", "seed=2"]), tmp_path)
    assert again[1].folder == "agent=mlp,seed=2"
    assert again[0].folder == f"agent=mlp,seed=1_{(again[0].config_hash or '')[:8]}"


def test_the_folder_of_a_job_that_was_refused_is_free_and_its_reason_is_told_anew(
    composer: Composer, tmp_path: Path
) -> None:
    for steps in (64, 128):
        asked = jobs_of(
            composer, *([f"agent={agent}", "env=pendulum", f"total_steps={steps}"] for agent in ("dqn", "mlp"))
        )
        refused = with_folders(asked, tmp_path)[0]
        assert refused.folder == "agent=dqn"
        assert refused.error is not None
        record_refusal(tmp_path / refused.folder, f"{steps}: {refused.error}", refused.overrides, refused.config_hash)
        summary = read_summary(tmp_path / refused.folder) or {}
        assert (summary["error"], summary["config_hash"]) == (f"{steps}: {refused.error}", refused.config_hash)


def test_what_changes_no_number_names_no_folder(composer: Composer, tmp_path: Path) -> None:
    for job in jobs_of(composer, ["agent=random", "seed=1"], ["agent=random", "seed=2"]):
        begin(composer, job, tmp_path, env_steps=10**9)
    free = ("name=s", "dry_run=true", "tracking=none", "env.workers=2")
    other = with_folders(jobs_of(composer, *(["agent=mlp", f"seed={seed}", *free] for seed in (1, 2))), tmp_path)
    assert [job.folder for job in other] == ["agent=mlp,seed=1", "agent=mlp,seed=2"]


def test_a_job_that_is_made_longer_keeps_its_folder(composer: Composer, tmp_path: Path) -> None:
    short = jobs_of(composer, ["agent=mlp", "seed=1", "total_steps=64"], ["agent=mlp", "seed=2", "total_steps=64"])
    begin(composer, short[0], tmp_path, env_steps=64)
    longer = jobs_of(composer, ["agent=mlp", "seed=1", "total_steps=640"], ["agent=mlp", "seed=2", "total_steps=640"])
    placed = with_folders(longer, tmp_path)
    assert [job.folder for job in placed] == ["seed=1", "seed=2"]
    assert [job.is_complete for job in placed] == [False, False]


def test_jobs_that_differ_in_what_changes_no_number_have_folders_of_their_own(
    composer: Composer, tmp_path: Path
) -> None:
    same = jobs_of(composer, ["env.workers=0"], ["env.workers=2"])
    assert same[0].config_hash == same[1].config_hash
    assert [job.folder for job in with_folders(same, tmp_path)] == ["env.workers=0", "env.workers=2"]
    begin(composer, same[0], tmp_path, env_steps=10**9)
    placed = with_folders(same, tmp_path)
    assert [(job.folder, job.is_complete) for job in placed] == [("env.workers=0", True), ("env.workers=2", False)]
    begin(composer, same[1], tmp_path, env_steps=10**9)
    assert [job.folder for job in with_folders(same[::-1], tmp_path)] == ["env.workers=2", "env.workers=0"]


def test_what_is_no_run_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    write_sweep_table(tmp_path, [])
    (tmp_path / "damaged").mkdir()
    write_json(tmp_path / "damaged" / "summary.json", {"config_hash": 3})
    assert hashes_in(tmp_path) == {}
    assert hashes_in(tmp_path / "not there") == {}
