"""Kernels of the memory system: one request of a DMA engine is served line by line, docs/timing-model.md, section Memory.

A server counts in whole cycles and parts of one, so that no remainder is lost and no number outgrows 64 bits.
"""

from __future__ import annotations

from npuvm.hw.compiled.hints import soon
from npuvm.hw.compiled.layout import (
    C_SIZE,
    C_STARTS,
    C_STARTS_MASK,
    CHANNEL_FIELDS,
    CORE_SHIFT,
    DIRTY,
    EMPTY,
    H_CORE,
    L_LINE,
    L_MARKS,
    L_READY,
    L_SIZE,
    LEFT,
    M_ACCESS,
    M_APART,
    M_BANKS,
    M_BLOCK,
    M_BLOCK_SHIFT,
    M_BURST,
    M_CHANNEL,
    M_CHANNEL_BYTE,
    M_CHANNEL_MASK,
    M_CHANNEL_UNITS,
    M_CHANNELS,
    M_COMPULSORY,
    M_DIRTY,
    M_EPOCH,
    M_FETCH_PART,
    M_FETCH_TIME,
    M_FIRST_WRITES,
    M_HASH,
    M_HBM_LATENCY,
    M_HIT_BYTES,
    M_L2_LATENCY,
    M_LINE,
    M_LINE_LEAST,
    M_LINE_PART,
    M_LINE_SHIFT,
    M_LINE_TIME,
    M_OPEN,
    M_PAGE_AT,
    M_PAGE_BASE,
    M_PIECE_PART,
    M_PIECE_SUM,
    M_PIECE_TIME,
    M_READ,
    M_ROOM,
    M_ROW_MISS,
    M_ROW_SPAN,
    M_SAME_LINE,
    M_SECTOR,
    M_SLICE,
    M_SLICE_BYTE,
    M_SLICE_MASK,
    M_SLICE_UNITS,
    M_SLICES,
    M_STREAMED,
    M_TURN,
    M_UNCACHED,
    M_WRITTEN,
    PAGE_BITS,
    U_C_BYTES,
    U_C_ROWS,
    U_KEPT,
    U_KEPT_DONE,
    U_PAGE,
    U_PAGE_BASE,
    U_T_ADDR,
    U_T_AT,
    U_T_INDEXED,
    U_T_PITCH,
    U_T_STREAM,
    U_T_WRITE,
    Store,
)
from npuvm.hw.compiled.lines import append, drop_oldest, entry, find, take_slot, touch

__all__ = ["at_hbm", "at_slot", "mix", "passes_l2", "read_past", "read_piece", "request", "room", "write_piece"]

READS, WRITES = 1, 2


def mix(number: int) -> int:
    """Spread block numbers over servers, so that pitches of powers of two do not meet in one."""
    return number ^ (number >> 5) ^ (number >> 10) ^ (number >> 15) ^ (number >> 20)


def at_hbm(M: Store, line: int, nbytes: int, direction: int, core: int, now: int) -> int:
    """A transfer of a channel, for a core or (-1) out of L2; returns the cycle by which it ends."""
    block = line >> M[M_BLOCK_SHIFT] if M[M_BLOCK_SHIFT] >= 0 else line // M[M_BLOCK]
    if M[M_HASH]:
        block = mix(block)
    which = block & M[M_CHANNEL_MASK] if M[M_CHANNEL_MASK] >= 0 else block % M[M_CHANNELS]
    server = M[M_CHANNEL] + CHANNEL_FIELDS * which
    cycle, part = M[server], M[server + 1]
    if cycle < now:
        cycle, part = now, 0
    if nbytes == M[M_LINE]:
        cycle += M[M_FETCH_TIME]
        part += M[M_FETCH_PART]
    else:
        burst = M[M_BURST]
        time = (nbytes + burst - 1) // burst * burst * M[M_CHANNEL_BYTE]
        cycle += time // M[M_CHANNEL_UNITS]
        part += time % M[M_CHANNEL_UNITS]
    if part >= M[M_CHANNEL_UNITS]:
        part -= M[M_CHANNEL_UNITS]
        cycle += 1
    if M[M_TURN]:
        if M[server + 2] and M[server + 2] != direction:
            cycle += M[M_TURN]
        M[server + 2] = direction
    if M[M_SAME_LINE] and core >= 0:
        if M[server + 3] == line and M[server + 4] and M[server + 4] != core + 1:
            cycle += M[M_SAME_LINE]
        M[server + 3] = line
        M[server + 4] = core + 1
    if M[M_ROW_MISS]:
        row = line * M[M_LINE] // M[M_ROW_SPAN]
        bank = M[M_OPEN] + which * M[M_BANKS] + row % M[M_BANKS]
        if M[bank] != row:
            M[bank] = row
            cycle += M[M_ROW_MISS]
    M[server], M[server + 1] = cycle, part
    return cycle + 1 if part else cycle


