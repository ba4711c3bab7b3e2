"""Chooses tiles of matrix products with the operations of `npuvm.compiler.cube.chooser`, in the same order."""

from __future__ import annotations

from math import hypot

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.candidates import TAIL, TAIL_LEAST, By
from npuvm.compiler.cube.meets import TINY
from npuvm.compiler.native.compiling import BOTH, FLAG, FLOAT, FLOATS, INT, NAMED, ROWS, TABLE, kernel, part

__all__ = ["choose_product_part", "choose_product_tile"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@part
def _bounds(
    both: Floats,
    sides: Floats,
    whole: Ints,
    sizes: tuple[int, int, int, int, int],
    end: int,
    far: int,
    per_core: float,
    bounds: Floats,
) -> int:
    """Cycles from below of candidates with such a step over k, infinite where one is of no use; which is the lowest."""
    step, m, n, k, batch = sizes
    depth, matrices = float(k), float(batch)
    # Apart from what follows, so that several are made at once.
    for at in range(end):
        tiles = np.ceil(sides[1, at] * (n - TINY)) * matrices * np.ceil(sides[0, at] * (m - TINY))
        way = 1 if whole[0, at] >= n else 0
        first = both[way, 0, 0, at] + depth * both[way, 1, 0, at]
        later = both[way, 0, 1, at] + depth * both[way, 1, 1, at]
        bounds[at] = np.ceil(tiles * per_core) * later + first if whole[3, at] >= m else np.inf
    if far >= 0:
        for at in range(end):
            tiles = np.ceil(sides[1, at] * (n - TINY)) * matrices * np.ceil(sides[0, at] * (m - TINY))
            way = 1 if whole[0, at] >= n else 0
            past = tiles * (both[way, 0, far, at] + depth * both[way, 1, far, at])
            bounds[at] = np.sqrt(bounds[at] * bounds[at] + past * past)
    if step > 0:
        for at in range(end):
            if min(whole[1, at], max(k, 1)) != step:
                bounds[at] = np.inf
    lowest = 0
    for at in range(1, end):
        if bounds[at] < bounds[lowest]:
            lowest = at
    return lowest


@kernel(
    *(NAMED, BOTH, TABLE, ROWS, INT, INT, INT, INT, INT, INT, INT, INT),
    *(FLAG, FLAG, INT, FLOAT, FLOATS, FLOAT, FLOAT, FLOATS),
)
def choose_product_tile(
    both: Floats,
    sides: Floats,
    whole: Ints,
    step: int,
    m: int,
    n: int,
    k: int,
    batch: int,
    end: int,
    served: int,
    far: int,
    has_more_rows: bool,
    has_more_cols: bool,
    cores: int,
    per_core: float,
    memory: Floats,
    ended: float,
    sure: float,
    bounds: Floats,
) -> tuple[int, float]:
    """The number of the best of the first `end` candidates, -1 where there is none, and its estimate.

    `both` are bases and slopes over k, by field and candidate: first those of candidates that cut the columns, then those of
    the same where they are as wide as the operands. `sides` and `whole` are those of `Interval`; with a `step` it is chosen
    among candidates that take such steps over k at L0. `served` and `far` are the numbers of these fields, -1 where they do not
    matter, and the last three fields are those of what is new to a core and what is left behind loads. `memory` are the numbers
    of `MainMemory`, `ended` is `TileChooser._ended`. `has_more_rows`, `has_more_cols`: some come behind the first round.

    What cores take for rounds, with what is read past L2, is a bound from below, to be multiplied by `sure`, and is written to
    `bounds`. The candidate with the lowest is estimated first, and others only where they may be as good.
    """
    fields = both.shape[2]
    depth, share = float(k), batch / cores
    width, matrices, side = float(n), float(batch), float(cores)
    rate, opened, page = memory[0], memory[1], memory[2]
    lowest = _bounds(both, sides, whole, (step, m, n, k, batch), end, far, per_core, bounds) if end > 0 else 0
    best, least = -1, np.inf
    for turn in range(-1, end):
        at = lowest if turn < 0 else turn
        if at >= end or bounds[at] == np.inf or bounds[at] * sure > least or turn == lowest:
            continue
        way = 1 if whole[0, at] >= n else 0
        columns = np.ceil(sides[1, at] * (n - TINY))
        rows = np.ceil(sides[0, at] * (m - TINY))
        tiles = columns * matrices * rows
        first = both[way, 0, 0, at] + depth * both[way, 1, 0, at]
        new_cols = both[way, 0, fields - 2, at] + depth * both[way, 1, fields - 2, at]
        if has_more_cols:
            first += max(sides[1, at] * (n * batch / cores) - 1.0, 0.0) * new_cols
        later = both[way, 0, 1, at] + depth * both[way, 1, 1, at]
        rounds = np.ceil(tiles * per_core)
        total = rounds * later + first
        if ended > 0.0:
            total += min(columns, side) * ended / rows
        new_rows = both[way, 0, fields - 3, at] + depth * both[way, 1, fields - 3, at]
        if has_more_rows:
            total += max(rows * share - 1.0, 0.0) * new_rows
        if served >= 0:
            total = max(total, tiles * (both[way, 0, served, at] + depth * both[way, 1, served, at]))
        if total > least:
            continue
        # `MainMemory.fetched` and `Fetched.cycles`
        part_of_k = min(sides[4, at] / max(depth, 1.0), 1.0)
        wide = min(sides[3, at], width)
        a_near = min(sides[2, at] * side / m, 1.0) if memory[3] else part_of_k
        b_near = part_of_k if memory[4] else min(min(columns, side) * wide / width, 1.0)
        a_each, b_each = rate + opened / max(a_near * page, 1.0), rate + opened / max(b_near * page, 1.0)
        behind = both[way, 0, fields - 1, at] + depth * both[way, 1, fields - 1, at]
        idle = rounds - tiles * per_core
        by_col = wide * b_each * (depth * side) / rows
        by_row = min(sides[2, at], float(m)) * (a_each * (depth * side) / columns)
        lost = by_col * idle - max(by_col - (later + new_cols), 0.0)
        lost = max(max(lost, by_row * idle - max(by_row - (later + new_rows), 0.0)), 0.0)
        fixed = b_each * (width * depth * matrices) + behind
        total = max(total, a_each * (depth * matrices) * float(m) + fixed + lost)
        if far >= 0 and total <= least:
            total = hypot(total, tiles * (both[way, 0, far, at] + depth * both[way, 1, far, at]))
        # Of equal estimates the first counts.
        if total < least or (total == least and at < best):
            best, least = at, total
    return best, least


@kernel(INT, BOTH, TABLE, ROWS, INT, INT, INT, FLOAT, INT, INT, INT, INT, INT, FLAG, FLAG, INT, FLOAT, FLOATS, FLOATS)
def choose_product_part(
    both: Floats,
    sides: Floats,
    whole: Ints,
    step: int,
    widest: int,
    by: int,
    limit: float,
    m: int,
    n: int,
    k: int,
    end: int,
    served: int,
    has_more_rows: bool,
    has_more_cols: bool,
    cores: int,
    per_core: float,
    memory: Floats,
    cycles: Floats,
) -> int:
    """The number of the best candidate for a part of one product whose operands lie at blocks, -1 where there is none.

    Arguments are those of `choose_product_tile`; only candidates no wider than `widest` with steps over k at L0 of `step` and
    others at L1 are of use, whose measure, which `by` tells (`By`), is below `limit`. Written to `cycles` are the measure, and
    of the one taken what it takes beside its rounds, each round, how much longer one is with columns, and with rows, that no
    core has read, and what main memory takes at least.
    """
    fields = both.shape[2]
    depth = float(k)
    best, least = -1, limit
    for at in range(end):
        if whole[2, at] >= k or whole[1, at] != step or whole[0, at] > widest or whole[3, at] < m:
            continue
        way = 1 if whole[0, at] >= n else 0
        columns = np.ceil(sides[1, at] * (n - TINY))
        rows = np.ceil(sides[0, at] * (m - TINY))
        tiles = columns * rows
        later = both[way, 0, 1, at] + depth * both[way, 1, 1, at]
        if tiles * per_core * later >= least:
            continue
        new_cols = both[way, 0, fields - 2, at] + depth * both[way, 1, fields - 2, at]
        new_rows = both[way, 0, fields - 3, at] + depth * both[way, 1, fields - 3, at]
        first = both[way, 0, 0, at] + depth * both[way, 1, 0, at]
        if has_more_cols:
            first += max(sides[1, at] * (n / cores) - 1.0, 0.0) * new_cols
        rounds = np.ceil(tiles * per_core)
        total = rounds * later + first
        if has_more_rows:
            total += max(rows * (1 / cores) - 1.0, 0.0) * new_rows
        if served >= 0:
            total = max(total, tiles * (both[way, 0, served, at] + depth * both[way, 1, served, at]))
        # `MainMemory.fetched`, without what is lost in a last round.
        part_of_k = min(sides[4, at] / max(depth, 1.0), 1.0)
        a_near = min(sides[2, at] * float(cores) / m, 1.0) if memory[3] else part_of_k
        wide = min(sides[3, at], float(n))
        b_near = part_of_k if memory[4] else min(min(columns, float(cores)) * wide / float(n), 1.0)
        a_each = memory[0] + memory[1] / max(a_near * memory[2], 1.0)
        b_each = memory[0] + memory[1] / max(b_near * memory[2], 1.0)
        behind = both[way, 0, fields - 1, at] + depth * both[way, 1, fields - 1, at]
        fetched = a_each * depth * float(m) + (b_each * (float(n) * depth) + behind)
        measure = rounds * later
        if by == By.TAILED:
            taken, least_rounds = np.floor(tiles * per_core) * cores, np.inf
            for across in (columns, rows):
                lines = np.floor((taken + TINY) / across)
                if lines >= 1.0:
                    left = (tiles - lines * across) * per_core * TAIL + TAIL_LEAST
                    least_rounds = min(least_rounds, np.ceil(lines * across * per_core) + left)
            measure = max(total + (least_rounds - rounds) * later, fetched)
        if measure < least:
            best, least = at, measure
            cycles[1], cycles[2], cycles[3] = total - rounds * later, later, new_cols
            cycles[4], cycles[5] = new_rows, fetched
    cycles[0] = least
    return best
