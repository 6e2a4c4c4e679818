"""Compiling is not disturbed by signals that ask the run to stop; these are not lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bbrl_exp.compilation.compiler import Compiler, Function

_STOPS_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)"


def test_a_signal_to_stop_comes_after_compiling_and_does_not_stop_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    class Interrupted(Compiler):
        def compile(self, graph: torch.fx.GraphModule, examples: Sequence[Tensor]) -> Function:
            signal.raise_signal(signal.SIGINT)
            seen.append(subprocess.run([sys.executable, "-S", "-c", _STOPS_ITSELF], check=False).returncode)
            return graph

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "elsewhere")  # which is put back afterwards
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(signal.Signals(number)))
    try:
        Interrupted("cpu")(lambda: (torch.fx.symbolic_trace(lambda x: (x,)), [torch.ones(1)]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [0, signal.SIGINT]
