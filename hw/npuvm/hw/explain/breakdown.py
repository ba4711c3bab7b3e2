"""Where the cycles of launches went, by unit and as one stack; exact sums of integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from npuvm.hw.errors import SimulationError
from npuvm.hw.explain.causes import KINDS, Cause, add_up, split_stats
from npuvm.hw.explain.stack import critical_unit, launch_stack
from npuvm.hw.results.stats import RunResult
from npuvm.hw.results.sums import sum_by_key

__all__ = ["LaunchBreakdown", "UnitBreakdown", "break_down", "sum_breakdowns"]


@dataclass(frozen=True)
class UnitBreakdown:
    """One unit over the cores that have it. `parts` add up to `available`: cycles of the launch times these cores.

    `cores` is the number of cores that have the unit, `working` that of those with an instruction for it; of several launches
    the highest. `parts` are in the order of `KINDS`.
    """

    unit: str
    cores: int
    working: int
    available: int
    instructions: int
    parts: Mapping[Cause, int]

    def of_kind(self, *kinds: str) -> int:
        """Cycles of these kinds."""
        return sum(cycles for cause, cycles in self.parts.items() if cause.kind in kinds)


@dataclass(frozen=True)
class LaunchBreakdown:
    """One launch, or several one after another.

    `cycles` are those of the launches, `core_cycles` those of all their cores, to which `stack` adds up, most first.
    `core_types` are the types of these cores. `critical` counts cores by critical unit. `bounds` are lower limits in cycles by
    kind. `ends` is when the cores halted: the sum over the launches of the first, of the mean and of the last one.
    `memory_bytes` are "l2", "hbm_read" and "hbm_write".
    """

    launches: int
    cycles: int
    cores: int
    core_cycles: int
    core_types: frozenset[str]
    units: tuple[UnitBreakdown, ...]
    stack: Mapping[Cause, int]
    critical: Mapping[str, int]
    bounds: Mapping[str, Fraction]
    ends: tuple[int, Fraction, int]
    memory_bytes: Mapping[str, int] = field(default_factory=dict)

    def unit(self, name: str) -> UnitBreakdown | None:
        """One unit, None when no core has it."""
        return next((unit for unit in self.units if unit.unit == name), None)

    def share(self, *kinds: str) -> float:
        """Share of the stack that these kinds have; 0 for launches without a cycle."""
        cycles = sum(cycles for cause, cycles in self.stack.items() if cause.kind in kinds)
        return cycles / self.core_cycles if self.core_cycles else 0.0

    def share_of_bound(self, name: str) -> float:
        """A lower limit over the achieved cycles, 1 at most; 0 for launches without a cycle."""
        return float(self.bounds.get(name, Fraction(0)) / self.cycles) if self.cycles else 0.0


def break_down(result: RunResult) -> LaunchBreakdown:
    """Take one launch apart. SimulationError when the cycles of one of its units do not add up."""
    for index, core in enumerate(result.cores):
        for name, stats in core.units.items():
            if stats.total != result.cycles:
                raise SimulationError(f"{name} of core {index} accounts for {stats.total} of {result.cycles} cycles")
    halts = [core.cycles for core in result.cores]
    mean = Fraction(sum(halts), len(halts)) if halts else Fraction(0)
    return LaunchBreakdown(
        launches=1,
        cycles=result.cycles,
        cores=len(result.cores),
        core_cycles=result.cycles * len(result.cores),
        core_types=frozenset(core.core_type for core in result.cores),
        units=_units(result),
        stack=launch_stack(result),
        critical=dict(Counter(map(critical_unit, result.cores))),
        bounds=dict(result.bounds),
        ends=(min(halts, default=0), mean, max(halts, default=0)),
        memory_bytes={level: result.bytes.get(level, 0) for level in ("l2", "hbm_read", "hbm_write")},
    )


def sum_breakdowns(parts: Iterable[LaunchBreakdown]) -> LaunchBreakdown:
    """Several launches together; `cores` is that of the widest."""
    listed = tuple(parts)
    stack: dict[Cause, int] = {}
    units: dict[str, list[UnitBreakdown]] = {}
    for part in listed:
        add_up(stack, part.stack.items())
        for unit in part.units:
            units.setdefault(unit.unit, []).append(unit)
    firsts, means, lasts = zip(*(part.ends for part in listed), strict=True) if listed else ((), (), ())
    return LaunchBreakdown(
        launches=sum(part.launches for part in listed),
        cycles=sum(part.cycles for part in listed),
        cores=max((part.cores for part in listed), default=0),
        core_cycles=sum(part.core_cycles for part in listed),
        core_types=frozenset().union(*(part.core_types for part in listed)),
        units=tuple(_sum_units(same) for same in units.values()),
        stack=dict(sorted(stack.items(), key=lambda item: (-item[1], item[0]))),
        critical=sum_by_key(part.critical for part in listed),
        bounds=sum_by_key(part.bounds for part in listed),
        ends=(sum(firsts), sum(means, Fraction(0)), sum(lasts)),
        memory_bytes=sum_by_key(part.memory_bytes for part in listed),
    )


def _units(result: RunResult) -> tuple[UnitBreakdown, ...]:
    names = dict.fromkeys(name for core in result.cores for name in core.units)
    units = []
    for name in names:
        cores = [core.units[name] for core in result.cores if name in core.units]
        parts: dict[Cause, int] = {}
        for stats in cores:
            add_up(parts, split_stats(name, stats).items())
        working = sum(stats.instructions > 0 for stats in cores)
        instructions = sum(stats.instructions for stats in cores)
        units.append(UnitBreakdown(name, len(cores), working, result.cycles * len(cores), instructions, _sorted(parts)))
    return tuple(units)


def _sum_units(same: Sequence[UnitBreakdown]) -> UnitBreakdown:
    parts: dict[Cause, int] = {}
    for unit in same:
        add_up(parts, unit.parts.items())
    return UnitBreakdown(
        unit=same[0].unit,
        cores=max(unit.cores for unit in same),
        working=max(unit.working for unit in same),
        available=sum(unit.available for unit in same),
        instructions=sum(unit.instructions for unit in same),
        parts=_sorted(parts),
    )


def _sorted(parts: Mapping[Cause, int]) -> dict[Cause, int]:
    order = list(KINDS)
    return dict(sorted(parts.items(), key=lambda item: (order.index(item[0].kind), item[0].other)))
