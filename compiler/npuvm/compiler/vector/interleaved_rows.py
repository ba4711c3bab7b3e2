"""Element-wise segments with rows or columns that others share, whose cores stream side by side; see `vector.interleaved`.

Rows are dealt out in rounds of blocks: in each every core has a block of rows, or a part of its columns, which is a tile. Where
a block has more parts than there are cores, these are dealt out in rounds too. Tiles are so small that what all cores read at a
time is in rows of main memory that stay open.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.symint import SymInt, ceil_div
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.vector.choice import Choice
from npuvm.compiler.vector.cost import TileCost
from npuvm.compiler.vector.emit import write_vector
from npuvm.compiler.vector.interleaved import InterleavedWay, chunk_bytes, late_policy, may_be_dealt, moved_by
from npuvm.compiler.vector.space import Space, dim_name
from npuvm.compiler.vector.tile import VectorTile
from npuvm.compiler.vector.way import Maker, Way, with_numbers
from npuvm.isa import EvenEntries

__all__ = ["InterleavedRows"]

_CHUNKS = 4
"""In a tile of all that is read: it lies in one piece, or its rows follow each other quickly."""

_OFF_BLOCKS = 5
"""Chunks in a tile of whole rows that end off blocks."""

_LEAST_ROWS = 8
"""Of a tile: with fewer, what goes before each instruction is more than what rows of main memory cost."""

_LEAST_TILES = 8
"""Of a core: with fewer, filling and emptying the pipeline is more than what rows of main memory cost."""

_AT_ONCE = ("<blocks>", "<across>")
"""Variables of templates: blocks of rows that cores have side by side, and parts of their columns."""

_MOST = 1 << 31
"""Sizes are counted from the end in fields of so much room."""


class InterleavedRows:
    """The interleaved way to do what another way does."""

    def __init__(self, maker: Maker, like: Way, chunk: int) -> None:
        space, chip = like.space, maker.chip
        assert space.row is not None
        self._row, self._col, self._unit = space.row, space.col, like.chooser.unit
        self._cores = chip.cores_with("vector")
        whole = [each.item for each in space.reads if space.fills(each.node)]
        written = [each.item for each in space.writes if space.fills(each.node)]
        self._read, self._widest = sum(whole), max(whole)
        self._moved = max(self._read, sum(written))
        self._room, self._line = _CHUNKS * chunk, chip.memory.l2.line_bytes
        self._off_blocks = chip.memory.l2.unaligned_reads == "uncached"
        self._fits = like.chooser.fits
        self._cost = TileCost(space, like.program, chip, maker.isa, self._cores, like.storage.depth, open_rows=True)
        self._way = _RowsWay(like)

    @staticmethod
    def of(maker: Maker, way: Way) -> InterleavedRows | None:
        """The interleaved way; None where the space has other dims or reduces, or nothing would be faster."""
        space, chunk = way.space, chunk_bytes(maker.chip)
        if not chunk or len(space.sizes) != 2 or any(space.reduced) or not may_be_dealt(space):
            return None
        if any(each.strides[space.col] != 1 for each in moved_by(space) if space.has(each.node, space.col)):
            return None
        made = InterleavedRows(maker, way, chunk)
        if made._is_small(space.sizes):  # whatever the values of symbols are
            return None
        made._way.prepare()
        return made

    def faster(self, sizes: Sequence[int], than: Choice) -> tuple[Choice, Way] | None:
        """A way and its tile for these sizes, with an estimate below that of another choice."""
        rows, cols = sizes[self._row], sizes[self._col]
        if self._is_small(sizes) or max(rows, cols) >= _MOST:
            return None
        found = [
            (self._cost.of(sizes, self._busy(rows, cols, *tile))(*tile), *tile)
            for tile in dict.fromkeys(self._tiles(rows, cols, than))
            if self._fits(*tile)
        ]
        best = min(found, default=None)
        return (Choice(*best), self._way) if best is not None and best[0] < than.cycles else None

    def _is_small(self, sizes: Sequence[int]) -> bool:
        """Whether cores would have too few tiles."""
        elements = prod(sizes)
        return not isinstance(elements, SymInt) and elements * self._moved < _LEAST_TILES * self._cores * self._room

    def _busy(self, rows: int, cols: int, high: int, width: int) -> int:
        """So many cores, each with equally many tiles, as take as long as rounds do of which the last may not be full."""
        blocks, across = self._way.at_once(cols, width)
        down, beside = ceil_div(rows, high), ceil_div(cols, width)
        return ceil_div(down * beside, ceil_div(down, blocks) * ceil_div(beside, across))

    def _tiles(self, rows: int, cols: int, than: Choice) -> list[tuple[int, int]]:
        """Rows and columns of the tiles to choose from."""
        if self._off_blocks and cols * self._widest % BLOCK_BYTES:
            # Lines at the ends of what a tile reads are read by others too: whole rows lie in one piece, long parts have fewer.
            few = _OFF_BLOCKS * self._room // (_CHUNKS * cols * self._read)
            # Of a shared column single elements come from one channel to all cores, each for itself.
            least = 2 if self._unit > 1 and rows > 1 else 1
            whole = [(high, cols) for high in (few, few + 1) if high >= least]
            return [*whole, (than.rows, self._even(cols, than.cols))]
        found: list[tuple[int, int]] = []
        # Results may be wider than what is read for them, or several: the estimate says which of both a tile is to be cut for.
        high = min(rows, max(self._unit, _LEAST_ROWS // self._unit * self._unit))
        for moved in (self._read, self._moved):
            width = max(1, self._room // (high * moved))
            if cols <= width:
                found.append((max(high, self._room // (cols * moved) // self._unit * self._unit), cols))
            else:
                found += [(high, self._even(cols, width, fewer)) for fewer in (0, 1)]
        return found

    def _even(self, cols: int, width: int, fewer: int = 0) -> int:
        """Columns of parts of at most so many, where all cores have as many of them, in whole lines; of longer parts in `fewer`
        rounds than these take."""
        blocks, across = self._way.at_once(cols, width)
        if across < self._cores:
            across = self._cores // blocks
        line, parts = self._line // self._widest, max(1, ceil_div(ceil_div(cols, width), across) - fewer) * across
        return min(ceil_div(ceil_div(cols, parts), line) * line, cols)


class _RowsWay(InterleavedWay):
    """Tiles of blocks of rows that cores have in turn."""

    variables: tuple[str, ...] = (*InterleavedWay.variables, *_AT_ONCE)

    def __init__(self, like: Way) -> None:
        made = like.segment, like.program, like.storage
        super().__init__(like.maker, late_policy(like.space), made, like.chooser)

    def at_once(self, cols: int, width: int) -> tuple[int, int]:
        """Blocks of rows that cores have side by side, and parts of their columns."""
        across = min(ceil_div(cols, width), self.cores)
        return self.cores // across, across

    def numbers(self, sizes: Sequence[int], choice: Choice) -> tuple[int, ...]:
        return *super().numbers(sizes, choice), *self.at_once(sizes[self.space.col], choice.cols)

    def write(self, tile: VectorTile) -> tuple[InstrBuilder, tuple[str, ...]]:
        maker, space = self.maker, self.space
        blocks, across = (SymInt.variable(each) for each in _AT_ONCE)
        grids = [self._walk(space, tile.rows, tile.cols, blocks, across)]
        return write_vector(
            self.segment.name, space, self.program, self.storage, tile, grids, maker.chip, maker.isa, Pins()
        )

    def entries(self, sizes: Sequence[int], choice: Choice) -> EvenEntries:
        assert self.space.row is not None
        rows, cols = (
            ceil_div(sizes[at], edge) for at, edge in ((self.space.row, choice.rows), (self.space.col, choice.cols))
        )
        blocks, across = self.at_once(sizes[self.space.col], choice.cols)
        busy = blocks * across
        return EvenEntries(self.core_type, busy, (busy * ceil_div(rows, blocks) * ceil_div(cols, across),))

    def grids(self, values: Sequence[int], choice: Choice) -> tuple[GridWalk, ...]:
        space = with_numbers(self.space, self.maker.symbols, values)
        return (self._walk(space, choice.rows, choice.cols, *self.at_once(space.cols, choice.cols)),)

    def _walk(self, space: Space, rows: int, cols: int, blocks: int, across: int) -> GridWalk:
        """Blocks of a round and parts of their columns, rounds of blocks, and rounds of parts."""
        assert space.row is not None
        row, col = dim_name(space.row), dim_name(space.col)
        rounds = ceil_div(ceil_div(space.rows, rows), blocks), ceil_div(ceil_div(space.cols, cols), across)
        axes = Axis(row, blocks), Axis(col, across), Axis(row, rounds[0], blocks), Axis(col, rounds[1], across)
        return GridWalk(axes, {}, frozenset([row, col]))
