"""Matrix products planned for all shapes: the choice of a tile, and a template for each loop nest.

Templates do not depend on the kernel: products of one sort share them, whatever computes their sizes and strides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from math import inf, prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.chooser import chooser_of
from npuvm.compiler.cube.codegen import check_types, problem_of
from npuvm.compiler.cube.emit import MatmulEmitter
from npuvm.compiler.cube.large import LargeTiles
from npuvm.compiler.cube.lined import LinedTiles
from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.nest import BANDS, COLUMNS, STEPS, TAILED, WHOLE, Nest, NestChooser, nest_grids, nests_of
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, Tail
from npuvm.compiler.cube.spec import MatmulSpec, MatView, normalise, operand_side
from npuvm.compiler.cube.tails import TailChooser
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.emit.template import Template
from npuvm.compiler.emit.walk import Walk
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries, Image, Isa

__all__ = ["CubeFamily", "Panel", "PanelMade", "ProductPrograms", "ProductSort", "part_of"]

_TILE = ("m", "n", "k at L1", "k at L0", "accumulators", "band")
"""Variables that the choices of a tile and of a walk give."""

_TAIL = (*("main m", "main n", "from m", "from n", "rest m", "rest n"), *("rest m at L1", "rest n at L1"))
"""And those of a product in two parts: sizes of the first, where the second begins, its sizes and its tile."""

_PANEL = ("<first row>", "<rows>", "<first column>", "<columns>")
"""Variables of a panel beside the symbols, under names that no symbol has."""

_KEPT_SORTS = 256

_CROWD, _CROWD_OF_COLUMNS, _CROWD_IN_STEPS = 1 / 5, 1 / 3, 5 / 8
"""Shares of the cores at one column that are a crowd: where all of k is in one tile, the second for a transposed left operand,
whose tiles are many short rows too, and where k is in steps."""

_MEET = 4
"""Rows so many lines apart lie in few slices of an L2 that does not hash addresses, and cores wait for these."""


class Panel(NamedTuple):
    """A part of a product's result: `rows` rows from `row` on of `cols` columns from `col` on."""

    row: int
    rows: int
    col: int
    cols: int


class PanelMade(NamedTuple):
    """The program of a panel, its tile, and its two parts where it has some."""

    image: Image
    tile: CubeTile
    tail: Tail | None


