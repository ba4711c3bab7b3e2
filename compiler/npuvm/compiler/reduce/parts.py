"""A segment that reduces, in parts: chunks of what is reduced on many cores, and what joins their results.

The chunks have the domain of the segment. In order: every chunk writes its own results to a workspace, a second part reduces
these and computes all that follows. Atomic: a part before clears the results, to which all chunks are added in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import REDUCES
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.plan.segments import Access, GmTensor, VectorSegment
from npuvm.compiler.plan.views import contiguous
from npuvm.compiler.reduce.cut import neutral

__all__ = ["CHUNKS", "EDGE", "LENGTH", "ReduceParts", "reduce_parts"]

CHUNKS = "chunks__of__a__reduce"
"""The symbol for the number of chunks."""

LENGTH = "length__of__a__chunk"
"""The symbol for how many elements, or rows of them, a chunk has; the last one may have less."""

EDGE = "edge__of__a__chunk"
"""The symbol for the size of tiles along it, where it is not left to a family."""


@dataclass(frozen=True, slots=True)
class ReduceParts:
    """The segments of a reduce that cores share, in the order they run, and the tensors between them.

    Those that are `chunked` have the domain of the reduce and run on all cores; the last of them says what chunks there are. In
    the others and in the tensors CHUNKS is the number of chunks plus `further`. `atomic`: chunks are added to each other.
    """

    segments: tuple[VectorSegment, ...]
    tensors: tuple[GmTensor, ...]
    atomic: bool = False
    further: int = 0


def reduce_parts(segment: VectorSegment, *, atomic: bool = False) -> ReduceParts | None:
    """The parts of a segment; None when it has no reduce over tiles.

    With `atomic` chunks are added to one result; CompileError for other reduces than sums.
    """
    reduces = [node for node in segment.nodes if node.op in REDUCES]
    if segment.form != "accumulate" or not reduces or any(access.picks for _, access in segment.reads):
        return None
    late = {node.id for node in reduces}
    for node in segment.nodes:
        if any(each.id in late for each in node.inputs):
            late.add(node.id)
    return _atomic(segment, reduces, late) if atomic else _ordered(segment, reduces, late)


def _ordered(segment: VectorSegment, reduces: Sequence[Node], late: Collection[int]) -> ReduceParts:
    kept, fresh = kept_shape(segment), fresh_id(segment)
    shape: tuple[Dim, ...] = (CHUNKS, *kept)
    layout = contiguous(shape)
    own = replace(layout, dims=kept, strides=layout.strides[1:])
    tensors, writes, reads, joins = [], [], [], []
    for number, node in enumerate(reduces):
        tensor = GmTensor(f"{segment.name}.chunks{number}", "workspace", node.type.dtype, shape)
        value = Node(fresh + number, "load", (), {"param": tensor.name}, TensorType(node.type.dtype, shape), node.where)
        tensors.append(tensor)
        writes.append((node, Access(tensor, own)))
        reads.append((value, Access(tensor, layout)))
        joins.append(Node(node.id, node.op, (value,), {"axes": (0,), "keepdims": False}, node.type, node.where))
    chunks = _chunks(segment, writes, late, _ids(reduces))
    after = _after(segment, late, joins)
    reduce_axes = (-len(shape),)
    after = replace(after, domain=shape, reduce_axes=reduce_axes, reads=[*reads, *after.reads])
    return ReduceParts((chunks, after), tuple(tensors))


def _atomic(segment: VectorSegment, reduces: Sequence[Node], late: Collection[int]) -> ReduceParts:
    """Sums that nothing but outputs follow are added to these, others to a workspace."""
    for node in reduces:
        if node.op != "reduce_sum":
            message = f'{node.op} has no atomic store; pin reduce = "atomic" is for sums and means'
            raise CompileError(message, node.where or None)
    kept = kept_shape(segment)
    if len(late) == len(reduces):
        writes = [(node, access) for node, access in segment.writes if node.id in late]
        before = _cleared(segment, kept, writes)
        return ReduceParts((before, _chunks(segment, _added(writes), late, _ids(reduces))), (), atomic=True)
    tensors = [
        GmTensor(f"{segment.name}.sum{number}", "workspace", node.type.dtype, kept)
        for number, node in enumerate(reduces)
    ]
    writes = [(node, Access(tensor, contiguous(kept))) for node, tensor in zip(reduces, tensors, strict=True)]
    sums = [
        Node(node.id, "load", (), {"param": access.tensor.name}, TensorType(node.type.dtype, kept), node.where)
        for node, access in writes
    ]
    after = _after(segment, late, sums)
    reads = [(value, access) for value, (_, access) in zip(sums, writes, strict=True)]
    nodes = [node for node in after.nodes if node not in sums]
    after = replace(after, form="map", domain=kept, reduce_axes=(), nodes=nodes, reads=[*reads, *after.reads])
    before, chunks = _cleared(segment, kept, writes), _chunks(segment, _added(writes), late, _ids(reduces))
    return ReduceParts((before, chunks, after), tuple(tensors), atomic=True)


_Write = tuple[Node, Access]


def _ids(nodes: Iterable[Node]) -> frozenset[int]:
    return frozenset(node.id for node in nodes)


def kept_shape(segment: VectorSegment) -> tuple[Dim, ...]:
    """The shape of what is reduced, with all its dims."""
    rank = len(segment.domain)
    return tuple(1 if axis - rank in segment.reduce_axes else dim for axis, dim in enumerate(segment.domain))


def fresh_id(segment: VectorSegment) -> int:
    known = [*segment.nodes, *(node for node, _ in [*segment.reads, *segment.writes])]
    return max(each.id for node in known for each in (node, *node.inputs)) + 1


def _added(writes: Sequence[_Write]) -> list[_Write]:
    return [(node, replace(access, adds=True)) for node, access in writes]


def _cleared(segment: VectorSegment, kept: tuple[Dim, ...], writes: Sequence[_Write]) -> VectorSegment:
    """A segment that fills what is added to with zeros."""
    nodes: dict[int, Node] = {}
    for node, _ in writes:
        dtype = node.type.dtype
        zero = Node(-1, "const", (), {"dtype": dtype, "value": neutral(node.op, dtype)}, TensorType(dtype, ()))
        nodes[node.id] = Node(node.id, "broadcast_to", (zero,), {"shape": node.type.shape}, node.type, node.where)
    return VectorSegment(
        f"{segment.name}.clear",
        kept,
        nodes=list(nodes.values()),
        writes=[(nodes[node.id], access) for node, access in writes],
    )


def _chunks(segment: VectorSegment, writes: list[_Write], late: Collection[int], own: frozenset[int]) -> VectorSegment:
    """What computes the reduces, and all that does not follow them."""
    early = [each for each in segment.writes if each[0].id not in late]
    return replace(part_of(segment, [], [*writes, *early], f"{segment.name}.chunks"), chunked=own)


def _after(segment: VectorSegment, late: Collection[int], reduces: Sequence[Node]) -> VectorSegment:
    """What follows the reduces, for which `reduces` stand."""
    writes = [each for each in segment.writes if each[0].id in late]
    return part_of(segment, reduces, writes, f"{segment.name}.join")


def part_of(
    segment: VectorSegment,
    nodes: Sequence[Node],
    writes: list[_Write],
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
