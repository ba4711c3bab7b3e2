"""Where a vector segment can be cut in two, each a program of its own: what UB has too little room for as a whole.

A cut is found once for each graph: of those that leave each part much less in UB, the one that moves the fewest bytes. Whether
it is taken is decided for each shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.plan.joint import CutSegment
from npuvm.compiler.plan.partition import Draft, drafted
from npuvm.compiler.plan.plan import MAX_TENSORS
from npuvm.compiler.plan.segments import Access, GmTensor, VectorSegment
from npuvm.compiler.plan.views import contiguous
from npuvm.compiler.vector.codegen import RING_SLOTS

__all__ = ["cut_of"]

_RELIEF = 0.7
"""What a part has in UB at a time, at most, as a share of what the whole has: a cut that leaves more is not worth a launch."""

_LEAST = 4
"""Nodes of a segment that a cut may pay for."""


class _Sides(NamedTuple):
    """The nodes of both parts, in order, and the values that the first hands to the second."""

    first: list[Node]
    second: list[Node]
    handed: list[Node]


def cut_of(segment: VectorSegment, slots: int = RING_SLOTS) -> CutSegment | None:
    """The segment with its cut; None where none leaves both parts much less to hold in UB.

    Rings of tensors that are read or written have so many `slots`.
    """
    if segment.form not in ("map", "row") or len(segment.nodes) < _LEAST or segment.chunked is not None:
        return None
    if any(access.picks is not None or access.adds for _, access in (*segment.reads, *segment.writes)):
        return None
    return _Cutter(segment, slots).cut()


class _Cutter:
    def __init__(self, segment: VectorSegment, slots: int) -> None:
        self._segment, self._slots = segment, slots
        self._own = {node.id for node in segment.nodes}
        self._users: dict[int, list[int]] = {}
        for at, node in enumerate(segment.nodes):
            for each in node.inputs:
                self._users.setdefault(each.id, []).append(at)
        self._written = {node.id for node, _ in segment.writes}
        self._known: dict[int, tuple[int, int, dict[int, tuple[int, bool]]]] = {}

    def cut(self) -> CutSegment | None:
        """The cut with the fewest bytes; of equals that which leaves the least in UB, then the first."""
        segment = self._segment
        most = _RELIEF * self._held(segment.nodes, self._written)
        best: tuple[tuple[float, float], _Sides] | None = None
        for sides in self._all_sides():
            handed = {each.id for each in sides.handed}
            held = max(self._held(sides.first, self._written | handed), self._held(sides.second, self._written))
            if held > most or (best is not None and (self._moved(sides), held) >= best[0]):
                continue
            if self._drafts(sides) is not None:
                best = (self._moved(sides), held), sides
        return None if best is None else self._made(best[1])

    def _all_sides(self) -> Iterator[_Sides]:
        """All cuts of the nodes in order that leave named operators whole and hand over what memory can hold."""
        nodes = self._segment.nodes
        for at in range(1, len(nodes)):
            first, second = nodes[:at], nodes[at:]
            sides = self._sides(first, second)
            if all(each.type.dtype != "bool" for each in sides.handed) and not self._splits_named(first, second):
                yield sides

    def _sides(self, first: Sequence[Node], second: Sequence[Node]) -> _Sides:
        """The parts. Casts to a wider dtype are made again, so that narrow values cross memory, and so are numbers in order."""
        here = {node.id for node in first}
        again: list[Node] = []
        handed: dict[int, Node] = {}
        for node in second:
            for each in node.inputs:
                value = each
                if each.id in here and (each.op == "iota" or _widens(each)):
                    again += [each] if each not in again else []
                    value = each.inputs[0] if each.inputs else each
                if value.id in here and value.op != "iota":
                    handed[value.id] = value
        needed = [node for node in first if node not in again or self._is_used(node, first)]
        return _Sides(needed, [*again, *second], list(handed.values()))

    def _is_used(self, node: Node, first: Sequence[Node]) -> bool:
        return node.id in self._written or any(at < len(first) for at in self._users.get(node.id, ()))

    def _splits_named(self, first: Sequence[Node], second: Sequence[Node]) -> bool:
        """Whether an operator that the graph knows by name is made partly here and partly there."""
        here = {node.id for node in first}
        for node in second:
            named = self._segment.named.get(node.id)
            stack = [] if named is None else list(node.inputs)
            while stack:
                each = stack.pop()
                if named is None or each.id == named.input.id or each.id not in self._own:
                    continue
                if each.id in here:
                    return True
                stack += each.inputs
        return False

    # What parts hold and move, in bytes for an element of the domain.

    def _bytes(self, node: Node) -> int:
        """Of a value that has all elements; rows and columns of them count nothing."""
        return DTYPES[node.type.dtype].item_bytes if node.type.shape == self._segment.domain else 0

    def _held(self, nodes: Sequence[Node], written: set[int]) -> float:
        """What is in UB at a time: slots of all that is read and written, and what is between operations at its most."""
        sizes = [self._sizes(node) for node in nodes]
        own = {number for number, *_ in sizes}
        last = {each: at for at, (_, _, inputs) in enumerate(sizes) for each in inputs}
        reads: dict[int, int] = {}
        live = most = moved = 0
        for at, (number, nbytes, inputs) in enumerate(sizes):
            if number in written:
                moved += nbytes
            else:
                live += nbytes
            most = max(most, live)
            for each, (read, scalar) in inputs.items():
                if each not in own:
                    reads[each] = 0 if scalar else read
                elif last[each] == at and each not in written:
                    live -= read
        return most + self._slots * (moved + sum(reads.values()))

    def _sizes(self, node: Node) -> tuple[int, int, dict[int, tuple[int, bool]]]:
        """Of a node its id, its bytes, and by id those of its inputs and whether they are scalars; every cut asks for them."""
        found = self._known.get(node.id)
        if found is None:
            inputs = {each.id: (self._bytes(each), is_scalar(each)) for each in node.inputs}
            found = self._known[node.id] = node.id, self._bytes(node), inputs
        return found

    def _moved(self, sides: _Sides) -> float:
        """What both parts read, and what goes from one to the other."""
        found = 2.0 * sum(map(self._bytes, sides.handed))
        for nodes in (sides.first, sides.second):
            ids = {each.id for node in nodes for each in node.inputs}
            found += sum(self._bytes(node) for node, _ in self._segment.reads if node.id in ids)
        return found

    # The parts as segments.

    def _drafts(self, sides: _Sides) -> tuple[Draft, Draft] | None:
        first, second = drafted(sides.first), drafted(sides.second)
        if first is None or second is None or {first.form, second.form} - {"map", "row"}:
            return None
        return first, second

    def _made(self, sides: _Sides) -> CutSegment | None:
        drafts = self._drafts(sides)
        assert drafts is not None, "only cuts with drafts are chosen"
        segment = self._segment
        homes = {node.id: self._home(node) for node in sides.handed}
        handed = [(node, homes[node.id]) for node in sides.handed]
        kept = {id(access) for _, access in segment.writes}
        writes = segment.writes, [each for each in handed if id(each[1]) not in kept]
        first = self._part("first", drafts[0], [*writes[0], *writes[1]], [])
        done = {node.id for node in sides.first}
        second = self._part("second", drafts[1], [each for each in segment.writes if each[0].id not in done], handed)
        if max(len(each.reads) + len(each.writes) for each in (first, second)) > MAX_TENSORS:
            return None
        second.near = frozenset(access.tensor.name for access in homes.values())
        return CutSegment(segment, first, second)

    def _home(self, node: Node) -> Access:
        """Where a value that is handed over lies: where it is written anyway, or in a workspace of its own."""
        layout = contiguous(node.type.shape)
        for each, access in self._segment.writes:
            if each.id == node.id and access.layout == layout:
                return access
        name = f"{self._segment.name}.{node.id}"
        return Access(GmTensor(name, "workspace", node.type.dtype, node.type.shape), layout)

    def _part(
        self,
        name: str,
        draft: Draft,
        writes: Sequence[tuple[Node, Access]],
        given: Sequence[tuple[Node, Access]],
    ) -> VectorSegment:
        """The segment of a draft, with those of these writes that are its own."""
        segment, own = self._segment, {node.id for node in draft.nodes}
        ids = {each.id for node in draft.nodes for each in node.inputs}
        reads = [each for each in segment.reads if each[0].id in ids]
        return replace(
            segment,
            name=f"{segment.name}.{name}",
            domain=draft.domain,
            reduce_axes=draft.axes,
            form=draft.form,
            nodes=draft.nodes,
            reads=[*reads, *given],
            writes=[each for each in writes if each[0].id in own],
            memo={},
        )


def _widens(node: Node) -> bool:
    """Whether a node is a cast to a wider dtype."""
    if node.op != "cast" or is_scalar(node.inputs[0]):
        return False
    return DTYPES[node.type.dtype].item_bytes > DTYPES[node.inputs[0].type.dtype].item_bytes
