"""Two points of a space side by side, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from npuvm.explore.space import Value

__all__ = ["Comparison", "MeasurePair", "Pair", "WorkloadPair", "largest_part"]

_SAME = 1e-9


@dataclass(frozen=True)
class Pair:
    """A figure of both points."""

    name: str
    a: float
    b: float

    @property
    def change(self) -> float:
        """By how much b is more than a."""
        return self.b - self.a

    @property
    def share(self) -> float | None:
        """The change as a share of a; None where a is nothing."""
        return self.change / self.a if self.a else None

    @property
    def same(self) -> bool:
        """Whether both are equal but for rounding."""
        return abs(self.change) <= _SAME * max(abs(self.a), abs(self.b))


@dataclass(frozen=True)
class MeasurePair:
    """A measure of both points; None where a point has none. `bounds` says which of the two is a limit and no figure."""

    name: str
    a: float | None
    b: float | None
    bounds: tuple[bool, bool] = (False, False)

    @property
    def figures(self) -> Pair | None:
        """Both where both are figures."""
        return None if self.a is None or self.b is None or any(self.bounds) else Pair(self.name, self.a, self.b)


@dataclass(frozen=True)
class WorkloadPair:
    """A workload on both points, over its sizes by their weights.

    `host_us` is what the host's dispatch adds to the time on the device; `interval_us` is from the end of a run to that of the
    next. `units` are microseconds of a mean core by "unit: what it did", be it busy, idle or a cause of its stalls;
    `critical` is the unit that is busiest on the slower point.
    """

    workload: str
    weight: float
    latency_us: Pair
    interval_us: Pair
    host_us: Pair
    device_us: Pair
    cycles: Pair
    launches: Pair
    critical: str
    units: tuple[Pair, ...]
    bytes: tuple[Pair, ...]
    energy_uj: tuple[Pair, ...]

    @property
    def critical_parts(self) -> tuple[Pair, ...]:
        """The time on the device as what the critical unit did with it: busy, and by cause of its stalls."""
        return tuple(each for each in self.units if each.name.startswith(f"{self.critical}: "))


@dataclass(frozen=True)
class Comparison:
    """Two points side by side. `parameters` are those that differ, `codes` evaluated them, `conclusions` say by rule what
    accounts for most."""

    space: str
    a: int
    b: int
    states: tuple[str, str]
    errors: tuple[str | None, str | None]
    parameters: Mapping[str, tuple[Value, Value]]
    measures: tuple[MeasurePair, ...]
    workloads: tuple[WorkloadPair, ...]
    area_mm2: tuple[Pair, ...]
    codes: tuple[str, str]
    conclusions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def largest_part(parts: Iterable[Pair], change: float) -> Pair | None:
    """The part that goes furthest in the direction of the change of a whole; None where none does."""
    towards = [each for each in parts if each.change * change > 0]
    return max(towards, key=lambda each: abs(each.change), default=None)
