"""Memory cells over whole sequences: in parallel against step by step, and the scan against the loop.

    OMP_NUM_THREADS=1 python benchmarks/memory_speed.py [--rounds 7] [--out <file>]

Outputs of 8 sequences and the gradients of all parameters, 64 units, an episode starting in one row of 50; one thread,
medians of seconds of processor time. All contestants of a length run in turn in every round, and ratios are medians of
those of each round. "Step by step" is what `bbrl_exp.nn.cell.Cell.unroll` does for a cell that defines only `step`.

The second table is of the recurrence alone, forward and back: `linear_scan` by its scan and by its loop, which is
numpy's, with the gradient written out. The cells use the faster of the two, chosen by size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.nn.cell import Cell
from bbrl_exp.nn.gated_transformer import GTrXL
from bbrl_exp.nn.lru import LRU
from bbrl_exp.nn.min_gru import MinGRU
from bbrl_exp.nn.observation_stack import ObservationStack
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.nn.scan import Method, linear_scan

N_INPUTS, N_HIDDEN, BATCH_SIZE = 8, 64, 8
LENGTHS = (16, 32, 64, 128, 256, 1024)
LONGEST_STEPPED = 256  # for cells other than those with a scan: seconds per round
CELLS: dict[str, Callable[..., Cell]] = {
    "GRU": GRU,
    "LSTM": LSTM,
    "minGRU": MinGRU,
    "LRU": LRU,
    "stack of 4": ObservationStack,
    "GTrXL, 1 layer, window 32": GTrXL,
}
# Name of a recurrence → whether it is complex and its factors constant, and the numbers of a row, B × N.
RECURRENCES: dict[str, tuple[bool, int, int]] = {
    "minGRU's, 2 × 64": (False, 2, 64),
    "minGRU's, 4 × 64": (False, 4, 64),
    "minGRU's, 8 × 64": (False, 8, 64),
    "minGRU's, 16 × 64": (False, 16, 64),
    "minGRU's, 64 × 128": (False, 64, 128),
    "LRU's, 2 × 64": (True, 2, 64),
    "LRU's, 4 × 64": (True, 4, 64),
    "LRU's, 8 × 64": (True, 8, 64),
    "LRU's, 64 × 128": (True, 64, 128),
}

Run = Callable[[], Any]
Seconds = dict[str, list[float]]


def sequences(n_steps: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs, and where episodes start."""
    x = torch.randn(n_steps, batch_size, N_INPUTS, generator=generator)
    return x, torch.rand(n_steps, batch_size, generator=generator) < 0.02


def unrolls(n_steps: int) -> dict[str, Run]:
    """For each cell, its own unroll and that by steps."""
    generator = torch.Generator().manual_seed(0)
    x, starts = sequences(n_steps, BATCH_SIZE, generator)
    runs: dict[str, Run] = {}
    for name, make in CELLS.items():
        cell = make(N_INPUTS, N_HIDDEN, generator=generator)
        parameters, state = list(cell.parameters()), cell.initial_state(BATCH_SIZE)

        def own(cell: Cell = cell, parameters: list[Tensor] = parameters, state: Tensor = state) -> Any:
            return torch.autograd.grad(cell.outputs(x, state, starts).square().mean(), parameters)

        def stepped(cell: Cell = cell, parameters: list[Tensor] = parameters, state: Tensor = state) -> Any:
            outputs, _ = Cell.unroll(cell, x, state, starts)
            return torch.autograd.grad(outputs.square().mean(), parameters)

        runs[name] = own
        if n_steps <= LONGEST_STEPPED or isinstance(cell, MinGRU | LRU):
            runs[f"{name}, step by step"] = stepped
    return runs


def recurrences(n_steps: int) -> dict[str, Run]:
    """For each recurrence, the scan and the loop."""
    generator = torch.Generator().manual_seed(0)
    runs: dict[str, Run] = {}
    for name, (is_complex, batch_size, size) in RECURRENCES.items():
        dtype = torch.complex64 if is_complex else torch.float32
        shape = (n_steps, batch_size, size)
        decay = torch.rand((size,) if is_complex else shape, generator=generator).to(dtype).requires_grad_()
        inputs = torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()
        state = torch.zeros(batch_size, size, dtype=dtype)
        _, starts = sequences(n_steps, batch_size, generator)
        gradient = torch.ones(shape, dtype=dtype)
        for method in ("scan", "loop"):

            def run(
                method: Method = method,  # type: ignore[assignment]
                decay: Tensor = decay,
                inputs: Tensor = inputs,
                state: Tensor = state,
                starts: Tensor = starts,
                gradient: Tensor = gradient,
            ) -> Any:
                hidden = linear_scan(decay, inputs, state, starts, method)
                return torch.autograd.grad(hidden, (decay, inputs), gradient)

            runs[f"{name}: {method}"] = run
    return runs


def measure(runs: Mapping[str, Run], rounds: int) -> Seconds:
    """Seconds of processor time of each run in each round, after a first one that does not count."""
    seconds: Seconds = {name: [] for name in runs}
    for round_index in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if round_index:
                seconds[name].append(time.process_time() - start)
    return seconds


def compared(seconds: Seconds, fast: str, slow: str) -> str:
    """Milliseconds of ``fast``, and how many times those ``slow`` takes."""
    text = f"{1e3 * statistics.median(seconds[fast]):.2f}"
    if slow in seconds:
        ratios = [theirs / ours for ours, theirs in zip(seconds[fast], seconds[slow], strict=True)]
        text += f" ({statistics.median(ratios):.1f}×)"
    return text


def table(title: str, lengths: Mapping[int, Seconds], pairs: Mapping[str, tuple[str, str]]) -> str:
    """One row per pair, one column per length."""
    lines = [f"| {title} | {' | '.join(f'T = {n}' for n in lengths)} |", "|---" * (1 + len(lengths)) + "|"]
    for name, pair in pairs.items():
        cells = (compared(seconds, *pair) for seconds in lengths.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="file to write the tables to, beside standard output")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = arguments.rounds
    of_cells = {n: measure(unrolls(n), rounds) for n in LENGTHS}
    of_recurrences = {n: measure(recurrences(n), 3 * rounds) for n in LENGTHS}
    text = "\n\n".join(
        (
            table(
                f"outputs and gradients of {BATCH_SIZE} sequences, ms (step by step takes so many times as long)",
                of_cells,
                {name: (name, f"{name}, step by step") for name in CELLS},
            ),
            table(
                "the recurrence and its gradient by the scan, ms (the loop takes so many times as long)",
                of_recurrences,
                {name: (f"{name}: scan", f"{name}: loop") for name in RECURRENCES},
            ),
        )
    )
    print(text)
    if arguments.out is not None:
        command = f"OMP_NUM_THREADS=1 python benchmarks/memory_speed.py --rounds {rounds}"
        arguments.out.write_text(f"Medians of `{command}`:\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
