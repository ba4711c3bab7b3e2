"""Where the kernel that cuts what is reduced into chunks finds what it reads."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CUT_DIM_WIDTH", "Counted", "CutInto", "Cutting"]

CUT_DIM_WIDTH = 2
"""Integers of a dim behind `Cutting.DIM`: what of `Counted` it is, and whether it stays."""


class Cutting(IntEnum):
    """Integers of a space that is to be cut. Its dims follow."""

    CUT = 0
    IS_COLUMN = 1
    HAS_HEIGHT = 2
    BYTES = 3
    DIM = 4


class Counted(IntEnum):
    """What the size of a dim that is not one of columns is a factor of: nothing, results, or what is reduced to each."""

    NOT = 0
    UNITS = 1
    EACH = 2


class CutInto(IntEnum):
    """What the kernel says: that there are chunks, that there are none in tiles of these buffers, or none in any, or that
    sizes are too large for it."""

    CHUNKS = 0
    NONE = 1
    NEVER = 2
    TOO_LARGE = 3
