"""Simulated time: a simpy environment that counts whole cycles and serves memory requests between its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from simpy import Environment, Event
from simpy.events import NORMAL, EventPriority

__all__ = ["Clock"]


class Clock(Environment):
    """A simpy environment with integer time and a second calendar.

    `requests` is a heap of memory requests, (cycle, core, unit, ...). Those of a cycle are served by `serve` when every event
    of that cycle has happened and before any later one. They far outnumber events, and so they are none themselves.
    """

    _now: int

    def __init__(self) -> None:
        super().__init__(0)
        self.requests: list[tuple[int, int, int, Iterator[int]]] = []
        self.serve: Callable[[], None] | None = None

    @property
    def now(self) -> int:
        """The current cycle."""
        return self._now

    def advance(self, cycle: int) -> None:
        """Set the current cycle, between events."""
        self._now = cycle

    def idle_event(self) -> Event:
        """An event for one waiter that can be used again and again: `wait` on it, `wake` it."""
        event = Event(self)
        event._ok = True
        event._value = None
        event.callbacks = None  # type: ignore[assignment] # as of an event that has happened
        return event

    def wake(self, event: Event, cycle: int, priority: EventPriority = NORMAL) -> None:
        """Let an event happen in a cycle that is not past."""
        heappush(self._queue, (cycle, priority, next(self._eid), event))

    def sleep(self, event: Event, cycle: int) -> Event:
        """Make an `idle_event` that is not waited for happen in a cycle; return it, to be waited for."""
        event.callbacks = []
        heappush(self._queue, (cycle, NORMAL, next(self._eid), event))
        return event

    def run_until_quiet(self, limit: int | None) -> bool:
        """Run until nothing is left to happen; False when something is left after cycle `limit`."""
        queue, requests = self._queue, self.requests
        end = float("inf") if limit is None else limit
        while queue or requests:
            if requests and (not queue or requests[0][0] < queue[0][0]):
                assert self.serve is not None
                self.serve()
                continue
            if queue[0][0] > end:
                return False
            self._now, _, _, event = heappop(queue)  # type: ignore[assignment] # simpy's time may be a float, ours is not
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment] # as simpy marks it processed
            for callback in callbacks:
                callback(event)
            if not event._ok and not hasattr(event, "_defused"):
                assert isinstance(event._value, BaseException)
                raise event._value
        return True
