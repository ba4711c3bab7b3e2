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

_ROUNDED = 1 - 1e-12
"""A sum that adds up the same in another order is no less than so much of it."""


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
    further = (kernel_h - 1) * asked[Size.DILATION_H] + 1 - step
    shape[Shape.STEP], shape[Shape.REACH] = step * line, further * line
    shape[Shape.STEP_ROWS], shape[Shape.OVER] = step, min(further, 0)
    shape[Shape.ALL_PIXELS], shape[Shape.HEIGHT] = asked[Size.HEIGHT] * width, asked[Size.HEIGHT]
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
    down = np.ceil(shape[Shape.HIGH] / rows)
    tiles = down * table[at, Field.CUTS] * shape[Shape.IMAGES]
    fresh = min(rows * shape[Shape.STEP_ROWS] + shape[Shape.OVER], shape[Shape.HEIGHT] / down) * shape[Shape.WIDTH]
    if at < shape[Shape.PARTS]:
        wide, unit = shape[Shape.WIDE], rates[Rate.PIXEL_UNIT]
        cols = min(np.ceil(wide / np.ceil(wide / table[at, Field.PIXELS]) / unit) * unit, wide)
        right = cols * shape[Shape.STEP_W] + shape[Shape.REACH_W]
        if rates[Rate.IS_PLANES] != 0.0:
            right = _aligned(right * item) / item
        work[at, Work.IMAGE], work[at, Work.PIXELS] = right * shape[Shape.KERNEL_H], cols
        work[at, Work.INSIDE] = min(right, shape[Shape.WIDTH]) * shape[Shape.ROWS_THERE]
        across = np.ceil(wide / cols)
        tiles *= across
        fresh /= across
    else:
        cols = shape[Shape.WIDE]
        image = rows * shape[Shape.STEP] + shape[Shape.REACH]
        work[at, Work.IMAGE], work[at, Work.PIXELS] = image, rows * cols
        work[at, Work.INSIDE] = min(image, shape[Shape.ALL_PIXELS])
    work[at, Work.ROWS], work[at, Work.COLS], work[at, Work.FRESH] = rows, cols, fresh
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
def _paced(table: Floats, rates: Floats, work: Floats, at: int) -> float:
    """What cube and moves do for a candidate's tile, and the cycles that a launch takes at least by these alone."""
    pixels = work[at, Work.PIXELS]
    compute = np.ceil(pixels * rates[Rate.PIXEL_BLOCKS]) * table[at, Field.AREA] + table[at, Field.STARTED]
    move = pixels * table[at, Field.PER_PIXEL] + table[at, Field.MOVED]
    work[at, Work.COMPUTE], work[at, Work.MOVE] = compute, move
    slowest = compute + move if rates[Rate.IS_IN_TURN] != 0.0 else max(compute, move)
    return (slowest * work[at, Work.WAVES] + rates[Rate.BEGUN]) * _ROUNDED


@inlined
def _tile(rates: Floats, unit: float, second: float, load: float, least: float) -> float:
    """A tile of `ConvCost._later`"""
    taken = max(unit, load) + rates[Rate.VISIBLE] * max(second, min(unit, load))
    return max(taken, least)


