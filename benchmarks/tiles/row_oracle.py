"""Vector segments on the simulator with any tile, and the best of many tiles for one shape."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from benchmarks.efficiency.search import simulate_alone
from benchmarks.tiles.row_shapes import RowCase

from npuvm.compiler import Graph
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.plan.plan import Plan, make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.program.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.reduce.family import ChunkedShape, Chunks, PlannedChunks
from npuvm.compiler.reduce.launches import Reduced, ReduceFamily, joined
from npuvm.compiler.vector.choice import Choice
from npuvm.compiler.vector.family import VectorFamily
from npuvm.compiler.vector.interleaved import InterleavedWay
from npuvm.compiler.vector.space import RowsDoNotFit, Space
from npuvm.compiler.vector.way import Way
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.isa import Isa

__all__ = ["Option", "RowOracle", "Subject"]

_LADDER = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
_PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
_NUMBERS = (2, 3, 4, 6, 8, 12, 16, 20, 24, 30, 32, 40, 48, 64, 96, 128, 192)
_LANE = 16


@dataclass(frozen=True, slots=True)
class Option:
    """A way to run a segment: `way` with a tile over `sizes`, in one launch, or `chunks` of what is reduced, and their sum.

    `flat` is the space of these sizes where `way` has one of its own, whose tiles are elements behind each other.
    """

    rows: int
    cols: int
    estimate: float
    way: Way
    sizes: Sequence[int]
    chunks: PlannedChunks | None = None
    flat: Space | None = None

    @property
    def text(self) -> str:
        """The tile, and chunks where there are any."""
        whole = " interleaved" if isinstance(self.way, InterleavedWay) else " whole" if self.way.space.whole else ""
        chunks = "" if self.chunks is None else f", {self.number} chunks of {self.chunks.chunks.length}"
        return f"{self.rows} x {self.cols}{whole}{chunks}"

    @property
    def number(self) -> int:
        """Chunks; 0 where nothing is cut."""
        return 0 if self.chunks is None else self.chunks.chunks.number

    def tiles(self, dim: int) -> int:
        """Tiles along a dim of the space."""
        space, cols = self.space, self.cols if self.flat is None else self.rows * self.cols
        edge = self.rows if dim == space.row else cols if dim == space.col else 1
        return -(-self.sizes[dim] // edge)

    @property
    def space(self) -> Space:
        """The space of the sizes."""
        return self.flat or self.way.space

    @property
    def parallel(self) -> int:
        """Tiles, or walks over them, that cores share."""
        return prod(self.tiles(dim) for dim, flag in enumerate(self.space.reduced) if not flag)

    @property
    def nbytes(self) -> int:
        """Bytes that are loaded and stored."""
        space, total = self.space, 0
        for each in (*space.reads, *space.writes):
            dims = range(len(self.sizes))
            again = prod(self.tiles(dim) for dim in dims if not space.has(each.node, dim))
            total += again * each.item * prod(self.sizes[dim] for dim in dims if space.has(each.node, dim))
        return total


class Subject:
    """A vector segment with values of its symbols: what it can be run as, and what the compiler takes."""

    def __init__(self, planned: Planned, values: tuple[int, ...]) -> None:
        self.planned, self.values = planned, values
        located = planned.family.located(values)
        assert located is not None
        self._rows, self._sizes = located
        self.known: dict[str, int] = {}
        self.taken = self._taken()
        self.options = {each.text: each for each in self._options()}
        self.options.setdefault(self.taken.text, self.taken)

    def _taken(self) -> Option:
        shared = self.planned.shared
        planned = None if shared is None else shared.planned(self.values)
        if planned is not None:
            found = list(planned.values())[-1]
            return Option(found.choice.rows, found.choice.cols, found.choice.cycles, found.way, found.sizes, found)
        choice, way = self._rows.choose(self._sizes)
        flat = None if len(way.space.sizes) == len(self._sizes) else self._rows.ways(self._sizes)[0].space
        return Option(choice.rows, choice.cols, choice.cycles, way, self._sizes, flat=flat)

    def _options(self) -> Iterator[Option]:
        for way in self._rows.ways(self._sizes):
            estimate = way.chooser.estimate(self._sizes)
            for tile in legal(way, self._sizes):
                yield Option(*tile, estimate(*tile), way, self._sizes)
        shared = self.planned.shared
        if shared is not None and len(shared.cut_names) == 1:
            (shape,) = shared.chunked(self.values).values()
            yield from _chunked(shape)

    def launches(self, option: Option) -> Reduced:
        """The launches of an option."""
        if option.chunks is None:
            choice = Choice(option.estimate, option.rows, option.cols)
            image, args = option.way.instance(self.values, option.sizes, choice)
            segment = self.planned.segment
            return Reduced((Launch(segment.name, "vector", image, args, segment.written),), ())
        shared = self.planned.shared
        assert shared is not None
        return shared.launches_of(self.values, {shared.cut_names[-1]: option.chunks})


@dataclass(frozen=True, slots=True)
class Planned:
    """A segment of a plan, for all values of its symbols."""

    plan: Plan
    segment: VectorSegment
    family: VectorFamily
    shared: ReduceFamily | None

    def chosen(self, values: Sequence[int]) -> object:
        """What the compiler chooses: chunks, or a tile."""
        found = None if self.shared is None else self.shared.planned(values)
        if found is not None:
            return found
        located = self.family.located(values)
        assert located is not None
        return located[0].choose(located[1])


def legal(way: Way, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Tiles that fit: rows of the ladder, and such parts of all rows; columns likewise in multiples of 16, or all."""
    space = way.space
    row = 1 if space.row is None else sizes[space.row]
    col = sizes[space.col]
    rows = (row,) if space.whole and space.row is not None and space.reduced[space.row] else edges(row, 1)
    cols = (col,) if space.whole and space.reduced[space.col] else edges(col, _LANE)
    for some_rows in rows:
        for some_cols in cols:
            if way.chooser.fits(some_rows, some_cols):
                yield some_rows, some_cols


