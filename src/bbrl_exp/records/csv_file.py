"""``metrics.csv``: what a run is judged by, as plain rows that any tool reads.

Columns ``env_steps,name,value,environment``: one number a row. ``environment`` is the index in the batch of the
environment whose episode ended, and empty for everything that concerns the run as a whole. Floats are written so that
reading them gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bbrl_exp.records.append_only_file import AppendOnlyFile

FILE_NAME = "metrics.csv"


class CsvFile:
    """``metrics.csv`` in ``folder``; what a call adds has reached the file when it returns.

    Args:
        folder: the run's folder; it must exist.
        position: None for a new file; else where the one that is there goes on.

    Raises:
        BbrlExpError: if the file cannot be made or written, naming it.
    """

    def __init__(self, folder: Path, position: int | None = None) -> None:
        self._file = AppendOnlyFile(folder / FILE_NAME, position)
        if position is None:
            self._file.write(b"env_steps,name,value,environment\n")

    def scalars(self, env_steps: int, values: Mapping[str, float]) -> None:
        """One row for each name in ``values``, at ``env_steps``."""
        self._file.write("".join(f"{env_steps},{name},{float(value)!r},\n" for name, value in values.items()).encode())

    def episodes(
        self, env_steps: Sequence[int], environments: Sequence[int], returns: Sequence[float], lengths: Sequence[int]
    ) -> None:
        """Two rows for each finished episode: ``train/return`` and ``train/length``."""
        lines = [
            f"{step},train/return,{total!r},{environment}\n{step},train/length,{length},{environment}\n"
            for step, environment, total, length in zip(env_steps, environments, returns, lengths, strict=True)
        ]
        self._file.write("".join(lines).encode())

    def environments(self, env_steps: int, name: str, values: Sequence[float]) -> None:
        """One row for each environment, in their order."""
        rows = (f"{env_steps},{name},{float(value)!r},{index}\n" for index, value in enumerate(values))
        self._file.write("".join(rows).encode())

    def sync(self) -> None:
        """As :meth:`AppendOnlyFile.sync`."""
        self._file.sync()

    def tell(self) -> int:
        """Bytes written so far, always the end of a row."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        self._file.close()
