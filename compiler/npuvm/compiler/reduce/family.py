"""Chunks of what is reduced, for all shapes: how many there are follows from the shape, never from the number of cores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import inf, prod
from typing import NamedTuple

from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.errors import CompileError
from npuvm.compiler.native.chunk_layout import CutInto
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.reduce.choice import ChunkChooser, Chunks, TiledChunks, has_work
from npuvm.compiler.reduce.cut import cut_space
from npuvm.compiler.reduce.native import NativeReduce
from npuvm.compiler.reduce.parts import CHUNKS, LENGTH
from npuvm.compiler.vector.choice import Choice
from npuvm.compiler.vector.family import Chosen, Rows, Structure
from npuvm.compiler.vector.space import Space
from npuvm.compiler.vector.way import Maker, Way, with_numbers
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["ChunkFamily", "ChunkedShape", "Chunks", "PlannedChunks"]

_WAITS = 2
"""Waits for memory that each chunk costs those who join them, beside each other: seen in estimates of joins."""


class PlannedChunks(NamedTuple):
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

    def plan(self, known: Chunks | None = None, limit: float = inf) -> PlannedChunks | None:
        """The chunks, or these; None when there is nothing to cut, no such tile fits, or their estimate is beyond the limit."""
        return self.rows.plan(self.sizes, known, limit)


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
        names = [f"s{dim}" for dim in range(len(space.sizes))]
        read: int = 0
        for each in space.reads:
            read += each.item * prod(
                [SymInt.variable(name) for at, name in enumerate(names) if space.has(each.node, at)]
            )
        self._read: Function = compile_values(names, (read,), "read")
        self._bytes_per_cycle = float(maker.chip.hbm_bytes_per_cycle)
        load, memory = maker.chip.core.load, maker.chip.memory
        # Each chunk's results are a short row for those who add them up.
        wait = (memory.l2.latency_cycles + memory.hbm.latency_cycles) / load.outstanding
        self._bytes = max(1, sum(each.item for each in space.reads if space.has(each.node, of)))
        self._chunks = ChunkChooser(space, of, self._bytes, _WAITS * len(own) * wait)

    def enough(self, sizes: Sequence[int]) -> bool:
        """Whether there may be work for several chunks."""
        return has_work(prod(sizes) * self._bytes)

    def least_cycles(self, sizes: Sequence[int]) -> float:
        """Cycles in which memory reads all values once: with tiles of any size, those that are loaded have no fewer bytes."""
        return self._read(*sizes)[0] / self._bytes_per_cycle

    def decider(self, whole: Rows, join: Rows, worth: float, joins: float, limit: float) -> NativeReduce | None:
        """What decides by machine code about a segment of such shapes and what joins its chunks, where all of them have it."""
        own, searches, joining, number = self.searches, whole.searches, join.searches, join.dim_of(CHUNKS)
        if own is None or searches is None or joining is None or number is None:
            return None
        chunks = self._chunks
        rates = (chunks.joined, joins, worth, limit)
        return NativeReduce(searches, own[0], joining, chunks.numbers_to_read(), number, rates)

    def decided(self, sizes: Sequence[int], found: tuple[float, float, int, int, int, int, int]) -> PlannedChunks:
        """The chunks that machine code has found for the sizes of the space before it is cut."""
        fair_cycles, cycles, rows, cols, number, length, edge = found
        chunks, way = Chunks(number, length, edge), self._ways[0].first
        return PlannedChunks(chunks, fair_cycles, self._chunks.cut(sizes, chunks), Choice(cycles, rows, cols), way)

    def plan(self, sizes: Sequence[int], known: Chunks | None, limit: float) -> PlannedChunks | None:
        """The chunks for the sizes of the space before it is cut, or these."""
        chunks = self._chunks
        try:
            for way in self._ways[0].levels(sizes):
                if known is None:
                    found = chunks.choose(way.chooser, sizes, limit)
                else:
                    found = chunks.known(way.chooser, sizes, known)
                if isinstance(found, TiledChunks):
                    return PlannedChunks(
                        found.chunks, found.fair_cycles, chunks.cut(sizes, found.chunks), found.choice, way
                    )
                if found == CutInto.NEVER or (known is None and chunks.never(way.chooser, sizes, self._ways[0].room)):
                    return None
        except CompileError:
            pass
        return None
