"""Writes a convolution and what is computed of its images before it, element by element, in one program.

The vector unit makes the image of a tile, rows that lie between its windows with it, in a slot of global memory; the cube's
loads take it from there, as long as tiles need no other. What stands outside an image is made 0 by those loads, so that padding
comes behind what the vector unit does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.conv.codegen import emitter_of
from npuvm.compiler.conv.emit import ConvEmitter
from npuvm.compiler.conv.plan import ConvTile
from npuvm.compiler.conv.planes import PlanesEmitter
from npuvm.compiler.conv.relay_space import ImageCuts, ImageSlot, ImageSpace
from npuvm.compiler.conv.relay_vector import ImageBands
from npuvm.compiler.conv.spec import ConvSpec
from npuvm.compiler.cube.base import Step
from npuvm.compiler.cube.extent import grid_extent
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.group_signals import HALF
from npuvm.compiler.emit.handles import Desc, Loop, Window
from npuvm.compiler.emit.symint import ceil_div, several
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.mix.body import Clamped
from npuvm.compiler.mix.emit import ApartProduct, MixParts, TogetherProduct, mix_context, take_tiles
from npuvm.compiler.relay.handover import Side, make_handovers
from npuvm.compiler.relay.walk import GROUP
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.emit import part_context
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.tile import VectorTile
from npuvm.hw.config import CoreType, NpuConfig
from npuvm.isa import Isa, Pred

__all__ = ["ConvRelayParts", "write_conv_relay"]


@dataclass(frozen=True, slots=True)
class ConvRelayParts:
    """What a program is written from: the convolution with its tile, and the vector unit's part of it.

    `together` tiles of filters that follow each other take one image, where `inside` by a loop of their own. `groups` core
    groups have a place in each slot. `mix` is the vector unit's part of what follows the convolution, where something does.
    """

    conv: ConvSpec
    tile: ConvTile
    product: MatmulSpec
    problem: TileProblem
    common: ImageSpace
    program: VecProgram
    storage: Storage
    cuts: ImageCuts
    slot: ImageSlot
    groups: int
    together: int
    inside: bool
    name: str
    chip: NpuConfig
    isa: Isa
    mix: MixParts | None = None

    @property
    def dims(self) -> tuple[str, str]:
        """The dims of the product that pixels and filters are."""
        return ("n", "m") if self.conv.planes else ("m", "n")

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Those of the product's dims, and of a tile."""
        m, n, _ = self.tile.cube(self.conv).l1
        return {"m": (self.product.m, m), "n": (self.product.n, n)}

    @property
    def filter_tiles(self) -> int:
        """Tiles of filters."""
        size, tile = self.sizes[self.dims[1]]
        return ceil_div(size, tile)

    def grid(self) -> GridWalk:
        """The walk over the images of all tiles, and over the filters that take one of them at a time."""
        own = [Axis(GROUP, self.groups), *([Axis(HALF, self.cuts.cores)] if self.cuts.cores > 1 else [])]
        images = [Axis("b0", self.conv.images)] if several(self.conv.images) else []
        pixels, filters = self.dims
        taken = Axis(filters, ceil_div(self.filter_tiles, self.together), self.together)
        size, tile = self.sizes[pixels]
        return GridWalk((*own, *images, Axis(pixels, ceil_div(size, tile)), taken), {})


def write_conv_relay(parts: ConvRelayParts) -> tuple[InstrBuilder, ...]:
    """The programs: of the cube core and of the vector cores, or of the cores that are both."""
    chip, common = parts.chip, parts.common
    alone, mix = chip.core.kind == "unified", parts.mix
    cube = _MAKERS[emitter_of(parts.conv), mix is not None, alone](parts, chip.core_type_with("cube"), alone=alone)
    vector = cube.b
    if not alone:
        vector = InstrBuilder(parts.isa, {"ub": chip.capacity_bytes("ub")}, parts.name, len(common.tensors))
        vector.barrier("group")
    handover, nbytes = cube.handovers["taken"], parts.groups * parts.slot.elements * parts.slot.item
    cube.side = Side.make(cube.b, "taken", handover, nbytes, "load", "consumer")
    side = Side.make(vector, "taken", handover, nbytes, "store", "producer")
    handed = cube.handed if isinstance(cube, ApartProduct) else ()
    follow = None if mix is None or alone else mix_context(mix, vector)
    if mix is not None and isinstance(cube, TogetherProduct):
        cube.follow(mix)
    tile = VectorTile(*parts.cuts.tile, 0.0)
    context = part_context(vector, common.space, parts.program, parts.storage, tile, common.tensors, chip)
    bands = ImageBands(context, common, parts.cuts, parts.slot, side, parts.dims[0])
    grid = parts.grid()
    steps: tuple[Callable[[GridWalk, Sequence[Loop]], None], ...] = (bands.write_image, cube.write_image)
    if alone:
        _write(cube.b, grid, steps)
        return (cube.b,)
    _write(cube.b, grid, steps[1:])
    if mix is None or follow is None:
        _write(vector, grid, steps[:1])
        return cube.b, vector

    def take_tile(grid: GridWalk, loops: Sequence[Loop]) -> None:
        take_tiles(vector, follow, mix.bands, *_in_group(grid, loops), handed)

    _write(vector, grid, (steps[0], take_tile))
    return cube.b, vector


def _in_group(grid: GridWalk, loops: Sequence[Loop]) -> tuple[GridWalk, tuple[Loop, ...]]:
    """The walk of what does not depend on the core group."""
    kept = [(loop, axis) for loop, axis in zip(loops, grid.axes, strict=True) if axis.dim != GROUP]
    return replace(grid, axes=tuple(axis for _, axis in kept)), tuple(loop for loop, _ in kept)


