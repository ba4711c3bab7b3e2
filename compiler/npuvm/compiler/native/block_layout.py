"""Where the kernel that chooses a relay's blocks finds what it reads, and writes what it found."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "EDGE_COUNT",
    "MOST_CUTS",
    "MOST_ROWS",
    "PRODUCT_WIDTH",
    "TABLE_WIDTH",
    "Found",
    "Known",
    "Product",
    "Rate",
    "Size",
]

TABLE_WIDTH = 17
"""Entries of a table by blocks along a side: none of that many, then 1 to 16."""

EDGE_COUNT, MOST_CUTS, MOST_ROWS = 12, 12, 16
"""Sides that a tile may have, numbers of parts, and row sizes of a block."""


class Size(IntEnum):
    """Integers of a shape: those of `RelaySizes`, with matrices, the last dim of the batch and the product of the others."""

    ROWS = 0
    COLS = 1
    ROW_BYTES = 2
    MATRICES = 3
    LAST = 4
    OUTER = 5
    READ = 6
    SHAPES = 8
    COUNT = 12


class Known(IntEnum):
    """Integers of a relay on its chip. Registers are numbers of them, rows of code the first and the one behind the last."""

    GROUPS = 0
    CORES = 1
    L2_ROOM = 2
    L2_BYTES = 3
    UB_BYTES = 4
    IS_VIA_UB = 5
    RESULT_SLOTS = 6
    PRODUCTS = 7
    ROW_SIZES = 8
    SPREADS = 9
    LINE = 10
    SLICES = 11
    EARLY = 12
    LATE = 14
    UB_EARLY = 16
    UB_LATE = 18
    IN_COLS = 20
    IN_BLOCKS = 21
    IN_SIZE = 22
    IN_HEIGHT = 23
    IN_ROWS = 24
    IN_MEMORY = 25
    IN_UB_ROWS = 26
    OUT_RUN = 27
    OUT_UB = 28
    SECOND = 29
    SLOTS = 30
    BLOCK_COST = 31
    LIKELY = 32
    ROOMS = 33
    ROOM_EARLY = 37
    ROOM_LATE = 39
    IN_M = 41
    IN_TILES = 42
    OUT_BYTES = 46
    ROWS = 50
    CUTS = ROWS + MOST_ROWS
    EDGES = CUTS + MOST_CUTS
    PRODUCT = EDGES + EDGE_COUNT


class Product(IntEnum):
    """Integers of a product of the relay, from `Known.PRODUCT` on; its tables of all row sizes follow."""

    IS_WHOLE_N = 0
    IS_WHOLE_K = 1
    OUT_ITEM = 2
    ITEM = 3
    IS_FLIPPED = 4
    IN_ALL_N = 5
    IN_ALL_K = 6
    IN_TILE_N = 7
    IN_TILE_K = 8
    OUT_CYCLES = 9
    TABLES = 10


PRODUCT_WIDTH = 3 * TABLE_WIDTH
"""Of a row size: columns by blocks of the depth, then depths and columns by blocks of the columns."""


class Rate(IntEnum):
    """Numbers of the chip: cycles to L2 and to main memory, bytes a cycle of both, and shares."""

    NEAR = 0
    FAR = 1
    L2 = 2
    HBM = 3
    HIDDEN = 4
    NEAR_COST = 5


class Found(IntEnum):
    """Integers of what was chosen; see `npuvm.compiler.relay.tile.Chosen`. Its cycles and those of each product are apart."""

    BLOCK = 0
    WHOLE = 6
    HERE = 8
    OVER = 11
    GROUPS = 14
    COUNT = 15