@inlined
def _weigh(table: Floats, shape: Floats, rates: Floats, work: Floats, at: int) -> float:
    """What units do for a candidate's tile, and the cycles that a launch takes at least."""
    pixels, compute, move = work[at, Work.PIXELS], work[at, Work.COMPUTE], work[at, Work.MOVE]
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
    work[at, Work.OUT], work[at, Work.BUSY], work[at, Work.UNIT] = out, busy, unit
    work[at, Work.SECOND] = max(low, min(paced, high))
    tail = (compute + move) / table[at, Field.STEPS] + out
    # What `_first` and `_later` add up is no less, rounding left out; of loads of the image only their bytes in the port count.
    of_work, others, waves = slowest * table[at, Field.SHARE], table[at, Field.PARTS] - 1.0, work[at, Work.WAVES]
    load, blocks, of_kernels = table[at, Field.PART_FAR], table[at, Field.BLOCKS], table[at, Field.NEAR]
    pace, chain = max(load, of_work), (load + of_work) * table[at, Field.FULL] + rates[Rate.MISSED]
    run = max(pace * others, pace * table[at, Field.REST] + chain * table[at, Field.WHOLE])
    of_image = work[at, Work.INSIDE] * table[at, Field.PIXEL_BYTES] * rates[Rate.PER_PORT]
    first = of_image + max(table[at, Field.PART_ISSUE], table[at, Field.REQUESTS]) + run + of_work + rates[Rate.BEGUN]
    loaded = max(np.ceil(waves / table[at, Field.CUTS]) / waves, table[at, Field.SEVERAL])
    turn = (of_kernels + paced) * table[at, Field.SLOT] + table[at, Field.TURN]
    later = _tile(rates, unit, work[at, Work.SECOND], of_kernels + of_image * blocks * loaded, turn)
    return (first + tail + (waves - 1.0) * later) * _ROUNDED


@inlined
def _later(table: Floats, rates: Floats, work: Floats, image: Load, share: float, loaded: float, at: int) -> float:
    """`ConvCost._later`"""
    _, _, near, far, _, _, _ = image
    blocks, of_kernels = table[at, Field.BLOCKS], table[at, Field.NEAR]
    if table[at, Field.FURTHER] != 0.0:
        waves = work[at, Work.WAVES]
        apart = _common(int(table[at, Field.CUTS]), int(waves)) / waves
        of_kernels = of_kernels + table[at, Field.FURTHER] * apart
    paced, unit, second = max(work[at, Work.BUSY], work[at, Work.MOVE]), work[at, Work.UNIT], work[at, Work.SECOND]
    turn = (of_kernels + paced) * table[at, Field.SLOT] + table[at, Field.TURN]
    behind = paced * table[at, Field.BEHIND] + table[at, Field.ISSUED] + of_kernels * table[at, Field.LATE]
    least = max(turn, behind)
    new = share / loaded
    of_block = near + (far - near) * new
    delay = rates[Rate.HIT] + (rates[Rate.MISSED] - rates[Rate.HIT]) * new
    of_part, of_work = of_kernels * table[at, Field.SHARE], paced * table[at, Field.SHARE]
    slot = max(of_work, (of_part + of_work + rates[Rate.HIT]) * rates[Rate.PART])
    through = 2.0 * of_part + of_block + delay + of_work + slot * table[at, Field.MORE]
    moved = _tile(rates, unit, second, of_block * blocks + of_kernels, least)
    moved = max(moved, through * table[at, Field.TURNS])
    moved = max(moved, ((of_block + delay) * blocks + paced) * rates[Rate.PART])
    moved = max(moved, paced + ((of_block + of_part + delay) * blocks - paced * table[at, Field.AHEAD]))
    if table[at, Field.STAYS] == 0.0:
        return moved
    stays = _tile(rates, unit, second, of_kernels, least)
    return stays + loaded * (moved - stays)


