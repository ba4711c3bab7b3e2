"""Convolutions planned for all shapes: the choice of a tile, and a template for each of six loop nests.

Tiles are whole rows of the result or parts of one, and the kernels of a tile lie in L1 whole, part by part, or with a block of
channels at a time. Templates do not depend on the kernel: convolutions of one sort share them, whatever their sizes, strides,
dilations and padding are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from npuvm.compiler.conv.codegen import MOST_STEP, check_conv, conv_problem, emitter_of
from npuvm.compiler.conv.plan import MOST_LOADS, ConvTile, ConvTileChooser
from npuvm.compiler.conv.segment import ConvSegment, lower_conv
from npuvm.compiler.conv.spec import ConvSizes, ConvSpec, ImageView, product_of, sizes_of
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.symint import Function, SymInt, ceil_div, compile_values, several
from npuvm.compiler.emit.template import Template
from npuvm.compiler.emit.walk import Axis, GridWalk, Walk
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries, Image, Isa

__all__ = [
    "NESTS",
    "ConvFamily",
    "ConvPrograms",
    "ConvSort",
    "axes_of",
    "flat_sizes",
    "nest_of",
    "nest_tile",
    "sizes_from",
]

_TILE = ("rows", "cols", "tile filters", "block", "chunk", "step", "accumulators")
"""Variables that the choice of a tile gives."""

_ALL, _PARTS, _BLOCKS = range(3)
"""Loop nests: all elements of the kernels in L1, parts of them, and those of a block of channels."""

NESTS = (_ALL, _PARTS, _BLOCKS)

_KEPT_SORTS = 64


class ConvFamily:
    """All instances of a convolution on one chip, without pins but `buffering`, that have elements and something to add up.

    Not those with a stride or a dilation past the room of the instruction of windows, which may stand along a single pixel; and
    not tiles of parts of rows where the height of the kernel is a symbol.
    """

    def __init__(
        self, segment: ConvSegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        spec, self.tensors = lower_conv(segment, {name: SymInt.variable(name) for name in symbols})
        self._name = spec.name
        self._programs: ConvPrograms | None = None
        known = (spec.images, *spec.out, spec.filters, spec.depth, spec.size[1])
        if 0 in known or max(*spec.strides, *spec.dilations) > MOST_STEP:
            return
        check_conv(spec, chip, isa)
        sort = ConvSort(spec)
        sizes = sizes_of(spec)
        self._numbers = len(sort.numbers)
        self._sizes: Function = compile_values(symbols, (*sort.numbers, *flat_sizes(sizes)), "sizes")
        problem = conv_problem(spec, chip, isa, Pins(buffering=buffering))
        self._chooser = ConvTileChooser(problem, spec.planes, chip.cores_with("cube"))
        self._programs = ConvPrograms(sort, len(self.tensors), chip, isa, buffering)

    def instance(self, values: Sequence[int]) -> Image | None:
        """The image for values of the symbols; None for sizes, or a convolution, that there are no templates for."""
        chosen = self._choose(values)
        if chosen is None or self._programs is None:
            return None
        return self._programs.image(self._name, *chosen)

    def cycles(self, values: Sequence[int]) -> float:
        """The cycles that a launch is estimated to take; 0 where there is no template."""
        chosen = self._choose(values)
        return 0.0 if chosen is None else float(chosen[-1].cycles)

    def _choose(self, values: Sequence[int]) -> tuple[tuple[int, ...], ConvSizes, ConvTile] | None:
        """Numbers of the convolution's sort, its sizes and tile."""
        if self._programs is None:
            return None
        found = self._sizes(*values)
        sizes = sizes_from(found[self._numbers :])
        if sizes.images * sizes.out[0] * sizes.out[1] * sizes.filters * sizes.depth * sizes.size[1] == 0:
            return None
        return found[: self._numbers], sizes, self._chooser.choose(sizes, self._name)


