"""Chooses tiles of convolutions with the operations of `npuvm.compiler.conv.plan` and `cost`, in the same order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.native.compiling import ASKED, FLOAT, FLOATS, INT, INTS, TABLE, inlined, kernel
from npuvm.compiler.native.conv_layout import Field, Found, Rate, Shape, Size, Work
from npuvm.compiler.native.conv_loads import Load, image_load
from npuvm.compiler.native.tile_layout import Result

__all__ = ["choose_conv_tile"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST_SIZE = 1 << 30
_EXACT, _MOST_CYCLES = float(1 << 53), float(1 << 62)
"""Sizes, and products of those of a kernel, are below the first; counts of elements of the result up to the second, as whole
numbers are exact as floats; and estimates below the third."""

_SIZES, _SHAPES = Size.ARE_ROWS_WHOLE.value, Shape.COUNT.value
_PLACES, _WORKS = Work.COMPUTE.value, Work.COUNT.value
"""How many numbers there are: sizes, those of a shape, of the place of a tile, and of a candidate for a shape."""

_PER_BLOCK = 1 / BLOCK_BYTES


@inlined
def _aligned(nbytes: float) -> float:
    return np.ceil(nbytes * _PER_BLOCK) * BLOCK_BYTES


@inlined
def _common(a: int, b: int) -> int:
    """The greatest common divisor."""
    while b:
        a, b = b, a % b
    return a


@inlined
def _is_exact(asked: Ints) -> bool:
    """Whether the numbers that `_shape` makes are those of Python."""
    for each in range(_SIZES):
        if asked[each] >= _MOST_SIZE:
            return False
    for at in range(2):
        if asked[Size.KERNEL_H + at] * asked[Size.DILATION_H + at] >= _MOST_SIZE:
            return False
    pixels = float(asked[Size.IMAGES]) * asked[Size.HIGH] * asked[Size.WIDE]
    return pixels * asked[Size.FILTERS] <= _EXACT


@inlined
def _row_unit(asked: Ints, rates: Floats) -> int:
    """`ConvTileChooser._row_unit`"""
    item = int(rates[Rate.ITEM])
    if rates[Rate.IS_PLANES] == 0.0 or asked[Size.KERNEL_H] > 1 or asked[Size.ADJACENT] * item % BLOCK_BYTES:
        return 1
    return BLOCK_BYTES // _common(asked[Size.STRIDE_H] * asked[Size.WIDTH] * item, BLOCK_BYTES)


@inlined
def _meeting(pitch: int, unit: float, count: float) -> float:
    """`ConvLoads._meeting`, of slices or of channels"""
    return float(_common(pitch // int(unit), int(count))) if pitch > 0 and pitch % int(unit) == 0 else 1.0


@inlined
def _shape(asked: Ints, rates: Floats, table: Floats, read: float, shape: Floats) -> None:
    """The numbers of `Shape`."""
    wide, width, step = asked[Size.WIDE], asked[Size.WIDTH], asked[Size.STRIDE_H]
    line, kernel_h, item = max(width, 1), asked[Size.KERNEL_H], int(rates[Rate.ITEM])
    parts = 0
    while parts < len(table) and (asked[Size.ARE_ROWS_WHOLE] == 0 or table[parts, Field.PIXELS] < wide):
        parts += 1
    shape[Shape.PARTS], shape[Shape.UNIT] = parts, _row_unit(asked, rates)
    shape[Shape.IMAGES], shape[Shape.PER_IMAGE] = asked[Size.IMAGES], 1.0 / asked[Size.IMAGES]
    shape[Shape.HIGH], shape[Shape.WIDE], shape[Shape.PER_WIDE] = asked[Size.HIGH], wide, (1 + 1e-9) / wide
    shape[Shape.STEP] = step * line
    shape[Shape.REACH] = ((kernel_h - 1) * asked[Size.DILATION_H] + 1 - step) * line
    shape[Shape.ALL_PIXELS] = asked[Size.HEIGHT] * width
    shape[Shape.STEP_W] = asked[Size.STRIDE_W]
    shape[Shape.REACH_W] = (asked[Size.KERNEL_W] - 1) * asked[Size.DILATION_W] + 1 - asked[Size.STRIDE_W]
    shape[Shape.WIDTH], shape[Shape.KERNEL_H] = width, kernel_h
    shape[Shape.ROWS_THERE], shape[Shape.TARGET] = min(kernel_h, asked[Size.HEIGHT]), asked[Size.TARGET]
    pitch = asked[Size.ADJACENT] * item
    shape[Shape.PITCH], shape[Shape.PER_PITCH] = pitch, pitch / rates[Rate.LINE]
    shape[Shape.LINE_BYTES], shape[Shape.STEP_BYTES] = width * item, step * (width * item)
    shape[Shape.ARE_LINES_WHOLE] = pitch % int(rates[Rate.LINE]) == 0
    shape[Shape.SLICES] = shape[Shape.CHANNELS] = 1.0
    if rates[Rate.IS_HASHED] == 0.0:
        shape[Shape.SLICES] = _meeting(pitch, rates[Rate.LINE], rates[Rate.SLICES])
        shape[Shape.CHANNELS] = _meeting(pitch, rates[Rate.INTERLEAVE], rates[Rate.CHANNELS])
    shape[Shape.READ] = read


@inlined
def _rows(table: Floats, shape: Floats, asked: Ints, at: int) -> float:
    """Rows of the tile that a candidate becomes; see `ConvTileChooser._shaped`."""
    if asked[Size.ARE_ROWS_WHOLE] == 0:
        return 1.0
    high, unit = shape[Shape.HIGH], shape[Shape.UNIT]
    rows = 1.0
    if at >= shape[Shape.PARTS]:
        rows = min(np.floor(table[at, Field.PIXELS] * shape[Shape.PER_WIDE]), high)
    if unit > 1.0 and unit <= rows < high:
        rows = np.floor(rows / unit) * unit
    rounds = np.ceil(np.ceil(high / rows) * (table[at, Field.WAVES] * shape[Shape.IMAGES]))
    down = np.ceil(high / np.floor(rounds * (table[at, Field.APART] * shape[Shape.PER_IMAGE])))
    return down if unit == 1.0 else min(rows, np.ceil(down * (1.0 / unit)) * unit)


@inlined
def _place(table: Floats, shape: Floats, rates: Floats, asked: Ints, work: Floats, at: int) -> None:
    """Rows and columns of a candidate's tile, its pixels and image, how many tiles there are, and those of a core."""
    rows, item = _rows(table, shape, asked, at), rates[Rate.ITEM]
    tiles = np.ceil(shape[Shape.HIGH] / rows) * table[at, Field.CUTS] * shape[Shape.IMAGES]
    if at < shape[Shape.PARTS]:
        wide, unit = shape[Shape.WIDE], rates[Rate.PIXEL_UNIT]
        cols = min(np.ceil(wide / np.ceil(wide / table[at, Field.PIXELS]) / unit) * unit, wide)
        right = cols * shape[Shape.STEP_W] + shape[Shape.REACH_W]
        if rates[Rate.IS_PLANES] != 0.0:
            right = _aligned(right * item) / item
        work[at, Work.IMAGE], work[at, Work.PIXELS] = right * shape[Shape.KERNEL_H], cols
        work[at, Work.INSIDE] = min(right, shape[Shape.WIDTH]) * shape[Shape.ROWS_THERE]
        tiles *= np.ceil(wide / cols)
    else:
        cols = shape[Shape.WIDE]
        image = rows * shape[Shape.STEP] + shape[Shape.REACH]
        work[at, Work.IMAGE], work[at, Work.PIXELS] = image, rows * cols
        work[at, Work.INSIDE] = min(image, shape[Shape.ALL_PIXELS])
    work[at, Work.ROWS], work[at, Work.COLS] = rows, cols
    work[at, Work.TILES], work[at, Work.WAVES] = tiles, np.ceil(tiles * rates[Rate.PER_CORE])


