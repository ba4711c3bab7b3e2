"""Kernels of semaphores: signals on their way, who waits for them, and new counts.

A semaphore is *timed* when a signal may overtake another one, a new count may drop signals, or other cores may do either:
then a wait is granted by the calendar, in the order of cycles. For all others a wait gets the next signal.
"""

from __future__ import annotations

from npuvm.hw.compiled.calendar import set_key
from npuvm.hw.compiled.layout import (
    BEYOND,
    BLOCKED,
    C_SIZE,
    C_STACKED,
    C_TODO,
    D_SET0,
    D_SETS,
    H_CORE,
    H_NUMBERS,
    H_SEM_OF,
    H_STACK,
    H_STACKED,
    H_TAKE_LEAVES,
    H_TAKES,
    H_UNIT,
    INF,
    PENDING,
    READY,
    S_BASE,
    S_COUNT,
    S_DELAY,
    S_HEAD,
    S_MASK,
    S_PRODUCER,
    S_SAID,
    S_SAID_HEAD,
    S_TIMED,
    S_WAITER,
    U_SIZE,
    U_STATE,
    Store,
)

__all__ = ["consider", "first_signal", "full_ring", "heard", "reset_count", "say", "send", "wake_core"]


def wake_core(W: Store, uid: int) -> None:
    """Note that a unit may be able to go on, and its core with it."""
    core = uid >> 3
    record = W[H_CORE] + core * C_SIZE
    W[record + C_TODO] |= 1 << (uid & 7)
    if not W[record + C_STACKED]:
        W[record + C_STACKED] = 1
        W[W[H_STACK] + W[H_STACKED]] = core
        W[H_STACKED] += 1


def consider(W: Store, uid: int) -> None:
    """A semaphore that a unit waits for has changed: let it look again."""
    unit = W[H_UNIT] + uid * U_SIZE
    state = W[unit + U_STATE]
    if state == PENDING:
        set_key(W, W[H_TAKES], W[H_TAKE_LEAVES], uid, INF)
    if state in (PENDING, BLOCKED, BEYOND):
        W[unit + U_STATE] = READY
        wake_core(W, uid)


def full_ring(W: Store, SITE: Store, site: int, core: int) -> int:
    """A semaphore of a site's sets that has no room for two more signals, plus 1; 0 when there is none."""
    for k in range(SITE[site + D_SETS]):
        semaphore = W[W[H_SEM_OF] + core * W[H_NUMBERS] + SITE[site + D_SET0 + k]]
        if W[semaphore + S_COUNT] + 2 > W[semaphore + S_MASK] + 1:
            return semaphore + 1
    return 0


def send(W: Store, TOK: Store, semaphore: int, done: int, code: int, cycle: int) -> None:
    """Count up by one for waits that can see a completion in `done`; the unit `code` says so in `cycle`."""
    at = done + W[semaphore + S_DELAY]
    base, mask = W[semaphore + S_BASE], W[semaphore + S_MASK]
    place = W[semaphore + S_HEAD] + W[semaphore + S_COUNT]
    if W[semaphore + S_TIMED]:
        # Several producers: keep the signals in the order in which they become visible.
        while place > W[semaphore + S_HEAD] and TOK[base + ((place - 1) & mask)] > at:
            TOK[base + (place & mask)] = TOK[base + ((place - 1) & mask)]
            place -= 1
        say(W, TOK, semaphore, cycle, code)
    else:
        W[semaphore + S_PRODUCER] = code
    TOK[base + (place & mask)] = at
    W[semaphore + S_COUNT] += 1
    if W[semaphore + S_WAITER] >= 0:
        consider(W, W[semaphore + S_WAITER])


def say(W: Store, TOK: Store, semaphore: int, cycle: int, code: int) -> None:
    """Note that a unit has signalled a timed semaphore in a cycle, in the order of cycles."""
    head, mask = W[semaphore + S_SAID_HEAD], W[semaphore + S_MASK]
    base = W[semaphore + S_BASE] + mask + 1
    place = head + W[semaphore + S_SAID]
    while place > head and TOK[base + ((place - 1) & mask)] >> 3 > cycle:
        TOK[base + (place & mask)] = TOK[base + ((place - 1) & mask)]
        place -= 1
    TOK[base + (place & mask)] = cycle << 3 | code
    W[semaphore + S_SAID] += 1


def heard(W: Store, TOK: Store, semaphore: int, now: int) -> None:
    """Make S_PRODUCER the unit that has signalled a timed semaphore last, as of cycle `now`."""
    mask = W[semaphore + S_MASK]
    base = W[semaphore + S_BASE] + mask + 1
    while W[semaphore + S_SAID] > 0:
        said = TOK[base + (W[semaphore + S_SAID_HEAD] & mask)]
        if said >> 3 > now:
            break
        W[semaphore + S_PRODUCER] = said & 7
        W[semaphore + S_SAID_HEAD] += 1
        W[semaphore + S_SAID] -= 1


def first_signal(W: Store, TOK: Store, semaphore: int, nth: int) -> int:
    """When the next signal is visible, or with `nth` 1 the one after it; -1 when it is not known."""
    if W[semaphore + S_COUNT] <= nth:
        return -1
    return TOK[W[semaphore + S_BASE] + ((W[semaphore + S_HEAD] + nth) & W[semaphore + S_MASK])]


def reset_count(W: Store, TOK: Store, semaphore: int, count: int, now: int) -> None:
    """Set the count from cycle `now` on; signals of what completed before are dropped. The ring has room for `count` more."""
    base, mask, head = W[semaphore + S_BASE], W[semaphore + S_MASK], W[semaphore + S_HEAD]
    kept = W[semaphore + S_COUNT]
    if W[semaphore + S_TIMED]:
        heard(W, TOK, semaphore, now)
    while kept > 0 and TOK[base + (head & mask)] < now + W[semaphore + S_DELAY]:
        head += 1
        kept -= 1
    for k in range(count):
        TOK[base + ((head - count + k) & mask)] = now
    W[semaphore + S_HEAD] = head - count
    W[semaphore + S_COUNT] = kept + count
    if W[semaphore + S_WAITER] >= 0:
        consider(W, W[semaphore + S_WAITER])
