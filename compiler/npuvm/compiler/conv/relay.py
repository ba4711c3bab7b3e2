"""Convolutions with what is computed of their images before them, planned for all shapes.

There is a template for each loop nest, with and without a loop over the filters that take one image, made when the first shape
takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from npuvm.compiler.conv.codegen import MOST_STEP, check_conv, conv_problem
from npuvm.compiler.conv.family import flat_sizes, nest_of, nest_tile, sizes_from
from npuvm.compiler.conv.mix import result_bands, result_space
from npuvm.compiler.conv.plan import ConvTile, ConvTileChooser
from npuvm.compiler.conv.relay_emit import ConvRelayParts, write_conv_relay
from npuvm.compiler.conv.relay_space import ImageCuts, ImageSlot, image_space, in_slot
from npuvm.compiler.conv.segment import ConvSegment, lower_conv
from npuvm.compiler.conv.spec import ConvSizes, product_of, sizes_of
from npuvm.compiler.cube.levels import ring_slots
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.emit.group_programs import GroupPrograms, Looked
from npuvm.compiler.emit.group_signals import MOST_VECTOR_CORES
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins, most_slots
from npuvm.compiler.mix.body import Bands
from npuvm.compiler.mix.cores import MixCores, VectorPart, vector_of, vector_part
from npuvm.compiler.mix.cost import MixCost
from npuvm.compiler.mix.emit import MixParts
from npuvm.compiler.mix.segment import join_products
from npuvm.compiler.mix.space import MixSpace
from npuvm.compiler.plan.joint import MixSegment, RelaySegment
from npuvm.compiler.program.compiled import TensorSpec
from npuvm.compiler.relay.family import RelayEntries, RelayFamily
from npuvm.compiler.relay.handover import SLOTS
from npuvm.compiler.vector.codegen import RING_SLOTS, covered, tiled
from npuvm.compiler.vector.cost import RowsCost
from npuvm.compiler.vector.emit import ring_count
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries, Image, Isa

__all__ = ["ConvRelayChosen", "ConvRelayFamily", "RelayChosen", "RelayPrograms", "relay_family_of"]

_VARIABLES = (
    "<groups>", "<pixels>", "<tile filters>", "<block>", "<chunk>", "<step>", "<accumulators>", "<filter tiles>", "<channels>",
    "<bands>",
)  # fmt: skip
"""Variables beside the symbols: those of the convolution's tile, `pixels` being rows of it, tiles of filters that take one
image, and how a vector core walks that."""

_BANDS = slice(len(_VARIABLES) - 2, len(_VARIABLES))
"""Where channels of a band and bands are among them."""

_CUT = ("<rows>", "<bands behind>", "<cols>")
"""Variables of what follows the convolution: how a vector core walks a tile of the result."""

_CUBE_RINGS, _SIDE = 6, 1
"""Rings of a convolution on chip, its bias with them but not a way out through UB, and of an end of the hand-over of images."""

_MOST_BANDS, _FEW_BANDS = 64, 4
"""Bands that a vector core's part of an image is cut into, and how many ways to cut it are weighed."""


class ConvRelayChosen(NamedTuple):
    """A tile, values of the template's own variables, steps of the grid on `groups` core groups, the cycles that the launch is
    estimated to take, and those of the convolution alone.
    """

    tile: ConvTile
    nest: int
    inside: bool
    numbers: tuple[int, ...]
    steps: int
    groups: int
    cycles: float
    products: tuple[float, ...]


class RelayChosen(Protocol):
    """What an instance is made of: cycles that are estimated for the launch, and by the same rule for each product alone."""

    @property
    def cycles(self) -> float: ...

    @property
    def products(self) -> tuple[float, ...]: ...


class RelayPrograms(Protocol):
    """All instances of a relay; see `RelayFamily`."""

    tensors: tuple[str, ...]

    def choose(self, values: Sequence[int]) -> RelayChosen | None: ...

    def image(self, values: Sequence[int], chosen: Any) -> tuple[Image, tuple[TensorSpec, ...]]: ...

    def look(self, values: Sequence[int]) -> Looked | None: ...


def relay_family_of(
    segment: RelaySegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
) -> RelayPrograms:
    """All instances of a relay on one chip. CompileError as from its family."""
    if isinstance(segment.after, ConvSegment):
        return ConvRelayFamily(segment, symbols, chip, isa, buffering)
    return RelayFamily(segment, symbols, chip, isa, buffering)


