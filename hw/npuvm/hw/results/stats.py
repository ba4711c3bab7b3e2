"""What a run reports: cycles by unit and cause, bytes by level, instructions, hazards, bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npuvm.hw.compiled.views import CoreView, MemoryView, UnitView
    from npuvm.hw.energy.work import Work
    from npuvm.hw.engine.observe import TraceEvent
    from npuvm.hw.engine.sequencer import Sequencer
    from npuvm.hw.engine.units import Unit
    from npuvm.hw.expansion.tally import SiteTable, Tally
    from npuvm.hw.hazards import Hazard
    from npuvm.hw.memory.system import MemorySystem

__all__ = [
    "CoreStats",
    "RunResult",
    "UnitStats",
    "WordWork",
    "bytes_by_level",
    "core_stats",
    "count_instructions",
    "work_by_word",
]

ON_CHIP = ("ub", "l1", "l0a", "l0b", "l0c")


@dataclass(frozen=True)
class UnitStats:
    """Cycles of one unit over a launch. `busy` and the values of `stalls` add up to the cycles of the launch.

    Causes of a unit: "startup" (until its first instruction started), "sync" (its sequencer was in a drain, barrier or scalar
    load), "queue" (its sequencer stood at another unit's full queue), "decode" (its next instruction was not yet decoded),
    "wait N (unit)" (for semaphore N, set by that unit), "order" (its previous instruction was not complete), "memory" (all its
    requests in flight), "bank" (conflicts of vector operands in UB, not counted as busy), "tail" (its last instruction was
    done), "idle" (no instruction at all), "imbalance" (its core had halted). Causes of the sequencer: "start",
    "queue_full:UNIT", "drain", "barrier", "scalar_load", "imbalance"; its `busy` is decoding.
    """

    busy: int
    stalls: Mapping[str, int]
    instructions: int

    @property
    def total(self) -> int:
        """All cycles, busy and stalled."""
        return self.busy + sum(self.stalls.values())


@dataclass(frozen=True)
class CoreStats:
    """One core of a launch: its type, the cycle in which it halted, and its units by name, "seq" among them."""

    core_type: str
    cycles: int
    units: Mapping[str, UnitStats]


@dataclass(frozen=True, slots=True)
class WordWork:
    """What one instruction of the text did over a launch, on all cores: how often it ran, in which spaces its operands lie.

    `cycles` are those for which it occupies its unit, without what `nbytes`, those moved to or from global memory, take there.
    """

    unit: str
    spaces: tuple[str, ...]
    count: int
    cycles: int
    nbytes: int


@dataclass(frozen=True)
class RunResult:
    """One launch in simulated time.

    `cycles` until the last core halted, `seconds` the same in time. `bytes` by level: what units read and wrote in ub, l1,
    l0a, l0b and l0c, what L2 served ("l2"), and HBM traffic ("hbm_read", "hbm_write"). `work` counts operations, for
    estimates of energy. `requests` is what DMA engines sent to memory. `bounds` are lower limits in cycles
    (docs/timing-model.md, Bounds). `scalar_loads` holds per core the values of its scalar loads in order: `registers` of a
    later run without data; `indices` likewise the index vectors that its instructions read. `trace` is empty unless asked for.
    `engine` says which one ran: "simpy", "compiled (Python)" or "compiled (numba 0.62)" with numba's version. `by_word` has the
    instructions of units by the word at which they begin.
    """

    cycles: int
    seconds: Fraction
    cores: tuple[CoreStats, ...]
    bytes: Mapping[str, int]
    work: Work
    requests: int
    instructions: int
    by_unit: Mapping[str, int]
    by_op: Mapping[str, int]
    bounds: Mapping[str, Fraction]
    hazards: tuple[Hazard, ...]
    scalar_loads: tuple[tuple[int, ...], ...]
    trace: tuple[TraceEvent, ...]
    engine: str = "simpy"
    indices: tuple[tuple[tuple[int, ...], ...], ...] = ()
    by_word: Mapping[int, WordWork] = field(default_factory=dict)

    @property
    def bound(self) -> tuple[str, Fraction]:
        """The highest lower limit, by name and in cycles."""
        return max(self.bounds.items(), key=lambda item: item[1])

    def busy_share(self, unit: str) -> float:
        """Share of the launch in which a unit was busy, averaged over the cores that have it; 0 for no such core."""
        busy = [core.units[unit].busy for core in self.cores if unit in core.units]
        return sum(busy) / (len(busy) * self.cycles) if busy and self.cycles else 0.0

    def stalls(self, unit: str) -> dict[str, int]:
        """Cycles by cause of a unit, summed over all cores."""
        total: dict[str, int] = {}
        for core in self.cores:
            for cause, cycles in core.units[unit].stalls.items() if unit in core.units else ():
                total[cause] = total.get(cause, 0) + cycles
        return total


def core_stats(
    sequencer: Sequencer | CoreView, cycles: int, counts: Mapping[int, int], bank_conflicts: int = 0
) -> CoreStats:
    """Statistics of a finished core; `cycles` are those of the launch, `counts` the instructions by unit code.

    `bank_conflicts` are cycles of its vector unit.
    """
    halted = sequencer.finished or 0
    stalls = {cause: n for cause, n in sequencer.stalls.items() if n and cause != "decode"}
    if cycles > halted:
        stalls["imbalance"] = cycles - halted
    units = {"seq": UnitStats(sequencer.stalls["decode"], stalls, sequencer.dispatched)}
    for code, unit in sequencer.units.items():
        bank = bank_conflicts if unit.name == "vector" else 0
        units[unit.name] = _unit_stats(unit, halted, cycles, counts.get(code, 0), bank)
    return CoreStats(sequencer.core_type, halted, units)


def _unit_stats(unit: Unit | UnitView, halted: int, cycles: int, instructions: int, bank: int) -> UnitStats:
    if unit.startup is None:
        stalls = {"idle": halted}
    else:
        stalls = {"startup": unit.startup, "sync": unit.synced, "queue": unit.queued, "decode": unit.undecoded}
        stalls |= {f"wait {number} ({producer})": n for (number, producer), n in sorted(unit.wait_stalls.items())}
        stalls |= {"order": unit.ordered, "memory": unit.memory_stall, "bank": bank, "tail": halted - unit.free}
    stalls["imbalance"] = cycles - halted
    return UnitStats(unit.busy - bank, {cause: n for cause, n in stalls.items() if n}, instructions)


def count_instructions(tally: Tally) -> tuple[dict[int, int], dict[str, int]]:
    """Dispatched instructions of a core by unit code and by name."""
    by_unit: dict[int, int] = {}
    by_op: dict[str, int] = {}
    for table in tally.tables:
        for site, n in zip(table.sites, table.count.tolist(), strict=True):
            if n:
                by_unit[site.unit] = by_unit.get(site.unit, 0) + n
                by_op[site.insn.op] = by_op.get(site.insn.op, 0) + n
    return by_unit, by_op


def bytes_by_level(tables: Sequence[SiteTable], memory: MemorySystem | MemoryView) -> dict[str, int]:
    """Bytes of a launch by level: operands of all instructions on chip (a pitch of 0 counts one row), L2 and HBM traffic."""
    on_chip = dict.fromkeys(ON_CHIP, 0)
    for table in tables:
        for (index, *sizes), times in zip(table.kinds.tolist(), table.times.tolist(), strict=True):
            for operand in table.sites[index].operands:
                if operand.space in on_chip:
                    # Of an image as much is read as is made of it.
                    shape = table.sites[index].operands[0].shape if operand.image else operand.shape
                    rows, cols = (sizes[at] if at >= 0 else -at for at in shape)
                    counted = rows if operand.pitch else min(rows, 1)
                    moved = counted * cols * operand.itemsize * (operand.reads + operand.writes)
                    on_chip[operand.space] += times * moved
    traffic = memory.traffic
    return {**on_chip, "l2": memory.l2_hit, "hbm_read": traffic.hbm_read, "hbm_write": traffic.hbm_write}


def work_by_word(tables: Sequence[SiteTable]) -> dict[int, WordWork]:
    """The instructions of units by word; cores that run the same text count together."""
    found: dict[int, WordWork] = {}
    for table in tables:
        sums = table.count.tolist(), table.occupancy.tolist(), table.moved.tolist()
        for site, *own in zip(table.sites, *sums, strict=True):
            if not own[0] or site.sync_only:
                continue
            before = found.get(site.pc)
            if before is not None:
                own = [a + b for a, b in zip(own, (before.count, before.cycles, before.nbytes), strict=True)]
            spaces = tuple(dict.fromkeys(operand.space for operand in site.operands))
            found[site.pc] = WordWork(site.unit_name, spaces, *own)
    return found
