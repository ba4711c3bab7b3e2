"""A vector segment with concrete sizes: its iteration space with as few dims as possible, and how each value lies in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.plan.segments import Access, VectorSegment
from npuvm.compiler.reduce.cut import Cut
from npuvm.compiler.vector.picked_reads import Picked, fits_tile, picked_of

__all__ = [
    "Largest", "RowsDoNotFit", "Space", "TileView", "Transfer", "dim_name", "largest_dim", "make_space", "view_tile",
]  # fmt: skip


class RowsDoNotFit(CompileError):
    """Whole rows of a segment do not fit UB; a plan made with `whole_rows=False` does without."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A value that is read from or written to global memory.

    `strides` are elements between neighbours, by dim of the space; 0 where the value does not have the dim. The first element
    lies `offset` elements after the tensor's. With `picks` indices say where its rows are. What is `near` is just written. Rows
    of what is `off` lie off blocks, however many columns are read. `policy` is the number of a cache policy for that of the
    access, known with the sizes.
    """

    node: Node
    access: Access
    strides: tuple[int, ...]
    item: int
    offset: int = 0
    picks: Picked | None = None
    near: bool = False
    policy: int | None = None
    off: bool = False


@dataclass(frozen=True, slots=True)
class Space:
    """The dims that tiles walk over.

    `row` and `col` are the dims of a tile; `row` is None when there is only one dim. `reduced` says which dims
    reduces run over; with `whole`, these are in one tile, otherwise they are walked and accumulated. `present` gives by node
    id which dims a value has; in the others one element serves all.
    """

    sizes: tuple[int, ...]
    reduced: tuple[bool, ...]
    present: Mapping[int, tuple[bool, ...]]
    reads: tuple[Transfer, ...]
    writes: tuple[Transfer, ...]
    row: int | None
    col: int
    whole: bool
    cut: Cut | None = None

    @property
    def rows(self) -> int:
        """Elements along the rows of the tile, 1 without such a dim."""
        return 1 if self.row is None else self.sizes[self.row]

    @property
    def cols(self) -> int:
        """Elements along the columns of the tile."""
        return self.sizes[self.col]

    @property
    def others(self) -> tuple[int, ...]:
        """Dims outside the tile."""
        return tuple(dim for dim in range(len(self.sizes)) if dim not in (self.row, self.col))

    def structure(self) -> Hashable:
        """All but sizes and strides: what the tile program depends on."""
        return self.reduced, self.row, self.col, self.whole, tuple(self.present.items()), self.cut is None

    def may_be_whole(self) -> bool:
        """Whether all that is reduced is a dim of the tile."""
        inside = [dim for dim, flag in enumerate(self.reduced) if flag]
        return self.cut is None and len(inside) == 1 and inside[0] in (self.row, self.col)

    def has(self, node: Node, dim: int | None) -> bool:
        """Whether a value has a dim."""
        return dim is not None and self.present[node.id][dim]

    def fills(self, node: Node) -> bool:
        """Whether a value has every dim."""
        return all(self.present[node.id])


@dataclass(frozen=True, slots=True)
class TileView:
    """How values lie in a tile, by node id: `full` ones have an element in each place, `columns` one in each row.

    `axis` is the one along which whole rows ("last") or columns ("first") are reduced inside a tile; None where they are not.
    """

    full: frozenset[int]
    columns: frozenset[int]
    axis: str | None


def view_tile(space: Space) -> TileView:
    """The values of a space as a tile has them. There are columns only in a tile that has rows."""
    full: set[int] = set()
    columns: set[int] = set()
    for number, present in space.present.items():
        has_row = space.row is None or present[space.row]
        if has_row and present[space.col]:
            full.add(number)
        elif has_row and space.row is not None:
            columns.add(number)
    axis = None
    if space.whole and any(space.reduced):
        axis = "last" if space.reduced[space.col] else "first"
    return TileView(frozenset(full), frozenset(columns), axis)


def dim_name(dim: int) -> str:
    """The name of a dim in a walk over tiles."""
    return f"d{dim}"


Largest = Callable[[Sequence[int], Sequence[int]], int | None]
"""Which of the dims in the second list is the largest, for the sizes of all dims; None of none."""


def largest_dim(sizes: Sequence[int], dims: Sequence[int]) -> int | None:
    """The largest dim; of equals the last."""
    return max(dims, key=lambda dim: (sizes[dim], dim), default=None)


def make_space(
    segment: VectorSegment,
    binding: Mapping[str, int],
    largest: Largest = largest_dim,
    beside: Sequence[Sequence[int]] = (),
) -> Space:
    """The space of a segment whose domain has elements.

    Dims of size 1 go; neighbours that lie one after the other in every tensor become one, in what lies `beside` as well:
    strides by axis of the domain. Raises RowsDoNotFit when a segment that wants whole rows reduces over dims that do not join.
    """
    domain = evaluate(segment.domain, binding)
    rank = len(domain)
    kept = [axis for axis in range(rank) if domain[axis] != 1]
    values = [node for node, _ in segment.reads] + segment.nodes + [n for n, _ in segment.writes if is_scalar(n)]
    flags = {node.id: _flags(evaluate(node.type.shape, binding), domain, kept) for node in values}
    reads = [
        replace(
            _transfer(node, access, binding, rank, kept, flags[node.id]),
            near=access.tensor.name in segment.near,
            off=access.tensor.name in segment.off,
        )
        for node, access in segment.reads
    ]
    writes = [_transfer(node, access, binding, rank, kept, flags[node.id]) for node, access in segment.writes]
    reduced = [axis - rank in segment.reduce_axes for axis in kept]
    strides = [each.strides for each in (*reads, *writes)] + [tuple(each[axis] for axis in kept) for each in beside]
    groups = _groups([domain[axis] for axis in kept], reduced, list(flags.values()), strides)
    last = [group[-1] for group in groups]
    sizes = tuple(prod(domain[kept[at]] for at in group) for group in groups) or (1,)
    marks = tuple(reduced[at] for at in last) or (False,)
    present = {key: tuple(value[at] for at in last) or (True,) for key, value in flags.items()}

    def joined(transfer: Transfer) -> Transfer:
        strides = tuple(transfer.strides[at] for at in last) or (1,)
        return replace(transfer, strides=strides)

    moved = [joined(each) for each in reads], [joined(each) for each in writes]
    row, col = _tile_dims(segment, sizes, marks, [*moved[0], *moved[1]], largest)
    if not fits_tile(moved[0], present, row, col):
        raise RowsDoNotFit("rows that indices pick are not the rows of its tiles", segment.name)
    whole = segment.form in ("row", "top") and any(marks)
    return Space(sizes, marks, present, tuple(moved[0]), tuple(moved[1]), row, col, whole)


def _flags(shape: Sequence[int], domain: Sequence[int], kept: Sequence[int]) -> tuple[bool, ...]:
    padded = (1,) * (len(domain) - len(shape)) + tuple(shape)
    return tuple(padded[axis] == domain[axis] for axis in kept)


def _transfer(
    node: Node, access: Access, binding: Mapping[str, int], rank: int, kept: Sequence[int], flags: Sequence[bool]
) -> Transfer:
    own = access.layout.stride_values(binding)
    strides = (0,) * (rank - len(own)) + own
    present = tuple(strides[axis] if flag else 0 for axis, flag in zip(kept, flags, strict=True))
    offset = access.layout.offset.value(binding)
    return Transfer(node, access, present, DTYPES[node.type.dtype].item_bytes, offset, picked_of(access, binding))


def _groups(
    sizes: Sequence[int], reduced: Sequence[bool], flags: Sequence[tuple[bool, ...]], strides: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Runs of dims that are one dim in every value."""
    groups: list[list[int]] = []
    for at, size in enumerate(sizes):
        before = at - 1
        joins = (
            at > 0
            and reduced[before] == reduced[at]
            and all(each[before] == each[at] for each in flags)
            and all(each[before] == each[at] * size for each in strides)
        )
        if joins:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def _tile_dims(
    segment: VectorSegment,
    sizes: Sequence[int],
    reduced: Sequence[bool],
    transfers: Sequence[Transfer],
    largest: Largest,
) -> tuple[int | None, int]:
    """The dims of a tile: columns where most tensors have adjacent elements, rows where there is most to do."""
    dims = range(len(sizes))
    inside = [dim for dim in dims if reduced[dim]]
    outside = [dim for dim in dims if not reduced[dim]]
    if segment.form == "row" and len(inside) > 1:
        raise RowsDoNotFit("the reduced dims do not lie in one piece", segment.name)
    if inside and inside[-1] == len(sizes) - 1:
        return largest(sizes, outside), inside[-1]
    if inside:
        return largest(sizes, inside), outside[-1]

    def adjacent(dim: int) -> tuple[int, int]:
        return sum(each.strides[dim] == 1 for each in transfers), dim

    col = max(dims, key=adjacent)
    return largest(sizes, [dim for dim in dims if dim != col]), col
