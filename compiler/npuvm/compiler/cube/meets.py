"""What cores take together where rows of operands meet in few slices of L2 and few channels of main memory.

A chip that spreads no addresses serves rows whose pitch is a multiple of the interleave from the parts of memory that a step
over k reaches: all cores are at the same k, so such parts serve them one after the other while others wait. What is read for
the first time comes from main memory, on one core also what L2 did not keep; the rest comes from L2. Cores are not done with a
step at one time, so what one operand waits for hides the other's; the one engine of one core loads both in turn. So do many
cores where L2 serves rows of the left operand so slowly that all are done with them at about one time.
"""

from __future__ import annotations

from math import ceil, gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.core_cost import CoreLoads
from npuvm.compiler.cube.problem import ProductSizes, TileProblem

__all__ = ["APART", "EXPOSED", "IN_TURN", "PLACED", "TINY", "Edges", "Met", "MetByCores", "Shared", "begun_in"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PLACED = 512
"""Tensors begin at multiples of so many bytes, the compiler knows no more of where."""

EXPOSED = 0.5
"""Share of a core's loads of the right operand that what all wait for of the left one does not hide, seen in simulated runs."""

IN_TURN = 0.7
"""Share of what all wait for of the left operand in L2 that comes on top of loads of the right one, seen in simulated runs."""

APART = 8.0
"""How many times as long as from all slices reads of L2 take at most: cores that wait longer get apart, to other slices."""

TINY = 1e-4
"""Less than what a quotient of whole numbers can be off, and far less than one."""


class Edges(NamedTuple):
    """Edges m and n of candidates and their k at L1, and the inverses of m and n."""

    m: Floats
    n: Floats
    k: Floats
    per_m: Floats
    per_n: Floats


class Met(NamedTuple):
    """Cycles of candidates for products that differ in m, by rows of tiles.

    `each` for every row, `bands` for every so many rows as `per_band` is the inverse of, but once at least; `fixed` for all.
    `first` and `later` are cycles where L2 has what a later tile reads.
    """

    fixed: Floats
    each: Floats
    per_band: Floats
    bands: Floats
    per_m: Floats
    first: Floats
    later: Floats
    cols: Floats

    def cycles(self, m: int, end: int) -> Floats:
        """Cycles of the first `end` candidates."""
        rows = self.per_m[:end] * (m - TINY)
        cycles: Floats = np.ceil(rows, out=rows) * self.each[:end]
        rows *= self.per_band[:end]
        np.maximum(rows, 1.0, out=rows)
        rows *= self.bands[:end]
        cycles += rows
        cycles += self.fixed[:end]
        return cycles

    def kept(self, m: int, at: int) -> float:
        """Cycles of a candidate where L2 has all that tiles behind the first one read."""
        rows = ceil(float(self.per_m[at]) * (m - TINY))
        return float(self.first[at]) + (rows * float(self.cols[at]) - 1) * float(self.later[at])


class MetByCores(NamedTuple):
    """The same for tiles that many cores share.

    `first`, `later` and `behind` are cycles of a core, `new` those of main memory for a row of tiles, in `part` of the steps
    over k: the others find their lines in L2. `beside` comes on top of it: loads of the right operand, which one engine makes
    in turn. `served` are those of L2 for a tile, where it may be too slow, `in_turn` what of them comes on top of `loaded`:
    what a core's loads take at least when they come from main memory. `stored` are cycles of L2 for the result of a tile
    where all cores are at the same columns. `cols` are
    columns of tiles of all matrices, `others` the rounds beside the first one in which columns are new, None where there are
    none. Products of up to `one_round` rows have as many rows of tiles as there are cores at most.
    """

    first: Floats
    later: Floats
    behind: Floats
    new: Floats
    part: Floats
    beside: Floats
    served: Floats | None
    in_turn: Floats | None
    stored: Floats | None
    loaded: Floats
    cols: Floats
    others: Floats | None
    batch: float
    cores: float
    one_round: float
    per_m: Floats

    def cycles(self, m: int, end: int) -> Floats:
        """Cycles of the first `end` candidates."""
        rows = self.per_m[:end] * (m - TINY)
        loaded = self.loaded[:end]
        if self.in_turn is not None:
            loaded = loaded + np.minimum(rows * self.cols[:end], self.cores) * self.in_turn[:end]
        tiles = np.ceil(rows, out=rows) * self.cols[:end]
        stored = None
        if self.stored is not None:
            # Where cores have whole rows of tiles, all begin in the same column.
            stored = np.where(rows * self.batch % self.cores == 0, tiles, 0.0) * self.stored[:end]
        rounds = tiles * ((1 - 1e-9) / self.cores)
        np.ceil(rounds, out=rounds)
        later = self.later[:end]
        if self.served is not None:
            # All that L2 serves, spread over the rounds.
            served: Floats = np.divide(tiles, rounds, out=tiles)
            served *= self.served[:end]
            later = np.maximum(served, later, out=served)
        if self.batch != 1:
            rows *= self.batch
        new = np.minimum(rows, self.cores)
        new *= self.new[:end]
        # What waits in some steps does not hide the work of the others.
        new += self.beside[:end]
        within = later * self.part[:end]
        np.maximum(new, within, out=new)
        new += later
        new -= within
        cycles: Floats = np.maximum(new, loaded)
        cycles += self.behind[:end]
        np.maximum(cycles, self.first[:end], out=cycles)
        rounds -= 1.0
        rounds *= later
        cycles += rounds
        if self.others is not None:
            cycles += np.maximum(self.loaded[:end] - later, 0.0) * self.others[:end]
        if stored is not None:
            np.maximum(cycles, stored, out=cycles)
        if m > self.one_round:
            # Rows beside those of the first round, in which the left operand is new.
            rows *= 1 / self.cores
            rows -= 1.0
            np.maximum(rows, 0.0, out=rows)
            new -= later
            rows *= new
            cycles += rows
        return cycles

    def kept(self, m: int, at: int) -> float:
        """Cycles of a candidate where L2 has all that tiles behind the first one read."""
        tiles = ceil(float(self.per_m[at]) * (m - TINY)) * float(self.cols[at])
        rounds = ceil(tiles * ((1 - 1e-9) / self.cores))
        served = 0.0 if self.served is None else tiles / rounds * float(self.served[at])
        later = max(float(self.later[at]), served)
        return float(self.first[at]) + (rounds - 1) * later


class _Rows(NamedTuple):
    """Rows that lie `pitch` bytes apart, and of which so many `parts` are read at one time, `step` bytes apart."""

    pitch: int
    step: int = 0
    parts: int = 1


class Shared:
    """L2 and main memory of a chip that spreads no addresses, for products of one sort on `cores` cores.

    `numbers` are for machine code: bytes of elements of operands and of the result, those of a chunk and how many are under
    way, bytes per cycle of main memory and L2, elements that L2 has room for, slots at L1, how many channels there are and how
    long, slices likewise, and whether operands are flipped.
    """

    def __init__(self, problem: TileProblem, cores: int) -> None:
        chip = problem.chip
        memory = chip.memory
        self._cores, self._item, self._out_item = cores, problem.item, problem.out_item
        self._chunk, self._outstanding = chip.core.load.chunk_bytes, chip.core.load.outstanding
        self._flipped = problem.a.flipped, problem.b.flipped
        self._hbm_rate, self._l2_rate = float(chip.hbm_bytes_per_cycle), float(chip.l2_bytes_per_cycle)
        self._room, self._line = chip.capacity_bytes("l2") / problem.item, memory.l2.line_bytes
        self._slots_at_l1 = min(problem.depth("l1.a"), problem.depth("l1.b"))
        self._channels = memory.hbm.channels, memory.hbm.interleave_bytes
        self._slices = memory.l2.slices, memory.l2.line_bytes
        rates = self._hbm_rate, self._l2_rate
        own = self._item, self._out_item, self._chunk, self._outstanding, *rates, self._room, self._slots_at_l1
        self.numbers = np.array((*own, *self._channels, *self._slices, *self._flipped), dtype=np.float64)

    def met(
        self, sizes: ProductSizes, edges: Edges, first: Floats, later: Floats, loads: CoreLoads
    ) -> Met | MetByCores:
        """Cycles of candidates for products of any m, but where rows of the left operand lie along m.

        `first` and `later` are cycles of a core until its first tile is done and for each later one.
        """
        batch, k = float(sizes.batch), float(max(sizes.k, 1))
        m, n = np.minimum(edges.m, sizes.m) if self._flipped[0] else edges.m, np.minimum(edges.n, sizes.n)
        per = k * self._item
        cols = np.ceil(sizes.n / edges.n - TINY)
        at_once = np.minimum(cols, self._cores)
        a_span = np.minimum(m * self._cores, sizes.m) if self._flipped[0] else np.minimum(edges.k, k)
        b_span = np.minimum(edges.k, k) if self._flipped[1] else np.minimum(at_once * n, sizes.n)
        a_row, b_row = (sizes.m if self._flipped[0] else k), (k if self._flipped[1] else sizes.n)
        # Cores that share a product along k read parts of the same rows.
        along = self._cores > 1 and sizes.batch > 1 and sizes.a_pitch == sizes.batch * per
        (a_new, a_waits, a_served), (b_new, b_waits, b_served) = (
            (
                self._waits(span * self._item, row * self._item, rows, self._channels) * (per / self._hbm_rate),
                self._waits(span * self._item, row * self._item, rows, self._slices),
                served / self._l2_rate,
            )
            for span, row, rows, served in (
                (a_span, a_row, _Rows(sizes.a_pitch, int(per) if along else 0, sizes.batch), loads.a_served),
                (b_span, b_row, _Rows(sizes.b_pitch), loads.b_served),
            )
        )
        a_new, b_new = a_new * m, b_new * n * at_once
        if self._cores == 1:
            served_of_one = a_waits * a_served, b_waits * b_served
            return self._of_one(sizes, edges, (m, n), first, later, loads, (a_new, b_new), served_of_one)
        a_served, b_served = np.minimum(a_waits, APART) * a_served, b_waits * b_served
        if sizes.n * k > self._room and not self._flipped[1]:
            # Lines that columns of a later round share are read again, where L2 has lost them until then.
            wide = self._in_lines(n, sizes.b_pitch)
            b_new = b_new * np.where((cols * batch > self._cores) & (at_once * wide * k > self._room), wide / n, 1.0)
        loaded = np.maximum(np.maximum(loads.a_new, loads.b_new), b_new)
        others = np.maximum(cols * batch / self._cores - 1, 0.0)
        served = np.maximum(a_served, b_served)
        is_slow = served * self._cores > later
        slow = np.where(is_slow, served, 0.0) if is_slow.any() else None
        in_turn, stored = None, self._stored(sizes, m, n, later)
        # Parts of k are at different places of it.
        if batch == 1 and np.any(a_waits > 1):
            in_turn = a_served * np.where((a_waits > 1) & (cols > 1), self._alone(m, np.minimum(edges.k, k)), 0.0)
        more, one_round = others if others.any() else None, self._cores * float(edges.m.min()) / batch
        part = self._part(edges.k, k)
        beside = part * loads.b_again * (EXPOSED if batch == 1 else 0.0)
        return MetByCores(
            first, later, loads.behind, a_new, part, beside, slow, in_turn, stored, loaded, cols * batch, more,
            batch, float(self._cores), one_round, edges.per_m,
        )  # fmt: skip

    def _alone(self, m: Floats, k: Floats) -> Floats:
        """The share of what is waited for of a step of the left operand in which no loads of the right one are under way.

        Half of the reads that a core has under way may be of either operand.
        """
        rows, row = (k, m) if self._flipped[0] else (m, k)
        reads = rows * np.ceil(row * self._item / self._chunk)
        alone: Floats = IN_TURN * np.maximum(1 - 0.5 * self._outstanding / reads, 0.0)
        return alone

    def _stored(self, sizes: ProductSizes, m: Floats, n: Floats, later: Floats) -> Floats | None:
        """Cycles of L2 for a tile's result where all cores are at the same columns, None where they never decide."""
        row = sizes.n * self._out_item
        waits = self._waits(n * self._out_item, row, _Rows(row), self._slices)
        if not np.any(waits > 1):
            return None
        stored = np.where(waits > 1, waits, 0.0) * m * n * (self._out_item / self._l2_rate)
        is_slow = stored * self._cores > later
        return np.where(is_slow, stored, 0.0) if is_slow.any() else None

    def _part(self, at_once: Floats, k: float) -> Floats:
        """The share of steps over k in which the left operand reads lines that no step before has read."""
        if self._flipped[0]:
            return np.ones_like(at_once)
        steps = np.ceil(k / at_once - TINY)
        return 1 / np.minimum(np.maximum(np.floor(self._line / (at_once * self._item)), 1.0), steps)

    def _of_one(
        self,
        sizes: ProductSizes,
        edges: Edges,
        tile: tuple[Floats, Floats],
        first: Floats,
        later: Floats,
        loads: CoreLoads,
        new: tuple[Floats, Floats],
        served: tuple[Floats, Floats],
    ) -> Met:
        """One core walks rows, or bands of rows of which L2 keeps the left operand (`NestChooser`)."""
        (m, n), k, room = tile, float(max(sizes.k, 1)), self._room
        cols = np.ceil(sizes.n / edges.n - TINY)
        wide = n if self._flipped[1] else self._in_lines(n, sizes.b_pitch)
        stays = (sizes.n + 2 * m) * k + sizes.n * m <= room
        band = np.where(stays, np.inf, np.floor((room - 2 * wide * k) / (m * (k + n))))
        # Where not even one row of tiles stays for the next column, each tile loads all that it needs, in whole lines.
        lost = (band <= 1) & ((wide + m) * k + n * m > room)
        a_new, b_new = np.maximum(loads.a_new, new[0]), np.maximum(loads.b_new, new[1] * np.where(lost, wide / n, 1.0))
        a_again, b_again = np.maximum(loads.a_again, served[0]), np.maximum(loads.b_again, served[1])
        # A tile of which nothing is new, one operand, and both.
        # Of columns narrower than a line only the first of those that share one finds it new, and loads it whole.
        part = np.where(lost | self._flipped[1], 1.0, np.minimum(n * (self._item / self._line), 1.0))
        known = np.maximum(later, a_again + b_again)
        new_a, new_b, new_ab = (
            np.maximum(later, np.maximum(loaded + loads.paced, (loaded + loads.held) / self._slots_at_l1))
            for loaded in (a_new + b_again, a_again + b_new / part, a_new + b_new / part)
        )
        new_b, new_ab = known + (new_b - known) * part, new_a + (new_ab - new_a) * part
        batch = float(sizes.batch)
        return Met(
            np.maximum(first, a_new + b_new + loads.behind) - new_ab,
            batch * np.where(lost, cols * new_ab, (cols - 1) * known + new_a),
            1 / np.maximum(band, 1.0),
            batch * np.where(lost, 0.0, (cols - 1) * (new_b - known) + new_ab - new_a),
            edges.per_m,
            first,
            known,
            batch * cols,
        )

    def _in_lines(self, n: Floats, pitch: int) -> Floats:
        """Elements of the lines of L2 that parts of `n` elements of a row lie in, in the mean."""
        width = n * self._item
        common = np.gcd(width.astype(np.int64), gcd(pitch, self._line))
        wide: Floats = (width + (self._line - common)) / self._item
        return wide

    def _waits(self, span: Floats, row: float, rows: _Rows, parts: tuple[int, int]) -> Floats | float:
        """How many times as long `parts`, a number of parts of memory and the bytes of each, take for `span` bytes of rows.

        Rows are `row` bytes long. Of all places where a span may begin, the mean of the longest
        part of it that lies in one part of memory decides.
        """
        count, size = parts
        begun = begun_in(rows.pitch, count, size)
        if rows.step and begun < count:
            begun = min(begun_in(gcd(rows.pitch, rows.step), count, size), begun * rows.parts)
        if begun == count:
            return 1.0
        step = np.gcd(span.astype(np.int64), gcd(size, PLACED)).astype(np.float64)
        cut = np.floor(span / step)
        longest = np.where(span >= 2 * size, size, span - step * step / size * np.floor(cut * cut / 4))
        waits: Floats = np.maximum(longest * (count / begun) / span, 1.0)
        return np.where(span >= row, 1.0, waits) if rows.pitch == row else waits


def begun_in(pitch: int, count: int, size: int) -> int:
    """In how many of `count` parts of memory rows begin that lie `pitch` bytes apart, parts of `size` bytes in turn."""
    return count // gcd(pitch // size, count) if pitch > 0 and pitch % size == 0 else count
