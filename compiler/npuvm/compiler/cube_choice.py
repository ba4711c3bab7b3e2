"""The choice among tiles of a matrix product for one shape: bounds of plain numbers say which few tiles to estimate.

A tile's edges m and n decide most of its cost. For each such pair a bound from below, over all k that it may have, takes some
forty operations; pairs are estimated in the order of their bounds until no bound is below the best estimate. The estimate is
that of `cube_cost`, as functions of plain numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube_choice_edges import Line, Slower, TileEdges
from npuvm.compiler.cube_choice_terms import Term, Value, compile_term, largest, least, parts, pick, root
from npuvm.compiler.cube_cost import LOAD_WORDS, STEP_WORDS, TILE_WORDS, VISIBLE, ProductCost, ProductSizes

__all__ = ["TileSearch"]

Ints = npt.NDArray[np.int64]

_WORTH = 1.0
"""A pair is estimated where its bound times this is below the best estimate.

More saves up to a fifth of the time, and ends four times as often at another tile than that of the lowest estimate.
"""

_ALIKE = 1.02
"""A second k at L1 is estimated where it seems to take no longer than the best times this."""

_FINER = 8
"""k at L1 is not tried in this many times as many steps as are best so far."""

_WHOLE = 1 + VISIBLE
"""A core's cycles times this are the least that a product takes."""

_HIDDEN = 1 - VISIBLE
"""Share of the slowest unit that its others' work does not add to."""

_LEAST = 1e-6
"""Cycles that a step costs at least, where a chip decodes in no time."""

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


