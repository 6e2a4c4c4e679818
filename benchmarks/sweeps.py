"""What a sweep costs beside its jobs: time a job, and memory and open files of the process that leads it.

    OMP_NUM_THREADS=1 python benchmarks/sweeps.py [--jobs 200] [--launchers local joblib] [--out FILE]

Each job is a run of the random agent of 256 environment steps that records nothing. The command's wall time includes
its start; the jobs' own is the sum of ``wall_seconds`` in their summaries. What the process that leads the sweep needs
is looked at twice a second, and compared between the first and the last quarter of the jobs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bbrl_exp.records.files import read_json

_SCRIPT = Path(__file__).parents[1] / "scripts" / "run.py"
_JOB = ("agent=random", "total_steps=256", "agent.steps_per_chunk=32", "eval.every=0", "tracking=none")
_OPTIONS = {
    "local": ("launcher=local",),
    "joblib": ("launcher=joblib", "hydra.launcher.n_jobs=2"),
}
_WORKERS = {"local": 1, "joblib": 2}
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass
class Watched:
    """What a process needed, from its start to its end: MiB and open files at each look, with the jobs done by then."""

    n_done: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self, process: psutil.Process, n_done: int) -> None:
        """Adds a look; none where the process has gone."""
        try:
            memory, files = process.memory_info().rss / 2**20, process.num_fds()
        except psutil.NoSuchProcess:
            return
        self.n_done.append(n_done)
        self.memory.append(memory)
        self.files.append(files)

    def quarters(self, values: list[float] | list[int], n_jobs: int) -> tuple[float, float]:
        """The median of the looks in the first and in the last quarter of the jobs."""
        first = [value for value, done in zip(values, self.n_done, strict=True) if 0 < done <= n_jobs / 4]
        last = [value for value, done in zip(values, self.n_done, strict=True) if 3 * n_jobs / 4 <= done < n_jobs]
        return statistics.median(first or [float("nan")]), statistics.median(last or [float("nan")])


def measure(launcher: str, n_jobs: int) -> str:
    """Runs a sweep and gives its row of the table."""
    watched = Watched()
    with tempfile.TemporaryDirectory() as here:
        seeds = ",".join(map(str, range(n_jobs)))
        command = [sys.executable, str(_SCRIPT), "-m", "name=sweep", f"seed={seeds}", *_JOB, *_OPTIONS[launcher]]
        started = time.perf_counter()
        running = subprocess.Popen(command, cwd=here, stdout=subprocess.DEVNULL)
        process = psutil.Process(running.pid)
        sweep = Path(here) / "outputs" / "multirun" / "sweep"
        while running.poll() is None:
            watched.look(process, len(list(sweep.glob("*/summary.json"))))
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        wall = time.perf_counter() - started
        summaries = [read_json(path) for path in sweep.glob("*/summary.json")]
    assert running.returncode == 0
    assert [summary["status"] for summary in summaries] == n_jobs * ["completed"]
    own = sum(summary["wall_seconds"] for summary in summaries)
    overhead = (wall - own / _WORKERS[launcher]) / n_jobs
    memory, files = watched.quarters(watched.memory, n_jobs), watched.quarters(watched.files, n_jobs)
    return (
        f"| {launcher} | {_WORKERS[launcher]} | {n_jobs} | {wall:.0f} | {wall / n_jobs:.2f} | {own / n_jobs:.2f} | "
        f"{overhead:.2f} | {max(watched.memory):.0f} | {memory[0]:.0f} → {memory[1]:.0f} | "
        f"{files[0]:.0f} → {files[1]:.0f} |"
    )


def main() -> None:
    """Prints the table, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="of each sweep")
    parser.add_argument("--launchers", nargs="+", choices=list(_OPTIONS), default=list(_OPTIONS))
    parser.add_argument("--out", type=Path, help="file to write the table to")
    args = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS")
    setting = f"OMP_NUM_THREADS={threads} " if threads else ""
    lines = [
        f"`{setting}python benchmarks/sweeps.py --jobs {args.jobs}`:",
        "",
        "| launcher | at once | jobs | wall, s | wall a job, s | a job's own, s | overhead a job, s | peak memory, MiB "
        "| memory, first → last quarter, MiB | open files, first → last quarter |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(measure(launcher, args.jobs) for launcher in args.launchers),
        "",
        "Wall is that of the whole command, start included; a job's own is its `wall_seconds`; overhead is the wall",
        "without the jobs' own share of it. Memory and files are those of the sweep's process, without its jobs'.",
    ]
    text = "\n".join(lines) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
