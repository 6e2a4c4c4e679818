"""The commands of docs/trackers.md: runs that are sent to trackers, at once or later, and the sink for MLflow."""

import csv
import json
import sqlite3
from pathlib import Path

import pytest
from pages import Page, job_summaries, run, summary

PAGE = Page.read("trackers.md")
WANDB, MIRROR, SWEEP, MIRROR_ALL, MLFLOW = PAGE.commands
SHORT = ("total_steps=512", "batch_size=2", "agent.steps_per_chunk=32", "eval.final_episodes=2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    PAGE.write_files(tmp_path)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def metrics(folder: Path) -> list[tuple[int, str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return sorted((int(row["env_steps"]), row["name"], float(row["value"])) for row in csv.DictReader(file))


def test_runs_and_sweeps_are_sent_at_once_and_later(folder: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("trackio")
    run(folder, WANDB, *SHORT)
    sent = run(folder, MIRROR).stdout
    assert sent.startswith(f"outputs/first: {len(metrics(folder / 'outputs' / 'first'))} numbers and 1 picture sent; ")
    assert sent.endswith("TRACKIO_DIR=outputs/first/trackio trackio show --project bbrl_exp\n")
    run(folder, SWEEP, *SHORT)
    assert [job["status"] for job in job_summaries(folder, "seeds")] == ["completed", "completed"]
    assert (folder / "trackio" / "bbrl_exp.db").exists()
    lines = run(folder, MIRROR_ALL).stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "outputs/first",
        *(f"outputs/multirun/seeds/seed={seed}" for seed in (0, 1)),
    ]
    assert all("numbers and 1 picture sent" in line for line in lines[1:])
    assert list((folder / "home").iterdir()) == []


def test_the_page_s_sink_has_the_run_in_mlflow_and_continues_it(folder: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    run(folder, MLFLOW, *SHORT, "pause_after=256")
    ended = run(folder, MLFLOW, *SHORT)
    assert "warning" not in ended.stdout
    assert ended.stderr == ""
    database = sqlite3.connect(folder / "mlflow.db")
    try:
        points = database.execute("SELECT step, key, value FROM metrics WHERE key NOT LIKE 'final/%'").fetchall()
        results = dict(database.execute("SELECT key, value FROM metrics WHERE key LIKE 'final/%'").fetchall())
        runs = database.execute("SELECT name, status FROM runs").fetchall()
        parameters = dict(database.execute("SELECT key, value FROM params").fetchall())
    finally:
        database.close()
    assert runs == [("third", "FINISHED")]
    assert (parameters["agent"], parameters["seed"]) == ("ppo", "0")
    assert results["final/return_mean"] == summary(folder, "third")["return_mean"]
    expected = [point for point in metrics(folder / "outputs" / "third") if point[1].startswith("train/")]
    assert sorted(point for point in points if point[1].startswith("train/")) == expected != []
    assert json.loads((folder / "outputs" / "third" / "summary.json").read_text())["status"] == "completed"
