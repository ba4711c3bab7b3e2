"""Chooses tiles of products whose rows meet in parts of memory, with the operations of `npuvm.compiler.cube.meets`.

All is worked out for each shape, and only for candidates that a bound from below, what cores compute, leaves in the race; the
one with the lowest bound comes first.
"""

from __future__ import annotations

from math import gcd, hypot
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.core_cost import CoreLoads
from npuvm.compiler.cube.meets import APART, EXPOSED, IN_TURN, PLACED, TINY
from npuvm.compiler.native.compiling import BOTH, FLOATS, INT, MET, ROWS, TABLE, inlined, kernel, part

__all__ = ["choose_met_tile", "choose_met_tile_of_one"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SURE = 1.000001
"""How far above the best a bound must be for a candidate to be no better, however sums are rounded."""

_FIELDS = CoreLoads._fields
_A_NEW, _B_NEW, _A_AGAIN, _B_AGAIN, _A_SERVED, _B_SERVED, _BEHIND, _PACED, _HELD = range(len(_FIELDS))
"""Fields of loads, the last ones of costs."""


class _Chip(NamedTuple):
    """`Shared.numbers`; `are_parts_alike`: slices of L2 are as many and as long as channels of main memory."""

    item: float
    out_item: float
    chunk: float
    outstanding: float
    hbm_rate: float
    l2_rate: float
    room: float
    slots: float
    channels: int
    interleave: int
    slices: int
    line: int
    is_a_flipped: bool
    is_b_flipped: bool
    are_parts_alike: bool


class _Rows(NamedTuple):
    """An operand or a result: bytes of a row, whether its rows follow each other, and in how many channels and slices of L2
    rows begin that are read at one time."""

    row: float
    is_tight: bool
    channels: int
    slices: int


@part
def _chip(numbers: Floats) -> _Chip:
    channels, interleave, slices, line = int(numbers[8]), int(numbers[9]), int(numbers[10]), int(numbers[11])
    return _Chip(
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7],
        channels, interleave, slices, line, numbers[12] != 0.0, numbers[13] != 0.0,
        channels == slices and interleave == line,
    )  # fmt: skip


@part
def _begun_in(pitch: int, count: int, size: int) -> int:
    """`begun_in`"""
    return count // gcd(pitch // size, count) if pitch > 0 and pitch % size == 0 else count


@part
def _rows(chip: _Chip, row: float, pitch: int, step: int, parts: int) -> _Rows:
    """Rows `pitch` bytes apart, of which so many `parts`, `step` bytes apart, are read at one time."""
    channels, slices = _begun_in(pitch, chip.channels, chip.interleave), _begun_in(pitch, chip.slices, chip.line)
    if step > 0:
        both = gcd(pitch, step)
        if channels < chip.channels:
            channels = min(_begun_in(both, chip.channels, chip.interleave), channels * parts)
        if slices < chip.slices:
            slices = min(_begun_in(both, chip.slices, chip.line), slices * parts)
    return _Rows(row, pitch == row, channels, slices)


@part
def _waits(span: float, rows: _Rows, count: int, begun: int, size: int) -> float:
    """`Shared._waits` of rows that begin in `begun` of the parts."""
    if begun == count or (rows.is_tight and span >= rows.row):
        return 1.0
    # The lowest bit of all: a tensor's place is a power of two.
    bits = int(span) | size | PLACED
    step = float(bits & -bits)
    cut = np.floor(span / step)
    longest = float(size) if span >= 2 * size else span - step * step / size * np.floor(cut * cut / 4)
    return max(longest * (count / begun) / span, 1.0)


@part
def _far_waits(chip: _Chip, span: float, rows: _Rows, near: float) -> float:
    """The same for channels of main memory, where those for slices of L2 are `near`."""
    return near if chip.are_parts_alike else _waits(span, rows, chip.channels, rows.channels, chip.interleave)


@inlined
def _cost(both: Floats, way: int, field: int, at: int, depth: float) -> float:
    return both[way, 0, field, at] + depth * both[way, 1, field, at]


