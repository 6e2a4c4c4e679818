"""The memory benchmark: what is run in which order, what a stop leaves, and tables made of records alone."""

from __future__ import annotations

import _thread
import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("memory")


def record(memory: ModuleType, task: str, contestant: str, seed: int, final: float, note: str = "") -> object:
    curve = [(50, final / 2), (100, final)]
    return memory.Record(task, contestant, f"v{seed}", seed, 100, curve, [final] * 20, 7.0, note)


def test_main_tasks_come_first_seed_by_seed_and_the_peer_after_the_cells(memory: ModuleType) -> None:
    runs = memory.runs(["masked_pendulum", "t_maze_20"], ["gru", "stack", "sb3_contrib"], [0, 1])
    assert runs == [
        *[("t_maze_20", cell, seed) for seed in (0, 1) for cell in ("gru", "stack")],
        *[("t_maze_20", "sb3_contrib", seed) for seed in (0, 1)],
        *[("masked_pendulum", "gru", seed) for seed in (0, 1)],
    ]


def test_the_whole_benchmark_has_all_cells_on_four_tasks_and_the_peer_on_three(memory: ModuleType) -> None:
    runs = memory.runs(list(memory.TASKS), memory.CONTESTANTS, [0, 1, 2])
    tasks_of = {name: {run[0] for run in runs if run[1] == name} for name in memory.CONTESTANTS}
    assert [len(tasks_of[name]) for name in ("lstm", "min_gru", "stack", "gtrxl", "feed_forward")] == [4] * 5
    assert tasks_of["gru"] == tasks_of["lru"] == set(memory.TASKS)
    assert len(tasks_of["sb3_contrib"]) == 3
    assert [run for run in runs if run[0] == "minigrid_memory_s9"] == [
        ("minigrid_memory_s9", "gru", 0),
        ("minigrid_memory_s9", "lru", 0),
    ]


def test_the_feed_forward_agent_learns_with_the_settings_of_the_experiment(memory: ModuleType) -> None:
    assert memory.overrides(memory.TASKS["masked_cartpole"], "feed_forward") == [
        "agent=ppo",
        "env=masked_cartpole",
        "batch_size=8",
        "agent.steps_per_chunk=256",
        "agent.learner.learning_rate=0.003",
        "agent.learner.discount=0.98",
        "agent.learner.trace_decay=0.95",
        "agent.learner.n_epochs=10",
        "agent.learner.n_minibatches=8",
        "agent.learner.clip_range=0.2",
        "agent.learner.entropy_weight=0.0",
        "total_steps=50000",
    ]
    assert memory.overrides(memory.TASKS["masked_cartpole"], "lru") == [
        "experiment=recurrent_ppo_masked_cartpole",
        "memory=lru",
        "total_steps=50000",
    ]


def test_a_schedule_of_the_experiment_is_one_of_the_feed_forward_agent_too(memory: ModuleType) -> None:
    schedule = "{_target_: bbrl_exp.functional.schedules.Linear, start: 0.02}"
    assert f"agent.learner.entropy_weight={schedule}" in memory.overrides(memory.TASKS["t_maze_20"], "feed_forward")


def test_records_of_an_experiment_as_it_is_and_of_the_peer_are_those_of_all_experiments(memory: ModuleType) -> None:
    learning = memory.learning_records.FOLDER
    assert memory.home("t_maze_20", "gru") == (learning, "recurrent_ppo_t_maze", "bbrl_exp")
    assert memory.home("t_maze_20", "sb3_contrib") == (learning, "recurrent_ppo_t_maze", "stable-baselines3")
    assert memory.home("t_maze_20", "lru") == (memory.FOLDER, "t_maze_20", "lru")
    assert memory.home("t_maze_100", "gru") == (memory.FOLDER, "t_maze_100", "gru")
    for name, task in memory.TASKS.items():
        if memory.home(name, "gru")[0] == learning:
            assert task.env_steps == memory.learning.total_steps(task.experiment)


