"""The segment of an operation that picks rows by index: how its tensors must lie, and its sizes for a concrete shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.plan.segments import Access, PickSegment, VectorSegment
from npuvm.compiler.plan.views import Layout, contiguous

__all__ = ["PickSpec", "dense", "lower_pick", "pick_segment", "zero_segment"]


@dataclass(frozen=True, slots=True)
class PickSpec:
    """Sizes of a segment: in each of `outer` parts of a table, `picks` indices name rows of `inner` elements, of `count`.

    A tensor is (argument, first element).
    """

    op: str
    dtype: str
    outer: int
    count: int
    inner: int
    picks: int
    table: tuple[int, int]
    index: tuple[int, int]
    rows: tuple[int, int]
    name: str
    cache: str


def dense(layout: Layout) -> bool:
    """Whether the elements follow each other in the order of the dims."""
    plain = contiguous(layout.dims).strides
    return all(a == b for a, b, dim in zip(layout.strides, plain, layout.dims, strict=True) if dim != 1)


def zero_segment(name: str, node: Node, home: Access) -> VectorSegment:
    """A segment that fills what rows are scattered to with zeros."""
    dtype = node.type.dtype
    value = {"float": 0.0, "int": 0, "bool": False}[node.type.info.kind]
    number = Node(-1, "const", (), {"dtype": dtype, "value": value}, TensorType(dtype, ()), node.where)
    spread = Node(node.id, "broadcast_to", (number,), {"shape": node.type.shape}, node.type, node.where, node.source)
    return VectorSegment(name, node.type.shape, nodes=[spread], writes=[(spread, home)])


def pick_segment(
    node: Node,
    read: Callable[[Node], Access],
    copied: Callable[[Node], Access],
    home: Access,
    segments: Sequence[object],
) -> PickSegment:
    """The segment of a node; `read` says how a value lies in memory, `copied` makes a dense copy of one."""

    def lies_dense(each: Node) -> Access:
        access = read(each)
        return access if dense(access.layout) else copied(each)

    first, second = (lies_dense(each) for each in node.inputs[:2])
    name = f"p{sum(isinstance(each, PickSegment) for each in segments)}"
    if node.op == "gather":
        return PickSegment(name, node, first, second, home)
    return PickSegment(name, node, home, first, second)


def lower_pick(segment: PickSegment, binding: Mapping[str, int]) -> tuple[PickSpec, tuple[str, ...]]:
    """The sizes of a segment, and the tensors whose addresses its program takes, in order."""
    accesses = (segment.table, segment.index, segment.rows)
    tensors = tuple(dict.fromkeys(access.tensor.name for access in accesses))
    places = [(tensors.index(each.tensor.name), each.layout.offset.value(binding)) for each in accesses]
    node = segment.node
    axis = node.attrs["axis"]
    assert isinstance(axis, int)
    shape = evaluate(segment.table.layout.dims, binding)
    spec = PickSpec(
        op=node.op,
        dtype=segment.table.tensor.dtype,
        outer=prod(shape[:axis]),
        count=shape[axis],
        inner=prod(shape[axis + 1 :]),
        picks=prod(evaluate(segment.index.layout.dims, binding)),
        table=places[0],
        index=places[1],
        rows=places[2],
        name=segment.name,
        cache=segment.table.cache,
    )
    return spec, tensors