@inlined
def _fits(table: Floats, shape: Floats, rates: Floats, asked: Ints, work: Floats, at: int) -> bool:
    """`ConvCost.accumulators`, the first of them"""
    if at < shape[Shape.PARTS] and asked[Size.TAKES_PARTS] == 0:
        return False
    item, bias_item, image = rates[Rate.ITEM], rates[Rate.BIAS_ITEM], work[at, Work.IMAGE]
    if bias_item == 0.0:
        return image <= table[at, Field.ROOM_PIXELS]
    block = table[at, Field.BLOCK]
    if rates[Rate.IS_PLANES] != 0.0:
        bias, nbytes = _aligned(work[at, Work.PIXELS] * item), block * _aligned(image * item)
    else:
        bias, nbytes = _aligned(work[at, Work.PIXELS] * bias_item), image * _aligned(block * item)
    return nbytes + bias / rates[Rate.SLOTS] <= table[at, Field.ROOM_BYTES]


@inlined
def _out(table: Floats, shape: Floats, rates: Floats, pixels: float, at: int) -> tuple[float, float]:
    """`ConvCost._out`"""
    each = pixels
    if rates[Rate.IS_PLANES] != 0.0 and pixels != shape[Shape.TARGET]:
        each = max(pixels, rates[Rate.BURST_PIXELS])
    out = each * table[at, Field.SENT_PER_PIXEL] + table[at, Field.SENT_REST]
    if rates[Rate.IS_VIA_UB] == 0.0:
        return out, out
    drained = pixels * table[at, Field.SENT_DRAINED] + rates[Rate.FIX_START]
    return drained + out if rates[Rate.IS_IN_TURN] != 0.0 else max(drained, out), drained


