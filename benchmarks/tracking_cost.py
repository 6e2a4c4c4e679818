"""What tracking costs a run: the random agent in CartPole with default tracking and with none, in turn.

    python benchmarks/tracking_cost.py [--rounds 9] [--total-steps 100000] [--batch-size 8]

Prints steps per second of both and the share of a run's time that default tracking takes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile

from bbrl_exp.runs.run import run


def steps_per_second(tracking: str, total_steps: int, batch_size: int) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        result = run([f"tracking={tracking}", f"total_steps={total_steps}", f"batch_size={batch_size}"])
    assert result.summary.steps_per_second is not None
    return result.summary.steps_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--total-steps", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pairs = [
            [
                steps_per_second(tracking, arguments.total_steps, arguments.batch_size)
                for tracking in ("none", "default")
            ]
            for _ in range(arguments.rounds + 1)
        ][1:]
        os.chdir("/")
    without, with_tracking = (statistics.median(values) for values in zip(*pairs, strict=True))
    share = statistics.median(1 - tracked / bare for bare, tracked in pairs)
    print(f"tracking=none     {without:10,.0f} steps/s")
    print(f"tracking=default  {with_tracking:10,.0f} steps/s")
    print(f"share of tracking {share:10.1%} (median of {arguments.rounds} pairs)")


if __name__ == "__main__":
    main()