def _write(b: InstrBuilder, grid: GridWalk, steps: Sequence[Callable[[GridWalk, Sequence[Loop]], None]]) -> None:
    with b.grid([axis.trip for axis in grid.axes]) as loops:
        for step in steps:
            step(grid, loops)


class _SlotImages(ConvEmitter):
    """A convolution whose images lie in slots of global memory."""

    side: Side

    def __init__(self, parts: ConvRelayParts, core_type: CoreType, *, alone: bool) -> None:
        self._parts, self._alone = parts, alone
        super().__init__(parts.conv, parts.tile, parts.product, parts.problem, core_type, len(parts.common.tensors))

    def _begin(self) -> None:
        self.handovers = make_handovers(self.b, ["taken"], self._parts.cuts.cores)
        super()._begin()
        if not self._alone and not isinstance(self, ApartProduct):
            self.b.barrier("group")

    def _result(self, step: Step) -> None:
        walk, loops = _in_group(step.walk, step.loops)
        super()._result(replace(step, walk=walk, loops=loops))

    def write_image(self, grid: GridWalk, loops: Sequence[Loop]) -> None:
        """All tiles that take the image of this step of the grid."""
        parts, sizes = self._parts, self._parts.sizes
        pixels, filters = parts.dims
        place = grid_extent(*sizes[pixels], grid, loops, pixels)

        def step(walk: GridWalk, inner: Sequence[Loop]) -> Step:
            size, tile = sizes[filters]
            own = [
                (loop, -axis.step * tile) for loop, axis in zip(inner, walk.axes, strict=True) if axis.dim == filters
            ]
            extent = Clamped(tile, tile, None, size, tuple(own))
            m, n = (extent, place) if filters == "m" else (place, extent)
            return Step(walk, tuple(inner), m, n)

        if not parts.inside:
            self._tile(step(grid, loops), self._ones)
            return
        image = self.rings[f"l1.{self.images}"]
        self._load_image(step(grid, loops), None, None)
        self._sync("move", "move.acquire", wait=[image.ready])
        left = parts.filter_tiles - (grid.axes[-1].trip - 1) * parts.together
        with self.b.loop(self.b.size_tail(loops[-1], parts.together, left)) as loop:
            walk = replace(grid, axes=(*grid.axes, Axis(filters, parts.together)))
            self._tile(step(walk, (*loops, loop)), self._ones)
        self._sync("move", "move.release", set=[image.free])

    def _windows(self, step: Step) -> None:
        if self._parts.inside:
            self._chunks(step)
            return
        image = self.rings[f"l1.{self.images}"]
        blocks = -(-self._conv.channels // self._shape.block)
        if several(blocks):
            self.side.begin(None)
        with self._repeat(blocks) as block:
            self._load_image(step, block, None)
            self._sync("move", "move.acquire", wait=[image.ready])
            if block is None:
                self._chunks(step)
            else:
                self._taps(step, block)
            self._sync("move", "move.release", set=[image.free])
        if several(blocks):
            self.side.end(None)

    def _load_image(self, step: Step, block: Loop | None, pred: Pred | None) -> None:
        if block is None:
            self.side.begin(None)
        super()._load_image(step, block, pred)
        if block is None:
            self.side.end(None)

    def _image_desc(
        self, step: Step, block: Loop | None, pitch: int, strides: Mapping[Loop, int], offset: int, window: Window
    ) -> Desc:
        slot = self._parts.slot
        (group,) = (loop for loop, axis in zip(step.loops, step.walk.axes, strict=True) if axis.dim == GROUP)
        moved = {group: slot.elements * slot.item}
        if block is not None:
            moved[block] = self._shape.block * slot.channel * slot.item
        view, line = self._conv.x, slot.channel if self._conv.planes else slot.pixel
        arg = self.b.arg(view.arg)
        return self.b.desc(arg, line * slot.item, strides=moved, window=window, role="consumer", ring=self.side.ring)

    def _stays(self, loops: Sequence[Loop]) -> tuple[Pred | None, Pred | None]:
        return (None, None) if self._parts.inside else super()._stays(loops)

    def _bias_preds(self, loops: Sequence[Loop]) -> tuple[Pred | None, Pred | None]:
        return (None, None) if self._parts.inside else super()._bias_preds(loops)


class _SlotConv(_SlotImages):
    pass


class _SlotPlanes(_SlotImages, PlanesEmitter):
    pass


class _ApartSlotConv(_SlotImages, ApartProduct):
    pass


class _ApartSlotPlanes(_SlotImages, ApartProduct, PlanesEmitter):
    pass


class _TogetherSlotConv(_SlotImages, TogetherProduct):
    pass


class _TogetherSlotPlanes(_SlotImages, TogetherProduct, PlanesEmitter):
    pass


_MAKERS: Mapping[tuple[type[ConvEmitter], bool, bool], type[_SlotImages]] = {
    (ConvEmitter, False, False): _SlotConv,
    (ConvEmitter, False, True): _SlotConv,
    (ConvEmitter, True, False): _ApartSlotConv,
    (ConvEmitter, True, True): _TogetherSlotConv,
    (PlanesEmitter, False, False): _SlotPlanes,
    (PlanesEmitter, False, True): _SlotPlanes,
    (PlanesEmitter, True, False): _ApartSlotPlanes,
    (PlanesEmitter, True, True): _TogetherSlotPlanes,
}
"""What writes the cube's part, by the layout, whether something follows, and whether one core has both units."""
