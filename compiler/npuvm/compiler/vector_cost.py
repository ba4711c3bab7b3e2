"""What a tile of a vector segment costs: an estimate from the chip's rates, for any sizes of its iteration space."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from npuvm.compiler.blocks import BLOCK_BYTES
from npuvm.compiler.types import DTYPES
from npuvm.compiler.vector_lower import Reg, Shape, VecProgram
from npuvm.compiler.vector_space import Space
from npuvm.hw.config import NpuConfig, class_of
from npuvm.isa import Isa

__all__ = ["TileCost"]


class _Sort(NamedTuple):
    """Instructions alike in when they run and in what they do in a tile; `item` in bytes, `dense` without gaps between rows."""

    when: str
    shape: Shape
    dense: bool
    item: int


class _Cycles(NamedTuple):
    """Of all instructions of a sort: before their first repeat (waits included), for a repeat, and for a row."""

    head: float
    per_repeat: float
    per_row: float


class _Engine(NamedTuple):
    """Issue cycles of an instruction and of a row, bytes a cycle, and bytes that a row costs at least."""

    startup: int
    per_row: float
    port: float
    least: int


class _Moved(NamedTuple):
    """A transfer: which dims of the tile it has, whether its rows are adjacent elements, and the other dims it lacks."""

    rows: bool
    cols: bool
    adjacent: bool
    item: int
    absent: tuple[int, ...]
    engine: _Engine


class TileCost:
    """Cycles of a launch: tiles of the busiest core times the slowest unit, and one pass through the other two units.

    A ring of `depth` slots turns round once in the time that loading a tile, its latency and working on it take together.
    """

    def __init__(self, space: Space, program: VecProgram, chip: NpuConfig, isa: Isa, cores: int, depth: int) -> None:
        self._row, self._col, self._reduced = space.row, space.col, space.reduced
        self.rank = len(space.sizes)
        self._kept = tuple(dim for dim in space.others if not space.reduced[dim])
        self._walked = tuple(dim for dim in space.others if space.reduced[dim])
        self._cores, self._depth = cores, depth
        self._repeat = chip.core.vector.repeat_bytes
        self._hbm = float(chip.hbm_bytes_per_cycle)
        self._latency = chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles
        self._vector_work = tuple(_sorts(program, chip, isa).items())
        self._loads = len(space.reads)
        self._moved = tuple(_transfers(space, chip))

    def cycles(self, sizes: Sequence[int], rows: int, cols: int, cores: int | None = None) -> float:
        """The estimate for tiles of rows x cols in a space of these sizes, on all the cores or on `cores`."""
        cores = cores or self._cores
        all_rows, all_cols = 1 if self._row is None else sizes[self._row], sizes[self._col]
        count_rows, count_cols = -(-all_rows // rows), -(-all_cols // cols)
        rows, cols = min(rows, all_rows), min(cols, all_cols)
        parallel = prod([sizes[dim] for dim in self._kept])
        steps = prod([sizes[dim] for dim in self._walked])
        if self._row is not None and self._reduced[self._row]:
            steps *= count_rows
        else:
            parallel *= count_rows
        if self._reduced[self._col]:
            steps *= count_cols
        else:
            parallel *= count_cols
        vector = self._vector(rows, cols, 1 / steps)
        # Only cores that have a tile share the memory.
        fair = self._hbm / min(cores, parallel)
        load = store = waited = 0.0
        for at, each in enumerate(self._moved):
            again = 1
            for dim in each.absent:
                again *= sizes[dim]
            if not each.rows:
                again *= count_rows
            if not each.cols:
                again *= count_cols
            moved = _transfer(each, fair, rows, cols, cols == all_cols) / again
            if at < self._loads:
                load += moved
                waited = max(waited, 1 / again)
            else:
                store += moved
        slowest = max(vector, load, store, (load + waited * self._latency + vector) / self._depth)
        return -(-parallel // cores) * steps * slowest + max(0.0, vector + load + store - slowest)

    def _vector(self, rows: int, cols: int, once: float) -> float:
        total = 0.0
        for (when, (has_rows, has_cols), dense, item), (head, per_repeat, per_row) in self._vector_work:
            lines = rows if has_rows and has_cols else 1
            width = (cols if has_cols else rows if has_rows else 1) * item
            if dense and width % BLOCK_BYTES == 0:
                repeats = -(-lines * width // self._repeat)
            else:
                repeats = lines * -(-width // self._repeat)
            cycles = head + repeats * per_repeat + lines * per_row
            if when in ("first", "last"):
                cycles *= once
            elif when in ("not_first", "not_last"):
                cycles *= 1 - once
            total += cycles
        return total


def _sorts(program: VecProgram, chip: NpuConfig, isa: Isa) -> dict[_Sort, _Cycles]:
    """Cycles of the instructions by sort; one that reads what is not known complete waits for the one before it.

    Those that run once on a core are left out.
    """
    sums: dict[_Sort, _Cycles] = {}
    written: dict[Reg, int] = {}
    fence, latency = 0, 0
    for at, insn in enumerate(program.insns):
        if insn.op == "asm":
            continue
        regs = [insn.dst.reg, *(use.reg for _, use in insn.sources)]
        item = max(DTYPES[reg.dtype].item_bytes for reg in regs)
        plain = all(use.how == "plain" for use in (insn.dst, *(use for _, use in insn.sources)))
        waits = any(written.get(use.reg, -1) >= fence for _, use in insn.sources)
        fence = at if waits else fence
        written[insn.dst.reg] = at
        found = class_of(chip.core.vector, isa, isa.instruction(insn.op))
        head = found.startup_cycles + (latency + 1 if waits else 0)
        latency = found.latency_cycles
        if insn.when.kind == "changed":
            continue
        sort = _Sort(insn.when.kind, insn.shape, insn.shape == (True, True) and plain, item)
        before = sums.get(sort, _Cycles(0.0, 0.0, 0.0))
        sums[sort] = _Cycles(
            before.head + head,
            before.per_repeat + float(found.cycles_per_repeat),
            before.per_row + float(found.row_cycles),
        )
    return sums


def _transfers(space: Space, chip: NpuConfig) -> list[_Moved]:
    load, store = chip.core.load, chip.core.store
    engines = (
        _Engine(load.startup_cycles, float(load.row_cycles), float(load.ub_bytes_per_cycle), load.min_burst_bytes),
        _Engine(store.startup_cycles, float(store.row_cycles), float(store.bytes_per_cycle), store.min_burst_bytes),
    )
    return [
        _Moved(
            space.has(each.node, space.row),
            space.has(each.node, space.col),
            each.strides[space.col] == 1,
            each.item,
            tuple(dim for dim in space.others if not space.has(each.node, dim)),
            engine,
        )
        for engine, moved in zip(engines, (space.reads, space.writes), strict=True)
        for each in moved
    ]


def _transfer(moved: _Moved, share: float, rows: int, cols: int, all_cols: bool) -> float:
    """Cycles of a load or store of one tile; `share` is the memory's bytes a cycle for one core."""
    engine = moved.engine
    rate = min(engine.port, share)
    lines, width = (rows if moved.rows else 1), (cols if moved.cols else 1)
    if moved.cols and not moved.adjacent and cols > 1:
        lines, width = lines * width, 1
    nbytes = width * moved.item
    if moved.rows and not (moved.cols and all_cols and moved.adjacent):
        nbytes = max(nbytes, engine.least)
    return engine.startup + lines * (engine.per_row + nbytes / rate)
