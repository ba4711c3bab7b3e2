"""What memory gives to the cores of a chip, as estimates of vector segments count it."""

from __future__ import annotations

from typing import NamedTuple

from npuvm.hw.config import NpuConfig

__all__ = ["Memory", "memory_of", "memory_rates"]


class Memory(NamedTuple):
    """Bytes a cycle of main memory and of L2, cycles of a way there, bytes of a line, what all channels hold side by side, and
    what one of them does; cycles between accesses of two cores to a line, whether rows off blocks are read past L2, whether
    addresses are mixed, so that no pitch leaves channels out, bytes that L2 keeps, and whether cores read side by side."""

    far: float
    near: float
    latency: int
    line: int
    stripe: int
    own: int
    same_line: int
    uncached: bool
    mixed: bool
    kept: int
    together: bool


def memory_of(chip: NpuConfig, *, open_rows: bool = False) -> Memory:
    """Rates of a chip; with `open_rows` where cores read so close to each other that rows of main memory stay open."""
    l2, hbm = chip.memory.l2, chip.memory.hbm
    # Where cores read at many places, a channel opens a row for each line.
    together = hbm.row_bytes if open_rows else hbm.interleave_bytes
    burst = together / (float(chip.hbm_bytes_per_cycle) / hbm.channels)
    far = together * hbm.channels / (burst + (hbm.row_miss_cycles if hbm.row_bytes else 0))
    return Memory(
        far,
        float(chip.l2_bytes_per_cycle),
        l2.latency_cycles + hbm.latency_cycles,
        l2.line_bytes,
        hbm.interleave_bytes * hbm.channels,
        hbm.interleave_bytes,
        l2.same_line_cycles,
        l2.unaligned_reads == "uncached",
        chip.memory.address_hash,
        chip.capacity_bytes("l2"),
        open_rows,
    )


def memory_rates(chip: NpuConfig) -> tuple[float, float]:
    """Bytes a cycle of main memory and of L2, as estimates have them."""
    memory = memory_of(chip)
    return memory.far, memory.near
