"""What the compiled engine says of a launch that cannot go on, in the words of the other engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuvm.hw.compiled.layout import (
    BLOCKED,
    C_RECORD,
    C_SIZE,
    C_TEXT,
    C_TEXT_AT,
    H_CORE,
    H_NUMBERS,
    H_SEM,
    H_SEM_OF,
    H_UNIT,
    Q_SITE,
    Q_SIZE,
    R_HALT,
    R_SIZE,
    S_OTHER,
    S_WAITER,
    T_FULL,
    T_MEET,
    T_RUN,
    T_START,
    U_COUNT,
    U_DONE,
    U_HEAD,
    U_QUEUE,
    U_SEM,
    U_SIZE,
    U_STATE,
    UNITS,
    Store,
)
from npuvm.hw.compiled.world import SCOPES

if TYPE_CHECKING:
    from npuvm.hw.compiled.feed import Feed
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.engine.chip import CoreProgram
    from npuvm.isa import Isa

__all__ = ["explain", "last_cycle", "two_consumers"]


def explain(W: Store, chip: NpuConfig, isa: Isa, feed: Feed, program: CoreProgram, core: int) -> str:
    """What a core that did not finish waits for: each unit with its semaphore and place, and the sequencer."""
    parts = []
    for name in chip.units(program.core_type):
        unit = W[H_UNIT] + (core * UNITS + isa.units[name]) * U_SIZE
        if name == "seq" or not W[unit + U_COUNT]:
            continue
        item = W[unit + U_QUEUE] + W[unit + U_HEAD] * Q_SIZE
        site = feed.site(int(W[item + Q_SITE]))
        if W[unit + U_STATE] == BLOCKED:
            number = _number(W, core, int(W[unit + U_SEM]))
            parts.append(f"{name} waits for semaphore {number} ({isa.semaphore_scope(number)}) in {site.label}")
        else:
            parts.append(f"{name} is at {site.label}")
    parts.append(f"sequencer: {_state(W, feed, core)}")
    return f"core {core}: {', '.join(parts)}"


def two_consumers(W: Store, isa: Isa, semaphore: int) -> str:
    """That two units wait for a semaphore."""
    names = {code: name for name, code in isa.units.items()}
    units = [int(W[semaphore + field]) for field in (S_WAITER, S_OTHER)]
    one, other = (f"{names[uid % UNITS]} of core {uid // UNITS}" for uid in units)
    number = _number(W, units[0] // UNITS, semaphore)
    return (
        f"semaphore {number} ({isa.semaphore_scope(number)} scope) has two consumers, {one} and {other}; "
        "one unit may wait on it"
    )


def last_cycle(W: Store) -> int:
    """The last completion of any unit."""
    return max((int(W[unit + U_DONE]) for unit in range(int(W[H_UNIT]), int(W[H_SEM]), U_SIZE)), default=0)


def _number(W: Store, core: int, semaphore: int) -> int:
    base = W[H_SEM_OF] + core * W[H_NUMBERS]
    return [int(each) for each in W[base : base + W[H_NUMBERS]]].index(semaphore)


def _state(W: Store, feed: Feed, core: int) -> str:
    record = W[H_CORE] + core * C_SIZE
    text, at = W[record + C_TEXT], int(W[record + C_TEXT_AT])
    if text == T_START:
        return "starting"
    if text == T_RUN:
        return "running"
    if text == T_FULL:
        site = feed.site(at)
        return f"queue of {site.unit_name} full at {site.label}"
    entry = W[record + C_RECORD] + at * R_SIZE
    scope, word = SCOPES[W[entry + 2]], W[entry + 3]
    if text == T_MEET:
        return f"{scope} barrier at word {word}"
    if W[entry] == R_HALT:
        return f"draining for halt at word {word}"
    return f"draining for a {scope} barrier at word {word}"
