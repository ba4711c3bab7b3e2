"""Where the command's results go: files that are whole or not there, tables, JSON, and a bar for work that takes a while."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from npuvm.isa.errors import NpuvmError

__all__ = ["DelayedBar", "OutputError", "json_text", "wide_console", "write_atomic", "write_together"]

SHOW_AFTER_SECONDS = 2.0

PLAIN_WIDTH = 200
"""Columns of what goes to a file or a pipe, where neither a terminal nor COLUMNS says how wide it is."""


class OutputError(NpuvmError):
    """A result cannot be written; `where` is its path."""


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) under a temporary name in the same folder, then rename it to `path`.

    Folders are made as needed. A reader sees the old file or the new one, never a half. OutputError says why not.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes | str]) -> None:
    """`write_atomic` for several files: when one of them has no place to be written to, the others stay as they are."""
    temporaries = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}") for path in files}
    path = Path()
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path].write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except OSError as exc:
        raise OutputError(f"cannot be written: {exc.strerror}", str(path)) from None
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):  # gone after the rename; after a failure it may never have been there
                temporary.unlink()


def json_text(value: object) -> str:
    """JSON as the command prints and writes it: indented, UTF-8, one newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def wide_console() -> Console:
    """A console on stdout for tables: as wide as the terminal or COLUMNS say, else `PLAIN_WIDTH`."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=PLAIN_WIDTH)


class DelayedBar:
    """A progress bar on stderr that appears only once the work has taken two seconds; a context manager."""

    def __init__(self, title: str, enabled: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(title, total=None)
        self._enabled = enabled
        self._shown = False
        self._clock = clock
        self._begin = clock()

    def __enter__(self) -> DelayedBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._progress.stop()

    def update(self, done: int, total: int, label: str) -> None:
        """Say that `done` of `total` steps are behind us and that `label` comes next."""
        self._progress.update(self._task, completed=done, total=total, description=label)
        if self._enabled and not self._shown and self._clock() - self._begin >= SHOW_AFTER_SECONDS:
            self._progress.start()
            self._shown = True
