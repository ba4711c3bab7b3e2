"""The levels of a chip that a vector segment runs through, and the tiles that fit UB."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.emit.symint import Function
from npuvm.compiler.tiles.levels import Level, Loop, grow
from npuvm.compiler.vector.space import Space, Transfer
from npuvm.hw.config import NpuConfig

__all__ = ["LANES", "highest_tiles", "row_unit", "vector_levels"]

Ints = npt.NDArray[np.int64]

LANES = 64
"""Columns come in multiples of this, where there are several tiles of them: 128 bytes of fp16, a burst that DMA moves well."""

_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 4096, 16384)
_COLS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Multiples at UB. Between them a shape takes what is left: see `TileChooser`."""


def vector_levels(space: Space) -> tuple[Level, ...]:
    """From blocks to main memory. Tiles of UB are blocks over rows and columns; cores share what is not reduced."""

    def loop(dim: int | None, kept: Loop) -> Loop:
        return Loop.REDUCTION if dim is not None and space.reduced[dim] and not space.whole else kept

    inner = {"rows": loop(space.row, Loop.SPATIAL), "cols": loop(space.col, Loop.SPATIAL)}
    outer = {"rows": loop(space.row, Loop.PARALLEL), "cols": loop(space.col, Loop.PARALLEL)}
    others = {f"d{dim}": loop(dim, Loop.PARALLEL) for dim in space.others}
    return (
        Level("block", inner, "vector", "vector", "vector"),
        Level("ub", inner, "load", "vector", "store", ("ub",), {"rows": _ROWS, "cols": _COLS}),
        Level("core", {**others, **outer}, "load", "load", "store"),
        Level("memory", {**others, **outer}, "l2", "core", "l2"),
    )


def row_unit(space: Space, chip: NpuConfig) -> int:
    """Rows of the lowest block: where columns of single elements are loaded, and what is off blocks past L2, those of a whole
    block of memory; else one.
    """
    if chip.memory.l2.unaligned_reads != "uncached":
        return 1
    items = [each.item for each in space.reads if _is_column(space, each)]
    return max(1, BLOCK_BYTES // min(items)) if items else 1


def _is_column(space: Space, each: Transfer) -> bool:
    return space.has(each.node, space.row) and not space.has(each.node, space.col)


def highest_tiles(space: Space, nbytes: Function, chip: NpuConfig) -> Mapping[int, int]:
    """For columns of a tile the most rows that fit, a multiple of `row_unit`; no shape takes part."""

    def fits(level: Level, tiles: Ints) -> npt.NDArray[np.bool_]:
        used = np.asarray(nbytes(tiles[:, 0], tiles[:, 1])[0])
        return np.broadcast_to(used <= min(map(chip.capacity_bytes, level.buffers)), len(tiles))

    tiles = grow(vector_levels(space), (row_unit(space, chip), LANES), fits)
    # Tiles are sorted by rows: the last with some columns has most.
    return dict(sorted(dict(zip(tiles[:, 1].tolist(), tiles[:, 0].tolist(), strict=True)).items()))
