"""Chooses tiles of convolutions with the operations of `npuvm.compiler.conv.plan` and `cost`, in the same order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.compiling import CONV_TILE, FLAG, FLOATS, INT, TABLE, inlined, kernel
from npuvm.compiler.native.conv_layout import MOST_PAIRS, NONE, TOO_LARGE, Field, Pair, Rate, Shape, Size, Work
from npuvm.compiler.native.conv_loads import Load, image_load
from npuvm.compiler.native.conv_places import (
    ROUNDED,
    aligned,
    cycles_of_tile,
    greatest_common,
    is_exact,
    of,
    place_pairs,
    put,
    read_cycles,
    shape_of,
    slowest_units,
)  # fmt: skip

__all__ = ["choose_conv_tile"]

Floats = npt.NDArray[np.float64]
Tile = tuple[int, int, bool, int, int, int, int, int, int]
"""Numbers of a `ConvTile`."""

_MOST_CYCLES = float(1 << 62)
"""Estimates are below."""

_WORKS = Work.COUNT.value * MOST_PAIRS


@inlined
def _fits(table: Floats, rates: Floats, pixels: float, image: float, at: int) -> bool:
    """`ConvCost.accumulators`, the first of them"""
    item, bias_item = rates[Rate.ITEM], rates[Rate.BIAS_ITEM]
    if bias_item == 0.0:
        return image <= table[at, Field.ROOM_PIXELS]
    block = table[at, Field.BLOCK]
    if rates[Rate.IS_PLANES] != 0.0:
        bias, nbytes = aligned(pixels * item), block * aligned(image * item)
    else:
        bias, nbytes = aligned(pixels * bias_item), image * aligned(block * item)
    return nbytes + bias / rates[Rate.SLOTS] <= table[at, Field.ROOM_BYTES]


@inlined
def _words(table: Floats, shape: Shape, rates: Floats, at: int, is_part: bool) -> float:
    """Cycles of the sequencer for a tile."""
    words = table[at, Field.WORDS]
    if is_part:
        words += table[at, Field.BLOCKS] * ((shape.kernel_h - 1.0) * rates[Rate.LOAD_WORDS] * rates[Rate.DECODE])
    return words


@inlined
def _weigh(
    pairs: Floats,
    table: Floats,
    shape: Shape,
    rates: Floats,
    work: Floats,
    pair: int,
    apart: float,
    at: int,
    most: float,
) -> float:
    """The cycles that a launch takes at least with a candidate; some of them where these are more than `most`.

    `apart` is the share of a core's tiles whose kernels no other core has read before.
    """
    pixels, waves, cuts = of(work, Work.PIXELS, pair), of(work, Work.WAVES, pair), of(pairs, Pair.CUTS, pair)
    compute = np.ceil(pixels * rates[Rate.PIXEL_BLOCKS]) * table[at, Field.AREA] + table[at, Field.STARTED]
    move = pixels * table[at, Field.PER_PIXEL] + table[at, Field.MOVED]
    slowest = compute + move if rates[Rate.IS_IN_TURN] != 0.0 else max(compute, move)
    least = (slowest * waves + rates[Rate.BEGUN]) * ROUNDED
    if least > most:
        return least
    out, words = of(work, Work.OUT, pair), _words(table, shape, rates, at, pair < shape.parts)
    paced, unit, second = slowest_units(
        shape.is_in_turn,
        compute,
        move,
        out,
        of(work, Work.DRAINED, pair),
        pixels > of(pairs, Pair.ROOM_DOUBLED, pair),
        words,
    )
    tail = (compute + move) / table[at, Field.STEPS] + out
    # What `_first` and `_later` add up is no less, rounding left out; of loads of the image only their bytes in the port count.
    of_work, others = slowest * table[at, Field.SHARE], table[at, Field.PARTS] - 1.0
    load, blocks = table[at, Field.PART_FAR], table[at, Field.BLOCKS]
    of_kernels = table[at, Field.NEAR] + table[at, Field.FURTHER] * apart
    pace, chain = max(load, of_work), (load + of_work) * table[at, Field.FULL] + rates[Rate.MISSED]
    run = max(pace * others, pace * table[at, Field.REST] + chain * table[at, Field.WHOLE])
    of_image = of(work, Work.INSIDE, pair) * table[at, Field.PIXEL_BYTES] * rates[Rate.PER_PORT]
    first = of_image + max(table[at, Field.PART_ISSUE], table[at, Field.REQUESTS]) + run + of_work + rates[Rate.BEGUN]
    loaded = max(np.ceil(waves / cuts) / waves, table[at, Field.SEVERAL])
    turn = (of_kernels + paced) * table[at, Field.SLOT] + table[at, Field.TURN]
    later = cycles_of_tile(rates[Rate.VISIBLE], unit, second, of_kernels + of_image * blocks * loaded, turn)
    return (max(first + (waves - 1.0) * later, shape.read) + tail) * ROUNDED


@inlined
def _later(
    table: Floats,
    rates: Floats,
    image: Load,
    units: tuple[float, float, float],
    apart: float,
    share: float,
    at: int,
) -> float:
    """`ConvCost._later`; `units` are the slower of products and moves, the slowest of all, and the one behind it."""
    _, _, near, far, _, _, _ = image
    paced, unit, second = units
    loaded = max(share, table[at, Field.SEVERAL])
    blocks, of_kernels = table[at, Field.BLOCKS], table[at, Field.NEAR] + table[at, Field.FURTHER] * apart
    turn = (of_kernels + paced) * table[at, Field.SLOT] + table[at, Field.TURN]
    behind = paced * table[at, Field.BEHIND] + table[at, Field.ISSUED] + of_kernels * table[at, Field.LATE]
    least = max(turn, behind)
    new = share / loaded
    of_block = near + (far - near) * new
    delay = rates[Rate.HIT] + (rates[Rate.MISSED] - rates[Rate.HIT]) * new
    of_part, of_work = of_kernels * table[at, Field.SHARE], paced * table[at, Field.SHARE]
    slot = max(of_work, (of_part + of_work + rates[Rate.HIT]) * rates[Rate.PART])
    through = 2.0 * of_part + of_block + delay + of_work + slot * table[at, Field.MORE]
    moved = cycles_of_tile(rates[Rate.VISIBLE], unit, second, of_block * blocks + of_kernels, least)
    moved = max(moved, through * table[at, Field.TURNS])
    moved = max(moved, ((of_block + delay) * blocks + paced) * rates[Rate.PART])
    moved = max(moved, paced + ((of_block + of_part + delay) * blocks - paced * table[at, Field.AHEAD]))
    if table[at, Field.STAYS] == 0.0:
        return moved
    stays = cycles_of_tile(rates[Rate.VISIBLE], unit, second, of_kernels, least)
    return stays + loaded * (moved - stays)


@inlined
def _first(
    table: Floats, rates: Floats, image: Load, slowest: float, tiles: float, cuts: float, waves: float, at: int
) -> float:
    """`ConvCost._first`"""
    issue, requests, _, far, each, _, past = image
    cores, missed = rates[Rate.CORES], rates[Rate.MISSED]
    working = min(tiles, cores)
    of_images = min(working, np.ceil(working * waves / cuts)) * each
    of_kernels = min(cuts, working) * table[at, Field.PART_FETCHED]
    of_images = max(of_images, working * past)
    of_kernels = max(of_kernels, working * table[at, Field.PART_PAST])
    window = min(issue, issue * (rates[Rate.OUTSTANDING] / max(requests, 1.0)))
    late = requests * rates[Rate.TURN] - missed + window
    fill = max(max(issue, of_images), late)
    fill = fill + max(max(table[at, Field.PART_ISSUE], of_kernels), table[at, Field.REQUESTS])
    load = max(table[at, Field.PART_FAR], of_kernels) + max(far, of_images) * table[at, Field.AGAIN]
    of_work, others = slowest * table[at, Field.SHARE], table[at, Field.PARTS] - 1.0
    pace, chain = max(load, of_work), (load + of_work) * table[at, Field.FULL] + missed
    run = max(pace * others, pace * table[at, Field.REST] + chain * table[at, Field.WHOLE])
    run = max(run, (of_work * table[at, Field.BEHIND] + (load + missed) * table[at, Field.LATE]) * others)
    return fill + run + of_work + rates[Rate.BEGUN]


@inlined
def _fresh(shape: Shape, work: Floats, pair: int) -> float:
    """Pixels of `Areas.fresh`"""
    rows = of(work, Work.ROWS, pair)
    fresh = min(rows * shape.step_rows + shape.over, shape.height / np.ceil(shape.high / rows)) * shape.width
    return fresh / np.ceil(shape.wide / of(work, Work.COLS, pair)) if pair < shape.parts else fresh


@inlined
def _cycles(
    pairs: Floats, table: Floats, shape: Shape, rates: Floats, work: Floats, pair: int, apart: float, at: int
) -> float:
    """`ConvCost.cycles` of a candidate"""
    is_part, pixels, cuts = pair < shape.parts, of(work, Work.PIXELS, pair), of(pairs, Pair.CUTS, pair)
    tiles, waves, out = of(work, Work.TILES, pair), of(work, Work.WAVES, pair), of(work, Work.OUT, pair)
    image = image_load(
        table,
        shape,
        rates,
        of(work, Work.ROWS, pair),
        of(work, Work.INSIDE, pair),
        _fresh(shape, work, pair),
        is_part,
        at,
    )
    images = np.ceil(waves / cuts)
    share = images / waves
    loaded = max(share, table[at, Field.SEVERAL])
    compute = np.ceil(pixels * rates[Rate.PIXEL_BLOCKS]) * table[at, Field.AREA] + table[at, Field.STARTED]
    move = pixels * table[at, Field.PER_PIXEL] + table[at, Field.MOVED]
    slowest = compute + move if rates[Rate.IS_IN_TURN] != 0.0 else max(compute, move)
    paced, unit, second = slowest_units(
        shape.is_in_turn, compute, move, out, of(work, Work.DRAINED, pair), pixels > of(pairs, Pair.ROOM_DOUBLED, pair),
        _words(table, shape, rates, at, is_part),
    )  # fmt: skip
    later = _later(table, rates, image, (paced, unit, second), apart, share, at)
    tail = (compute + move) / table[at, Field.STEPS] + out
    total = _first(table, rates, image, slowest, tiles, cuts, waves, at) + tail + (waves - 1.0) * later
    loads = tiles * table[at, Field.BLOCKS] * loaded
    served = loads * image[5] + tiles * table[at, Field.SERVED] + table[at, Field.SERVED_ONCE]
    total = max(total, served * rates[Rate.PER_L2])
    is_kept, least = table[at, Field.IS_KEPT] != 0.0, 0.0
    if table[at, Field.FORGETS] != 0.0 and not is_kept:
        least = (images - 1.0) * cuts * table[at, Field.LOAD_FETCHED]
    least = max(least, loads * image[6])
    least = max(least, (rates[Rate.CORES] if is_kept else tiles) * table[at, Field.LOAD_PAST])
    return max(total, tail + least + shape.read)


@inlined
def _weighed(
    pairs: Floats,
    table: Floats,
    shape: Shape,
    rates: Floats,
    work: Floats,
    pair: int,
    apart: float,
    start: int,
    most: float,
    weights: Floats,
) -> int:
    """Writes what a pair's candidates take at least, inf where one does not fit; the likeliest, or the one behind the last."""
    pixels, image, stop = of(work, Work.PIXELS, pair), of(work, Work.IMAGE, pair), int(of(pairs, Pair.STOP, pair))
    likely, least = stop, np.inf
    for at in range(start, stop):
        weights[at] = np.inf
        if _fits(table, rates, pixels, image, at):
            weights[at] = _weigh(pairs, table, shape, rates, work, pair, apart, at, most)
            if weights[at] < least:
                likely, least = at, weights[at]
    return likely


