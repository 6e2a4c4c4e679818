"""The sinks of docs/sinks.md: added by one override, resumed as if never stopped, swept, harmless where they fail."""

import json
from pathlib import Path

import pytest
from pages import Page, job_summaries, run, summary

PAGE = Page.read("sinks.md")
ONE, SWEEP, RAISES, HANGS = PAGE.commands
SHORT = ("total_steps=2048", "batch_size=2", "agent.steps_per_chunk=64", "eval.every=1000", "eval.episodes=2")
MORE = ("eval.final_episodes=2", "tracking.metrics_every=200", "checkpoint.every=512")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files and a run, ``straight``."""
    folder = tmp_path_factory.mktemp("reader")
    PAGE.write_files(folder)
    run(folder, ONE, *SHORT, *MORE, "name=straight")
    return folder


def records(path: Path) -> list[dict[str, object]]:
    """The lines of the page's file, but for the run's id and what was measured on the clock."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if not {"run", "time/steps_per_second"} & set(line)]


def test_the_page_s_sink_has_every_episode_and_number_and_resumes_as_if_never_stopped(folder: Path) -> None:
    for stop in (["pause_after=1024"], []):
        run(folder, ONE, *SHORT, *MORE, "name=stopped", *stop)
    straight, stopped = (records(folder / "outputs" / name / "records.jsonl") for name in ("straight", "stopped"))
    assert stopped == straight
    assert straight[-1] == {"status": "completed"}
    assert sum("episode_return" in line for line in straight) == summary(folder, "straight")["episodes"] > 10
    assert [line["env_steps"] for line in straight if "eval/return_mean" in line] == [1024, 2048]


def test_every_job_of_a_sweep_has_its_sink(folder: Path) -> None:
    run(folder, SWEEP, *SHORT, "eval.final_episodes=0", "name=both")
    assert [job["status"] for job in job_summaries(folder, "both")] == ["completed", "completed"]
    for agent in ("ppo", "random"):
        path = folder / "outputs" / "multirun" / "both" / f"agent={agent}" / "mine.jsonl"
        first = json.loads(path.read_text().splitlines()[0])
        assert (first["group"], first["agent"], first["seed"]) == ("both", agent, 0)


@pytest.mark.parametrize(
    ("command", "warning"),
    [
        (
            RAISES,
            "has failed: ConnectionError: tracker.example does not answer (faulty.py:10); the run continues without it",
        ),
        (HANGS, "has not finished 5 s after the end of the run; its records may be incomplete"),
    ],
)
def test_a_sink_that_raises_or_hangs_costs_the_run_one_warning(folder: Path, command: str, warning: str) -> None:
    expected = f"warning: sink 'remote' {warning}"
    name = "raises" if command == RAISES else "hangs"
    ended = run(folder, command, *SHORT, *MORE, f"name={name}")
    log = (folder / "outputs" / name / "run.log").read_text()
    assert (ended.stdout.splitlines().count(expected), log.splitlines().count(expected)) == (1, 1)
    rows = [
        [row for row in (folder / "outputs" / each / "metrics.csv").read_text().splitlines() if ",time/" not in row]
        for each in ("straight", name)
    ]
    assert rows[0] == rows[1]
    assert summary(folder, name)["status"] == "completed"