@part
def _in_lines(chip: _Chip, n: float, common: int) -> float:
    """`Shared._in_lines`; `common` is what divides the pitch and lines."""
    width = n * chip.item
    return (width + (chip.line - gcd(int(width), common))) / chip.item


@part
def _bounds(
    both: Floats,
    sides: Floats,
    whole: Ints,
    sizes: tuple[int, int, int, int, int],
    per_core: float,
    bounds: Floats,
) -> int:
    """Cycles from below of candidates with such a step over k, infinite where one is of no use; which is the lowest."""
    step, m, n, k, batch = sizes
    depth, matrices, width = float(k), float(batch), float(n)
    # Apart from what follows, so that several are made at once.
    for at in range(len(bounds)):
        tiles = np.ceil(width / sides[3, at] - TINY) * matrices * np.ceil(sides[0, at] * (m - TINY))
        way = 1 if sides[3, at] >= width else 0
        cycles = _cost(both, way, 0, at, depth) + np.ceil(tiles * per_core) * _cost(both, way, 1, at, depth)
        bounds[at] = cycles if whole[3, at] >= m else np.inf
    if step > 0:
        for at in range(len(bounds)):
            if min(whole[1, at], max(k, 1)) != step:
                bounds[at] = np.inf
    lowest, least = -1, np.inf
    for at in range(len(bounds)):
        if bounds[at] < least:
            lowest, least = at, bounds[at]
    return lowest


