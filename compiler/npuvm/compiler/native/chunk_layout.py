"""Where the kernel that cuts what is reduced into chunks finds what it reads."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CUT_DIM_WIDTH", "Counted", "CutInto", "Cutting", "Decided", "Joint", "JointRate"]

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


class Joint(IntEnum):
    """Integers before those of the tile programs of a segment, of its chunks and of what joins them.

    Where those of each program begin: WHOLE and JOIN are followed by those of their second ways, if any. How many ways there
    are. Where in what is asked for the sizes of the chunks begin, and the dim of the join that is the number of chunks.
    """

    WHOLE = 0
    CHUNKS = 2
    JOIN = 3
    WAYS = 5
    JOIN_WAYS = 6
    SIZES = 7
    NUMBER = 8
    COUNT = 9


class JointRate(IntEnum):
    """Floats of the same: what a chunk costs those who join it, cycles between the parts, how many times as fast the parts must
    be, and how many times at least where the join takes no time."""

    JOINED = 0
    JOINS = 1
    WORTH = 2
    LIMIT = 3


class Decided(IntEnum):
    """What the kernel says: one launch, one of each part, or that Python has to say it."""

    ONE = 0
    PARTS = 1
    UNKNOWN = 2
