"""Tile choice of a vector segment: candidates that fit UB, and the estimated cycles of the launch with each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import Pins, pin_error
from npuvm.compiler.types import DTYPES
from npuvm.compiler.vector_buffers import Storage
from npuvm.compiler.vector_lower import Reg, Shape, VecProgram
from npuvm.compiler.vector_space import RowsDoNotFit, Space, Transfer
from npuvm.hw.config import NpuConfig, class_of
from npuvm.isa import Isa

__all__ = ["LANES", "Engine", "Price", "TileCosts", "VectorTile", "candidate_tiles", "choose_tile", "least_tile"]

_WAVES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Tiles for each core that are tried, besides the largest tile that fits."""

_STEPS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Sizes of a tile along a reduced dim that are tried."""

LANES = 64
"""Columns come in multiples of this, where there are several tiles of them: 128 bytes of fp16, a burst that DMA moves well."""


@dataclass(frozen=True, slots=True)
class VectorTile:
    """Size of a tile, and the cycles that the launch is estimated to take with it."""

    rows: int
    cols: int
    cycles: float


def choose_tile(
    space: Space, program: VecProgram, storage: Storage, chip: NpuConfig, isa: Isa, pins: Pins, where: str
) -> VectorTile:
    """The pinned tile, or the one with the lowest estimate; ties go to the larger tile.

    Raises RowsDoNotFit when not even one whole row fits, CompileError when no tile or not the pinned one fits.
    """
    capacity = chip.capacity_bytes("ub")
    pinned = pins.tile.get("vector")
    if pinned is not None:
        _check_pinned(pinned, space, storage, capacity, where)
    candidates = candidate_tiles(space, program, storage, chip, isa, pins)
    if candidates:
        return min(candidates, key=lambda tile: (tile.cycles, -tile.rows * tile.cols))
    rows, cols = least_tile(space)
    need = storage.nbytes(rows, cols)
    message = (
        f"a tile of {rows} x {cols} needs {need} bytes of UB for its {len(storage.slots)} buffers; there are {capacity}"
    )
    raise (RowsDoNotFit if space.whole else CompileError)(message, where)


def candidate_tiles(
    space: Space, program: VecProgram, storage: Storage, chip: NpuConfig, isa: Isa, pins: Pins
) -> list[VectorTile]:
    """The tiles that `choose_tile` takes the cheapest of: the pinned one, or those tried that fit UB."""
    capacity = chip.capacity_bytes("ub")
    cores = pins.cores or chip.cores_with("vector")
    cost = TileCosts(space, program, chip, isa, cores, storage.depth)
    pinned = pins.tile.get("vector")
    if pinned is not None:
        return [VectorTile(pinned[0], pinned[1], cost.cycles(pinned[0], pinned[1]))]
    return [
        VectorTile(rows, cols, cost.cycles(rows, cols))
        for cols in _col_candidates(space, storage, capacity, cores)
        for rows in _row_candidates(space, storage, capacity, cores, cols)
    ]


def least_tile(space: Space) -> tuple[int, int]:
    """The smallest tile that the space allows."""
    rows = space.rows if space.whole and space.row is not None and space.reduced[space.row] else 1
    return rows, space.cols if space.whole and space.reduced[space.col] else 1


def _check_pinned(pinned: Sequence[int], space: Space, storage: Storage, capacity: int, where: str) -> None:
    rows, cols = pinned
    least = least_tile(space)
    if rows < least[0] or cols < least[1]:
        pin_error("tile.vector", tuple(pinned), f"at least {least[0]} x {least[1]}, all that is reduced", where)
    if storage.nbytes(rows, cols) > capacity:
        pin_error(
            "tile.vector", tuple(pinned), f"tiles whose {storage.nbytes(rows, cols)} bytes fit UB ({capacity})", where
        )


def _most(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest number in [least, most] that fits; 0 when not even the least does."""
    if not fits(least):
        return 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return least


