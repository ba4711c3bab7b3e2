"""What tiles of convolutions are for a shape, with the operations of `npuvm.compiler.conv.plan` and `cost` in the same order.

Numbers of all pairs of pixels and filters lie side by side, and what is done for tiles of whole rows has no branches but those
that all take alike: so several are calculated at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.native.compiling import inlined
from npuvm.compiler.native.conv_layout import MOST_PAIRS, Pair, Rate, Shape, Size, Work

__all__ = [
    "ROUNDED",
    "aligned",
    "cycles_of_tile",
    "greatest_common",
    "is_exact",
    "of",
    "place_pairs",
    "put",
    "read_cycles",
    "shape_of",
    "slowest_units",
]

Floats = npt.NDArray[np.float64]

_MOST_SIZE = 1 << 30
_EXACT = float(1 << 53)
"""Sizes, and products of those of a kernel, are below the first; counts of elements of the result and bytes up to the second,
as whole numbers are exact as floats."""

_PER_BLOCK = 1 / BLOCK_BYTES

ROUNDED = 1 - 1e-12
"""A sum that adds up the same in another order is no less than so much of it."""


@inlined
def aligned(nbytes: float) -> float:
    return np.ceil(nbytes * _PER_BLOCK) * BLOCK_BYTES


@inlined
def greatest_common(a: int, b: int) -> int:
    """The greatest common divisor."""
    while b:
        a, b = b, a % b
    return a


@inlined
def of(values: Floats, number: int, at: int) -> float:
    """A number of a pair; from a place that cannot be below 0, or else nothing is calculated side by side."""
    return float(values[np.uint64(number * MOST_PAIRS + at)])


@inlined
def put(values: Floats, number: int, at: int, value: float) -> None:
    values[np.uint64(number * MOST_PAIRS + at)] = value


@inlined
def is_exact(sizes: Size, read: float) -> bool:
    """Whether the numbers of a shape are those of Python, `read_cycles` among them."""
    most = max(sizes.images, sizes.height, sizes.width, sizes.high, sizes.wide, sizes.kernel_h, sizes.kernel_w)
    most = max(most, sizes.stride_h, sizes.stride_w, sizes.dilation_h, sizes.dilation_w, sizes.channels, sizes.filters)
    most = max(most, sizes.adjacent, sizes.target, sizes.depth)
    if most >= _MOST_SIZE or max(sizes.kernel_h * sizes.dilation_h, sizes.kernel_w * sizes.dilation_w) >= _MOST_SIZE:
        return False
    elements = float(sizes.images) * sizes.high * sizes.wide * sizes.filters
    return elements <= _EXACT and read < np.inf


@inlined
def read_cycles(sizes: Size, rates: Floats) -> float:
    """`ConvCost.read_cycles`; inf where bytes are too many."""
    reach = (sizes.kernel_h - 1) * sizes.dilation_h + 1
    rows = min(sizes.height, sizes.high * min(sizes.stride_h, reach))
    pixels = float(sizes.images) * rows * sizes.width * sizes.channels
    read = (pixels + float(sizes.filters) * sizes.depth) * rates[Rate.ITEM]
    stored = float(sizes.images) * sizes.high * sizes.wide * sizes.filters * rates[Rate.OUT_ITEM]
    both, driven = stored + read, 0.0
    if both > _EXACT:
        return np.inf
    if both > rates[Rate.CAPACITY]:
        driven = (both - rates[Rate.CAPACITY]) * stored / both
    return rates[Rate.MISSED] + (read + driven) * rates[Rate.PER_BYTE]


@inlined
def _row_unit(sizes: Size, rates: Floats) -> int:
    """`ConvTileChooser._row_unit`"""
    item = int(rates[Rate.ITEM])
    if rates[Rate.IS_PLANES] == 0.0 or sizes.kernel_h > 1 or sizes.adjacent * item % BLOCK_BYTES:
        return 1
    return BLOCK_BYTES // greatest_common(sizes.stride_h * sizes.width * item, BLOCK_BYTES)


@inlined
def _meeting(pitch: int, unit: float, count: float) -> float:
    """`ConvLoads._meeting`, of slices or of channels"""
    return float(greatest_common(pitch // int(unit), int(count))) if pitch > 0 and pitch % int(unit) == 0 else 1.0


@inlined
def shape_of(sizes: Size, pairs: Floats, rates: Floats, read: float) -> Shape:
    """What all tiles need of a shape; `read` are its `read_cycles`."""
    count, item, line = int(pairs[-1]), int(rates[Rate.ITEM]), max(sizes.width, 1)
    parts = 0
    while parts < count and (not sizes.are_rows_whole or of(pairs, Pair.PIXELS, parts) < sizes.wide):
        parts += 1
    further, pitch = (sizes.kernel_h - 1) * sizes.dilation_h + 1 - sizes.stride_h, sizes.adjacent * item
    slices = channels = 1.0
    if rates[Rate.IS_HASHED] == 0.0:
        slices = _meeting(pitch, rates[Rate.LINE], rates[Rate.SLICES])
        channels = _meeting(pitch, rates[Rate.INTERLEAVE], rates[Rate.CHANNELS])
    return Shape(
        parts,
        sizes.are_rows_whole,
        float(_row_unit(sizes, rates)),
        float(sizes.images),
        1.0 / sizes.images,
        float(sizes.high),
        float(sizes.wide),
        (1 + 1e-9) / sizes.wide,
        float(sizes.stride_h * line),
        float(sizes.stride_h),
        float(min(further, 0)),
        float(further * line),
        float(sizes.height * sizes.width),
        float(sizes.height),
        float(sizes.stride_w),
        float((sizes.kernel_w - 1) * sizes.dilation_w + 1 - sizes.stride_w),
        float(sizes.width),
        float(sizes.kernel_h),
        float(min(sizes.kernel_h, sizes.height)),
        float(sizes.target),
        float(pitch),
        pitch / rates[Rate.LINE],
        float(sizes.width * item),
        float(sizes.stride_h * (sizes.width * item)),
        pitch % int(rates[Rate.LINE]) == 0,
        slices,
        channels,
        read,
        rates[Rate.ITEM],
        rates[Rate.PIXEL_UNIT],
        rates[Rate.PIXEL_BLOCKS],
        rates[Rate.PER_CORE],
        rates[Rate.PER_PORT],
        rates[Rate.BURST_PIXELS],
        rates[Rate.FIX_START],
        rates[Rate.VISIBLE],
        rates[Rate.BEGUN],
        rates[Rate.IS_PLANES] != 0.0,
        rates[Rate.IS_VIA_UB] != 0.0,
        rates[Rate.IS_IN_TURN] != 0.0,
    )


@inlined
def _rows(pairs: Floats, shape: Shape, rows: float, at: int) -> float:
    """As many of the most rows that a pair has room for as make no core work longer; see `ConvTileChooser._shaped`."""
    high, unit = shape.high, shape.unit
    if unit > 1.0 and unit <= rows < high:
        rows = np.floor(rows / unit) * unit
    rounds = np.ceil(np.ceil(high / rows) * (of(pairs, Pair.WAVES, at) * shape.images))
    down = np.ceil(high / np.floor(rounds * (of(pairs, Pair.APART, at) * shape.per_image)))
    return down if unit == 1.0 else min(rows, np.ceil(down * (1.0 / unit)) * unit)


@inlined
def cycles_of_tile(visible: float, unit: float, second: float, load: float, least: float) -> float:
    """A tile of `ConvCost._later`"""
    taken = max(unit, load) + visible * max(second, min(unit, load))
    return max(taken, least)


@inlined
def slowest_units(
    is_in_turn: bool, compute: float, move: float, out: float, drained: float, is_single: bool, words: float
) -> tuple[float, float, float]:
    """Of a tile: the slower of products and moves, the slowest unit, and the one behind it."""
    busy = compute + drained if is_single else compute
    if is_in_turn:
        busy += move
    low, paced, high = min(busy, move), max(busy, move), max(out, words)
    return paced, max(paced, high), max(low, min(paced, high))


@inlined
def _place(
    pairs: Floats,
    shape: Shape,
    work: Floats,
    at: int,
    rows: float,
    cols: float,
    pixels: float,
    image: float,
    inside: float,
    tiles: float,
) -> None:
    """Writes `Work` of a pair whose tiles have these rows, columns, pixels and image, `inside` pixels of which lie in x."""
    waves = np.ceil(tiles * shape.per_core)
    put(work, Work.ROWS, at, rows)
    put(work, Work.COLS, at, cols)
    put(work, Work.PIXELS, at, pixels)
    put(work, Work.IMAGE, at, image)
    put(work, Work.INSIDE, at, inside)
    put(work, Work.TILES, at, tiles)
    put(work, Work.WAVES, at, waves)
    # `ConvCost._out`
    each = pixels
    if shape.is_planes and pixels != shape.target:
        each = max(pixels, shape.burst_pixels)
    out = each * of(pairs, Pair.SENT_PER_PIXEL, at) + of(pairs, Pair.SENT_REST, at)
    drained = out
    if shape.is_via_ub:
        drained = pixels * of(pairs, Pair.SENT_DRAINED, at) + shape.fix_start
        out = drained + out if shape.is_in_turn else max(drained, out)
    put(work, Work.OUT, at, out)
    put(work, Work.DRAINED, at, drained)
    # No candidate of the pair takes less.
    compute = np.ceil(pixels * shape.pixel_blocks) * of(pairs, Pair.AREA, at) + of(pairs, Pair.STARTED, at)
    move = pixels * of(pairs, Pair.PER_PIXEL, at) + of(pairs, Pair.MOVED, at)
    words, of_kernels = of(pairs, Pair.WORDS, at), of(pairs, Pair.NEAR, at)
    is_single = pixels > of(pairs, Pair.ROOM_DOUBLED, at)
    paced, unit, second = slowest_units(shape.is_in_turn, compute, move, out, drained, is_single, words)
    port = inside * shape.per_port
    share = np.ceil(waves / of(pairs, Pair.CUTS, at)) / waves
    turn = (of_kernels + paced) * of(pairs, Pair.SLOT, at) + of(pairs, Pair.TURN, at)
    load = of_kernels + port * of(pairs, Pair.IMAGE_BYTES, at) * share
    later = cycles_of_tile(shape.visible, unit, second, load, turn)
    slowest = compute + move if shape.is_in_turn else max(compute, move)
    first = port * of(pairs, Pair.PIXEL_BYTES, at) + of(pairs, Pair.PART_ISSUE, at) + slowest + shape.begun
    tail = (compute + move) / of(pairs, Pair.STEPS, at) + out
    put(work, Work.LEAST, at, (max(first + (waves - 1.0) * later, shape.read) + tail) * ROUNDED)


@inlined
def _place_part(pairs: Floats, shape: Shape, work: Floats, at: int) -> None:
    """Places a pair whose tiles are parts of a row."""
    wide, unit = shape.wide, shape.pixel_unit
    rows = _rows(pairs, shape, 1.0, at) if shape.is_whole else 1.0
    cols = min(np.ceil(wide / np.ceil(wide / of(pairs, Pair.PIXELS, at)) / unit) * unit, wide)
    right = cols * shape.step_w + shape.reach_w
    if shape.is_planes:
        right = aligned(right * shape.item) / shape.item
    tiles = np.ceil(shape.high / rows) * of(pairs, Pair.CUTS, at) * shape.images * np.ceil(wide / cols)
    inside = min(right, shape.width) * shape.rows_there
    _place(pairs, shape, work, at, rows, cols, cols, right * shape.kernel_h, inside, tiles)


@inlined
def _place_rows(pairs: Floats, shape: Shape, work: Floats, at: int) -> None:
    """Places a pair whose tiles are whole rows."""
    rows = _rows(pairs, shape, min(np.floor(of(pairs, Pair.PIXELS, at) * shape.per_wide), shape.high), at)
    image = rows * shape.step + shape.reach
    tiles = np.ceil(shape.high / rows) * of(pairs, Pair.CUTS, at) * shape.images
    _place(pairs, shape, work, at, rows, shape.wide, rows * shape.wide, image, min(image, shape.all_pixels), tiles)


@inlined
def place_pairs(pairs: Floats, shape: Shape, takes_parts: bool, work: Floats) -> None:
    """Writes `Work` of all pairs; with `takes_parts` tiles may be parts of rows."""
    for at in range(shape.parts):
        _place_part(pairs, shape, work, at)
        if not takes_parts:
            put(work, Work.LEAST, at, np.inf)
    for at in range(shape.parts, int(pairs[-1])):
        _place_rows(pairs, shape, work, at)
