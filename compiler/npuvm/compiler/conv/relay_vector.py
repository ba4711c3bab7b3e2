"""The vector unit's part of a convolution with what is computed before it: the code for the image of a tile, band by band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.conv.relay_space import ImageCuts, ImageSlot, ImageSpace
from npuvm.compiler.cube.extent import Extent
from npuvm.compiler.emit.group_signals import HALF
from npuvm.compiler.emit.handles import Arg, Desc, Loop, Window
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.mix.body import BandBody, Clamped
from npuvm.compiler.relay.handover import Side
from npuvm.compiler.relay.walk import GROUP
from npuvm.compiler.vector.body import BodyContext
from npuvm.compiler.vector.space import Transfer
from npuvm.compiler.vector.transfer import TileTransfer

__all__ = ["ImageBands"]

_BAND, _ONCE = "band", "once"
"""Dims of loops that no tensor moves with by its name."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The image that is made, `pixels` from `start` on: the loops of its group, image, tile, vector core and band."""

    common: ImageSpace
    cuts: ImageCuts
    slot: ImageSlot
    side: Side
    group: Loop
    image: Loop | None
    tile: Loop
    half: Loop | None
    band: Loop
    start: int
    pixels: int

    def channels(self, stride: int) -> dict[Loop, int]:
        """Elements to the channels of a vector core and to those of a band."""
        found = {self.band: stride * self.cuts.channels}
        return found if self.half is None or not self.cuts.planes else {self.half: stride * self.cuts.own} | found


@dataclass(frozen=True, slots=True)
class _ImageLoad(TileTransfer):
    """Loads of what belongs to the image of a tile; rows and columns past those of the whole image are not read."""

    place: _Place

    def _gm_desc(self, transfer: Transfer, tensor: Arg, pitch: int, offset: int, strides: Mapping[Loop, int]) -> Desc:
        place, item = self.place, transfer.item
        common, cuts, present = place.common, place.cuts, self.space.present[transfer.node.id]
        first, moved, window = transfer.offset, dict[Loop, int](), None
        if common.image is not None and place.image is not None and present[common.image]:
            moved[place.image] = transfer.strides[common.image]
        if present[common.channel]:
            moved |= place.channels(transfer.strides[common.channel])
        if present[common.pixel]:
            apart = transfer.strides[common.pixel]
            moved[place.tile] = apart * cuts.step
            first = first + apart * (place.start - cuts.ahead)
            window = self._window(present, apart)
        return self.builder.desc(
            tensor,
            pitch,
            strides={loop: count * item for loop, count in moved.items()} | dict(strides),
            offset=first * item + offset,
            window=window,
        )

    def _window(self, present: Sequence[bool], apart: int) -> Window:
        """The pixels of an image, along the rows or the columns of what is moved."""
        place = self.place
        common, cuts = place.common, place.cuts
        pixels, across = self.space.sizes[common.pixel], cuts.channels if present[common.channel] else 1
        # Single pixels that follow each other are moved as columns; see `TileTransfer.form`.
        along, first = common.planes if present[common.channel] else apart == 1, place.start - cuts.ahead
        if along:
            return Window(across, pixels, 0, first, None, 0, place.tile, cuts.step)
        return Window(pixels, across, first, 0, place.tile, cuts.step)


@dataclass(frozen=True, slots=True)
class _SlotStore(TileTransfer):
    """Stores of the image to its group's part of a slot."""

    place: _Place

    def _gm_desc(self, transfer: Transfer, tensor: Arg, pitch: int, offset: int, strides: Mapping[Loop, int]) -> Desc:
        place, slot = self.place, self.place.slot
        moved = {place.group: slot.elements} | place.channels(slot.channel)
        return self.builder.desc(
            tensor,
            pitch,
            strides={loop: count * slot.item for loop, count in moved.items()} | dict(strides),
            offset=offset + place.start * slot.pixel * slot.item,
            role=place.side.role,
            ring=place.side.ring,
        )


class _Band(BandBody):
    """The instructions for one band of an image."""

    def __init__(self, context: BodyContext, grid: GridWalk, loops: Sequence[Loop], place: _Place) -> None:
        cuts, own = place.cuts, context.space.sizes[place.common.channel]
        steps = [(loop, -count) for loop, count in place.channels(1).items()]
        channels = Clamped(cuts.channels, cuts.channels, None, own, tuple(steps))
        pixels = Extent(place.pixels, place.pixels, None, place.pixels)
        rows, cols = (channels, pixels) if place.common.planes else (pixels, channels)
        super().__init__(context, grid, loops, rows, cols, None)
        self._place = place

    def _transfer_of(self, name: str, transfer: TileTransfer) -> TileTransfer:
        make = _SlotStore if name == self._place.common.taken else _ImageLoad
        t = transfer
        return make(t.builder, t.space, t.tile, t.grid, t.loops, t.rows, t.cols, self._place)


class ImageBands:
    """Writes the vector segment; `tiles` is the dim of the grid that walks the tiles of an image."""

    def __init__(
        self, context: BodyContext, common: ImageSpace, cuts: ImageCuts, slot: ImageSlot, side: Side, tiles: str
    ) -> None:
        self._context, self._common, self._cuts, self._slot = context, common, cuts, slot
        self._side, self._tiles = side, tiles

    def write_image(self, grid: GridWalk, loops: Sequence[Loop]) -> None:
        """All of an image that is this core's, between waiting for its slot and handing that on."""
        b, cuts = self._context.builder, self._cuts
        half = next((loop for loop, axis in zip(loops, grid.axes, strict=True) if axis.dim == HALF), None)
        self._side.begin(half)
        if half is None or cuts.planes:
            self._bands(grid, loops, half, (0, cuts.pixels))
        else:
            # A window follows one loop along the pixels, that of the tiles: so each core has code of its own.
            parts = ((0, cuts.share), (cuts.share, cuts.pixels - cuts.share))
            for part, turns in zip(parts, ((1, 0), (0, 1)), strict=True):
                with b.loop(b.size_tail(half, *turns)) as once:
                    walk = GridWalk((*grid.axes, Axis(_ONCE, 1)), grid.origin)
                    self._bands(walk, (*loops, once), half, part)
        self._side.end(half)

    def _bands(self, grid: GridWalk, loops: Sequence[Loop], half: Loop | None, part: tuple[int, int]) -> None:
        """The bands of so many pixels, (first, number)."""
        b, by_dim = self._context.builder, {axis.dim: loop for loop, axis in zip(loops, grid.axes, strict=True)}
        with b.loop(self._cuts.bands) as band:
            place = _Place(
                self._common,
                self._cuts,
                self._slot,
                self._side,
                by_dim[GROUP],
                by_dim.get("b0"),
                by_dim[self._tiles],
                half,
                band,
                *part,
            )
            walk = GridWalk((*grid.axes, Axis(_BAND, self._cuts.bands)), grid.origin)
            _Band(self._context, walk, (*loops, band), place).emit()
