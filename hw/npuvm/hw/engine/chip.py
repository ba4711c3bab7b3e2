"""The chip of one launch: cores with sequencers and units, semaphores by scope, barriers, shared memory; and running it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simpy import Event

from npuvm.hw.engine.clock import Clock
from npuvm.hw.engine.observe import CompletionCalendar, DataPath, Observer, TraceEvent
from npuvm.hw.engine.semaphores import Semaphore, SemaphoreBank
from npuvm.hw.engine.sequencer import Sequencer
from npuvm.hw.engine.units import Unit
from npuvm.hw.errors import SimulationError, TrapError
from npuvm.hw.expansion.stream import Regions, ScalarLoad
from npuvm.hw.hazards import HazardChecker
from npuvm.hw.memory.chunks import engines_of
from npuvm.hw.memory.dram import HbmParams
from npuvm.hw.memory.system import MemoryParams, MemorySystem

if TYPE_CHECKING:
    from npuvm.hw.config import CoreType, NpuConfig
    from npuvm.hw.memory.l2 import L2State
    from npuvm.isa import Isa

__all__ = ["CoreProgram", "Machine", "Options", "Rendezvous", "memory_params"]


@dataclass(frozen=True)
class CoreProgram:
    """What one core of a launch runs; `group` numbers its core group."""

    core_type: CoreType
    group: int
    regions: Regions


@dataclass(frozen=True)
class Options:
    """What runs beside the timing. `scalar` gives the value of a scalar load of a core.

    `indices` notes for every core the index vectors that were read, with the numbers of their instructions.
    """

    scalar: Callable[[int, ScalarLoad], int]
    data: DataPath | None = None
    hazards: HazardChecker | None = None
    trace: list[TraceEvent] | None = None
    indices: Sequence[list[tuple[int, tuple[int, ...]]]] = ()


class Rendezvous:
    """Where the cores of a scope meet at barriers; all go on `cycles` after the last has arrived."""

    def __init__(self, clock: Clock, members: int, cycles: int) -> None:
        self.clock = clock
        self.members = members
        self.cycles = cycles
        self._arrived = 0
        self._gate = _gate(clock)

    def meet(self) -> Generator[Event, Any, int]:
        """Arrive now; return the cycle in which all go on."""
        self._arrived += 1
        gate = self._gate
        if self._arrived == self.members:
            self._arrived = 0
            self._gate = _gate(self.clock)
            self.clock.wake(gate, self.clock.now + self.cycles)
        yield gate
        return self.clock.now


def _gate(clock: Clock) -> Event:
    """An event for many waiters."""
    event = clock.idle_event()
    event.callbacks = []
    return event


def memory_params(chip: NpuConfig) -> MemoryParams:
    """The numbers of a chip's memory system."""
    l2, hbm = chip.memory.l2, chip.memory.hbm
    return MemoryParams(
        l2_rate=chip.l2_bytes_per_cycle,
        l2_latency=l2.latency_cycles,
        slices=l2.slices,
        hbm=HbmParams(
            rate=chip.hbm_bytes_per_cycle,
            latency=hbm.latency_cycles,
            channels=hbm.channels,
            interleave_bytes=hbm.interleave_bytes,
            burst_bytes=hbm.burst_bytes,
            row_bytes=hbm.row_bytes,
            row_miss_cycles=hbm.row_miss_cycles,
            banks=hbm.banks,
            turnaround_cycles=hbm.turnaround_cycles,
            same_line_cycles=hbm.same_line_cycles,
        ),
        access_bytes=l2.access_bytes,
        same_line_cycles=l2.same_line_cycles,
        sector_bytes=l2.sector_bytes,
        uncached=l2.unaligned_reads == "uncached",
        hashed=chip.memory.address_hash,
    )