class CubeFamily:
    """All instances of a matrix product on one chip, without pins but `buffering`, that have elements and something to add up.

    Sums are added in the order of those of the segment `like`, whose operands may lie otherwise: steps over k at L0 are as long
    as there. `copied`: the operands are copied where that pays, or those of other launches for these sizes are.
    """

    def __init__(
        self,
        segment: CubeSegment,
        symbols: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        like: CubeSegment | None = None,
        buffering: str | None = None,
        *,
        copied: bool = True,
    ) -> None:
        pins = Pins(buffering=buffering)
        binding = {name: SymInt.variable(name) for name in symbols}
        spec, self.tensors = lower_cube(segment, binding)
        spec = normalise(spec)
        check_types(spec, chip, isa)
        problem = problem_of(spec, chip, isa, pins)
        lies = problem if like is None else problem_of(normalise(lower_cube(like, binding)[0]), chip, isa, pins)
        self._is_like, self._across = like is not None, not problem.b.flipped
        self._name, self._spec, self._symbols = spec.name, spec, tuple(symbols)
        self._made_by = chip, isa, buffering
        sort = ProductSort(spec)
        self._sizes: Function = compile_values(
            symbols,
            (
                *(spec.m, spec.n, spec.k, prod(spec.batch), lies.a.pitch, lies.b.pitch),
                *(problem.a.pitch, problem.b.pitch, *sort.numbers),
            ),
            "sizes",
        )
        self._chooser = chooser_of(problem, chip.cores_with("cube"), self._name)
        self._lined = LinedTiles(self._chooser, problem, chip.cores_with("cube")) if copied else None
        self._last: tuple[object, CubeTile] = (None, CubeTile((0, 0, 0), (0, 0, 0), 0, 0))
        # Where rows meet in parts of memory, cores are at columns side by side, in which tails have no place.
        self._tails = TailChooser(self._chooser, chip.cores_with("cube")) if chip.memory.address_hash else None
        empty = any(not isinstance(size, SymInt) and size == 0 for size in (spec.m, spec.n, spec.k, *spec.batch))
        self._programs = None if empty else ProductPrograms(sort, len(self.tensors), chip, isa, buffering=buffering)

    def instance(self, values: Sequence[int]) -> Image | None:
        """The image for values of the symbols; None when m, n, k or a batch dim is 0."""
        m, n, k, batch, a_pitch, b_pitch, own_a, own_b, *numbers = self._sizes(*values)
        if self._programs is None or m * n * k * batch == 0:
            return None
        tile, tail = self._tiles((m, n, k, batch), (a_pitch, b_pitch), (own_a, own_b))
        image = None if tail is None else self._programs.tailed(self._name, numbers, k, tail)
        if image is not None:
            return image
        return self._programs.image(self._name, numbers, (m, n, k, batch), tile, own_a, own_b * self._across)

    def tail(self, values: Sequence[int]) -> Tail | None:
        """The two parts in which the product is computed; None where it is one."""
        m, n, k, batch, a_pitch, b_pitch, own_a, own_b, *_ = self._sizes(*values)
        if self._programs is None or m * n * k * batch == 0:
            return None
        found = self._tiles((m, n, k, batch), (a_pitch, b_pitch), (own_a, own_b))[1]
        return None if found is None or self._programs.nest_of(k, found) is None else found

    def tile(self, values: Sequence[int]) -> CubeTile:
        """The tile of the product as one, which has elements and something to add up."""
        m, n, k, batch, a_pitch, b_pitch, own_a, own_b, *_ = self._sizes(*values)
        return self._tile((m, n, k, batch), (a_pitch, b_pitch), ProductSizes(m, n, k, batch, own_a, own_b))

    def large_tiles(self, values: Sequence[int]) -> LargeTiles | None:
        """Large tiles with the steps over k of the product, of one matrix; None where L2 has no room for it."""
        m, n, k, _, _, _, own_a, own_b, *_ = self._sizes(*values)
        sizes = ProductSizes(m, n, k, 1, own_a, own_b)
        return None if self._chooser.is_vast(sizes) else self._chooser.large(sizes, self.tile(values).l0[2])

    def panel(self, name: str, values: Sequence[int], panel: Panel) -> PanelMade | None:
        """The program `name` of a panel of one matrix, whose sums are those of the whole product.

        None where no tile adds up in the same steps.
        """
        own_a, own_b = self._sizes(*values)[6:8]
        whole, (numbers_of, programs) = self.tile(values), self._panels
        k, *numbers = numbers_of(*values, *panel)
        sizes = ProductSizes(panel.rows, panel.cols, k, 1, own_a, own_b)
        tile = self._chooser.choose(sizes)
        if tile.l0[2] != whole.l0[2]:
            found = self._chooser.choose_in_steps(sizes, whole.l0[2])
            if found is None:
                return None
            tile = found
        tail = None if self._tails is None else self._tails.choose(sizes, tile)
        image = None if tail is None else programs.tailed(name, numbers, k, tail)
        if image is not None:
            return PanelMade(image, tile, tail)
        return PanelMade(programs.image(name, numbers, sizes[:4], tile, own_a, own_b * self._across), tile, None)

    def prepare_panels(self) -> list[npt.NDArray[np.float64]]:
        """Make what all panels need; edges of the large tiles that may be theirs."""
        _ = self._panels
        return self._chooser.prepare_large()

    @cached_property
    def _panels(self) -> tuple[Function, ProductPrograms]:
        """Programs of panels; k and their numbers, for values of the symbols and of `_PANEL`."""
        chip, isa, buffering = self._made_by
        row, rows, col, cols = (SymInt.variable(name) for name in _PANEL)
        sort = ProductSort(part_of(self._spec, (row, rows), (col, cols)))
        numbers = compile_values((*self._symbols, *_PANEL), (self._spec.k, *sort.numbers), "numbers")
        return numbers, ProductPrograms(sort, len(self.tensors), chip, isa, buffering=buffering)

    def _tiles(
        self, sizes: tuple[int, int, int, int], pitches: tuple[int, int], own_pitches: tuple[int, int]
    ) -> tuple[CubeTile, Tail | None]:
        """The tile of the product as one, and its two parts where these are faster."""
        own = ProductSizes(*sizes, *own_pitches)
        tile = self._tile(sizes, pitches, own)
        return tile, None if self._tails is None else self._tails.choose(own, tile)

    def _tile(self, sizes: tuple[int, int, int, int], pitches: tuple[int, int], own: ProductSizes) -> CubeTile:
        """The tile of the product as one, which lies as `own`, and without copies at these pitches."""
        key = ProductSizes(*sizes, *pitches), own
        if key != self._last[0]:
            tile = self._chooser.choose(key[0]) if self._lined is None else self._lined.choose(key[0])
            self._last = key, self._like(tile, own) if self._is_like else tile
        return self._last[1]

    def _like(self, tile: CubeTile, sizes: ProductSizes) -> CubeTile:
        """The best tile for operands that lie otherwise, with the steps over k at L0 of the one given, or that one."""
        own = self._chooser.choose(sizes)
        return own if own.l0[2] == tile.l0[2] else self._chooser.choose_in_steps(sizes, tile.l0[2]) or tile

    def cycles(self, values: Sequence[int]) -> float:
        """The cycles that a launch for these values, with something to add up, is estimated to take among others.

        See `TileChooser.kept_cycles`.
        """
        m, n, k, batch, a_pitch, b_pitch, *_ = self._sizes(*values)
        return self._chooser.kept_cycles(ProductSizes(m, n, k, batch, a_pitch, b_pitch))


