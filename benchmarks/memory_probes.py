"""Every memory cell with every learner on the probe of memory, whose values are known: a table of the errors.

    OMP_NUM_THREADS=1 python benchmarks/memory_probes.py

An episode shows a cue in its first row and pays for the action that it asks for in its third. The table has the largest
error of the values of all states, as a part of the true ones, the largest distance of an action from the best one, and
the CPU seconds of the run. The settings are those of ``tests/probes/recurrent_grid.py``, of which the tests run a part.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "probes"))

from harness import shown  # noqa: E402
from recurrent_grid import CELLS, DISCOUNT, LEARNERS, PAIRS  # noqa: E402

from bbrl_exp.envs.probes import probe_states  # noqa: E402

TABLE = ROOT / "benchmarks" / "results" / "memory_probes.md"


def measured(cell: str, learner: str) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    start = time.process_time()
    trained, values = LEARNERS[learner](CELLS[cell])
    seconds = time.process_time() - start
    value_error = action_error = 0.0
    for state in probe_states(trained.env_id, DISCOUNT):
        workspace = shown(trained, state)
        with torch.no_grad():
            error = (values(workspace) - state.value).abs().max().item()
        value_error = max(value_error, error / abs(state.value))
        if state.best_action is not None:
            action_error = max(action_error, (workspace["action"][-1] - state.best_action).abs().max().item())
    return f"| {cell} | {learner} | {100 * value_error:.2f} % | {action_error:.2f} | {seconds:.1f} |"


def main() -> None:
    torch.set_num_threads(1)
    lines = [
        "`OMP_NUM_THREADS=1 python benchmarks/memory_probes.py`",
        "",
        "| cell | learner | largest error of a value | largest error of an action | CPU s |",
        "|---|---|---|---|---|",
    ]
    for pair in PAIRS:
        lines.append(measured(*pair))
        print(lines[-1], flush=True)
    lines += [
        "",
        "Actions of SAC are numbers in [-1, 1], those of the other learners 0 or 1. Learners with a replay buffer",
        "refuse GTrXL, whose states are too large to keep.",
    ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
