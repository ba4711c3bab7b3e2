"""How many chunks a reduce is cut into, and how long they are: numbers from the most down, each with its best tiles.

What decides is estimates for a number of cores that is not the chip's, so that sums are added in one order on all chips.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.native.chunk_layout import Counted, CutInto
from npuvm.compiler.reduce.native import NativeChunks
from npuvm.compiler.vector.choice import Choice, TileChooser
from npuvm.compiler.vector.levels import LANES
from npuvm.compiler.vector.native import NativeSearch
from npuvm.compiler.vector.space import Space

__all__ = ["HALVES", "LEVELS", "NO_SLOWER", "SHORT", "ChunkChooser", "Chunks", "TiledChunks", "has_work"]

LEVELS = ((192, 1 << 15), (96, 1 << 14), (32, 1 << 11), (16, 1 << 10), (8, 1 << 10))
"""Chunks of all results together, and the bytes that each must at least have for so many.

192 and 96 are multiples of the cores of most chips, for work that takes long; short work is shared evenly by halves of them.
"""

HALVES = 5
"""How often tiles are halved at most."""

NO_SLOWER = 1.03
"""Estimates of lower tiles may be so much higher: that of loads of short rows hides what is done once for each chunk."""

SHORT = 16
"""Rows whose bytes are whole blocks, whatever they are of."""


_LEAST_BYTES = min(most * least for most, least in LEVELS)


def has_work(nbytes: int) -> bool:
    """Whether so many bytes may be work for several chunks."""
    return nbytes >= _LEAST_BYTES


class Chunks(NamedTuple):
    """`number` chunks of `length` elements along the dim that is cut, of which tiles have `edge` at a time."""

    number: int
    length: int
    edge: int


class TiledChunks(NamedTuple):
    """Chunks with the estimate of their launch on a number of cores that is not the chip's, and their tile on the chip's."""

    chunks: Chunks
    fair_cycles: float
    choice: Choice


class ChunkChooser:
    """Cuts dim `cut_dim` of spaces like `space`, which is not cut, whose reads along it have so many bytes an element.

    `joined`: cycles that each chunk of several results costs those who join them.
    """

    def __init__(self, space: Space, cut_dim: int, nbytes: int, joined: float) -> None:
        self._of, self._col, self._bytes, self.joined = cut_dim, space.col, nbytes, joined
        self._is_column = cut_dim == space.col
        rows_stay = space.row is not None and not space.reduced[space.row]
        self._height = space.row if self._is_column and rows_stay else None
        dims = range(len(space.sizes))
        self._stay = tuple(dim for dim in dims if not space.reduced[dim])
        self._units = tuple(dim for dim in self._stay if dim != space.col)
        self._each = tuple(dim for dim in dims if space.reduced[dim] and dim not in (cut_dim, space.col))
        self._native: dict[int, NativeChunks] = {}

    def cut(self, sizes: Sequence[int], chunks: Chunks) -> tuple[int, ...]:
        """The sizes of the space that is cut."""
        return (*sizes[: self._of], chunks.length, *sizes[self._of + 1 :], chunks.number)

    def choose(self, chooser: TileChooser, sizes: Sequence[int], limit: float = inf) -> TiledChunks | CutInto:
        """The chunks with the tile program of `chooser`, for the sizes of the space before it is cut.

        NONE where there are none; NEVER where there are none with less in UB beside a tile either, or where the estimate of
        those found is beyond the limit.
        """
        if chooser.native is not None:
            found = self._natively(chooser.native, sizes, limit)
            if found is not CutInto.TOO_LARGE:
                return found
        longest, width = chooser.longest(sizes)
        if not longest:
            return CutInto.NONE
        numbers = self._numbers(chooser, sizes, width)
        if not numbers and (self._is_column or width == sizes[self._col]):
            return CutInto.NEVER
        best = self._best(chooser, sizes, numbers, longest)
        if best is None:
            return CutInto.NONE
        chunks, fair = best
        if fair.cycles > limit:
            return CutInto.NEVER
        return TiledChunks(chunks, fair.cycles, chooser.of_fair(self.cut(sizes, chunks), fair))

    def known(self, chooser: TileChooser, sizes: Sequence[int], chunks: Chunks) -> TiledChunks | CutInto:
        """These chunks; NONE where no tile fits."""
        cut = self.cut(sizes, chunks)
        fair = chooser.fair(cut, chunks.edge)
        return CutInto.NONE if fair is None else TiledChunks(chunks, fair.cycles, chooser.of_fair(cut, fair))

    def _natively(self, search: NativeSearch, sizes: Sequence[int], limit: float) -> TiledChunks | CutInto:
        """The same by machine code."""
        native = self._native.get(id(search))
        if native is None:
            native = self._native[id(search)] = NativeChunks(search, self.numbers_to_read(), self.joined)
        found = native.choose(sizes, limit)
        if isinstance(found, CutInto):
            return found
        fair_cycles, cycles, rows, cols, *chunks = found
        return TiledChunks(Chunks(*chunks), fair_cycles, Choice(cycles, rows, cols))

    def numbers_to_read(self) -> list[int]:
        """The integers of `Cutting`."""
        numbers = [self._of, self._is_column, self._height is not None, self._bytes]
        for dim in range(len(self._stay) + len(self._each) + 1):
            counted = Counted.UNITS if dim in self._units else Counted.EACH if dim in self._each else Counted.NOT
            numbers += [counted, dim in self._stay]
        return numbers

    def never(self, chooser: TileChooser, sizes: Sequence[int], room: int) -> bool:
        """Whether no number of chunks is left with tiles that have so many bytes of UB either."""
        width = chooser.longest(sizes)[1]
        if self._is_column or not width:
            return False
        cols, widest = sizes[self._col], chooser.most_cols(sizes, room)
        most = -(-cols // width)
        # With as many tiles side by side wider ones have more work.
        for tiles in range(-(-cols // widest), most + 1):
            if self._numbers(chooser, sizes, widest if tiles == 1 else min(widest, -(-cols // (tiles - 1)) - 1)):
                return False
        return True

    def _numbers(self, chooser: TileChooser, sizes: Sequence[int], width: int) -> list[int]:
        """The numbers of chunks that there is work for, the most first, with tiles of at most `width` columns."""
        units, of_each = 1, self._bytes
        for dim in self._units:
            units *= sizes[dim]
        for dim in self._each:
            of_each *= sizes[dim]
        if not self._is_column:
            units *= -(-sizes[self._col] // width)
            of_each *= width
        elif self._height is not None:
            # Rows go together where their tiles have several.
            height = min(chooser.unit, sizes[self._height])
            units = -(-units // height)
            of_each *= height
        total = sizes[self._of]
        nbytes = total * of_each * units
        numbers = [(min(most // units, total), most * least) for most, least in LEVELS]
        return [number for number, least in numbers if number >= 2 and nbytes >= least]

    def _best(
        self, chooser: TileChooser, sizes: Sequence[int], numbers: Sequence[int], longest: int
    ) -> tuple[Chunks, Choice] | None:
        """The best of these numbers of chunks, from the most down to where fewer are no faster; None when one core is enough.

        Tiles are the highest that fit, and then halves as long as the estimate does not rise: what a tile has added up is
        reduced once for each chunk.
        """
        best, least_cycles = None, inf
        # Chunks of a single result lie side by side.
        several = any(sizes[dim] > 1 for dim in self._stay)
        for number in numbers:
            found, cycles = self._with_number(chooser, sizes, number, longest)
            cycles += number * self.joined * several
            if cycles >= least_cycles:
                break
            best, least_cycles = found, cycles
        return best

    def _with_number(
        self, chooser: TileChooser, sizes: Sequence[int], number: int, longest: int
    ) -> tuple[tuple[Chunks, Choice] | None, float]:
        """About so many chunks with their best tiles for a number of cores that is not the chip's, and the estimate."""
        total, best, least = sizes[self._of], None, inf
        fewest = -(-total // (number * longest))
        before = 0
        for tiles in (fewest, *(fewest * 2**each for each in range(1, HALVES))):
            edge = -(-total // (number * tiles))
            edge = _aligned(edge, longest, columns=self._is_column)
            if edge == before:
                break
            length = edge * -(-total // (number * edge))
            count = -(-total // length)
            if count < 2:
                break
            chunks = Chunks(count, length, edge)
            choice = chooser.fair(self.cut(sizes, chunks), edge)
            if choice is None or choice.cycles > NO_SLOWER * least:
                break
            best, before, least = (chunks, choice), edge, min(choice.cycles, least)
        return best, least


def _aligned(edge: int, longest: int, *, columns: bool) -> int:
    """The size of a tile, so that the next one begins at a block of memory also where rows are shorter than blocks."""
    step = LANES if columns or edge >= 4 * LANES else SHORT if edge >= 2 * SHORT else 1
    return min(align_up(edge, step), longest // step * step) if longest >= step else edge
