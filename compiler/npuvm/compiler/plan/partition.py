"""Cuts a legal graph into an ordered list of drafts: groups of vector operations, and matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from math import inf

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import BINARY, REDUCES, UNARY, VIEWS, broadcast_shapes
from npuvm.compiler.graph.ops_along import BESTS, axis_of
from npuvm.compiler.graph.ops_conv import CUBE_OPS
from npuvm.compiler.graph.ops_indexed import INDEXED
from npuvm.compiler.graph.ops_views import ASSEMBLED
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.types import DTYPES, Dim

__all__ = ["Draft", "drafted", "partition", "root_of"]

_ELEMENTWISE = frozenset((*UNARY, *BINARY, "cast", "select"))


@dataclass(slots=True)
class Draft:
    """A segment under construction; see VectorSegment for domain, axes and form. A matrix product has one node, as have rows
    picked by index; both are `cube`: no vector operation joins them.
    """

    cube: bool = False
    domain: tuple[Dim, ...] = ()
    axes: tuple[int, ...] = ()
    form: str = "map"
    nodes: list[Node] = field(default_factory=list)
    after: set[int] = field(default_factory=set)
    """Nodes that follow a reduce of this draft, the reduces included."""
    flat: bool = False
    """Reduces several axes to one element, so that all it has are values of its domain, or of one element."""
    ids: set[int] = field(default_factory=set)
    shapes: Counter[tuple[Dim, ...]] = field(default_factory=Counter)
    """How many of its nodes have each shape."""

    def add(self, node: Node) -> None:
        """Append a node."""
        self.nodes.append(node)
        self.ids.add(node.id)
        self.shapes[node.type.shape] += 1

    def undo(self, before: Draft, count: int) -> None:
        """Be what it was with `count` nodes, when its domain, axes and form were those of `before`."""
        for node in self.nodes[count:]:
            self.ids.discard(node.id)
            self.after.discard(node.id)
            self.shapes[node.type.shape] -= 1
        del self.nodes[count:]
        self.shapes = +self.shapes
        self.domain, self.axes, self.form, self.flat = before.domain, before.axes, before.form, before.flat


def root_of(node: Node) -> tuple[Node, list[Node]]:
    """The value behind views, and these views in order from the root."""
    chain: list[Node] = []
    while node.op in VIEWS:
        chain.append(node)
        node = node.inputs[0]
    return node, chain[::-1]


def partition(
    graph: Graph,
    *,
    whole_rows: bool,
    limits: Mapping[int, int] | None = None,
    picked: Collection[int] = (),
    groups: Mapping[int, str] | None = None,
    wide: Collection[str] = frozenset(),
) -> list[Draft]:
    """Drafts in an order that respects all dependencies.

    `whole_rows`: reduces over trailing axes and what follows them may share a draft, but those of the operators `wide`, by
    their sources. A node joins no draft of as many
    nodes as `limits` says for it, by its id.
    The gathers with these ids, `picked`, are in none: their rows are read by index. With `groups` only nodes of one group,
    given by their ids, may share a draft; a group that is not convex is cut where others come between.
    """
    return _Partition(whole_rows, limits or {}, picked, groups, wide).run(graph)


def drafted(nodes: Sequence[Node]) -> Draft | None:
    """One draft of these vector operations in order, with whole rows; None where none holds them."""
    draft, join = Draft(), _Partition(True, {}, (), None, ()).join
    return draft if all(join(draft, node) for node in nodes) else None


class _Partition:
    """Puts nodes into drafts one by one.

    A cast to a wider dtype floats: every draft that needs it has its own, so that the narrow value crosses memory. An iota
    floats as well, so that none does, and one cheap operation on a tensor in memory, so that its result is not written.
    """

    def __init__(
        self,
        whole_rows: bool,
        limits: Mapping[int, int],
        picked: Collection[int],
        groups: Mapping[int, str] | None,
        wide: Collection[str],
    ) -> None:
        self._groups, self._wide = groups, wide
        self._picked = picked
        self._whole_rows = whole_rows
        self._limits = limits
        self._drafts: list[Draft] = []
        self._place: dict[int, int] = {}
        self._floating: set[int] = set()

    def run(self, graph: Graph) -> list[Draft]:
        self._floating = _floating(graph)
        order = _demand_order(graph)
        if self._groups is not None:
            self._floating -= _shared(graph, self._groups)
            order = _in_groups(order, self._groups)
        for node in order:
            if node.op in ASSEMBLED or node.id in self._picked:
                self._place[node.id] = max(self._place.get(root_of(each)[0].id, -1) for each in node.inputs)
            elif node.op in CUBE_OPS or node.op in INDEXED:
                self._place[node.id] = len(self._drafts)
                self._drafts.append(Draft(cube=True, domain=node.type.shape, nodes=[node]))
            elif node.id not in self._floating:
                self._put(node)
        for draft in self._drafts:
            if self._may_be_shared(draft):
                draft.form = "accumulate"
        return self._drafts

    def _may_be_shared(self, draft: Draft) -> bool:
        """Whether rows need not lie in UB whole, so that cores may share them: they are reduced once, and gone then.

        What reads a product keeps whole rows, which can share a program with it; places of extremes need them.
        """
        reduces = [node.op for node in draft.nodes if node.op in (*REDUCES, "reduce_argmax")]
        if draft.form != "row" or len(reduces) > 1 or "reduce_argmax" in reduces:
            return False
        if not all(_reduced_shape(node.type.shape, draft.axes) for node in draft.nodes if node.id in draft.after):
            return False
        return not any(self._drafts[at].cube for node in draft.nodes for at in self._producers(node))

    def _put(self, node: Node) -> None:
        producers = self._producers(node)
        for at in (max(producers, default=-1), len(self._drafts) - 1):
            if at >= 0 and not self._drafts[at].cube and self._joined(at, node):
                self._place[node.id] = at
                return
        self._drafts.append(Draft())
        self._place[node.id] = len(self._drafts) - 1
        if not self._joined(len(self._drafts) - 1, node):
            raise CompileError(f"{node!r} fits no vector segment", node.where or None)

    def _producers(self, node: Node) -> list[int]:
        """The drafts of what a node reads, also by way of what every draft has for itself."""
        found: list[int] = []
        for each in node.inputs:
            if each.id in self._floating:
                found += self._producers(each)
            elif each.id in self._place:
                found.append(self._place[each.id])
        return found

    def _joined(self, at: int, node: Node) -> bool:
        """Add the node, and the floating casts that it reads, to draft number `at`, when that can hold them."""
        draft = self._drafts[at]
        before, count = replace(draft), len(draft.nodes)
        if self._pull(draft, at, node):
            return True
        draft.undo(before, count)
        return False

    def _pull(self, draft: Draft, at: int, node: Node) -> bool:
        for each in node.inputs:
            if each.id in draft.ids or is_scalar(each):
                continue
            if each.id in self._floating:
                if not self._pull(draft, at, each):
                    return False
            elif self._place.get(root_of(each)[0].id, -1) >= at:
                return False
        return self.join(draft, node)

    def join(self, draft: Draft, node: Node) -> bool:
        """Add the node when the draft can hold it."""
        if draft.nodes and len(draft.nodes) >= self._limits.get(node.id, inf) and node.id not in self._floating:
            return False
        if not self._together(draft, node):
            return False
        if node.op in BESTS.values() or draft.form == "top":
            return _join_top(draft, node)
        if node.op in REDUCES or node.op == "reduce_argmax":
            return self._join_reduce(draft, node)
        if node.op == "cumsum" and not _scans(draft, node):
            return False
        shape = node.type.shape
        try:
            domain = broadcast_shapes(node.op, [draft.domain, shape]) if draft.nodes else shape
        except CompileError:
            return False
        if draft.axes and _significant(domain) != _significant(draft.domain):
            return False
        if not _cheap(shape, domain) or not all(_cheap(each, domain) for each in draft.shapes):
            return False
        if draft.flat and not _flat(node, draft.domain):
            return False
        follows = any(each.id in draft.after for each in node.inputs)
        if follows and draft.form == "accumulate" and not _reduced_shape(shape, draft.axes):
            return False
        draft.domain = domain
        if node.op == "cumsum":
            draft.form, draft.axes = "scan", _scan_axes(node)
        if follows:
            draft.after.add(node.id)
        draft.add(node)
        return True

    def _together(self, draft: Draft, node: Node) -> bool:
        """Whether a node is of the draft's group; numbers in order are of any."""
        if self._groups is None:
            return True
        first = next((each for each in draft.nodes if each.op != "iota"), node)
        return node.op == "iota" or self._groups[first.id] == self._groups[node.id]

    def _join_reduce(self, draft: Draft, node: Node) -> bool:
        source = node.inputs[0]
        shape = source.type.shape
        axes = tuple(axis - len(shape) for axis in node.axes())
        if draft.form == "scan" or (source.id in draft.after and draft.form == "accumulate"):
            return False
        if draft.nodes and _significant(draft.domain) != _significant(shape):
            return False
        if draft.axes not in ((), axes):
            return False
        trailing = all(dim == 1 for dim in shape[len(shape) + axes[-1] + 1 :])
        rows = self._whole_rows and node.source not in self._wide and trailing
        flat = draft.flat
        if len([axis for axis in axes if shape[axis] != 1]) > 1 and all(dim == 1 for dim in node.type.shape):
            if not all(_flat(each, shape) for each in draft.nodes):
                return False
            rows, flat = False, True
        form = "row" if rows else "accumulate"
        if draft.axes and draft.form != form:
            return False
        draft.form, draft.flat = form, flat
        draft.domain = shape if len(shape) >= len(draft.domain) else draft.domain
        draft.axes = axes
        draft.after.add(node.id)
        draft.add(node)
        return True


