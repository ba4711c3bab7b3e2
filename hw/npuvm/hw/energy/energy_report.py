"""Energy of a launch by component: an estimate from its counts, the chip's sizes and a technology."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from npuvm.hw.energy.amount import Amount, priced
from npuvm.hw.energy.area_report import estimate_area

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.energy.technology import Technology
    from npuvm.hw.energy.work import Work
    from npuvm.hw.results.stats import RunResult

__all__ = ["EnergyReport", "estimate_energy"]

_PJ_PER_J = 1e12
_KIB = 1024
_L0 = ("l0a", "l0b", "l0c")
_MEAN_DISTANCE = 2 / 3
"""Mean distance along the axes of two points of a square, in edges (1/3 each way)."""


@dataclass(frozen=True)
class EnergyReport:
    """Estimated energy in pJ of one launch, or of several, by component.

    "cube": arithmetic of the cubes. "vector": element operations, also the fixpipe's and those of atomic writes. "l0", "l1",
    "ub", "l2": bytes in these arrays. "network": bytes between cores and L2. "memory": main memory. "sequencer": fetch,
    decoding, dispatch. "static": what the whole chip draws while it runs. `seconds` is simulated time; `flops` as in
    `Work.flops`.
    """

    chip: str
    technology: str
    components: Mapping[str, Amount]
    seconds: float
    flops: int

    @property
    def total(self) -> Amount:
        """All components together, in pJ."""
        return Amount.sum(self.components.values())

    @property
    def average_watts(self) -> Amount:
        """Mean power over the simulated time; 0 for no time."""
        return self.total.times(1 / self.seconds / _PJ_PER_J) if self.seconds else Amount()

    @property
    def pj_per_flop(self) -> float | None:
        """Energy for each floating-point (or integer) operation; None when there was none."""
        return self.total.value / self.flops if self.flops else None

    @staticmethod
    def sum(parts: Iterable[EnergyReport]) -> EnergyReport:
        """Launches one after another on one chip, at least one."""
        listed = tuple(parts)
        names = listed[0].components
        return EnergyReport(
            listed[0].chip,
            listed[0].technology,
            {name: Amount.sum(part.components[name] for part in listed) for name in names},
            sum(part.seconds for part in listed),
            sum(part.flops for part in listed),
        )

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "estimate": True,
            "chip": self.chip,
            "technology": self.technology,
            "unit": "pJ",
            "components": {name: amount.to_json() for name, amount in self.components.items()},
            "total": self.total.to_json(),
            "average_watts": self.average_watts.to_json(),
            "flops": self.flops,
            "pj_per_flop": self.pj_per_flop,
        }


def estimate_energy(result: RunResult, chip: NpuConfig, technology: Technology) -> EnergyReport:
    """Estimate a launch's energy (docs/reference/energy.md has the formulas).

    ConfigError when the technology does not price an operation that the launch did.
    """
    costs, nbytes = technology.energy, result.bytes
    area = estimate_area(chip, technology)
    wire_mm = _MEAN_DISTANCE * area.edge_mm
    to_memory = nbytes.get("hbm_read", 0) + nbytes.get("hbm_write", 0)
    seconds = float(result.seconds)
    power = area.total.times(costs.static_w_per_mm2.value, costs.static_w_per_mm2.error)
    parts = {
        "cube": _cube(result.work, technology),
        "vector": _vector(result.work, technology),
        "l0": Amount.sum(_array(result, chip, technology, space) for space in _L0),
        "l1": _array(result, chip, technology, "l1"),
        "ub": _array(result, chip, technology, "ub"),
        # What comes from memory or goes there passes through the array of L2, beside what L2 serves itself.
        "l2": priced(nbytes.get("l2", 0) + to_memory, technology.sram_byte(_slice_kib(chip))),
        "network": priced(result.work.gm_bytes * wire_mm, costs.wire_pj_per_byte_mm),
        "memory": priced(to_memory, costs.memory_pj_per_byte),
        "sequencer": Amount.sum(
            (priced(result.work.words, costs.word_pj), priced(result.instructions, costs.dispatch_pj))
        ),
        "static": power.times(seconds * _PJ_PER_J),
    }
    return EnergyReport(chip.name, technology.name, parts, seconds, result.work.flops)


def _cube(work: Work, technology: Technology) -> Amount:
    factor = technology.energy.arithmetic_factor
    return Amount.sum(priced(n, technology.multiply_add(dtype), factor) for dtype, n in work.multiply_adds.items())


def _vector(work: Work, technology: Technology) -> Amount:
    factor = technology.energy.arithmetic_factor
    return Amount.sum(
        priced(n, technology.operation(primitive, dtype), factor)
        for primitive, counts in work.operations.items()
        for dtype, n in counts.items()
    )


def _array(result: RunResult, chip: NpuConfig, technology: Technology, space: str) -> Amount:
    """Bytes in an on-chip buffer, at the price of its capacity."""
    moved = result.bytes.get(space, 0) + result.work.rereads.get(space, 0)
    return priced(moved, technology.sram_byte(chip.capacity_bytes(space) / _KIB))


def _slice_kib(chip: NpuConfig) -> float:
    return chip.capacity_bytes("l2") / _KIB / chip.memory.l2.slices
