"""One unit of a core: takes instructions from its queue in order, waits for what they need, occupies itself, completes them.

docs/timing-model.md, sections Units and DMA, is the contract. A unit is one simpy process that usually sleeps once per
instruction: what an instruction needs is mostly known as cycles in the future (its dispatch, the signals it waits for, the
end of the one before), so the unit computes its start and sleeps until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from simpy import Event, Interrupt

from npuvm.hw.engine.clock import Clock
from npuvm.hw.engine.semaphores import Semaphore
from npuvm.hw.functional.indices import row_indices
from npuvm.hw.memory.chunks import Engine, plan_chunks
from npuvm.hw.memory.system import DmaPort, MemorySystem, Transfer

if TYPE_CHECKING:
    from npuvm.hw.engine.observe import Observer
    from npuvm.hw.expansion.stream import Site, Stream

__all__ = ["Backlog", "Batch", "SiteRun", "Unit"]


class SiteRun:
    """What an instruction of a site needs at run time, looked up once per site.

    `waits` pairs a semaphore with how many earlier waits of the same instruction are on it. `byte_units` and
    `row_units` are how long a byte and a further row take in the port of a DMA engine, in 1/`Engine.units` cycle.
    """

    __slots__ = ("byte_units", "order", "row_units", "sets", "site", "unit", "waits")

    def __init__(self, site: Site, unit: Unit, waits: tuple[tuple[Semaphore, int], ...], sets: tuple[Semaphore, ...]):
        self.site = site
        self.unit = unit
        self.waits = waits
        self.sets = sets
        self.order = site.order
        self.byte_units = self.row_units = 0
        if unit.engine is not None and site.dma is not None:
            self.byte_units, self.row_units = unit.engine.byte_units(site), unit.engine.row_units(site)


@dataclass(frozen=True, slots=True)
class Batch:
    """The stream that an instruction comes from; `base` numbers its first row among all instructions of the core."""

    stream: Stream
    base: int


Waits: TypeAlias = tuple[tuple[Semaphore, int], ...]

Item: TypeAlias = tuple[int, SiteRun, int, int, int, Batch, int, int]
"""An instruction in a queue: cycle of dispatch, site, occupancy, latency, row in its stream, stream; then how many cycles its
sequencer had spent, up to the dispatch, in drains, barriers and scalar loads, and how many at full queues."""


class Backlog:
    """A run of instructions for a unit whose queue is full: the unit takes them over as places become free.

    They are consecutive, so nothing else is dispatched before the last of them has a place; then `taken` happens. `row` is the
    first of them, ready for dispatch in cycle `clock`; `stalled` counts the cycles that dispatch had to wait. `synced` and
    `queued` are what the sequencer had spent before, see `Item`.
    """

    __slots__ = ("batch", "clock", "end", "queued", "row", "runs", "stalled", "synced", "taken", "unit")

    def __init__(
        self, unit: Unit, batch: Batch, runs: list[SiteRun], row: int, clock: int, synced: int, queued: int
    ) -> None:
        sites = batch.stream.rows.site
        end = row + 1
        while end < len(sites) and runs[sites[end]].unit is unit:
            end += 1
        self.unit = unit
        self.batch = batch
        self.runs = runs
        self.row = row
        self.end = end
        self.clock = clock
        self.synced = synced
        self.queued = queued
        self.stalled = 0
        self.taken = unit.clock.idle_event()
        self.taken.callbacks = []

    def admit(self, started: int) -> None:
        """An instruction of the unit has started in this cycle: the next one gets its place a cycle later."""
        columns, row, clock = self.batch.stream.rows, self.row, self.clock
        if clock <= started:
            self.stalled += started + 1 - clock
            clock = started + 1
        run = self.runs[columns.site[row]]
        spent = (self.synced, self.queued + self.stalled)
        self.unit.queue.append((clock, run, columns.occupancy[row], columns.latency[row], row, self.batch, *spent))
        row = self.row = row + 1
        if row < self.end:
            self.clock = clock + columns.gap[row]
        else:
            self.clock = clock
            self.unit.backlog = None
            self.unit.clock.wake(self.taken, started)


class Unit:
    """A unit of one core.

    `queue` holds dispatched instructions, the head included until it starts; `backlog` those that wait for a place in it.
    `idle` is the event that wakes a unit with an empty queue. `free` is when the last instruction ceased to occupy the unit,
    `done` when it completes. `on_quiet` is called whenever the queue runs empty. `signals` are what the last instruction that
    waited took, semaphores with the cycles in which their signals became visible; kept only for a trace. The cycles are split
    as docs/timing-model.md, section Stalls, says: `startup` until the first instruction started, None when there was none.
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
        self.backlog: Backlog | None = None
        self.idle: Event | None = None
        self.blocked_on: Semaphore | None = None
        self.free = self.done = 0
        self.startup: int | None = None
        self.busy = self.synced = self.queued = self.undecoded = self.ordered = self.memory_stall = 0
        self.wait_stalls: dict[tuple[int, str], int] = {}
        self.signals: tuple[tuple[int, int], ...] = ()
        self.on_quiet: Callable[[], None] | None = None
        self.port = None if engine is None else DmaPort(core, code, self, engine.units, engine.outstanding)
        self._alarm = clock.idle_event()
        self._roused = False
        self._process = clock.process(self._run())

    @property
    def label(self) -> str:
        """Name for messages: "vector of core 3"."""
        return f"{self.name} of core {self.core}"

    def rouse(self) -> None:
        """Make a sleeping unit look again at what it waits for; once is enough in a cycle."""
        if not self._roused:
            self._roused = True
            self._process.interrupt()

    def _run(self) -> Generator[Event, Any, None]:
        clock, queue, name, observer = self.clock, self.queue, self.name, self.observer
        traced = observer is not None and observer.trace is not None
        alarm = self._alarm
        free = synced_before = queued_before = 0
        while True:
            if not queue:
                self.free = free
                alarm.callbacks = []
                self.idle = alarm
                if self.on_quiet is not None:
                    self.on_quiet()
                yield alarm
            issued, run, occupancy, latency, row, batch, synced, queued = item = queue[0]
            head = start = issued if issued > free else free
            waits = run.waits
            if waits:
                start = self._visible(waits, start)
                if start < 0:
                    yield from self._block()
                    alarm = self._alarm
                    continue
            if run.order and self.done > start:
                start = self.done
            if start > clock.now:
                if not waits:
                    yield clock.sleep(alarm, start)
                elif (yield from self._sleep(waits, start)):
                    alarm = self._alarm
                    continue
            queue.popleft()
            if self.backlog is not None:
                self.backlog.admit(start)
            if self.startup is None:
                self.startup = head = start
            elif head > free:
                self._starve(head - free, synced - synced_before, queued - queued_before)
            synced_before, queued_before = synced, queued
            if waits:
                if traced:
                    self.signals = tuple([(each.number, each.tokens[nth]) for each, nth in waits])
                head = self._take(waits, head)
            self.ordered += start - head
            if run.byte_units and batch.stream.rows.gm_rows[row]:
                free = yield from self._transfer(item, start)
                continue
            free = start + occupancy
            self.busy += occupancy
            done = free + latency
            if done < self.done:
                done = self.done
            self.done = done
            for semaphore in run.sets:
                semaphore.signal(done, name)
            if observer is not None:
                observer.completes(self, observer.started(self, run, row, batch, issued, start), free, done)

    def _starve(self, cycles: int, synced: int, queued: int) -> None:
        """Charge the cycles without an instruction to what its sequencer has spent since the one before, then to decoding."""
        for_sync = min(cycles, synced)
        for_queue = min(cycles - for_sync, queued)
        self.synced += for_sync
        self.queued += for_queue
        self.undecoded += cycles - for_sync - for_queue

    def _visible(self, waits: Waits, start: int) -> int:
        """When all semaphores have been signalled and visible, `start` at the earliest; -1 when a signal is not known yet."""
        for semaphore, nth in waits:
            tokens = semaphore.tokens
            if len(tokens) <= nth:
                self.blocked_on = semaphore
                return -1
            if tokens[nth] > start:
                start = tokens[nth]
        return start

    def _block(self) -> Generator[Event, Any, None]:
        """Sleep until the semaphore without a token gets one."""
        semaphore = self.blocked_on
        assert semaphore is not None
        semaphore.await_by(self)
        event = semaphore.blocked = self._alarm
        event.callbacks = []
        try:
            yield event
        except Interrupt:
            self._renew_alarm()
        self.blocked_on = None

    def _sleep(self, waits: Waits, start: int) -> Generator[Event, Any, bool]:
        """Sleep until the signals are visible; True when one of them changed meanwhile."""
        for semaphore, _ in waits:
            semaphore.await_by(self)
        try:
            yield self.clock.sleep(self._alarm, start)
        except Interrupt:
            self._renew_alarm()
            return True
        return False

    def _renew_alarm(self) -> None:
        """After an interrupt the alarm may still be due; it must not be used again."""
        self._alarm = self.clock.idle_event()
        self._roused = False

    def _take(self, waits: Waits, head: int) -> int:
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

    def _transfer(self, item: Item, start: int) -> Generator[Event, Any, int]:
        """Issue the requests of a DMA instruction; return the cycle in which the engine is free for the next one."""
        issued, run, occupancy, latency, row, batch, *_ = item
        engine, port, dma, columns = self.engine, self.port, run.site.dma, batch.stream.rows
        assert engine is not None and port is not None and dma is not None
        token = None if self.observer is None else self.observer.started(self, run, row, batch, issued, start)
        rows, row_bytes, address = columns.gm_rows[row], columns.gm_row_bytes[row], columns.gm_addr[row]
        pitch, starts = dma.pitch, None
        if dma.indexed is not None:
            index = row_indices(self.observer, token, batch.stream, row, run.site)
            pitch, starts = row_bytes, (address + index * dma.indexed.stride).tolist()
        chunks = plan_chunks(engine, run.byte_units, run.row_units, rows, row_bytes, pitch)
        subject = (run, latency, token)
        transfer = Transfer(chunks, address, pitch, dma.write, dma.streaming, start, occupancy, subject, starts)
        self.memory.begin(port, transfer)
        self._alarm.callbacks = []
        yield self._alarm
        free = self.clock.now
        self.memory_stall += transfer.stalled
        self.busy += free - start - transfer.stalled
        return free

    def issued(self, transfer: Transfer, free: int, done: int) -> None:
        """All requests of the transfer are served: its completion is known."""
        run, latency, token = cast("tuple[SiteRun, int, Any]", transfer.subject)
        free = max(free, transfer.start + 1)  # one start a cycle
        self.done = done = max(done + latency, self.done)
        for semaphore in run.sets:
            semaphore.signal(done, self.name)
        if self.observer is not None:
            self.observer.completes(self, token, free, done)
        self.clock.wake(self._alarm, free)