def _flat(node: Node, domain: tuple[Dim, ...]) -> bool:
    """Whether a node has nothing but values of the domain, or of one element."""
    shapes = [each.type.shape for each in (node, *node.inputs)]
    return all(_significant(shape) in (_significant(domain), ()) for shape in shapes)


def _join_top(draft: Draft, node: Node) -> bool:
    """Top-k shares a draft only with the places of the same top-k."""
    if draft.nodes:
        first = draft.nodes[0]
        same = node.op in BESTS.values() and (node.inputs, node.attrs) == (first.inputs, first.attrs)
        if draft.form != "top" or not same:
            return False
    source = node.inputs[0].type.shape
    draft.form, draft.domain, draft.axes = "top", (*source[:-2], node.type.shape[-2], source[-1]), (-2, -1)
    draft.add(node)
    return True


def _scan_axes(node: Node) -> tuple[int, ...]:
    return (axis_of(node) - node.type.rank,)


def _scans(draft: Draft, node: Node) -> bool:
    """Whether prefix sums fit a draft: tiles are walked along their axis, over values that all tiles have."""
    whole = not draft.nodes or _significant(draft.domain) == _significant(node.type.shape)
    return whole and draft.form in ("map", "scan") and draft.axes in ((), _scan_axes(node))


def _floating(graph: Graph) -> set[int]:
    """Values that every draft has for itself, as only vector operations read them, over domains in which they are cheap.

    These are iotas, casts to a wider dtype, and single operations on what lies in memory anyway that several others read.
    """
    readers = Counter(each.id for node in graph.nodes for each in dict.fromkeys(node.inputs))
    again = {node.id for node in graph.nodes if readers[node.id] > 1 and _made_again(node)}
    result = again | {
        node.id
        for node in graph.nodes
        if node.op == "iota"
        or (
            node.op == "cast"
            and DTYPES[node.type.dtype].item_bytes > DTYPES[node.inputs[0].type.dtype].item_bytes
            and not is_scalar(node.inputs[0])
        )
    }
    for node in graph.nodes:
        shape = node.type.shape
        for each in node.inputs:
            spread = node.op not in (*REDUCES, "reduce_argmax") and not _cheap(each.type.shape, shape)
            elsewhere = node.op in (*VIEWS, *ASSEMBLED, "store", *CUBE_OPS, *INDEXED)
            if spread or elsewhere or (each.id in again and not _takes_again(node, each)):
                result.discard(each.id)
    return result


