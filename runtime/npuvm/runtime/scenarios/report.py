"""What a scenario run found, as data: totals of launches, rows of cases, sentences and operator kinds.

Simulated cycles and measured host time stand in fields of their own. `report` turns these into tables and JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from npuvm.hw.results.sums import sum_by_key
from npuvm.runtime.device.operations import TransferTotals
from npuvm.runtime.device.run_timeline import RunCalls
from npuvm.runtime.scenarios.oracles import Errors

__all__ = [
    "CaseRow", "Header", "KindRow", "ModelRow", "Progress", "ScenarioReport", "SentenceRow", "Totals", "unwatched",
]  # fmt: skip

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what comes next)."""


def unwatched(done: int, total: int, label: str) -> None:
    """The progress of what nobody watches."""


@dataclass(frozen=True)
class Totals:
    """Sums over launches.

    `cycles` are simulated, `microseconds` the same as time on the chip. `bytes` counts by level ("hbm_read", ...). `busy`
    are cycles that a unit's instances were occupied, `available` what they had: their ratio is utilisation. `stalls` are
    cycles by unit and cause. `limits` are the physical bounds of the programs as compiled, in cycles by kind; `bounds` has
    of each launch only the highest. `roofline_cycles` is what the same work needs when the whole chip shares it evenly.
    `compile_us` is measured on the host.
    """

    launches: int = 0
    instructions: int = 0
    cycles: int = 0
    microseconds: float = 0.0
    bytes: Mapping[str, int] = field(default_factory=dict)
    busy: Mapping[str, int] = field(default_factory=dict)
    available: Mapping[str, int] = field(default_factory=dict)
    stalls: Mapping[str, int] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    roofline_cycles: float = 0.0
    compile_us: float = 0.0

    @staticmethod
    def sum(parts: Iterable[Totals]) -> Totals:
        """All parts together."""
        listed = tuple(parts)
        return Totals(
            launches=sum(part.launches for part in listed),
            instructions=sum(part.instructions for part in listed),
            cycles=sum(part.cycles for part in listed),
            microseconds=math.fsum(part.microseconds for part in listed),
            bytes=sum_by_key(part.bytes for part in listed),
            busy=sum_by_key(part.busy for part in listed),
            available=sum_by_key(part.available for part in listed),
            stalls=sum_by_key(part.stalls for part in listed),
            bounds=sum_by_key(part.bounds for part in listed),
            limits=sum_by_key(part.limits for part in listed),
            roofline_cycles=math.fsum(part.roofline_cycles for part in listed),
            compile_us=math.fsum(part.compile_us for part in listed),
        )

    @property
    def utilisation(self) -> dict[str, float]:
        """Share of its cycles that each unit was busy, highest first."""
        shares = {unit: self.busy.get(unit, 0) / cycles for unit, cycles in self.available.items() if cycles}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    @property
    def top_stalls(self) -> dict[str, int]:
        """Stall cycles by cause, most first, without those that never happened."""
        return {cause: cycles for cause, cycles in sorted(self.stalls.items(), key=lambda item: -item[1]) if cycles}

    @property
    def bound(self) -> str:
        """The kind of bound that limits most of the work; "-" when nothing was launched."""
        return max(self.bounds, key=lambda name: self.bounds[name], default="-")

    @property
    def of_bound(self) -> float | None:
        """Bound over achieved cycles: 1 is as fast as this program can be. None when nothing was launched."""
        return math.fsum(self.bounds.values()) / self.cycles if self.cycles else None

    @property
    def of_roofline(self) -> float | None:
        """Roofline over achieved cycles: 1 is as fast as the chip can be. None when nothing was launched."""
        return self.roofline_cycles / self.cycles if self.cycles else None


@dataclass(frozen=True)
class Header:
    """What a table must say about its run; `engine` is the simulator's, "simpy" or "compiled (...)"."""

    scenario: str
    title: str
    chip: str
    isa: str
    commit: str
    options: Mapping[str, str]
    timing_only: bool
    engine: str = "simpy"