def test_a_run_that_has_a_record_is_not_repeated(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = []

    def measured(task: str, contestant: str, seed: int) -> object:
        done.append((task, contestant, seed))
        if seed == 1:
            raise RuntimeError("exit code 1 of a command")
        return record(memory, task, contestant, seed, 1.0)

    monkeypatch.setattr(memory, "measure", measured)
    for name, path in (("FOLDER", "memory"), ("TABLE", "memory.md"), ("PICTURE", "memory.png")):
        monkeypatch.setattr(memory, name, tmp_path / path)
    monkeypatch.setattr(memory.learning_records, "FOLDER", tmp_path / "learning")
    monkeypatch.setattr(sys, "argv", ["memory.py", "--tasks", "t_maze_100", "--cells", "gru", "--seeds", "0", "1"])
    for _ in range(2):
        memory.main()
    assert done == [("t_maze_100", "gru", 0), ("t_maze_100", "gru", 1), ("t_maze_100", "gru", 1)]
    assert list(memory.all_records()) == [("t_maze_100", "gru", 0)]
    assert "| T-maze 100, 300k, 1 | 1.00 ×1 | – |" in (tmp_path / "memory.md").read_text(encoding="utf-8")
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_begins_no_further_runs_and_keeps_those_on_their_way(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, interrupted = [], threading.Event()

    def measured(task: str, contestant: str, seed: int) -> object:
        begun.append(seed)
        _thread.interrupt_main()
        assert interrupted.wait(30)
        return record(memory, task, contestant, seed, 1.0)

    monkeypatch.setattr(memory, "measure", measured)
    monkeypatch.setattr(memory, "Event", lambda: interrupted)
    todo = [("t_maze_20", "gru", seed) for seed in range(3)]
    assert [run for run, _ in memory.results(todo, jobs=1, again=True)] == todo[:1]
    assert begun == [0]
    assert capsys.readouterr().out == "interrupted; the same command does the rest\n"


def test_a_table_has_a_row_per_task_and_a_column_per_contestant(memory: ModuleType) -> None:
    runs = [record(memory, "t_maze_20", "gru", seed, final) for seed, final in enumerate((1.0, 0.5, 0.9))]
    runs += [record(memory, "t_maze_20", "lstm", 0, 0.25, "stopped after 15 CPU minutes")]
    runs += [record(memory, "masked_pendulum", "lru", seed, -100.0 * (1 + seed)) for seed in range(2)]
    table = memory.table({(run.pair, run.implementation, run.seed): run for run in runs})
    lines = table.splitlines()
    assert lines[2] == "| task | gru | lstm | min gru | lru | stack | gtrxl | feed forward | sb3 contrib |"
    assert lines[4] == "| T-maze 20, 100k, 1 | 0.80 (0.50 to 1.00) | 0.25 ×1\\* | … | … | … | … | … | … |"
    assert "| masked Pendulum, 200k, -150 | … | – | – | -150 (-200 to -100) ×2 | – | – | – | – |" in lines
    assert "| T-maze 20, 100k, 1 | 0.60 | 0.19\\* | … | … | … | … | … | … |" in lines
    assert "Versions: v0, v1, v2." in lines
    assert "* T-maze 20, lstm, seed 0: stopped after 15 CPU minutes, 100 environment steps." in lines


def test_a_child_that_takes_too_much_cpu_time_is_asked_to_end(memory: ModuleType, tmp_path: Path) -> None:
    endless = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\nwhile True: pass"
    seconds = memory.cpu_seconds_of([sys.executable, "-c", endless], tmp_path, tmp_path / "log", limit=0.2)
    assert 0.2 < seconds < 5


def test_a_child_below_its_limit_is_left_alone_and_one_that_fails_is_an_error(
    memory: ModuleType, tmp_path: Path
) -> None:
    memory.cpu_seconds_of([sys.executable, "-c", "pass"], tmp_path, tmp_path / "log", limit=60)
    with pytest.raises(RuntimeError, match="exit code 143"):
        memory.cpu_seconds_of([sys.executable, "-c", "exit(143)"], tmp_path, tmp_path / "log", limit=60)


def test_a_detached_child_is_in_a_session_of_its_own(memory: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"]
    for is_detached in (True, False):
        memory.cpu_seconds_of(command, tmp_path, tmp_path / "log", is_detached=is_detached)
        assert (tmp_path / "log").read_text(encoding="utf-8") == f"{is_detached}\n"
