"""The choice among tiles of a matrix product for one shape: bounds of plain numbers say which few tiles to estimate.

A tile's edges m and n decide most of its cost. For each such pair a bound from below, over all k that it may have, takes some
forty operations; pairs are estimated in the order of their bounds until no bound is below the best estimate. The estimate is
that of `cube_cost`, as functions of plain numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from math import inf, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube_choice_edges import Slower, TileEdges
from npuvm.compiler.cube_choice_terms import Term, compile_term
from npuvm.compiler.cube_cost import LOAD_WORDS, STEP_WORDS, TILE_WORDS, VISIBLE, ProductCost, ProductSizes

__all__ = ["TileSearch"]

Ints = npt.NDArray[np.int64]

_WORTH = 1.03
"""A pair is estimated where its bound times this is below the best estimate: less is not worth the time."""

_ALIKE = 1.005
"""A second k at L1 is estimated where it seems to take no longer than the best times this."""

_FINER = 4
"""k at L1 is not tried in this many times as many steps as are best so far."""

_WHOLE = 1 + VISIBLE
"""A core's cycles times this are the least that a product takes."""

_HIDDEN = 1 - VISIBLE
"""Share of the slowest unit that its others' work does not add to."""


_AT_ONCE: Slower = (1.0, 1.0, 1.0)


class _Pair(NamedTuple):
    """What fits beside edges m and n: slots of the accumulator ring, the largest k at L1 and at L0."""

    depth: int
    k1: int
    k0: int


class _Depth(NamedTuple):
    """k of a tile at L1 for a k that is known: its steps, and times of the loads of a and b against those of all k at once.

    `room` is the same k before it is cut to what there is, `inner` are those at L0. The times of an operand are those of its
    own port and of L2.
    """

    room: int
    k: int
    steps: int
    a: Slower
    b: Slower
    floor: float
    inner: list[int]


_Terms = tuple[int, tuple[float, float], tuple[float, float], float, float, float, float, float]
"""Of a pair of edges: rounds of tiles; cycles of the loads of a and b, each by itself and from L2; tiles that one load serves.

Then cycles of product and move without their starts, of the product with what it waits for, of the move, and of the way out.
"""


