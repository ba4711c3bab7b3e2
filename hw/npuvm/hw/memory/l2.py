"""The shared L2 cache: which lines it holds, least recently used first, and which of them are newer than HBM."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npuvm.hw.compiled import Backend, LineTable

__all__ = ["L2State"]


class L2State:
    """Contents of L2, line numbers only; it lives as long as the device, so one launch finds what the last one left.

    `lines` maps a line number (address // line_bytes) to whether it is dirty, in order of use, least recent first.
    `capacity` is in lines; `dirty` counts the dirty ones. The compiled engine keeps the lines in a table of its own; they
    are converted when the other engine, or anyone, asks for them in the other form.
    """

    __slots__ = ("_lines", "_table", "capacity", "dirty", "line_bytes")

    def __init__(self, capacity_bytes: int, line_bytes: int) -> None:
        self.line_bytes = line_bytes
        self.capacity = capacity_bytes // line_bytes
        self._lines: OrderedDict[int, bool] = OrderedDict()
        self._table: LineTable | None = None
        self.dirty = 0

    @property
    def lines(self) -> OrderedDict[int, bool]:
        """Line number -> whether it is dirty; may be changed in place."""
        if self._table is not None:
            self._lines, self._table = self._table.lines(), None
        return self._lines

    def table(self, backend: Backend) -> LineTable:
        """The lines as the compiled engine holds them, for it to change in place."""
        if self._table is None or self._table.backend != backend:
            from npuvm.hw.compiled import LineTable

            self._table = LineTable.of(backend, self.capacity, self.lines)
            self._lines = OrderedDict()
        return self._table

    def is_resident(self, address: int) -> bool:
        """Whether the line of a byte address is here; its order of use does not change."""
        line = address // self.line_bytes
        return line in self._lines if self._table is None else self._table.holds(line)

    def flush(self) -> int:
        """Write all dirty lines back and drop everything; return the bytes written."""
        written = self.dirty * self.line_bytes
        self._lines, self._table = OrderedDict(), None
        self.dirty = 0
        return written

    def discard(self, address: int, nbytes: int) -> None:
        """Drop the lines of a byte range that the host wrote or freed; their dirty state goes with them."""
        if nbytes <= 0:
            return
        first, last = address // self.line_bytes, (address + nbytes - 1) // self.line_bytes
        if self._table is not None:
            self.dirty -= self._table.discard(first, last)
            return
        lines = self._lines
        held = range(first, last + 1) if last - first < len(lines) else list(lines)
        for line in held:
            if first <= line <= last and lines.pop(line, False):
                self.dirty -= 1