@kernel(MET, BOTH, TABLE, ROWS, INT, INT, INT, INT, INT, INT, INT, INT, INT, INT, FLOATS)
def choose_met_tile(
    both: Floats,
    sides: Floats,
    whole: Ints,
    step: int,
    m: int,
    n: int,
    k: int,
    batch: int,
    a_pitch: int,
    b_pitch: int,
    end: int,
    far: int,
    cores: int,
    numbers: Floats,
) -> tuple[int, float, float]:
    """The number of the best of the first `end` candidates for several cores, -1 where there is none; its estimate, and what
    that is where L2 has what later tiles read.

    Arguments are those of `choose_product_tile`, the pitches of `ProductSizes`, and the `numbers` of `Shared`; the last fields
    of `both` are those of `CoreLoads`.
    """
    chip = _chip(numbers)
    loads, depth, matrices, side = both.shape[2] - len(_FIELDS), float(k), float(batch), float(cores)
    deep, per_core = max(depth, 1.0), (1 - 1e-9) / side
    per = deep * chip.item
    along = batch > 1 and a_pitch == batch * per
    a = _rows(chip, (m if chip.is_a_flipped else deep) * chip.item, a_pitch, int(per) if along else 0, batch)
    b = _rows(chip, (deep if chip.is_b_flipped else n) * chip.item, b_pitch, 0, 1)
    c = _rows(chip, n * chip.out_item, int(n * chip.out_item), 0, 1)
    per_new, per_stored = per / chip.hbm_rate, chip.out_item / chip.l2_rate
    is_wide, common = n * deep > chip.room and not chip.is_b_flipped, gcd(b_pitch, chip.line)
    bounds = np.empty(end)
    best, least, kept = -1, np.inf, np.inf
    lowest = _bounds(both, sides, whole, (step, m, n, k, batch), per_core, bounds)
    for turn in range(-1, end if lowest >= 0 else -1):
        at = turn if turn >= 0 else lowest
        if bounds[at] > least * _SURE:
            continue
        way = 1 if whole[0, at] >= n else 0
        # `Shared.met`
        high, wide = min(sides[2, at], float(m)) if chip.is_a_flipped else sides[2, at], min(sides[3, at], float(n))
        part_k = min(sides[4, at], deep)
        cols = np.ceil(n / sides[3, at] - TINY)
        at_once = min(cols, side)
        a_span = (min(high * side, float(m)) if chip.is_a_flipped else part_k) * chip.item
        b_span = (part_k if chip.is_b_flipped else min(at_once * wide, float(n))) * chip.item
        a_waits = _waits(a_span, a, chip.slices, a.slices, chip.line)
        b_waits = _waits(b_span, b, chip.slices, b.slices, chip.line)
        a_new = _far_waits(chip, a_span, a, a_waits) * per_new * high
        b_new = _far_waits(chip, b_span, b, b_waits) * per_new * wide * at_once
        if is_wide and cols * matrices > side:
            lines = _in_lines(chip, wide, common)
            if at_once * lines * deep > chip.room:
                b_new *= lines / wide
        loaded = max(_cost(both, way, loads + _A_NEW, at, depth), _cost(both, way, loads + _B_NEW, at, depth), b_new)
        first, later = _cost(both, way, 0, at, depth), _cost(both, way, 1, at, depth)
        first += later
        a_served = min(a_waits, APART) * (_cost(both, way, loads + _A_SERVED, at, depth) / chip.l2_rate)
        served = max(a_served, b_waits * (_cost(both, way, loads + _B_SERVED, at, depth) / chip.l2_rate))
        rows = sides[0, at] * (m - TINY)
        ready = loaded
        if batch == 1 and a_waits > 1.0 and cols > 1.0:
            short, long = (part_k, high) if chip.is_a_flipped else (high, part_k)
            reads = short * np.ceil(long * chip.item / chip.chunk)
            alone = IN_TURN * max(1 - 0.5 * chip.outstanding / reads, 0.0)
            ready = loaded + min(rows * cols, side) * (a_served * alone)
        others = max(cols * matrices / side - 1.0, 0.0)
        share = 1.0
        if not chip.is_a_flipped:
            steps = np.ceil(deep / sides[4, at] - TINY)
            share = 1 / min(max(np.floor(chip.line / (sides[4, at] * chip.item)), 1.0), steps)
        beside = share * _cost(both, way, loads + _B_AGAIN, at, depth) * (EXPOSED if batch == 1 else 0.0)
        # `MetByCores.cycles`
        rows = np.ceil(rows)
        tiles = rows * (cols * matrices)
        rounds = np.ceil(tiles * per_core)
        stored = 0.0
        if rows * matrices % side == 0.0:
            waits = _waits(wide * chip.out_item, c, chip.slices, c.slices, chip.line)
            stored = waits * high * wide * per_stored if waits > 1.0 else 0.0
            stored = tiles * stored if stored * side > later else 0.0
        if served * side > later:
            later = max(tiles / rounds * served, later)
        rows *= matrices
        new = max(min(rows, side) * a_new + beside, later * share) + later - later * share
        total = max(max(new, ready) + _cost(both, way, loads + _BEHIND, at, depth), first) + (rounds - 1.0) * later
        total = max(total + max(loaded - later, 0.0) * others, stored)
        if m > side * sides[2, 0] / matrices:
            total += max(rows * (1 / side) - 1.0, 0.0) * (new - later)
        if far >= 0:
            tiles = np.ceil(sides[1, at] * (n - TINY)) * matrices * np.ceil(sides[0, at] * (m - TINY))
            total = hypot(total, tiles * _cost(both, way, far, at, depth))
        if total < least or (total == least and at < best):
            best, least = at, total
            kept = first + (rounds - 1.0) * later
    return best, least, kept


