"""Costs of candidates of a product's tile, made once for each interval of k and each way in which operands lie."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from math import inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.candidates import Candidates, Interval
from npuvm.compiler.cube.core_cost import CoreCycles, CoreLoads, Layout
from npuvm.compiler.cube.costs import GRID, CandidateCosts, CostLines
from npuvm.compiler.cube.fetched import MainMemory
from npuvm.compiler.cube.levels import Table, are_finer, are_wide
from npuvm.compiler.cube.meets import Edges, Shared
from npuvm.compiler.cube.problem import ProductSizes, TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.tiles.library import Kernels
from npuvm.compiler.tiles.memory_cost import memory_cost

__all__ = ["EXACT", "CostTables", "Key", "Lines"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EXACT = 1 << 53
"""Whole numbers below this are exact as floats."""

Lines = Floats
"""`CostLines` of candidates, and behind them of the same where they are as wide as the operands."""

Key = tuple[int, int, int, int]
"""The interval of k, behind all of them those for products of many rounds; the number of the first edge n that is as wide as
the operands; and the layouts of both, as numbers."""

_LAYOUTS = tuple(Layout(*each) for each in product((False, True), repeat=3))
"""Layouts by their number."""

_TIGHT, _LINED, _OFF = (1 << len(Layout._fields) - 1 - Layout._fields.index(name) for name in ("tight", "lined", "off"))
"""What a layout's number is the sum of."""

_FIELDS = (*CoreCycles._fields, *CoreLoads._fields)
"""Costs of candidates, those of loads only where they matter."""

_LARGE, _SQUARE = 0.9, 2
"""Of the elements of the largest tile, the share that a large one has, and how many times as long as wide it may be."""

_MANY_ROUNDS = 8
"""Rounds of the largest tiles from which the last one counts less than what estimates of alike tiles are wrong by."""


class _LargeTiles(NamedTuple):
    """Edges m and n of large candidates of an interval; what a later tile costs of each of them, those with the same edges one
    after the other; and where each pair of edges begins."""

    edges: Floats
    later: CostLines
    starts: Ints


