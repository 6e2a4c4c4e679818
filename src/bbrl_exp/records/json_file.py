"""Files that are replaced as a whole: a reader sees the old contents or the new ones, never a part. Most are JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.layout import UnreadableError


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


def write_json(path: Path, contents: object) -> None:
    """Writes ``contents`` as strict JSON (NaN and infinities become null) and replaces ``path`` at once.

    Raises:
        BbrlExpError: the disk refuses; the old contents are still there.
    """
    text = json.dumps(_without_nan(contents), indent=2, allow_nan=False) + "\n"
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error


def replace_file(path: Path, contents: bytes | memoryview) -> None:
    """Writes ``contents`` to the disk beside ``path`` and then replaces the file at once.

    What a killed process leaves behind is named ``.<name>.<process id>.part``.

    Raises:
        OSError: the disk refuses; the old contents are still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
