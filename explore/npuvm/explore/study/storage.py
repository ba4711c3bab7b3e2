"""Where studies lie: an SQLite file of their own, or any storage of optuna's by its URL. Imported where optuna is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from npuvm.explore.study.errors import StudyError, StudyFailure

__all__ = ["NOTHING", "file_of", "has_points", "open_storage", "shown", "storage_errors", "url_of", "write_errors"]

NOTHING = "no study there; `npuvm explore SPACE.yaml` begins one"

_WAIT_SECONDS = 60
"""How long a reader or the writer of a file waits for the other."""

_FIRST_TABLES = {"studies", "version_info"}
"""Those of optuna's that it makes before all others, in some order."""


def url_of(storage: str) -> str:
    """The URL of a storage that is given as a file's path or as a URL."""
    return storage if "://" in storage else URL.create("sqlite", database=storage).render_as_string()


def file_of(url: str) -> Path | None:
    """The file of an SQLite storage; None for others, and for one in memory. StudyError for what is no URL."""
    with storage_errors(url):
        parts = make_url(url)
    in_file = parts.get_backend_name() == "sqlite" and parts.database not in (None, "", ":memory:")
    return Path(str(parts.database)) if in_file else None


def open_storage(url: str, *, tables: bool) -> RDBStorage:
    """The storage of a URL; `tables` makes those that it lacks, which is for who writes.

    StudyError where it cannot be had, or has no tables.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options: dict[str, Any] = {}
    if make_url(url).get_backend_name() == "sqlite":
        options = {"connect_args": {"timeout": _WAIT_SECONDS}}
    with storage_errors(url):
        known = _tables(url)
        if not tables and "alembic_version" not in known:  # the last one that is made
            raise StudyError(NOTHING, shown(url))
        if known and file_of(url) is not None and not known & _FIRST_TABLES:
            raise StudyError("the file is another program's database; give another --storage", shown(url))
        storage = RDBStorage(url, engine_kwargs=options, skip_table_creation=not tables)
        if file_of(url) is not None:
            storage.engine.dispose()
            event.listen(storage.engine, "connect", _log_ahead)
    return storage


def has_points(storage: str) -> bool:
    """Whether studies of a storage have any trial; StudyError where it cannot be read."""
    url = url_of(storage)
    with storage_errors(url):
        if "alembic_version" not in _tables(url):
            return False
    opened = open_storage(url, tables=False)
    try:
        with storage_errors(url):
            return any(each.n_trials for each in optuna.get_all_study_summaries(opened))
    finally:
        opened.remove_session()
        opened.engine.dispose()


def _tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _log_ahead(connection: Any, _record: object) -> None:
    # Readers do not stop the writer, and a process that is killed loses nothing; a power cut may lose the last moments.
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """What a storage raises, as a StudyError that names it without its password."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError, ImportError, ValueError) as error:
        raise StudyError(f"no storage for a study: {_reason(error)}", shown(url)) from error


@contextmanager
def write_errors(where: str, kept: int) -> Iterator[None]:
    """What a storage raises that takes no more points (a full disk, a database that went away), as a StudyFailure."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StudyFailure(f"a point cannot be kept: {_reason(error)}; {kept} points are kept", where) from error


def _reason(error: Exception) -> str:
    """What the driver says, without a link to SQLAlchemy's pages."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return " ".join(str(getattr(cause, "orig", None) or cause or error).split())


def shown(url: str) -> str:
    """A storage as people know it: a file's path, or a URL without its password."""
    try:
        parts = make_url(url)
    except SQLAlchemyError:
        return url
    return str(parts.database) if parts.get_backend_name() == "sqlite" else parts.render_as_string(hide_password=True)
