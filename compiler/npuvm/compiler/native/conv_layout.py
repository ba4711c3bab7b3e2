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
    MISSED = 13
    TURN = 14
    BEGUN = 15
    DECODE = 16
    LOAD_WORDS = 17
    VISIBLE = 18
    BOTH = 19
    PER_L2 = 20
    START = 21
    ROW = 22
    PER_PORT = 23
    BURST = 24
    CHUNK = 25
    PER_CHUNK = 26
    IS_TOGETHER = 27
    NEAR = 28
    FAR = 29
    ACCESS = 30
    SHORT = 31
    SLICES = 32
    LINE = 33
    CHANNELS = 34
    INTERLEAVE = 35
    IS_HASHED = 36
    IS_UNCACHED = 37
    PER_BYTE = 38
    PER_LINE = 39
    COUNT = 40


class Field(IntEnum):
    """Numbers of a candidate: those of `_Layer`, and of `Kernels`, `Room`, `Sent`, `Load` and `Waits` in it."""

    PIXELS = 0
    WAVES = 1
    APART = 2
    BLOCK = 3
    CUTS = 4
    BLOCKS = 5
    PARTS = 6
    STEPS = 7
    AREA = 8
    STARTED = 9
    MOVED = 10
    PER_PIXEL = 11
    IS_KEPT = 12
    WORDS = 13
    ROOM_BYTES = 14
    ROOM_PIXELS = 15
    ROOM_DOUBLED = 16
    SENT_PER_PIXEL = 17
    SENT_REST = 18
    SENT_DRAINED = 19
    LOAD_FAR = 20
    LOAD_FETCHED = 21
    LOAD_PAST = 22
    PART_ISSUE = 23
    PART_FETCHED = 24
    PART_PAST = 25
    NEAR = 26
    FURTHER = 27
    TURN = 28
    HALF = 29
    BEHIND = 30
    ISSUED = 31
    SHARE = 32
    OTHER = 33
    PARTS_FAR = 34
    REQUESTS = 35
    AGAIN = 36
    SEVERAL = 37
    STAYS = 38
    SERVED = 39
    SERVED_ONCE = 40
    PIXEL_BYTES = 41
    IS_DENSE = 42
    FORGETS = 43
    FILTERS = 44
    CHUNK = 45
    STEP = 46
    COUNT = 47


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
    REACH = 8
    ALL_PIXELS = 9
    STEP_W = 10
    REACH_W = 11
    WIDTH = 12
    KERNEL_H = 13
    ROWS_THERE = 14
    TARGET = 15
    PITCH = 16
    PER_PITCH = 17
    LINE_BYTES = 18
    STEP_BYTES = 19
    ARE_LINES_WHOLE = 20
    SLICES = 21
    CHANNELS = 22
    READ = 23
    COUNT = 24


class Work(IntEnum):
    """Numbers of a candidate for a shape, made by the kernel: those of `Areas` and of `_Work`.

    `UNIT` is the slowest of what works side by side for a tile, `SECOND` the one behind it. A launch takes no less than `LEAST`
    cycles.
    """

    ROWS = 0
    COLS = 1
    PIXELS = 2
    IMAGE = 3
    INSIDE = 4
    TILES = 5
    WAVES = 6
    COMPUTE = 7
    MOVE = 8
    OUT = 9
    BUSY = 10
    UNIT = 11
    SECOND = 12
    LEAST = 13
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
