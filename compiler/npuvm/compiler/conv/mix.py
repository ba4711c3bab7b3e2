"""Mixes of a convolution planned for all shapes: a template for each loop nest, made when the first shape takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from npuvm.compiler.conv.codegen import MOST_STEP, check_conv, conv_problem
from npuvm.compiler.conv.family import axes_of, flat_sizes, nest_of, nest_tile, sizes_from
from npuvm.compiler.conv.mix_emit import ConvParts, write_conv_apart, write_conv_together
from npuvm.compiler.conv.plan import ConvTile, ConvTileChooser
from npuvm.compiler.conv.segment import ConvSegment, lower_conv
from npuvm.compiler.conv.spec import ConvSizes, product_of, sizes_of
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.group_programs import GroupPrograms, Looked
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.emit.walk import GridWalk
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.mix.body import Bands
from npuvm.compiler.mix.cores import MixChosen, MixCores, VectorPart, vector_of, vector_part
from npuvm.compiler.mix.cost import MixCost
from npuvm.compiler.mix.emit import MixParts
from npuvm.compiler.mix.family import MixFamily
from npuvm.compiler.mix.space import MixSpace
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import CubeSegment, VectorSegment
from npuvm.compiler.vector.space import make_space
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["ConvMixFamily", "mix_family_of", "result_bands", "result_space"]

_TILE = ("<pixels>", "<tile filters>", "<block>", "<chunk>", "<step>", "<accumulators>", "<rows>", "<bands>", "<cols>")
"""Variables beside the symbols: those of the convolution's tile, `pixels` being rows of it, then those of the bands."""

_MOST_BANDS = 64


def mix_family_of(
    segment: MixSegment,
    symbols: Sequence[str],
    chip: NpuConfig,
    isa: Isa,
    like: CubeSegment | None = None,
    plain: MixFamily | None = None,
    buffering: str | None = None,
) -> MixFamily | ConvMixFamily:
    """All instances of a mix segment on one chip; `like` and `plain` are for a matrix product. CompileError as from either."""
    if isinstance(segment.product, ConvSegment):
        return ConvMixFamily(segment, symbols, chip, isa, buffering)
    return MixFamily(segment, symbols, chip, isa, like, plain, buffering)