class CostTables:
    """Candidates for products of one sort on `cores` cores, by interval of k, and their costs.

    `table` and `depths` are the tiles and their accumulators, the first of them those of `kernels`, measured up to a level; all
    are of use for any rows where they `are_given`. `edges` are the heights of tiles. In products of up to `one_round` rows, or
    `one_round_wide` columns, none are new behind the first round. `few` are the most rows for which all candidates are of use.
    """

    def __init__(
        self,
        problem: TileProblem,
        cores: int,
        tiles: tuple[Table, Ints],
        kernels: Kernels | None,
        measured: str | None,
        *,
        are_given: bool,
    ) -> None:
        self._problem, self._item, self._cores = problem, problem.item, cores
        table, depths = tiles
        self.costs = CandidateCosts(problem, table, depths, kernels, measured)
        self.edges: list[int] = np.unique(table[:, 0]).tolist()
        self.few = EXACT if are_given else int(min(table[are_wide(problem, table), 0], default=EXACT))
        self._widths: list[int] = np.unique(table[:, 1]).tolist()
        self.one_round, self.one_round_wide = cores * self.edges[0], cores * self._widths[0]
        is_cut = not are_given and cores > 1
        useful = self.costs.useful()
        # For products of many rounds estimates say too little of what cores read again past L2; the edges that the formulas
        # were tried with do better there.
        wide = [~are_finer(problem, self.costs.table[numbers]) for numbers in useful] if is_cut else []
        self._coarser = [np.flatnonzero(each) for each in wide]
        coarser = (numbers[kept] for numbers, kept in zip(useful, self._coarser, strict=False))
        self.intervals = [self._interval(numbers) for numbers in (*useful, *coarser)]
        self._lines: dict[tuple[int, int, int], Lines] = {}
        self._candidates: dict[Key, Candidates] = {}
        self._costed: dict[tuple[int, int, int], tuple[Interval, Lines, tuple[int, int]]] = {}
        self._large: dict[tuple[int, int, int, int], _LargeTiles] = {}
        chip = problem.chip
        memory = chip.memory
        self._line_bytes = memory.l2.line_bytes
        self._flipped = problem.a.flipped, problem.b.flipped
        self._per_l2 = 1 / float(chip.l2_bytes_per_cycle)
        self._is_l2_slow = cores * chip.core.load.l1_bytes_per_cycle > chip.l2_bytes_per_cycle
        self._are_lines_alike = memory.address_hash and not self._is_l2_slow
        self.shared = None if memory.address_hash else Shared(problem, cores)
        self.memory = MainMemory(problem, cores)
        # Past L2 a line is read whole.
        self._per_line = memory_cost(chip).per_line
        self._many = _MANY_ROUNDS * cores * chip.capacity_bytes("l0c") / problem.acc_item if is_cut else inf
        self.bounds = tuple(self._bound_fields(is_off) for is_off in (False, True))
        # Where reads off blocks are kept as others are, only lines count.
        self._off = _OFF if memory.l2.unaligned_reads == "uncached" else 0
        ways = (_LINED,) if self._are_lines_alike else (0, _LINED)
        self._ways = (*ways, ways[0] + self._off) if self._off else ways
        self._dense = tuple(each + _TIGHT for each in self._ways)
        for a, b in product(self._dense, repeat=2):
            self._prepare_lines(a, b)

    def key(self, sizes: ProductSizes, *, finer: bool = False) -> Key:
        """What `useful_at` is asked with."""
        at, a, b = self.layouts(sizes, finer=finer)
        return at, bisect_left(self._widths, sizes.n), a, b

    def has_many_rounds(self, sizes: ProductSizes) -> bool:
        """Whether candidates of a product are the coarser ones, unless the `finer` ones are asked for."""
        return sizes.m * sizes.n * sizes.batch > self._many

    def layouts(self, sizes: ProductSizes, *, finer: bool = False) -> tuple[int, int, int]:
        """Which candidates are for k, and how the operands lie.

        Where L2 is fast and its lines are spread, how rows lie in lines is of no matter.
        """
        m, n, k, _, a_pitch, b_pitch = sizes
        at = bisect_left(GRID, k, 1, len(GRID) - 1) - 1
        if not finer and self.has_many_rounds(sizes):
            at += len(GRID) - 1
        item, line, (is_a_flipped, is_b_flipped) = self._item, self._line_bytes, self._flipped
        # Whatever begins at lines begins at blocks.
        a = _LINED if a_pitch % line == 0 else self._off if a_pitch % BLOCK_BYTES else 0
        b = _LINED if b_pitch % line == 0 else self._off if b_pitch % BLOCK_BYTES else 0
        if self._are_lines_alike:
            a, b = a | _LINED, b | _LINED
        if a_pitch == (m if is_a_flipped else k) * item:
            a += _TIGHT
        if b_pitch == (k if is_b_flipped else n) * item:
            b += _TIGHT
        return at, a, b

    def are_off(self, a: int, b: int) -> bool:
        """Whether rows of an operand lie off the blocks of memory, where that matters."""
        return (a | b) & _OFF != 0

    def costed(self, sizes: ProductSizes, *, finer: bool = False) -> tuple[Interval, Lines, tuple[int, int]]:
        """The candidates for sizes, their costs, and where among these are what L2 serves and what is read past it."""
        key = self.layouts(sizes, finer=finer)
        found = self._costed.get(key)
        if found is None:
            at, a, b = key
            found = self._costed[key] = self.intervals[at], self.lines_at(at, a, b), self.bounds[self.are_off(a, b)]
        return found

    def large(self, sizes: ProductSizes, l0_k: int) -> Floats:
        """Large tiles with steps over k at L0 of `l0_k`: their edges m and n, and the cycles of a core for each but its first.

        They have about as many elements as there can be, and are not far from square.
        """
        edges, later, starts = self._large_at(*self.layouts(sizes, finer=True), l0_k)
        return np.concatenate([edges, np.minimum.reduceat(later.at(sizes.k), starts, axis=1)])

    def _large_at(self, at: int, a: int, b: int, l0_k: int) -> _LargeTiles:
        found = self._large.get((at, a, b, l0_k))
        if found is None:
            found = self._large[at, a, b, l0_k] = _large_tiles(self.intervals[at], self.lines_at(at, a, b), l0_k)
        return found

    @cached_property
    def large_edges(self) -> list[Floats]:
        """The edges of all large tiles, each once; these are made for operands whose rows begin at lines, for all intervals."""
        made: dict[bytes, Floats] = {}
        for at in range(len(GRID) - 1):
            steps = np.unique(self.intervals[at].whole[1][_are_large(self.intervals[at])])
            for l0_k in steps.tolist():
                edges = self._large_at(at, _LINED, _LINED, int(l0_k)).edges
                made[edges.tobytes()] = edges
        return list(made.values())

    def useful_at(self, key: Key) -> Candidates:
        """The candidates of use for an interval of k."""
        found = self._candidates.get(key)
        if found is None:
            at, wide, a, b = key
            found = self._candidates[key] = self._made(self.intervals[at], self.lines_at(at, a, b), wide, a, b)
        return found

    def every(self, sizes: ProductSizes) -> Candidates:
        """All tiles, also those that are never the best."""
        at, wide, a, b = self.key(sizes)
        interval = self._interval(np.arange(len(self.costs.table)))
        (lines,) = self._with_bounds([at % (len(GRID) - 1)], [interval], a, b)
        return self._made(interval, lines, wide, a, b)

    def lines_at(self, at: int, a: int, b: int) -> Lines:
        """Costs of the candidates of use in an interval."""
        found = self._lines.get((at, a, b))
        if found is None:
            if at < len(GRID) - 1:
                (found,) = self._with_bounds([at], [self.intervals[at]], a, b)
            else:
                at_all = at - len(GRID) + 1
                found = self._coarse(at_all, self.lines_at(at_all, a, b))
            self._lines[at, a, b] = found
        return found

    def _coarse(self, at: int, lines: Lines) -> Lines:
        """Of costs in an interval those of candidates for many rounds."""
        return lines.take(self._coarser[at], axis=3)

    def prepare(self) -> None:
        """Make what operands need whose rows follow each other or are copied, where there are few ways to lie."""
        if self._are_lines_alike:
            for a, b in product((*self._dense, _LINED), repeat=2):
                self._prepare_lines(a, b)

    def prepare_parts(self) -> None:
        """The same for parts of k of operands whose rows follow each other; those of parts are cut where they lie along k."""
        if len(self._ways) < 3:
            sides = self._flipped[0], not self._flipped[1]
            for a, b in product(*(self._dense if along else self._ways for along in sides)):
                self._prepare_lines(a, b)

    def _interval(self, numbers: Ints) -> Interval:
        table = self.costs.table[numbers]
        ends = np.searchsorted(table[:, 0], self.edges, side="right").tolist()
        tiles = np.column_stack([table[:, [0, 1, 2, 5]], self.costs.depths[numbers]]).tolist()
        m, n, k = table[:, :3].T.astype(np.float64)
        sides = np.stack([1.0 / m, 1.0 / n, m, n, k])
        edges = Edges(m, n, k, sides[0], sides[1])
        most = np.where(are_wide(self._problem, table) & (self.few < EXACT), table[:, 0], EXACT)
        whole = np.stack([*table[:, [1, 5, 2]].T, most])
        return Interval(numbers, tiles, [*ends, len(table)], whole, sides, edges)

    def _made(self, interval: Interval, both: Lines, wide: int, a: int, b: int) -> Candidates:
        plain, covering = both
        if wide < len(self._widths):
            plain = np.where(interval.whole[0] >= self._widths[wide], covering, plain)
        is_off = self.are_off(a, b)
        (served, far), loads = self.bounds[is_off], len(self._fields(is_off)) - len(CoreLoads._fields)
        return Candidates(
            *(interval, CostLines(plain), served, far, self._cores, self.one_round_wide, loads),
            *(self.memory, self.shared),
        )

    def _prepare_lines(self, a: int, b: int) -> None:
        """Costs for all intervals, in less time than one after the other."""
        if (0, a, b) not in self._lines:
            first = self.intervals[: len(GRID) - 1]
            lines = self._with_bounds(range(len(first)), first, a, b)
            lines += [self._coarse(at, each) for at, each in enumerate(lines[: len(self._coarser)])]
            self._lines.update({(at, a, b): each for at, each in enumerate(lines)})

    def _with_bounds(self, at: Sequence[int], intervals: Sequence[Interval], a: int, b: int) -> list[Lines]:
        """Costs in cycles, by interval."""
        fields = self._fields(self.are_off(a, b))
        per = np.array((1.0, 1.0, self._per_l2, self._per_line, 1.0, 1.0, *(1.0 for _ in CoreLoads._fields)))[fields]
        counts = [len(interval.numbers) for interval in intervals]
        numbers = np.concatenate([interval.numbers for interval in intervals])
        plain, covering = self.costs.lines(np.repeat(at, counts), numbers, (_LAYOUTS[a], _LAYOUTS[b]))
        both = np.stack([each.times(fields, per).coefficients for each in (plain, covering)])
        return [np.ascontiguousarray(each) for each in np.split(both, np.cumsum(counts)[:-1], axis=3)]

    def _fields(self, is_off: bool) -> list[int]:
        """Fields of costs that matter for operands of which one is off blocks or none: of cores, and of memory that is slow."""
        is_shared = self.shared is not None
        wanted = (
            True,
            True,
            self._is_l2_slow and not is_shared,
            is_off,
            not is_shared,
            not is_shared,
            *(is_shared or each == "behind" for each in CoreLoads._fields),
        )
        return [at for at, each in enumerate(wanted) if each]

    def _bound_fields(self, is_off: bool) -> tuple[int, int]:
        """Where among these are what L2 serves and what is read past it; -1 where they do not matter."""
        fields = [_FIELDS[at] for at in self._fields(is_off)]
        served, far = (fields.index(name) if name in fields else -1 for name in ("served", "far"))
        return served, far


def _are_large(interval: Interval) -> npt.NDArray[np.bool_]:
    """Which candidates are large, and not far from square."""
    m, n = interval.edges.m, interval.edges.n
    large: npt.NDArray[np.bool_] = m * n >= _LARGE * (m * n).max()
    return large & (np.maximum(m, n) <= _SQUARE * np.minimum(m, n))


def _large_tiles(interval: Interval, lines: Lines, l0_k: int) -> _LargeTiles:
    """The large candidates with steps over k at L0 of `l0_k`."""
    m, n = interval.edges.m, interval.edges.n
    numbers = np.flatnonzero(_are_large(interval) & (interval.whole[1] == l0_k))
    edges = np.stack([m[numbers], n[numbers]])
    starts = np.flatnonzero((np.diff(edges, prepend=0.0) != 0).any(axis=0))
    return _LargeTiles(np.ascontiguousarray(edges[:, starts]), CostLines(lines[0][:, 1:2, numbers]), starts)
