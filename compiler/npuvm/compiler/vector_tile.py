"""Tile choice of a vector segment: candidates that fit UB, and the estimated cycles of the launch with each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

from .errors import CompileError
from .schedule import Pins, pin_error
from .types import DTYPES
from .vector_buffers import Storage
from .vector_lower import VecInsn, VecProgram
from .vector_space import RowsDoNotFit, Space, Transfer

__all__ = ["VectorTile", "choose_tile", "vector_cores"]

_WAVES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Tiles for each core that are tried, besides the largest tile that fits."""


@dataclass(frozen=True, slots=True)
class VectorTile:
    """Size of a tile, and the cycles that the launch is estimated to take with it."""

    rows: int
    cols: int
    cycles: float


def vector_cores(chip: NpuConfig) -> int:
    """Cores of the chip that have a vector unit."""
    return chip.core.count * (chip.core.vector_per_group if chip.core.kind == "split" else 1)


def choose_tile(
    space: Space, program: VecProgram, storage: Storage, chip: NpuConfig, isa: Isa, pins: Pins, where: str
) -> VectorTile:
    """The pinned tile, or the one with the lowest estimate; ties go to the larger tile.

    Raises RowsDoNotFit when not even one whole row fits, CompileError when no tile or not the pinned one fits.
    """
    capacity = chip.capacity_bytes("ub")
    cores = min(pins.cores or vector_cores(chip), vector_cores(chip))
    cost = _Cost(space, program, chip, isa, cores)
    pinned = pins.tile.get("vector")
    if pinned is not None:
        _check_pinned(pinned, space, storage, capacity, where)
        return VectorTile(pinned[0], pinned[1], cost.cycles(pinned[0], pinned[1]))
    best: VectorTile | None = None
    for cols in _col_candidates(space, storage, capacity, cores):
        for rows in _row_candidates(space, storage, capacity, cores, cols):
            tile = VectorTile(rows, cols, cost.cycles(rows, cols))
            if best is None or (tile.cycles, -rows * cols) < (best.cycles, -best.rows * best.cols):
                best = tile
    if best is not None:
        return best
    need = storage.nbytes(1, space.cols if space.whole_rows else 1)
    what = f"a row of {space.cols} elements" if space.whole_rows else "a tile of one element"
    message = f"{what} needs {need} bytes of UB for its {len(storage.slots)} buffers; there are {capacity}"
    raise (RowsDoNotFit if space.whole_rows else CompileError)(message, where)


def _check_pinned(pinned: Sequence[int], space: Space, storage: Storage, capacity: int, where: str) -> None:
    rows, cols = pinned
    if space.whole_rows and cols < space.cols:
        pin_error("tile.vector", tuple(pinned), f"whole rows of {space.cols} columns", where)
    if storage.nbytes(rows, cols) > capacity:
        pin_error(
            "tile.vector", tuple(pinned), f"tiles whose {storage.nbytes(rows, cols)} bytes fit UB ({capacity})", where
        )


def _fits(space: Space, storage: Storage, capacity: int, cols: int) -> int:
    """Most rows that fit with this many columns; 0 when none do."""
    if storage.nbytes(1, cols) > capacity:
        return 0
    low, high = 1, space.rows
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if storage.nbytes(middle, cols) <= capacity else (low, middle - 1)
    return low


