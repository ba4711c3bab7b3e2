"""Kernels of the DMA engines' ports: the requests of a transfer, and when each is issued (docs/timing-model.md, DMA)."""

from __future__ import annotations

from npuvm.hw.compiled.calendar import set_key
from npuvm.hw.compiled.layout import (
    BEYOND,
    D_BYTE,
    D_INDEXED,
    D_PITCH,
    D_ROW,
    D_STREAM,
    D_WRITE,
    EMPTY,
    ENDING,
    H_LEAVES,
    H_LIMIT,
    H_TREE,
    H_UNIT,
    INF,
    KEY_BITS,
    Q_ADDR,
    Q_BYTES,
    Q_LATENCY,
    Q_OCCUPANCY,
    Q_ROWS,
    Q_SITE,
    TRANSFER,
    U_BURST,
    U_C_BYTES,
    U_C_PART,
    U_C_ROWS,
    U_C_SUM,
    U_C_TIME,
    U_CHARGED,
    U_CHUNK,
    U_CYCLE,
    U_KEPT,
    U_LAST_DONE,
    U_LEAF,
    U_PARTS,
    U_PLACE,
    U_PLACE_END,
    U_PLACES,
    U_PORT,
    U_PORT_PART,
    U_SIZE,
    U_STALLED,
    U_STATE,
    U_T_ADDR,
    U_T_AT,
    U_T_BYTE,
    U_T_BYTES,
    U_T_FIRST,
    U_T_INDEXED,
    U_T_LATENCY,
    U_T_PITCH,
    U_T_ROW,
    U_T_ROWS,
    U_T_SITE,
    U_T_START,
    U_T_STREAM,
    U_T_WRITE,
    U_TOGETHER,
    Store,
)

__all__ = ["begin_transfer", "cut", "issue", "passed"]


def begin_transfer(W: Store, SITE: Store, uid: int, item: int, start: int) -> None:
    """A DMA instruction starts: its port is busy with the issue, then its first request follows."""
    unit = W[H_UNIT] + uid * U_SIZE
    site = W[item + Q_SITE]
    W[unit + U_STATE] = TRANSFER
    W[unit + U_T_START] = start
    W[unit + U_T_LATENCY] = W[item + Q_LATENCY]
    W[unit + U_T_SITE] = site
    W[unit + U_T_ADDR] = W[item + Q_ADDR]
    W[unit + U_T_ROWS] = W[item + Q_ROWS]
    W[unit + U_T_BYTES] = W[item + Q_BYTES]
    W[unit + U_T_PITCH] = SITE[site + D_PITCH]
    W[unit + U_T_WRITE] = SITE[site + D_WRITE]
    W[unit + U_T_STREAM] = SITE[site + D_STREAM]
    W[unit + U_T_INDEXED] = SITE[site + D_INDEXED]
    W[unit + U_T_BYTE] = SITE[site + D_BYTE]
    W[unit + U_T_ROW] = SITE[site + D_ROW]
    W[unit + U_T_AT] = 0
    W[unit + U_T_FIRST] = 1
    W[unit + U_STALLED] = 0
    W[unit + U_KEPT] = EMPTY
    if W[unit + U_PORT] < start:
        W[unit + U_PORT], W[unit + U_PORT_PART] = start, 0
    W[unit + U_PORT] += W[item + Q_OCCUPANCY]
    cut(W, unit)
    issue(W, unit, uid)


def cut(W: Store, unit: int) -> None:
    """The next request of a transfer: its rows, the bytes of each, and its time in the port."""
    parts, burst = W[unit + U_PARTS], W[unit + U_BURST]
    rows, row_bytes, chunk = W[unit + U_T_ROWS], W[unit + U_T_BYTES], W[unit + U_CHUNK]
    later = 0 if W[unit + U_T_FIRST] else 1
    if row_bytes > chunk:
        left = row_bytes - W[unit + U_T_AT]
        nbytes = chunk if left > chunk else left
        new_row = later if W[unit + U_T_AT] == 0 else 0
        rows, charged, steps = 1, nbytes, new_row
    else:
        nbytes = row_bytes
        charged = row_bytes if row_bytes > burst else burst
        if rows * charged > chunk:
            if charged != W[unit + U_CHARGED]:
                W[unit + U_CHARGED] = charged
                W[unit + U_TOGETHER] = chunk // charged
            rows = W[unit + U_TOGETHER]
        charged *= rows
        steps = rows - 1 + later
    time = charged * W[unit + U_T_BYTE] + steps * W[unit + U_T_ROW]
    W[unit + U_C_ROWS] = rows
    W[unit + U_C_BYTES] = nbytes
    # Divisions cost more than all the rest; most requests are like the one before.
    if time != W[unit + U_C_SUM]:
        W[unit + U_C_SUM] = time
        W[unit + U_C_TIME] = time // parts
        W[unit + U_C_PART] = time % parts


def issue(W: Store, unit: int, uid: int) -> None:
    """When the request may be issued: as the port reaches it, and a place in flight is vacant."""
    vacant = W[W[unit + U_PLACES] + W[unit + U_PLACE]]
    cycle = W[unit + U_PORT]
    if vacant > cycle:
        W[unit + U_STALLED] += vacant - cycle
        W[unit + U_PORT], W[unit + U_PORT_PART] = vacant, 0
        cycle = vacant
    W[unit + U_CYCLE] = cycle
    if cycle > W[H_LIMIT]:
        W[unit + U_STATE] = BEYOND
        set_key(W, W[H_TREE], W[H_LEAVES], W[unit + U_LEAF], INF)
        return
    set_key(W, W[H_TREE], W[H_LEAVES], W[unit + U_LEAF], cycle << KEY_BITS | uid)


def passed(W: Store, unit: int, uid: int, done: int) -> int:
    """The request was served and is done in `done`; go on to the next one. Returns 1 after the last."""
    port, part = W[unit + U_PORT] + W[unit + U_C_TIME], W[unit + U_PORT_PART] + W[unit + U_C_PART]
    if part >= W[unit + U_PARTS]:
        part -= W[unit + U_PARTS]
        port += 1
    W[unit + U_PORT], W[unit + U_PORT_PART] = port, part
    if part:
        port += 1
    if port > done:
        done = port
    if W[unit + U_LAST_DONE] > done:
        done = W[unit + U_LAST_DONE]
    W[unit + U_LAST_DONE] = done
    W[W[unit + U_PLACES] + W[unit + U_PLACE]] = done
    place = W[unit + U_PLACE] + 1
    W[unit + U_PLACE] = place if place < W[unit + U_PLACE_END] else 0
    if W[unit + U_T_BYTES] > W[unit + U_CHUNK]:
        W[unit + U_T_AT] += W[unit + U_C_BYTES]
        if W[unit + U_T_AT] >= W[unit + U_T_BYTES]:
            W[unit + U_T_AT] = 0
            W[unit + U_T_ROWS] -= 1
            W[unit + U_T_ADDR] += W[unit + U_T_PITCH]
            W[unit + U_T_FIRST] = 0
    else:
        W[unit + U_T_ROWS] -= W[unit + U_C_ROWS]
        W[unit + U_T_ADDR] += W[unit + U_C_ROWS] * W[unit + U_T_PITCH]
        W[unit + U_T_FIRST] = 0
    if W[unit + U_T_ROWS] > 0:
        cut(W, unit)
        issue(W, unit, uid)
        return 0
    set_key(W, W[H_TREE], W[H_LEAVES], W[unit + U_LEAF], INF)
    W[unit + U_STATE] = ENDING
    return 1