@inlined
def _first(table: Floats, rates: Floats, work: Floats, image: Load, at: int) -> float:
    """`ConvCost._first`"""
    issue, requests, _, far, each, _, past = image
    cuts, move, cores, missed = table[at, Field.CUTS], work[at, Work.MOVE], rates[Rate.CORES], rates[Rate.MISSED]
    working = min(work[at, Work.TILES], cores)
    of_images = min(working, np.ceil(working * work[at, Work.WAVES] / cuts)) * each
    of_kernels = min(cuts, working) * table[at, Field.PART_FETCHED]
    of_images = max(of_images, working * past)
    of_kernels = max(of_kernels, working * table[at, Field.PART_PAST])
    window = min(issue, issue * (rates[Rate.OUTSTANDING] / max(requests, 1.0)))
    late = requests * rates[Rate.TURN] - missed + window
    fill = max(max(issue, of_images), late)
    fill = fill + max(max(table[at, Field.PART_ISSUE], of_kernels), table[at, Field.REQUESTS])
    load = max(table[at, Field.PART_FAR], of_kernels) + max(far, of_images) * table[at, Field.AGAIN]
    slowest = max(work[at, Work.COMPUTE], move)
    if rates[Rate.IS_IN_TURN] != 0.0:
        slowest = work[at, Work.COMPUTE] + move
    of_work, others = slowest * table[at, Field.SHARE], table[at, Field.PARTS] - 1.0
    pace, chain = max(load, of_work), (load + of_work) * table[at, Field.FULL] + missed
    run = max(pace * others, pace * table[at, Field.REST] + chain * table[at, Field.WHOLE])
    run = max(run, (of_work * table[at, Field.BEHIND] + (load + missed) * table[at, Field.LATE]) * others)
    return fill + run + of_work + rates[Rate.BEGUN]


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
def _bounded(table: Floats, shape: Floats, rates: Floats, asked: Ints, work: Floats, least: Floats) -> int:
    """Places every candidate; the number of the one whose cube and moves take the least, or how many there are.

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
        least[at] = np.inf
        if _fits(table, shape, rates, asked, work, at):
            least[at] = _paced(table, rates, work, at)
            if likely == count or least[at] < least[likely]:
                likely = at
    return likely


@inlined
def _likelier(table: Floats, shape: Floats, rates: Floats, work: Floats, least: Floats, most: float) -> int:
    """Weighs those that may take no more than `most`; the number of the likeliest of them, or how many candidates there are."""
    count = likely = len(table)
    for at in range(count):
        if least[at] <= most:
            least[at] = _weigh(table, shape, rates, work, at)
            if least[at] <= most and (likely == count or least[at] < least[likely]):
                likely = at
    return likely


@kernel(INT, TABLE, TABLE, FLOATS, ASKED, FLOAT, INTS)
def choose_conv_tile(places: Floats, table: Floats, rates: Floats, asked: Ints, read: float, found: Ints) -> int:
    """`ConvTileChooser._best`: a `Result`; numbers of `Found` are written to `found`.

    `places` has the first fields of `table` side by side, which all candidates are asked for. `read` is what `ConvCost.cycles`
    adds for operands that are read once.
    """
    if not _is_exact(asked):
        return Result.TOO_LARGE
    count, shape = len(table), np.empty(_SHAPES)
    _shape(asked, rates, places, read, shape)
    work, least = np.empty((count, _WORKS)), np.empty(count)
    likely = _bounded(places, shape, rates, asked, work, least)
    if likely == count:
        return Result.NONE
    # Those that take longer at least than one that is likely to be the best are not weighed further.
    _weigh(table, shape, rates, work, likely)
    best, cycles = likely, _cycles(table, shape, rates, work, likely)
    least[likely] = np.inf
    at = _likelier(table, shape, rates, work, least, cycles)
    others = 0
    while at < count:
        if least[at] <= cycles:
            estimate = _cycles(table, shape, rates, work, at)
            if estimate < cycles or (estimate == cycles and at < best):
                best, cycles = at, estimate
            least[at] = np.inf
        at, others = others, others + 1
    if cycles >= _MOST_CYCLES:
        return Result.TOO_LARGE
    found[Found.ROWS], found[Found.COLS] = int(work[best, Work.ROWS]), int(work[best, Work.COLS])
    found[Found.IS_WHOLE], found[Found.CYCLES] = best >= shape[Shape.PARTS], int(cycles)
    found[Found.FILTERS], found[Found.BLOCK] = int(table[best, Field.FILTERS]), int(table[best, Field.BLOCK])
    found[Found.CHUNK], found[Found.STEP] = int(table[best, Field.CHUNK]), int(table[best, Field.STEP])
    found[Found.ACCUMULATORS] = 1 if work[best, Work.PIXELS] > table[best, Field.ROOM_DOUBLED] else 2
    return Result.FOUND
