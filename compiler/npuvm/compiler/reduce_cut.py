"""A reduced dim that is cut into chunks: sizes and numbers of its tiles, and what an empty place adds to a reduce."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING

from npuvm.compiler.cube_extent import Extent, axis_strides
from npuvm.compiler.emit import InstrBuilder
from npuvm.compiler.emit_handles import Loop, Size
from npuvm.compiler.schedule_walk import GridWalk
from npuvm.compiler.types import DTYPES

if TYPE_CHECKING:
    from npuvm.compiler.vector_space import Space, Transfer

__all__ = ["Cut", "CutExtent", "chunk_step", "cut_extent", "cut_space", "dims_of", "neutral", "whole_size"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A reduced dim `of` of a space that is cut into chunks, which cores share: dim `chunk` counts them.

    The size of the reduced dim is that of a chunk, a multiple of the tile's `edge` along it (0: not known yet); all chunks
    together have `total` elements, of which the last one has what is left.
    """

    chunk: int
    of: int
    total: int
    edge: int = 0


@dataclass(frozen=True, slots=True)
class CutExtent(Extent):
    """The tiles of a cut dim: `steps` gives by loop how many elements lie behind a tile less than behind the one before."""

    steps: tuple[tuple[Loop, int], ...] = ()

    def whole(self, b: InstrBuilder) -> Size:
        """The size of the tile: what is left of the last chunk may be less than a tile, or nothing."""
        return b.size_affine(self.full, self.total, self.steps)

    def part(self, b: InstrBuilder, start: int, length: int) -> Size:
        """How much of [start, start + length) lies in the tile."""
        return b.size_affine(length, self.total - start, self.steps)


def cut_extent(cut: Cut, size: int, edge: int, grid: GridWalk, loops: Sequence[Loop]) -> Extent:
    """The extent of tiles of `edge` elements in chunks of `size`."""
    walked = axis_strides(grid.axes, loops, {f"d{cut.chunk}": size, f"d{cut.of}": edge})
    if not walked:
        return Extent(cut.total, cut.total, None, cut.total)
    return CutExtent(edge, edge, None, cut.total, tuple((loop, -step) for loop, step in walked.items()))


def cut_space(space: Space, number: int, length: int, edge: int, reduces: Collection[int]) -> Space:
    """A space whose reduced tile dim is cut into `number` chunks of `length` elements, which are a dim of their own, the last.

    Of the values `reduces` every chunk has its own, behind those of the chunk before, unless they are added to what is there;
    all others are as they were.
    """
    of = space.col if space.reduced[space.col] else space.row
    assert of is not None and not space.whole
    sizes = (*space.sizes[:of], length, *space.sizes[of + 1 :], number)
    step = prod(size for size, flag in zip(space.sizes, space.reduced, strict=True) if not flag)

    def further(each: Transfer) -> int:
        if each.node.id not in reduces:
            return each.strides[of] * length
        return 0 if each.access.adds else step

    return replace(
        space,
        sizes=sizes,
        reduced=(*space.reduced, False),
        present={key: (*flags, flags[of] or key in reduces) for key, flags in space.present.items()},
        reads=tuple(replace(each, strides=(*each.strides, each.strides[of] * length)) for each in space.reads),
        writes=tuple(replace(each, strides=(*each.strides, further(each))) for each in space.writes),
        cut=Cut(len(space.sizes), of, space.sizes[of], edge),
    )


def chunk_step(cut: Cut | None, dim: int, sizes: Sequence[int]) -> dict[str, int]:
    """How far a chunk moves the places along a dim, by the name of the chunks' dim."""
    return {} if cut is None or cut.of != dim else {f"d{cut.chunk}": sizes[dim]}


def whole_size(cut: Cut | None, dim: int, sizes: Sequence[int]) -> int:
    """Elements along a dim, in all chunks."""
    return sizes[dim] if cut is None or cut.of != dim else cut.total


def dims_of(cut: Cut | None, dim: int) -> tuple[int, ...]:
    """The dims that move along a dim."""
    return (dim,) if cut is None or cut.of != dim else (dim, cut.chunk)


def neutral(op: str, dtype: str) -> float | int:
    """What changes no sum, product, maximum or minimum."""
    floats = DTYPES[dtype].kind == "float"
    if op == "reduce_sum":
        return 0.0 if floats else 0
    if op == "reduce_prod":
        return 1.0 if floats else 1
    least = -inf if floats else -(1 << 31)
    return least if op == "reduce_max" else -least if floats else (1 << 31) - 1