@inlined
def _weigh(table: Floats, shape: Floats, rates: Floats, work: Floats, at: int) -> float:
    """What units do for a candidate's tile, and the cycles that a launch takes at least."""
    pixels = work[at, Work.PIXELS]
    compute = np.ceil(pixels * rates[Rate.PIXEL_BLOCKS]) * table[at, Field.AREA] + table[at, Field.STARTED]
    move = pixels * table[at, Field.PER_PIXEL] + table[at, Field.MOVED]
    out, drained = _out(table, shape, rates, pixels, at)
    busy, slowest, words = compute, max(compute, move), table[at, Field.WORDS]
    if pixels > table[at, Field.ROOM_DOUBLED]:
        busy = compute + drained
    if rates[Rate.IS_IN_TURN] != 0.0:
        busy, slowest = busy + move, compute + move
    if at < shape[Shape.PARTS]:
        words += table[at, Field.BLOCKS] * ((shape[Shape.KERNEL_H] - 1.0) * rates[Rate.LOAD_WORDS] * rates[Rate.DECODE])
    low, paced, high = min(busy, move), max(busy, move), max(out, words)
    unit = max(paced, high)
    work[at, Work.COMPUTE], work[at, Work.MOVE], work[at, Work.OUT] = compute, move, out
    work[at, Work.BUSY], work[at, Work.UNIT], work[at, Work.SECOND] = busy, unit, max(low, min(paced, high))
    tail = (compute + move) / table[at, Field.STEPS] + out
    # No sum of `_cycles` is less than that of parts of what it adds up, in the same order.
    turn = move * table[at, Field.HALF] + table[at, Field.TURN]
    later = max(unit, max(table[at, Field.NEAR], turn))
    return slowest + rates[Rate.BEGUN] + tail + (work[at, Work.WAVES] - 1.0) * later