def _col_candidates(space: Space, storage: Storage, capacity: int, cores: int) -> Iterable[int]:
    rows, least = least_tile(space)
    widest = _most(lambda cols: storage.nbytes(rows, cols) <= capacity, least, space.cols)
    if widest in (0, least):
        return [widest] if widest else []
    if space.reduced[space.col]:
        return sorted({widest, *(min(widest, step) for step in _STEPS)}, reverse=True)
    others = prod(space.sizes[dim] for dim in space.others if not space.reduced[dim])
    others *= 1 if space.row is None or space.reduced[space.row] else space.rows
    candidates = {widest}
    for waves in _WAVES:
        parts = max(-(-waves * cores // others), -(-space.cols // widest))
        candidates.add(min(widest, align_up(-(-space.cols // parts), LANES)))
    return sorted(candidates, reverse=True)


def _row_candidates(space: Space, storage: Storage, capacity: int, cores: int, cols: int) -> Iterable[int]:
    least, _ = least_tile(space)
    most = _most(lambda rows: storage.nbytes(rows, cols) <= capacity, least, space.rows)
    if most in (0, least):
        return [most] if most else []
    if space.row is not None and space.reduced[space.row]:
        return sorted({most, *(min(most, step) for step in _STEPS)}, reverse=True)
    others = prod(space.sizes[dim] for dim in space.others if not space.reduced[dim])
    others *= 1 if space.reduced[space.col] else -(-space.cols // cols)
    candidates = {most, -(-space.rows // -(-space.rows // most))}
    for waves in _WAVES:
        parts = max(1, waves * cores // others)
        candidates.add(min(most, -(-space.rows // parts)))
    return sorted(candidates, reverse=True)


class Price(NamedTuple):
    """When an instruction runs, its tile, the cycles before its first repeat (waits included), and those that follow."""

    when: str
    shape: Shape
    dense: bool
    item: int
    head: int
    per_repeat: float
    per_row: float


class Engine(NamedTuple):
    """Issue cycles of an instruction and of a row, bytes a cycle, and bytes that a row costs at least."""

    startup: int
    per_row: float
    port: float
    least: int


class TileCosts:
    """Cycles of a launch: tiles of the busiest core times the slowest unit, and one pass through the other two units.

    A ring of `depth` slots turns round once in the time that loading a tile, its latency and working on it take together.
    """

    def __init__(self, space: Space, program: VecProgram, chip: NpuConfig, isa: Isa, cores: int, depth: int) -> None:
        self._space = space
        self.cores = cores
        self._chip = chip
        self._repeat = chip.core.vector.repeat_bytes
        self.prices = self._prices(program, isa)
        self.hbm = float(chip.hbm_bytes_per_cycle)
        self._depth = depth
        self.latency = chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles
        load, store = chip.core.load, chip.core.store
        self.load = Engine(
            load.startup_cycles, float(load.row_cycles), float(load.ub_bytes_per_cycle), load.min_burst_bytes
        )
        self.store = Engine(
            store.startup_cycles, float(store.row_cycles), float(store.bytes_per_cycle), store.min_burst_bytes
        )

    def _prices(self, program: VecProgram, isa: Isa) -> list[Price]:
        """Prices of the instructions; one that reads what is not known complete waits for the one before it."""
        prices: list[Price] = []
        written: dict[Reg, int] = {}
        fence, latency = 0, 0
        for at, insn in enumerate(program.insns):
            if insn.op == "asm":
                continue
            regs = [insn.dst.reg, *(use.reg for _, use in insn.sources)]
            item = max(DTYPES[reg.dtype].item_bytes for reg in regs)
            dense = insn.shape == (True, True) and all(
                use.how == "plain" for use in (insn.dst, *(u for _, u in insn.sources))
            )
            waits = any(written.get(use.reg, -1) >= fence for _, use in insn.sources)
            fence = at if waits else fence
            written[insn.dst.reg] = at
            found = class_of(self._chip.core.vector, isa, isa.instruction(insn.op))
            head = found.startup_cycles + (latency + 1 if waits else 0)
            slopes = float(found.cycles_per_repeat), float(found.row_cycles)
            prices.append(Price(insn.when.kind, insn.shape, dense, item, head, *slopes))
            latency = found.latency_cycles
        return prices

    def cycles(self, rows: int, cols: int) -> float:
        """The estimate for tiles of rows x cols."""
        space = self._space
        counts = {dim: space.sizes[dim] for dim in space.others}
        counts[space.col] = -(-space.cols // cols)
        if space.row is not None:
            counts[space.row] = -(-space.rows // rows)
        steps = prod(count for dim, count in counts.items() if space.reduced[dim])
        parallel = prod(count for dim, count in counts.items() if not space.reduced[dim])
        share = {"first": 1 / steps, "last": 1 / steps, "not_first": 1 - 1 / steps, "changed": 0.0}
        rows, cols = min(rows, space.rows), min(cols, space.cols)
        vector = sum(share.get(each.when, 1.0) * self._vector_cycles(each, rows, cols) for each in self.prices)
        # Only cores that have a tile share the memory.
        fair = self.hbm / min(self.cores, parallel)
        load = sum(self._transfer(self.load, fair, each, rows, cols) for each in space.reads)
        store = sum(self._transfer(self.store, fair, each, rows, cols) for each in space.writes)
        waited = self.latency * max((1 / self._again(each, rows, cols) for each in space.reads), default=0.0)
        slowest = max(vector, load, store, (load + waited + vector) / self._depth)
        return -(-parallel // self.cores) * steps * slowest + max(0.0, vector + load + store - slowest)

    def _vector_cycles(self, price: Price, rows: int, cols: int) -> float:
        lines = rows if price.shape == (True, True) else 1
        width = (rows if price.shape == (True, False) else cols if price.shape[1] else 1) * price.item
        whole = price.dense and width % BLOCK_BYTES == 0
        repeats = -(-lines * width // self._repeat) if whole else lines * -(-width // self._repeat)
        return price.head + repeats * price.per_repeat + lines * price.per_row

    def _again(self, transfer: Transfer, rows: int, cols: int) -> int:
        """For how many tiles one transfer serves."""
        space = self._space
        again = prod(space.sizes[dim] for dim in space.others if not space.has(transfer.node, dim))
        again *= 1 if space.has(transfer.node, space.row) else -(-space.rows // rows)
        return again * (1 if space.has(transfer.node, space.col) else -(-space.cols // cols))

    def _transfer(self, engine: Engine, share: float, transfer: Transfer, rows: int, cols: int) -> float:
        """Cycles of a load or store, weighed by how often its tile changes."""
        space = self._space
        rate = min(engine.port, share)
        has_rows, has_cols = space.has(transfer.node, space.row), space.has(transfer.node, space.col)
        lines, width = (rows if has_rows else 1), (cols if has_cols else 1)
        if has_cols and transfer.strides[space.col] != 1 and cols > 1:
            lines, width = lines * width, 1
        whole = not has_rows or (has_cols and cols == space.cols and transfer.strides[space.col] == 1)
        row_bytes = width * transfer.item if whole else max(width * transfer.item, engine.least)
        cycles = engine.startup + lines * engine.per_row + lines * row_bytes / rate
        return cycles / self._again(transfer, rows, cols)
