"""Element-wise segments with rows or columns that others share, whose cores stream side by side; see `vector.interleaved`.

Rows are dealt out in rounds of blocks: in each every core has a block of rows, or a part of its columns, which is a tile. Tiles
are so small that what all cores read at a time is in rows of main memory that stay open.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.symint import ceil_div
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.vector.choice import Choice
from npuvm.compiler.vector.cost import TileCost
from npuvm.compiler.vector.emit import write_vector
from npuvm.compiler.vector.interleaved import InterleavedWay, chunk_bytes, late_policy
from npuvm.compiler.vector.space import Space, dim_name
from npuvm.compiler.vector.tile import VectorTile
from npuvm.compiler.vector.way import Maker, Way, with_numbers
from npuvm.isa import EvenEntries

__all__ = ["InterleavedRows"]

_CHUNKS = 4
"""In a tile of all that is read: it lies in one piece, or its rows follow each other quickly."""

_LEAST_ROWS = 8
"""Of a tile: with fewer, what goes before each instruction is more than what rows of main memory cost."""

_LEAST_TILES = 8
"""Of a core: with fewer, filling and emptying the pipeline is more than what rows of main memory cost."""

_MOST_ROWS = 1 << 31
"""Sizes are counted from the end in fields of so much room."""


class InterleavedRows:
    """The interleaved way to do what another way does."""

    def __init__(self, maker: Maker, like: Way, chunk: int) -> None:
        space, chip = like.space, maker.chip
        assert space.row is not None
        self._row, self._col, self._unit = space.row, space.col, like.chooser.unit
        self._cores = chip.cores_with("vector")
        whole = [each.item for each in space.reads if all(space.present[each.node.id])]
        self._read, self._widest = sum(whole), max(whole)
        self._room, self._line = _CHUNKS * chunk, chip.memory.l2.line_bytes
        self._off_blocks = chip.memory.l2.unaligned_reads == "uncached"
        self._fits = like.chooser.fits
        self._cost = TileCost(space, like.program, chip, maker.isa, self._cores, like.storage.depth, open_rows=True)
        self._way = _RowsWay(like)
        self._way.prepare()

    @staticmethod
    def of(maker: Maker, way: Way) -> InterleavedRows | None:
        """The interleaved way; None where the space has other dims or reduces, or nothing would be faster."""
        space, chunk = way.space, chunk_bytes(maker.chip)
        moved = (*space.reads, *space.writes)
        flat = all(each.strides[space.col] == 1 for each in moved if space.has(each.node, space.col))
        whole = any(all(space.present[each.node.id]) for each in space.reads)
        plain = all(each.picks is None and not each.access.adds for each in moved)
        if not chunk or len(space.sizes) != 2 or any(space.reduced) or not (flat and whole and plain):
            return None
        return InterleavedRows(maker, way, chunk)

    def faster(self, sizes: Sequence[int], than: Choice) -> tuple[Choice, Way] | None:
        """A way and its tile for these sizes, with an estimate below that of another choice."""
        rows, cols = sizes[self._row], sizes[self._col]
        if rows * cols * self._read < _LEAST_TILES * self._cores * self._room or rows >= _MOST_ROWS:
            return None
        tile = self._tile(cols, than)
        if tile is None or not self._fits(*tile):
            return None
        across = ceil_div(cols, tile[1])
        cycles = self._cost.of(sizes, self._cores // across * across)(*tile)
        if cycles >= than.cycles:
            return None
        return Choice(cycles, *tile), self._way

    def _tile(self, cols: int, than: Choice) -> tuple[int, int] | None:
        """Rows and columns of a tile; None where rows have more parts than there are cores."""
        least = max(self._unit, _LEAST_ROWS // self._unit * self._unit)
        if self._off_blocks and cols * self._widest % BLOCK_BYTES:
            # Each row of a tile has lines that its neighbours read too: long ones have fewer of them.
            high, width = than.rows, than.cols
        else:
            high, width = least, max(1, self._room // (least * self._read))
            if cols <= width:
                return max(least, self._room // (cols * self._read) // self._unit * self._unit), cols
        across = ceil_div(cols, width)
        if across > self._cores:
            return None
        across = self._cores // (self._cores // across)
        line = self._line // self._widest
        return high, min(ceil_div(ceil_div(cols, across), line) * line, cols)


class _RowsWay(InterleavedWay):
    """Tiles of blocks of rows that cores have in turn."""

    def __init__(self, like: Way) -> None:
        made = like.segment, like.program, like.storage
        super().__init__(like.maker, late_policy(like.space), made, like.chooser)

    def write(self, tile: VectorTile) -> tuple[InstrBuilder, tuple[str, ...]]:
        maker, space = self.maker, self.space
        grids = [self._walk(space, tile.rows, tile.cols)]
        return write_vector(
            self.segment.name, space, self.program, self.storage, tile, grids, maker.chip, maker.isa, Pins()
        )

    def entries(self, sizes: Sequence[int], choice: Choice) -> EvenEntries:
        assert self.space.row is not None
        across = ceil_div(sizes[self.space.col], choice.cols)
        blocks = self.cores // across
        rounds = ceil_div(ceil_div(sizes[self.space.row], choice.rows), blocks)
        return EvenEntries(self.core_type, blocks * across, (blocks * across * rounds,))

    def grids(self, values: Sequence[int], choice: Choice) -> tuple[GridWalk, ...]:
        return (self._walk(with_numbers(self.space, self.maker.symbols, values), choice.rows, choice.cols),)

    def _walk(self, space: Space, rows: int, cols: int) -> GridWalk:
        """Blocks of a round, parts of their columns, and rounds."""
        assert space.row is not None
        row, across = dim_name(space.row), ceil_div(space.cols, cols)
        blocks = self.cores // across
        rounds = ceil_div(ceil_div(space.rows, rows), blocks)
        axes = Axis(row, blocks), Axis(dim_name(space.col), across), Axis(row, rounds, blocks)
        return GridWalk(axes, {}, frozenset([row]))