_CHEAP_OPS = frozenset(("add", "sub", "mul", "max", "min", "neg", "abs", "relu"))
"""Operations of one pass of the vector unit: to make their result again costs less than to write it and read it."""


def _made_again(node: Node) -> bool:
    """Whether a value is one cheap operation on one tensor in memory, and on numbers and smaller values."""
    if node.op not in _CHEAP_OPS:
        return False
    whole = [each for each in node.inputs if not is_scalar(each) and each.type.shape == node.type.shape]
    return len(set(whole)) == 1 and root_of(whole[0])[0].op == "load"


def _takes_again(node: Node, value: Node) -> bool:
    """Whether an operation can have an operand made for it: one element by element, or a sum of one run of axes."""
    if node.op in REDUCES:
        flat = all(is_scalar(each) or each.type.shape == value.type.shape for each in value.inputs)
        return flat or len([axis for axis in node.axes() if value.type.shape[axis] != 1]) == 1
    return node.op in _ELEMENTWISE


def _demand_order(graph: Graph) -> list[Node]:
    """Computed nodes, producers first, each as late as its first use allows."""
    order: list[Node] = []
    seen: set[int] = set()
    for store in graph.stores:
        stack: list[tuple[Node, bool]] = [(store.inputs[0], False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node.id not in seen:
                seen.add(node.id)
                if node.op != "load" and not is_scalar(node):
                    stack += [(node, True)] if node.op not in VIEWS else []
                    # What is put together in memory first, so that its neighbours can share the draft that reads it.
                    inputs = sorted(node.inputs, key=lambda each: root_of(each)[0].op not in ASSEMBLED)
                    stack += [(each, False) for each in reversed(inputs)]
    return order


def _shared(graph: Graph, groups: Mapping[int, str]) -> set[int]:
    """Values but iotas that other groups than their own read."""
    return {
        each.id
        for node in graph.nodes
        for each in node.inputs
        if each.op != "iota" and groups.get(each.id) != groups.get(node.id)
    }


def _in_groups(order: list[Node], groups: Mapping[int, str]) -> list[Node]:
    """The nodes with those of a group behind each other, where no node of another group has to come between."""
    return _GroupOrder(order, groups).run()


class _GroupOrder:
    """Begins a group when all that it needs from outside is there; where groups wait for each other, with a part of one."""

    def __init__(self, order: list[Node], groups: Mapping[int, str]) -> None:
        self._order, self._groups = order, groups
        rank = {node.id: at for at, node in enumerate(order)}
        self._inputs = [
            sorted({rank[root.id] for each in node.inputs if (root := root_of(each)[0]).id in rank}) for node in order
        ]
        self._members: dict[str, list[int]] = {}
        self._readers: dict[int, list[int]] = {}
        self._missing: dict[str, int] = {}
        for at, node in enumerate(order):
            group = groups[node.id]
            self._members.setdefault(group, []).append(at)
            for each in self._outside(at):
                self._readers.setdefault(each, []).append(at)
                self._missing[group] = self._missing.get(group, 0) + 1
        self._done: set[int] = set()
        self._ready = [members[0] for group, members in self._members.items() if not self._missing.get(group)]
        heapify(self._ready)

    def _outside(self, at: int) -> list[int]:
        group = self._groups[self._order[at].id]
        return [each for each in self._inputs[at] if self._groups[self._order[each].id] != group]

    def run(self) -> list[Node]:
        result: list[Node] = []
        first = 0
        while len(result) < len(self._order):
            while first in self._done:
                first += 1
            # Without a group that can begin, the first node of the order has all that it needs: that order is a legal one.
            start = heappop(self._ready) if self._ready else first
            members = self._members[self._groups[self._order[start].id]]
            for at in members:
                if at not in self._done and all(each in self._done for each in self._inputs[at]):
                    self._done.add(at)
                    result.append(self._order[at])
                    self._tell(at)
        return result

    def _tell(self, at: int) -> None:
        for reader in self._readers.get(at, ()):
            group = self._groups[self._order[reader].id]
            self._missing[group] -= 1
            if not self._missing[group]:
                heappush(self._ready, self._members[group][0])


def _significant(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The shape without leading ones, which broadcasting ignores."""
    at = 0
    while at < len(shape) and shape[at] == 1:
        at += 1
    return shape[at:]


def _cheap(shape: tuple[Dim, ...], domain: tuple[Dim, ...]) -> bool:
    """Whether computing a value of `shape` in every tile of `domain` costs little: it is all of it, or a row, or a column."""
    padded = (1,) * (len(domain) - len(shape)) + shape
    inner = [axis for axis, dim in enumerate(domain) if dim != 1][-2:]
    return padded == domain or any(padded[axis] == 1 for axis in inner)


def _reduced_shape(shape: tuple[Dim, ...], axes: tuple[int, ...]) -> bool:
    return all(len(shape) < -axis or shape[axis] == 1 for axis in axes)