def at_slot(M: Store, SLOT: Store, core: int, line: int, slot: int, nbytes: int, now: int) -> int:
    """An access to a line in L2; returns the cycle by which its slice and the line's data are there."""
    M[M_HIT_BYTES] += nbytes
    number = mix(line) if M[M_HASH] else line
    which = number & M[M_SLICE_MASK] if M[M_SLICE_MASK] >= 0 else number % M[M_SLICES]
    server = M[M_SLICE] + 2 * which
    cycle, part = M[server], M[server + 1]
    if cycle < now:
        cycle, part = now, 0
    if nbytes == M[M_LINE]:
        cycle += M[M_LINE_TIME]
        part += M[M_LINE_PART]
    else:
        time = (nbytes if nbytes > M[M_ACCESS] else M[M_ACCESS]) * M[M_SLICE_BYTE]
        if time != M[M_PIECE_SUM]:
            M[M_PIECE_SUM] = time
            M[M_PIECE_TIME] = time // M[M_SLICE_UNITS]
            M[M_PIECE_PART] = time % M[M_SLICE_UNITS]
        cycle += M[M_PIECE_TIME]
        part += M[M_PIECE_PART]
    if part >= M[M_SLICE_UNITS]:
        part -= M[M_SLICE_UNITS]
        cycle += 1
    M[server], M[server + 1] = cycle, part
    if part:
        cycle += 1
    record = slot * L_SIZE
    ready = SLOT[record + L_READY]
    apart = M[M_APART]
    if apart:
        marks = SLOT[record + L_MARKS]
        last = marks >> CORE_SHIFT
        if last and last != core + 1:
            ready += apart
        if ready > cycle:
            cycle = ready
        SLOT[record + L_READY] = cycle
        SLOT[record + L_MARKS] = (core + 1) << CORE_SHIFT | (marks & (LEFT | DIRTY))
    elif ready > cycle:
        cycle = ready
    return cycle


def room(M: Store, SLOT: Store, LOG: Store, DIR: Store, PAGE: Store, now: int) -> int:
    """A slot for a new line, in no list; a full L2 gives up the line used least recently, and writes it back when dirty.

    M_ROOM is then the cycle from which the place is free, `now` for every other slot.
    """
    M[M_ROOM] = now
    slot = take_slot(M, SLOT)
    if slot == 0:
        slot = drop_oldest(M, SLOT, LOG, DIR, PAGE)
        if SLOT[slot * L_SIZE + L_MARKS] & DIRTY:
            M[M_DIRTY] -= 1
            M[M_WRITTEN] += M[M_LINE]
            M[M_ROOM] = at_hbm(M, SLOT[slot * L_SIZE + L_LINE], M[M_LINE], WRITES, -1, now)
    return slot


def read_piece(
    M: Store,
    SLOT: Store,
    LOG: Store,
    DIR: Store,
    PAGE: Store,
    core: int,
    line: int,
    nbytes: int,
    now: int,
) -> int:
    """Read bytes of a line through L2; returns the cycle by which they are there."""
    place = entry(M, DIR, line)
    slot = PAGE[place]
    if slot >= 0:
        touch(M, SLOT, LOG, slot)
        return at_slot(M, SLOT, core, line, slot, nbytes, now) + M[M_L2_LATENCY]
    M[M_READ] += M[M_LINE]
    left = LEFT
    if slot != -2 - M[M_EPOCH]:
        M[M_COMPULSORY] += M[M_LINE]
        left = 0
    slot = room(M, SLOT, LOG, DIR, PAGE, now)
    append(M, SLOT, LOG, slot)
    PAGE[place] = slot
    fetched = at_hbm(M, line, M[M_LINE], READS, core, now)
    ready = (fetched if fetched > M[M_ROOM] else M[M_ROOM]) + M[M_HBM_LATENCY]
    record = slot * L_SIZE
    SLOT[record + L_LINE] = line
    SLOT[record + L_READY] = ready
    SLOT[record + L_MARKS] = (core + 1) << CORE_SHIFT | left
    return ready + M[M_L2_LATENCY]


def read_past(M: Store, DIR: Store, PAGE: Store, core: int, line: int, nbytes: int, now: int) -> int:
    """Read bytes of a line from HBM past L2; returns the cycle by which they are there."""
    place = entry(M, DIR, line)
    slot = PAGE[place]
    if slot < 0 and slot != -2 - M[M_EPOCH]:
        M[M_COMPULSORY] += nbytes
        PAGE[place] = -2 - M[M_EPOCH]
    M[M_READ] += nbytes
    return at_hbm(M, line, nbytes, READS, core, now) + M[M_HBM_LATENCY] + M[M_L2_LATENCY]


def passes_l2(M: Store, SLOT: Store, DIR: Store, PAGE: Store, stream: int, borders: int, line: int) -> bool:
    """Whether a read goes past L2: one that streams if L2 has not the line, one off a block if it has no newer line than HBM.

    `borders` has the bits of the first and the end address of the piece.
    """
    unaligned = M[M_UNCACHED] and borders & 31
    if not stream and not unaligned:
        return False
    slot = PAGE[entry(M, DIR, line)]
    if slot < 0:
        return True
    return bool(unaligned) and SLOT[slot * L_SIZE + L_MARKS] & DIRTY == 0


