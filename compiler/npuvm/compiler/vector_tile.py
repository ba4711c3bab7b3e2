"""Tile choice of a vector segment: candidates that fit UB, and the estimated cycles of the launch with each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

from npuvm.compiler.blocks import align_up
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import Pins, pin_error
from npuvm.compiler.vector_buffers import Storage
from npuvm.compiler.vector_choice import LANES, Choice, TileChooser, without_single
from npuvm.compiler.vector_cost import TileCost
from npuvm.compiler.vector_lower import VecProgram
from npuvm.compiler.vector_space import RowsDoNotFit, Space
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["VectorTile", "candidate_tiles", "choose_tile", "fair_cycles", "least_tile"]

_WAVES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Tiles for each core that are tried, besides the largest tile that fits."""

_STEPS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Sizes of a tile along a reduced dim that are tried."""


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
    cost = TileCost(space, program, chip, isa, cores, storage.depth)
    pinned = pins.tile.get("vector")
    if pinned is not None:
        return [VectorTile(pinned[0], pinned[1], cost.cycles(space.sizes, *pinned))]
    edge = _edge(space, program, storage, chip, isa)
    return [
        VectorTile(rows, cols, cost.cycles(space.sizes, rows, cols))
        for cols in _col_candidates(space, storage, capacity, cores, edge)
        for rows in _row_candidates(space, storage, capacity, cores, cols, edge)
    ]


def fair_cycles(
    space: Space, program: VecProgram, storage: Storage, tile: VectorTile, chip: NpuConfig, isa: Isa
) -> float:
    """The estimate on a number of cores that neither the chip nor pins have to do with."""
    chooser = TileChooser(space, program, storage, chip, isa)
    found = chooser.fair(space.sizes, chooser.edge(Choice(tile.cycles, tile.rows, tile.cols)))
    return tile.cycles if found is None else found.cycles


def _edge(space: Space, program: VecProgram, storage: Storage, chip: NpuConfig, isa: Isa) -> int:
    """The size of a tile along the reduced dim that is walked, which does not depend on cores; 0 where there is none."""
    if space.cut is not None:
        return space.cut.edge
    chooser = TileChooser(space, program, storage, chip, isa)
    return chooser.walked(space.sizes) if chooser.walks else 0


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


def _col_candidates(space: Space, storage: Storage, capacity: int, cores: int, edge: int) -> Iterable[int]:
    rows, least = least_tile(space)
    if edge and space.reduced[space.col]:
        return [edge]
    rows = edge or rows
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
    if space.row is not None and space.reduced[space.row]:
        candidates = {without_single(space.cols, cols) for cols in candidates}
    return sorted(candidates, reverse=True)


def _row_candidates(space: Space, storage: Storage, capacity: int, cores: int, cols: int, edge: int) -> Iterable[int]:
    if edge and space.row is not None and space.reduced[space.row]:
        return [edge]
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
