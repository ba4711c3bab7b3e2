"""A reduced dim that is cut into chunks: sizes and numbers of its tiles, and what an empty place adds to a reduce."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING

from npuvm.compiler.cube.extent import ClampedExtent, Extent, axis_strides
from npuvm.compiler.emit.handles import Loop
from npuvm.compiler.emit.walk import GridWalk
from npuvm.compiler.graph.types import DTYPES

if TYPE_CHECKING:
    from npuvm.compiler.vector.space import Space, Transfer

__all__ = ["Cut", "cut_extent", "cut_space", "dims_of", "neutral", "numbers_of"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A reduced dim `of` of a space that is cut into chunks, which cores share: dim `chunk` counts them from the last to the
    first, so that no size is counted from the end of a dim that may be longer than a field is wide.

    The size of the reduced dim is that of a chunk, a multiple of the tile's `edge` along it (0: not known yet); all chunks
    together have `total` elements, of which the last chunk has the `rest`.
    """

    chunk: int
    of: int
    total: int
    rest: int
    edge: int = 0


def cut_extent(cut: Cut, size: int, edge: int, grid: GridWalk, loops: Sequence[Loop]) -> Extent:
    """The extent of tiles of `edge` elements in chunks of `size`."""
    steps = axis_strides(grid.axes, loops, {f"d{cut.chunk}": size, f"d{cut.of}": -edge})
    return ClampedExtent(edge, edge, None, cut.rest, tuple(steps.items()))


def cut_space(space: Space, number: int, length: int, edge: int, own: Collection[int]) -> Space:
    """A space whose reduced tile dim is cut into `number` chunks of `length` elements, which are a dim of their own, the last.

    Of the values `own` every chunk has its own, one behind the other, unless they are added to what is there; all others are
    as they were.
    """
    of = space.col if space.reduced[space.col] else space.row
    assert of is not None and not space.whole
    sizes = (*space.sizes[:of], length, *space.sizes[of + 1 :], number)
    step = prod(size for size, flag in zip(space.sizes, space.reduced, strict=True) if not flag)

    def moved(each: Transfer) -> Transfer:
        further = each.strides[of] * length
        if each.node.id in own:
            further = 0 if each.access.adds else step
        return replace(each, strides=(*each.strides, -further), offset=each.offset + (number - 1) * further)

    return replace(
        space,
        sizes=sizes,
        reduced=(*space.reduced, False),
        present={key: (*flags, flags[of] or key in own) for key, flags in space.present.items()},
        reads=tuple(moved(each) for each in space.reads),
        writes=tuple(moved(each) for each in space.writes),
        cut=Cut(len(space.sizes), of, space.sizes[of], space.sizes[of] - (number - 1) * length, edge),
    )


def numbers_of(cut: Cut | None, dim: int, sizes: Sequence[int]) -> tuple[int, int, dict[str, int]]:
    """Elements along a dim in all chunks, those before the chunk that is the first in the walk, and how far a chunk moves."""
    if cut is None or cut.of != dim:
        return sizes[dim], 0, {}
    return cut.total, cut.total - cut.rest, {f"d{cut.chunk}": -sizes[dim]}


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
