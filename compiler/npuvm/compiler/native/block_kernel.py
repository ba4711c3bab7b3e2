"""Chooses blocks of relays, with the operations of `npuvm.compiler.relay` in the same order, so that both choose the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.block_layout import EDGE_COUNT, PRODUCT_WIDTH, TABLE_WIDTH, Found, Known, Product, Rate, Size
from npuvm.compiler.native.code import CodeRows
from npuvm.compiler.native.compiling import ASKED, CODE, FLAG, FLOATS, INTS, kernel, part
from npuvm.compiler.native.run import run_code

__all__ = ["choose_block"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Tiles = tuple[int, int, int, int]

_FIRST = Known.PRODUCT.value
"""Where the numbers of the first product begin."""


@part
def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@part
def _place(blocks: int) -> int:
    return blocks if blocks < TABLE_WIDTH else 0


@part
def _holds(known: Ints, rows: CodeRows, registers: Floats, m: int, tiles: Tiles) -> bool:
    """`RelayRoom.holds`"""
    registers[known[Known.IN_M]] = m
    for side in range(4):
        registers[known[Known.IN_TILES + side]] = tiles[side]
    run_code(rows, registers, known[Known.ROOM_LATE], known[Known.ROOM_LATE + 1])
    is_room = True
    for each in range(4):
        is_room &= registers[known[Known.OUT_BYTES + each]] <= known[Known.ROOMS + each]
    return is_room


@part
def _with(tiles: Tiles, second: int, n: int, k: int) -> Tiles:
    """The tiles with another of the first product, or of the second."""
    return (tiles[0], tiles[1], n, k) if second else (n, k, tiles[2], tiles[3])


@part
def _fitting(known: Ints, at: int, row_at: int, n: int, k: int) -> tuple[int, int]:
    """`FittingTiles.fitting`; a width of 0 where there is none."""
    table = at + Product.TABLES + row_at * PRODUCT_WIDTH
    if known[at + Product.IS_WHOLE_K]:
        if known[at + Product.IS_WHOLE_N]:
            return 0, 0
        width = known[table + _place(_ceil_div(k, 16))]
        return (min(n, width), k) if width else (0, 0)
    blocks = _place(_ceil_div(n, 16))
    if known[at + Product.IS_WHOLE_N] and not blocks:
        return 0, 0
    depth = known[table + TABLE_WIDTH + blocks]
    width = known[table + 2 * TABLE_WIDTH + blocks]
    if known[at + Product.IS_WHOLE_N] and width < n:
        return 0, 0
    return (min(n, width), min(k, depth)) if depth else (0, 0)


@part
def _least(known: Ints, at: int, n: int, k: int) -> tuple[int, int]:
    """`least_tile`"""
    # Sides are in falling order.
    least = known[Known.EDGES + EDGE_COUNT - 1]
    return (
        n if known[at + Product.IS_WHOLE_N] else min(least, n),
        k if known[at + Product.IS_WHOLE_K] else min(least, k),
    )


@part
def _largest(
    known: Ints, rows: CodeRows, registers: Floats, m: int, tiles: Tiles, second: int, n: int, k: int
) -> Tiles:
    """`largest_tile` of one product of n columns and depth k, with those of the other."""
    at = known[Known.SECOND] if second else _FIRST
    width, depth = n, k
    shallow = _least(known, at, n, k)[1]
    if not known[at + Product.IS_WHOLE_N]:
        for each in range(EDGE_COUNT):
            width = min(known[Known.EDGES + each], n)
            if _holds(known, rows, registers, m, _with(tiles, second, width, shallow)):
                break
    if not known[at + Product.IS_WHOLE_K]:
        for each in range(EDGE_COUNT):
            depth = min(known[Known.EDGES + each], k)
            if _holds(known, rows, registers, m, _with(tiles, second, width, depth)):
                break
    return _with(tiles, second, width, depth)


@part
def _spread(matrices: int, blocks: int, groups: int) -> tuple[int, int, int]:
    """`npuvm.compiler.relay.tile.spread`"""
    runs, best, tail = 1, blocks, blocks
    least = _ceil_div(matrices, groups) * (blocks + 1)
    rounds = max(0, _ceil_div(2 * matrices, groups) - 1)
    most = blocks
    while 2 * (rounds + 1) < least and most > 1:
        rounds += 1
        most = _ceil_div(blocks, max(1, min(blocks, rounds * groups // matrices)))
        count = _ceil_div(blocks, most)
        cost = _ceil_div(matrices * count, groups) * (most + 1)
        if cost < least:
            runs, best, tail, least = count, most, blocks - (count - 1) * most, cost
        if matrices * (blocks + count) >= least * groups:
            break
    return runs, best, tail


@part
def _begun_in(pitch: int, count: int, size: int) -> int:
    """`npuvm.compiler.cube.meets.begun_in`"""
    if pitch <= 0 or pitch % size:
        return count
    a, b = pitch // size, count
    while b:
        a, b = b, a % b
    return count // a


@part
def _cycles_of_run(
    known: Ints, rows: CodeRows, registers: Floats, blocks: int, size: int, height: int, part: int, memory: float
) -> float:
    """The cycles of a run; those of each product are in their registers."""
    registers[known[Known.IN_BLOCKS]] = blocks
    registers[known[Known.IN_SIZE]] = size
    registers[known[Known.IN_HEIGHT]] = height
    registers[known[Known.IN_ROWS]] = part
    registers[known[Known.IN_MEMORY]] = memory
    run_code(rows, registers, known[Known.LATE], known[Known.LATE + 1])
    return registers[known[Known.OUT_RUN]]


@part
def _tiles(known: Ints, rows: CodeRows, registers: Floats, row_at: int, size: int, shape: Ints) -> Tiles:
    """`BlockChooser._tiles`; a first width of 0 where there are none."""
    products = known[Known.PRODUCTS]
    n, k = _least(known, _FIRST, shape[Size.SHAPES], shape[Size.SHAPES + 1])
    tiles = (n, k, 1, 1)
    if products == 2:
        n, k = _least(known, known[Known.SECOND], shape[Size.SHAPES + 2], shape[Size.SHAPES + 3])
        tiles = _with(tiles, 1, n, k)
    if not _holds(known, rows, registers, size, tiles):
        return 0, 0, 0, 0
    for each in range(products):
        n, k = shape[Size.SHAPES + 2 * each], shape[Size.SHAPES + 2 * each + 1]
        width, depth = _fitting(known, known[Known.SECOND] if each else _FIRST, row_at, n, k)
        found = _with(tiles, each, width, depth)
        if width and _holds(known, rows, registers, size, found):
            tiles = found
        else:
            tiles = _largest(known, rows, registers, size, tiles, each, n, k)
    return tiles


@part
def _parts(known: Ints, rows: CodeRows, registers: Floats, size: int, width0: int, width1: int) -> int:
    """`BlockChooser._in_parts`; 0 where there are none."""
    room = known[Known.UB_BYTES]
    if known[Known.IS_VIA_UB]:
        most = _ceil_div(width0 * known[Known.PRODUCT + Product.OUT_ITEM], 32) * 32
        if known[Known.PRODUCTS] == 2:
            item = known[known[Known.SECOND] + Product.OUT_ITEM]
            most = max(most, _ceil_div(width1 * item, 32) * 32)
        room -= known[Known.RESULT_SLOTS] * size * most
    own = size // known[Known.CORES]
    for each in range(12):
        parts = known[Known.CUTS + each]
        if own % parts == 0:
            registers[known[Known.IN_UB_ROWS]] = own // parts
            run_code(rows, registers, known[Known.UB_LATE], known[Known.UB_LATE + 1])
            if registers[known[Known.OUT_UB]] <= room:
                return parts
    return 0


@part
def _met(known: Ints, rates: Floats, shape: Ints, tiles: Tiles, count: int) -> float:
    """`RelayCost._met` for so many blocks."""
    met = 0.0
    at = _FIRST
    for each in range(known[Known.PRODUCTS]):
        n, k = shape[Size.SHAPES + 2 * each], shape[Size.SHAPES + 2 * each + 1]
        item = known[at + Product.ITEM]
        row = k if known[at + Product.IS_FLIPPED] else n
        part = tiles[2 * each + 1] if known[at + Product.IS_FLIPPED] else tiles[2 * each]
        pitch, part = row * item, min(part, row) * item
        line, slices = known[Known.LINE], known[Known.SLICES]
        reached = min(_begun_in(pitch, slices, line) * _ceil_div(part, line) / slices, 1.0)
        met += n * k * item / reached
        at = known[Known.SECOND]
    return count * met / rates[Rate.L2]


@part
def _estimate(
    known: Ints,
    rates: Floats,
    rows: CodeRows,
    registers: Floats,
    shape: Ints,
    size: int,
    parts: int,
    tiles: Tiles,
    found: Ints,
    found_cycles: Floats,
) -> None:
    """`RelayFamily._with_block`; it is written to `found` where it takes fewer cycles than what is there."""
    all_rows, matrices, last, outer = shape[Size.ROWS], shape[Size.MATRICES], shape[Size.LAST], shape[Size.OUTER]
    groups, cores, products = known[Known.GROUPS], known[Known.CORES], known[Known.PRODUCTS]
    whole, left = (all_rows // size, all_rows % size) if all_rows != size else (0, all_rows)
    runs, most, tail = _spread(matrices, whole, groups) if whole else (0, 1, 1)
    rests, most_rests, tail_rests = _spread(outer, last, groups) if left else (0, 1, 1)
    groups = min(groups, matrices * runs + outer * rests)
    # What only one block of rows reads comes from main memory.
    way = rates[Rate.NEAR] if all_rows > size else rates[Rate.FAR]
    own = size // cores
    part = own // parts
    for each in range(products):
        at = known[Known.SECOND] if each else _FIRST
        registers[known[at + Product.IN_TILE_N]] = tiles[2 * each]
        registers[known[at + Product.IN_TILE_K]] = tiles[2 * each + 1]
    whole_runs, rest_runs = matrices * runs, outer * rests
    turns = _ceil_div(whole_runs + rest_runs, groups)
    total = final = 0.0
    taken = blocks = 0
    alike0 = alike1 = -np.inf
    first, second = known[Known.PRODUCT + Product.OUT_CYCLES], known[known[Known.SECOND] + Product.OUT_CYCLES]
    if runs:
        cycles = _cycles_of_run(known, rows, registers, most, size, own, part, way)
        taken = min(turns, whole_runs)
        total = final = taken * cycles
        blocks = taken * most
        alike0, alike1 = registers[first], registers[second]
    if rests:
        height = all_rows % size
        if height == 0:
            height = size
        mine = min(own, height)
        cycles = _cycles_of_run(known, rows, registers, most_rests, height, mine, min(part, mine), way)
        fewer = min(turns - taken, rest_runs)
        total, final = total + fewer * cycles, max(final, min(turns, rest_runs) * cycles)
        blocks += fewer * most_rests
        alike0, alike1 = max(alike0, registers[first]), max(alike1, registers[second])
    # The numbers of a single product stand there twice.
    read0, read1 = shape[Size.READ], shape[Size.READ + 1] if products == 2 else 0
    low0 = low1 = 0.0
    if read0 + read1 > known[Known.L2_BYTES]:
        low0, low1 = read0 / rates[Rate.HBM], read1 / rates[Rate.HBM]
    met = 0.0
    if not known[Known.SPREADS]:
        met = _met(known, rates, shape, tiles, matrices * runs * most + outer * rests * most_rests)
    total = max(total, final, met) + rates[Rate.FAR]
    bound = low0 + low1
    cycles = max(total, bound) + rates[Rate.HIDDEN] * min(total, bound)
    if cycles < found_cycles[0]:
        found_cycles[0] = cycles
        found_cycles[1], found_cycles[2] = max(blocks * alike0 + alike0, low0), max(blocks * alike1 + alike1, low1)
        found[Found.BLOCK], found[Found.BLOCK + 1] = size, parts
        found[Found.WHOLE], found[Found.WHOLE + 1] = whole, left
        for place in range(4):
            found[Found.BLOCK + 2 + place] = tiles[place]
        found[Found.HERE], found[Found.HERE + 1], found[Found.HERE + 2] = runs, most, tail
        found[Found.OVER], found[Found.OVER + 1], found[Found.OVER + 2] = rests, most_rests, tail_rests
        found[Found.GROUPS] = groups


@kernel(FLAG, INTS, FLOATS, CODE, FLOATS, ASKED, INTS, FLOATS)
def choose_block(
    known: Ints, rates: Floats, rows: CodeRows, registers: Floats, shape: Ints, found: Ints, found_cycles: Floats
) -> bool:
    """`RelayFamily.choose`: whether there is a block. It is written to `found`, and its cycles and those of products."""
    groups, products = known[Known.GROUPS], known[Known.PRODUCTS]
    registers[known[Known.IN_COLS]] = shape[Size.COLS]
    at = _FIRST
    for each in range(products):
        registers[known[at + Product.IN_ALL_N]] = shape[Size.SHAPES + 2 * each]
        registers[known[at + Product.IN_ALL_K]] = shape[Size.SHAPES + 2 * each + 1]
        at = known[Known.SECOND]
    run_code(rows, registers, known[Known.ROOM_EARLY], known[Known.ROOM_EARLY + 1])
    run_code(rows, registers, known[Known.EARLY], known[Known.EARLY + 1])
    run_code(rows, registers, known[Known.UB_EARLY], known[Known.UB_EARLY + 1])
    found_cycles[0] = np.inf
    crowds = known[Known.SLOTS] * groups * shape[Size.ROW_BYTES]
    row_sizes = known[Known.ROW_SIZES]
    tiles = (0, 0, 0, 0)
    count, most, too_many = 0, np.inf, 1 << 62
    before_crowded, before_cost, before_size = -1, 0, 0
    for _ in range(row_sizes):
        # The next of all row sizes in the order of whether they crowd L2, their cost, and the larger first.
        crowded, cost, size, row_at = 2, 0, 0, 0
        for each in range(row_sizes):
            rows_of = known[Known.ROWS + each]
            is_crowded = 1 if rows_of * crowds > known[Known.L2_ROOM] else 0
            of_rows = rows_of
            if not is_crowded:
                rounds = _ceil_div(shape[Size.MATRICES] * _ceil_div(shape[Size.ROWS], rows_of), groups)
                of_rows = rounds * (rows_of + known[Known.BLOCK_COST])
            later = (is_crowded, of_rows, -rows_of) > (before_crowded, before_cost, -before_size)
            if later and (is_crowded, of_rows, -rows_of) < (crowded, cost, -size):
                crowded, cost, size, row_at = is_crowded, of_rows, rows_of, each
        before_crowded, before_cost, before_size = crowded, cost, size
        if count == known[Known.LIKELY] or (count and (crowded or cost > most)):
            break
        if size >= too_many:
            continue
        tiles = _tiles(known, rows, registers, row_at, size, shape)
        if not tiles[0]:
            too_many = size
            continue
        parts = _parts(known, rows, registers, size, tiles[0], tiles[2])
        if parts:
            count, most = count + 1, min(most, rates[Rate.NEAR_COST] * cost)
            _estimate(known, rates, rows, registers, shape, size, parts, tiles, found, found_cycles)
    return count > 0
