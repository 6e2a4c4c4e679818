"""Searches whose jobs are not run: batches, values, pruning, failures, and how a search goes on."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.metrics import MetricsFile
from bbrl_exp.search.plan import SearchPlan
from bbrl_exp.search.pruning import evaluation_at
from bbrl_exp.search.search import run_search
from bbrl_exp.search.study import SearchStudy

from .conftest import MakePlan
from .fake_jobs import FakeJobs, Overrides

SIZE = "agent.members.policy.seed"
INTERVAL = f"{SIZE}=int(interval(0, 100))"


def worth(job: Overrides) -> float:
    """Best at 70, and a little more with every seed."""
    return 100.0 - abs(float(job[SIZE]) - 70.0) + float(job["seed"])


def search(plan: SearchPlan, jobs: FakeJobs) -> int:
    jobs.folder.mkdir(exist_ok=True)
    return run_search(plan, jobs, SearchStudy(plan, jobs.folder))


def found_in(folder: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((folder / "search.json").read_text())
    return contents


def by_number(folder: Path) -> list[dict[str, Any]]:
    return sorted(found_in(folder)["trials"], key=lambda trial: int(trial["number"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "search"


def test_the_value_of_a_trial_is_the_aggregate_over_its_seeds(folder: Path, make_plan: MakePlan) -> None:
    plan = make_plan(
        INTERVAL, "hydra.sweeper.n_trials=2", "hydra.sweeper.seeds=[1,2,9]", "hydra.sweeper.aggregate=mean"
    )
    assert search(plan, FakeJobs(folder, worth)) == 0
    for trial in by_number(folder):
        at = 100.0 - abs(trial["params"][SIZE] - 70)
        assert trial["values"] == {"1": at + 1, "2": at + 2, "9": at + 9}
        assert trial["value"] == at + 4


def test_all_runs_of_the_trials_of_a_batch_are_handed_over_together(folder: Path, make_plan: MakePlan) -> None:
    jobs = FakeJobs(folder, worth)
    search(make_plan(INTERVAL, "hydra.sweeper.n_trials=5", "hydra.sweeper.parallel_trials=2"), jobs)
    assert [len(batch) for batch in jobs.batches] == [4, 4, 2]
    assert [job["seed"] for job in jobs.batches[0]] == ["1", "2", "1", "2"]


def test_a_grid_is_tried_in_the_order_in_which_it_is_written(folder: Path, make_plan: MakePlan) -> None:
    plan = make_plan(f"{SIZE}=3,1", "agent.members.policy.hidden_sizes=[8],[16]", "hydra.sweeper.sampler=grid")
    assert search(plan, FakeJobs(folder, worth)) == 0
    assert [tuple(trial["params"].values()) for trial in by_number(folder)] == [
        (3, "[8]"),
        (3, "[16]"),
        (1, "[8]"),
        (1, "[16]"),
    ]


def test_a_grid_goes_on_after_a_part_of_it(folder: Path, make_plan: MakePlan) -> None:
    grid = [f"{SIZE}=range(0, 5)", "hydra.sweeper.sampler=grid"]
    assert search(make_plan(*grid, "hydra.sweeper.n_trials=2"), FakeJobs(folder, worth)) == 0
    jobs = FakeJobs(folder, worth)
    assert search(make_plan(*grid), jobs) == 0
    assert [batch[0][SIZE] for batch in jobs.batches] == ["2", "3", "4"]


def test_tpe_comes_nearer_to_the_best_than_its_first_trials(folder: Path, make_plan: MakePlan) -> None:
    assert search(make_plan(INTERVAL, "hydra.sweeper.n_trials=25"), FakeJobs(folder, worth)) == 0
    distances = [abs(trial["params"][SIZE] - 70) for trial in by_number(folder)]
    assert sum(distances[15:]) < sum(distances[:10])


def test_where_less_is_better_the_least_is_best(folder: Path, make_plan: MakePlan) -> None:
    search(
        make_plan(f"{SIZE}=0,70,100", "hydra.sweeper.sampler=grid", "hydra.sweeper.direction=minimize"),
        FakeJobs(folder, worth),
    )
    assert [trial["params"][SIZE] for trial in found_in(folder)["trials"]] == [0, 100, 70]


def test_a_search_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path, make_plan: MakePlan) -> None:
    plan = make_plan(INTERVAL, "hydra.sweeper.n_trials=16", "hydra.sweeper.parallel_trials=4")
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert search(plan, FakeJobs(straight, worth)) == 0
    for batch in (0, 2):
        jobs = FakeJobs(stopped, worth)
        jobs.stop_in = batch
        assert search(plan, jobs) == 128 + 15
        assert by_number(stopped)[-1]["status"] == "interrupted"
    assert search(plan, FakeJobs(stopped, worth)) == 0
    assert found_in(stopped) == found_in(straight)


def test_a_database_holds_the_trials_as_the_journal_does(tmp_path: Path, make_plan: MakePlan) -> None:
    search(make_plan(INTERVAL, "hydra.sweeper.n_trials=2"), FakeJobs(tmp_path / "journal", worth))
    database = make_plan(INTERVAL, "hydra.sweeper.n_trials=2", f"hydra.sweeper.storage='sqlite:///{tmp_path}/study.db'")
    jobs = FakeJobs(tmp_path / "database", worth)
    jobs.stop_in = 1
    assert search(database, jobs) == 128 + 15
    assert search(database, FakeJobs(tmp_path / "database", worth)) == 0
    assert found_in(tmp_path / "database") == found_in(tmp_path / "journal")


def test_complete_trials_are_not_repeated_and_more_may_be_asked_for(folder: Path, make_plan: MakePlan) -> None:
    assert search(make_plan(INTERVAL, "hydra.sweeper.n_trials=3"), FakeJobs(folder, worth)) == 0
    before = by_number(folder)
    for n_trials, n_batches in ((3, 0), (5, 2)):
        jobs = FakeJobs(folder, worth)
        assert search(make_plan(INTERVAL, f"hydra.sweeper.n_trials={n_trials}"), jobs) == 0
        assert len(jobs.batches) == n_batches
    assert by_number(folder)[:3] == before


def test_a_failed_run_fails_its_trial_with_the_reason_and_no_other(folder: Path, make_plan: MakePlan) -> None:
    jobs = FakeJobs(folder, lambda job: None if (job[SIZE], job["seed"]) == ("1", "2") else worth(job))
    assert search(make_plan(f"{SIZE}=0,1,2", "hydra.sweeper.sampler=grid"), jobs) == 1
    assert [trial["status"] for trial in by_number(folder)] == ["completed", "failed", "completed"]
    assert by_number(folder)[1]["error"] == "seed 2: it is a bad one"
    assert found_in(folder)["best"]["number"] == 2


def test_a_run_that_did_not_measure_the_objective_fails_its_trial(folder: Path, make_plan: MakePlan) -> None:
    assert (
        search(
            make_plan(f"{SIZE}=0,1", "hydra.sweeper.sampler=grid", "hydra.sweeper.objective=return_mean"),
            FakeJobs(folder, worth),
        )
        == 1
    )
    assert {trial["error"] for trial in by_number(folder)} == {"seed 1: summary.json has no return_mean"}
    assert found_in(folder)["best"] is None


def test_a_trial_whose_run_was_interrupted_waits_for_the_next_command(folder: Path, make_plan: MakePlan) -> None:
    plan = make_plan(f"{SIZE}=0,1,2", "hydra.sweeper.sampler=grid")
    jobs = FakeJobs(folder, worth)
    jobs.interrupted = lambda job: job[SIZE] == "1"
    assert search(plan, jobs) == 1
    assert [trial["status"] for trial in by_number(folder)] == ["completed", "interrupted", "completed"]
    jobs = FakeJobs(folder, worth)
    assert search(plan, jobs) == 0
    assert [job[SIZE] for job in jobs.batches[0]] == ["1", "1"]
    assert len(jobs.batches) == 1


PRUNED = ["hydra.sweeper.pruner=halving", "hydra.sweeper.rungs=[200,400,800]", "hydra.sweeper.sampler=grid"]


def test_trials_go_from_rung_to_rung_if_they_are_among_the_better_half(folder: Path, make_plan: MakePlan) -> None:
    jobs = FakeJobs(folder, worth)
    assert search(make_plan(f"{SIZE}=70,10,60,20", "hydra.sweeper.parallel_trials=4", *PRUNED), jobs) == 0
    assert [[job.get("pause_after") for job in batch] for batch in jobs.batches] == [
        ["200"] * 8,
        ["400"] * 4,
        ["800"] * 2,
        [None] * 2,
    ]
    assert [(trial["params"][SIZE], trial["status"], list(trial["rungs"])) for trial in by_number(folder)] == [
        (70, "completed", ["200", "400", "800"]),
        (10, "pruned", ["200"]),
        (60, "pruned", ["200", "400"]),
        (20, "pruned", ["200"]),
    ]


def test_the_value_at_a_rung_is_the_aggregate_of_the_evaluations_there(folder: Path, make_plan: MakePlan) -> None:
    assert search(make_plan(f"{SIZE}=70,60", *PRUNED[1:], "hydra.sweeper.pruner=halving"), FakeJobs(folder, worth)) == 0
    assert by_number(folder)[0]["rungs"] == pytest.approx({"200": 20.3, "400": 40.6, "800": 81.2})


def test_a_run_that_stopped_early_is_compared_by_its_last_evaluation(folder: Path, make_plan: MakePlan) -> None:
    jobs = FakeJobs(folder, worth)
    jobs.stops_at = lambda job: 300 if job[SIZE] == "70" else 1000
    plan = make_plan(f"{SIZE}=70,60", *PRUNED[1:], "hydra.sweeper.pruner=halving", "hydra.sweeper.keep_percent=90")
    assert search(plan, jobs) == 0
    first, second = by_number(folder)
    assert (first["status"], first["value"]) == ("completed", 101.5)
    assert first["rungs"] == pytest.approx({"200": 20.3, "400": 30.45, "800": 30.45})
    assert second["status"] == "pruned"


def test_trials_are_compared_by_the_evaluations_that_they_are_judged_by(folder: Path, make_plan: MakePlan) -> None:
    plan = make_plan(f"{SIZE}=70,60", *PRUNED, "eval.policy=both", "eval.judged_by=sample")
    assert plan.judged_by == "sample"
    folder.mkdir()
    with contextlib.closing(MetricsFile(folder)) as metrics:
        for step in (100, 200):
            metrics.scalars(step, {"eval/return_mean": 1.0 * step, "eval_sample/return_mean": 2.0 * step})
    assert [evaluation_at(folder, 150, acting) for acting in ("mode", "sample")] == [200.0, 400.0]
    assert evaluation_at(folder, 300, "sample") is None
    assert evaluation_at(folder, 300, "sample", is_complete=True) == 400.0


def test_the_median_pruner_lets_its_first_trials_be(folder: Path, make_plan: MakePlan) -> None:
    plan = make_plan(
        f"{SIZE}=70,60,50,65,20",
        "hydra.sweeper.sampler=grid",
        "hydra.sweeper.pruner=median",
        "hydra.sweeper.startup_trials=3",
        "hydra.sweeper.rungs=[500]",
    )
    assert search(plan, FakeJobs(folder, worth)) == 0
    assert [trial["status"] for trial in by_number(folder)] == ["completed"] * 4 + ["pruned"]


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_search_with_a_pruner_goes_on_from_the_rung_where_it_was_stopped(
    batch: int, tmp_path: Path, make_plan: MakePlan
) -> None:
    plan = make_plan(f"{SIZE}=70,10,60,20", "hydra.sweeper.parallel_trials=4", *PRUNED)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert search(plan, FakeJobs(straight, worth)) == 0
    jobs = FakeJobs(stopped, worth)
    jobs.stop_in = batch
    assert search(plan, jobs) == 128 + 15
    jobs = FakeJobs(stopped, worth)
    assert search(plan, jobs) == 0
    assert [len(jobs) for jobs in jobs.batches] == [8, 4, 2, 2][batch:]
    assert found_in(stopped) == found_in(straight)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ([f"{SIZE}=int(interval(0, 200))"], f"space of {SIZE}"),
        ([INTERVAL, "hydra.sweeper.seeds=[1]"], "hydra.sweeper.seeds"),
        ([INTERVAL, "hydra.sweeper.objective=return_mean"], "hydra.sweeper.objective"),
        ([INTERVAL, "batch_size=2"], "what all trials share"),
    ],
)
def test_another_search_in_the_folder_is_refused(
    changed: list[str], named: str, folder: Path, make_plan: MakePlan
) -> None:
    search(make_plan(INTERVAL, "hydra.sweeper.n_trials=1"), FakeJobs(folder, worth))
    with pytest.raises(ConfigurationError, match=f"holds another search, it differs in {named}; choose another name"):
        search(make_plan(*changed, "hydra.sweeper.n_trials=2"), FakeJobs(folder, worth))


def test_a_journal_whose_last_line_is_torn_is_read_up_to_it(folder: Path, make_plan: MakePlan) -> None:
    plan = make_plan(INTERVAL, "hydra.sweeper.n_trials=2")
    search(plan, FakeJobs(folder, worth))
    before = by_number(folder)
    with (folder / "optuna.journal").open("a") as file:
        file.write('{"op_code": 4, "wor')
    assert search(make_plan(INTERVAL, "hydra.sweeper.n_trials=3"), FakeJobs(folder, worth)) == 0
    assert by_number(folder)[:2] == before


def test_the_table_names_every_trial_best_first(
    folder: Path, make_plan: MakePlan, capsys: pytest.CaptureFixture[str]
) -> None:
    search(make_plan(f"{SIZE}=0,70,60", "hydra.sweeper.sampler=grid"), FakeJobs(folder, worth))
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("trials, by the iqm of eval_return_mean") :]
    assert [line.split() for line in table[2:5]] == [
        ["1", "completed", "101.5", "101", "102", "70"],
        ["2", "completed", "91.5", "91", "92", "60"],
        ["0", "completed", "31.5", "31", "32", "0"],
    ]
    with (folder / "search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row[SIZE], row["seed=2"]) for row in rows] == [
        ("1", "70", "102.0"),
        ("2", "60", "92.0"),
        ("0", "0", "32.0"),
    ]
