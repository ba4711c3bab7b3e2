"""Kernels of L2's contents: the table from lines to slots, and the order of use as a log.

The table is cut into pages of 2 ** PAGE_BITS lines, made when first touched; DIR finds a page by hashing, and the page used
last is remembered. Neighbouring lines have neighbouring entries, which the host's caches like.

LOG has the slots in the order of their uses, one entry for each use; only that of its last use counts, which the slot's record
names. A hit so touches its entry in the table and its record, where a linked list would touch its neighbours' as well. A full
log is packed, and the slot used least recently is the first entry that counts.
"""

from __future__ import annotations

from npuvm.hw.compiled.layout import (
    DIRTY,
    EMPTY,
    L_LINE,
    L_MARKS,
    L_READY,
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
    M_PAGES,
    M_USED,
    PAGE_BITS,
    UNKNOWN,
    Store,
)

__all__ = ["SPREAD", "append", "discard", "drop_oldest", "entry", "fill", "find", "pack", "take_slot", "touch"]

SPREAD = 0x9E3779B1


def find(M: Store, DIR: Store, page: int) -> int:
    """The place of a page in the directory, or the vacant one where it belongs."""
    mask = M[M_DIR_MASK]
    place = ((page * SPREAD) >> 7) & mask
    while DIR[2 * place] != page and DIR[2 * place] != EMPTY:
        place = (place + 1) & mask
    return place


def entry(M: Store, DIR: Store, line: int) -> int:
    """Where PAGE holds a line's slot; makes the page when it is new (room for it is the caller's care)."""
    page = line >> PAGE_BITS
    if page != M[M_PAGE_AT]:
        place = find(M, DIR, page)
        if DIR[2 * place] == EMPTY:
            DIR[2 * place] = page
            DIR[2 * place + 1] = M[M_PAGES]
            M[M_PAGES] += 1
        M[M_PAGE_AT] = page
        M[M_PAGE_BASE] = DIR[2 * place + 1] << PAGE_BITS
    return M[M_PAGE_BASE] + (line & ((1 << PAGE_BITS) - 1))


def touch(M: Store, SLOT: Store, LOG: Store, slot: int) -> None:
    """Make a slot the one used last; what it says of an earlier launch is forgotten."""
    at = slot * L_SIZE
    used = SLOT[at + L_USED]
    if used < M[M_LOG_START]:
        SLOT[at + L_READY] = 0
        SLOT[at + L_MARKS] &= DIRTY
        append(M, SLOT, LOG, slot)
    elif used != M[M_LOG_END] - 1:
        append(M, SLOT, LOG, slot)


def append(M: Store, SLOT: Store, LOG: Store, slot: int) -> None:
    """Note a use of a slot."""
    if M[M_LOG_END] == M[M_LOG_LIMIT]:
        pack(M, SLOT, LOG)
    end = M[M_LOG_END]
    LOG[end] = slot
    SLOT[slot * L_SIZE + L_USED] = end
    M[M_LOG_END] = end + 1


def pack(M: Store, SLOT: Store, LOG: Store) -> None:
    """Leave nothing but last uses in the log."""
    kept, start = 0, 0
    for place in range(M[M_LOG_HEAD], M[M_LOG_END]):
        slot = LOG[place]
        if SLOT[slot * L_SIZE + L_USED] == place:
            LOG[kept] = slot
            SLOT[slot * L_SIZE + L_USED] = kept
            kept += 1
            if place < M[M_LOG_START]:
                start = kept
    M[M_LOG_HEAD], M[M_LOG_END], M[M_LOG_START] = 0, kept, start


def take_slot(M: Store, SLOT: Store) -> int:
    """A slot that is not in use, 0 when L2 is full."""
    slot = M[M_FREED]
    if slot > 0:
        M[M_FREED] = SLOT[slot * L_SIZE + L_LINE]
        return slot
    if M[M_USED] < M[M_CAPACITY]:
        M[M_USED] += 1
        return M[M_USED]
    return 0


def drop_oldest(M: Store, SLOT: Store, LOG: Store, DIR: Store, PAGE: Store) -> int:
    """Take the slot used least recently, and its line out of the table as one that left in this launch."""
    place = M[M_LOG_HEAD]
    while SLOT[LOG[place] * L_SIZE + L_USED] != place:
        place += 1
    M[M_LOG_HEAD] = place + 1
    slot = LOG[place]
    PAGE[entry(M, DIR, SLOT[slot * L_SIZE + L_LINE])] = -2 - M[M_EPOCH]
    return slot


def discard(M: Store, SLOT: Store, LOG: Store, DIR: Store, PAGE: Store, first: int, last: int) -> int:
    """Drop the lines from `first` to `last`; returns how many of them were dirty."""
    dirty = 0
    line = first
    while line <= last:
        page = line >> PAGE_BITS
        place = find(M, DIR, page)
        base = (DIR[2 * place + 1] << PAGE_BITS) - (page << PAGE_BITS)
        end = min(last + 1, (page + 1) << PAGE_BITS)
        while line < end:
            slot = PAGE[base + line] if DIR[2 * place] == page else UNKNOWN
            if slot > 0:
                dirty += SLOT[slot * L_SIZE + L_MARKS] & DIRTY
                SLOT[slot * L_SIZE + L_USED] = -1
                SLOT[slot * L_SIZE + L_LINE] = M[M_FREED]
                M[M_FREED] = slot
                PAGE[base + line] = UNKNOWN
            line += 1
    return dirty


def fill(M: Store, SLOT: Store, LOG: Store, DIR: Store, PAGE: Store, lines: Store, dirty: Store) -> None:
    """Put lines that are not in L2 behind those used last, in this order; there is room for all."""
    for k in range(len(lines)):
        slot = take_slot(M, SLOT)
        append(M, SLOT, LOG, slot)
        PAGE[entry(M, DIR, lines[k])] = slot
        SLOT[slot * L_SIZE + L_LINE] = lines[k]
        SLOT[slot * L_SIZE + L_MARKS] = dirty[k]
