"""Runs a program image without time: what every instruction does to data, and nothing of how long it takes.

Sequencers hand their instructions to the queues of the units; a unit takes the first of its queue when the semaphores that it
waits for have counts, executes it, and its sets count up. For a program that keeps to the execution model the order in which
units get their turn changes nothing. By default every unit in turn goes as far as it can. With a `seed` a random choice says
which unit or sequencer goes next, and an instruction's start and its completion are two turns, so that a missing wait or a
missing order bit shows in the data. Instructions and data are those of the timed simulator (`npuvm.hw.expansion.expand`,
`npuvm.hw.functional.execute`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NoReturn

from npuvm.hw.errors import DeviceError, SimulationError, TrapError
from npuvm.hw.expansion.expand import expansions_of
from npuvm.hw.expansion.stream import Barrier, Halt, Regions, ScalarLoad, SetSemaphores, Site, Stream
from npuvm.hw.functional.blas import one_blas_thread
from npuvm.hw.functional.execute import Executor, GlobalMemory, Pending
from npuvm.hw.launch import core_groups

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.isa import Image, Isa

__all__ = ["Interpreted", "interpret"]

_AHEAD = 16
"""Instructions in the queues of a core up to which its sequencer goes on in a run with a seed."""


@dataclass(frozen=True, slots=True)
class Interpreted:
    """What a run gave beside its data: instructions executed by units, the values of each core's scalar loads, and, as in
    `npuvm.hw.results.stats.RunResult`, the index vectors that its instructions read, in the order of its program.
    """

    instructions: int
    scalar_loads: tuple[tuple[int, ...], ...]
    indices: tuple[tuple[tuple[int, ...], ...], ...] = ()


def interpret(
    chip: NpuConfig,
    isa: Isa,
    image: Image,
    *,
    memory: GlobalMemory,
    addresses: Sequence[int] = (),
    windows: Sequence[tuple[int, int]] = (),
    cycle_limit: int | None = None,
    seed: int | None = None,
) -> Interpreted:
    """Run one launch to its end on the data of `memory`.

    `addresses` are the byte addresses of the image's arguments, `windows` the (base, bytes) of global memory that the launch
    may touch. There is no time, so `cycle_limit` is held against what the sequencers alone take: the trap is certain then,
    but a launch that is late for another reason does not trap. `seed` chooses a random order of turns.

    DeviceError when the launch does not fit the chip; TrapError when it traps; SimulationError for a deadlock, naming
    what every core waits for.
    """
    if image.isa_hash != isa.hash:
        raise DeviceError(f"made for instruction set {image.isa_hash[:12]}, the chip runs {isa.hash[:12]}", image.name)
    if len(addresses) != image.n_args:
        raise DeviceError(f"{len(addresses)} addresses given, the image takes {image.n_args}", image.name)
    groups = core_groups(chip, image)
    executor = Executor(isa, chip, memory, windows, len(image.entries))
    semaphores = _Semaphores(isa)
    regions = expansions_of(isa, image, chip).launch(image.entries, addresses)
    load_cycles = chip.core.sequencer.scalar_load_cycles
    cores = [
        _Core(index, group, walk, semaphores.of(index, group), executor, load_cycles, cycle_limit)
        for index, (group, walk) in enumerate(zip(groups, regions, strict=True))
    ]
    with one_blas_thread():
        if seed is None:
            _in_turn(cores)
        else:
            _at_random(cores, Random(seed))
    loads = tuple(tuple(core.loaded) for core in cores)
    executed = sum(unit.executed for core in cores for unit in core.units.values())
    picked = [core.picked for core in cores]
    if not any(picked):
        return Interpreted(executed, loads)
    return Interpreted(executed, loads, tuple(tuple(vector for _, vector in sorted(core)) for core in picked))


class _Semaphores:
    """The counts of a launch, each by the cores that share it."""

    def __init__(self, isa: Isa) -> None:
        self._isa = isa
        self._counts: dict[tuple[str, int, int], _Count] = {}

    def of(self, core: int, group: int) -> Callable[[int], _Count]:
        """The semaphores as one core names them."""

        def find(number: int) -> _Count:
            scope = self._isa.semaphore_scope(number)
            owner = {"core": core, "group": group, "launch": 0}[scope]
            return self._counts.setdefault((scope, owner, number), _Count())

        return find


@dataclass(slots=True)
class _Count:
    value: int = 0


@dataclass(slots=True)
class _Unit:
    """A unit of a core: `queue` holds dispatched instructions and their numbers, `flying` results that are not written yet,
    with their sets.
    """

    name: str
    queue: deque[tuple[Stream, int, Site, int]] = field(default_factory=deque)
    flying: deque[tuple[Pending | None, Site]] = field(default_factory=deque)
    executed: int = 0


class _Core:
    """One core: its sequencer, its units, and what it waits for."""

    def __init__(
        self,
        index: int,
        group: int,
        regions: Regions,
        semaphore: Callable[[int], _Count],
        executor: Executor,
        load_cycles: int,
        cycle_limit: int | None,
    ) -> None:
        self.index = index
        self.group = group
        self.units: dict[str, _Unit] = {}
        self.barrier: Barrier | None = None
        self.halted = False
        self.loaded: list[int] = []
        self.picked: list[tuple[int, tuple[int, ...]]] = []
        self._dispatched = 0
        self._regions = regions
        self._value: int | None = None
        self._semaphore = semaphore
        self._executor = executor
        self._load_cycles = load_cycles
        self._cycle_limit = cycle_limit
        self._cycles = 0
        self._place = "the start"

    def can_sequence(self) -> bool:
        """Whether the sequencer has something to do."""
        return not self.halted and self.barrier is None

    def queued(self) -> int:
        """Instructions that are dispatched and not started."""
        return sum(len(unit.queue) for unit in self.units.values())

    def drained(self) -> bool:
        """Whether every unit has completed everything."""
        return not any(unit.queue or unit.flying for unit in self.units.values())

    def sequence(self) -> None:
        """Do the next region of the program."""
        region = self._regions.send(self._value) if self._value is not None else next(self._regions)
        self._value = None
        if isinstance(region, Stream):
            self._spend(int(region.gap.sum()))
            for row, index in enumerate(region.rows.site):
                site = region.sites[index]
                self._unit(site).queue.append((region, row, site, self._dispatched))
                self._dispatched += 1
            return
        self._spend(region.gap)
        self._place = f"word {region.pc}"
        if isinstance(region, SetSemaphores):
            for number, count in region.values:
                self._semaphore(number).value = count
        elif isinstance(region, Barrier):
            self.barrier = region
        elif isinstance(region, ScalarLoad):
            self._spend(self._load_cycles)
            self._value = self._executor.load_scalar(region.addr, region.itemsize)
            self.loaded.append(self._value)
        else:
            assert isinstance(region, Halt)
            self.halted = True

    def _unit(self, site: Site) -> _Unit:
        return self.units.setdefault(site.unit_name, _Unit(site.unit_name))

    def _spend(self, cycles: int) -> None:
        self._cycles += cycles
        if self._cycle_limit is not None and self._cycles > self._cycle_limit:
            message = f"core {self.index}: its sequencer alone takes more than {self._cycle_limit} cycles"
            raise TrapError("cycle_limit", message)

    def blocked_on(self, unit: _Unit) -> int | None:
        """The semaphore for which the head of a unit's queue waits, None when there is none."""
        waits = unit.queue[0][2].waits
        for i, number in enumerate(waits):
            if self._semaphore(number).value <= waits[:i].count(number):
                return number
        return None

    def can_start(self, unit: _Unit) -> bool:
        """Whether the head of a unit's queue can go."""
        if not unit.queue or (unit.queue[0][2].order and unit.flying):
            return False
        return self.blocked_on(unit) is None

    def start(self, unit: _Unit) -> None:
        """Take the waits of the head of a queue, read and calculate."""
        stream, row, site, number = unit.queue.popleft()
        for semaphore in site.waits:
            self._semaphore(semaphore).value -= 1
        pending = None if site.sync_only else self._executor.start(self.index, stream, row)
        if pending is not None and pending.index is not None:
            self.picked.append((number, tuple(pending.index.tolist())))
        unit.flying.append((pending, site))
        unit.executed += 1

    def complete(self, unit: _Unit) -> None:
        """Write the oldest result of a unit and fire its sets."""
        pending, site = unit.flying.popleft()
        self._executor.complete(pending)
        for number in site.sets:
            self._semaphore(number).value += 1

    def explain(self) -> str:
        """What this core waits for."""
        parts = []
        for unit in self.units.values():
            if unit.queue:
                number = self.blocked_on(unit)
                parts.append(f"{unit.name} waits for semaphore {number} in {unit.queue[0][2].label}")
        if self.barrier is not None:
            parts.append(f"the sequencer is at the {self.barrier.scope} barrier of word {self.barrier.pc}")
        return f"core {self.index}: {', '.join(parts) or f'the sequencer is at {self._place}'}"


