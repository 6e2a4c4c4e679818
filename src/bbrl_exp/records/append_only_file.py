"""A file that only grows: whole pieces, written through at once, with one clear error when the disk refuses."""

from __future__ import annotations

import os
from pathlib import Path

from bbrl_exp.errors import BbrlExpError


class AppendOnlyFile:
    """A file that is written piece by piece; every piece has reached the operating system when `write` returns.

    After a failure the file is closed, and writing again repeats the error.

    Args:
        path: the file.
        position: None to make a new file, which must not exist yet; else where to continue the existing one, whose
            rest is cut off.

    Raises:
        BbrlExpError: if the file cannot be made or a piece cannot be written, naming the file, or if it is shorter than
            ``position``.
    """

    def __init__(self, path: Path, position: int | None = None) -> None:
        self.path = path
        self._position = position or 0
        self._failure: BbrlExpError | None = None
        try:
            self._file = open(path, "xb" if position is None else "r+b", buffering=0)  # noqa: SIM115  (see `close`)
            if position is not None:
                self._continue_at(position)
        except OSError as error:
            raise self._refusal(error) from error

    def _continue_at(self, position: int) -> None:
        found = self._file.seek(0, os.SEEK_END)
        if found < position:
            self._file.close()
            raise BbrlExpError(f"cannot continue '{self.path}': it has {found} bytes and had {position}")
        self._file.truncate(position)
        self._file.seek(position)

    def write(self, data: bytes | memoryview) -> None:
        """Append the whole of ``data``."""
        if self._failure is not None:
            raise self._failure
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest)
                rest = rest[written:]
        except OSError as error:
            self._failure = self._refusal(error)
            self.close()
            raise self._failure from error
        self._position += len(data)

    def sync(self) -> None:
        """Returns when what was written so far would be there after a power cut."""
        if self._failure is not None:
            raise self._failure
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refusal(error) from error

    def tell(self) -> int:
        """Number of bytes in whole pieces: truncating the file here leaves exactly what was written so far."""
        return self._position

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        self._file.close()

    def _refusal(self, error: OSError) -> BbrlExpError:
        return BbrlExpError(f"cannot write '{self.path}': {error.strerror or error}")