@dataclass(frozen=True)
class CaseRow:
    """One operator on one shape. `errors` is None when nothing was checked (timing only)."""

    operator: str
    dtype: str
    shape: str
    totals: Totals
    errors: Errors | None

    @property
    def fault(self) -> str | None:
        """Why this row fails the run, or None."""
        if self.errors is None or self.errors.ok:
            return None
        return (
            f"{self.operator} {self.dtype} {self.shape}: wrong result, largest error {self.errors.absolute:.3g}, "
            f"{self.errors.of_allowed:.3g} times what is allowed"
        )


@dataclass(frozen=True)
class SentenceRow:
    """One sentence: its length, its totals, and how its embedding compares (None when nothing was checked)."""

    text: str
    tokens: int
    totals: Totals
    cosine: float | None
    order_equal: bool | None


@dataclass(frozen=True)
class KindRow:
    """All launches of one kind of operator. `host_us` is measured; it is set for what the host does itself."""

    kind: str
    totals: Totals
    host_us: float | None = None


@dataclass(frozen=True)
class ModelRow:
    """One run of a model. `share` is its weight among those of all runs; `latency_us` is simulated, with the host's dispatch.

    `errors` are those of each output by name, and None when nothing was checked. `on_host` are operators of the host.
    `with_transfers_us` is the latency from the first upload of an input until all outputs are on the host.
    """

    sizes: Mapping[str, int]
    share: float
    latency_us: float
    totals: Totals
    errors: Mapping[str, Errors] | None
    on_host: tuple[str, ...] = ()
    with_transfers_us: float = 0.0

    @property
    def label(self) -> str:
        """As tables show it: "batch=1, sequence=9"."""
        return ", ".join(f"{name}={size}" for name, size in self.sizes.items()) or "fixed sizes"

    @property
    def faults(self) -> tuple[str, ...]:
        """Every output that is wrong."""
        return tuple(
            f"{self.label}: {name} is wrong, largest error {errors.absolute:.3g}, "
            f"{errors.of_allowed:.3g} times what is allowed"
            for name, errors in (self.errors or {}).items()
            if not errors.ok
        )


@dataclass(frozen=True)
class ScenarioReport:
    """The whole run: `cases` of a kernel scenario, `sentences` and `kinds` of the sentence encoder, `runs` of a model.

    `stream_us` is simulated time from the first launch to the end of the last, with the host's dispatch between them. `calls`
    have the transfers beside the launches; None in a report of nothing that ran.
    """

    header: Header
    stream_us: float = 0.0
    cases: tuple[CaseRow, ...] = ()
    sentences: tuple[SentenceRow, ...] = ()
    kinds: tuple[KindRow, ...] = ()
    cosine_min: float | None = None
    runs: tuple[ModelRow, ...] = ()
    calls: RunCalls | None = None

    @property
    def transfers(self) -> TransferTotals:
        """All transfers of the run."""
        return TransferTotals() if self.calls is None else self.calls.transfers

    @property
    def with_transfers_us(self) -> float:
        """What `stream_us` is with transfers, apart from those of weights."""
        return 0.0 if self.calls is None else self.calls.timeline.total_us

    @property
    def totals(self) -> Totals:
        """All launches of the run."""
        parts = [row.totals for row in self.cases] + [row.totals for row in self.sentences]
        return Totals.sum([*parts, *(row.totals for row in self.runs)])

    @property
    def mean_latency_us(self) -> float | None:
        """Mean latency of the runs of a model by their weights, None where there are none."""
        return math.fsum(row.share * row.latency_us for row in self.runs) if self.runs else None

    @property
    def worst_cosine(self) -> float | None:
        """The least cosine of all sentences, None when none was checked."""
        return min((row.cosine for row in self.sentences if row.cosine is not None), default=None)

    @property
    def faults(self) -> tuple[str, ...]:
        """Every reason to fail the run, a line each."""
        found = [row.fault for row in self.cases if row.fault is not None]
        found += [fault for row in self.runs for fault in row.faults]
        for row in self.sentences:
            if row.cosine is not None and self.cosine_min is not None and not row.cosine >= self.cosine_min:
                found.append(f"{row.text[:40]!r}: cosine {row.cosine:.6f} is below {self.cosine_min}")
            if row.order_equal is False:
                found.append(f"{row.text[:40]!r}: the order of its neighbours is not that of the reference")
        return tuple(found)

    @property
    def ok(self) -> bool:
        """Whether every result is right."""
        return not self.faults