def _col_candidates(space: Space, storage: Storage, capacity: int, cores: int) -> Iterable[int]:
    if space.whole_rows:
        return [space.cols]
    widest = space.cols
    if storage.nbytes(1, widest) > capacity:
        low, high = 1, widest
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if storage.nbytes(1, middle) <= capacity else (low, middle - 1)
        widest = low
    others = prod(space.sizes[dim] for dim in space.others) * (space.rows if space.row is not None else 1)
    candidates = {widest}
    for waves in _WAVES:
        parts = -(-waves * cores // others)
        even = -(-space.cols // max(parts, -(-space.cols // widest)))
        candidates.add(min(widest, _round_up(even, 128)))
    return sorted(candidates, reverse=True)


def _row_candidates(space: Space, storage: Storage, capacity: int, cores: int, cols: int) -> Iterable[int]:
    most = _fits(space, storage, capacity, cols)
    if most == 0:
        return []
    others = prod(space.sizes[dim] for dim in space.others) * -(-space.cols // cols)
    candidates = {most, -(-space.rows // -(-space.rows // most))}
    for waves in _WAVES:
        parts = max(1, waves * cores // others)
        candidates.add(min(most, -(-space.rows // parts)))
    return sorted(candidates, reverse=True)


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to


class _Cost:
    """Cycles of a launch: tiles of the busiest core times the slowest unit, and one pass through the other two units."""

    def __init__(self, space: Space, program: VecProgram, chip: NpuConfig, isa: Isa, cores: int) -> None:
        self._space = space
        self._cores = cores
        self._chip = chip
        self._repeat = chip.core.vector.repeat_bytes
        self._vector = [
            self._instruction(insn, isa) for insn in program.insns if insn.when.kind != "changed" and insn.op != "asm"
        ]
        share = float(chip.hbm_bytes_per_cycle) / cores
        load, store = chip.core.load, chip.core.store
        self._load = (load.startup_cycles, float(load.row_cycles), min(float(load.ub_bytes_per_cycle), share))
        self._store = (store.startup_cycles, float(store.row_cycles), min(float(store.bytes_per_cycle), share))

    def _instruction(self, insn: VecInsn, isa: Isa) -> tuple[tuple[bool, bool], int, float, float, float]:
        """Shape, item size, startup, cycles for a repeat and for a row of an instruction."""
        source = max(
            [DTYPES[insn.dst.reg.dtype].item_bytes, *(DTYPES[use.reg.dtype].item_bytes for _, use in insn.sources)]
        )
        timing = isa.instruction(insn.op).timing
        found = self._chip.core.vector.classes.get(timing or "")
        if found is None:
            return insn.shape, source, 0.0, 1.0, 0.0
        return insn.shape, source, float(found.startup_cycles), float(found.cycles_per_repeat), float(found.row_cycles)

    def cycles(self, rows: int, cols: int) -> float:
        """The estimate for tiles of rows x cols."""
        space = self._space
        tiles = prod(space.sizes[dim] for dim in space.others) * -(-space.rows // rows) * -(-space.cols // cols)
        rows, cols = min(rows, space.rows), min(cols, space.cols)
        vector = sum(self._vector_cycles(each, rows, cols) for each in self._vector)
        load = sum(self._transfer(self._load, each, rows, cols) for each in space.reads)
        store = sum(self._transfer(self._store, each, rows, cols) for each in space.writes)
        waves = -(-tiles // self._cores)
        return waves * max(vector, load, store) + (vector + load + store - max(vector, load, store))

    def _vector_cycles(self, insn: tuple[tuple[bool, bool], int, float, float, float], rows: int, cols: int) -> float:
        shape, item, startup, per_repeat, per_row = insn
        lines = rows if shape == (True, True) else 1
        width = rows if shape == (True, False) else cols if shape[1] else 1
        return startup + lines * (-(-width * item // self._repeat) * per_repeat + per_row)

    def _transfer(self, prices: tuple[int, float, float], transfer: Transfer, rows: int, cols: int) -> float:
        """Cycles of a load or store, weighed by how often its tile changes."""
        space = self._space
        startup, per_row, rate = prices
        has_rows, has_cols = space.has(transfer.node, space.row), space.has(transfer.node, space.col)
        again = prod(space.sizes[dim] for dim in space.others if not space.has(transfer.node, dim))
        again *= 1 if has_rows else -(-space.rows // rows)
        again *= 1 if has_cols else -(-space.cols // cols)
        lines, width = (rows if has_rows else 1), (cols if has_cols else 1)
        if has_cols and transfer.strides[space.col] != 1 and cols > 1:
            lines, width = lines * width, 1
        return (startup + lines * per_row + lines * width * transfer.item / rate) / again
