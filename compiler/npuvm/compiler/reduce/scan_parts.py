"""Prefix sums of long rows, in parts: sums of chunks on many cores, where each chunk starts, and prefix sums from there on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_along import axis_of
from npuvm.compiler.graph.sums import Sum
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.plan.segments import Access, GmTensor, VectorSegment
from npuvm.compiler.plan.views import contiguous
from npuvm.compiler.reduce.parts import CHUNKS, ReduceParts, fresh_id, kept_shape, part_of

__all__ = ["scan_parts"]


def scan_parts(segment: VectorSegment) -> ReduceParts | None:
    """The parts of a segment; None when it has no prefix sums over tiles.

    The sums of all chunks stand behind a 0 that is cleared first; their prefix sums are where the chunks start.
    """
    scans = [node for node in segment.nodes if node.op == "cumsum"]
    if segment.form != "scan" or any(access.picks for _, access in segment.reads):
        return None
    kept, fresh = kept_shape(segment), fresh_id(segment)
    shape: tuple[Dim, ...] = (CHUNKS, *kept)
    layout = contiguous(shape)
    first = replace(layout, dims=kept, strides=layout.strides[1:])
    second = replace(first, offset=Sum(layout.strides[:1]))
    steps = [_Step(segment.name, node, number, fresh + 5 * number, shape) for number, node in enumerate(scans)]
    clear = VectorSegment(
        f"{segment.name}.clear",
        kept,
        nodes=[each.zero for each in steps],
        writes=[(each.zero, Access(each.sums, first)) for each in steps],
    )
    totals = replace(segment, form="accumulate", nodes=[*segment.nodes, *(each.total for each in steps)])
    writes = [(each.total, Access(each.sums, second)) for each in steps]
    chunks = part_of(totals, [], writes, f"{segment.name}.chunks")
    starts = VectorSegment(
        f"{segment.name}.starts",
        shape,
        (-len(shape),),
        "scan",
        nodes=[each.scan for each in steps],
        reads=[(each.value, Access(each.sums, layout)) for each in steps],
        writes=[(each.scan, Access(each.starts, layout)) for each in steps],
    )
    by_id = {each.node.id: (each.local, each.result) for each in steps}
    last = replace(
        segment,
        name=f"{segment.name}.scan",
        nodes=[made for node in segment.nodes for made in by_id.get(node.id, (node,))],
        reads=[*segment.reads, *((each.start, Access(each.starts, first)) for each in steps)],
        memo={},
        chunked=frozenset(each.start.id for each in steps),
    )
    chunks = replace(chunks, chunked=frozenset(each.total.id for each in steps))
    tensors = tuple(tensor for each in steps for tensor in (each.sums, each.starts))
    return ReduceParts((clear, chunks, starts, last), tensors, further=1)


class _Step:
    """The nodes and tensors that stand for prefix sums."""

    def __init__(self, name: str, node: Node, number: int, fresh: int, shape: Sequence[Dim]) -> None:
        dtype, kept, where = node.type.dtype, tuple(shape[1:]), node.where
        self.node = node
        self.sums = GmTensor(f"{name}.sums{number}", "workspace", dtype, tuple(shape))
        self.starts = GmTensor(f"{name}.starts{number}", "workspace", dtype, tuple(shape))
        value = 0.0 if node.type.info.kind == "float" else 0
        none = Node(-1, "const", (), {"dtype": dtype, "value": value}, TensorType(dtype, ()), where)
        axis, own = axis_of(node), node.type.shape
        reduced = TensorType(dtype, (*own[:axis], 1, *own[axis + 1 :]))
        all_sums, result = TensorType(dtype, tuple(shape)), TensorType(dtype, kept)
        self.zero = Node(fresh, "broadcast_to", (none,), {"shape": kept}, result, where)
        self.total = Node(fresh, "reduce_sum", node.inputs, {"axes": (axis,), "keepdims": True}, reduced, where)
        self.value = Node(fresh + 1, "load", (), {"param": self.sums.name}, all_sums, where)
        self.scan = Node(fresh + 2, "cumsum", (self.value,), {"axis": 0}, all_sums, where)
        self.start = Node(fresh + 3, "load", (), {"param": self.starts.name}, result, where)
        self.local = Node(fresh + 4, "cumsum", node.inputs, node.attrs, node.type, where)
        self.result = Node(node.id, "add", (self.local, self.start), {}, node.type, where)
