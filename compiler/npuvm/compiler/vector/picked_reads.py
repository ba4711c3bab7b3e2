"""Rows picked by index on their way into a vector segment: reads of a table that a vector of indices directs.

Such a read is two: the indices, which the segment's own operations do not see, and the rows of the table by them. So what
follows a lookup works on its rows where they arrive, and no rows go to memory and back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import VIEWS
from npuvm.compiler.graph.ops_conv import CUBE_OPS
from npuvm.compiler.graph.ops_indexed import INDEXED
from npuvm.compiler.graph.ops_views import ASSEMBLED
from npuvm.compiler.graph.symbols import Product, evaluate
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.plan.segments import Access, Picks
from npuvm.compiler.plan.views import Layout, contiguous

if TYPE_CHECKING:
    from npuvm.compiler.vector.space import Transfer

__all__ = ["Picked", "fits_tile", "in_place", "index_ids", "picked_of", "picked_reads"]


@dataclass(frozen=True, slots=True)
class Picked:
    """Rows by index: the id of the read that has the indices, how many rows the table has, elements between them."""

    index: int
    count: int
    row: int


_NOT_VECTOR = frozenset((*VIEWS, *ASSEMBLED, *CUBE_OPS, *INDEXED, "store", "asm"))


def in_place(graph: Graph, wide: Collection[str] = frozenset()) -> frozenset[int]:
    """The gathers whose rows only vector operations read: rows of one piece, by indices along the first axis.

    Rows of the operators `wide`, by their sources, are not.
    """
    users: dict[int, list[str]] = {}
    for node in graph.nodes:
        for each in node.inputs:
            users.setdefault(each.id, []).append(node.op)
    return frozenset(
        node.id
        for node in graph.nodes
        if node.op == "gather"
        and node.source not in wide
        and node.attrs["axis"] == 0
        and node.inputs[0].type.rank > 1
        and node.inputs[1].type.rank > 0
        and not _NOT_VECTOR & set(users.get(node.id, ["store"]))
    )


def picked_reads(
    node: Node, read: Callable[[Node], Access], copied: Callable[[Node], Access]
) -> list[tuple[Node, Access]]:
    """The two reads of a gather: its indices as a value of their own, and its rows."""
    table, index = read(node.inputs[0]), read(node.inputs[1])
    inner = contiguous(table.layout.dims[1:])
    if table.layout.strides[1:] != inner.strides:
        table = copied(node.inputs[0])
    rank = len(inner.dims)
    vector = Node(-2 - node.id, "load", (), {}, TensorType("int32", (*index.layout.dims, *(1,) * rank)), node.where)
    along = Layout(vector.type.shape, (*index.layout.strides, *(Product(),) * rank), index.layout.offset)
    picks = Picks(vector.id, table.layout.dims[0], table.layout.strides[0])
    still = (Product(0),) * len(index.layout.dims)
    rows = Layout(node.type.shape, (*still, *inner.strides), table.layout.offset)
    return [(vector, Access(index.tensor, along, index.cache)), (node, Access(table.tensor, rows, table.cache, picks))]


def picked_of(access: Access, binding: Mapping[str, int]) -> Picked | None:
    """What an access picks for these sizes."""
    if access.picks is None:
        return None
    return Picked(access.picks.index, evaluate((access.picks.count,), binding)[0], access.picks.row.value(binding))


def index_ids(reads: Sequence[Transfer]) -> frozenset[int]:
    """The ids of the values that are indices of other reads."""
    return frozenset(each.picks.index for each in reads if each.picks is not None)


def fits_tile(reads: Sequence[Transfer], present: Mapping[int, tuple[bool, ...]], row: int | None, col: int) -> bool:
    """Whether the rows of a tile are those that indices pick, and its columns lie within one of them."""
    for each in reads:
        if each.picks is None:
            continue
        mine, theirs = present[each.node.id], present[each.picks.index]
        if mine[col] and (theirs[col] or each.strides[col] != 1):
            return False
        if row is not None and mine[row] and not theirs[row]:
            return False
    return True
