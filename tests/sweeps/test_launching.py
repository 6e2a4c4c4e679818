"""A launcher that waits for all its jobs, though one of them is lost."""

from pathlib import Path

import pytest

from bbrl_exp.sweeps.launching import lost_jobs_as_results


def test_submitits_error_for_a_job_without_a_result_is_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit", reason="needs the extra slurm")
    monkeypatch.setattr(submitit.LocalJob, "_results_timeout_s", 0)  # it waits for a slow disk
    lost = submitit.LocalJob(tmp_path, "7")
    with lost_jobs_as_results("submitit_local"):
        (error,) = lost.results()
    assert isinstance(error, submitit.core.utils.UncompletedJobError)
    with pytest.raises(submitit.core.utils.UncompletedJobError):
        lost.results()


def test_rays_error_for_a_job_whose_worker_died_is_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra ray")

    def get(reference: str) -> str:
        if reference == "dead":
            raise ray.exceptions.WorkerCrashedError
        return reference

    monkeypatch.setattr(ray, "get", get)
    with lost_jobs_as_results("ray"):
        results = [ray.get(reference) for reference in ("dead", "well")]
    assert isinstance(results[0], ray.exceptions.WorkerCrashedError)
    assert results[1] == "well"


def test_other_launchers_are_left_as_they_are() -> None:
    with lost_jobs_as_results("joblib"):
        pass