class ConvPrograms:
    """Programs of convolutions of one sort for any sizes and tiles."""

    def __init__(self, sort: ConvSort, n_args: int, chip: NpuConfig, isa: Isa, buffering: str | None = None) -> None:
        self._cores, self._core_type = chip.cores_with("cube"), chip.core_type_with("cube")
        self.templates = _TEMPLATES.get(sort, n_args, chip, isa, buffering)

    def image(self, name: str, numbers: Sequence[int], sizes: ConvSizes, tile: ConvTile) -> Image | None:
        """The program for `numbers`, those of the convolution's sort; None for a tile that there is no template for."""
        template = self.templates.get((tile.whole, nest_of(tile, sizes)))
        if template is None:
            return None
        given = (tile.rows, tile.cols, tile.filters, tile.block, tile.chunk, tile.step, tile.l0c_depth)
        words, relocs = template.instance((*numbers, *given))
        rows, cols = -(-sizes.out[0] // tile.rows), -(-sizes.out[1] // tile.cols)
        tiles = sizes.images * rows * cols * -(-sizes.filters // tile.filters)
        entries = EvenEntries(self._core_type, min(self._cores, tiles), (tiles,))
        return Image(name, template.isa_hash, words, entries, relocs, template.n_args, template.grids)


def nest_of(tile: ConvTile, sizes: ConvSizes) -> int:
    """The number of the loop nest that a tile wants."""
    return _BLOCKS if tile.block < sizes.channels else _PARTS if tile.chunk < sizes.depth else _ALL


def nest_tile(
    spec: ConvSpec, nest: int, rows: int, filters: int, block: int, chunk: int, step: int, depth: int
) -> ConvTile:
    """A tile of whole rows as the code of a loop nest has it."""
    return ConvTile(
        rows,
        spec.out[1],
        True,
        filters,
        block if nest == _BLOCKS else spec.channels,
        spec.depth if nest == _ALL else chunk,
        step,
        depth,
        0,
    )


def axes_of(spec: ConvSpec, product: MatmulSpec, tile: ConvTile) -> tuple[Axis, ...]:
    """The walk over the tiles of all images. An image is loaded once for all filters: they are the innermost dimension."""
    m, n, _ = tile.cube(spec).l1
    inner = [Axis("m", ceil_div(product.m, m)), Axis("n", ceil_div(product.n, n))]
    batch = [Axis(f"b{at}", size) for at, size in enumerate(product.batch) if several(size)]
    return (*batch, *(reversed(inner) if spec.planes else inner))


def flat_sizes(sizes: ConvSizes) -> list[int]:
    """The numbers of all sizes, one after the other."""
    return [number for each in sizes for number in (each if isinstance(each, tuple) else (each,))]


def sizes_from(flat: Sequence[int]) -> ConvSizes:
    """The sizes that `flat_sizes` made flat."""
    (images, *pairs), (channels, filters, x_row, y_row, x_apart, y_apart, *rest) = flat[:11], flat[11:]
    size, out, kernel, strides, dilations = zip(pairs[::2], pairs[1::2], strict=True)
    rows, apart = (x_row, y_row), (x_apart, y_apart)
    return ConvSizes(images, size, out, kernel, strides, dilations, channels, filters, rows, apart, *rest)


class ConvSort:
    """A convolution with a variable for each of its `numbers`; `key` tells it from convolutions of other sorts.

    Strides of views that are 0 or 1 and groups of 1 stay what they are.
    """

    def __init__(self, spec: ConvSpec) -> None:
        self.numbers: list[int] = []
        constants: list[int] = []

        def variable(value: int) -> int:
            self.numbers.append(value)
            return SymInt.variable(f"number {len(self.numbers)}")

        def pair(values: tuple[int, int]) -> tuple[int, int]:
            return variable(values[0]), variable(values[1])

        def kept(value: int) -> int:
            known = not isinstance(value, SymInt) and value in (0, 1)
            constants.append(value if known else -1)
            return value if known else variable(value)

        def image(view: ImageView) -> ImageView:
            return replace(
                view,
                image=kept(view.image),
                row=kept(view.row),
                pixel=kept(view.pixel),
                channel=kept(view.channel),
                offset=kept(view.offset),
            )

        def matrix(view: MatView) -> MatView:
            return replace(view, row=0, offset=kept(view.offset))

        self.kernel_h = spec.kernel[0]
        self.spec = replace(
            spec,
            images=variable(spec.images),
            size=pair(spec.size),
            out=pair(spec.out),
            kernel=pair(spec.kernel),
            strides=pair(spec.strides),
            dilations=pair(spec.dilations),
            pads=pair(spec.pads),
            channels=variable(spec.channels),
            filters=variable(spec.filters),
            groups=kept(spec.groups),
            x=image(spec.x),
            w=matrix(spec.w),
            y=image(spec.y),
            bias=None if spec.bias is None else matrix(spec.bias),
            name="convolution",
        )
        views: list[ImageView | MatView] = [spec.x, spec.w, spec.y, *([spec.bias] if spec.bias is not None else [])]
        self.key = (tuple(constants), tuple((each.arg, each.dtype, each.cache) for each in views), spec.planes)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in the order of `numbers`."""
        return tuple(f"number {at + 1}" for at in range(len(self.numbers)))


class _Templates:
    """The most recently used templates, by sort of convolution, chip, instruction set and buffering."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, dict[int, Template]] = OrderedDict()

    def get(
        self, sort: ConvSort, n_args: int, chip: NpuConfig, isa: Isa, buffering: str | None
    ) -> dict[tuple[bool, int], Template]:
        """A template for tiles of whole rows or not, and each loop nest.

        Parts of a row take a load for each row of a kernel: there are none for kernels of any height, or of too many rows.
        """
        known = [] if isinstance(sort.kernel_h, SymInt) or sort.kernel_h > MOST_LOADS else [sort.kernel_h]
        return {
            (rows is None, nest): template
            for rows in (None, *known)
            for nest, template in self._of_rows(sort, rows, n_args, chip, isa, buffering).items()
        }

    def _of_rows(
        self, sort: ConvSort, rows: int | None, n_args: int, chip: NpuConfig, isa: Isa, buffering: str | None
    ) -> dict[int, Template]:
        key = (sort.key, rows, n_args, chip.chip_hash, isa.hash, buffering)
        found = self._kept.get(key)
        if found is None:
            pins = Pins(buffering=buffering)
            found = self._kept[key] = {nest: _template(sort, rows, n_args, chip, isa, nest, pins) for nest in NESTS}
            if len(self._kept) > _KEPT_SORTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found


_TEMPLATES = _Templates()


def _template(
    sort: ConvSort, rows: int | None, n_args: int, chip: NpuConfig, isa: Isa, nest: int, pins: Pins
) -> Template:
    """The template of a loop nest; `rows` are those of a kernel where tiles are parts of a row of the result."""
    whole, spec = rows is None, sort.spec
    if rows is not None:
        spec = replace(spec, kernel=(rows, spec.kernel[1]))
    high, wide, filters, block, chunk, step, depth = (SymInt.variable(name) for name in _TILE)
    tile = nest_tile(spec, nest, high, filters, block, chunk, step, depth)
    if not whole:
        tile = tile._replace(rows=1, cols=wide, whole=False)
    made = product_of(spec, whole)
    problem = conv_problem(spec, chip, isa, pins)
    emitter = emitter_of(spec)(spec, tile, made, problem, chip.core_type_with("cube"), n_args)
    emitter.write(made, problem, Walk((GridWalk(axes_of(spec, made, tile), {}),), ()))
    return emitter.b.template((*sort.variables, *_TILE))
