"""Kernels of the units: each starts its instructions as far as all they need is known (docs/timing-model.md, Units)."""

from __future__ import annotations

from npuvm.hw.compiled.calendar import set_key
from npuvm.hw.compiled.layout import (
    BEYOND,
    BLOCKED,
    C_FULL,
    C_OUT,
    C_SIZE,
    D_BYTE,
    D_ORDER,
    D_SET0,
    D_SETS,
    D_WAIT0,
    D_WAITS,
    ENDING,
    GROW_TOKENS,
    H_ARG0,
    H_CORE,
    H_DEPTH,
    H_LIMIT,
    H_NUMBERS,
    H_SEM_OF,
    H_STALL,
    H_TAKE_LEAVES,
    H_TAKES,
    H_UNIT,
    KEY_BITS,
    OK,
    PENDING,
    Q_LATENCY,
    Q_OCCUPANCY,
    Q_QUEUED,
    Q_ROWS,
    Q_SIM,
    Q_SITE,
    Q_SIZE,
    Q_SYNC,
    Q_TIME,
    READY,
    S_COUNT,
    S_HEAD,
    S_OTHER,
    S_PRODUCER,
    S_TIMED,
    S_WAITER,
    TAKE,
    TWO_CONSUMERS,
    U_BUSY,
    U_COUNT,
    U_CYCLE,
    U_DECODE,
    U_DONE,
    U_FREE,
    U_GRANT,
    U_HEAD,
    U_LAST,
    U_LAST_DONE,
    U_LOOKED,
    U_MEMORY,
    U_ORDERED,
    U_PORT,
    U_QUEUE,
    U_QUEUED,
    U_QUEUED_SEEN,
    U_SEM,
    U_SIZE,
    U_STALLED,
    U_STARTED,
    U_STARTUP,
    U_STATE,
    U_SYNC,
    U_SYNC_SEEN,
    U_T_LATENCY,
    U_T_SITE,
    U_T_START,
    U_TIMED,
    UNITS,
    Store,
)
from npuvm.hw.compiled.ports import begin_transfer
from npuvm.hw.compiled.signals import consider, first_signal, full_ring, heard, send

__all__ = ["charge_start", "crossed", "end_transfer", "look", "run_unit", "take", "visible"]


def run_unit(W: Store, SITE: Store, TOK: Store, core: int, code: int) -> int:
    """Start instructions of a unit until its queue is empty or one must wait for something that is not known yet."""
    uid = core * UNITS + code
    unit = W[H_UNIT] + uid * U_SIZE
    record = W[H_CORE] + core * C_SIZE
    depth = W[H_DEPTH]
    if W[unit + U_STATE] == ENDING:
        status = end_transfer(W, SITE, TOK, core, uid)
        if status:
            return status
    while W[unit + U_COUNT] > 0 and W[unit + U_STATE] == READY:
        item = W[unit + U_QUEUE] + W[unit + U_HEAD] * Q_SIZE
        site = W[item + Q_SITE]
        issued, free = W[item + Q_TIME], W[unit + U_FREE]
        head = issued if issued > free else free
        start = head
        waits = SITE[site + D_WAITS]
        if waits:
            start = visible(W, SITE, TOK, core, uid, item, head)
            if start < 0:
                break
        if SITE[site + D_ORDER] and W[unit + U_DONE] > start:
            start = W[unit + U_DONE]
        if start > W[H_LIMIT]:
            W[unit + U_STATE] = BEYOND
            break
        if waits and W[unit + U_TIMED]:
            if W[unit + U_GRANT] != start:
                W[unit + U_STATE] = PENDING
                set_key(W, W[H_TAKES], W[H_TAKE_LEAVES], uid, start << KEY_BITS | TAKE | uid)
                break
            ring = crossed(W, SITE, core, uid, site, start)
            if ring:
                W[H_ARG0] = ring - 1
                return TWO_CONSUMERS
        if SITE[site + D_SETS]:
            ring = full_ring(W, SITE, site, core)
            if ring:
                W[H_ARG0] = ring - 1
                return GROW_TOKENS
        charge_start(W, unit, item, issued, free)
        if not W[unit + U_STARTED]:
            W[unit + U_STARTUP] = head = start
        if waits:
            head = take(W, SITE, TOK, core, uid, site, head, start)
        W[unit + U_ORDERED] += start - head
        W[unit + U_STARTED] += 1
        W[unit + U_LAST] = start
        W[item + Q_TIME] = start
        next_head = W[unit + U_HEAD] + 1
        W[unit + U_HEAD] = next_head if next_head < depth else 0
        W[unit + U_COUNT] -= 1
        if W[record + C_FULL] == code:
            W[record + C_FULL] = 0
        if SITE[site + D_BYTE] and W[item + Q_ROWS]:
            begin_transfer(W, SITE, uid, item, start)
            break
        free = start + W[item + Q_OCCUPANCY]
        W[unit + U_FREE] = free
        W[unit + U_BUSY] += W[item + Q_OCCUPANCY]
        done = free + W[item + Q_LATENCY]
        if done < W[unit + U_DONE]:
            done = W[unit + U_DONE]
        W[unit + U_DONE] = done
        W[record + C_OUT] -= 1
        for k in range(SITE[site + D_SETS]):
            semaphore = W[W[H_SEM_OF] + core * W[H_NUMBERS] + SITE[site + D_SET0 + k]]
            send(W, TOK, semaphore, done, code, start)
    return OK


