"""Kernels of the sequencers: each runs ahead with a clock of its own, its units beside it (docs/timing-model.md)."""

from __future__ import annotations

from npuvm.hw.compiled.calendar import set_key
from npuvm.hw.compiled.layout import (
    B_ARRIVED,
    B_CYCLES,
    B_LATEST,
    B_MEMBERS,
    C_AT,
    C_BARRIER,
    C_CLOCK,
    C_DECODE,
    C_DISPATCHED,
    C_DRAIN,
    C_END,
    C_FILLED,
    C_FINISHED,
    C_FULL,
    C_GRANT,
    C_MEET,
    C_OUT,
    C_QUEUE_FULL,
    C_QUEUED,
    C_RECORD,
    C_ROW,
    C_SCALAR,
    C_SIM,
    C_SIZE,
    C_STATE,
    C_SYNC,
    C_TEXT,
    C_TEXT_AT,
    C_TODO,
    D_BYTE,
    D_UNIT,
    DRAINING,
    FINISHED,
    FULL,
    GROW_TOKENS,
    H_ARG0,
    H_COLUMN,
    H_CORE,
    H_CORES,
    H_DEPTH,
    H_INPUTS,
    H_LIMIT,
    H_NUMBERS,
    H_SCALAR,
    H_SEM_OF,
    H_TAKE_LEAVES,
    H_TAKES,
    H_UNIT,
    KEY_BITS,
    LATE,
    MEETING,
    NEXT,
    OK,
    Q_ADDR,
    Q_BYTES,
    Q_LATENCY,
    Q_OCCUPANCY,
    Q_QUEUED,
    Q_ROWS,
    Q_SIM,
    Q_SITE,
    Q_SIZE,
    Q_SYNC,
    Q_TIME,
    R_BARRIER,
    R_HALT,
    R_SCALAR,
    R_SET,
    R_SIZE,
    R_STREAM,
    READY,
    RESETTING,
    S_COUNT,
    S_MASK,
    S_TIMED,
    STREAM,
    T_DRAIN,
    T_FULL,
    T_MEET,
    T_RUN,
    U_COUNT,
    U_DONE,
    U_HEAD,
    U_QUEUE,
    U_SIZE,
    U_STATE,
    UNITS,
    WANTS_INPUT,
    Store,
)
from npuvm.hw.compiled.signals import reset_count, wake_core
from npuvm.hw.compiled.units import run_unit

__all__ = ["advance", "dispatch", "drain", "meet", "next_record", "resume", "stop"]


def advance(W: Store, SITE: Store, COL: Store, TOK: Store, core: int) -> int:
    """Work on a core until nothing in it can go on without memory, other cores or more of its program."""
    record = W[H_CORE] + core * C_SIZE
    while True:
        todo = W[record + C_TODO]
        if todo:
            code = 0
            while not todo >> code & 1:
                code += 1
            W[record + C_TODO] = todo & (todo - 1)
            if code:
                status = run_unit(W, SITE, TOK, core, code)
                if status:
                    W[record + C_TODO] |= 1 << code
                    return status
            continue
        state = W[record + C_STATE]
        if state == STREAM or (state == FULL and W[record + C_FULL] == 0):
            dispatch(W, SITE, COL, core)
        elif state == NEXT or (state == RESETTING and W[record + C_GRANT]):
            status = next_record(W, TOK, core)
            if status:
                return status
        elif state == DRAINING and W[record + C_OUT] == 0:
            drain(W, core)
        else:
            return OK


def dispatch(W: Store, SITE: Store, COL: Store, core: int) -> None:
    """Dispatch rows of the stream until a queue is full."""
    record = W[H_CORE] + core * C_SIZE
    row, end, window, depth = W[record + C_ROW], W[record + C_END], W[H_COLUMN], W[H_DEPTH]
    clock, queued, sim = W[record + C_CLOCK], W[record + C_QUEUED], W[record + C_SIM]
    spent = 0
    while row < end:
        site = COL[row]
        code = SITE[site + D_UNIT]
        unit = W[H_UNIT] + (core * UNITS + code) * U_SIZE
        count = W[unit + U_COUNT]
        if count == depth:
            W[record + C_STATE] = FULL
            W[record + C_FULL] = code
            W[record + C_TEXT], W[record + C_TEXT_AT] = T_FULL, site
            break
        gap = COL[row + window]
        clock += gap
        spent += gap
        place = W[unit + U_HEAD] + count
        item = W[unit + U_QUEUE] + (place if place < depth else place - depth) * Q_SIZE
        # The place was vacated by the instruction `depth` before this one when it started; it can be taken a cycle later.
        started = W[item + Q_TIME]
        if started > sim:
            sim = started
        if clock <= started:
            W[record + C_QUEUE_FULL + code] += started + 1 - clock
            queued += started + 1 - clock
            clock = started + 1
        W[item + Q_TIME] = clock
        W[item + Q_SITE] = site
        W[item + Q_OCCUPANCY] = COL[row + 2 * window]
        W[item + Q_LATENCY] = COL[row + 3 * window]
        W[item + Q_SYNC] = W[record + C_SYNC]
        W[item + Q_QUEUED] = queued
        W[item + Q_SIM] = sim
        if SITE[site + D_BYTE]:
            W[item + Q_ADDR] = COL[row + 4 * window]
            W[item + Q_ROWS] = COL[row + 5 * window]
            W[item + Q_BYTES] = COL[row + 6 * window]
        W[unit + U_COUNT] = count + 1
        W[record + C_OUT] += 1
        if count == 0 and W[unit + U_STATE] == READY:
            W[record + C_TODO] |= 1 << code
        row += 1
    W[record + C_DECODE] += spent
    W[record + C_CLOCK], W[record + C_QUEUED], W[record + C_SIM] = clock, queued, sim
    W[record + C_ROW] = row
    if row == end:
        W[record + C_STATE] = NEXT
        W[record + C_TEXT] = T_RUN


