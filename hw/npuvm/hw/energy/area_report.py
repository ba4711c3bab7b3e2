"""Area of a chip by component: an estimate from its capacities, widths and rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import TYPE_CHECKING, Any

from npuvm.hw.energy.amount import Amount, priced
from npuvm.isa import load_isa

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.energy.technology import Technology

__all__ = ["AreaReport", "estimate_area"]

_UM2_PER_MM2 = 1e6
_KIB_PER_MIB = 1024
_WORD_BITS = 64
_SEQUENCER = "seq"
"""The unit without a queue: it fills the others'."""

_LANE_BYTES = 4
"""A vector lane takes one fp32 element a cycle."""


@dataclass(frozen=True)
class AreaReport:
    """Estimated area in mm2 of a chip in a technology, by component.

    "cube", "vector", "ub", "l1", "l0", "queues" (instructions that wait in front of units) and "core" (sequencer, DMA engines,
    scalar part) are of all cores together; "l2" is data, tags and slices, "memory_phy" the interfaces of main memory, "other"
    what is none of these. "extensions", what vector units have for instructions of extensions, where the chip has such.
    """

    chip: str
    technology: str
    components: Mapping[str, Amount]

    @property
    def total(self) -> Amount:
        """All components together, in mm2."""
        return Amount.sum(self.components.values())

    @property
    def edge_mm(self) -> float:
        """Edge of a square die of that area."""
        return sqrt(self.total.value)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "estimate": True,
            "chip": self.chip,
            "technology": self.technology,
            "unit": "mm2",
            "components": {name: amount.to_json() for name, amount in self.components.items()},
            "total": self.total.to_json(),
        }


def estimate_area(chip: NpuConfig, technology: Technology) -> AreaReport:
    """Estimate a chip's area (docs/reference/energy.md has the formulas).

    ConfigError when the technology does not price an operand type of the cube, or a timing class of extensions.
    """
    costs, core, memory = technology.area, chip.core, chip.memory
    cubes, vectors = chip.cores_with("cube"), chip.cores_with("vector")
    l0_kib = core.l0a_kib + core.l0b_kib + core.l0c_kib
    parts = {
        "cube": _cube(chip, technology).times(cubes),
        "vector": priced(vectors * float(_lanes(chip)) / _UM2_PER_MM2, costs.vector_lane_um2),
        "ub": priced(vectors * core.ub_kib / _KIB_PER_MIB, costs.buffer_mm2_per_mib),
        "l1": priced(cubes * core.l1_kib / _KIB_PER_MIB, costs.buffer_mm2_per_mib),
        "l0": priced(cubes * l0_kib / _KIB_PER_MIB, costs.buffer_mm2_per_mib),
        "queues": priced(_queue_bits(chip) / _UM2_PER_MM2, costs.queue_bit_um2),
        "core": priced(chip.n_cores, costs.core_mm2),
        "l2": Amount.sum(
            (priced(memory.l2.capacity_mib, costs.l2_mm2_per_mib), priced(memory.l2.slices, costs.l2_slice_mm2))
        ),
        "memory_phy": priced(float(memory.hbm.bandwidth_gbps), costs.memory_phy_mm2).times(
            1 / costs.memory_phy_gbps.value, costs.memory_phy_gbps.error
        ),
    }
    if added := _extensions(chip, technology):
        parts["extensions"] = Amount.sum(added).times(vectors)
    parts["other"] = Amount.sum(parts.values()).times(costs.other_share.value, costs.other_share.error)
    return AreaReport(chip.name, technology.name, parts)


def _cube(chip: NpuConfig, technology: Technology) -> Amount:
    """Area of one cube: that of its most expensive operand type, whose arithmetic the other types share."""
    cube = chip.core.cube
    dtypes = load_isa(chip.isa.base, chip.isa.extensions).dtypes
    options = []
    for dtype, cycles in cube.cycles_per_block.items():
        rate = cube.m * cube.n * cube.k_bytes / dtypes[dtype].itemsize / cycles
        options.append(priced(rate / _UM2_PER_MM2, technology.multiply_add_area(dtype)))
    return max(options, key=lambda amount: amount.value)


def _queue_bits(chip: NpuConfig) -> int:
    """Bits of all queues: each entry holds the longest instruction of its unit."""
    instructions = load_isa(chip.isa.base, chip.isa.extensions).instructions.values()
    words = {each.unit: 0 for each in instructions if chip.cores_with(each.unit) and each.unit != _SEQUENCER}
    for each in instructions:
        if each.unit in words:
            words[each.unit] = max(words[each.unit], each.words)
    entries = chip.core.sequencer.queue_depth
    return sum(chip.cores_with(unit) * entries * _WORD_BITS * longest for unit, longest in words.items())


def _lanes(chip: NpuConfig) -> Fraction:
    """fp32 elements that a vector unit takes in a cycle, in its fastest timing class."""
    return _rate(chip, min(each.cycles_per_repeat for each in chip.core.vector.classes.values()))


def _rate(chip: NpuConfig, cycles_per_repeat: Fraction) -> Fraction:
    return Fraction(chip.core.vector.repeat_bytes, _LANE_BYTES) / cycles_per_repeat


def _extensions(chip: NpuConfig, technology: Technology) -> list[Amount]:
    """What one vector unit has for the timing classes that only extensions use, each at the rate of its class.

    An instruction without a timing class of its own is done by the units of its primitives, and needs no other.
    """
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    base = load_isa(chip.isa.base)
    known = {each.timing for each in base.instructions.values()} | set(base.primitive_timing.values())
    added = [each for each in isa.instructions.values() if each.name not in base.instructions]
    classes = dict.fromkeys(each.timing for each in added if each.unit == "vector" and each.timing not in known)
    return [
        priced(
            float(_rate(chip, chip.core.vector.classes[timing].cycles_per_repeat)) / _UM2_PER_MM2,
            technology.extension_area(timing),
        )
        for timing in classes
        if timing is not None
    ]
