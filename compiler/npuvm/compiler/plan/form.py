"""The form of a segment: what its programs depend on, so that segments of one form can share them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.plan.joint import CutSegment, Joint, MixSegment, RelaySegment
from npuvm.compiler.plan.segments import Access, CubeSegment, PickSegment, Segment, VectorSegment

__all__ = ["SegmentForm"]


class SegmentForm:
    """A segment up to names: equal `key`s mean equal programs, with `tensors` and `parts` in each other's places.

    `tensors` and `parts` are the names of its tensors and of the segments in it, each in the order in which the key counts
    them.
    """

    def __init__(self, segment: Joint) -> None:
        self._tensors: dict[str, int] = {}
        self._nodes: dict[int, int] = {}
        self._told: dict[int, int] = {}
        parts: Sequence[Segment]
        extra: Hashable = ()
        if isinstance(segment, MixSegment):
            parts, extra = segment.parts, segment.kept
        elif isinstance(segment, CutSegment):
            parts = (segment.whole, *segment.parts)
        elif isinstance(segment, RelaySegment):
            parts, extra = (
                segment.parts,
                tuple(each is not None for each in (segment.before, segment.after, segment.behind)),
            )
        else:
            parts = (segment,)
        # A result that goes from part to part is one tensor, but a node of its own in each.
        rows = []
        for part in parts:
            self._nodes, self._told = {}, {}
            rows.append(self._part(part))
        self.key: Hashable = (type(segment).__name__, extra, tuple(rows))
        self.tensors = tuple(self._tensors)
        self.parts = tuple(part.name for part in parts)

    def _part(self, part: Segment) -> Hashable:
        if isinstance(part, VectorSegment):
            return self._vector(part)
        if isinstance(part, CubeSegment):
            accesses = [None if each is None else self._access(each) for each in (part.a, part.b, part.bias, part.c)]
            own = (
                part.node.op,
                _attrs(part.node),
                str(part.node.type),
                tuple(str(each.type) for each in part.node.inputs),
            )
            return type(part).__name__, tuple(accesses), part.transpose_a, part.transpose_b, own
        assert isinstance(part, PickSegment)
        rows = [self._access(each) for each in (part.table, part.index, part.rows)]
        return "pick", self._node(part.node), tuple(rows)

    def _vector(self, part: VectorSegment) -> Hashable:
        reads = []
        for node, access in part.reads:
            number = self._nodes.setdefault(node.id, len(self._nodes))
            reads.append((number, node.type.dtype, node.type.shape, access))
        read = tuple([(number, dtype, shape, self._access(access)) for number, dtype, shape, access in reads])
        nodes = tuple([self._defined(node) for node in part.nodes])
        writes = tuple([(self._value(node), self._access(access)) for node, access in part.writes])
        named = tuple(
            [
                (self._nodes[node.id], found.op, found.approximate, self._nodes.get(found.input.id, -1))
                for node in part.nodes
                if (found := part.named.get(node.id)) is not None
            ]
        )
        chunked = None if part.chunked is None else tuple(sorted(self._nodes.get(each, -1) for each in part.chunked))
        return part.domain, part.reduce_axes, part.form, part.allowed, read, nodes, writes, named, chunked

    def _defined(self, node: Node) -> Hashable:
        row = self._node(node)
        self._nodes.setdefault(node.id, len(self._nodes))
        return row

    def _node(self, node: Node) -> Hashable:
        inputs = tuple([self._value(each) for each in node.inputs])
        return node.op, _attrs(node), node.type.dtype, node.type.shape, inputs

    def _value(self, node: Node) -> Hashable:
        """A value that the segment reads or computes by its number; a number by itself; others, as views, in full, once."""
        known = self._nodes.get(node.id)
        if known is not None and not is_scalar(node):
            return known
        if node.id in self._told:
            return "again", self._told[node.id]
        row = self._node(node)
        if node.inputs:
            self._told[node.id] = len(self._told)
        return row

    def _access(self, access: Access) -> Hashable:
        tensor = access.tensor
        number = self._tensors.setdefault(tensor.name, len(self._tensors))
        picks = None
        if access.picks is not None:
            picks = self._nodes.get(access.picks.index, -1), access.picks.count, access.picks.row
        made = tensor.kind == "workspace"
        return number, made, tensor.dtype, tensor.shape, access.layout, access.cache, picks, access.adds


def _attrs(node: Node) -> Hashable:
    """Attributes as text, which tells 1, 1.0 and True apart."""
    return tuple([(name, repr(value)) for name, value in node.attrs.items() if name != "param"])
