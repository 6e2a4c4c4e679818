"""Programs written for BBRL, run by BBRL 1.0.1 and by ``bbrl_exp.compat``: do they learn the same, and how fast?

    OMP_NUM_THREADS=1 python benchmarks/bbrl_programs.py --bbrl <python> [--programs dqn td3] [--scale 1] [--out <file>]

``--bbrl`` names the interpreter of an environment that has BBRL (the extra ``bench``; the one that runs this file, by
default). The programs are in ``bbrl_programs_labs.py``. About ten times during its training the policy of each of them
is evaluated on the same 20 episodes, deterministically. The tables show the last evaluation and the mean of all, ± the
standard deviation over the seeds, and environment steps per CPU second of training, evaluations left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SEEDS = {"dqn": 10, "ppo_lstm": 6}
OTHER_SEEDS = 3
EPISODES = 20
SIDES = ("bbrl", "compat")


def run_here(program: str, seed: int, scale: float, uses_compat: bool) -> None:
    """Runs a program in this process and prints a line of JSON."""
    import torch

    if uses_compat:
        from bbrl_exp import compat

        compat.install()
    from bbrl_programs_labs import PROGRAMS, evaluate

    torch.set_num_threads(1)
    train, env_id, wrappers, budget = PROGRAMS[program]
    torch.manual_seed(seed)
    np.random.seed(seed)
    scores, n_steps, seconds, begun = [], 0, 0.0, time.process_time()
    for steps, policy in train(seed, round(scale * budget)):
        seconds += time.process_time() - begun
        n_steps = steps
        scores.append(evaluate(policy, env_id, wrappers, EPISODES))
        begun = time.process_time()
    result = {"program": program, "seed": seed, "scores": scores, "env_steps": n_steps, "cpu_seconds": seconds}
    print(json.dumps(result), flush=True)


def run_elsewhere(python: str, program: str, seed: int, scale: float, side: str, out: Path) -> None:
    """Runs a program in a process of ``python`` and appends what it prints to ``out``."""
    command = [python, __file__, "--here", program, "--side", side, "--scale", str(scale), "--seed", str(seed)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result = {"side": side, **json.loads(found)}
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(f"{side} {program} {seed}: {result['scores'][-1]:.0f}", flush=True)


def tables(records: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown: what was learned, and how fast."""
    learning = [
        "| program | seeds | env steps | last: bbrl 1.0.1 | last: compat | mean: bbrl 1.0.1 | mean: compat |",
        "|---|---|---|---|---|---|---|",
    ]
    speed = ["| program | env steps/s: bbrl 1.0.1 | env steps/s: compat | |", "|---|---|---|---|"]
    for program in dict.fromkeys(record["program"] for record in records):
        of_sides = [[r for r in records if (r["program"], r["side"]) == (program, side)] for side in SIDES]
        speeds = [np.median([r["env_steps"] / r["cpu_seconds"] for r in found]) for found in of_sides]
        speed.append(f"| {program} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {speeds[1] / speeds[0]:.2f}× |")
        last = [[r["scores"][-1] for r in found] for found in of_sides]
        mean = [[np.mean(r["scores"]) for r in found] for found in of_sides]
        shown = " | ".join(f"{np.mean(values):.0f} ± {np.std(values, ddof=1):.0f}" for values in (*last, *mean))
        steps = max(r["env_steps"] for r in of_sides[0])
        learning.append(f"| {program} | {len(last[0])} | {steps:,} | {shown} |")
    return "\n".join([*learning, "", *speed])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bbrl", default=sys.executable, help="the interpreter that has bbrl 1.0.1")
    parser.add_argument("--programs", nargs="*", help="which programs; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the environment steps")
    parser.add_argument("--seeds", type=int, help="seeds per program")
    parser.add_argument("--records", type=Path, default=Path("bbrl_programs.jsonl"), help="results are appended here")
    parser.add_argument("--out", type=Path, help="where to write the table")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.here, options.seed, options.scale, options.side == "compat")
        return
    programs = options.programs or ["dqn", "td3", "a2c", "ppo_clip", "reinforce", "ppo_lstm"]
    for program in programs:
        for seed in range(options.seeds or SEEDS.get(program, OTHER_SEEDS)):
            for side in SIDES:  # in turn, so that what else runs on the machine disturbs both alike
                python = options.bbrl if side == "bbrl" else sys.executable
                run_elsewhere(python, program, seed, options.scale, side, options.records)
    records = [json.loads(line) for line in options.records.read_text(encoding="utf-8").splitlines()]
    text = f"{tables(records)}\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