def next_record(W: Store, TOK: Store, core: int) -> int:
    """Work off the next record of a core's program."""
    record = W[H_CORE] + core * C_SIZE
    at = W[record + C_AT]
    if at == W[record + C_FILLED]:
        W[record + C_STATE] = WANTS_INPUT
        W[H_INPUTS] += 1
        return OK
    entry = W[record + C_RECORD] + at * R_SIZE
    kind = W[entry]
    if kind == R_SET:
        semaphore = W[W[H_SEM_OF] + core * W[H_NUMBERS] + W[entry + 1]]
        if W[semaphore + S_COUNT] + W[entry + 2] + 2 > W[semaphore + S_MASK] + 1:
            W[H_ARG0] = semaphore
            return GROW_TOKENS
        if W[semaphore + S_TIMED] and not W[record + C_GRANT]:
            W[record + C_STATE] = RESETTING
            key = W[record + C_CLOCK] << KEY_BITS | core * UNITS
            set_key(W, W[H_TAKES], W[H_TAKE_LEAVES], core * UNITS, key)
            return OK
        W[record + C_GRANT] = 0
        W[record + C_STATE] = NEXT
        reset_count(W, TOK, semaphore, W[entry + 2], W[record + C_CLOCK])
    elif kind == R_STREAM:
        W[record + C_ROW], W[record + C_END] = W[entry + 1], W[entry + 2]
        W[record + C_DISPATCHED] += W[entry + 2] - W[entry + 1]
        W[record + C_STATE] = STREAM
    elif kind >= R_BARRIER:
        W[record + C_CLOCK] += W[entry + 1]
        W[record + C_DECODE] += W[entry + 1]
        W[record + C_STATE] = DRAINING
        W[record + C_TEXT], W[record + C_TEXT_AT] = T_DRAIN, at
        # The record is worked off when the core is drained.
        return OK
    else:
        W[record + C_CLOCK] += W[entry + 1]
        W[record + C_DECODE] += W[entry + 1]
        if kind == R_SCALAR:
            stop(W, record, C_SCALAR, W[H_SCALAR])
        W[record + C_SIM] = W[record + C_CLOCK]
        if W[record + C_CLOCK] > W[H_LIMIT]:
            W[record + C_STATE] = LATE
            return OK
    W[record + C_AT] = at + 1
    return OK


def stop(W: Store, record: int, cause: int, cycles: int) -> None:
    """Spend cycles of a sequencer for something outside it."""
    W[record + C_CLOCK] += cycles
    W[record + C_SYNC] += cycles
    W[record + cause] += cycles


def drain(W: Store, core: int) -> None:
    """All units of a core have started everything: wait for the last completion, then halt or meet the others."""
    record = W[H_CORE] + core * C_SIZE
    latest = W[record + C_CLOCK]
    for code in range(1, UNITS):
        done = W[W[H_UNIT] + (core * UNITS + code) * U_SIZE + U_DONE]
        if done > latest:
            latest = done
    stop(W, record, C_DRAIN, latest - W[record + C_CLOCK])
    W[record + C_SIM] = latest
    if latest > W[H_LIMIT]:
        W[record + C_STATE] = LATE
        return
    entry = W[record + C_RECORD] + W[record + C_AT] * R_SIZE
    W[record + C_AT] += 1
    if W[entry] == R_HALT:
        W[record + C_FINISHED] = latest
        W[record + C_STATE] = FINISHED
    else:
        W[record + C_STATE] = MEETING
        W[record + C_TEXT] = T_MEET
        meet(W, core, W[entry + 2])


def meet(W: Store, core: int, scope: int) -> None:
    """A core arrives at a barrier; with the last one all of its scope go on."""
    meeting = W[W[H_CORE] + core * C_SIZE + C_MEET + scope]
    clock = W[W[H_CORE] + core * C_SIZE + C_CLOCK]
    if W[meeting + B_MEMBERS] == 1:
        resume(W, core, clock + W[meeting + B_CYCLES])
        return
    W[meeting + B_ARRIVED] += 1
    if clock > W[meeting + B_LATEST]:
        W[meeting + B_LATEST] = clock
    if W[meeting + B_ARRIVED] < W[meeting + B_MEMBERS]:
        return
    on = W[meeting + B_LATEST] + W[meeting + B_CYCLES]
    W[meeting + B_ARRIVED], W[meeting + B_LATEST] = 0, 0
    for other in range(W[H_CORES]):
        record = W[H_CORE] + other * C_SIZE
        # The record that it has worked off last says which barrier it came for.
        last = W[record + C_RECORD] + (W[record + C_AT] - 1) * R_SIZE
        if W[record + C_STATE] == MEETING and W[last + 2] == scope and W[record + C_MEET + scope] == meeting:
            resume(W, other, on)


def resume(W: Store, core: int, on: int) -> None:
    """A core goes on after a barrier in cycle `on`."""
    record = W[H_CORE] + core * C_SIZE
    stop(W, record, C_BARRIER, on - W[record + C_CLOCK])
    W[record + C_SIM] = on
    W[record + C_STATE] = NEXT if on <= W[H_LIMIT] else LATE
    wake_core(W, core * UNITS)
