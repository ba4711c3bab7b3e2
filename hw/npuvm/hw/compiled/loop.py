"""The engine's main kernel: cores work ahead as far as they can, then the calendars say what comes first."""

from __future__ import annotations

from npuvm.hw.compiled.calendar import set_key
from npuvm.hw.compiled.cores import advance
from npuvm.hw.compiled.layout import (
    C_GRANT,
    C_SIZE,
    C_STACKED,
    GROW_LINES,
    H_ARG0,
    H_ARG1,
    H_CORE,
    H_INPUTS,
    H_STACK,
    H_STACKED,
    H_TAKE_LEAVES,
    H_TAKES,
    H_TREE,
    H_UNIT,
    INF,
    INPUT,
    KEY_BITS,
    M_CAPACITY,
    M_HINTS,
    M_LINE_LEAST,
    M_MARGIN,
    M_PAGE_LIMIT,
    M_PAGES,
    M_REQUESTS,
    M_SLOT_LIMIT,
    M_USED,
    OK,
    PAGE_BITS,
    READY,
    TAKE,
    U_C_BYTES,
    U_C_ROWS,
    U_GRANT,
    U_SIZE,
    U_STATE,
    U_T_INDEXED,
    U_T_PITCH,
    UNITS,
    Store,
)
from npuvm.hw.compiled.ports import passed
from npuvm.hw.compiled.requests import foresee, request
from npuvm.hw.compiled.signals import wake_core

__all__ = ["grant", "run", "serve", "short_of_lines"]


def run(
    W: Store, M: Store, SITE: Store, COL: Store, TOK: Store, SLOT: Store, LOG: Store, DIR: Store, PAGE: Store
) -> int:  # fmt: skip
    """Run until everything has happened that can, or the caller is wanted; can be called again after that.

    OK: nothing is left to happen. INPUT: cores in WANTS_INPUT need the next records of their programs. GROW_TOKENS: the
    semaphore at H_ARG0 needs a larger ring. GROW_LINES: the stores of L2 need
    H_ARG0 more pages and H_ARG1 more slots. TWO_CONSUMERS: for the semaphore at H_ARG0.
    """
    while True:
        while W[H_STACKED] > 0:
            W[H_STACKED] -= 1
            core = W[W[H_STACK] + W[H_STACKED]]
            W[W[H_CORE] + core * C_SIZE + C_STACKED] = 0
            status = advance(W, SITE, COL, TOK, core)
            if status:
                wake_core(W, core * UNITS)
                return status
        if W[H_INPUTS] > 0:
            return INPUT
        key = W[W[H_TREE] + 1]
        granted = W[W[H_TAKES] + 1]
        if granted < INF and granted >> KEY_BITS <= key >> KEY_BITS:
            grant(W, granted)
            continue
        if key == INF:
            return OK
        # A grant comes before the requests of its cycle.
        border = granted >> KEY_BITS
        status = serve(W, M, SLOT, LOG, DIR, PAGE, border)
        if status:
            return status


def grant(W: Store, key: int) -> None:
    """What is first in the calendar of takes and resets happens."""
    uid = key & (TAKE - 1)
    set_key(W, W[H_TAKES], W[H_TAKE_LEAVES], uid, INF)
    if key & TAKE:
        unit = W[H_UNIT] + uid * U_SIZE
        W[unit + U_GRANT] = key >> KEY_BITS
        W[unit + U_STATE] = READY
    else:
        W[W[H_CORE] + (uid >> 3) * C_SIZE + C_GRANT] = 1
    wake_core(W, uid)


def serve(
    W: Store, M: Store, SLOT: Store, LOG: Store, DIR: Store, PAGE: Store, border: int
) -> int:  # fmt: skip
    """Serve requests in order until a transfer's last one is served, or the next one is not before cycle `border`."""
    root, units = W[H_TREE] + 1, W[H_UNIT]
    while True:
        key = W[root]
        cycle = key >> KEY_BITS
        if key == INF or cycle >= border:
            return OK
        uid = key & (TAKE - 1)
        unit = units + uid * U_SIZE
        margin = M[M_MARGIN]
        scarce = M[M_USED] + margin > M[M_SLOT_LIMIT] and M[M_SLOT_LIMIT] < M[M_CAPACITY]
        if (scarce or M[M_PAGES] + margin > M[M_PAGE_LIMIT]) and short_of_lines(W, M, unit):
            return GROW_LINES
        done = request(W, M, SLOT, LOG, DIR, PAGE, unit, uid >> 3, cycle)
        M[M_REQUESTS] += 1
        if passed(W, unit, uid, done):
            wake_core(W, uid)
            return OK
        if M[M_HINTS]:
            foresee(W, M, SLOT, DIR, PAGE, unit)


def short_of_lines(W: Store, M: Store, unit: int) -> bool:
    """Whether the stores of L2 may be too small for a unit's request; it may need H_ARG0 pages and H_ARG1 slots."""
    rows, row_bytes = W[unit + U_C_ROWS], W[unit + U_C_BYTES]
    pitch = W[unit + U_T_PITCH] if rows > 1 else 0
    least = M[M_LINE_LEAST]
    slots = rows * ((row_bytes >> least) + 2)
    pages = ((rows * (pitch if pitch >= 0 else -pitch) + row_bytes) >> (least + PAGE_BITS)) + 2
    if slots < pages or W[unit + U_T_INDEXED]:
        pages = slots
    W[H_ARG0], W[H_ARG1] = pages, slots
    if M[M_PAGES] + pages > M[M_PAGE_LIMIT]:
        return True
    return M[M_SLOT_LIMIT] < M[M_CAPACITY] and M[M_USED] + slots > M[M_SLOT_LIMIT]
