"""Threads of the numerical libraries: always set, never taken from the environment."""

from __future__ import annotations

import contextlib


def set_threads(n_threads: int) -> None:
    """Lets torch and the linear algebra of numpy use so many threads from now on."""
    import threadpoolctl
    import torch

    torch.set_num_threads(n_threads)
    with contextlib.suppress(RuntimeError):  # may be set once a process only, by a sweep's first job
        torch.set_num_interop_threads(n_threads)
    threadpoolctl.threadpool_limits(n_threads, user_api="blas")