@inlined
def _tile(rates: Floats, unit: float, second: float, issued: float, load: float, least: float) -> float:
    """A tile of `ConvCost._later`"""
    waiting = max(load, least)
    taken = max(unit, waiting) + rates[Rate.VISIBLE] * max(second, min(unit, waiting))
    return max(taken, load + issued)


@inlined
def _later(table: Floats, rates: Floats, work: Floats, image: Load, share: float, loaded: float, at: int) -> float:
    """`ConvCost._later`"""
    _, _, near, far, _, _, _ = image
    blocks, of_kernels, move = table[at, Field.BLOCKS], table[at, Field.NEAR], work[at, Work.MOVE]
    if table[at, Field.FURTHER] != 0.0:
        waves = work[at, Work.WAVES]
        apart = _common(int(table[at, Field.CUTS]), int(waves)) / waves
        of_kernels = of_kernels + table[at, Field.FURTHER] * apart
    of_image = (near + (far - near) * (share / loaded)) * blocks
    of_parts = of_blocks = move
    if rates[Rate.IS_IN_TURN] != 0.0:
        compute, steps = work[at, Work.COMPUTE], table[at, Field.STEPS]
        of_parts = move + compute * (1.0 - table[at, Field.PARTS] / steps)
        of_blocks = move + compute * (1.0 - blocks / steps)
    turn = of_parts * table[at, Field.HALF] + table[at, Field.TURN]
    turn_of_image = max(turn, ((far + rates[Rate.MISSED]) * blocks + of_blocks) * rates[Rate.PART])
    issued = max(work[at, Work.BUSY], move) * table[at, Field.BEHIND] + table[at, Field.ISSUED]
    unit, second = work[at, Work.UNIT], work[at, Work.SECOND]
    moved = _tile(rates, unit, second, issued, of_image + of_kernels, turn_of_image)
    if table[at, Field.STAYS] == 0.0:
        return moved
    stays = _tile(rates, unit, second, issued, of_kernels, turn)
    return stays + loaded * (moved - stays)


@inlined
def _first(table: Floats, rates: Floats, work: Floats, image: Load, at: int) -> float:
    """`ConvCost._first`"""
    issue, requests, _, far, each, _, past = image
    cuts, move, cores = table[at, Field.CUTS], work[at, Work.MOVE], rates[Rate.CORES]
    working = min(work[at, Work.TILES], cores)
    images = min(working, np.ceil(working * work[at, Work.WAVES] / cuts)) * each
    readers = min(cuts, working)
    fetched = images + readers * table[at, Field.PART_FETCHED]
    fetched = max(max(fetched, working * past), working * table[at, Field.PART_PAST])
    fill = max(issue + table[at, Field.PART_ISSUE], requests * rates[Rate.TURN] + table[at, Field.REQUESTS])
    fill = max(fill, fetched) + rates[Rate.BOTH] * min(fill, fetched)
    of_image = far + past * working
    once = images * table[at, Field.BLOCKS] + readers * table[at, Field.LOAD_FETCHED]
    loads = max(table[at, Field.LOAD_FAR] + of_image * table[at, Field.AGAIN], once)
    slowest, held = max(work[at, Work.COMPUTE], move), move
    if rates[Rate.IS_IN_TURN] != 0.0:
        slowest = held = work[at, Work.COMPUTE] + move
    rest = table[at, Field.OTHER] * max(loads, (table[at, Field.PARTS_FAR] + loads + held) * rates[Rate.PART])
    return fill + max(slowest, rest + slowest * table[at, Field.SHARE]) + rates[Rate.BEGUN]


