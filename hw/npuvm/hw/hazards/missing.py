"""Says what would order two instructions that nothing orders: an order bit, a semaphore, a barrier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npuvm.hw.expansion.stream import Barrier
from npuvm.hw.hazards.layout import SEQUENCER
from npuvm.isa.control import SCOPES

if TYPE_CHECKING:
    from npuvm.hw.hazards.cores import Core, UnitRun
    from npuvm.hw.hazards.order import OrderRun, Touch
    from npuvm.hw.hazards.semaphores import Counted

__all__ = ["missing_order", "missing_set_up_order"]


def missing_set_up_order(run: OrderRun, user: Touch, step: Touch, semaphore: Counted) -> str:
    """Why using a semaphore and setting up its count are in no order."""
    scope = _scope(run, user, step)
    return f"a {scope} barrier between the use of semaphore {semaphore.number} and the set-up of its count"


def missing_order(run: OrderRun, earlier: Touch, later: Touch) -> str:
    """Why two instructions are in no order, in one sentence."""
    if later.code == SEQUENCER:
        return f"a {_scope(run, earlier, later)} barrier; a scalar load waits for nothing else"
    if earlier.code == SEQUENCER:
        return f"a {_scope(run, earlier, later)} barrier; {_too_small(run, earlier, later)}"
    one, other = _unit(run, earlier), _unit(run, later)
    if one is other:
        return "the order bit of the later one"
    between = [semaphore for semaphore in _sets(one) if semaphore in _waits(other)]
    reasons = sorted(_shortfall(run, semaphore, earlier, later) for semaphore in between)
    reason = reasons[0][1] if reasons else _no_semaphore(run, one, other, earlier, later)
    barrier = "" if one.core is other.core else f"; {_too_small(run, earlier, later)}"
    return reason + barrier


def _unit(run: OrderRun, touch: Touch) -> UnitRun:
    return next(unit for unit in run.core[touch.core].units if unit.code == touch.code)


def _name(run: OrderRun, touch: Touch, beside: Touch) -> str:
    """The unit, with its core where both are not of one."""
    name = run.core[touch.core].layout.record.units[touch.code].name
    return name if touch.core == beside.core else f"{name} of core {touch.core}"


def _sets(unit: UnitRun) -> list[Counted]:
    return list(dict.fromkeys(each for sync in unit.syncs if sync is not None for each in sync.sets))


def _waits(unit: UnitRun) -> list[Counted]:
    return list(dict.fromkeys(each for sync in unit.syncs if sync is not None for each in sync.waits))


def _no_semaphore(run: OrderRun, one: UnitRun, other: UnitRun, earlier: Touch, later: Touch) -> str:
    near = one.core is other.core  # of two cores, those of a core say nothing
    sides = (_sets(one), _waits(other))
    mine, theirs = (sorted(each.number for each in side if near or each.scope != "core") for side in sides)
    first, second = _name(run, earlier, later), _name(run, later, earlier)
    detail = f" ({first} sets {_numbers(mine)}, {second} waits for {_numbers(theirs)})" if mine or theirs else ""
    return f"{first} sets no semaphore that {second} waits for{detail}"


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _shortfall(run: OrderRun, semaphore: Counted, earlier: Touch, later: Touch) -> tuple[int, str]:
    """How many sets too early the wait for a semaphore is, and that in words."""
    first, second = _name(run, earlier, later), _name(run, later, earlier)
    link = f"semaphore {semaphore.number} is set by {first} and waited for by {second}"
    if semaphore.loose:
        return 1 << 20, f"{link}, but more than one unit sets it or waits for it, so that no wait orders anything"
    needed = next((number for at, number in _all_sets(run, semaphore, earlier) if at >= earlier.number), None)
    taken = semaphore.last_taken(_unit(run, later).id, later.number)
    if needed is None:
        return 1 << 19, f"{link}, but {first} does not set it after the earlier one"
    if taken is None:
        return needed, f"{link}, but not before the later one; the data are of set number {needed}"
    if taken == 0:
        return needed, f"{link}, but the wait takes a count of the set-up; the data are of set number {needed}"
    early = needed - taken
    plural = "s" if early > 1 else ""
    text = (
        f"this wait is {early} set{plural} too early: it takes set number {taken}, the data are of set number {needed}"
    )
    return early, f"{link}, but {text}"


def _all_sets(run: OrderRun, semaphore: Counted, touch: Touch) -> Iterator[tuple[int, int]]:
    """(instruction, number of the set) of a unit's sets, those that are still to come included."""
    unit = _unit(run, touch)
    yield from semaphore.numbers_of_sets(unit.id)
    number = len(semaphore.sets)
    done = max((at for at, _ in semaphore.numbers_of_sets(unit.id)), default=0)
    for at in range(max(done, touch.number - 1), len(unit.syncs)):
        sync = unit.syncs[at]
        if sync is not None and semaphore in sync.sets:
            number += 1
            yield at + 1, number


def _scope(run: OrderRun, one: Touch, other: Touch) -> str:
    """The scope of what both cores see."""
    if one.core == other.core:
        return "core"
    return "group" if run.core[one.core].group == run.core[other.core].group else "launch"


def _too_small(run: OrderRun, earlier: Touch, later: Touch) -> str:
    """That no barrier reaches both cores, naming one that is too small."""
    scope = _scope(run, earlier, later)
    small = SCOPES[: SCOPES.index(scope)]
    for barrier in _barriers_after(run.core[earlier.core], earlier):
        if barrier.scope in small:
            return f"the {barrier.scope} barrier at word {barrier.pc} does not reach core {later.core}"
    return f"nor does a {scope} barrier lie between"


def _barriers_after(core: Core, touch: Touch) -> Iterator[Barrier]:
    """Barriers of a core after one of its instructions."""
    laid = core.layout
    place = laid.place(touch.code, touch.number)
    for rows, event, _, _ in laid.events:
        if isinstance(event, Barrier) and 2 * rows > place:
            yield event
