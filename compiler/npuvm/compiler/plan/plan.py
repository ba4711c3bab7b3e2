"""A plan: a kernel cut into segments, with the tensors between them, before its shape is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from npuvm.compiler.conv.segment import make_conv_segment
from npuvm.compiler.fusion.concats import split_concats
from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops_conv import CUBE_OPS
from npuvm.compiler.graph.ops_indexed import INDEXED
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.symbols import Product
from npuvm.compiler.pick.segment import dense, pick_segment, zero_segment
from npuvm.compiler.plan.assembly import assembled_of, copy_groups, fill_segment, part_accesses
from npuvm.compiler.plan.partition import Draft, partition, root_of
from npuvm.compiler.plan.segments import Access, CubeSegment, GmTensor, Segment, VectorSegment
from npuvm.compiler.plan.views import Layout, contiguous, through, through_inverse
from npuvm.compiler.selection.legalize import CastPairs, legalize
from npuvm.compiler.vector.picked_reads import in_place, picked_reads

__all__ = ["Plan", "make_plan"]

MAX_TENSORS = 14
"""Most tensors that a vector segment reads and writes: each takes one of the 16 rings, and two of 40 semaphores."""

_ONE = Product()

_COPIED, _PICKED = inf, inf
"""Numbers of no draft, behind those of all drafts, for what uses a value without one."""


class _Use(NamedTuple):
    draft: float
    value: Node
    chain: list[Node]


@dataclass(slots=True)
class Plan:
    """The segments of a kernel in the order they run, and all tensors they touch: params, outputs, then workspace."""

    graph: Graph
    segments: list[Segment] = field(default_factory=list)
    tensors: list[GmTensor] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"tensor @{each.name} {each.kind} {each.dtype}[{', '.join(map(str, each.shape))}]" for each in self.tensors
        ]
        return "\n".join([*lines, *(str(segment) for segment in self.segments)])


def make_plan(
    graph: Graph,
    casts: CastPairs,
    *,
    whole_rows: bool = True,
    operators: bool = False,
    wide: Collection[str] = frozenset(),
) -> Plan:
    """Legalise and cut a graph.

    `whole_rows` keeps reduces over trailing axes and what follows in one segment, for rows that fit UB; without it reduces
    accumulate over tiles and later segments read their inputs again, and so it is for the operators `wide`, by the sources of
    their nodes in a legal graph. `operators`: a segment has nodes of one operator of the
    source only.
    """
    legal = legalize(graph, casts, wide_sums=not whole_rows, wide=wide)
    if not operators:
        legal = split_concats(legal)
    # What follows a lookup works on its rows, where tiles have whole rows.
    picked = in_place(legal, wide) if whole_rows and not operators else frozenset()
    groups = {node.id: node.source for node in legal.nodes} if operators else None
    limits: dict[int, int] = {}
    while True:
        drafts = partition(legal, whole_rows=whole_rows, limits=limits, picked=picked, groups=groups, wide=wide)
        plan = _Planner(legal, drafts, picked).run()
        again = False
        for segment in plan.segments:
            if isinstance(segment, VectorSegment) and len(segment.reads) + len(segment.writes) > MAX_TENSORS:
                limit = max(1, len(segment.nodes) // 2)
                tighter = [node.id for node in segment.nodes if limits.get(node.id, inf) > limit]
                limits.update((each, limit) for each in tighter)
                again |= bool(tighter)
        if not again:
            return plan


class _Planner:
    def __init__(self, graph: Graph, drafts: Sequence[Draft], picked: Collection[int]) -> None:
        self._picked = picked
        self._graph = graph
        self._drafts = drafts
        self._plan = Plan(graph)
        self._homes: dict[int, list[Access]] = {}
        self._copies: dict[int, Access] = {}
        self._assembled = assembled_of(graph.nodes)
        self._computed = {node.id for draft in drafts for node in draft.nodes}
        self._computed |= {node.id for node in self._assembled}
        self._pending: list[Node] = []
        self._parts: dict[int, list[tuple[Node, Access]]] = {}
        """By assembled node, the parts that are copied into it."""
        self._tensors: dict[str, GmTensor] = {}
        self._numbers = {"v": 0, "ws": 0}
        self._uses: dict[int, list[_Use]] = {}
        self._within: dict[int, set[int]] = {}
        """By node, the drafts that have it."""

    def run(self) -> Plan:
        plan = self._plan
        for each in self._graph.params:
            self._add(GmTensor(each.name, "param", each.type.dtype, each.type.shape))
        for output in self._graph.outputs:
            self._add(GmTensor(output.name, "output", output.type.dtype, output.type.shape))
        for node in self._graph.nodes:
            if node.op == "load":
                self._homes[node.id] = [
                    Access(self._tensor(str(node.attrs["param"])), contiguous(node.type.shape), _cache(node))
                ]
        self._note_uses()
        self._place_stores()
        for node in self._assembled:
            self._place_uses(node)
            self._place_parts(node)
        for draft in self._drafts:
            for node in draft.nodes:
                self._place_uses(node)
        for node in self._assembled:
            if node.op == "pad":
                for home in self._homes[node.id]:
                    plan.segments.append(fill_segment(self._next_name(), node, home))
        for draft in self._drafts:
            plan.segments.append(self._alone(draft) if draft.cube else self._vector(draft))
        for node in self._assembled:
            self._finish(node)
        self._copy_together(
            (
                store.inputs[0],
                Access(self._tensor(str(store.attrs["output"])), contiguous(store.type.shape), _cache(store)),
            )
            for store in self._pending
        )
        return plan

    def _tensor(self, name: str) -> GmTensor:
        return self._tensors[name]

    def _add(self, tensor: GmTensor) -> GmTensor:
        self._plan.tensors.append(tensor)
        return self._tensors.setdefault(tensor.name, tensor)

    def _workspace(self, node: Node) -> GmTensor:
        return self._add(GmTensor(self._numbered("ws"), "workspace", node.type.dtype, node.type.shape))

    def _numbered(self, kind: str) -> str:
        number = self._numbers[kind]
        self._numbers[kind] = number + 1
        return f"{kind}{number}"

    # Where computed values lie.

    def _place_stores(self) -> None:
        """A computed value is written straight into the outputs that it, seen through views, becomes."""
        for store in self._graph.stores:
            root, chain = root_of(store.inputs[0])
            layout = None
            if root.id in self._computed:
                layout = through_inverse(contiguous(store.type.shape), chain)
            if layout is None or not self._writable(root, layout):
                self._pending.append(store)
                self._note_use(_COPIED, store.inputs[0])
            else:
                access = Access(self._tensor(str(store.attrs["output"])), layout, _cache(store))
                self._homes.setdefault(root.id, []).append(access)

    def _place_uses(self, node: Node) -> None:
        """Workspace for every value that leaves its draft, laid out so that its readers need no copy where possible."""
        chains = list(self._uses_outside(node))
        homes = self._homes.setdefault(node.id, [])
        if chains and not homes:
            inverse = [through_inverse(contiguous(_end(node, chain).type.shape), chain) for chain in chains]
            plain = all(through(contiguous(node.type.shape), chain) for chain in chains)
            if plain or not any(inverse):
                homes.append(Access(self._workspace(node), contiguous(node.type.shape)))
        for chain in chains:
            if any(through(home.layout, chain) for home in homes):
                continue
            layout = through_inverse(contiguous(_end(node, chain).type.shape), chain)
            if layout is not None and self._writable(node, layout):
                homes.append(Access(self._workspace(_end(node, chain)), layout))
        if chains and not homes:
            homes.append(Access(self._workspace(node), contiguous(node.type.shape)))

    def _place_parts(self, node: Node) -> None:
        """A computed part is written straight into its place in every home of the whole; others are copied there."""
        copied = self._parts[node.id] = []
        for home in list(self._homes[node.id]):
            for each, place in part_accesses(node, home):
                root, chain = root_of(each)
                layout = through_inverse(place.layout, chain) if root.id in self._computed else None
                if layout is None or not self._writable(root, layout):
                    copied.append((each, place))
                    self._note_use(_COPIED, each)
                else:
                    self._homes.setdefault(root.id, []).append(Access(place.tensor, layout, place.cache))

    def _finish(self, node: Node) -> None:
        """Copy the parts of an assembled value that are not written by what computes them."""
        copies = self._parts.pop(node.id, [])
        for each in node.inputs:
            root = root_of(each)[0]
            if root.id in self._parts:
                self._finish(root)
        self._copy_together(copies)

    def _copy_together(self, copies: Iterable[tuple[Node, Access]]) -> None:
        """Copies of values; those of one shape share a segment."""
        for group in copy_groups(copies, MAX_TENSORS // 2):
            reads = {each.id: (each, self._read(each)) for each, _ in group if not is_scalar(each)}
            segment = VectorSegment("", group[0][0].type.shape, reads=list(reads.values()), writes=group)
            segment.name = self._next_name()
            self._plan.segments.append(segment)

    def _uses_outside(self, node: Node) -> Iterator[list[Node]]:
        """The views through which other drafts, or stores that need a copy, use the value."""
        seen: set[int] = set()
        own = self._within.get(node.id, ())
        for use in sorted(self._uses.get(node.id, ()), key=lambda each: each.draft):
            if use.draft not in own and use.value.id not in seen:
                seen.add(use.value.id)
                yield use.chain

    def _note_uses(self) -> None:
        """Who uses which values: drafts by their numbers, then gathers whose rows are read by index."""
        for number, draft in enumerate(self._drafts):
            for node in draft.nodes:
                self._within.setdefault(node.id, set()).add(number)
                for each in node.inputs:
                    self._note_use(number, each)
        for node in self._graph.nodes:
            if node.id in self._picked:
                for each in node.inputs:
                    self._note_use(_PICKED, each)

    def _note_use(self, draft: float, value: Node) -> None:
        root, chain = root_of(value)
        self._uses.setdefault(root.id, []).append(_Use(draft, value, chain))

    def _writable(self, root: Node, layout: Layout) -> bool:
        """The cube's results leave once, in rows of adjacent elements; the vector unit's leave any way, any number of times."""
        if root.op in INDEXED:
            return dense(layout) and not self._homes.get(root.id)
        return root.op not in CUBE_OPS or (layout.strides[-1] == _ONE and not self._homes.get(root.id))

    # Segments.

    def _vector(self, draft: Draft) -> VectorSegment:
        segment = VectorSegment("", draft.domain, draft.axes, draft.form, draft.nodes)
        segment.allowed, segment.named = self._graph.allowed, self._graph.named
        known = {node.id for node in draft.nodes}
        for node in draft.nodes:
            for each in node.inputs:
                if each.id in known or is_scalar(each):
                    continue
                known.add(each.id)
                if each.id in self._picked:
                    segment.reads += picked_reads(each, self._read, self._copied)
                else:
                    segment.reads.append((each, self._read(each)))
            segment.writes += [(node, home) for home in self._homes.get(node.id, [])]
        segment.name = self._next_name()
        return segment

    def _next_name(self) -> str:
        return self._numbered("v")

    def _alone(self, draft: Draft) -> Segment:
        node = draft.nodes[0]
        if node.op not in INDEXED:
            return self._cube(draft)
        home = self._homes[node.id][0]
        if node.op != "gather":
            self._start_table(node, home)
        return pick_segment(node, self._read, self._copied, home, self._plan.segments)

    def _start_table(self, node: Node, home: Access) -> None:
        """What rows are scattered to begins as a copy, or as zeros."""
        if len(node.inputs) == 3:
            self._copy(node.inputs[2], home)
        else:
            self._plan.segments.append(zero_segment(self._next_name(), node, home))

    def _cube(self, draft: Draft) -> CubeSegment:
        node = draft.nodes[0]
        if node.op == "conv2d":
            return make_conv_segment(node, self._read, self._copied, self._homes[node.id][0], self._plan.segments)
        a, flip_a = self._operand(node.inputs[0])
        b, flip_b = self._operand(node.inputs[1])
        bias = self._read(node.inputs[2]) if len(node.inputs) == 3 else None
        homes = self._homes[node.id]
        transposes = (bool(node.attrs.get("transpose_a")) != flip_a, bool(node.attrs.get("transpose_b")) != flip_b)
        number = sum(isinstance(each, CubeSegment) for each in self._plan.segments)
        return CubeSegment(f"c{number}", node, a, b, bias, homes[0], *transposes)

    def _operand(self, node: Node) -> tuple[Access, bool]:
        """The access of a matrix operand, and whether its rows and cols are exchanged in it."""
        access = self._read(node)
        layout = access.layout
        if layout.strides[-1] == _ONE or layout.dims[-1] == 1:
            return access, False
        if layout.strides[-2] == _ONE or layout.dims[-2] == 1:
            axes = (*range(len(layout.dims) - 2), len(layout.dims) - 1, len(layout.dims) - 2)
            return Access(access.tensor, layout.permuted(axes), access.cache), True
        return self._copied(node), False

    def _read(self, node: Node) -> Access:
        """How a value is read from memory; a chain of views that strides cannot express is copied first."""
        root, chain = root_of(node)
        if root.id in self._parts:
            self._finish(root)
        for home in self._homes[root.id]:
            layout = through(home.layout, chain)
            if layout is not None:
                return Access(home.tensor, layout, home.cache)
        if node.id in self._copies:
            return self._copies[node.id]
        source = self._copied(node.inputs[0])
        layout = through(source.layout, [node])
        assert layout is not None, "a contiguous tensor takes any one view"
        return Access(source.tensor, layout)

    def _copied(self, node: Node) -> Access:
        """A contiguous copy of a value."""
        if node.id not in self._copies:
            self._copies[node.id] = self._copy(node, Access(self._workspace(node), contiguous(node.type.shape)))
        return self._copies[node.id]

    def _copy(self, node: Node, target: Access) -> Access:
        self._copy_together([(node, target)])
        return target


def _end(node: Node, chain: Sequence[Node]) -> Node:
    return chain[-1] if chain else node


def _cache(node: Node) -> str:
    return str(node.attrs.get("cache", "normal"))