def edges(size: int, unit: int) -> tuple[int, ...]:
    """Sizes of tiles along a dim: few units, parts of all of it, and all."""
    few = {unit * step for step in _LADDER}
    parts = {-(-size // (unit * part)) * unit for part in (*_PARTS, *(96 * 2**n for n in range(1, 8)))}
    return tuple(sorted({*(each for each in few | parts if each < size), size}))


def _chunked(shape: ChunkedShape) -> Iterator[Option]:
    """Numbers of chunks, and for each how many tiles a chunk has, and how wide these are along the other dim."""
    total = shape.sizes[shape.cut_dim]
    for number in _NUMBERS:
        for tiles in (1, 2, 3, 4, 6, 8, 16, 32):
            edge = -(-total // (number * tiles))
            for rounded in {edge, -(-edge // 16) * 16, -(-edge // 64) * 64}:
                length = rounded * -(-total // (number * rounded))
                count = -(-total // length)
                found = None if count < 2 else shape.plan(Chunks(count, length, rounded))
                if found is None:
                    continue
                way, sizes = found.way, found.sizes
                estimate = way.chooser.estimate(sizes)
                by_rows = way.space.row is not None and way.space.reduced[way.space.row]
                other = way.space.col if by_rows else way.space.row
                for edge in (1,) if other is None else edges(sizes[other], _LANE if by_rows else 1):
                    rows, cols = (rounded, edge) if by_rows else (edge, rounded)
                    if way.chooser.fits(rows, cols):
                        choice = Choice(estimate(rows, cols), rows, cols)
                        yield Option(rows, cols, choice.cycles, way, sizes, found._replace(choice=choice))


class RowOracle:
    """Runs vector kernels, each segment in launches of its own with an empty L2, and searches tiles."""

    def __init__(self, chip: NpuConfig, isa: Isa) -> None:
        self._chip, self._isa = chip, isa
        self._casts = [(a, b) for a, b in isa.instruction("vcast").dtypes if b is not None]
        self._made: dict[tuple[int, bool], tuple[Planned, ...]] = {}

    def subjects(self, case: RowCase) -> list[list[Subject]]:
        """The segments of the compiler's plan, and those of the other plan, where there is another that fits."""
        found: list[list[Subject]] = []
        for whole in (True, False):
            try:
                found.append([Subject(each, case.sizes) for each in self._planned(case.kernel.graph, whole)])
            except RowsDoNotFit:
                continue
        return found

    def _planned(self, graph: Graph, whole: bool) -> tuple[Planned, ...]:
        key = id(graph), whole
        if key not in self._made:
            plan, names, made = make_plan(graph, self._casts, whole_rows=whole), graph.symbols(), []
            for segment in plan.segments:
                assert isinstance(segment, VectorSegment)
                family = VectorFamily(segment, names, self._chip, self._isa)
                shared = ReduceFamily.of(segment, family, names)
                made.append(Planned(plan, segment, family, shared))
            self._made[key] = tuple(made)
        return self._made[key]

    def planned_for(self, case: RowCase) -> tuple[Planned, ...]:
        """The segments of the plan that the compiler takes for a case."""
        for whole in (True, False):
            planned = self._planned(case.kernel.graph, whole)
            try:
                for each in planned:
                    each.chosen(case.sizes)
            except RowsDoNotFit:
                continue
            return planned
        raise AssertionError("one of both plans fits")

    def finished(self, graph: Graph, subject: Subject, option: Option) -> int:
        """Simulated cycles, however many they are."""
        cycles = self.cycles(graph, subject, option)
        assert cycles is not None
        return cycles

    def cycles(self, graph: Graph, subject: Subject, option: Option, limit: int | None = None) -> int | None:
        """Simulated cycles; None where they are more than `limit`."""
        known = subject.known.get(option.text)
        if known is not None:
            return known
        reduced = subject.launches(option)
        names = dict(zip(graph.symbols(), subject.values, strict=True))
        tensors = [TensorSpec(t.name, t.kind, t.dtype, evaluate(t.shape, names)) for t in subject.planned.plan.tensors]
        kernel = CompiledKernel("rows", reduced.launches, (*tensors, *reduced.tensors), (), {})
        kernel = joined(kernel, self._chip, self._isa)
        nbytes = {each.name: each.nbytes for each in kernel.tensors}
        total = 0
        for launch in kernel.launches:
            try:
                total += simulate_alone(launch.image, launch.args, nbytes, self._chip, self._isa, limit).cycles
            except TrapError:
                return None
        subject.known[option.text] = total
        return total

    def search(self, graph: Graph, subject: Subject, sample: int, taken: Sequence[Option]) -> tuple[Option, int, int]:
        """The best option, its cycles, and how many were simulated.

        Besides those `taken`, a third of the `sample` have the lowest estimates, a third are drawn of the half with lower
        estimates, a third of all.
        """
        every = sorted(subject.options.values(), key=lambda each: each.estimate)
        source, third = random.Random(f"{graph.name} {subject.values}"), sample // 3
        tried = [*taken, *every[:third]]
        tried += source.sample(every[: len(every) // 2], min(third, len(every) // 2))
        tried += source.sample(every, min(third, len(every)))
        chosen = {each.text: each for each in tried}
        best: tuple[Option, int] | None = None
        for option in chosen.values():
            cycles = self.cycles(graph, subject, option, None if best is None else best[1])
            if cycles is not None and (best is None or cycles < best[1]):
                best = option, cycles
        assert best is not None
        return *best, len(chosen)
