"""Which memory learns which task: every cell under PPO, PPO without a memory, and sb3-contrib's RecurrentPPO.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--tasks …] [--cells …] [--seeds 0 1 2] [--jobs 1] [--again] [--table]

All cells learn the four main tasks, GRU and LRU the others, with the settings of the experiment that a task names in
``memory_tasks.py``. A run that has a record is not repeated, so that the command continues where it was stopped. The
records are in ``benchmarks/results/memory``; those of an experiment as it is, which has a GRU, and of the peer are
those of ``learning.py`` and ``learning_peer.py``, in ``benchmarks/results/learning``, from which ``learning.py
--table`` writes the headers of the experiments. The main tasks come first, one seed after the other. Ctrl-C begins no
further runs, and waits for those that are on their way. A run that takes more CPU time than its task allows is stopped;
its record notes it, and holds what its last policy returns. The table ``benchmarks/results/memory.md`` is rewritten
after every run, the plot ``docs/images/memory.png`` at the end. Needs the extras popgym and minigrid, and bench for the
peer.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

import learning
import learning_peer
import learning_records
import torch
from learning import ROOT, commit
from learning_records import (
    EVALUATION_EPISODES,
    EVALUATION_SEED,
    EVALUATIONS,
    FINAL_EPISODES,
    Record,
    append_record,
    cpu_seconds_of,
    read_records,
)
from memory_plot import picture
from memory_table import SEEDS, table
from memory_tasks import CONTESTANTS, DEFAULT, PEER, TASKS, overrides

import bbrl_exp
from bbrl_exp.records.files import read_json
from bbrl_exp.records.layout import SUMMARY

FOLDER = Path(__file__).parent / "results" / "memory"
TABLE = FOLDER.with_suffix(".md")
PICTURE = ROOT / "docs" / "images" / "memory.png"

Run = tuple[str, str, int]
"""Task, contestant, seed."""


def home(name: str, contestant: str) -> tuple[Path, str, str]:
    """Where the records of a task and a contestant are: folder, pair and implementation."""
    task = TASKS[name]
    if contestant == PEER:
        return learning_records.FOLDER, task.experiment, learning_peer.IMPLEMENTATION
    if contestant == DEFAULT and not task.overrides:
        return learning_records.FOLDER, task.experiment, learning.IMPLEMENTATION
    return FOLDER, name, contestant


def all_records(seeds: Sequence[int] = range(SEEDS)) -> dict[Run, Record]:
    """The records of the benchmark, wherever they are."""
    read = {folder: read_records(folder) for folder in (FOLDER, learning_records.FOLDER)}
    found = {}
    for run in runs(list(TASKS), CONTESTANTS, seeds):
        folder, pair, implementation = home(*run[:2])
        record = read[folder].get((pair, implementation, run[2]))
        if record is not None:
            found[run] = record
    return found


def runs(tasks: Sequence[str], contestants: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """The runs of the campaign in order of importance: main tasks first, among these seed by seed, the peer last."""
    chosen = [
        (name, contestant, seed)
        for name in tasks
        for contestant in TASKS[name].contestants
        for seed in seeds[: TASKS[name].n_seeds]
        if contestant in contestants
    ]
    names = list(TASKS)

    def importance(run: Run) -> tuple[bool, bool, int, int, int]:
        name, contestant, seed = run
        return not TASKS[name].is_main, contestant == PEER, seed, names.index(name), CONTESTANTS.index(contestant)

    return sorted(chosen, key=importance)


def measure(name: str, contestant: str, seed: int) -> Record:
    """The record of one run, made in its own process and folder.

    Raises:
        RuntimeError: the run failed.
    """
    task = TASKS[name]
    if contestant == PEER:
        return learning_peer.measure(task.experiment, seed, 60 * task.cpu_minutes, is_detached=True)
    version = commit()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [
            sys.executable,
            str(ROOT / "scripts" / "run.py"),
            *overrides(task, contestant),
            f"seed={seed}",
            "name=run",
            f"eval.every={task.env_steps // EVALUATIONS}",
            f"eval.episodes={EVALUATION_EPISODES}",
            f"eval.final_episodes={FINAL_EPISODES}",
            f"eval.seed={EVALUATION_SEED}",
        ]
        cpu_seconds = cpu_seconds_of(command, folder, folder / "log", 60 * task.cpu_minutes, is_detached=True)
        run_folder = folder / "outputs" / "run"
        summary = read_json(run_folder / SUMMARY)
        is_stopped = summary["status"] == "interrupted"
        returns = bbrl_exp.evaluate(run_folder).returns if is_stopped else summary["eval_returns"]
    _, pair, implementation = home(name, contestant)
    return Record(
        pair=pair,
        implementation=implementation,
        version=version,
        seed=seed,
        env_steps=summary["env_steps"],
        curve=[(evaluation["env_steps"], evaluation["return_mean"]) for evaluation in summary["evaluations"]],
        final_returns=returns,
        cpu_seconds=round(cpu_seconds, 1),
        note=f"stopped after {task.cpu_minutes:g} CPU minutes" if is_stopped else "",
    )


def results(todo: Sequence[Run], jobs: int, again: bool) -> Iterator[tuple[Run, Record | RuntimeError]]:
    """What came of each run, as they end; Ctrl-C begins no more, and those that run still come out.

    Args:
        todo: the runs, in their order.
        jobs: how many run at a time.
        again: whether those that have a record when their turn comes, from another process say, are run all the same.
    """
    waiting, is_interrupted = list(reversed(todo)), Event()
    running: dict[Future[Record], Run] = {}
    before = signal.signal(signal.SIGINT, lambda *_: is_interrupted.set())
    with ThreadPoolExecutor(jobs) as pool:
        while running or (waiting and not is_interrupted.is_set()):
            while waiting and len(running) < jobs and not is_interrupted.is_set():
                run = waiting.pop()
                if not again and run in all_records([run[2]]):
                    continue
                running[pool.submit(measure, *run)] = run
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                run = running.pop(future)
                error = future.exception()
                if error is not None and not isinstance(error, RuntimeError):
                    raise error
                yield run, future.result() if error is None else error
    signal.signal(signal.SIGINT, before)
    if waiting:
        print("interrupted; the same command does the rest", flush=True)


def write_table() -> None:
    """Writes ``TABLE`` from the records."""
    command = "OMP_NUM_THREADS=1 python benchmarks/memory.py"
    TABLE.write_text(f"`{command}`:\n\n{table(all_records())}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="task", help=", ".join(TASKS))
    parser.add_argument(
        "--cells",
        nargs="+",
        choices=CONTESTANTS,
        default=list(CONTESTANTS),
        metavar="cell",
        help=", ".join(CONTESTANTS),
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--again", action="store_true", help="repeat runs that have a record")
    parser.add_argument("--table", action="store_true", help="only write the table and the plot")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    todo = [] if arguments.table else runs(arguments.tasks, arguments.cells, arguments.seeds)
    for (name, contestant, seed), result in results(todo, arguments.jobs, arguments.again):
        if isinstance(result, RuntimeError):
            print(f"{name} {contestant} seed {seed}: {result}", flush=True)
            continue
        append_record(result, home(name, contestant)[0])
        write_table()
        said = f"final {result.final:.2f}, curve {result.curve_mean:.2f}, {result.cpu_seconds:.0f} CPU s {result.note}"
        print(f"{name} {contestant} seed {seed}: {said}".rstrip(), flush=True)
    write_table()
    picture(all_records()).savefig(PICTURE)


if __name__ == "__main__":
    main()
