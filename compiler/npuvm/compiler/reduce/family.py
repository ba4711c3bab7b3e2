"""Chunks of what is reduced, for all shapes: how many there are follows from the shape, never from the number of cores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import NamedTuple

from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.symint import SymInt
from npuvm.compiler.errors import CompileError
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.reduce.cut import cut_space
from npuvm.compiler.reduce.parts import CHUNKS, LENGTH
from npuvm.compiler.vector.choice import Choice, TileChooser
from npuvm.compiler.vector.family import Chosen, Maker, Rows, Structure, Way, with_numbers
from npuvm.compiler.vector.levels import LANES
from npuvm.compiler.vector.space import Space
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["ChunkFamily", "ChunkedShape", "Chunks", "PlannedChunks"]

_LEVELS = ((192, 1 << 15), (96, 1 << 14), (32, 1 << 11), (16, 1 << 10), (8, 1 << 10))
"""Chunks of all results together, and the bytes that each must at least have for so many.

192 and 96 are multiples of the cores of most chips, for work that takes long; short work is shared evenly by halves of them.
"""

_HALVES = 5
"""How often tiles are halved at most."""

_NO_SLOWER = 1.03
"""Estimates of lower tiles may be so much higher: that of loads of short rows hides what is done once for each chunk."""

_SHORT = 16
"""Rows whose bytes are whole blocks, whatever they are of."""

_LEAST_BYTES = min(most * least for most, least in _LEVELS)

_WAITS = 2
"""Waits for memory that each chunk costs those who join them, beside each other: seen in estimates of joins."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """`number` chunks of `length` elements along the dim that is cut, of which tiles have `edge` at a time."""

    number: int
    length: int
    edge: int


@dataclass(frozen=True, slots=True)
class PlannedChunks:
    """The chunks of a shape; `fair_cycles` is the estimate of their launch on a number of cores that is not the chip's."""

    chunks: Chunks
    fair_cycles: float
    sizes: Sequence[int]
    choice: Choice
    way: Way

    def instance(self, values: Sequence[int]) -> tuple[Image, tuple[str, ...]]:
        """The image for values of the kernel's symbols, and the tensors whose addresses it takes."""
        chunks = self.chunks
        return self.way.instance((*values, chunks.number, chunks.length), self.sizes, self.choice)


