"""One way to work on the tiles of a vector segment, for all sizes: its tile program, its chooser of tiles, and its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.symint import SymInt, ceil_div, compile_values
from npuvm.compiler.emit.template import Template
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.choice import Choice, TileChooser
from npuvm.compiler.vector.codegen import covered, tiled
from npuvm.compiler.vector.emit import write_vector
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.space import Space, Transfer, dim_name
from npuvm.compiler.vector.tile import VectorTile
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries, Image, Isa

__all__ = ["TILE", "Maker", "Tiled", "Way", "tile_walk", "with_numbers"]

TILE = ("<tile rows>", "<tile cols>")
"""Variables beside the symbols, under names that no symbol has."""

Tiled = tuple[VectorSegment, VecProgram, Storage]
"""A segment in instructions, its tile program and its buffers."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the ways of all structures of a segment."""

    segment: VectorSegment
    symbols: Sequence[str]
    chip: NpuConfig
    isa: Isa
    narrow: bool = True
    buffering: str | None = None

    def way(self, binding: Mapping[str, int], space: Space, depth: int, banked: NpuConfig | None) -> Way:
        """Tile program and buffers with rings of `depth` slots; `banked` is a chip whose banks they are to respect."""
        return Way(self, space, *self.tiled(binding, space, depth, banked))

    def tiled(self, binding: Mapping[str, int], space: Space, depth: int, banked: NpuConfig | None) -> Tiled:
        """What a way is made of; see `way`."""
        segment = covered(self.segment, space, self.chip, self.isa, again=depth > 1)
        return segment, *tiled(segment, space, binding, self.isa, Pins(), depth, banked)


class Way:
    """A tile program with its chooser and, from its first instance on, its template."""

    variables: tuple[str, ...] = TILE

    def __init__(
        self,
        maker: Maker,
        space: Space,
        segment: VectorSegment,
        program: VecProgram,
        storage: Storage,
        chooser: TileChooser | None = None,
    ) -> None:
        self.space = space
        self.chooser = chooser or TileChooser(space, program, storage, maker.chip, maker.isa)
        self.maker, self.segment, self.program, self.storage = maker, segment, program, storage
        self.cores = maker.chip.cores_with("vector")
        self.core_type = maker.chip.core_type_with("vector")
        self._template: Template | None = None
        self._tensors: tuple[str, ...] = ()

    def prepare(self) -> Template:
        """Make the template, and what choices of tiles need."""
        self.chooser.prepare()
        self._template, self._tensors = self._make_template()
        return self._template

    def instance(self, values: Sequence[int], sizes: Sequence[int], choice: Choice) -> tuple[Image, tuple[str, ...]]:
        template = self._template or self.prepare()
        words, relocs = template.instance((*values, *self.numbers(sizes, choice)))
        entries = self.entries(sizes, choice)
        image = Image(template.name, template.isa_hash, words, entries, relocs, template.n_args, template.grids)
        return image, self._tensors

    def numbers(self, sizes: Sequence[int], choice: Choice) -> tuple[int, ...]:
        """Values of the variables beside the symbols."""
        return choice.rows, choice.cols

    def entries(self, sizes: Sequence[int], choice: Choice) -> EvenEntries:
        """The cores' ranges of the tiles."""
        space = self.space
        parallel, steps = 1, 1
        for dim, size in enumerate(sizes):
            count = size
            if dim == space.row:
                count = -(-size // choice.rows)
            elif dim == space.col:
                count = -(-size // choice.cols)
            if space.reduced[dim]:
                steps *= count
            else:
                parallel *= count
        return EvenEntries(self.core_type, min(self.cores, parallel), (parallel,), steps)

    def grids(self, values: Sequence[int], choice: Choice) -> tuple[GridWalk, ...]:
        """Grids that are not those of all tiles in order, for values of the symbols."""
        return ()

    def _make_template(self) -> tuple[Template, tuple[str, ...]]:
        space = self.space
        rows: int = SymInt.variable(TILE[0])
        cols: int = SymInt.variable(TILE[1])
        if space.row is None:
            rows = 1
        elif space.whole and space.reduced[space.row]:
            rows = space.rows
        if space.whole and space.reduced[space.col]:
            cols = space.cols
        builder, tensors = self.write(VectorTile(rows, cols, 0.0))
        return builder.template((*self.maker.symbols, *self.variables)), tensors

    def write(self, tile: VectorTile) -> tuple[InstrBuilder, tuple[str, ...]]:
        """The instructions for a tile that may be SymInts, and the tensors whose addresses they take."""
        maker, space = self.maker, self.space
        grids = [tile_walk(space, tile)]
        return write_vector(
            self.segment.name, space, self.program, self.storage, tile, grids, maker.chip, maker.isa, Pins()
        )


def with_numbers(space: Space, symbols: Sequence[str], values: Sequence[int]) -> Space:
    """A space with sizes, strides and offsets for values of the symbols."""

    def known(numbers: Sequence[int]) -> tuple[int, ...]:
        return compile_values(symbols, numbers)(*values)

    def moved(transfers: Sequence[Transfer]) -> tuple[Transfer, ...]:
        return tuple(replace(each, strides=known(each.strides), offset=known((each.offset,))[0]) for each in transfers)

    cut = space.cut
    if cut is not None:
        total, rest = known((cut.total, cut.rest))
        cut = replace(cut, total=total, rest=rest)
    return replace(space, cut=cut, sizes=known(space.sizes), reads=moved(space.reads), writes=moved(space.writes))


def tile_walk(space: Space, tile: VectorTile) -> GridWalk:
    """Tiles of the dims that stay, columns before rows; inside each all tiles of the reduced dims."""
    counts = {dim: space.sizes[dim] for dim in space.others}
    if not (space.whole and space.reduced[space.col]):
        counts[space.col] = ceil_div(space.cols, tile.cols)
    if space.row is not None and not (space.whole and space.reduced[space.row]):
        counts[space.row] = ceil_div(space.rows, tile.rows)
    order = [*space.others, *(dim for dim in (space.col, space.row) if dim is not None)]
    outer = [dim for dim in order if dim in counts and not space.reduced[dim]]
    inner = [dim for dim in sorted(counts) if space.reduced[dim]]
    axes = tuple(Axis(dim_name(dim), counts[dim]) for dim in (*outer, *inner))
    return GridWalk(axes or (Axis("none", 1),), {})