def write_piece(
    M: Store,
    SLOT: Store,
    LOG: Store,
    DIR: Store,
    PAGE: Store,
    core: int,
    stream: int,
    line: int,
    nbytes: int,
    now: int,
) -> int:
    """Write bytes of a line; returns the cycle by which every core sees them."""
    place = entry(M, DIR, line)
    slot = PAGE[place]
    if slot < 0:
        if stream:
            M[M_STREAMED] += nbytes
            M[M_WRITTEN] += nbytes
            return at_hbm(M, line, nbytes, WRITES, core, now) + M[M_HBM_LATENCY] + M[M_L2_LATENCY]
        left = LEFT if slot == -2 - M[M_EPOCH] else 0
        slot = room(M, SLOT, LOG, DIR, PAGE, now)
        append(M, SLOT, LOG, slot)
        PAGE[place] = slot
        SLOT[slot * L_SIZE + L_LINE] = line
        SLOT[slot * L_SIZE + L_READY] = M[M_ROOM]
        SLOT[slot * L_SIZE + L_MARKS] = left
    else:
        touch(M, SLOT, LOG, slot)
    marks = SLOT[slot * L_SIZE + L_MARKS]
    if not marks & DIRTY:
        SLOT[slot * L_SIZE + L_MARKS] = marks | DIRTY
        M[M_DIRTY] += 1
        if not marks & LEFT:
            M[M_FIRST_WRITES] += 1
    return at_slot(M, SLOT, core, line, slot, nbytes, now) + M[M_L2_LATENCY]


def foresee(W: Store, M: Store, SLOT: Store, DIR: Store, PAGE: Store, unit: int) -> None:
    """A unit's next request will look up the line where it begins, the one after it an entry of the table."""
    if W[unit + U_T_INDEXED]:
        return
    at = W[unit + U_T_ADDR] + W[unit + U_T_AT]
    line = at >> M[M_LINE_SHIFT] if M[M_LINE_SHIFT] >= 0 else at // M[M_LINE]
    page = line >> PAGE_BITS
    if W[unit + U_PAGE] != page:
        place = find(M, DIR, page)
        if DIR[2 * place] == EMPTY:
            return
        W[unit + U_PAGE] = page
        W[unit + U_PAGE_BASE] = DIR[2 * place + 1] << PAGE_BITS
    base = W[unit + U_PAGE_BASE]
    after = at + W[unit + U_C_ROWS] * W[unit + U_T_PITCH] >> M[M_LINE_LEAST]
    if after >> PAGE_BITS == page:
        soon(PAGE, base + (after & ((1 << PAGE_BITS) - 1)))
    slot = PAGE[base + (line & ((1 << PAGE_BITS) - 1))]
    soon(SLOT, (slot if slot > 0 else 0) * L_SIZE)


def request(
    W: Store, M: Store, SLOT: Store, LOG: Store, DIR: Store, PAGE: Store, unit: int, core: int, now: int
) -> int:  # fmt: skip
    """Serve the request that a unit has cut; returns the cycle by which all of it is done."""
    if W[unit + U_PAGE] != EMPTY:
        M[M_PAGE_AT], M[M_PAGE_BASE] = W[unit + U_PAGE], W[unit + U_PAGE_BASE]
    shift, size = M[M_LINE_SHIFT], M[M_LINE]
    write, stream = W[unit + U_T_WRITE], W[unit + U_T_STREAM]
    at, row_bytes = W[unit + U_T_ADDR] + W[unit + U_T_AT], W[unit + U_C_BYTES]
    done = starts = mask = 0
    if W[unit + U_T_INDEXED]:
        record = W[H_CORE] + core * C_SIZE
        starts, mask = W[record + C_STARTS], W[record + C_STARTS_MASK]
    for row in range(W[unit + U_C_ROWS]):
        if starts:
            at = W[starts + (W[unit + U_T_ADDR] + row & mask)] + W[unit + U_T_AT]
        start, end = at, at + row_bytes
        line = start >> shift if shift >= 0 else start // size
        while start < end:
            border = (line + 1) * size
            stop = border if border < end else end
            if write:
                cycle = write_piece(M, SLOT, LOG, DIR, PAGE, core, stream, line, stop - start, now)
            elif passes_l2(M, SLOT, DIR, PAGE, stream, start | stop, line):
                # The engine keeps the line, or sector, that it got past L2 last, until its instruction ends.
                grain = M[M_SECTOR] if stream else size
                first, last = start // grain, (stop - 1) // grain
                if first == W[unit + U_KEPT]:
                    first += 1
                if first <= last:
                    W[unit + U_KEPT] = last
                    W[unit + U_KEPT_DONE] = read_past(M, DIR, PAGE, core, line, (last - first + 1) * grain, now)
                cycle = W[unit + U_KEPT_DONE]
            else:
                cycle = read_piece(M, SLOT, LOG, DIR, PAGE, core, line, stop - start, now)
            if cycle > done:
                done = cycle
            start = border
            line += 1
        at += W[unit + U_T_PITCH]
    return done
