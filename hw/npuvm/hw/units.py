"""One unit of a core: takes instructions from its queue in order, waits for what they need, occupies itself, completes them.

docs/timing-model.md, sections Units and DMA, is the contract. A unit is one simpy process that usually sleeps once per
instruction: what an instruction needs is mostly known as cycles in the future (its dispatch, the signals it waits for, the
end of the one before), so the unit computes its start and sleeps until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from simpy import Event, Interrupt, Timeout

from npuvm.hw.chunks import Engine, plan_chunks
from npuvm.hw.clock import Clock
from npuvm.hw.memory import DmaPort, MemorySystem, Transfer
from npuvm.hw.semaphores import Semaphore

if TYPE_CHECKING:
    from npuvm.hw.observe import Observer
    from npuvm.hw.stream import Site, Stream

__all__ = ["Batch", "SiteRun", "Unit"]


class SiteRun:
    """What an instruction of a site needs at run time, looked up once per site.

    `waits` pairs a semaphore with how many earlier waits of the same instruction are on it. `byte_units` is how long a
    byte takes in the port of a DMA engine, in fractions of a cycle (`Engine.units`).
    """

    __slots__ = ("byte_units", "order", "sets", "site", "unit", "waits")

    def __init__(self, site: Site, unit: Unit, waits: tuple[tuple[Semaphore, int], ...], sets: tuple[Semaphore, ...]):
        self.site = site
        self.unit = unit
        self.waits = waits
        self.sets = sets
        self.order = site.order
        self.byte_units = unit.engine.byte_units(site) if unit.engine is not None and site.dma is not None else 0


@dataclass(frozen=True, slots=True)
class Batch:
    """The stream that an instruction comes from; `base` numbers its first row among all instructions of the core."""

    stream: Stream
    base: int


Item = tuple[int, SiteRun, int, int, int, Batch]
"""An instruction in a queue: cycle of dispatch, site, occupancy, latency, row in its stream, stream."""


class Unit:
    """A unit of one core.

    `queue` holds dispatched instructions, the head included until it starts. `idle` is the event that wakes a unit with
    an empty queue; `full` the one that wakes a sequencer which found the queue full. `free` is when the last instruction ceased
    to occupy the unit, `done` when it completes. `on_quiet` is called whenever the queue runs empty.
    """

    def __init__(
        self, clock: Clock, core: int, name: str, code: int, engine: Engine | None, memory: MemorySystem
    ) -> None:
        self.clock = clock
        self.core = core
        self.name = name
        self.code = code
        self.engine = engine
        self.memory = memory
        self.observer: Observer | None = None
        self.queue: deque[Item] = deque()
        self.idle: Event | None = None
        self.full: Event | None = None
        self.blocked_on: Semaphore | None = None
        self.free = self.done = 0
        self.busy = self.starved = self.ordered = self.memory_stall = 0
        self.wait_stalls: dict[tuple[int, str], int] = {}
        self.on_quiet: Callable[[], None] | None = None
        self.port = None if engine is None else DmaPort(core, code, self, engine.units, engine.outstanding)
        self._gate = Event(clock)
        self._process = clock.process(self._run())

    @property
    def label(self) -> str:
        """Name for messages: "vector of core 3"."""
        return f"{self.name} of core {self.core}"

    def rouse(self) -> None:
        """Make a sleeping unit look again at what it waits for."""
        self._process.interrupt()

    def _run(self) -> Generator[Event, Any, None]:
        clock, queue, name = self.clock, self.queue, self.name
        free = 0
        while True:
            if not queue:
                self.free = free
                idle = self.idle = Event(clock)
                if self.on_quiet is not None:
                    self.on_quiet()
                yield idle
            issued, run, occupancy, latency, row, batch = queue[0]
            head = start = issued if issued > free else free
            waits = run.waits
            if waits:
                missing = None
                for semaphore, nth in waits:
                    tokens = semaphore.tokens
                    if len(tokens) <= nth:
                        missing = semaphore
                        break
                    if tokens[nth] > start:
                        start = tokens[nth]
                if missing is not None:
                    yield from self._block(missing)
                    continue
            if run.order and self.done > start:
                start = self.done
            now = clock.now
            if start > now:
                if waits:
                    if (yield from self._sleep(waits, start - now)):
                        continue
                else:
                    yield Timeout(clock, start - now)
            queue.popleft()
            if self.full is not None:
                clock.wake(self.full, 0)
                self.full = None
            self.starved += head - free
            if waits:
                head = self._take(waits, head)
            self.ordered += start - head
            if run.byte_units and batch.stream.rows.gm_rows[row]:
                free = yield from self._transfer(run, occupancy, latency, row, batch, start)
                continue
            free = start + occupancy
            self.busy += occupancy
            done = free + latency
            if done < self.done:
                done = self.done
            self.done = done
            for semaphore in run.sets:
                semaphore.signal(done, name)
            if self.observer is not None:
                token = self.observer.started(self, run, row, batch, start)
                self.observer.completes(self, token, free, done)

    def _block(self, semaphore: Semaphore) -> Generator[Event, Any, None]:
        """Sleep until a semaphore without a token gets one."""
        semaphore.await_by(self)
        event = semaphore.blocked = Event(self.clock)
        self.blocked_on = semaphore
        try:
            yield event
        except Interrupt:
            semaphore.blocked = None
        self.blocked_on = None

    def _sleep(self, waits: tuple[tuple[Semaphore, int], ...], delay: int) -> Generator[Event, Any, bool]:
        """Sleep until the signals are visible; True when one of them changed meanwhile."""
        for semaphore, _ in waits:
            semaphore.await_by(self)
        try:
            yield Timeout(self.clock, delay)
        except Interrupt:
            return True
        return False

    def _take(self, waits: tuple[tuple[Semaphore, int], ...], head: int) -> int:
        """Count the semaphores down and charge the cycles since `head` to them; return when the last was visible."""
        stalls = self.wait_stalls
        for semaphore, _ in waits:
            at = semaphore.tokens.popleft()
            semaphore.sleeper = None
            if at > head:
                key = (semaphore.number, semaphore.producer or "set-up")
                stalls[key] = stalls.get(key, 0) + at - head
                head = at
        return head

    def _transfer(
        self, run: SiteRun, occupancy: int, latency: int, row: int, batch: Batch, start: int
    ) -> Generator[Event, Any, int]:
        """Issue the requests of a DMA instruction; return the cycle in which the engine is free for the next one."""
        engine, port, dma, columns = self.engine, self.port, run.site.dma, batch.stream.rows
        assert engine is not None and port is not None and dma is not None
        token = None if self.observer is None else self.observer.started(self, run, row, batch, start)
        chunks = plan_chunks(engine, columns.gm_rows[row], columns.gm_row_bytes[row], dma.pitch)
        before = max(port.busy, start * port.units)
        transfer = Transfer(
            chunks,
            columns.gm_addr[row],
            dma.pitch,
            dma.write,
            dma.streaming,
            run.byte_units,
            engine.row_cycles * port.units,
            (run, latency, token),
        )
        port.busy = before + occupancy * port.units
        self.memory.begin(port, transfer, 0)
        self._gate = Event(self.clock)
        yield self._gate
        free = self.clock.now
        self.memory_stall += transfer.stalled
        self.busy += free - start - transfer.stalled
        return free

    def issued(self, transfer: Transfer, free: int, done: int) -> None:
        """All requests of the transfer are served: its completion is known."""
        run, latency, token = cast("tuple[SiteRun, int, Any]", transfer.subject)
        self.done = done = max(done + latency, self.done)
        for semaphore in run.sets:
            semaphore.signal(done, self.name)
        if self.observer is not None:
            self.observer.completes(self, token, free, done)
        self.clock.wake(self._gate, free - self.clock.now)
