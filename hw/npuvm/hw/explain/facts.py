"""What the rules of advice measure: shares of a launch, and what the chip's numbers say about them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from npuvm.hw.config import NpuConfig
from npuvm.hw.explain.breakdown import LaunchBreakdown, UnitBreakdown
from npuvm.hw.explain.causes import SEQUENCER, Cause

__all__ = ["Facts"]

_ENGINES = ("load", "store", "fixpipe")


@dataclass(frozen=True)
class Facts:
    """A breakdown on its chip. `stream_us` is the time of its launches with the host's dispatch, None when not known."""

    chip: NpuConfig
    breakdown: LaunchBreakdown
    stream_us: float | None = None

    @cached_property
    def critical(self) -> str:
        """The unit that is critical in most cores."""
        counts = self.breakdown.critical
        return max(counts, key=lambda name: counts[name], default=SEQUENCER)

    @cached_property
    def busiest_engine(self) -> UnitBreakdown | None:
        """The unit with a port to global memory that is busy most."""
        engines = [unit for unit in self.breakdown.units if unit.unit in _ENGINES and unit.instructions]
        return max(engines, key=lambda unit: unit.of_kind("busy"), default=None)

    @property
    def issue_share(self) -> float:
        """Share of the stack in which the busiest engine issues instructions and rows: busy beyond what its bytes need.

        The bytes of every core count as those of the core that moves most, so this is rather too little.
        """
        engine = self.busiest_engine
        if engine is None:
            return 0.0
        busy, cores = engine.of_kind("busy"), engine.available / self.breakdown.cycles
        beyond = max(0.0, 1 - float(self.breakdown.bounds.get("port", Fraction(0))) * cores / busy) if busy else 0.0
        return beyond * self.breakdown.stack.get(Cause(engine.unit, "busy"), 0) / self.breakdown.core_cycles

    @property
    def bank_share(self) -> float:
        """Bank conflicts over the cycles in which vector units work."""
        vector = self.breakdown.unit("vector")
        worked = 0 if vector is None else vector.of_kind("busy", "bank")
        return 0.0 if vector is None or not worked else vector.of_kind("bank") / worked

    def share_of_work(self, unit: str) -> float:
        """The bound of a unit over the achieved cycles, without what bank conflicts add to it."""
        share = self.breakdown.share_of_bound(unit)
        return share * (1 - self.bank_share) if unit == "vector" else share

    @property
    def lateness(self) -> float:
        """By how much the last core halts after the mean of all."""
        _, mean, last = self.breakdown.ends
        return float(last / mean - 1) if mean else 0.0

    @property
    def able_cores(self) -> int:
        """Cores of the chip, of the types that were launched, that have the critical unit."""
        types = [kind for kind in self.chip.core_types() if kind in self.breakdown.core_types]
        return sum(self.critical in self.chip.units(kind) for kind in types)

    @property
    def unused_cores(self) -> float:
        """Share of the cycles that the chip's cores without work could take over: they shorten neither start-up nor tail."""
        unit = self.breakdown.unit(self.critical)
        if unit is None or self.critical == SEQUENCER or not self.able_cores:
            return 0.0
        fixed = self.breakdown.share("start", "startup", "tail")
        return (1 - unit.working / self.able_cores) * (1 - fixed)

    @property
    def host_share(self) -> float:
        """Share of the stream in which the device waits for the host."""
        if not self.stream_us:
            return 0.0
        return max(0.0, 1 - float(self.chip.cycles_to_us(self.breakdown.cycles)) / self.stream_us)

    def largest(self, kind: str) -> Cause | None:
        """The cause of a kind that has most of the stack."""
        return next((cause for cause in self.breakdown.stack if cause.kind == kind), None)

    @property
    def hbm_rate(self) -> float:
        """Bytes per cycle to and from HBM that all cores together achieved, over what it can do."""
        nbytes = self.breakdown.memory_bytes["hbm_read"] + self.breakdown.memory_bytes["hbm_write"]
        whole = self.breakdown.cycles * self.chip.hbm_bytes_per_cycle
        return float(nbytes / whole) if whole else 0.0

    def in_flight(self, unit: str) -> tuple[int, int, Fraction]:
        """Of an engine: requests in flight at most, their bytes, and bytes per cycle these give at the latency of HBM."""
        core, memory = self.chip.core, self.chip.memory
        engine = core.load if unit == "load" else core.store
        latency = memory.l2.latency_cycles + memory.hbm.latency_cycles
        nbytes = engine.outstanding * engine.chunk_bytes
        return engine.outstanding, nbytes, Fraction(nbytes, max(1, latency))
