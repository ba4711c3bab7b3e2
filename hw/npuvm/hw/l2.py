"""The shared L2 cache: which lines it holds, least recently used first, and which of them are newer than HBM."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["L2State"]


class L2State:
    """Contents of L2, line numbers only; it lives as long as the device, so one launch finds what the last one left.

    `lines` maps a line number (address // line_bytes) to whether it is dirty, in order of use, least recent first.
    `capacity` is in lines; `dirty` counts the dirty ones.
    """

    __slots__ = ("capacity", "dirty", "line_bytes", "lines")

    def __init__(self, capacity_bytes: int, line_bytes: int) -> None:
        self.line_bytes = line_bytes
        self.capacity = capacity_bytes // line_bytes
        self.lines: OrderedDict[int, bool] = OrderedDict()
        self.dirty = 0

    def is_resident(self, address: int) -> bool:
        """Whether the line of a byte address is here; its order of use does not change."""
        return address // self.line_bytes in self.lines

    def flush(self) -> int:
        """Write all dirty lines back and drop everything; return the bytes written."""
        written = self.dirty * self.line_bytes
        self.lines.clear()
        self.dirty = 0
        return written

    def discard(self, address: int, nbytes: int) -> None:
        """Drop the lines of a byte range that the host wrote or freed; their dirty state goes with them."""
        if nbytes <= 0:
            return
        first, last = address // self.line_bytes, (address + nbytes - 1) // self.line_bytes
        held = range(first, last + 1) if last - first < len(self.lines) else list(self.lines)
        for line in held:
            if first <= line <= last and self.lines.pop(line, False):
                self.dirty -= 1
