"""Hand-made streams for the engine, without program text: what a unit is given, and what the engine made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.engine.chip import CoreProgram, Machine, Options
from npuvm.hw.engine.observe import TraceEvent
from npuvm.hw.expansion.stream import Dma, Halt, OperandSite, Region, Regions, ScalarLoad, Site, Stream
from npuvm.hw.hazards import HazardChecker
from npuvm.hw.memory.l2 import L2State
from npuvm.isa import Insn, load_isa

ISA = load_isa()


def make_chip(*overrides: str) -> NpuConfig:
    """A unified chip with round numbers: 1 GHz, L2 of 64 bytes a cycle in one slice, HBM of 32 in one channel."""
    return load_chip(
        "edge",
        [
            "clock_ghz=1", "core.count=4", "core.sequencer.queue_depth=8", "core.sequencer.start_cycles=0",
            "core.sequencer.barrier_cycles=5", "core.sequencer.scalar_load_cycles=50",
            "core.load.row_cycles=2", "core.load.ub_bytes_per_cycle=32", "core.load.l1_bytes_per_cycle=64",
            "core.load.chunk_bytes=128", "core.load.outstanding=4", "core.load.min_burst_bytes=32",
            "core.store.row_cycles=0", "core.store.bytes_per_cycle=16", "core.store.chunk_bytes=128",
            "core.store.outstanding=4", "core.store.min_burst_bytes=32",
            "core.sync.set_to_visible_cycles=2", "core.sync.group_cycles=7", "core.sync.launch_cycles=30",
            "memory.l2.bandwidth_gbps=64", "memory.l2.slices=1", "memory.l2.line_bytes=128",
            "memory.l2.latency_cycles=20", "memory.hbm.bandwidth_gbps=32", "memory.hbm.channels=1",
            "memory.hbm.interleave_bytes=128", "memory.hbm.latency_cycles=100", *overrides,
        ],
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One instruction. `gm` is (address, rows, row bytes, pitch) of a DMA; a tile (space, address, rows, cols, pitch, role)."""

    unit: str
    occupancy: int = 1
    latency: int = 0
    gap: int = 1
    waits: tuple[int, ...] = ()
    sets: tuple[int, ...] = ()
    order: bool = False
    gm: tuple[int, int, int, int] | None = None
    streaming: bool = False
    bank: int = 0
    tiles: tuple[tuple[str, int, int, int, int, str], ...] = ()


def make_stream(rows: Sequence[Row]) -> Stream:
    """A stream with one site per row; tiles are of one-byte elements."""
    n = len(rows)
    size = np.zeros((n, 3), dtype=np.int64)
    addr = np.zeros((n, 4), dtype=np.int64)
    sites = []
    for index, row in enumerate(rows):
        operands = []
        for k, (space, address, n_rows, n_cols, pitch, role) in enumerate(row.tiles):
            addr[index, k] = address
            size[index, :2] = n_rows, n_cols
            reads, writes = role != "write", role != "read"
            operands.append(OperandSite(f"t{k}", k, space, reads, writes, "int8", 1, pitch, (0, 1)))
        dma = None
        if row.gm is not None:
            dma = Dma(row.unit != "load", False, 0, row.gm[3], row.streaming)
            operands.append(
                OperandSite("local", 9, "l0c" if row.unit == "fixpipe" else "ub", False, False, "int8", 1, 0, (2, 2))
            )
        code = ISA.units[row.unit]
        sites.append(
            Site(
                index,
                index,
                code,
                row.unit,
                Insn("nop"),
                None,
                row.waits,
                row.sets,
                row.order,
                False,
                tuple(operands),
                (),
                dma,
            )
        )
    gm = np.array([row.gm or (0, 0, 0, 0) for row in rows], dtype=np.int64).reshape(n, 4)
    gap, occupancy, latency = (
        np.array([getattr(row, name) for row in rows], dtype=np.int64) for name in ("gap", "occupancy", "latency")
    )
    site = np.arange(n, dtype=np.int64)
    origin = np.zeros((n, 2), dtype=np.int64)
    bank = np.array([row.bank for row in rows], dtype=np.int64)
    return Stream(tuple(sites), site, gap, addr, size, origin, occupancy, latency, gm[:, 0], gm[:, 1], gm[:, 2], bank)


Program: TypeAlias = Sequence[Region | Sequence[Row]]
"""What one core runs; a sequence of rows is a stream."""


def regions(items: Program) -> Regions:
    """What an expander would give for these, with a halt at the end."""
    for item in items:
        region = make_stream(item) if isinstance(item, (list, tuple)) else item
        assert isinstance(region, Region)
        answer = yield region
        assert (answer is None) != isinstance(region, ScalarLoad)
    yield Halt(0, 999)


@dataclass(frozen=True)
class Run:
    """A machine that has run, in `cycles`, and what happened."""

    machine: Machine
    cycles: int
    trace: list[TraceEvent]

    def times(self, core: int = 0) -> dict[int, tuple[int, int, int]]:
        """Row of the core's stream -> (start, occupied until, complete)."""
        return {e.pc: (e.start, e.occupied_until, e.complete) for e in self.trace if e.core == core}


def execute(
    programs: Sequence[Program],
    chip: NpuConfig | None = None,
    *,
    groups: Sequence[int] | None = None,
    hazards: HazardChecker | None = None,
    limit: int | None = None,
    l2: L2State | None = None,
) -> Run:
    """Run one program per core on a chip of unified cores; scalar loads give their address."""
    chip = chip or make_chip()
    trace: list[TraceEvent] = []
    options = Options(lambda core, load: load.addr, None, hazards, trace)
    numbers = groups or range(len(programs))
    cores = [CoreProgram("unified", group, regions(items)) for group, items in zip(numbers, programs, strict=True)]
    state = l2 or L2State(chip.capacity_bytes("l2"), chip.memory.l2.line_bytes)
    machine = Machine(chip, ISA, cores, state, options)
    return Run(machine, machine.run(limit), trace)