class TileSearch:
    """Finds the tile with the lowest estimate, or one close to it, among those of a table with m and n alike at both levels."""

    def __init__(self, table: Ints, l0c_depths: Ints, cost: ProductCost) -> None:
        self._cost = cost
        m, n, k, _, _, k0 = table.T
        self._rows, row = _numbered(m)
        self._cols, col = _numbered(n)
        most = np.zeros((len(self._rows), len(self._cols), 3), dtype=np.int64)
        for at, values in enumerate((l0c_depths, k, k0)):
            np.maximum.at(most[:, :, at], (row, col), values)
        self._pairs = [[_Pair(*pair) if any(pair) else None for pair in line] for line in most.tolist()]
        self._ks, step = _numbered(k)
        self._inner = [sorted(set(k0[step == at].tolist()), reverse=True) for at in range(len(self._ks))]
        self._edges = TileEdges(cost, self._ks)
        self.estimate = _compiled(cost)
        words = VISIBLE * cost.decode
        self._start0 = VISIBLE * (cost.product_start + 2 * cost.move_start) + words * STEP_WORDS
        self._start1, self._start = words * LOAD_WORDS, words * TILE_WORDS

    def choose(self, sizes: ProductSizes) -> tuple[int, int, int, int, int, float]:
        """m, n, k at L1 and k at L0, the slots of the accumulator ring, and the estimate; all sizes are 1 or more."""
        estimate = self.estimate(*sizes)
        floors, latency = self._floors(sizes), self._cost.latency
        floor = sum(floors)
        best, taken = inf, (0, 0, 0, 0, 0)
        depths: list[_Depth] = []
        for bound, m, n, pair, terms in sorted(self._bounds(sizes)):
            own = bound + latency
            if ((own if own > floor else floor) + VISIBLE * own) * _WORTH >= best:
                break
            depths = depths or self._cut(sizes, floors)
            for k, k0 in self._depths(sizes.k, depths, pair, terms, best):
                cycles = estimate(m, n, k, k0, pair.depth)
                if cycles < best:
                    best, taken = cycles, (m, n, k, k0, pair.depth)
        return *taken, best

    def _floors(self, sizes: ProductSizes) -> tuple[float, float, float]:
        """Cycles that the way out and the reading of a and b take at least, whatever the tile is."""
        cost = self._cost
        m, n, k, batch, *_ = sizes
        stored = m * n * batch * cost.out_item
        rate = cost.l2 if stored <= cost.l2_capacity else min(cost.l2, cost.hbm)
        read = k * batch * cost.item / cost.hbm
        return stored / rate, m * read, n * read

    def _bounds(self, sizes: ProductSizes) -> list[tuple[Any, ...]]:
        """For each pair of edges a bound of a core's cycles, the edges, what fits beside them, and terms of the bound.

        Of pairs with the same rows and as many rounds of tiles only the first and the last are of use where each spreads as
        evenly over memory.
        """
        cost = self._cost
        size_m, size_n, k, batch, a_pitch, b_pitch = sizes
        line = self._edges.across if cost.flipped_a else self._edges.along
        rows = line(self._rows, size_m, k, a_pitch, cost.blocks[0], cost.move_rates[0])
        line = self._edges.along if cost.flipped_b else self._edges.across
        cols = line(self._cols, size_n, k, b_pitch, cost.blocks[1], cost.move_rates[1])
        last_col, alike = len(cols) - 1, cost.hashed
        cores, columns_first = cost.cores, cost.columns_first
        block_cycles = -(-k // cost.blocks[2]) * cost.block_cycles
        start0, start1, start = self._start0, self._start1, self._start
        fix_start, via_ub = cost.fix_start, cost.via_ub
        store_start = cost.store[0]
        product_start, move_start = cost.product_start, 2 * cost.move_start
        starts = VISIBLE * (product_start + move_start)
        words = start0 - starts
        outs = self._edges.outs([col[1] for col in cols], size_n)
        found: list[tuple[Any, ...]] = []
        add = found.append
        for row, m, cuts_m, blocks_m, move_m, load_m, shared_m in rows:
            pairs = self._pairs[row]
            cuts_m *= batch
            block_row = blocks_m * block_cycles
            waves = 0
            for at, (col, n, cuts_n, blocks_n, move_n, load_n, shared_n) in enumerate(cols):
                pair = pairs[col]
                if pair is None:
                    break
                tiles = cuts_m * cuts_n
                before = waves
                if tiles < cores:
                    waves, used = 1, tiles
                else:
                    waves, used = -(-tiles // cores), cores
                if waves == before and alike and at < last_col and pairs[cols[at + 1][0]] is not None:
                    continue
                depth, k1, k0 = pair
                shared_a, shared_b = shared_m * used, shared_n * used
                load_a = shared_a if shared_a > load_m else load_m
                load_b = shared_b if shared_b > load_n else load_n
                run: float = 1
                if k1 >= k:
                    run = tiles / used
                    if columns_first:
                        run = cuts_m if cuts_m < run else run
                        load = load_a + load_b / run
                    else:
                        run = cuts_n if cuts_n < run else run
                        load = load_a / run + load_b
                else:
                    load = load_a + load_b
                busy = block_row * blocks_n
                move = move_m + move_n
                moved = busy + move
                fixed, stored = outs[at]
                out = fix_start + m * fixed
                if via_ub:
                    stored = store_start + m * stored
                    out = stored if stored > out else out
                if depth < 2:
                    busy += out
                terms = waves, (load_m, shared_a), (load_n, shared_b), run, moved, busy, move, out
                # Steps cost their starts; what is not hidden of the first and the last falls with them. The best lies between.
                steps = k / k0 if k > k0 else 1.0
                each = waves * start0
                if each * steps * steps < moved:
                    ends = 2 * sqrt(moved * each) - waves * steps * starts
                else:
                    ends = waves * steps * words + moved / steps
                busy += steps * product_start
                move += steps * move_start
                steps = k / k1 if k > k1 else 1.0
                each = waves * start1
                if each * steps * steps < load:
                    ends += 2 * sqrt(load * each)
                else:
                    ends += each * steps + load / steps
                slowest = busy if busy > move else move
                if slowest < out:
                    slowest = out
                if slowest < load:
                    slowest = load
                tile = VISIBLE * (busy + move + out + load) + start + _HIDDEN * slowest
                add((waves * tile + ends + out, m, n, pair, terms))
        return found

    def _cut(self, sizes: ProductSizes, floors: tuple[float, float, float]) -> list[_Depth]:
        """Every number of steps that k can take at L1, with the smallest tile for it, fewest steps first."""
        k, cost = sizes.k, self._cost
        ks, inners = self._ks, self._inner
        out, read_a, read_b = floors
        last = bisect_left(ks, k)
        cuts: list[tuple[int, int]] = []
        before = 1
        for at in range(last - 1, -1, -1):
            steps = -(-k // ks[at])
            if steps == before:
                cuts.pop()
            before = steps
            cuts.append((at, steps))
        along_a = None if cost.flipped_a else self._edges.slower(cuts, k, sizes.a_pitch)
        along_b = self._edges.slower(cuts, k, sizes.b_pitch) if cost.flipped_b else None
        found: list[_Depth] = []
        if last < len(ks):
            floor = out + read_a / (along_a[0] if along_a else 1.0) + read_b / (along_b[0] if along_b else 1.0)
            found += [_Depth(room, k, 1, _AT_ONCE, _AT_ONCE, floor, inner) for room, inner in self._whole(last, k)]
        for place, (at, steps) in enumerate(cuts):
            room = ks[at]
            a = b = (steps * room / k, steps * room / k, 1.0)
            if along_a is not None:
                a = along_a[1][place]
            if along_b is not None:
                b = along_b[1][place]
            found.append(_Depth(room, room, steps, a, b, out + read_a * a[2] + read_b * b[2], inners[at]))
        return found

    def _whole(self, at: int, k: int) -> Iterator[tuple[int, list[int]]]:
        """Tiles at L1 for all of k that differ in the steps at L0."""
        seen: set[int] = set()
        for room, inner in zip(self._ks[at:], self._inner[at:], strict=True):
            if room >= 2 * k and seen:
                break
            new = {-(-k // k0): k0 for k0 in inner if room - k0 < k and -(-k // k0) not in seen}
            if new:
                seen.update(new)
                yield room, list(new.values())

    def _depths(
        self, size: int, depths: list[_Depth], pair: _Pair, terms: _Terms, limit: float
    ) -> list[tuple[int, int]]:
        """k at L1 and L0 that are likely best beside a pair of edges: one, or two that are alike."""
        _, most1, most0 = pair
        waves, (port_a, shared_a), (port_b, shared_b), run, moved, busy, move, out = terms
        cost = self._cost
        product_start, move_start = cost.product_start, 2 * cost.move_start
        start0, start1 = waves * self._start0, waves * self._start1
        visible, hidden = VISIBLE * waves, _HIDDEN * waves
        base = cost.latency + out + waves * (VISIBLE * (busy + move + out) + self._start)
        run_a, run_b = (1.0, run) if cost.columns_first else (run, 1.0)
        best, second = (limit * _ALIKE, 0, 0), (inf, 0, 0)
        enough = limit * _ALIKE
        finest = inf
        for room, k, steps, (slower_a, more_a, _), (slower_b, more_b, _), floor, inner in depths:
            if room > most1:
                continue
            if steps > finest:
                break
            a, own = port_a * slower_a, shared_a * more_a
            if own > a:
                a = own
            b, own = port_b * slower_b, shared_b * more_b
            if own > b:
                b = own
            load = a / run_a + b / run_b if steps == 1 else a + b
            slowest = load if load > out else out
            cycles = base + visible * load + load / steps + start1 * steps + hidden * slowest
            if cycles * _WHOLE >= enough:
                continue
            fewest, taken = inf, 0
            for k0 in inner:
                if k0 <= most0:
                    steps0 = -(-size // k0)
                    ends = start0 * steps0 + moved / steps0
                    slower, own = busy + product_start * steps0, move + move_start * steps0
                    if own > slower:
                        slower = own
                    if slower > slowest:
                        ends += hidden * (slower - slowest)
                    if ends > fewest:
                        break
                    fewest, taken = ends, k0
            if taken:
                cycles += fewest
                cycles = VISIBLE * cycles + (cycles if cycles > floor else floor)
                if cycles < best[0]:
                    best, second = (cycles, k, taken), best
                    enough, finest = cycles * _ALIKE, steps * _FINER
                elif cycles < second[0]:
                    second = cycles, k, taken
        return [(k, min(k0, size)) for cycles, k, k0 in (best, second) if k and cycles < enough]


def _numbered(values: Ints) -> tuple[list[int], Ints]:
    """The different values in order, and the number of each one among them."""
    found, numbers = np.unique(values, return_inverse=True)
    return found.tolist(), numbers.ravel()


def _compiled(cost: ProductCost) -> Callable[..., Callable[..., float]]:
    """The estimate as a function of the sizes, which gives one of m, n, k at L1, k at L0 and the accumulator's slots."""
    first = ("size_m", "size_n", "size_k", "batch", "a_pitch", "b_pitch")
    then = ("m", "n", "k", "k0", "slots")
    m, n, k, k0, slots = map(Term, then)
    sizes: Any = map(Term, first)
    cycles = cost.estimate(ProductSizes(*sizes), (m, n, k), (m, n, k0), slots)
    return compile_term(first, then, cycles)
