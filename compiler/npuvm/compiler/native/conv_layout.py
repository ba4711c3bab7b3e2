"""Where the kernel that chooses tiles of convolutions finds what it reads, and writes what it found."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Field", "Found", "Rate", "Shape", "Size", "Work"]


class Size(IntEnum):
    """Integers of a convolution: those of `ConvSizes`, and whether tiles may be whole rows, and may be parts of one."""

    IMAGES = 0
    HEIGHT = 1
    WIDTH = 2
    HIGH = 3
    WIDE = 4
    KERNEL_H = 5
    KERNEL_W = 6
    STRIDE_H = 7
    STRIDE_W = 8
    DILATION_H = 9
    DILATION_W = 10
    FILTERS = 11
    ADJACENT = 12
    TARGET = 13
    ARE_ROWS_WHOLE = 14
    TAKES_PARTS = 15
    COUNT = 16


class Rate(IntEnum):
    """Numbers of a sort of convolutions on its chip: those that `ConvCost` and `ConvLoads` have by these names."""

    ITEM = 0
    BIAS_ITEM = 1
    IS_PLANES = 2
    IS_VIA_UB = 3
    IS_IN_TURN = 4
    SLOTS = 5
    PART = 6
    CORES = 7
    PER_CORE = 8
    PIXEL_UNIT = 9
    PIXEL_BLOCKS = 10
    FIX_START = 11
    BURST_PIXELS = 12
    HIT = 13
    MISSED = 14
    TURN = 15
    OUTSTANDING = 16
    BEGUN = 17
    DECODE = 18
    LOAD_WORDS = 19
    VISIBLE = 20
    PER_L2 = 21
    START = 22
    ROW = 23
    PER_PORT = 24
    BURST = 25
    CHUNK = 26
    PER_CHUNK = 27
    IS_TOGETHER = 28
    NEAR = 29
    FAR = 30
    ACCESS = 31
    SHORT = 32
    SLICES = 33
    LINE = 34
    CHANNELS = 35
    INTERLEAVE = 36
    IS_HASHED = 37
    IS_UNCACHED = 38
    PER_BYTE = 39
    PER_LINE = 40
    COUNT = 41


class Field(IntEnum):
    """Numbers of a candidate: those of `_Layer`, and of `Kernels`, `Room`, `Sent`, `Load` and `Waits` in it.

    The first ones, up to `ROOM_BYTES`, say where it fits, and what cube and moves take; they are read of all candidates.
    """

    PIXELS = 0
    CUTS = 1
    WAVES = 2
    APART = 3
    BLOCK = 4
    ROOM_PIXELS = 5
    AREA = 6
    STARTED = 7
    MOVED = 8
    PER_PIXEL = 9
    ROOM_BYTES = 10
    ROOM_DOUBLED = 11
    SENT_PER_PIXEL = 12
    SENT_REST = 13
    SENT_DRAINED = 14
    WORDS = 15
    STEPS = 16
    BLOCKS = 17
    PARTS = 18
    SHARE = 19
    PART_FAR = 20
    PART_ISSUE = 21
    REQUESTS = 22
    FULL = 23
    REST = 24
    WHOLE = 25
    NEAR = 26
    SLOT = 27
    TURN = 28
    SEVERAL = 29
    PIXEL_BYTES = 30
    IS_KEPT = 31
    LOAD_FETCHED = 32
    LOAD_PAST = 33
    PART_FETCHED = 34
    PART_PAST = 35
    FURTHER = 36
    BEHIND = 37
    ISSUED = 38
    LATE = 39
    TURNS = 40
    MORE = 41
    AHEAD = 42
    AGAIN = 43
    STAYS = 44
    SERVED = 45
    SERVED_ONCE = 46
    IS_DENSE = 47
    FORGETS = 48
    FILTERS = 49
    CHUNK = 50
    STEP = 51
    COUNT = 52


class Shape(IntEnum):
    """Numbers that all candidates need of a shape, made by the kernel. The first `PARTS` candidates are parts of a row.

    Pixels of the image are `STEP` for each row of a tile, and `REACH` more; of a part of a row they are as many in a row as
    `STEP_W` and `REACH_W` say. `SLICES` and `CHANNELS` are times fewer of them that rows of the image begin in.
    """

    PARTS = 0
    UNIT = 1
    IMAGES = 2
    PER_IMAGE = 3
    HIGH = 4
    WIDE = 5
    PER_WIDE = 6
    STEP = 7
    STEP_ROWS = 8
    OVER = 9
    REACH = 10
    ALL_PIXELS = 11
    HEIGHT = 12
    STEP_W = 13
    REACH_W = 14
    WIDTH = 15
    KERNEL_H = 16
    ROWS_THERE = 17
    TARGET = 18
    PITCH = 19
    PER_PITCH = 20
    LINE_BYTES = 21
    STEP_BYTES = 22
    ARE_LINES_WHOLE = 23
    SLICES = 24
    CHANNELS = 25
    READ = 26
    COUNT = 27


class Work(IntEnum):
    """Numbers of a candidate for a shape, made by the kernel: those of `Areas` and of `_Work`.

    `UNIT` is the slowest of what works side by side for a tile, `SECOND` the one behind it.
    """

    ROWS = 0
    COLS = 1
    PIXELS = 2
    IMAGE = 3
    INSIDE = 4
    FRESH = 5
    TILES = 6
    WAVES = 7
    COMPUTE = 8
    MOVE = 9
    OUT = 10
    BUSY = 11
    UNIT = 12
    SECOND = 13
    COUNT = 14


class Found(IntEnum):
    """Integers of what was chosen: those of a `ConvTile`, in its order."""

    ROWS = 0
    COLS = 1
    IS_WHOLE = 2
    FILTERS = 3
    BLOCK = 4
    CHUNK = 5
    STEP = 6
    ACCUMULATORS = 7
    CYCLES = 8
    COUNT = 9