@kernel(MET, BOTH, TABLE, ROWS, INT, INT, INT, INT, INT, INT, INT, INT, INT, FLOATS)
def choose_met_tile_of_one(
    both: Floats,
    sides: Floats,
    whole: Ints,
    step: int,
    m: int,
    n: int,
    k: int,
    batch: int,
    a_pitch: int,
    b_pitch: int,
    end: int,
    far: int,
    numbers: Floats,
) -> tuple[int, float, float]:
    """The same for one core."""
    chip = _chip(numbers)
    loads, depth, matrices, width, room = both.shape[2] - len(_FIELDS), float(k), float(batch), float(n), chip.room
    deep = max(depth, 1.0)
    a = _rows(chip, (m if chip.is_a_flipped else deep) * chip.item, a_pitch, 0, 1)
    b = _rows(chip, (deep if chip.is_b_flipped else n) * chip.item, b_pitch, 0, 1)
    per_new, per_line, common = deep * chip.item / chip.hbm_rate, chip.item / chip.line, gcd(b_pitch, chip.line)
    bounds = np.empty(end)
    best, least, kept = -1, np.inf, np.inf
    lowest = _bounds(both, sides, whole, (step, m, n, k, batch), 1.0, bounds)
    for turn in range(-1, end if lowest >= 0 else -1):
        at = turn if turn >= 0 else lowest
        if bounds[at] > least * _SURE:
            continue
        way = 1 if whole[0, at] >= n else 0
        # `Shared.met`
        high, wide = min(sides[2, at], float(m)) if chip.is_a_flipped else sides[2, at], min(sides[3, at], width)
        part_k = min(sides[4, at], deep)
        cols = np.ceil(n / sides[3, at] - TINY)
        a_span, b_span = (
            (high if chip.is_a_flipped else part_k) * chip.item,
            (part_k if chip.is_b_flipped else wide) * chip.item,
        )
        # `Shared._of_one`
        lines = wide if chip.is_b_flipped else _in_lines(chip, wide, common)
        band = np.inf
        if not (width + 2 * high) * deep + width * high <= room:
            band = np.floor((room - 2 * lines * deep) / (high * (deep + wide)))
        is_lost = band <= 1.0 and (lines + high) * deep + wide * high > room
        a_near, b_near = (
            _waits(a_span, a, chip.slices, a.slices, chip.line),
            _waits(b_span, b, chip.slices, b.slices, chip.line),
        )
        a_new = _far_waits(chip, a_span, a, a_near) * per_new * high
        b_new = _far_waits(chip, b_span, b, b_near) * per_new * wide
        if is_lost:
            b_new *= lines / wide
        rows = np.ceil(sides[0, at] * (m - TINY))
        # All of the left operand is new once, and the right one for each band.
        bands = rows if is_lost else max(rows * (1 / max(band, 1.0)), 1.0)
        if matrices * (rows * a_new * (cols if is_lost else 1.0) + bands * cols * b_new) > least * _SURE:
            continue
        a_new, b_new = (
            max(_cost(both, way, loads + _A_NEW, at, depth), a_new),
            max(_cost(both, way, loads + _B_NEW, at, depth), b_new),
        )
        a_served = a_near * (_cost(both, way, loads + _A_SERVED, at, depth) / chip.l2_rate)
        b_served = b_near * (_cost(both, way, loads + _B_SERVED, at, depth) / chip.l2_rate)
        a_again = max(_cost(both, way, loads + _A_AGAIN, at, depth), a_served)
        b_again = max(_cost(both, way, loads + _B_AGAIN, at, depth), b_served)
        share = 1.0 if is_lost or chip.is_b_flipped else min(wide * per_line, 1.0)
        first, later = _cost(both, way, 0, at, depth), _cost(both, way, 1, at, depth)
        first += later
        paced, held = _cost(both, way, loads + _PACED, at, depth), _cost(both, way, loads + _HELD, at, depth)
        known, b_all = max(later, a_again + b_again), b_new / share
        new_a = max(later, max(a_new + b_again + paced, (a_new + b_again + held) / chip.slots))
        new_b = max(later, max(a_again + b_all + paced, (a_again + b_all + held) / chip.slots))
        new_both = max(later, max(a_new + b_all + paced, (a_new + b_all + held) / chip.slots))
        new_b, new_both = known + (new_b - known) * share, new_a + (new_both - new_a) * share
        # `Met.cycles`
        each = cols * new_both if is_lost else (cols - 1) * known + new_a
        more = 0.0 if is_lost else (cols - 1) * (new_b - known) + new_both - new_a
        total = rows * (matrices * each) + bands * (matrices * more)
        total += max(first, a_new + b_new + _cost(both, way, loads + _BEHIND, at, depth)) - new_both
        if far >= 0:
            tiles = np.ceil(sides[1, at] * (n - TINY)) * matrices * rows
            total = hypot(total, tiles * _cost(both, way, far, at, depth))
        if total < least or (total == least and at < best):
            best, least = at, total
            kept = first + (rows * (matrices * cols) - 1) * known
    return best, least, kept
