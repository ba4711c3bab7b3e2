"""Tile choice of a vector segment in a few evaluations of plain numbers: what a new shape pays for.

The tiles that fit UB are grown from the chip's levels without any shape (`vector.levels`). A shape cuts those that are larger
than it is, spreads what is left evenly over the cores, and takes the lowest estimate; along each dim the search goes from
large tiles to smaller ones, and ends where the estimate has risen twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from math import inf
from typing import NamedTuple

from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.native.loading import loaded
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.cost import Estimate, TileCost
from npuvm.compiler.vector.levels import LANES, highest_tiles, row_unit, vector_levels
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.native import TOO_LARGE, NativeSearch
from npuvm.compiler.vector.space import Space
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = [
    "ALL_ROWS",
    "HALVES",
    "LINES",
    "LONG",
    "MANY",
    "PATIENCE",
    "STEPS",
    "TALL",
    "WAVES",
    "Choice",
    "TileChooser",
    "without_single",
]

_FAIR_CORES = 48
"""Cores that decisions between ways to reduce are made for, whatever chip and pins have, so that sums have one order.

There are fewer where main memory is slow: four times those that tiles are chosen for.
"""

_FED = 2
"""Tiles along reduced dims are chosen for this many times the cores whose loads main memory keeps up with."""

WAVES = (0.5, 1.0, 2.0, 3.0, 4.0, 8.0, 16.0)
"""Tiles for each core that are tried, as long as the estimate falls; less than one where all cores read the same rows."""

LONG, LINES = 1024, 256
"""Columns from so many on come in multiples of a line of L2, 512 bytes of fp16."""

HALVES = (1, 2, 4, 8, 16, 32)
"""Tiles along columns that are tried for each core or each of those that must be, as long as the estimate falls."""

STEPS = (4096, 1024, 256, 64, 16, 4, 1)
"""Sizes of a tile along a reduced dim that are tried, as long as the estimate falls."""


MANY = 256
"""Rows over which bytes of a tile are compared."""

_KEPT_WIDTHS = 1024

ALL_ROWS = 1 << 62
"""More rows than there are."""

PATIENCE = 1
"""Widths that are no better, behind which one may still be."""

TALL = 16
"""Rows that a tile has at least where many rows are reduced, as long as there is room for 64 columns of them."""


class Choice(NamedTuple):
    """A tile, and the cycles that the launch is estimated to take with it."""

    cycles: float
    rows: int
    cols: int


class TileChooser:
    """Chooses tiles for one tile program, for any sizes of its space."""

    def __init__(self, space: Space, program: VecProgram, storage: Storage, chip: NpuConfig, isa: Isa) -> None:
        self._row, self._col = space.row, space.col
        self._row_reduced = space.row is not None and space.reduced[space.row]
        self._col_reduced = space.reduced[space.col]
        self._whole = space.whole
        self.walks = not space.whole and (self._row_reduced or self._col_reduced)
        self._kept = tuple(dim for dim in space.others if not space.reduced[dim])
        self._cores = chip.cores_with("vector")
        self._fed = max(1, int(_FED * chip.hbm_bytes_per_cycle / chip.core.load.ub_bytes_per_cycle))
        self._fair = min(_FAIR_CORES, 4 * self._fed)
        self._capacity = chip.capacity_bytes("ub")
        self._cost = TileCost(space, program, chip, isa, self._cores, storage.depth)
        rows, cols = SymInt.variable("rows"), SymInt.variable("cols")
        self.nbytes: Function = compile_values(("rows", "cols"), (storage.nbytes(rows, cols),), "nbytes")
        self._crowded = any(not space.has(each.node, space.row) for each in space.reads)
        self.levels = vector_levels(space)
        self.unit = row_unit(space, chip)
        self._grow = partial(highest_tiles, space, self.nbytes, chip)
        native = loaded()
        self._make_native = native and partial(NativeSearch.of, native, space, self._cost, storage, self.unit)
        self.native: NativeSearch | None = None
        self._heights: dict[int, int] = {}
        self._widths: dict[int, tuple[int, int]] = {}

    def choose(self, sizes: Sequence[int], edge: int = 0, cores: int | None = None) -> Choice | None:
        """The tile with the lowest estimate among those tried; None when not even the smallest fits.

        `edge` is the size of the tile along the reduced dim that is walked; 0 for the best for any number of cores.
        """
        cores = cores or self._cores
        edge = edge if self.walks else 0
        if self.native is not None:
            found = self.native.choose(sizes, cores, edge)
            if found is not TOO_LARGE:
                return found and Choice(*found)
        if self.walks:
            edge = edge or self.walked(sizes)
            if not edge:
                return None
        return self._searched(sizes, cores, edge, self._cost.of(sizes, cores))

    def estimate(self, sizes: Sequence[int]) -> Estimate:
        """Cycles of the launch for rows and columns of a tile on the chip's cores."""
        return self._cost.of(sizes, self._cores)

    def fits(self, rows: int, cols: int) -> bool:
        """Whether UB has room for the buffers of such a tile."""
        return bool(self.nbytes(rows, cols)[0] <= self._capacity)

    def fair(self, sizes: Sequence[int], edge: int = 0) -> Choice | None:
        """The tile for a number of cores that is not the chip's: what its estimate decides is decided alike for any number."""
        return self.choose(sizes, edge, self._fair)

    def walked(self, sizes: Sequence[int]) -> int:
        """The size of a tile along the reduced dim that is walked, whatever the number of cores; 0 when no tile fits."""
        found = self._searched(sizes, self._fed, 0, self._cost.of(sizes, self._fed))
        return 0 if found is None else self.edge(found)

    def of_fair(self, sizes: Sequence[int], fair: Choice) -> Choice:
        """What `choose` gives for these sizes, where `fair` is known of them."""
        if self._cores == self._fair:
            return fair
        found = self.choose(sizes, self.edge(fair))
        assert found is not None, "which tiles fit does not depend on the number of cores"
        return found

    def fair_cycles(self, sizes: Sequence[int], choice: Choice) -> float:
        """The estimate on the number of cores of `fair` for what was chosen for these sizes."""
        found = choice if self._cores == self._fair else self.fair(sizes, self.edge(choice))
        return (found or choice).cycles

    def edge(self, choice: Choice) -> int:
        """The size of a tile along the reduced dim that is walked; 0 where there is none."""
        return (choice.rows if self._row_reduced else choice.cols) if self.walks else 0

    def longest(self, sizes: Sequence[int]) -> tuple[int, int]:
        """The most elements along the reduced dim that a tile has room for, and how many it then has along the other."""
        if self._col_reduced:
            return self._widest(1 if self._row is None else min(self.unit, sizes[self._row]), sizes[self._col]), 1
        assert self._row is not None
        cols = self._widest(min(TALL, sizes[self._row]), sizes[self._col])
        return (self._most_rows(sizes[self._row], cols), cols) if cols else (0, 0)

    def tried(self, sizes: Sequence[int], cores: int, edge: int = 0) -> list[Choice]:
        """The tiles that are held against each other, in the order of the search; see `choose`."""
        found: list[Choice] = []
        if self.walks and not edge:
            edge = self.walked(sizes)
            if not edge:
                return found
        estimate = self._cost.of(sizes, cores)

        def noted(rows: int, cols: int) -> float:
            cycles = estimate(rows, cols)
            found.append(Choice(cycles, rows, cols))
            return cycles

        self._searched(sizes, cores, edge, noted)
        return found

    def _searched(self, sizes: Sequence[int], cores: int, edge: int, estimate: Estimate) -> Choice | None:
        total_rows = 1 if self._row is None else sizes[self._row]
        total_cols = sizes[self._col]
        kept = 1
        for dim in self._kept:
            kept *= sizes[dim]
        known: tuple[int, ...] | None = None
        if self._row_reduced and (edge or self._whole):
            # What fits beside the most columns fits beside fewer.
            known = (edge or total_rows,)
        best_cycles, best_rows, best_cols, worse = inf, 0, 0, 0
        for wide in self._col_candidates(total_rows, total_cols, kept, cores, edge):
            least, high = inf, 0
            for rows in known or self._row_candidates(total_rows, total_cols, kept, wide, cores):
                cycles = estimate(rows, wide)
                if cycles >= least:
                    break
                least, high = cycles, rows
            if not high:
                continue
            if least < best_cycles:
                best_cycles, best_rows, best_cols, worse = least, high, wide, 0
            elif worse == PATIENCE:
                break
            else:
                worse += 1
        return Choice(best_cycles, best_rows, best_cols) if best_rows else None

    def least_bytes(self, sizes: Sequence[int]) -> int:
        """Bytes of UB for the smallest tile."""
        rows = sizes[self._row] if self._row is not None and self._whole and self._row_reduced else 1
        return int(self.nbytes(rows, sizes[self._col] if self._whole and self._col_reduced else 1)[0])

    # Candidates.

    def _col_candidates(self, total_rows: int, total: int, kept: int, cores: int, edge: int) -> Iterator[int]:
        least_rows = total_rows if self._whole and self._row_reduced else min(self.unit, total_rows)
        if edge and self._row_reduced:
            least_rows = edge
        elif edge:
            yield edge
            return
        if self._whole and self._col_reduced:
            # Where a unit of rows does not fit, fewer may.
            if self.fits(least_rows if self._row_reduced else 1, total):
                yield total
            return
        widest = self._widest(least_rows, total)
        if not widest:
            return
        if self._col_reduced:
            yield widest
            yield from (step for step in STEPS if step < widest)
            return
        tiles = kept if self._row_reduced or self._row is None else kept * total_rows
        fewest = -(-total // widest)
        last = 0
        for waves in HALVES:
            # With enough rows for all cores, columns are cut in as many parts as rounds would be.
            even = waves * cores // tiles if self._row_reduced else -(-waves * cores // tiles)
            parts = max(even, fewest * waves)
            part = -(-total // parts)
            step = LANES if part < LONG else LINES
            wide = min(widest, -(-part // step) * step)
            least = wide <= LANES
            if self._row_reduced:
                wide = without_single(total, wide)
            if wide != last:
                yield wide
            if least:
                return
            last = wide

    def most_cols(self, sizes: Sequence[int], room: int) -> int:
        """No fewer columns than `longest` has where UB has so many bytes."""
        assert self._row is not None
        rows, total = min(TALL, sizes[self._row]), sizes[self._col]
        base = self.nbytes(rows, LANES)[0]
        slope = (self.nbytes(rows, 65 * LANES)[0] - base) / 64
        return min(total, (2 + max(int((room - base) / slope), 0)) * LANES)

    def _widest(self, rows: int, total: int) -> int:
        """The most columns that fit with so many rows; whole lanes where not all do."""
        if self.nbytes(rows, total)[0] <= self._capacity:
            return total
        most = self._widths.get(rows)
        if most is None:
            if len(self._widths) >= _KEPT_WIDTHS:
                self._widths.clear()
            most = self._widths[rows] = self._most_lanes(rows)
        start, found = most
        return found if total // LANES >= start else self._lanes_from(rows, total // LANES) * LANES

    def _most_lanes(self, rows: int) -> tuple[int, int]:
        """Columns for so many rows where there is no end of them, and how many lanes there are at least then."""
        base = self.nbytes(rows, LANES)[0]
        if base > self._capacity:
            return 0, self._narrow(rows)
        slope = (self.nbytes(rows, 65 * LANES)[0] - base) / 64
        start = 1 + int((self._capacity - base) / slope)
        return start, self._lanes_from(rows, start) * LANES

    def _lanes_from(self, rows: int, lanes: int) -> int:
        """The first number of lanes that fits, from `lanes` on down."""
        while lanes > 1 and not self.fits(rows, lanes * LANES):
            lanes -= max(1, lanes // 64)
        return lanes

    def _narrow(self, rows: int) -> int:
        """The same with less than a lane of columns; 0 when not even one fits."""
        cols = LANES
        while cols and not self.fits(rows, cols):
            cols //= 2
        return cols

    def _row_candidates(self, total: int, total_cols: int, kept: int, cols: int, cores: int) -> Iterator[int]:
        most = self._most_rows(total, cols)
        if not most:
            return
        if self._row_reduced:
            yield most
            yield from (step for step in STEPS if step < most)
            return
        tiles = kept if self._col_reduced else kept * -(-total_cols // cols)
        unit = self.unit if most >= self.unit else 1
        last = 0
        for waves in WAVES if self._crowded else WAVES[1:]:
            parts = max(int(waves * cores) // tiles, -(-total // most), 1)
            rows = -(-total // parts)
            if unit > 1:
                rows = min(-(-rows // unit) * unit, total, most // unit * unit)
            if rows != last:
                yield rows
            if rows <= unit:
                return
            last = rows

    def _most_rows(self, total: int, cols: int) -> int:
        """The most rows that fit beside so many columns, rounded up to lanes; without that where no row does.

        Columns fewer than lanes count as they are, but not where rows are summed up, whose tiles are those of any chip.
        """
        lanes = cols if cols < LANES and not self._row_reduced else -(-cols // LANES) * LANES
        most = self._heights.get(lanes)
        if most is None:
            most = self._heights[lanes] = self._highest(lanes)
        return min(total, most or self._highest(cols))

    def _highest(self, cols: int) -> int:
        """The most rows that fit beside so many columns, from the grown tile that is as wide or just wider up."""
        nbytes, room = self.nbytes, self._capacity
        low = next((rows for width, rows in self._grown.items() if width >= cols), 1)
        if nbytes(low, cols)[0] > room:
            return 0
        # Bytes grow by steps of a block for columns and of a stripe, seen over many rows.
        slope = (nbytes(low + MANY, cols)[0] - nbytes(low, cols)[0]) / MANY
        if not slope:
            return ALL_ROWS  # nothing in the tile has rows
        rows = low + int((room - nbytes(low, cols)[0]) / slope) + 1
        while rows > low and nbytes(rows, cols)[0] > room:
            rows -= max(1, rows // 256)
        return rows

    def prepare(self) -> None:
        """Make what any choice needs."""
        grown = self._grown
        if self._make_native is not None and self.native is None:
            cores = self._cores, self._fed, self._fair
            self.native = self._make_native(grown, self._capacity, self._crowded, cores)

    @cached_property
    def _grown(self) -> Mapping[int, int]:
        """For columns of a tile the most rows among the tiles that are grown, with no shape."""
        return self._grow()


def without_single(total: int, cols: int) -> int:
    """Columns of a tile, no more than `cols`, with which the last tile does not have a single one.

    A single column is summed in another order than those beside others are.
    """
    while cols > 2 and total % cols == 1:
        cols -= 8 if cols > 8 else 1
    return cols