class ChunkFamily:
    """A part of a reduce that is cut into chunks, on one chip. `names` are the symbols of the kernel."""

    def __init__(
        self, segment: VectorSegment, names: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        own = segment.chunked
        assert own is not None
        symbols = (*names, CHUNKS, LENGTH)
        binding = {name: SymInt.variable(name) for name in symbols}

        def rows(maker: Maker, binding: Mapping[str, int], space: Space) -> _ChunkRows:
            return _ChunkRows(own, maker, binding, space)

        self._symbols = symbols
        self._structure = Structure(Maker(segment, symbols, chip, isa, buffering=buffering), binding, rows)

    def prepare(self) -> None:
        """Make what almost any shape needs. CompileError where there is no program for some tiles."""
        self._structure.prepare()

    def at(self, values: Sequence[int]) -> ChunkedShape | None:
        """What there is to cut for values of the symbols; None when a dim is 0."""
        found = self._structure.located((*values, 0, 0))
        if found is None:
            return None
        rows, sizes = found
        assert isinstance(rows, _ChunkRows)
        return ChunkedShape(rows, sizes)

    def chosen(self, planned: PlannedChunks, values: Sequence[int]) -> Chosen:
        """What an instance is made of, for who wants to see it."""
        chunks, way = planned.chunks, planned.way
        space = with_numbers(way.space, self._symbols, (*values, chunks.number, chunks.length))
        assert space.cut is not None
        space = replace(space, cut=replace(space.cut, edge=chunks.edge))
        return Chosen(planned.choice, space, way.segment, way.program, way.storage)


class ChunkedShape(NamedTuple):
    """A part of a reduce before it is cut: what shapes with such tiles have in common, and the sizes of its space."""

    rows: _ChunkRows
    sizes: Sequence[int]

    @property
    def cut_dim(self) -> int:
        """The dim of the space that is cut."""
        return self.rows.cut_dim

    def enough(self) -> bool:
        """Whether there may be work for several chunks."""
        return self.rows.enough(self.sizes)

    def least_cycles(self) -> float:
        """What no estimate of chunks is below: memory's time for all that they read."""
        return self.rows.least_cycles(self.sizes)

    def plan(self, known: Chunks | None = None) -> PlannedChunks | None:
        """The chunks, or these; None when there is nothing to cut, or no such tile fits."""
        return self.rows.plan(self.sizes, known)


class _ChunkRows(Rows):
    """Chunks of shapes whose tiles walk the same dims."""

    def __init__(self, own: Collection[int], maker: Maker, binding: Mapping[str, int], space: Space) -> None:
        self._space = space
        of = space.col if space.reduced[space.col] else space.row
        if of is None or not space.reduced[of]:
            # Where columns are single ones, dims of the same name are too.
            raise CompileError("nothing is reduced in its tiles", maker.segment.name)
        self.cut_dim = of
        cut = cut_space(space, SymInt.variable(CHUNKS), SymInt.variable(LENGTH), 0, own)
        super().__init__(maker, binding, cut)
        dims = range(len(space.sizes))
        self._read = [(each.item, [dim for dim in dims if space.has(each.node, dim)]) for each in space.reads]
        self._bytes_per_cycle = float(maker.chip.hbm_bytes_per_cycle)
        load, memory = maker.chip.core.load, maker.chip.memory
        # Each chunk's results are a short row for those who add them up.
        wait = (memory.l2.latency_cycles + memory.hbm.latency_cycles) / load.outstanding
        self._joined = _WAITS * len(own) * wait
        self._bytes = max(1, sum(each.item for each in space.reads if space.has(each.node, self.cut_dim)))

    def enough(self, sizes: Sequence[int]) -> bool:
        """Whether there may be work for several chunks."""
        return prod(sizes) * self._bytes >= _LEAST_BYTES

    def least_cycles(self, sizes: Sequence[int]) -> float:
        """Cycles in which memory reads all values once: with tiles of any size, those that are loaded have no fewer bytes."""
        return sum(item * prod([sizes[dim] for dim in dims]) for item, dims in self._read) / self._bytes_per_cycle

    def plan(self, sizes: Sequence[int], known: Chunks | None = None) -> PlannedChunks | None:
        """The chunks for the sizes of the space before it is cut, or these."""
        try:
            for way in self._ways[0].levels(sizes):
                chunks = known
                if known is None:
                    longest, width = way.chooser.longest(sizes)
                    numbers = self._numbers(way.chooser, sizes, width) if longest else []
                    chunks = self._best(way.chooser, sizes, numbers, longest)
                    if longest and not numbers and (self.cut_dim == self._space.col or width == sizes[self._space.col]):
                        return None  # with more room there are no fewer results for a core
                if chunks is not None:
                    cut = self._cut(sizes, chunks)
                    choice = way.chooser.choose(cut, chunks.edge)
                    if choice is not None:
                        return PlannedChunks(chunks, way.chooser.fair_cycles(cut, choice), cut, choice, way)
        except CompileError:
            pass
        return None

    def _cut(self, sizes: Sequence[int], chunks: Chunks) -> Sequence[int]:
        """The sizes of the space that is cut."""
        return (*sizes[: self.cut_dim], chunks.length, *sizes[self.cut_dim + 1 :], chunks.number)

    def _numbers(self, chooser: TileChooser, sizes: Sequence[int], width: int) -> list[int]:
        """The numbers of chunks that there is work for, the most first, with tiles of at most `width` columns."""
        space, of = self._space, self.cut_dim
        others = [dim for dim in range(len(sizes)) if dim not in (of, space.col)]
        units = prod([sizes[dim] for dim in others if not space.reduced[dim]])
        of_each = self._bytes * prod([sizes[dim] for dim in others if space.reduced[dim]])
        if of != space.col:
            units *= -(-sizes[space.col] // width)
            of_each *= width
        elif space.row is not None and not space.reduced[space.row]:
            # Rows go together where their tiles have several.
            height = min(chooser.unit, sizes[space.row])
            units = -(-units // height)
            of_each *= height
        nbytes = sizes[of] * of_each * units
        numbers = [(min(most // units, sizes[of]), most * least) for most, least in _LEVELS]
        return [number for number, least in numbers if number >= 2 and nbytes >= least]

    def _best(self, chooser: TileChooser, sizes: Sequence[int], numbers: Sequence[int], longest: int) -> Chunks | None:
        """The best of these numbers of chunks, from the most down to where fewer are no faster; None when one core is enough.

        Tiles are the highest that fit, and then halves as long as the estimate does not rise: what a tile has added up is
        reduced once for each chunk.
        """
        best, least_cycles = None, inf
        # Chunks of a single result lie side by side.
        several = any(size > 1 for size, reduced in zip(sizes, self._space.reduced, strict=True) if not reduced)
        for number in numbers:
            found, cycles = self._with_number(chooser, sizes, number, longest)
            cycles += number * self._joined * several
            if cycles >= least_cycles:
                break
            best, least_cycles = found, cycles
        return best

    def _with_number(
        self, chooser: TileChooser, sizes: Sequence[int], number: int, longest: int
    ) -> tuple[Chunks | None, float]:
        """About so many chunks with their best tiles, and the estimate."""
        total, best, least = sizes[self.cut_dim], None, inf
        fewest = -(-total // (number * longest))
        for tiles in (fewest, *(fewest * 2**each for each in range(1, _HALVES))):
            edge = -(-total // (number * tiles))
            edge = _aligned(edge, longest, columns=self.cut_dim == self._space.col)
            length = edge * -(-total // (number * edge))
            chunks = Chunks(-(-total // length), length, edge)
            if best is not None and chunks.edge == best.edge:
                break
            choice = chooser.fair(self._cut(sizes, chunks), edge)
            if chunks.number < 2 or choice is None or choice.cycles > _NO_SLOWER * least:
                break
            best, least = chunks, min(choice.cycles, least)
        return best, least


def _aligned(edge: int, longest: int, *, columns: bool) -> int:
    """The size of a tile, so that the next one begins at a block of memory also where rows are shorter than blocks."""
    step = LANES if columns or edge >= 4 * LANES else _SHORT if edge >= 2 * _SHORT else 1
    return min(align_up(edge, step), longest // step * step) if longest >= step else edge