def visible(W: Store, SITE: Store, TOK: Store, core: int, uid: int, item: int, start: int) -> int:
    """When all signals that an instruction waits for are visible, `start` at the earliest; -1 when one is not known yet.

    The unit is then blocked. U_TIMED says whether the calendar must grant the wait.
    """
    names = W[H_SEM_OF] + core * W[H_NUMBERS]
    unit = W[H_UNIT] + uid * U_SIZE
    site = W[item + Q_SITE]
    timed = 0
    missing = -1
    for k in range(SITE[site + D_WAITS]):
        number = SITE[site + D_WAIT0 + k]
        semaphore = W[names + number]
        timed |= W[semaphore + S_TIMED]
        at = first_signal(W, TOK, semaphore, 1 if k == 1 and number == SITE[site + D_WAIT0] else 0)
        if at < 0 and missing < 0:
            missing = semaphore
        if at > start:
            start = at
    W[unit + U_TIMED] = timed
    # The unit looks at its next instruction when it has started one, or, idle since, when that is dispatched.
    last = W[unit + U_LAST]
    W[unit + U_LOOKED] = last if W[unit + U_STARTED] and W[item + Q_SIM] <= last else W[item + Q_TIME]
    if W[unit + U_LOOKED] > W[H_LIMIT]:
        W[unit + U_STATE] = BEYOND
        return -1
    if timed:
        for k in range(SITE[site + D_WAITS]):
            semaphore = W[names + SITE[site + D_WAIT0 + k]]
            if W[semaphore + S_TIMED] and look(W, semaphore, uid) and missing < 0:
                missing = semaphore
    if missing >= 0:
        if not W[missing + S_TIMED]:
            W[missing + S_WAITER] = uid
        W[unit + U_STATE] = BLOCKED
        W[unit + U_SEM] = missing
        return -1
    return start


def take(W: Store, SITE: Store, TOK: Store, core: int, uid: int, site: int, head: int, start: int) -> int:
    """Count the semaphores down in cycle `start`, charge the cycles since `head` to them; returns when the last was visible."""
    names = W[H_SEM_OF] + core * W[H_NUMBERS]
    for k in range(SITE[site + D_WAITS]):
        number = SITE[site + D_WAIT0 + k]
        semaphore = W[names + number]
        at = first_signal(W, TOK, semaphore, 0)
        if W[semaphore + S_TIMED]:
            heard(W, TOK, semaphore, start)
        W[semaphore + S_HEAD] += 1
        W[semaphore + S_COUNT] -= 1
        if W[semaphore + S_WAITER] == uid:
            W[semaphore + S_WAITER] = -1
            other = W[semaphore + S_OTHER]
            if other >= 0:
                W[semaphore + S_WAITER], W[semaphore + S_OTHER] = other, -1
                consider(W, other)
        if at > head:
            W[W[H_STALL] + (uid * W[H_NUMBERS] + number) * UNITS + W[semaphore + S_PRODUCER]] += at - head
            head = at
    return head


