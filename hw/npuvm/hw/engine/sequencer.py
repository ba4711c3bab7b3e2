"""The sequencer of one core: dispatches the instructions of its program in order into the units' queues.

docs/timing-model.md, section Sequencer, is the contract. The sequencer keeps a clock of its own that runs ahead of the
simulation: an instruction is queued with the cycle of its dispatch, and the process sleeps only where something outside decides
when it goes on - a full queue, a barrier, a scalar load, the end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from simpy import Event, Timeout

from npuvm.hw.engine.clock import Clock
from npuvm.hw.engine.semaphores import SemaphoreBank
from npuvm.hw.engine.units import Backlog, Batch, SiteRun, Unit
from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.stream import Barrier, Halt, Region, Regions, ScalarLoad, SetSemaphores, Site, Stream
from npuvm.hw.expansion.tally import Tally

if TYPE_CHECKING:
    from npuvm.hw.engine.chip import Rendezvous

__all__ = ["Sequencer"]


class Sequencer:
    """Runs one core's program. `clock` is the cycle up to which it has worked; `stalls` says where the cycles went.

    `units` maps unit codes to the units this core has. `meeting` gives the meeting point of a barrier's scope. `scalar`
    gives the value of a scalar load. `state` says in words what it waits for. `synced` and `queued` are its cycles so far in
    drains, barriers and scalar loads, and at full queues; every instruction carries them to its unit.
    """

    def __init__(
        self,
        clock: Clock,
        core: int,
        core_type: str,
        regions: Regions,
        units: dict[int, Unit],
        semaphores: SemaphoreBank,
        meeting: Callable[[str], Rendezvous],
        scalar: Callable[[int, ScalarLoad], int],
        queue_depth: int,
        scalar_load_cycles: int,
        start_cycles: int,
    ) -> None:
        self.time = clock
        self.core = core
        self.core_type = core_type
        self.units = units
        self.semaphores = semaphores
        self.clock = 0
        self.synced = self.queued = 0
        self.dispatched = 0
        self.finished: int | None = None
        self.state = "starting"
        # The first gap of a program holds the start cycles; they are charged apart.
        self.stalls: dict[str, int] = {"start": start_cycles, "decode": -start_cycles}
        self.streams: list[Stream] = []
        self._regions = regions
        self._meeting = meeting
        self._scalar = scalar
        self._queue_depth = queue_depth
        self._scalar_load_cycles = scalar_load_cycles
        self._sites: dict[int, tuple[Sequence[Site], list[SiteRun]]] = {}
        self._quiet: Event | None = None
        clock.process(self._run())

    @property
    def tally(self) -> Tally:
        """What was dispatched adds up to."""
        return Tally.of(self.streams)

    def _run(self) -> Generator[Event, Any, None]:
        regions = self._regions
        value: int | None = None
        while True:
            region: Region = regions.send(value) if value is not None else next(regions)
            value = None
            if isinstance(region, Stream):
                yield from self._dispatch(region)
                continue
            self._spend("decode", region.gap)
            if isinstance(region, SetSemaphores):
                yield from self._catch_up()
                for number, count in region.values:
                    self.semaphores[number].reset(count)
            elif isinstance(region, Barrier):
                yield from self._barrier(region.scope, region.pc)
            elif isinstance(region, ScalarLoad):
                self._stop("scalar_load", self._scalar_load_cycles)
                yield from self._catch_up()
                value = self._scalar(self.core, region)
            else:
                assert isinstance(region, Halt)
                yield from self._drain(f"draining for halt at word {region.pc}")
                self.finished = self.clock
                self.state = "finished"
                return

    def _dispatch(self, stream: Stream) -> Generator[Event, Any, None]:
        time, depth = self.time, self._queue_depth
        runs = self._runs(stream.sites)
        batch = Batch(stream, self.dispatched)
        self.dispatched += len(stream)
        self.streams.append(stream)
        sites, gaps, occupancies, latencies = stream.rows[:4]
        synced, queued = self.synced, self.queued
        clock = began = self.clock
        row = 0
        while row < len(sites):
            run = runs[sites[row]]
            unit = run.unit
            queue = unit.queue
            clock += gaps[row]
            if len(queue) < depth:
                queue.append((clock, run, occupancies[row], latencies[row], row, batch, synced, queued))
                if unit.idle is not None:
                    time.wake(unit.idle, clock)
                    unit.idle = None
                row += 1
            else:
                backlog = unit.backlog = Backlog(unit, batch, runs, row, clock, synced, queued)
                self.state = f"queue of {unit.name} full at {run.site.label}"
                yield backlog.taken
                row, clock = backlog.row, backlog.clock
                queued += backlog.stalled
                self._charge(f"queue_full:{unit.name}", backlog.stalled)
        self.state = "running"
        self._charge("decode", clock - began - (queued - self.queued))
        self.queued = queued
        self.clock = clock

    def _runs(self, sites: Sequence[Site]) -> list[SiteRun]:
        """Run-time records of a table of sites, made once per table."""
        known = self._sites.get(id(sites))
        if known is None:
            known = self._sites[id(sites)] = (sites, [self._run_of(site) for site in sites])
        return known[1]

    def _run_of(self, site: Site) -> SiteRun:
        unit = self.units.get(site.unit)
        if unit is None:
            here = ", ".join(unit.name for unit in self.units.values())
            raise SimulationError(
                f"{site.label}: a {self.core_type} core has no {site.unit_name} unit; it has {here}",
                f"core {self.core}",
            )
        bank = self.semaphores
        waits = tuple([(bank[n], site.waits[:i].count(n)) for i, n in enumerate(site.waits)]) if site.waits else ()
        return SiteRun(site, unit, waits, tuple([bank[n] for n in site.sets]) if site.sets else ())

    def _barrier(self, scope: str, pc: int) -> Generator[Event, Any, None]:
        yield from self._drain(f"draining for a {scope} barrier at word {pc}")
        self.state = f"{scope} barrier at word {pc}"
        on = yield from self._meeting(scope).meet()
        self._stop("barrier", on - self.clock)

    def _drain(self, state: str) -> Generator[Event, Any, None]:
        """Wait until every instruction dispatched so far has completed."""
        self.state = state
        units = self.units.values()
        if not all(unit.idle is not None for unit in units):
            quiet = self._quiet = self.time.idle_event()
            quiet.callbacks = []
            for unit in units:
                unit.on_quiet = self._on_quiet
            yield quiet
            for unit in units:
                unit.on_quiet = None
        drained = max((unit.done for unit in units), default=0)
        if drained > self.clock:
            self._stop("drain", drained - self.clock)
        yield from self._catch_up()

    def _on_quiet(self) -> None:
        if self._quiet is not None and all(unit.idle is not None for unit in self.units.values()):
            self.time.wake(self._quiet, self.time.now)
            self._quiet = None

    def _catch_up(self) -> Generator[Event, Any, None]:
        """Let the simulation come up to this sequencer's clock."""
        if self.clock > self.time.now:
            yield Timeout(self.time, self.clock - self.time.now)

    def _stop(self, cause: str, cycles: int) -> None:
        """Spend cycles in which nothing can be dispatched, for the sake of something outside the sequencer."""
        self.synced += cycles
        self._spend(cause, cycles)

    def _spend(self, cause: str, cycles: int) -> None:
        self.clock += cycles
        self._charge(cause, cycles)

    def _charge(self, cause: str, cycles: int) -> None:
        if cycles:
            self.stalls[cause] = self.stalls.get(cause, 0) + cycles
