"""Learning in the fast modes: tuned pairs with ``compile=true`` and side by side, against the committed results.

    OMP_NUM_THREADS=1 python benchmarks/learning_modes.py [pair …] [--modes compile side_by_side] [--seeds 0 1 2 3 4]
        [--again]

The runs are those of ``benchmarks/learning.py``, evaluations included, with the mode added; side by side, all seeds
train in one process, and each has its share of the CPU seconds. A run that has a record in
``benchmarks/results/learning_modes`` is not repeated. The table ``benchmarks/results/learning_modes.md`` shows them
below the rows of the ordinary runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from learning import IMPLEMENTATION, commit, overrides, record_of
from learning_records import FOLDER, Record, append_record, cpu_seconds_of, read_records
from learning_table import rows

PAIRS = ("dqn_cartpole", "ppo_cartpole", "sac_pendulum")
MODES: Mapping[str, str] = {"compile": "compile=true", "side_by_side": "launcher=side_by_side"}
NOT_STACKED = ("sac_pendulum",)
MODE_FOLDER = FOLDER.with_name("learning_modes")
TABLE = MODE_FOLDER.with_suffix(".md")
RUN = Path(__file__).parent.parent / "scripts" / "run.py"


def name_of(mode: str) -> str:
    """The implementation of a mode's records."""
    return f"{IMPLEMENTATION} {MODES[mode]}"


def measure(pair: str, mode: str, seeds: Sequence[int]) -> list[Record]:
    """A record for each seed: of one process each with ``compile=true``, of one for all side by side.

    Raises:
        RuntimeError: a run failed.
    """
    version = commit()
    if mode == "compile":
        commands = [([*overrides(pair, seed), MODES[mode]], [seed]) for seed in seeds]
    else:
        common = [override for override in overrides(pair, 0) if not override.startswith(("seed=", "name="))]
        sweep = ["-m", *common, f"seed={','.join(map(str, seeds))}", MODES[mode]]
        commands = [(sweep, list(seeds))]
    records = []
    for typed, trained in commands:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            seconds = cpu_seconds_of([sys.executable, str(RUN), *typed], folder, folder / "log") / len(trained)
            summaries = sorted(folder.glob("outputs/**/summary.json"))
            assert len(summaries) == len(trained), summaries
            records += [record_of(file.parent, pair, name_of(mode), version, seconds) for file in summaries]
    return records


def write_table() -> str:
    """Writes ``TABLE`` from the records; returns its text."""
    ordinary = {key: record for key, record in read_records().items() if key[1] == IMPLEMENTATION}
    of_modes = read_records(MODE_FOLDER)
    pairs = {pair for pair, _, _ in of_modes}
    shown = {key: record for key, record in ordinary.items() if key[0] in pairs} | of_modes
    command = "OMP_NUM_THREADS=1 python benchmarks/learning_modes.py"
    text = f"`{command}`; the columns are those of learning.md:\n\n{rows(shown)}\n"
    TABLE.write_text(text, encoding="utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", metavar="pair", help=f"experiments ({', '.join(PAIRS)})")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--again", action="store_true", help="repeat runs that have a record")
    arguments = parser.parse_args()
    for pair in arguments.pairs or PAIRS:
        for mode in arguments.modes:
            if mode == "side_by_side" and pair in NOT_STACKED:
                continue
            done = read_records(MODE_FOLDER)
            seeds = [seed for seed in arguments.seeds if arguments.again or (pair, name_of(mode), seed) not in done]
            if not seeds:
                continue
            for record in measure(pair, mode, seeds):
                append_record(record, MODE_FOLDER)
                print(
                    f"{pair} {mode} seed {record.seed}: final {record.final:.1f}, curve {record.curve_mean:.1f}, "
                    f"{record.cpu_seconds:.0f} CPU s",
                    flush=True,
                )
    print(write_table())


if __name__ == "__main__":
    main()
