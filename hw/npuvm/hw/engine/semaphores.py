"""Counted semaphores in simulated time: a signal carries the cycle from which a wait may take it."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from simpy import Event

from npuvm.hw.engine.clock import Clock
from npuvm.hw.errors import SimulationError

if TYPE_CHECKING:
    from npuvm.hw.engine.units import Unit

__all__ = ["Semaphore", "SemaphoreBank"]


class Semaphore:
    """One counter. `tokens` are the cycles from which each unit of the count can be taken, in ascending order.

    `delay` is what a set takes until a wait can see it; it is at least one cycle, so a unit never influences another in the
    same cycle. One unit waits on a semaphore at a time; a second one is an error. Several producers are allowed here (the
    static verifier is stricter) and stay exact: a signal that overtakes a later one wakes a waiting unit again.
    """

    __slots__ = ("blocked", "clock", "delay", "number", "producer", "scope", "sleeper", "tokens")

    def __init__(self, clock: Clock, number: int, scope: str, delay: int) -> None:
        self.clock = clock
        self.number = number
        self.scope = scope
        self.delay = delay
        self.tokens: deque[int] = deque()
        self.blocked: Event | None = None
        self.sleeper: Unit | None = None
        self.producer: str | None = None

    def signal(self, completion: int, producer: str) -> None:
        """Count up by one for waits from `completion + delay` on."""
        at = completion + self.delay
        tokens = self.tokens
        self.producer = producer
        if tokens and at < tokens[-1]:
            ordered = list(tokens)
            insort(ordered, at)
            self.tokens = deque(ordered)
            self._rouse()
        else:
            tokens.append(at)
        blocked = self.blocked
        if blocked is not None:
            self.blocked = None
            self.clock.wake(blocked, at)

    def reset(self, count: int) -> None:
        """Set the count from this cycle on; what completed before it is dropped, also where no wait could see it yet."""
        now = self.clock.now
        self.tokens = deque([now] * count + [at for at in self.tokens if at >= now + self.delay])
        self._rouse()

    def await_by(self, unit: Unit) -> None:
        """Note who waits, so that it can be woken; SimulationError when another unit waits already."""
        if self.sleeper is not None and self.sleeper is not unit:
            raise SimulationError(
                f"semaphore {self.number} ({self.scope} scope) has two consumers, {self.sleeper.label} and {unit.label}; "
                "one unit may wait on it"
            )
        self.sleeper = unit

    def _rouse(self) -> None:
        self.blocked = None
        if self.sleeper is not None:
            self.sleeper.rouse()


class SemaphoreBank:
    """The semaphores that one core sees; those of wider scope are shared with the other cores of the group or launch."""

    def __init__(self, own: Callable[[int], Semaphore], count: int) -> None:
        self._own = own
        self._known: list[Semaphore | None] = [None] * count

    def __getitem__(self, number: int) -> Semaphore:
        found = self._known[number]
        if found is None:
            found = self._known[number] = self._own(number)
        return found
