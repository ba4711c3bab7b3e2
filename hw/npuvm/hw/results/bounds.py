"""Lower limits of a launch's cycles (docs/timing-model.md, Bounds). A result below one is a fault of the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from npuvm.hw.errors import SimulationError
from npuvm.hw.memory.chunks import engines_of

if TYPE_CHECKING:
    from npuvm.hw.compiled.views import MemoryView
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.expansion.tally import Tally
    from npuvm.hw.memory.system import MemorySystem

__all__ = ["check_bounds", "core_bounds", "launch_bounds", "memory_bounds"]

OCCUPIED = ("vector", "cube", "move", "fixpipe")
"""Units whose instructions occupy them for a time that nothing can shorten."""


def memory_bounds(chip: NpuConfig, memory: MemorySystem | MemoryView) -> dict[str, Fraction]:
    """`hbm`: bytes that must cross, at the rate of all channels. `l2`: bytes served by L2, at the rate of all slices.

    Must cross: first reads of lines that were not resident at launch, streamed writes, dirty lines beyond what L2 holds.
    """
    traffic, l2 = memory.traffic, memory.l2
    must_write = max(0, traffic.dirty_at_launch + traffic.first_writes - l2.capacity) * l2.line_bytes
    crossing = traffic.compulsory_reads + traffic.streamed_writes + must_write
    return {"hbm": crossing / chip.hbm_bytes_per_cycle, "l2": memory.l2_hit / chip.l2_bytes_per_cycle}


def core_bounds(chip: NpuConfig, tally: Tally) -> dict[str, Fraction]:
    """Limits from one core's own instructions: occupancy of its units, transfers through its ports, dispatch."""
    occupied = dict.fromkeys(OCCUPIED, 0)
    ports: dict[str, Fraction] = {}
    engines = engines_of(chip)
    for table in tally.tables:
        for index, site in enumerate(table.sites):
            if site.unit_name in occupied:
                occupied[site.unit_name] += int(table.occupancy[index])
            if site.dma is not None:
                took = Fraction(int(table.moved[index]), engines[site.unit_name].rate(site))
                ports[site.unit_name] = ports.get(site.unit_name, Fraction(0)) + took
    bounds = {name: Fraction(cycles) for name, cycles in occupied.items() if cycles}
    bounds["port"] = max(ports.values(), default=Fraction(0))
    bounds["dispatch"] = Fraction(tally.gap)
    return bounds


def launch_bounds(memory: Mapping[str, Fraction], cores: Sequence[Mapping[str, Fraction]]) -> dict[str, Fraction]:
    """All limits of a launch: those of memory, and the highest over the cores of each of theirs."""
    bounds = dict(memory)
    for core in cores:
        for name, cycles in core.items():
            bounds[name] = max(bounds.get(name, Fraction(0)), cycles)
    return bounds


def check_bounds(cycles: int, bounds: Mapping[str, Fraction]) -> None:
    """SimulationError when a launch took fewer cycles than a limit allows."""
    for name, bound in bounds.items():
        if cycles < bound:
            raise SimulationError(
                f"{cycles} cycles are below the {name} bound of {float(bound):.1f}; the timing model is wrong"
            )