@inlined
def _likeliest(work: Floats, count: int) -> int:
    """The pair that takes the least at least; how many there are, if none is left."""
    likely, least = count, np.inf
    for at in range(count):
        each = of(work, Work.LEAST, at)
        if each < least:
            likely, least = at, each
    return likely


@inlined
def _none(why: int) -> Tile:
    return 0, 0, False, 0, 0, 0, 0, 0, why


@kernel(CONV_TILE, FLOATS, TABLE, FLOATS, *[INT] * 16, FLAG, FLAG)
def choose_conv_tile(
    pairs: Floats,
    table: Floats,
    rates: Floats,
    images: int,
    height: int,
    width: int,
    high: int,
    wide: int,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    dilation_h: int,
    dilation_w: int,
    channels: int,
    filters: int,
    adjacent: int,
    target: int,
    depth: int,
    are_rows_whole: bool,
    takes_parts: bool,
) -> Tile:
    """`ConvTileChooser._best`: a tile, or one of `NONE` or `TOO_LARGE` cycles.

    `pairs` and `table` are `npuvm.compiler.conv.native.Tables`. With `are_rows_whole` tiles may be whole rows, with
    `takes_parts` parts of one.
    """
    sizes = Size(
        images, height, width, high, wide, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, channels, filters,
        adjacent, target, depth, are_rows_whole,
    )  # fmt: skip
    read = read_cycles(sizes, rates)
    if not is_exact(sizes, read):
        return _none(TOO_LARGE)
    shape = shape_of(sizes, pairs, rates, read)
    count = int(pairs[-1])
    work = np.empty(_WORKS)
    place_pairs(pairs, shape, takes_parts, work)
    weights, best, best_pair, cycles = np.empty(len(table)), -1, 0, np.inf
    # The likeliest first, so that fewer of the others are looked at.
    pair, following = _likeliest(work, count), 0
    while pair < count:
        put(work, Work.LEAST, pair, np.inf)
        waves, start, stop = of(work, Work.WAVES, pair), 0, int(of(pairs, Pair.STOP, pair))
        if pair > 0:
            start = int(of(pairs, Pair.STOP, pair - 1))
        # Cores begin at other filters where their tiles end within those of an image.
        apart = greatest_common(int(of(pairs, Pair.CUTS, pair)), int(waves)) / waves
        at, other = _weighed(pairs, table, shape, rates, work, pair, apart, start, cycles, weights), start
        while at < stop:
            if weights[at] <= cycles and weights[at] < np.inf:
                estimate = _cycles(pairs, table, shape, rates, work, pair, apart, at)
                if estimate < cycles or (estimate == cycles and at < best):
                    best, best_pair, cycles = at, pair, estimate
                weights[at] = np.inf
            at, other = other, other + 1
        if best < 0:
            pair = _likeliest(work, count)
        else:
            while following < count and of(work, Work.LEAST, following) > cycles:
                following += 1
            pair = following
    if best < 0:
        return _none(NONE)
    if cycles >= _MOST_CYCLES:
        return _none(TOO_LARGE)
    is_single = of(work, Work.PIXELS, best_pair) > of(pairs, Pair.ROOM_DOUBLED, best_pair)
    return (
        int(of(work, Work.ROWS, best_pair)),
        int(of(work, Work.COLS, best_pair)),
        best_pair >= shape.parts,
        int(table[best, Field.FILTERS]),
        int(table[best, Field.BLOCK]),
        int(table[best, Field.CHUNK]),
        int(table[best, Field.STEP]),
        1 if is_single else 2,
        int(cycles),
    )
