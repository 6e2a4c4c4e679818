"""How much memory there is, and whether what is to be made fits into it."""

from __future__ import annotations

from pathlib import Path

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.text import size_in_words

_CGROUP = Path("/sys/fs/cgroup")
# Value, gradient, two moments of Adam, and a target network; float32.
_BYTES_OF_A_PARAMETER = 5 * 4
_FEW = 10_000_000


def available_memory() -> int:
    """Bytes of memory that this process may still take: of the machine, and of its control group."""
    import psutil

    available = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = (_CGROUP / "memory.current").read_text().strip()
    except OSError:
        return available
    return available if limit == "max" else min(available, max(int(limit) - int(used), 0))


def check_parameters(n_parameters: int, argument: str) -> None:
    """Refuses parameters that do not fit into memory while they are learned; call it before they are made.

    Args:
        n_parameters: how many there are to be.
        argument: of the constructor, and its value, such as ``n_critics=2``; the message begins with it.

    Raises:
        ConfigurationError: they do not fit.
    """
    needed = n_parameters * _BYTES_OF_A_PARAMETER
    if n_parameters > _FEW and needed > (available := available_memory()):
        raise ConfigurationError(
            f"{argument}: learning {n_parameters:,} parameters needs about {size_in_words(needed)} of memory, and "
            f"{size_in_words(available)} are available"
        )
