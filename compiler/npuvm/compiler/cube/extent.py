"""Sizes of one dimension of a tile while a grid or a loop walks over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Loop, Size
from npuvm.compiler.emit.walk import Axis, GridWalk

__all__ = ["ClampedExtent", "Extent", "axis_strides", "grid_extent", "loop_extent", "origin_bytes"]


@dataclass(frozen=True, slots=True)
class Extent:
    """A dimension of a tile: `full` elements, and `tail` on the last iteration of `loop` (None: always `full`).

    `total` counts the elements from the first tile of this walk to the end.
    """

    full: int
    tail: int
    loop: Loop | None
    total: int

    def part(self, b: InstrBuilder, start: int, length: int) -> Size:
        """How much of [start, start + length) lies in the tile."""
        if start == 0 and length == self.full:
            return self.whole(b)
        full, tail = (max(0, min(length, size - start)) for size in (self.full, self.tail))
        return b.size(full) if self.loop is None else b.size_tail(self.loop, full, tail)

    def whole(self, b: InstrBuilder) -> Size:
        """The size of the tile."""
        return b.size(self.full) if self.loop is None else b.size_tail(self.loop, self.full, self.tail)

    def trips(self, inner: int) -> int:
        """How many parts of `inner` elements the largest tile has."""
        return -(-self.full // inner)

    def trip_size(self, b: InstrBuilder, inner: int, start: int = 0) -> Size:
        """How many parts of `inner` elements the tile has from `start` on."""
        full, tail = (-(-(size - start) // inner) for size in (self.full, self.tail))
        return b.size(full) if self.loop is None else b.size_tail(self.loop, full, tail)

    def inner(self, b: InstrBuilder, inner: int, loop: Loop | None, start: int = 0) -> Size:
        """The size of the part that `loop` is at, counted from `start`, a multiple of `inner`; `loop` None for one part."""
        if loop is None:
            return self.whole(b)
        if self.full % inner == 0 and (self.loop is None or self.tail % inner == 0):
            return b.size(inner)
        if self.loop is None:
            return b.size_tail(loop, inner, self.full - (self.trips(inner) - 1) * inner)
        return b.size_affine(inner, self.total - start, [(self.loop, -self.full), (loop, -inner)])


@dataclass(frozen=True, slots=True)
class ClampedExtent(Extent):
    """Tiles that may end early, or lie behind the end: `steps` gives by loop how many more elements a tile has behind its begin
    than the one before."""

    steps: tuple[tuple[Loop, int], ...] = ()

    def whole(self, b: InstrBuilder) -> Size:
        """The size of the tile: what is left may be less, or nothing."""
        return b.size_affine(self.full, self.total, self.steps)

    def part(self, b: InstrBuilder, start: int, length: int) -> Size:
        """How much of [start, start + length) lies in the tile."""
        return b.size_affine(length, self.total - start, self.steps)


def grid_extent(size: int, tile: int, walk: GridWalk, loops: Sequence[Loop], dim: str) -> Extent:
    """The extent of dimension `dim` of `size` elements, cut into tiles of `tile`, as this grid walks it."""
    last = -(-size // tile) - 1
    origin = walk.origin.get(dim, 0)
    total = size - origin * tile
    tail = size - last * tile
    found = [(loop, axis) for loop, axis in zip(loops, walk.axes, strict=True) if axis.dim == dim and axis.moves]
    if not found:
        only = tail if origin == last else tile
        return Extent(only, only, None, total)
    if dim in walk.open:
        return ClampedExtent(tile, tile, None, total, tuple((loop, -axis.step * tile) for loop, axis in found))
    reached = origin + sum((axis.trip - 1) * axis.step for _, axis in found)
    if len(found) > 1 or reached != last or tail == tile:
        return Extent(tile, tile, None, total)
    return Extent(tile, tail, found[0][0], total)


def loop_extent(size: int, tile: int, loop: Loop | None) -> Extent:
    """The extent of a dimension that a plain loop walks; `loop` None when there is one tile."""
    if loop is None:
        return Extent(size, size, None, size)
    tail = size - (-(-size // tile) - 1) * tile
    return Extent(tile, tail, loop if tail != tile else None, size)


def axis_strides(axes: Sequence[Axis], loops: Sequence[Loop], step_bytes: Mapping[str, int]) -> dict[Loop, int]:
    """Bytes that each loop of a grid moves an address, for the bytes of one tile step of each dimension."""
    return {
        loop: axis.step * step_bytes[axis.dim]
        for loop, axis in zip(loops, axes, strict=True)
        if axis.moves and step_bytes.get(axis.dim, 0) != 0
    }


def origin_bytes(walk: GridWalk, step_bytes: Mapping[str, int]) -> int:
    """Bytes from the first tile of all to the first one of a grid, for the bytes of one tile step of each dimension."""
    return sum(walk.origin[dim] * nbytes for dim, nbytes in step_bytes.items() if dim in walk.origin)
