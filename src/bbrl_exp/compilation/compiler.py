"""Torch's compiler, as it is used here: from a recorded graph, with tensors of fixed shapes, to machine code."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bbrl_exp.compilation.cache import cache_folder, use_cache
from bbrl_exp.errors import BbrlExpError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Function = Callable[..., "tuple[Tensor, ...]"]

_COMPILERS = ("g++", "clang++")


class NotCompilableError(BbrlExpError):
    """A function that cannot be compiled; the message says why, and is the end of a sentence."""


def why_no_compiler(device: str) -> str | None:
    """Why nothing can be compiled for a device, such as ``cpu``; None where it can."""
    kind = device.partition(":")[0]
    if kind == "mps":
        return "device=mps is not supported"
    chosen = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ((chosen,) if chosen else _COMPILERS)):
        missing = chosen or " or ".join(_COMPILERS)
        return f"no C++ compiler found ({missing}); install one, such as the package g++"
    return None


@dataclass
class Compiler:
    """Records functions and compiles them.

    Attributes:
        device: where the tensors are, ``cpu``, ``cuda:0``, …
        n_threads: that the code may use.
        seconds: that compiling has taken so far, by :meth:`clock`.
        newest: where the code of the newest graph came from, and the seconds that it took, in words.
    """

    device: str
    n_threads: int = 1
    seconds: float = field(default=0.0, init=False)
    newest: str = field(default="", init=False)
    _is_kept: bool | None = field(default=None, init=False)
    _complaints: list[str] = field(default_factory=list, init=False)

    def __call__(self, record: Callable[[], tuple[torch.fx.GraphModule, Sequence[Tensor]]]) -> Function:
        """The machine code of the graph that ``record`` gives, for tensors like the examples that it gives.

        Raises:
            NotCompilableError: it cannot be recorded or compiled.
        """
        begun, waited, hits = self.clock(), time.perf_counter(), _code_found()
        if self._is_kept is None:
            reason = use_cache(cache_folder("compile"))
            self._is_kept = reason is None
            if reason is not None:
                self._complaints.append(f"compile: compiled code is not kept for later runs: {reason}")
        try:
            with warnings.catch_warnings(), _signals_held():
                warnings.simplefilter("ignore")  # of torch about itself: nobody here can change that
                graph, examples = record()
                try:
                    compiled = self.compile(graph, examples)
                except Exception as error:
                    if not self._is_kept:
                        raise
                    self._leave_folder(error)
                    compiled = self.compile(*record(), trusts_processor=False)
        except NotCompilableError:
            raise
        except Exception as error:  # whatever the compiler stumbles over
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise NotCompilableError(f"it cannot be compiled ({type(error).__name__}: {lines[0][:200]})") from error
        finally:
            self.seconds += self.clock() - begun
        how = "loaded from the cache" if _code_found() > hits else "compiled"
        self.newest = f"{how} in {time.perf_counter() - waited:.1f} s"
        return compiled

    def _leave_folder(self, error: Exception) -> None:
        """Uses a folder that is deleted at the end: what is in the other one is damaged, or its disk is full."""
        from torch._inductor.utils import clear_caches

        self._is_kept = False
        use_cache(None)
        clear_caches()
        folder, reason = cache_folder("compile"), type(error).__name__
        self._complaints.append(
            f"compile: a graph could not be compiled in {folder} ({reason}), so that no more code is kept in this run; "
            "if this comes again, delete that folder"
        )

    def clock(self) -> float:
        """Seconds of work: CPU time, with that of compilers, which load on the machine hardly changes.

        With several threads, or a GPU, seconds of waiting.
        """
        if self.n_threads > 1 or self.device != "cpu":
            return time.perf_counter()
        of_compilers = os.times()
        return time.process_time() + of_compilers.children_user + of_compilers.children_system

    def complaints(self) -> list[str]:
        """Lines for the console that have not been given before: why compiled code is not kept."""
        complaints, self._complaints = self._complaints, []
        return complaints

    def compile(
        self, graph: torch.fx.GraphModule, examples: Sequence[Tensor], *, trusts_processor: bool = True
    ) -> Function:
        """The code of a graph, by inductor, in this process alone.

        Args:
            graph: recorded.
            examples: of its arguments.
            trusts_processor: whether what the processor says of itself holds, without torch's programs that try it out
                with the compiler, which take seconds.
        """
        import torch
        from torch import _inductor as inductor

        # One process: workers that compile would outlive a run that is killed. tanh by exp is several times as fast.
        patches = {"cpp.threads": self.n_threads, "compile_threads": 1, "cpp.use_decompose_tanh": True}
        if trusts_processor:
            patches["cpp.vec_isa_ok"] = True
        if self.device.startswith("cuda"):
            patches["triton.cudagraphs"] = True
        with torch.no_grad():
            compiled: Function = inductor.standalone_compile(  # unlike inductor.compile it looks for code it has made
                graph, list(examples), dynamic_shapes="from_example_inputs", options={"config_patches": patches}
            )
        return compiled


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that ask to stop come to this thread after the block, and not to processes that it starts.

    Ctrl-C reaches the C++ compiler too. Without this, a run that is asked to stop would do its last updates without a
    graph, and would not be the run that was never stopped.
    """
    asking = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asking)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _code_found() -> int:
    """How often torch has found the code of a graph in its cache; 0 where that is unknown."""
    module = sys.modules.get("torch._dynamo.utils")  # which nothing imports before the first graph is compiled
    counters = getattr(module, "counters", {})
    return int(counters.get("inductor", {}).get("fxgraph_cache_hit", 0))