class ProductPrograms:
    """Programs of products of one sort for any sizes and tiles, on `cores` cores or all that there are."""

    def __init__(
        self,
        sort: ProductSort,
        n_args: int,
        chip: NpuConfig,
        isa: Isa,
        cores: int | None = None,
        buffering: str | None = None,
    ) -> None:
        self._cores = cores or chip.cores_with("cube")
        self._item = item = isa.dtypes[sort.spec.a.dtype].itemsize
        memory = chip.memory
        burst, line = chip.core.load.min_burst_bytes / item, memory.l2.line_bytes // item
        crowd = _crowd(sort.spec, isa) if memory.address_hash and self._cores > 1 else (inf, inf)
        room = chip.capacity_bytes("l2") / item
        self._nests = NestChooser(self._cores, room, burst, line, memory.address_hash, crowd)
        self._keeps_all = memory.l2.unaligned_reads != "uncached"
        spread = memory.address_hash or self._cores == 1 or memory.l2.slices % _MEET
        self._meet = 0 if spread else _MEET * memory.l2.line_bytes
        self._core_type = chip.core_type_with("cube")
        self._templates = _TEMPLATES.get(sort, n_args, chip, isa, buffering)

    def image(
        self,
        name: str,
        numbers: Sequence[int],
        sizes: tuple[int, int, int, int],
        tile: CubeTile,
        a_pitch: int = 0,
        b_pitch: int = 0,
    ) -> Image:
        """The program for `numbers`, those of the product's sort; `sizes` are m, n, k and the number of matrices.

        Rows of the operands lie `a_pitch` and `b_pitch` bytes apart, where these are known and cores share rows of the right.
        """
        meets = self._meet > 0 and b_pitch > 0 and b_pitch % self._meet == 0
        kept = self._keeps_all or a_pitch % BLOCK_BYTES == 0
        nest = self._nests.choose(*sizes, tile, meets=meets, pitch=b_pitch // self._item, kept=kept)
        return self._image(name, nest, (*numbers, *tile.l1, tile.l0[2], tile.l0c_depth, nest.band))

    def nest_of(self, k: int, tail: Tail) -> Nest | None:
        """The nest of a product in two parts; None where it has to be one."""
        return self._nests.choose_tailed(k, tail) if TAILED in self._templates else None

    def tailed(self, name: str, numbers: Sequence[int], k: int, tail: Tail) -> Image | None:
        """The same for a product in two parts; None where it has to be one."""
        nest = self.nest_of(k, tail)
        if nest is None:
            return None
        tile = tail.main
        start = (tail.rows, 0) if tail.rest_cols == tail.cols else (0, tail.cols)
        rest = tail.rest_rows, tail.rest_cols, *tail.rest.l1[:2]
        own = *tile.l1, tile.l0[2], tile.l0c_depth, nest.band, tail.rows, tail.cols, *start, *rest
        return self._image(name, nest, (*numbers, *own))

    def _image(self, name: str, nest: Nest, values: tuple[int, ...]) -> Image:
        template = self._templates[nest.number]
        words, relocs = template.instance(values)
        cores = min(self._cores, sum(nest.tiles))
        entries = EvenEntries(self._core_type, cores, nest.tiles, by_grid=nest.by_grid, tail=nest.is_tailed)
        return Image(name, template.isa_hash, words, entries, relocs, template.n_args, template.grids)


class ProductSort:
    """A product with a variable for each of its `numbers` but 0 and 1; `key` tells it from products of other sorts."""

    def __init__(self, spec: MatmulSpec) -> None:
        self.numbers: list[int] = []
        constants: list[int | None] = []

        def variable(value: int) -> int:
            known = not isinstance(value, SymInt) and value in (0, 1)
            constants.append(value if known else None)
            if known:
                return value
            self.numbers.append(value)
            return SymInt.variable(f"number {len(self.numbers)}")

        def view(each: MatView) -> MatView:
            return replace(
                each,
                row=variable(each.row),
                col=variable(each.col),
                offset=variable(each.offset),
                batch=tuple(variable(stride) for stride in each.batch),
            )

        self.spec = replace(
            spec,
            a=view(spec.a),
            b=view(spec.b),
            c=view(spec.c),
            bias=None if spec.bias is None else view(spec.bias),
            m=variable(spec.m),
            n=variable(spec.n),
            k=variable(spec.k),
            batch=tuple(variable(size) for size in spec.batch),
            name="product",
        )
        kinds = [(each.arg, each.dtype, each.cache, len(each.batch)) for each in spec.views.values()]
        self.key = (tuple(constants), tuple(kinds), len(spec.batch), spec.relu)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in the order of `numbers`."""
        return tuple(f"number {at + 1}" for at in range(len(self.numbers)))


class _Templates:
    """The most recently used templates, by sort of product, chip, instruction set and buffering."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, dict[int, Template]] = OrderedDict()

    def get(
        self, sort: ProductSort, n_args: int, chip: NpuConfig, isa: Isa, buffering: str | None
    ) -> dict[int, Template]:
        """A template for each loop nest, by its number."""
        key = (sort.key, n_args, chip.chip_hash, isa.hash, buffering)
        found = self._kept.get(key)
        if found is None:
            pins = Pins(buffering=buffering)
            found = self._kept[key] = {nest: _template(sort, n_args, chip, isa, nest, pins) for nest in nests_of(chip)}
            if chip.memory.address_hash and chip.cores_with("cube") > 1 and not sort.spec.batch:
                found[TAILED] = _tailed_template(sort, n_args, chip, isa, pins)
            if len(self._kept) > _KEPT_SORTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found


_TEMPLATES = _Templates()


def _template(sort: ProductSort, n_args: int, chip: NpuConfig, isa: Isa, nest: int, pins: Pins) -> Template:
    spec = sort.spec
    problem = problem_of(spec, chip, isa, pins)
    m, n, k, k0, depth, band = (SymInt.variable(name) for name in _TILE)
    tile = CubeTile((m, n, spec.k if nest in (WHOLE, COLUMNS) else k), (m, n, k0), depth, 0)
    emitter = MatmulEmitter(spec, problem, tile, chip.core_type_with("cube"), n_args)
    emitter.write(spec, problem, Walk(tuple(nest_grids(nest, spec, m, n, band)), ()))
    return emitter.b.template((*sort.variables, *_TILE))


def _tailed_template(sort: ProductSort, n_args: int, chip: NpuConfig, isa: Isa, pins: Pins) -> Template:
    spec = sort.spec
    problem = problem_of(spec, chip, isa, pins)
    m, n, k, k0, depth, band = (SymInt.variable(name) for name in _TILE)
    main_m, main_n, from_m, from_n, rest_m, rest_n, m2, n2 = (SymInt.variable(name) for name in _TAIL)
    emitter = MatmulEmitter(
        spec, problem, CubeTile((m, n, k), (m, n, k0), depth, 0), chip.core_type_with("cube"), n_args
    )
    main = replace(spec, m=main_m, n=main_n)
    emitter.write(main, problem, Walk(tuple(nest_grids(BANDS, main, m, n, band)), ()))
    rest = part_of(spec, (from_m, rest_m), (from_n, rest_n))
    emitter.write(rest, problem, Walk(tuple(nest_grids(STEPS, rest, m2, n2, 1)), ()), (m2, n2))
    return emitter.b.template((*sort.variables, *_TILE, *_TAIL))


def part_of(spec: MatmulSpec, rows: tuple[int, int], cols: tuple[int, int]) -> MatmulSpec:
    """Some rows and columns of a product: the first one and their number of both."""
    (row, m), (col, n) = rows, cols
    return replace(
        spec,
        m=m,
        n=n,
        a=_moved(spec.a, row, 0),
        b=_moved(spec.b, 0, col),
        c=_moved(spec.c, row, col),
        bias=None if spec.bias is None else _moved(spec.bias, 0, col),
    )


def _crowd(spec: MatmulSpec, isa: Isa) -> tuple[float, float]:
    """The shares of `NestChooser` for a product. Tiles of a transposed right operand are few long rows, asked for sooner."""
    if operand_side(spec.b, spec.k, spec.n, isa, "b").flipped:
        return inf, _CROWD_IN_STEPS
    is_a_flipped = operand_side(spec.a, spec.m, spec.k, isa, "a").flipped
    return _CROWD_OF_COLUMNS if is_a_flipped else _CROWD, _CROWD_IN_STEPS


def _moved(view: MatView, rows: int, cols: int) -> MatView:
    """The view of what begins so many rows and columns behind."""
    return replace(view, offset=view.offset + rows * view.row + cols * view.col)
