"""Where the kernel that chooses tiles of vector segments finds what it reads."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["DIM_WIDTH", "GIVEN", "Known", "Result"]

GIVEN = 2
"""Integers before the sizes of a space where a tile is asked for: cores, and the edge along the reduced dim that is walked."""

DIM_WIDTH = 2
"""Integers of a dim behind `Known.DIM`: the register of its size, and whether its tiles are for different cores."""


class Known(IntEnum):
    """Integers of a tile program on its chip. Dims follow, then pairs of columns and rows of the tiles that were grown."""

    ROW = 0
    COL = 1
    IS_ROW_REDUCED = 2
    IS_COL_REDUCED = 3
    IS_WHOLE = 4
    IS_CROWDED = 5
    UNIT = 6
    CAPACITY = 7
    DIMS = 8
    GROWN = 9
    EARLY = 10
    LATE = 12
    UB_LATE = 14
    IN_CORES = 16
    IN_ROWS = 17
    IN_COLS = 18
    OUT = 19
    OUT_UB = 20
    CORES = 21
    FED = 22
    FAIR = 23
    DIM = 24


class Result(IntEnum):
    """What kernels say: that there is no tile, that it was found, in the second of two ways, or that sizes are too large."""

    NONE = 0
    FOUND = 1
    SECOND = 2
    TOO_LARGE = 3
