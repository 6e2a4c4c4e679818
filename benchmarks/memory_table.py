"""The tables of the memory benchmark: task × cell, what a run returns, how fast it learns, how long it takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from learning_records import EVALUATION_EPISODES, EVALUATIONS, FINAL_EPISODES, Record
from memory_tasks import CONTESTANTS, TASKS

Records = Mapping[tuple[str, str, int], Record]
SEEDS = 3
_LEGEND = f"""\
Rows are tasks, with the environment steps of a run and the best return: the optimum, or what counts as solved where \
none is known. Columns are cells under recurrent PPO, PPO without a memory, and sb3-contrib's RecurrentPPO, which has \
an LSTM. In a row everybody has the settings of the experiment that `benchmarks/memory_tasks.py` names, tuned \
with GRU and LSTM.

* **Final return**: the last policy, deterministic, mean of {FINAL_EPISODES} episodes from one fixed list of starts; \
mean over {SEEDS} seeds and in brackets the worst and the best of them; ×1, ×2: of so many seeds only.
* **Along training**: mean of the {EVALUATIONS} evaluations of {EVALUATION_EPISODES} episodes, mean over seeds.
* **CPU seconds**: of the whole process on one thread, evaluations and start-up included, mean over seeds. Runs shared \
the machine with other loads, which lengthens them; speeds are compared in recurrent_speed.md.
* \\*: a run was stopped at its limit of CPU time; –: not part of the benchmark; …: not measured yet.
"""


def number(value: float) -> str:
    """Two decimals for small returns, none for large ones."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def final(records: Sequence[Record]) -> str:
    """Mean, worst and best final return; how many seeds where some are missing, and whether a run was stopped."""
    finals = [record.final for record in records]
    spread = f" ({number(min(finals))} to {number(max(finals))})" if len(finals) > 1 else ""
    seeds = f" ×{len(finals)}" if len(finals) < SEEDS else ""
    return f"{number(statistics.mean(finals))}{spread}{seeds}{stopped(records)}"


def along(records: Sequence[Record]) -> str:
    """The mean of the evaluations along training."""
    return number(statistics.mean(record.curve_mean for record in records)) + stopped(records)


def seconds(records: Sequence[Record]) -> str:
    """CPU seconds of a run."""
    return f"{statistics.mean(record.cpu_seconds for record in records):.0f}{stopped(records)}"


def stopped(records: Sequence[Record]) -> str:
    """A mark where a run took too long."""
    return "\\*" if any(record.note for record in records) else ""


def rows(records: Records, entry: Callable[[Sequence[Record]], str]) -> str:
    """One table: an entry for each task and contestant."""
    lines = [
        f"| task | {' | '.join(name.replace('_', ' ') for name in CONTESTANTS)} |",
        "|---" * (1 + len(CONTESTANTS)) + "|",
    ]
    for name, task in TASKS.items():
        cells = []
        for contestant in CONTESTANTS:
            own = [record for key, record in records.items() if key[:2] == (name, contestant)]
            missing = "…" if contestant in task.contestants else "–"
            cells.append(entry(own) if own else missing)
        lines.append(f"| {task.title}, {task.env_steps // 1000}k, {task.best:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(records: Records) -> str:
    """All tables, what they mean, and which versions the records are from."""
    versions = sorted({record.version for record in records.values()})
    notes = [
        f"* {TASKS[name].title}, {contestant}, seed {seed}: {record.note}, {record.env_steps:,} environment steps."
        for (name, contestant, seed), record in records.items()
        if record.note
    ]
    parts = [
        "Final return:",
        rows(records, final),
        "Along training:",
        rows(records, along),
        "CPU seconds:",
        rows(records, seconds),
        _LEGEND,
        f"Versions: {', '.join(versions)}." if versions else "",
        "\n".join(notes),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"