def _in_turn(cores: Sequence[_Core]) -> None:
    """Every unit goes as far as it can; sequencers go on when no unit can."""
    while not _finished(cores):
        moved = False
        for core in cores:
            for unit in list(core.units.values()):
                while core.can_start(unit):
                    core.start(unit)
                    core.complete(unit)
                    moved = True
        if moved:
            continue
        for core in cores:
            if core.can_sequence():
                core.sequence()
                moved = True
        if not moved and not _meet(cores):
            _deadlock(cores)


def _at_random(cores: Sequence[_Core], random: Random) -> None:
    """One turn after the other, each any of those that can be."""
    while not _finished(cores):
        turns = list(_turns(cores))
        if turns:
            random.choice(turns)()
        elif not _meet(cores):
            _deadlock(cores)


def _turns(cores: Sequence[_Core]) -> Iterator[Callable[[], None]]:
    for core in cores:
        if core.can_sequence() and core.queued() < _AHEAD:
            yield core.sequence
        for unit in core.units.values():
            if core.can_start(unit):
                yield _bound(core.start, unit)
            if unit.flying:
                yield _bound(core.complete, unit)
    full = [core for core in cores if core.can_sequence() and core.queued() >= _AHEAD]
    if full and not any(core.can_start(unit) or unit.flying for core in cores for unit in core.units.values()):
        # Queues without an end: what the units wait for may stand behind.
        yield from (core.sequence for core in full)


def _bound(act: Callable[[_Unit], None], unit: _Unit) -> Callable[[], None]:
    return lambda: act(unit)


def _finished(cores: Sequence[_Core]) -> bool:
    return all(core.halted and core.drained() for core in cores)


def _meet(cores: Sequence[_Core]) -> bool:
    """Let the cores of a scope pass the barrier at which all of them stand, drained; False when there is none."""
    for core in cores:
        if core.barrier is None:
            continue
        scope = core.barrier.scope
        members = [
            other
            for other in cores
            if scope == "launch" or (other.group == core.group if scope == "group" else other is core)
        ]
        if all(m.barrier is not None and m.barrier.scope == scope and m.drained() for m in members):
            for member in members:
                member.barrier = None
            return True
    return False


def _deadlock(cores: Sequence[_Core]) -> NoReturn:
    waits = "; ".join(core.explain() for core in cores if not (core.halted and core.drained()))
    raise SimulationError(f"deadlock: {waits}")
