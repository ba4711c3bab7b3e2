"""One process at a time writes a study that lies in a file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from npuvm.explore.study.errors import StudyFailure

__all__ = ["FileLock"]


class FileLock:
    """Held from its making to `close`, or to the end of the process however it ends; the file says which process has it.

    StudyFailure where another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise StudyFailure(
                f"process {holder or 'of unknown number'} is at this study; wait for it, or give another --storage",
                str(path.with_suffix("")),
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let others have it. The file stays: one that is removed could be held twice."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1