class ConvMixFamily:
    """All instances of a convolution with what follows it element by element; `tensors` are those whose addresses they take.

    CompileError when the vector part cannot follow tiles of whole rows of the result, or there are no templates for it.
    """

    def __init__(
        self, segment: MixSegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        binding = {name: SymInt.variable(name) for name in symbols}
        product = segment.product
        assert isinstance(product, ConvSegment), "another product is a MixFamily's"
        self._name, self._chip, self._isa = segment.name, chip, isa
        self._symbols = tuple(symbols)
        self._cores = MixCores.of(chip)
        vector = vector_of(segment, self._cores)
        self._conv, own = lower_conv(product, binding)
        if 0 in (self._conv.depth, *self._conv.out) or max(*self._conv.strides, *self._conv.dilations) > MOST_STEP:
            raise CompileError("there is no template of this convolution", self._name)
        check_conv(self._conv, chip, isa)
        self._spec = product_of(self._conv, True)
        self._common = result_space(self._spec, own, vector, binding, self._conv.planes)
        self.tensors = self._common.tensors
        self._problem = conv_problem(self._conv, chip, isa, Pins(buffering=buffering))
        self._sizes: Function = compile_values(symbols, flat_sizes(sizes_of(self._conv)), "sizes")
        self._chooser = ConvTileChooser(self._problem, self._conv.planes, self._cores.groups, prefers_rows=True)
        result = product.c.tensor.name
        self._part = vector_part(vector, self._common.space, result, binding, chip, isa, buffering)
        self._cost = MixCost(self._common.space, self._part, self._cores, chip, isa)
        self._capacity = chip.capacity_bytes("ub")
        self._templates: dict[int, GroupPrograms] = {}

    def instance(self, values: Sequence[int]) -> Image | None:
        """The image for values of the symbols; None where tiles are parts of rows, or no band of one fits UB."""
        chosen = self.choose(values)
        return None if chosen is None else self.image(values, chosen)

    def choose(self, values: Sequence[int]) -> MixChosen | None:
        """What an image is made of, with estimates; None as for `instance`."""
        found = self._choose(values)
        return None if found is None else found[0]

    def image(self, values: Sequence[int], chosen: MixChosen) -> Image:
        """The image of what was chosen for these values."""
        return self._cores.image(self._name, chosen, (*values, *chosen.numbers))

    def ub_bytes(self, chosen: MixChosen) -> int:
        """Bytes of UB of a band of a tile."""
        rows, _, cols = chosen.numbers[-3:]
        return int(self._part.nbytes(rows, cols)[0])

    def look(self, values: Sequence[int]) -> Looked | None:
        """What `instance` makes its image of, for who wants to see it; the cycles are those estimated of the convolution."""
        found = self._choose(values)
        if found is None:
            return None
        (template, numbers, *_), tile = found
        image = self.image(values, found[0])
        rows, bands, cols = numbers[-3:]
        text = f"{tile}, {bands} bands of {rows} x {cols}"
        return Looked(image, self.tensors, text, tile.cycles, template.buffers((*values, *numbers)))

    def _choose(self, values: Sequence[int]) -> tuple[MixChosen, ConvTile] | None:
        """What an image is made of, and the tile; None as for `instance`."""
        sizes = sizes_from(self._sizes(*values))
        if sizes.images * prod(sizes.out) * sizes.filters * sizes.depth * sizes.size[1] == 0:
            return None
        tile = self._chooser.choose(sizes, self._name)
        bands = self._bands(sizes, tile) if tile.whole else None
        if bands is None:
            return None
        nest = nest_of(tile, sizes)
        template = self._templates.get(nest)
        if template is None:
            template = self._templates[nest] = self._template(nest)
        numbers = (tile.rows, tile.filters, tile.block, tile.chunk, tile.step, tile.l0c_depth, *bands)
        tiles = sizes.images * -(-sizes.out[0] // tile.rows) * -(-sizes.filters // tile.filters)
        elements = sizes.images * prod(sizes.out) * sizes.filters
        behind = self._cost.behind(tile.cycles, tiles, elements, bands)
        return MixChosen(template, numbers, (tiles,), tile.cycles, behind, self._cost.alone(elements)), tile

    def _bands(self, sizes: ConvSizes, tile: ConvTile) -> tuple[int, int, int] | None:
        """Rows of a band of a tile, their number, and the columns of a core: as few bands as fit UB."""
        return result_bands(self._conv.planes, sizes, tile, self._part, self._cores, self._chip, self._capacity)

    def _template(self, nest: int) -> GroupPrograms:
        """The programs of a loop nest."""
        high, filters, block, chunk, step, depth, rows, bands, cols = (SymInt.variable(name) for name in _TILE)
        tile = nest_tile(self._conv, nest, high, filters, block, chunk, step, depth)
        cube = tile.cube(self._conv)
        cut = Bands(rows, bands, cols, self._cores.vectors, cube.l1[1])
        mix = MixParts(
            self._common,
            self._spec,
            self._problem,
            cube,
            self._part.program,
            self._part.storage,
            cut,
            self._part.reg,
            self._chip,
            self._isa,
        )
        parts = ConvParts(self._conv, tile, mix, GridWalk(axes_of(self._conv, self._spec, tile), {}))
        builders = (write_conv_together(parts),) if self._cores.together else write_conv_apart(parts)
        return GroupPrograms(builders, self._cores.order, (*self._symbols, *_TILE))


def result_bands(
    planes: bool, sizes: ConvSizes, tile: ConvTile, part: VectorPart, cores: MixCores, chip: NpuConfig, room: int
) -> tuple[int, int, int] | None:
    """Rows of a band of a tile of the result, their number, and columns of a core: as few bands as fit `room` bytes of UB."""
    pixels, all_pixels = tile.rows * sizes.out[1], prod(sizes.out)
    (m, n), (m_all, n_all) = (pixels, tile.filters), (all_pixels, sizes.filters)
    if planes:
        (m, n), (m_all, n_all) = (n, m), (n_all, m_all)
    if n % cores.vectors and n < n_all:
        return None
    cols = -(-n // cores.vectors)
    # A tile that is the only one along a dim may be longer than that.
    m = align_up(m, chip.core.cube.m) if m >= m_all else m
    for bands in range(1, min(m, _MOST_BANDS) + 1):
        if m % bands == 0 and part.nbytes(m // bands, cols)[0] <= room:
            return m // bands, bands, cols
    return None


def result_space(
    spec: MatmulSpec, own: Sequence[str], vector: VectorSegment, binding: Mapping[str, int], planes: bool
) -> MixSpace:
    """The dims of the vector part, which are images, then pixels and filters, or filters and pixels."""
    domain = evaluate(vector.domain, binding)
    wide = domain[3 if planes else 2]
    # Strides by which rows and columns of an image are one dim, and no others.
    apart = (0, 1, wide, 1) if planes else (0, wide, 1, 0)
    space = make_space(vector, binding, lambda sizes, dims: dims[-1] if dims else None, (apart,))
    last = len(space.sizes) - 1
    batch = 1 if domain[0] != 1 else 0
    sizes = (spec.m, spec.n)
    if last != batch + 1 or space.sizes[-2:] != sizes:
        raise CompileError("the vector part does not work on whole rows of the convolution's result", vector.name)
    # Operands of single filters are no reason for another tile.
    space = replace(space, row=last - 1, col=last)
    if any(all(space.present[each.node.id][-2:]) and each.strides[-1] != 1 for each in (*space.reads, *space.writes)):
        raise CompileError(
            "what the vector part reads or writes does not lie as the convolution's result does", vector.name
        )
    tensors = (*own, *(each.access.tensor.name for each in (*space.reads, *space.writes)))
    return MixSpace(space, spec, tuple(dict.fromkeys(tensors)))
