"""Tile choice of a vector segment: candidates that fit UB, and the estimated cycles of the launch with each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins, pin_error
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.choice import Choice, TileChooser
from npuvm.compiler.vector.cost import TileCost
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.space import RowsDoNotFit, Space
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["VectorTile", "candidate_tiles", "choose_tile", "fair_cycles", "least_tile"]


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
    cores = pins.cores or chip.cores_with("vector")
    pinned = pins.tile.get("vector")
    if pinned is not None:
        cost = TileCost(space, program, chip, isa, cores, storage.depth)
        rows, cols = pinned if space.row is not None else (1, pinned[1])
        return [VectorTile(rows, cols, cost.cycles(space.sizes, rows, cols))]
    chooser = TileChooser(space, program, storage, chip, isa)
    tried = chooser.tried(space.sizes, cores, space.cut.edge if space.cut is not None else 0)
    return [VectorTile(each.rows, each.cols, each.cycles) for each in tried]


def fair_cycles(
    space: Space, program: VecProgram, storage: Storage, tile: VectorTile, chip: NpuConfig, isa: Isa
) -> float:
    """The estimate on a number of cores that neither the chip nor pins have to do with."""
    chooser = TileChooser(space, program, storage, chip, isa)
    found = chooser.fair(space.sizes, chooser.edge(Choice(tile.cycles, tile.rows, tile.cols)))
    return tile.cycles if found is None else found.cycles


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
