"""Where the kernel that chooses tiles of convolutions finds what it reads."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = ["MOST_PAIRS", "NONE", "TOO_LARGE", "Field", "Pair", "Rate", "Shape", "Size", "Work"]

MOST_PAIRS = 176
"""Room for pairs of pixels and filters: no more are grown, as `npuvm.compiler.conv.levels` has 13 numbers of each."""

NONE, TOO_LARGE = -1, -2
"""Cycles of a tile that says that none fits, or that sizes are too large."""


class Size(NamedTuple):
    """Integers of a convolution: those of `ConvSizes`, and whether tiles may be whole rows."""

    images: int
    height: int
    width: int
    high: int
    wide: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    channels: int
    filters: int
    adjacent: int
    target: int
    depth: int
    are_rows_whole: bool


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
    OUT_ITEM = 41
    CAPACITY = 42
    COUNT = 43


class Pair(IntEnum):
    """Numbers of candidates with as many pixels and filters, which lie side by side: those of `_Layer`, and of `Kernels`,
    `Room` and `Sent` in it.

    From `AREA` to `IMAGE_BYTES` they are the least of those of the candidates, the last the bytes of a pixel in all blocks;
    `STEPS` are the most. `STOP` is the number of the candidate behind the last one.
    """

    PIXELS = 0
    CUTS = 1
    WAVES = 2
    APART = 3
    ROOM_DOUBLED = 4
    SENT_PER_PIXEL = 5
    SENT_REST = 6
    SENT_DRAINED = 7
    AREA = 8
    STARTED = 9
    MOVED = 10
    PER_PIXEL = 11
    WORDS = 12
    NEAR = 13
    SLOT = 14
    TURN = 15
    PIXEL_BYTES = 16
    PART_ISSUE = 17
    IMAGE_BYTES = 18
    STEPS = 19
    STOP = 20
    COUNT = 21


class Field(IntEnum):
    """Numbers of a candidate: those of `Kernels`, `Room`, `Load` and `Waits`."""

    ROOM_PIXELS = 0
    ROOM_BYTES = 1
    BLOCK = 2
    AREA = 3
    STARTED = 4
    MOVED = 5
    PER_PIXEL = 6
    WORDS = 7
    STEPS = 8
    BLOCKS = 9
    PARTS = 10
    SHARE = 11
    PART_FAR = 12
    PART_ISSUE = 13
    REQUESTS = 14
    FULL = 15
    REST = 16
    WHOLE = 17
    NEAR = 18
    SLOT = 19
    TURN = 20
    SEVERAL = 21
    PIXEL_BYTES = 22
    IS_KEPT = 23
    LOAD_FETCHED = 24
    LOAD_PAST = 25
    PART_FETCHED = 26
    PART_PAST = 27
    FURTHER = 28
    BEHIND = 29
    ISSUED = 30
    LATE = 31
    TURNS = 32
    MORE = 33
    AHEAD = 34
    AGAIN = 35
    STAYS = 36
    SERVED = 37
    SERVED_ONCE = 38
    IS_DENSE = 39
    FORGETS = 40
    FILTERS = 41
    CHUNK = 42
    STEP = 43
    COUNT = 44


class Shape(NamedTuple):
    """Numbers that all candidates need of a shape, made by the kernel. The first `parts` pairs are parts of a row.

    Pixels of the image are `step` for each row of a tile, and `reach` more; of a part of a row they are as many in a row as
    `step_w` and `reach_w` say. `slices` and `channels` are times fewer of them that rows of the image begin in.
    """

    parts: int
    is_whole: bool
    unit: float
    images: float
    per_image: float
    high: float
    wide: float
    per_wide: float
    step: float
    step_rows: float
    over: float
    reach: float
    all_pixels: float
    height: float
    step_w: float
    reach_w: float
    width: float
    kernel_h: float
    rows_there: float
    target: float
    pitch: float
    per_pitch: float
    line_bytes: float
    step_bytes: float
    are_lines_whole: bool
    slices: float
    channels: float
    read: float
    item: float
    pixel_unit: float
    pixel_blocks: float
    per_core: float
    per_port: float
    burst_pixels: float
    fix_start: float
    visible: float
    begun: float
    is_planes: bool
    is_via_ub: bool
    is_in_turn: bool


class Work(IntEnum):
    """Numbers of a pair for a shape, made by the kernel: those of `Areas` and of `_Work`."""

    ROWS = 0
    COLS = 1
    PIXELS = 2
    IMAGE = 3
    INSIDE = 4
    TILES = 5
    WAVES = 6
    OUT = 7
    DRAINED = 8
    LEAST = 9
    COUNT = 10
