"""A segment that reduces, as two: chunks of what is reduced on many cores, and what joins their results in order.

The first part has the domain of the segment, and writes for each reduce the result of every chunk to a workspace; the second
reduces these, and computes all that follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.ir import Node
from npuvm.compiler.ops import REDUCES
from npuvm.compiler.rewrite import is_scalar
from npuvm.compiler.segments import Access, GmTensor, VectorSegment
from npuvm.compiler.types import Dim, TensorType
from npuvm.compiler.views import contiguous

__all__ = ["CHUNKS", "EDGE", "LENGTH", "ReduceParts", "reduce_parts"]

CHUNKS = "chunks__of__a__reduce"
"""The symbol for the number of chunks."""

LENGTH = "length__of__a__chunk"
"""The symbol for how many elements, or rows of them, a chunk has; the last one may have less."""

EDGE = "edge__of__a__chunk"
"""The symbol for the size of tiles along it, where it is not left to a family."""


@dataclass(frozen=True, slots=True)
class ReduceParts:
    """The two segments, the tensors between them, and the ids of the reduces."""

    chunks: VectorSegment
    join: VectorSegment
    tensors: tuple[GmTensor, ...]
    reduces: frozenset[int]


def reduce_parts(segment: VectorSegment) -> ReduceParts | None:
    """The parts of a segment; None when it has no reduce over tiles."""
    reduces = [node for node in segment.nodes if node.op in REDUCES]
    if segment.form != "accumulate" or not reduces or any(access.picks for _, access in segment.reads):
        return None
    ids = frozenset(node.id for node in reduces)
    late = set(ids)
    for node in segment.nodes:
        if any(each.id in late for each in node.inputs):
            late.add(node.id)
    followers = [node for node in segment.nodes if node.id in late and node.id not in ids]
    rank = len(segment.domain)
    kept = tuple(1 if axis - rank in segment.reduce_axes else dim for axis, dim in enumerate(segment.domain))
    tensors, before, reads, joins = [], [], [], []
    fresh = max(each.id for node in segment.nodes for each in (node, *node.inputs)) + 1
    for number, node in enumerate(reduces):
        shape: tuple[Dim, ...] = (CHUNKS, *kept)
        tensor = GmTensor(f"{segment.name}.chunks{number}", "workspace", node.type.dtype, shape)
        layout = contiguous(shape)
        value = Node(fresh + number, "load", (), {"param": tensor.name}, TensorType(node.type.dtype, shape), node.where)
        tensors.append(tensor)
        before.append((node, Access(tensor, replace(layout, dims=kept, strides=layout.strides[1:]))))
        reads.append((value, Access(tensor, layout)))
        joins.append(Node(node.id, node.op, (value,), {"axes": (0,), "keepdims": False}, node.type, node.where))
    first = _part(
        segment, [], [*before, *(each for each in segment.writes if each[0].id not in late)], f"{segment.name}.chunks"
    )
    writes = [each for each in segment.writes if each[0].id in late]
    second = _part(segment, [*joins, *followers], writes, f"{segment.name}.join")
    join = replace(
        second,
        domain=(CHUNKS, *kept),
        reduce_axes=(-rank - 1,),
        reads=[*reads, *second.reads],
    )
    return ReduceParts(replace(first, chunked=True), join, tuple(tensors), ids)


def _part(
    segment: VectorSegment,
    nodes: Sequence[Node],
    writes: list[tuple[Node, Access]],
    name: str,
) -> VectorSegment:
    """The segment with what is needed for `writes`; of `nodes` those that are there take the place of its own."""
    own = {node.id: node for node in (*segment.nodes, *nodes)}
    needed: set[int] = set()
    stack = [node.id for node, _ in writes]
    while stack:
        number = stack.pop()
        if number in own and number not in needed:
            needed.add(number)
            stack += [each.id for each in own[number].inputs]
    kept = [own[node.id] for node in segment.nodes if node.id in needed]
    used = {each.id for each in _inputs(kept)} | {node.id for node, _ in writes}
    reads = [(node, access) for node, access in segment.reads if node.id in used]
    return replace(segment, name=name, nodes=kept, reads=reads, writes=writes, memo={})


def _inputs(nodes: Iterable[Node]) -> Iterable[Node]:
    return (each for node in nodes for each in node.inputs if not is_scalar(each))