def charge_start(W: Store, unit: int, item: int, issued: int, free: int) -> None:
    """Charge the cycles without an instruction to what the sequencer has spent since the one before, then to decoding."""
    if W[unit + U_STARTED] and issued > free:
        starved = issued - free
        part = W[item + Q_SYNC] - W[unit + U_SYNC_SEEN]
        if part > starved:
            part = starved
        W[unit + U_SYNC] += part
        starved -= part
        part = W[item + Q_QUEUED] - W[unit + U_QUEUED_SEEN]
        if part > starved:
            part = starved
        W[unit + U_QUEUED] += part
        W[unit + U_DECODE] += starved - part
    W[unit + U_SYNC_SEEN] = W[item + Q_SYNC]
    W[unit + U_QUEUED_SEEN] = W[item + Q_QUEUED]


def end_transfer(W: Store, SITE: Store, TOK: Store, core: int, uid: int) -> int:
    """All requests of a unit's transfer are served: its completion is known, and when the unit is free."""
    unit = W[H_UNIT] + uid * U_SIZE
    site = W[unit + U_T_SITE]
    if SITE[site + D_SETS]:
        ring = full_ring(W, SITE, site, core)
        if ring:
            W[H_ARG0] = ring - 1
            return GROW_TOKENS
    start, stalled = W[unit + U_T_START], W[unit + U_STALLED]
    # One start a cycle at most.
    free = W[unit + U_PORT] if W[unit + U_PORT] > start else start + 1
    done = W[unit + U_LAST_DONE] + W[unit + U_T_LATENCY]
    if done < W[unit + U_DONE]:
        done = W[unit + U_DONE]
    W[unit + U_STATE] = READY
    W[unit + U_FREE] = free
    W[unit + U_DONE] = done
    W[unit + U_MEMORY] += stalled
    W[unit + U_BUSY] += free - start - stalled
    W[W[H_CORE] + core * C_SIZE + C_OUT] -= 1
    for k in range(SITE[site + D_SETS]):
        semaphore = W[W[H_SEM_OF] + core * W[H_NUMBERS] + SITE[site + D_SET0 + k]]
        send(W, TOK, semaphore, done, uid & 7, W[unit + U_CYCLE])
    return OK


def look(W: Store, semaphore: int, uid: int) -> int:
    """A unit waits for a timed semaphore. Returns 1 when it is not its turn: another unit has looked before it.

    One unit may wait at a time. Units are worked on ahead of time, so the later one is noted until the earlier one has taken
    its signal; only then is it known whether they waited at the same time (`crossed`).
    """
    waiter = W[semaphore + S_WAITER]
    if waiter < 0 or waiter == uid:
        W[semaphore + S_WAITER] = uid
        return 0
    if W[W[H_UNIT] + uid * U_SIZE + U_LOOKED] < W[W[H_UNIT] + waiter * U_SIZE + U_LOOKED]:
        W[semaphore + S_WAITER] = uid
        W[semaphore + S_OTHER] = waiter
        consider(W, waiter)
        return 0
    W[semaphore + S_OTHER] = uid
    return 1


def crossed(W: Store, SITE: Store, core: int, uid: int, site: int, start: int) -> int:
    """A semaphore of an instruction that starts for which another unit began to wait before, plus 1; 0 when there is none."""
    for k in range(SITE[site + D_WAITS]):
        semaphore = W[W[H_SEM_OF] + core * W[H_NUMBERS] + SITE[site + D_WAIT0 + k]]
        other = W[semaphore + S_OTHER]
        if other >= 0 and W[semaphore + S_WAITER] == uid and W[W[H_UNIT] + other * U_SIZE + U_LOOKED] < start:
            return semaphore + 1
    return 0