@inlined
def _cycles(table: Floats, shape: Floats, rates: Floats, work: Floats, at: int) -> float:
    """`ConvCost.cycles` of a candidate"""
    image = image_load(table, shape, rates, work, at)
    tiles, waves, cuts = work[at, Work.TILES], work[at, Work.WAVES], table[at, Field.CUTS]
    images = np.ceil(waves / cuts)
    share = images / waves
    loaded = max(share, table[at, Field.SEVERAL])
    later = _later(table, rates, work, image, share, loaded, at)
    tail = (work[at, Work.COMPUTE] + work[at, Work.MOVE]) / table[at, Field.STEPS] + work[at, Work.OUT]
    total = _first(table, rates, work, image, at) + tail + (waves - 1.0) * later
    loads = tiles * table[at, Field.BLOCKS] * loaded
    served = loads * image[5] + tiles * table[at, Field.SERVED] + table[at, Field.SERVED_ONCE]
    total = max(total, served * rates[Rate.PER_L2])
    is_kept, least = table[at, Field.IS_KEPT] != 0.0, 0.0
    if table[at, Field.FORGETS] != 0.0 and not is_kept:
        least = (images - 1.0) * cuts * table[at, Field.LOAD_FETCHED]
    least = max(least, loads * image[6])
    least = max(least, (rates[Rate.CORES] if is_kept else tiles) * table[at, Field.LOAD_PAST])
    return max(total, tail + least + shape[Shape.READ])


@inlined
def _bounded(table: Floats, shape: Floats, rates: Floats, asked: Ints, work: Floats) -> int:
    """Weighs every candidate; the number of the one that takes the least at least, or how many there are.

    Candidates of as many pixels and filters lie side by side, and are at the same places.
    """
    count = likely = len(table)
    for at in range(count):
        pixels, cuts = table[at, Field.PIXELS], table[at, Field.CUTS]
        if at and pixels == table[at - 1, Field.PIXELS] and cuts == table[at - 1, Field.CUTS]:
            for each in range(_PLACES):
                work[at, each] = work[at - 1, each]
        else:
            _place(table, shape, rates, asked, work, at)
        work[at, Work.LEAST] = np.inf
        if _fits(table, shape, rates, asked, work, at):
            work[at, Work.LEAST] = _weigh(table, shape, rates, work, at)
            if likely == count or work[at, Work.LEAST] < work[likely, Work.LEAST]:
                likely = at
    return likely


@kernel(INT, TABLE, FLOATS, ASKED, FLOAT, INTS)
def choose_conv_tile(table: Floats, rates: Floats, asked: Ints, read: float, found: Ints) -> int:
    """`ConvTileChooser._best`: a `Result`; numbers of `Found` are written to `found`.

    `read` is what `ConvCost.cycles` adds for operands that are read once.
    """
    if not _is_exact(asked):
        return Result.TOO_LARGE
    count, shape = len(table), np.empty(_SHAPES)
    _shape(asked, rates, table, read, shape)
    work = np.empty((count, _WORKS))
    likely = _bounded(table, shape, rates, asked, work)
    if likely == count:
        return Result.NONE
    # Those that take longer at least than one that is likely to be the best are not weighed further.
    best, least = likely, _cycles(table, shape, rates, work, likely)
    for at in range(count):
        if work[at, Work.LEAST] <= least and at != likely:
            estimate = _cycles(table, shape, rates, work, at)
            if estimate < least or (estimate == least and at < best):
                best, least = at, estimate
    if least >= _MOST_CYCLES:
        return Result.TOO_LARGE
    found[Found.ROWS], found[Found.COLS] = int(work[best, Work.ROWS]), int(work[best, Work.COLS])
    found[Found.IS_WHOLE], found[Found.CYCLES] = best >= shape[Shape.PARTS], int(least)
    found[Found.FILTERS], found[Found.BLOCK] = int(table[best, Field.FILTERS]), int(table[best, Field.BLOCK])
    found[Found.CHUNK], found[Found.STEP] = int(table[best, Field.CHUNK]), int(table[best, Field.STEP])
    found[Found.ACCUMULATORS] = 1 if work[best, Work.PIXELS] > table[best, Field.ROOM_DOUBLED] else 2
    return Result.FOUND
