"""Rules between fields of a chip. Each returns nothing, or says at which field what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from npuvm.hw.config.model import CoreConfig, MemoryConfig, NpuConfig

__all__ = ["Problem", "cross_field_problems"]

ACCUMULATOR_BYTES = 4
"""The cube accumulates in fp32 or int32 (instruction set, `acc` of the dtypes)."""


class Problem(NamedTuple):
    """One broken rule: the field to change, and what it may be."""

    path: tuple[str, ...]
    allowed: str


def cross_field_problems(chip: NpuConfig) -> Iterator[Problem]:
    """All broken rules of a chip whose fields are each within their own bounds."""
    yield from _core_problems(chip.core)
    yield from _sequencer_problems(chip.core)
    yield from _memory_problems(chip.memory)


def _core_problems(core: CoreConfig) -> Iterator[Problem]:
    if core.kind == "unified" and core.vector_per_group != 1:
        yield Problem(("core", "vector_per_group"), "must be 1 on a unified chip (or left out)")
    cube = core.cube
    block = {
        "l0a_kib": cube.m * cube.k_bytes,
        "l0b_kib": cube.n * cube.k_bytes,
        "l0c_kib": cube.m * cube.n * ACCUMULATOR_BYTES,
    }
    for field, needed in block.items():
        if getattr(core, field) * 1024 < needed:
            yield Problem(("core", field), f"must hold one cube block of {needed} bytes (core.cube m, n, k_bytes)")
    if core.vector.repeat_bytes > core.ub_kib * 1024:
        yield Problem(("core", "vector", "repeat_bytes"), f"must fit UB, which has {core.ub_kib * 1024} bytes")
    if core.ub_banks is not None and core.vector.repeat_bytes % core.ub_banks.block_bytes:
        path = ("core", "ub_banks", "block_bytes")
        yield Problem(path, f"must divide core.vector.repeat_bytes, which is {core.vector.repeat_bytes}")
    for engine in ("load", "store"):
        dma = getattr(core, engine)
        if dma.min_burst_bytes > dma.chunk_bytes:
            path = ("core", engine, "min_burst_bytes")
            yield Problem(path, f"must be at most chunk_bytes, which is {dma.chunk_bytes}")
    if not (core.fixpipe.gm_bytes_per_cycle or core.fixpipe.ub_bytes_per_cycle):
        path = ("core", "fixpipe", "gm_bytes_per_cycle")
        yield Problem(path, "and ub_bytes_per_cycle cannot both be 0: results could never leave the cube")
    if core.kind == "split" and core.fixpipe.ub_bytes_per_cycle:
        path = ("core", "fixpipe", "ub_bytes_per_cycle")
        yield Problem(path, "must be 0 on a split chip: a cube core has no UB")


def _sequencer_problems(core: CoreConfig) -> Iterator[Problem]:
    """Bounds that keep fetch ahead of decode, so that a branch costs loop_cycles and nothing else waits for words."""
    sequencer = core.sequencer
    if sequencer.loop_cycles < sequencer.fetch_latency_cycles:
        path = ("core", "sequencer", "loop_cycles")
        yield Problem(path, f"must be at least fetch_latency_cycles, which is {sequencer.fetch_latency_cycles}")
    needed = sequencer.fetch_words_per_cycle * (sequencer.fetch_latency_cycles + 1)
    if sequencer.prefetch_words < needed:
        path = ("core", "sequencer", "prefetch_words")
        yield Problem(path, f"must hold what is fetched during a branch, {needed} words (rate x (latency + 1))")


def _memory_problems(memory: MemoryConfig) -> Iterator[Problem]:
    l2, hbm = memory.l2, memory.hbm
    if hbm.interleave_bytes % l2.line_bytes:
        path = ("memory", "hbm", "interleave_bytes")
        yield Problem(path, f"must be a multiple of memory.l2.line_bytes, which is {l2.line_bytes}")
    if l2.capacity_mib * (1 << 20) % (l2.line_bytes * l2.slices):
        path = ("memory", "l2", "slices")
        yield Problem(path, f"times line_bytes ({l2.line_bytes}) must divide the capacity of {l2.capacity_mib} MiB")
    if l2.access_bytes > l2.line_bytes:
        yield Problem(("memory", "l2", "access_bytes"), f"must be at most line_bytes, which is {l2.line_bytes}")
    if l2.sector_bytes and l2.line_bytes % l2.sector_bytes:
        path = ("memory", "l2", "sector_bytes")
        yield Problem(path, f"must be 0 or divide line_bytes, which is {l2.line_bytes}")
    if hbm.row_bytes % hbm.interleave_bytes:
        path = ("memory", "hbm", "row_bytes")
        yield Problem(path, f"must be 0 or a multiple of interleave_bytes, which is {hbm.interleave_bytes}")
    if hbm.row_miss_cycles and not hbm.row_bytes:
        yield Problem(("memory", "hbm", "row_miss_cycles"), "must be 0 without rows (row_bytes is 0)")
