"""A product whose k several cores share: products of parts of k, side by side in a workspace, and what adds them up.

The sum is vector code, and so are the bias, the cast, and what follows the product in a mix. Parts are added in their order.
Parts are equally long; what they leave of k is a product of its own, made by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import Attr
from npuvm.compiler.graph.sums import Sum, times
from npuvm.compiler.graph.symbols import product as dims_product
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.padding.parts import product_of
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import Access, CubeSegment, GmTensor, VectorSegment
from npuvm.compiler.plan.views import Layout, contiguous
from npuvm.compiler.reduce.parts import fresh_id
from npuvm.isa import Isa

__all__ = ["LENGTH", "SYMBOLS", "SplitParts", "split_parts"]

PARTS = "parts__of__k"
"""The symbol for the number of parts that are added up."""

ALIKE = "parts__of__k__alike"
"""That for the number of parts that one product makes."""

LENGTH = "length__of__a__part__of__k"
"""That for how much of k each of these has."""

FIRST = "first__part__of__k"
"""That for the number of parts before these."""

BEFORE = "k__before__the__first__part"
"""That for how much of k lies before these."""

SYMBOLS = (PARTS, ALIKE, LENGTH, FIRST, BEFORE)
"""All symbols of parts, in the order of `split.cost.Split.pieces`."""

_SUM = "fp32"
"""What parts are in that are added up."""


@dataclass(frozen=True, slots=True)
class SplitParts:
    """A product of parts, one matrix of a batch for each, the vector code that adds them up, and what is between.

    Both know SYMBOLS. `following` operations of a mix come after the sum.
    """

    product: CubeSegment
    join: VectorSegment
    tensor: GmTensor
    following: int


def split_parts(segment: CubeSegment | MixSegment, isa: Isa) -> SplitParts | None:
    """The parts of a product, alone or in a mix; None for convolutions, and for sums that are not floating-point numbers."""
    whole = product_of(segment)
    kind = isa.dtypes.get(whole.a.tensor.dtype)
    if isinstance(whole, ConvSegment) or kind is None or kind.acc != _SUM:
        return None
    shape: tuple[Dim, ...] = (PARTS, *whole.c.layout.dims)
    found = contiguous(shape)
    begin = Sum((times(found.strides[0], dims_product((FIRST,))),))
    tensor = GmTensor(f"{segment.name}.parts", "workspace", _SUM, shape)
    rank = len(shape)
    parts = replace(
        whole,
        name=f"{segment.name}.parts",
        a=_cut(whole.a, rank, -2 if whole.transpose_a else -1),
        b=_cut(whole.b, rank, -1 if whole.transpose_b else -2),
        bias=None,
        c=Access(tensor, Layout((ALIKE, *shape[1:]), found.strides, begin)),
    )
    following = len(segment.vector.nodes) if isinstance(segment, MixSegment) else 0
    return SplitParts(parts, _join(segment, whole, Access(tensor, found)), tensor, following)


def _cut(access: Access, rank: int, axis: int) -> Access:
    """An operand with a dim of parts before all others, whose dim k is one part long."""
    own, ones = access.layout, rank - 1 - len(access.layout.dims)
    step = own.strides[axis]
    dims = list(own.dims)
    dims[axis] = LENGTH
    zero = dims_product((0,))
    begin = own.offset + Sum((times(step, dims_product((BEFORE,))),))
    layout = Layout(
        (ALIKE, *[1] * ones, *dims), (times(step, dims_product((LENGTH,))), *[zero] * ones, *own.strides), begin
    )
    return replace(access, layout=layout)


def _join(segment: CubeSegment | MixSegment, product: CubeSegment, parts: Access) -> VectorSegment:
    """What adds the parts up, and all that the segment computes of the sum."""
    kept, where = product.c.layout.dims, product.node.where
    vector = segment.vector if isinstance(segment, MixSegment) else None
    if vector is None:
        before = [product.node, *product.node.inputs]
        fresh, result = max(each.id for each in before) + 1, product.node.id
    else:
        name = product.c.tensor.name
        fresh, result = fresh_id(vector), next(node.id for node, each in vector.reads if each.tensor.name == name)
    value = Node(fresh, "load", (), {"param": parts.tensor.name}, TensorType(_SUM, parts.layout.dims), where)
    reads = [(value, parts)]
    nodes: list[Node] = []

    def add(op: str, inputs: tuple[Node, ...], kind: TensorType, **attrs: Attr) -> Node:
        nodes.append(Node(fresh + 1 + len(nodes), op, inputs, attrs, kind, where))
        return nodes[-1]

    total = add("reduce_sum", (value,), TensorType(_SUM, kept), axes=(0,), keepdims=False)
    if product.bias is not None:
        bias, dtype, dims = product.bias, product.bias.tensor.dtype, product.bias.layout.dims
        read = Node(fresh + 9, "load", (), {"param": bias.tensor.name}, TensorType(dtype, dims), where)
        reads.append((read, bias))
        wide = read if dtype == _SUM else add("cast", (read,), TensorType(_SUM, dims), dtype=_SUM)
        total = add("add", (total, wide), TensorType(_SUM, kept))
    dtype = product.c.tensor.dtype
    if dtype != _SUM:
        total = add("cast", (total,), TensorType(dtype, kept), dtype=dtype)
    nodes[-1] = found = replace(total, id=result)
    writes = [(found, product.c)] if vector is None or (isinstance(segment, MixSegment) and segment.kept) else []
    axes = (-len(parts.layout.dims),)
    own = VectorSegment(f"{segment.name}.sum", parts.layout.dims, axes, "row", nodes, reads, writes)
    if vector is None:
        return own
    others = [(node, each) for node, each in vector.reads if node.id != result]
    return replace(
        own,
        nodes=[*nodes, *vector.nodes],
        reads=[*reads, *others],
        writes=[*writes, *vector.writes],
        named=vector.named,
        allowed=vector.allowed,
    )
