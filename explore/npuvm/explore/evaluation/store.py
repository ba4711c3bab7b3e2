"""Results by their keys: those of this process, and with a file those of all processes that use it, now and later."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal, TypeAlias

from npuvm.isa.errors import NpuvmError

__all__ = ["Kind", "Store", "StoreError"]

Kind: TypeAlias = Literal["program", "legal", "time", "decoder"]
"""program: the launches of a run, by digest; legal: an image that passed the verifier; time: what launches did; decoder: its
gates."""

_KEPT = 4096
_WAIT_S = 60.0
_TABLE = "CREATE TABLE IF NOT EXISTS results (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID"


class StoreError(NpuvmError):
    """The file of results cannot be read or written; no point is to blame for it."""

    exit_code = 1


class Store:
    """Keeps values that have a JSON form. What was put is never changed: a key names what its value follows from.

    The file is SQLite's, with a write-ahead log: any number of processes read and write it, and one that is killed leaves
    whole entries. StoreError where it cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: OrderedDict[tuple[Kind, str], Any] = OrderedDict()
        self._file: sqlite3.Connection | None = None
        self._process = -1
        self._one_at_a_time = threading.Lock()
        if path is not None:
            self.get("program", "")

    def __del__(self) -> None:
        if self._file is not None and self._process == os.getpid():
            self._file.close()

    def get(self, kind: Kind, key: str) -> Any | None:
        """The value of a key, None where there is none."""
        found = self._known.get((kind, key))
        if found is None and self._path is not None:
            row = self._execute("SELECT value FROM results WHERE kind = ? AND key = ?", kind, key)
            if row is not None:
                found = json.loads(row[0])
                self._keep(kind, key, found)
        return found

    def put(self, kind: Kind, key: str, value: Any) -> None:
        """Keep a value; nothing happens where its key is there."""
        self._keep(kind, key, value)
        if self._path is not None:
            self._execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?)", kind, key, json.dumps(value))

    def _keep(self, kind: Kind, key: str, value: Any) -> None:
        self._known[kind, key] = value
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def _execute(self, statement: str, *values: str) -> tuple[Any, ...] | None:
        assert self._path is not None
        with self._one_at_a_time:
            return self._row(self._path, statement, *values)

    def _row(self, path: Path, statement: str, *values: str) -> tuple[Any, ...] | None:
        try:
            if self._file is None or self._process != os.getpid():
                # A connection must not be used in a process that was forked off.
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
                self._process = os.getpid()
                self._file.execute("PRAGMA journal_mode = WAL")
                self._file.execute("PRAGMA synchronous = NORMAL")
                self._file.execute(_TABLE)
            row: tuple[Any, ...] | None = self._file.execute(statement, values).fetchone()
        except (sqlite3.Error, OSError) as error:
            message = f"results cannot be shared: {error}; the file only saves time and can be removed"
            raise StoreError(message, str(path)) from None
        return row
