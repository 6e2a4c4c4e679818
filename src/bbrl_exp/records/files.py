"""Files that are never seen in parts: those that only grow by whole pieces, and those that are replaced as a whole.

Where the disk refuses there is one error that names the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.layout import UnreadableError


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
            raise _refusal(path, error) from error

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
            self._failure = _refusal(self.path, error)
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
            raise _refusal(self.path, error) from error

    def tell(self) -> int:
        """Number of bytes in whole pieces: truncating the file here leaves exactly what was written so far."""
        return self._position

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        self._file.close()


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file at ``path``.

    Raises:
        UnreadableError: there is no such object; the message says why.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise UnreadableError(f"no {path.name}") from None
    except OSError as error:
        raise UnreadableError(f"{path.name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{path.name} is not UTF-8") from error
    if not text.strip():
        raise UnreadableError(f"{path.name} is empty")
    try:
        contents = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path.name} is not JSON, or only a part of it") from error
    if not isinstance(contents, dict):
        raise UnreadableError(f"{path.name} holds no keys")
    return contents


def strict_json(contents: object, indent: int | None = None) -> str:
    """``contents`` as strict JSON: NaN and infinities become null."""
    return json.dumps(_without_nan(contents), indent=indent, allow_nan=False)


def write_json(path: Path, contents: object) -> None:
    """Writes ``contents`` as strict JSON (NaN and infinities become null) and replaces ``path`` at once.

    Raises:
        BbrlExpError: the disk refuses; the old contents are still there.
    """
    try:
        replace_file(path, f"{strict_json(contents, indent=2)}\n".encode())
    except OSError as error:
        raise _refusal(path, error) from error


def replace_file(path: Path, contents: bytes | memoryview) -> None:
    """Writes ``contents`` to the disk beside ``path`` and then replaces the file at once.

    What a killed process leaves behind is named ``.<name>.<process id>.part``.

    Raises:
        OSError: the disk refuses; the old contents are still there.
    """
    with _beside(path, contents) as temporary:
        temporary.replace(path)


def create_file(path: Path, contents: bytes | memoryview) -> None:
    """Writes ``contents`` to the disk beside ``path``, which must not exist yet, and then makes the file at once.

    Raises:
        FileExistsError: something is there, and stays as it is.
        OSError: the disk refuses; nothing is left.
    """
    with _beside(path, contents) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            path.open("xb").close()
            temporary.replace(path)
        else:
            temporary.unlink()


@contextlib.contextmanager
def _beside(path: Path, contents: bytes | memoryview) -> Iterator[Path]:
    """A file with ``contents`` on the disk beside ``path``, removed if what is done with it fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Removes the temporary files of ``names`` in ``folder`` that processes killed in :func:`replace_file` left behind.

    Raises:
        OSError: the disk refuses.
    """
    for name in names:
        for path in folder.glob(f".{name}.*.part"):
            path.unlink(missing_ok=True)


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _refusal(path: Path, error: OSError) -> BbrlExpError:
    return BbrlExpError(f"cannot write '{path}': {error.strerror or error}")