class _Behind(NamedTuple):
    """The vector unit's part of what follows a convolution."""

    common: MixSpace
    part: VectorPart
    cost: MixCost


class _Cut(NamedTuple):
    """How what follows walks a tile: rows of a band, bands, columns, or nothing. What it takes for one, and bytes of UB beside
    it.
    """

    cut: tuple[int, ...]
    cycles: float
    room: int


class ConvRelayFamily:
    """All instances of a convolution with what makes its images element by element; `tensors` are those whose addresses they
    take.

    CompileError when the vector part does not work on whole rows of images, or there are no templates for it.
    """

    def __init__(
        self, segment: RelaySegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        binding = {name: SymInt.variable(name) for name in symbols}
        mix, vector = _mix_of(segment), segment.vector
        product = segment.after if mix is None else mix.product
        assert isinstance(product, ConvSegment), "another product is a RelayFamily's"
        self._name, self._chip, self._isa = segment.name, chip, isa
        self._symbols = tuple(symbols)
        self._cores = cores = MixCores.of(chip)
        if cores.vectors > MOST_VECTOR_CORES:
            allowed = f"at most {MOST_VECTOR_CORES}"
            raise CompileError(
                f"{cores.vectors} vector cores in a group; allowed in a mix program: {allowed}", self._name
            )
        self._conv, own = lower_conv(product, binding)
        if 0 in (self._conv.depth, *self._conv.out) or max(*self._conv.strides, *self._conv.dilations) > MOST_STEP:
            raise CompileError("there is no template of this convolution", self._name)
        check_conv(self._conv, chip, isa)
        self._product = product_of(self._conv, True)
        self._taken = product.a.tensor
        self._common = image_space(self._conv, own, vector, self._taken.name, binding)
        self._problem = conv_problem(self._conv, chip, isa, Pins(buffering=buffering))
        self._sizes: Function = compile_values(symbols, flat_sizes(sizes_of(self._conv)), "sizes")
        self._chooser = ConvTileChooser(self._problem, self._conv.planes, cores.groups, prefers_rows=True)
        self._behind: _Behind | None = None
        if mix is not None:
            after = vector_of(mix, cores)
            common = result_space(self._product, own, after, binding, self._conv.planes)
            part = vector_part(after, common.space, product.c.tensor.name, binding, chip, isa, buffering)
            tensors = tuple(dict.fromkeys((*self._common.tensors, *common.tensors)))
            self._common = replace(self._common, tensors=tensors)
            common = replace(common, tensors=tensors)
            self._behind = _Behind(common, part, MixCost(common.space, part, cores, chip, isa))
            # One core hands its results over in the buffers of the vector unit.
            self._problem = replace(self._problem, via_ub=self._problem.via_ub and not cores.together)
        self.tensors = self._common.tensors
        space = self._common.space
        depth = most_slots(buffering, RING_SLOTS)
        used = covered(vector, space, chip, isa, again=depth > 1)
        # Of two parts in UB the first one has the places that banks ask for.
        banked = chip if mix is None else None
        self._program, self._storage = tiled(used, space, binding, isa, Pins(), depth, banked)
        self._check_rings()
        r, c = SymInt.variable("rows"), SymInt.variable("cols")
        self._nbytes: Function = compile_values(("rows", "cols"), (self._storage.nbytes(r, c),), "nbytes")
        self._rows = RowsCost(space, self._program, chip, isa, self._storage.depth)
        self._handover = float(chip.memory.l2.latency_cycles)
        self._templates: dict[tuple[int, bool], GroupPrograms] = {}

    def _check_rings(self) -> None:
        """CompileError where a core's program has no room for the rings of all its parts; one core may have the cube's, too."""
        parts = [(self._program, self._storage)]
        if self._behind is not None:
            parts.append((self._behind.part.program, self._behind.part.storage))
        own = _CUBE_RINGS + (self._behind is None) + 2 * _SIDE if self._cores.together else _SIDE
        used, most = own + sum(ring_count(*part) for part in parts), self._isa.limits["rings"]
        if used > most:
            raise CompileError(f"{used} rings; allowed in a program are {most}", self._name)

    def choose(self, values: Sequence[int]) -> ConvRelayChosen | None:
        """What an image is made of; None where tiles are parts of rows, or no band of one fits UB."""
        sizes = sizes_from(self._sizes(*values))
        if sizes.images * prod(sizes.out) * sizes.filters * sizes.depth * sizes.size[1] == 0:
            return None
        tile = self._chooser.choose(sizes, self._name)
        behind = self._result_cut(sizes, tile) if tile.whole else None
        found = None if behind is None else self._bands(sizes, tile, behind.room)
        if behind is None or found is None:
            return None
        channels, bands, first, later = found
        nest, tiles = nest_of(tile, sizes), -(-sizes.filters // tile.filters)
        images = sizes.images * -(-sizes.out[0] // tile.rows)
        each = tile.cycles / -(-images * tiles // self._cores.groups)
        best, cycles = 1, float("inf")
        # Blocks of channels do not stay in L1 for other filters, and what follows takes one tile at a time.
        for cut in range(1, tiles + 1) if tile.block >= sizes.channels and not behind.cut else (tiles,):
            together = -(-tiles // cut)
            rounds = -(-images * -(-tiles // together) // self._cores.groups)
            own = together * each
            if self._cores.together or behind.cut:
                # The vector unit has one after the other: an image, what follows its tile, the next image.
                estimate = rounds * (own + behind.cycles) + first + (rounds - 1) * later
            else:
                estimate = first + self._handover + own + (rounds - 1) * max(own, later)
            if estimate < cycles:
                best, cycles = together, estimate
        steps = images * -(-tiles // best)
        groups = min(self._cores.groups, steps)
        numbers = (
            groups, tile.rows, tile.filters, tile.block, tile.chunk, tile.step, tile.l0c_depth, best, channels, bands,
            *behind.cut,
        )  # fmt: skip
        return ConvRelayChosen(tile, nest, best > 1, numbers, steps, groups, cycles, (float(tile.cycles),))

    def image(self, values: Sequence[int], chosen: ConvRelayChosen) -> tuple[Image, tuple[TensorSpec, ...]]:
        """The image of what was chosen for these values, and the tensor between its parts."""
        template = self._template(chosen)
        words, relocs = template.instance((*values, *chosen.numbers))
        entries = RelayEntries(
            self._cores.order, EvenEntries(self._cores.order[0], chosen.groups, (chosen.steps,)), template.starts
        )
        image = Image(self._name, template.isa_hash, words, entries, relocs, template.n_args, template.grids)
        sizes = sizes_from(self._sizes(*values))
        channels, bands = chosen.numbers[_BANDS]
        pixels, planes = _pixels(sizes, chosen.tile), self._conv.planes
        slot = ImageSlot.of(ImageCuts(channels, bands, self._cores.vectors, pixels, planes), self._problem.item)
        shape = (SLOTS * chosen.groups * slot.elements,)
        return image, (TensorSpec(self._taken.name, "workspace", self._taken.dtype, shape),)

    def look(self, values: Sequence[int]) -> Looked | None:
        """What an instance is made of, for who wants to see it; None where a shape has no program."""
        chosen = self.choose(values)
        if chosen is None:
            return None
        image, _ = self.image(values, chosen)
        (channels, bands), together = chosen.numbers[_BANDS], chosen.numbers[_BANDS.start - 1]
        text = f"{chosen.tile}, an image for {together} of them in {bands} bands of {channels} channels"
        if self._behind is not None:
            rows, cut, cols = chosen.numbers[_BANDS.stop :]
            text += f", {cut} bands of {rows} x {cols} behind"
        buffers = self._template(chosen).buffers((*values, *chosen.numbers))
        return Looked(image, self.tensors, text, chosen.cycles, buffers)

    def _result_cut(self, sizes: ConvSizes, tile: ConvTile) -> _Cut | None:
        """How what follows is cut, in half of UB; None where it does not fit."""
        room = self._chip.capacity_bytes("ub")
        if self._behind is None:
            return _Cut((), 0.0, room)
        part, cores = self._behind.part, self._cores
        cut = result_bands(self._conv.planes, sizes, tile, part, cores, self._chip, room // 2)
        if cut is None:
            return None
        rows, bands, cols = cut
        cycles = self._behind.cost.behind(0.0, 1, rows * bands * cols * cores.vectors, cut)
        return _Cut(cut, cycles, room - part.nbytes(rows, cols)[0])

    def _bands(self, sizes: ConvSizes, tile: ConvTile, room: int) -> tuple[int, int, float, float] | None:
        """Channels of a band and the bands of a vector core, with cycles for an image: by itself, and behind another.

        None where there is no room for any. Of planes a few bands more than the fewest may be faster: each is moved while
        another is worked on. Else bands cut the rows of memory, so there are as few as fit.
        """
        planes, pixels, problem = self._conv.planes, _pixels(sizes, tile), self._problem
        vectors = self._cores.vectors
        own = -(-sizes.channels // vectors) if planes else sizes.channels
        if problem.via_ub:
            room -= problem.depth("ub.c") * align_up(ring_slots(problem, tile.cube(self._conv))["ub.c"])
        block = 1 if planes else BLOCK_BYTES // problem.item
        found: list[tuple[int, int, float, float]] = []
        for cut in range(1, min(own, _MOST_BANDS) + 1):
            if len(found) == (_FEW_BANDS if planes else 1):
                break
            channels = align_up(-(-own // cut), block)
            bands = -(-own // channels)
            if found and bands == found[-1][1]:
                continue
            rows, cols = ImageCuts(channels, bands, vectors, pixels, planes).tile
            if self._nbytes(rows, cols)[0] <= room:
                found.append((channels, bands, *self._image_cycles(rows, cols, bands)))
        return min(found, key=itemgetter(2), default=None)

    def _image_cycles(self, rows: int, cols: int, bands: int) -> tuple[float, float]:
        """Cycles for an image in bands of rows x cols: by itself, and behind another."""
        if self._conv.planes:
            first, later = self._rows.of(cols)(rows * bands, rows)
            return first, later
        first, later = self._rows.of(cols)(rows, rows)
        return first + (bands - 1) * later, bands * later

    def _template(self, chosen: ConvRelayChosen) -> GroupPrograms:
        """The programs of a loop nest."""
        key = chosen.nest, chosen.inside
        found = self._templates.get(key)
        if found is not None:
            return found
        names = (*_VARIABLES, *(_CUT if self._behind is not None else ()))
        groups, high, filters, block, chunk, step, depth, together, channels, bands, *cut = (
            SymInt.variable(name) for name in names
        )
        conv = self._conv
        tile = nest_tile(conv, chosen.nest, high, filters, block, chunk, step, depth)
        rows, cols, _ = tile.image(conv, self._problem.item)
        apart, ahead = high * conv.strides[0] * conv.size[1], conv.pads[0] * conv.size[1]
        cuts = ImageCuts(channels, bands, self._cores.vectors, rows * cols, conv.planes, apart, ahead)
        slot = ImageSlot.of(cuts, self._problem.item)
        parts = ConvRelayParts(
            conv,
            tile,
            self._product,
            self._problem,
            in_slot(self._common, slot),
            self._program,
            self._storage,
            cuts,
            slot,
            groups,
            together if chosen.inside else 1,
            chosen.inside,
            self._name,
            self._chip,
            self._isa,
            None if self._behind is None else self._mix_parts(self._behind, tile, cut),
        )
        builders = write_conv_relay(parts)
        found = self._templates[key] = GroupPrograms(builders, self._cores.order, (*self._symbols, *names))
        return found

    def _mix_parts(self, behind: _Behind, tile: ConvTile, cut: Sequence[int]) -> MixParts:
        """What follows, for a tile whose bands have these rows, number and columns."""
        (common, part, _), cube = behind, tile.cube(self._conv)
        rows, bands, cols = cut
        return MixParts(
            common,
            self._product,
            self._problem,
            cube,
            part.program,
            part.storage,
            Bands(rows, bands, cols, self._cores.vectors, cube.l1[1]),
            part.reg,
            self._chip,
            self._isa,
        )


def _mix_of(segment: RelaySegment) -> MixSegment | None:
    """The convolution with what follows it; None where nothing does."""
    if segment.after is None or segment.behind is None:
        return None
    joined = join_products((segment.after, segment.behind))
    if len(joined) > 1 or not isinstance(joined[0], MixSegment):
        raise CompileError("what follows does not work on tiles of the convolution", segment.name)
    return joined[0]


def _pixels(sizes: ConvSizes, tile: ConvTile) -> int:
    """Pixels of the image of a tile, with rows of padding."""
    rows = (tile.rows - 1) * sizes.strides[0] + (sizes.kernel[0] - 1) * sizes.dilations[0] + 1
    return rows * max(sizes.size[1], 1)
