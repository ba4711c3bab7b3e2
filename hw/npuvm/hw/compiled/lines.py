"""Kernels of L2's contents: the table from lines to slots, and the order of use as a list linked through the slots.

The table is cut into pages of 2 ** PAGE_BITS lines, made when first touched; DIR finds a page by hashing, and the page used
last is remembered. Neighbouring lines have neighbouring entries, which the host's caches like.
"""

from __future__ import annotations

from npuvm.hw.compiled.layout import (
    EMPTY,
    M_CAPACITY,
    M_DIR_MASK,
    M_EPOCH,
    M_FREED,
    M_PAGE_AT,
    M_PAGE_BASE,
    M_PAGES,
    M_USED,
    PAGE_BITS,
    UNKNOWN,
    Store,
)

__all__ = ["SPREAD", "append", "discard", "drop_oldest", "entry", "fill", "find", "remove", "take_slot", "touch"]

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


def touch(LINK: Store, slot: int) -> None:
    """Make a slot the one used last."""
    last = LINK[0]
    if last != slot:
        before, after = LINK[2 * slot], LINK[2 * slot + 1]
        LINK[2 * before + 1] = after
        LINK[2 * after] = before
        LINK[2 * slot] = last
        LINK[2 * slot + 1] = 0
        LINK[2 * last + 1] = slot
        LINK[0] = slot


def append(LINK: Store, slot: int) -> None:
    """Put a slot that is in no list behind the one used last."""
    last = LINK[0]
    LINK[2 * slot] = last
    LINK[2 * slot + 1] = 0
    LINK[2 * last + 1] = slot
    LINK[0] = slot


def remove(LINK: Store, slot: int) -> None:
    """Take a slot out of the list."""
    before, after = LINK[2 * slot], LINK[2 * slot + 1]
    LINK[2 * before + 1] = after
    LINK[2 * after] = before


def take_slot(M: Store, LINK: Store) -> int:
    """A slot that is not in use, 0 when L2 is full."""
    slot = M[M_FREED]
    if slot > 0:
        M[M_FREED] = LINK[2 * slot + 1]
        return slot
    if M[M_USED] < M[M_CAPACITY]:
        M[M_USED] += 1
        return M[M_USED]
    return 0


def drop_oldest(M: Store, SLOT: Store, LINK: Store, DIR: Store, PAGE: Store) -> int:
    """Take the slot used least recently out of the list and its line out of the table, as one that left in this launch."""
    slot = LINK[1]
    remove(LINK, slot)
    PAGE[entry(M, DIR, SLOT[2 * slot])] = -2 - M[M_EPOCH]
    return slot


def discard(M: Store, SLOT: Store, LINK: Store, DIR: Store, PAGE: Store, first: int, last: int) -> int:
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
                dirty += SLOT[2 * slot + 1]
                remove(LINK, slot)
                LINK[2 * slot + 1] = M[M_FREED]
                M[M_FREED] = slot
                PAGE[base + line] = UNKNOWN
            line += 1
    return dirty


def fill(M: Store, SLOT: Store, LINK: Store, DIR: Store, PAGE: Store, lines: Store, dirty: Store) -> None:
    """Put lines that are not in L2 behind those used last, in this order; there is room for all."""
    for k in range(len(lines)):
        slot = take_slot(M, LINK)
        append(LINK, slot)
        PAGE[entry(M, DIR, lines[k])] = slot
        SLOT[2 * slot] = lines[k]
        SLOT[2 * slot + 1] = dirty[k]
