"""Where a search keeps its trials: a journal in its folder, or a database."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.settings import bad_value

JOURNAL_NAME = "optuna.journal"


def check_storage(url: str | None) -> None:
    """Refuses the URL of a database that cannot be used here; nothing is opened.

    Raises:
        ConfigurationError: it cannot be read, or what reads such a database is not installed.
    """
    if url is None:
        return
    try:
        make_url(url).get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError) as error:
        allowed = f"null or the URL of a database that can be opened ({error})"
        raise bad_value("hydra.sweeper.storage", _without_password(url), allowed) from error


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage of the search in ``folder``.

    Raises:
        ConfigurationError: the database does not open.
    """
    if url is None:
        path = folder / JOURNAL_NAME
        _cut_torn_line(path)
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"key 'hydra.sweeper.storage' = '{_without_password(url)}' does not open: {reason}"
        ) from error


def _cut_torn_line(path: Path) -> None:
    """Drops the end of a journal that a power cut or a full disk left without its newline."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        contents = file.read()
        file.truncate(contents.rfind(b"\n") + 1)


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string()
    except SQLAlchemyError:
        return url