class TileSearch:
    """Finds the tile with the lowest estimate, or one close to it, among those of a table with m and n alike at both levels."""

    def __init__(self, table: Ints, l0c_depths: Ints, cost: ProductCost) -> None:
        self._cost = cost
        m, n, k, _, _, k0 = table.T
        self._rows, row = _numbered(m)
        self._cols, col = _numbered(n)
        most = np.zeros((3, len(self._rows), len(self._cols)), dtype=np.int64)
        for at, values in enumerate((l0c_depths, k, k0)):
            np.maximum.at(most[at], (row, col), values)
        lines = np.moveaxis(most, 0, 2).tolist()
        self._pairs = [[_Pair(*pair) if any(pair) else None for pair in line] for line in lines]
        self._ks, step = _numbered(k)
        self._inner = [sorted(set(k0[step == at].tolist()), reverse=True) for at in range(len(self._ks))]
        self._edges = TileEdges(cost, self._ks)
        self.estimate = _compiled(cost)
        words = VISIBLE * cost.decode
        self._start0 = max(VISIBLE * (cost.product_start + 2 * cost.move_start) + words * STEP_WORDS, _LEAST)
        self._start1, self._start = max(words * LOAD_WORDS, _LEAST), words * TILE_WORDS
        self._bound = self._compiled_bound()
        self._out = _compiled_out(cost)

    def choose(self, sizes: ProductSizes) -> tuple[int, int, int, int, int, float]:
        """m, n, k at L1 and k at L0, the slots of the accumulator ring, and the estimate; all sizes are 1 or more."""
        estimate = self.estimate(*sizes)
        floors, latency = self._floors(sizes), self._cost.latency
        floor = sum(floors)
        best, taken = inf, (0, 0, 0, 0, 0)
        depths: list[_Depth] = []
        for bound, row, col, pair in sorted(self._bounds(sizes)):
            own = bound + latency
            if ((own if own > floor else floor) + VISIBLE * own) * _WORTH >= best:
                break
            depths = depths or self._cut(sizes, floors)
            for k, k0 in self._depths(sizes, depths, row, col, pair, best):
                cycles = estimate(row[1], col[1], k, k0, pair.depth)
                if cycles < best:
                    best, taken = cycles, (row[1], col[1], k, k0, pair.depth)
        return *taken, best

    def _floors(self, sizes: ProductSizes) -> tuple[float, float, float]:
        """Cycles that the way out and the reading of a and b take at least, whatever the tile is."""
        cost = self._cost
        m, n, k, batch, *_ = sizes
        stored = m * n * batch * cost.out_item
        rate = cost.l2 if stored <= cost.l2_capacity else min(cost.l2, cost.hbm)
        read = k * batch * cost.item / cost.hbm
        return stored / rate, m * read, n * read

    def _bounds(self, sizes: ProductSizes) -> list[tuple[float, Line, Line, _Pair]]:
        """For each pair of edges a bound of a core's cycles, and what fits beside them.

        Of pairs with the same rows and as many rounds of tiles only the first and the last are of use where each spreads as
        evenly over memory.
        """
        cost, edges = self._cost, self._edges
        along, across = edges.along, edges.across
        size_m, size_n, k, batch, a_pitch, b_pitch = sizes
        rows = (across if cost.flipped_a else along)(self._rows, size_m, k, a_pitch, cost.blocks[0], cost.move_rates[0])
        cols = (along if cost.flipped_b else across)(self._cols, size_n, k, b_pitch, cost.blocks[1], cost.move_rates[1])
        bound = self._bound(k, batch, size_n, -(-k // cost.blocks[2]))
        cores, alike, last = cost.cores, cost.hashed, len(cols) - 1
        found = []
        for row in rows:
            pairs = self._pairs[row[0]]
            cuts = row[2] * batch
            waves = 0
            for at, col in enumerate(cols):
                pair = pairs[col[0]]
                if pair is None:
                    break
                before, waves = waves, -(-cuts * col[2] // cores)
                if waves == before and alike and at < last and pairs[cols[at + 1][0]] is not None:
                    continue
                found.append((bound(*row[1:], *col[1:], *pair), row, col, pair))
        return found

    def _formula(
        self, sizes: Sequence[Value], row: Sequence[Value], col: Sequence[Value], pair: Sequence[Value]
    ) -> Value:
        """A bound of a core's cycles from below, but for the latency of memory, over all k beside a pair of edges.

        `sizes` are k, the number of matrices, n, and blocks of k. Steps cost their starts; what is not hidden of the first and
        the last step falls with them. The best number of steps lies between.
        """
        k, batch, size_n, blocks = sizes
        m, cuts_m, blocks_m, move_m, load_m, shared_m = row
        n, cuts_n, blocks_n, move_n, load_n, shared_n = col
        depth, most1, most0 = pair
        cost = self._cost
        tiles = cuts_m * cuts_n * batch
        waves, used = parts(tiles, cost.cores), least(tiles, cost.cores)
        load_a, load_b = largest(shared_m * used, load_m), largest(shared_n * used, load_n)
        run = least(cuts_m if cost.columns_first else cuts_n, tiles / used)
        run = pick(most1 >= k, run, 1.0)
        load = load_a + load_b / run if cost.columns_first else load_a / run + load_b
        out = cost.out(m, n, size_n)
        product, move = blocks_m * blocks_n * (blocks * cost.block_cycles), move_m + move_n
        moved = product + move
        product_start, move_start = cost.product_start, 2 * cost.move_start
        fewest0, fewest1 = largest(k / most0, 1.0), largest(k / most1, 1.0)
        each0, each1 = waves * self._start0, waves * self._start1
        steps0 = largest(root(moved / each0), fewest0)
        ends = each0 * steps0 + moved / steps0 - waves * fewest0 * (VISIBLE * (product_start + move_start))
        steps1 = largest(root(load / each1), fewest1)
        ends = ends + each1 * steps1 + load / steps1
        busy = product + fewest0 * product_start + pick(depth > 1, 0.0, out)
        move = move + fewest0 * move_start
        slowest = largest(largest(busy, move), largest(out, load))
        tile = (busy + move + out + load) * VISIBLE + slowest * _HIDDEN + self._start
        return waves * tile + ends + out

    def _compiled_bound(self) -> Callable[..., Callable[..., float]]:
        """The formula of the bound as a function of plain numbers, in two parts: what a shape gives, and a pair."""
        first = ["size_k", "batch", "size_n", "blocks"]
        row, col = ([f"{name}_{edge}" for name in ("own", "cuts", "blocks", "move", "load", "shared")] for edge in "mn")
        pair = ["slots", "most1", "most0"]
        terms = [[Term(name) for name in names] for names in (first, row, col, pair)]
        return compile_term(first, (*row, *col, *pair), self._formula(*terms))

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
        self, sizes: ProductSizes, depths: list[_Depth], row: Line, col: Line, pair: _Pair, limit: float
    ) -> list[tuple[int, int]]:
        """k at L1 and L0 that are likely best beside a pair of edges and take less than `limit`: one, or two that are alike."""
        _, m, cuts_m, blocks_m, move_m, port_a, shared_a = row
        _, n, cuts_n, blocks_n, move_n, port_b, shared_b = col
        slots, most1, most0 = pair
        cost, size = self._cost, sizes.k
        tiles = cuts_m * cuts_n * sizes.batch
        waves, used = -(-tiles // cost.cores), min(tiles, cost.cores)
        shared_a, shared_b = shared_a * used, shared_b * used
        run = min(cuts_m if cost.columns_first else cuts_n, tiles / used)
        out = self._out(sizes.n)(m, n)
        busy, move = blocks_m * blocks_n * -(-size // cost.blocks[2]) * cost.block_cycles, move_m + move_n
        moved = busy + move
        if slots < 2:
            busy += out
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


def _compiled_out(cost: ProductCost) -> Callable[..., Callable[..., float]]:
    """Cycles of a tile's way out as a function of the columns there are, which gives one of the tile's edges."""
    columns, m, n = Term("columns"), Term("m"), Term("n")
    return compile_term(("columns",), ("m", "n"), cost.out(m, n, columns))


def _compiled(cost: ProductCost) -> Callable[..., Callable[..., float]]:
    """The estimate as a function of the sizes, which gives one of m, n, k at L1, k at L0 and the accumulator's slots."""
    first = ("size_m", "size_n", "size_k", "batch", "a_pitch", "b_pitch")
    then = ("m", "n", "k", "k0", "slots")
    m, n, k, k0, slots = map(Term, then)
    sizes: Any = map(Term, first)
    cycles = cost.estimate(ProductSizes(*sizes), (m, n, k), (m, n, k0), slots)
    return compile_term(first, then, cycles)
