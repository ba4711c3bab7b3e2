"""The contents of L2 as the kernels hold them, between launches; and to and from the ordered dictionary of the other engine."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from npuvm.hw.compiled.layout import (
    DIRTY,
    EMPTY,
    L_LINE,
    L_MARKS,
    L_SIZE,
    L_USED,
    M_CAPACITY,
    M_DIR_MASK,
    M_EPOCH,
    M_FREED,
    M_LOG_END,
    M_LOG_HEAD,
    M_LOG_LIMIT,
    M_LOG_START,
    M_PAGE_AT,
    M_PAGE_BASE,
    M_PAGE_LIMIT,
    M_PAGES,
    M_SIZE,
    M_SLOT_LIMIT,
    M_USED,
    PAGE_BITS,
    UNKNOWN,
    Store,
)
from npuvm.hw.compiled.lines import find

if TYPE_CHECKING:
    from npuvm.hw.compiled.backend import Backend

__all__ = ["LineTable"]

_FIRST_PAGES, _FIRST_SLOTS = 64, 4096

_LOG_PER_SLOT = 4
"""Uses that the log has room for: packing it costs a visit to a slot for each, and leaves one of each slot at most."""

_HEADS = (
    M_CAPACITY,
    M_USED,
    M_FREED,
    M_EPOCH,
    M_PAGES,
    M_PAGE_LIMIT,
    M_SLOT_LIMIT,
    M_DIR_MASK,
    M_PAGE_AT,
    M_PAGE_BASE,
    M_LOG_HEAD,
    M_LOG_END,
    M_LOG_LIMIT,
    M_LOG_START,
)
"""Fields of `M` that outlive a launch."""


class LineTable:
    """Lines in L2, their order of use and which of them are dirty, in the stores that the kernels work on.

    `M` holds the heads of the other stores (of a launch, or the table's own). Slots and pages are made as they are needed.
    """

    def __init__(self, backend: Backend, capacity: int) -> None:
        self.backend = backend
        self.M: Store = backend.full(M_SIZE)
        self.M[M_CAPACITY] = capacity
        self.M[M_PAGE_AT] = EMPTY
        self.M[M_DIR_MASK] = -1
        self.slots: Store = backend.full(L_SIZE)
        self.log: Store = backend.full(0, small=True)
        self.directory: Store = backend.full(0)
        self.pages: Store = backend.full(0, small=True)
        self.reserve(_FIRST_PAGES, _FIRST_SLOTS)

    @staticmethod
    def of(backend: Backend, capacity: int, lines: OrderedDict[int, bool]) -> LineTable:
        """A table of these lines, least recently used first."""
        table = LineTable(backend, capacity)
        table.reserve(len({line >> PAGE_BITS for line in lines}), len(lines))
        numbers, dirty = backend.ints(list(lines)), backend.ints([int(each) for each in lines.values()])
        backend.fill(table.M, table.slots, table.log, table.directory, table.pages, numbers, dirty)
        return table

    def lines(self) -> OrderedDict[int, bool]:
        """The lines, least recently used first, and whether each is dirty."""
        slots = list(map(int, self.slots))
        first, end = int(self.M[M_LOG_HEAD]), int(self.M[M_LOG_END])
        found: OrderedDict[int, bool] = OrderedDict()
        for place, slot in enumerate(map(int, self.log[first:end]), first):
            record = slot * L_SIZE
            if slots[record + L_USED] == place:
                found[slots[record + L_LINE]] = bool(slots[record + L_MARKS] & DIRTY)
        return found

    def holds(self, line: int) -> bool:
        """Whether a line is in L2."""
        place = find(self.M, self.directory, line >> PAGE_BITS)
        if self.directory[2 * place] == EMPTY:
            return False
        page: int = self.directory[2 * place + 1]
        return bool(self.pages[(page << PAGE_BITS) + line % (1 << PAGE_BITS)] > 0)

    def discard(self, first: int, last: int) -> int:
        """Drop the lines from `first` to `last`; return how many of them were dirty."""
        return int(self.backend.discard(self.M, self.slots, self.log, self.directory, self.pages, first, last))

    def lend(self, M: Store) -> None:
        """Move the heads into the `M` of a launch, which begins a new count of what left L2."""
        self.M[M_EPOCH] = (self.M[M_EPOCH] + 1) % (1 << 30)
        for field in _HEADS:
            M[field] = self.M[field]
        M[M_LOG_START] = M[M_LOG_END]
        self.M = M

    def reserve(self, pages: int, slots: int) -> None:
        """Make room for so many more pages, and slots as far as the capacity goes."""
        M, backend = self.M, self.backend
        wanted = int(M[M_PAGES]) + pages
        if wanted > M[M_PAGE_LIMIT]:
            limit = 1 << (wanted - 1).bit_length()
            self.pages = backend.grown(self.pages, limit << PAGE_BITS, UNKNOWN)
            M[M_PAGE_LIMIT] = limit
            self._make_directory(4 * limit)
        wanted = min(int(M[M_USED]) + slots, int(M[M_CAPACITY]))
        if wanted > M[M_SLOT_LIMIT]:
            limit = min(1 << (wanted - 1).bit_length(), int(M[M_CAPACITY]))
            self.slots = backend.grown(self.slots, L_SIZE * (limit + 1))
            self.log = backend.grown(self.log, _LOG_PER_SLOT * limit)
            M[M_SLOT_LIMIT], M[M_LOG_LIMIT] = limit, _LOG_PER_SLOT * limit

    def _make_directory(self, size: int) -> None:
        old = self.directory
        self.directory = self.backend.full(2 * size, EMPTY)
        self.M[M_DIR_MASK] = size - 1
        for at in range(0, len(old), 2):
            if old[at] != EMPTY:
                place = find(self.M, self.directory, int(old[at]))
                self.directory[2 * place], self.directory[2 * place + 1] = old[at], old[at + 1]