class Machine:
    """One launch on a chip: build it, then `run` it once."""

    def __init__(
        self, chip: NpuConfig, isa: Isa, programs: Sequence[CoreProgram], l2: L2State, options: Options
    ) -> None:
        self.chip = chip
        self.isa = isa
        self.programs = programs
        self.clock = Clock()
        self._hazards = options.hazards
        self.memory = MemorySystem(self.clock, memory_params(chip), l2)
        scopes = isa.semaphore_scopes.items()
        self._scopes = {number: scope for scope, (first, last) in scopes for number in range(first, last + 1)}
        self._shared: dict[tuple[str, int, int], Semaphore] = {}
        self._meetings: dict[tuple[str, int], Rendezvous] = {}
        calendar = None if options.data is None else CompletionCalendar(self.clock, options.data)
        self.cores = [self._core(index, program, options, calendar) for index, program in enumerate(programs)]

    def run(self, cycle_limit: int | None = None) -> int:
        """Run to the end; return the cycles until the last core has halted.

        SimulationError for a deadlock, naming what each core waits for; TrapError for a launch longer than the limit;
        HazardError for a hazard, unless hazards are collected, also where the launch trapped after it.
        """
        try:
            cycles = self._run(cycle_limit)
        except TrapError:
            if self._hazards is not None:
                self._hazards.finish(complete=False)
            raise
        if self._hazards is not None:
            self._hazards.finish()
        return cycles

    def _run(self, cycle_limit: int | None) -> int:
        in_time = self.clock.run_until_quiet(cycle_limit)
        unfinished = [core for core in self.cores if core.finished is None]
        if unfinished:
            waits = "; ".join(self._explain(core) for core in unfinished)
            if not in_time:
                raise TrapError("cycle_limit", f"not finished after {cycle_limit} cycles: {waits}")
            raise SimulationError(f"deadlock in cycle {self._last_cycle()}: {waits}")
        return max((core.finished or 0 for core in self.cores), default=0)

    def _core(
        self, index: int, program: CoreProgram, options: Options, calendar: CompletionCalendar | None
    ) -> Sequencer:
        chip = self.chip
        engines = engines_of(chip)
        names = {self.isa.units[name]: name for name in chip.units(program.core_type) if name != "seq"}
        regions, times, observer = program.regions, None, None
        if options.hazards is not None:
            regions = options.hazards.follow(index, program.group, names, regions, self.clock, self.isa)
            times = options.hazards.times(index)
        if options.data is not None or options.hazards is not None or options.trace is not None:
            indices = options.indices[index] if options.indices else None
            observer = Observer(index, options.data, calendar, times, options.trace, indices)
        units = {}
        for code, name in names.items():
            units[code] = unit = Unit(self.clock, index, name, code, engines.get(name), self.memory)
            unit.observer = observer
        sequencer = chip.core.sequencer
        return Sequencer(
            self.clock,
            index,
            program.core_type,
            regions,
            units,
            SemaphoreBank(lambda number: self._semaphore(index, program.group, number), self.isa.limits["semaphores"]),
            lambda scope: self._meeting(index, program.group, scope),
            options.scalar,
            sequencer.queue_depth,
            sequencer.scalar_load_cycles,
            sequencer.start_cycles,
        )

    def _semaphore(self, core: int, group: int, number: int) -> Semaphore:
        scope = self._scopes[number]
        key = (scope, {"core": core, "group": group, "launch": 0}[scope], number)
        if key not in self._shared:
            delay = self.chip.core.sync.set_to_visible_cycles + self._further(scope)
            self._shared[key] = Semaphore(self.clock, number, scope, delay)
        return self._shared[key]

    def _meeting(self, core: int, group: int, scope: str) -> Rendezvous:
        key = (scope, {"core": core, "group": group, "launch": 0}[scope])
        if key not in self._meetings:
            in_group = sum(program.group == group for program in self.programs)
            members = {"core": 1, "group": in_group, "launch": len(self.programs)}[scope]
            cycles = self.chip.core.sequencer.barrier_cycles + self._further(scope)
            self._meetings[key] = Rendezvous(self.clock, members, cycles)
        return self._meetings[key]

    def _further(self, scope: str) -> int:
        """Cycles that a signal of this scope takes beyond one within a core."""
        sync = self.chip.core.sync
        return {"core": 0, "group": sync.group_cycles, "launch": sync.launch_cycles}[scope]

    def _last_cycle(self) -> int:
        return max((unit.done for core in self.cores for unit in core.units.values()), default=0)

    def _explain(self, core: Sequencer) -> str:
        """What a core that did not finish waits for: each unit with its semaphore and place, and the sequencer."""
        parts = []
        for unit in core.units.values():
            if unit.blocked_on is not None:
                site = unit.queue[0][1].site
                semaphore = unit.blocked_on
                parts.append(f"{unit.name} waits for semaphore {semaphore.number} ({semaphore.scope}) in {site.label}")
            elif unit.queue:
                parts.append(f"{unit.name} is at {unit.queue[0][1].site.label}")
        parts.append(f"sequencer: {core.state}")
        return f"core {core.core}: {', '.join(parts)}"
