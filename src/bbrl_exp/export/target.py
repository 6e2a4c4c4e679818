"""Where a policy is exported to: a new file or a new folder, whole or not at all, and never over another one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from bbrl_exp.errors import BbrlExpError, ConfigurationError, did_you_mean
from bbrl_exp.export.onnx_file import SUFFIX as ONNX
from bbrl_exp.records.files import create_file
from bbrl_exp.training.policy_file import SUFFIX as TENSORS

_OTHER_FORMATS = (
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".npz",
    ".zip",
    ".bin",
    ".pb",
    ".h5",
    ".tflite",
    ".json",
    ".mp4",
    ".gif",
)


def check_target(path: Path) -> None:
    """Refuses a path at which nothing can be exported.

    Raises:
        ConfigurationError: another format, a folder that does not exist, or something that exists.
    """
    near = did_you_mean(path.suffix, (TENSORS, ONNX)) if path.suffix not in (TENSORS, ONNX) else ""
    if near or path.suffix in _OTHER_FORMATS or path.name in (TENSORS, ONNX):
        raise ConfigurationError(f"to='{path}': must be a file {TENSORS} or {ONNX}, or a folder{near}")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"to='{path}': the folder {path.parent} must exist")
    if os.path.lexists(path):
        raise _exists(path)
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise ConfigurationError(f"to='{path}': nothing may be written in the folder {path.parent}")


def write_file(path: Path, contents: bytes) -> None:
    """Writes a new file.

    Raises:
        ConfigurationError: something has appeared there.
        BbrlExpError: the disk refuses.
    """
    try:
        create_file(path, contents)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise _refusal(path, error) from error


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path``, which becomes it when all is done, and is removed otherwise.

    Raises:
        ConfigurationError: something has appeared at ``path``.
        BbrlExpError: the disk refuses.
    """
    temporary = path.absolute().with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir()
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        yield temporary
        path.mkdir()  # fails if something has appeared there; an empty folder is then replaced by the full one
        try:
            temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                path.rmdir()
            raise
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exists(path: Path) -> ConfigurationError:
    return ConfigurationError(f"to='{path}': exists already; choose another name, or remove it first")


def _refusal(path: Path, error: OSError) -> BbrlExpError:
    return BbrlExpError(f"cannot write '{path}': {error.strerror or error}")
