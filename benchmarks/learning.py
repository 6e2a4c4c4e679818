"""Tuned pairs over seeds, beside the peer on the same budget: returns, curves, steps to a threshold, CPU seconds.

    OMP_NUM_THREADS=1 python benchmarks/learning.py [pair …] [--seeds 0 1 2 3 4] [--again] [--table]

A pair is an experiment ``conf/experiment/<agent>_<env>.yaml``, run as ``python scripts/run.py experiment=<pair>
seed=<seed>`` with twenty evaluations along training; of the longest only the beginning is run (``SHORTENED``). A run
that has a record in ``benchmarks/results/learning`` is not repeated; the table ``benchmarks/results/learning.md`` is
rewritten after every run, the headers of the experiments and the pages of the learners at the end.
``learning_peer.py`` adds the peer's records.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from learning_headers import with_expectation
from learning_pages import page_of, with_results
from learning_records import (
    EVALUATION_EPISODES,
    EVALUATION_SEED,
    EVALUATIONS,
    FINAL_EPISODES,
    FOLDER,
    SHORTENED,
    Record,
    append_record,
    cpu_seconds_of,
    read_records,
)
from learning_table import table
from omegaconf import OmegaConf

from bbrl_exp.records.files import read_json
from bbrl_exp.records.layout import CONFIG, SUMMARY

IMPLEMENTATION = "bbrl_exp"
ROOT = Path(__file__).parent.parent
TABLE = FOLDER.with_suffix(".md")
EXPERIMENTS = ROOT / "conf" / "experiment"
PAGES = ROOT / "docs" / "learners"
# Experiments that learn nothing, and those that take most of a day.
NOT_MEASURED = ("random_", "ppo_atari_")


def learning_pairs() -> list[str]:
    """The experiments that are measured."""
    return sorted(file.stem for file in EXPERIMENTS.glob("*.yaml") if not file.stem.startswith(NOT_MEASURED))


def total_steps(pair: str) -> int:
    """The budget of the benchmark: that of ``SHORTENED``, of the experiment, or of the root configuration."""
    if pair in SHORTENED:
        return SHORTENED[pair]
    files = (EXPERIMENTS.parent / "config.yaml", EXPERIMENTS / f"{pair}.yaml")
    return int(OmegaConf.select(OmegaConf.merge(*(OmegaConf.load(file) for file in files)), "total_steps"))


def commit() -> str:
    """The checkout's commit, with a ``+`` where sources or configurations differ from it in more than comments."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout

    changes = git("diff", "HEAD", "--ignore-matching-lines=^#", "--", "src", "conf")
    changes += git("ls-files", "--others", "--exclude-standard", "--", "src", "conf")
    return git("rev-parse", "--short", "HEAD").strip() + ("+" if changes else "")


def overrides(pair: str, seed: int) -> list[str]:
    """What follows ``scripts/run.py`` on the command line."""
    return [
        f"experiment={pair}",
        f"seed={seed}",
        "name=run",
        *([f"total_steps={SHORTENED[pair]}"] if pair in SHORTENED else []),
        f"eval.every={total_steps(pair) // EVALUATIONS}",
        f"eval.episodes={EVALUATION_EPISODES}",
        f"eval.final_episodes={FINAL_EPISODES}",
        f"eval.seed={EVALUATION_SEED}",
    ]


def measure(pair: str, seed: int) -> Record:
    """The record of one run, made in its own process and folder.

    Raises:
        RuntimeError: the run failed.
    """
    version = commit()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, str(ROOT / "scripts" / "run.py"), *overrides(pair, seed)]
        cpu_seconds = cpu_seconds_of(command, folder, folder / "log")
        return record_of(folder / "outputs" / "run", pair, IMPLEMENTATION, version, cpu_seconds)


def record_of(run_folder: Path, pair: str, implementation: str, version: str, cpu_seconds: float) -> Record:
    """The record of a finished run."""
    summary = read_json(run_folder / SUMMARY)
    return Record(
        pair=pair,
        implementation=implementation,
        version=version,
        seed=OmegaConf.load(run_folder / CONFIG)["seed"],
        env_steps=summary["env_steps"],
        curve=[(evaluation["env_steps"], evaluation["return_mean"]) for evaluation in summary["evaluations"]],
        final_returns=summary["eval_returns"],
        cpu_seconds=round(cpu_seconds, 1),
    )


def write_table() -> None:
    """Writes ``TABLE`` from the records."""
    command = "OMP_NUM_THREADS=1 python benchmarks/learning.py"
    peer = "OMP_NUM_THREADS=1 python benchmarks/learning_peer.py"
    TABLE.write_text(f"`{command}`, and `{peer}`:\n\n{table(read_records())}", encoding="utf-8")


def write_headers() -> None:
    """Writes what the records say into the headers of the experiments."""
    records = read_records()
    for pair in learning_pairs():
        file = EXPERIMENTS / f"{pair}.yaml"
        own = [record for key, record in records.items() if key[:2] == (pair, IMPLEMENTATION)]
        file.write_text(with_expectation(file.read_text(encoding="utf-8"), pair, own), encoding="utf-8")


def write_pages() -> None:
    """Writes what the records say into the pages of the learners."""
    records = read_records()
    for name in sorted({page_of(pair) for pair in learning_pairs()}):
        file = PAGES / f"{name}.md"
        file.write_text(
            with_results(file.read_text(encoding="utf-8"), name, learning_pairs(), records), encoding="utf-8"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", metavar="pair", help="experiments (all that learn)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--again", action="store_true", help="repeat runs that have a record")
    parser.add_argument("--table", action="store_true", help="only write the table, the headers and the pages")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.pairs) - set(learning_pairs()))
    if unknown:
        parser.error(f"unknown pair {', '.join(unknown)}; known: {', '.join(learning_pairs())}")
    for pair in [] if arguments.table else arguments.pairs or learning_pairs():
        for seed in arguments.seeds:
            if (pair, IMPLEMENTATION, seed) in read_records() and not arguments.again:
                continue
            try:
                record = measure(pair, seed)
            except RuntimeError as error:
                print(f"{pair} seed {seed}: {error}", flush=True)
                continue
            append_record(record)
            write_table()
            print(
                f"{pair} seed {seed}: final {record.final:.1f}, curve {record.curve_mean:.1f}, "
                f"{record.cpu_seconds:.0f} CPU s",
                flush=True,
            )
    write_table()
    write_headers()
    write_pages()
    print(table(read_records()))


if __name__ == "__main__":
    main()
