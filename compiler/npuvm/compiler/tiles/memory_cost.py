"""What main memory takes for data of many cores, as estimates count it."""

from __future__ import annotations

from typing import NamedTuple

from npuvm.hw.config import NpuConfig

__all__ = ["MemoryCost", "memory_cost"]


class MemoryCost(NamedTuple):
    """Cycles for a byte and for a line of L2, and those of them for which a channel opens the row of a line.

    Cores stream from places of their own: each line of theirs opens a row of its channel.
    """

    per_byte: float
    per_line: float
    missed: int


def memory_cost(chip: NpuConfig) -> MemoryCost:
    """The costs of a chip; all channels work side by side."""
    line, hbm, rate = chip.memory.l2.line_bytes, chip.memory.hbm, float(chip.hbm_bytes_per_cycle)
    missed = hbm.row_miss_cycles if hbm.row_bytes else 0
    return MemoryCost(1 / rate + missed / (line * hbm.channels), line / rate + missed / hbm.channels, missed)
