"""Element-wise operations on values put side by side, computed part by part, so that what is put together is their result."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import BINARY, UNARY, VIEWS
from npuvm.compiler.graph.rewrite import Rewriter, is_scalar
from npuvm.compiler.graph.types import DTYPES

__all__ = ["split_concats"]

_ELEMENTWISE = frozenset((*UNARY, *BINARY, "cast", "select"))

_MOST_PARTS = 4

_LONG_BYTES = 256
"""Rows of parts from which on memory serves a part as fast as the whole."""


def split_concats(graph: Graph) -> Graph:
    """The graph with concatenations of equal parts moved behind the element-wise operations on them.

    The operations of all parts have one shape, so that they can share a program, and the parts of the result are written
    straight to their places: `x * cos + concat(-x2, x1) * sin` needs no tensor between. Other operands are cut into parts where
    they come from memory, or by element-wise operations from there for nothing else.
    """
    split = _Split(graph)
    return split.run() if split.found else graph


class _Cut(NamedTuple):
    """Where values are cut: `number` parts of `size` elements along an axis, counted from the last."""

    axis: int
    size: int
    number: int

    def whole(self, node: Node) -> bool:
        """Whether a value has all parts, and not one element for all of them."""
        return node.type.rank >= -self.axis and node.type.shape[self.axis] == self.size * self.number


class _Split:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._users: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for each in dict.fromkeys(node.inputs):
                self._users.setdefault(each.id, []).append(node)
        self._cuts: dict[int, _Cut] = {}
        """Of values that are carried in parts."""
        for node in graph.nodes:
            cut = self._concat(node) if node.op == "concat" else self._carried(node)
            if cut is not None:
                self._cuts[node.id] = cut
        self.found = any(node.id in self._cuts for node in graph.nodes if node.op != "concat")
        self._fresh = Rewriter(graph)
        self._values: dict[int, Node] = {}
        self._parts: dict[tuple[int, int], Node] = {}

    # Which values are carried in parts.

    def _concat(self, node: Node) -> _Cut | None:
        axis = int(str(node.attrs["axis"])) - node.type.rank
        sizes = {each.type.shape[axis] for each in node.inputs}
        size = next(iter(sizes))
        if len(sizes) > 1 or not isinstance(size, int) or size == 0 or not 1 < len(node.inputs) <= _MOST_PARTS:
            return None
        return _Cut(axis, size, len(node.inputs))

    def _carried(self, node: Node) -> _Cut | None:
        if node.op not in _ELEMENTWISE:
            return None
        cuts = {self._cuts[each.id] for each in node.inputs if each.id in self._cuts}
        if len(cuts) != 1:
            return None
        (cut,) = cuts
        others = [each for each in node.inputs if each.id not in self._cuts and cut.whole(each)]
        if not cut.whole(node) or not all(self._cuttable(each, cut) for each in others):
            return None
        loads = {load.id for each in others for load in self._loads(each, cut)}
        short = cut.size * DTYPES[node.type.dtype].item_bytes < _LONG_BYTES
        return None if short and len(loads) > cut.number else cut

    def _cuttable(self, node: Node, cut: _Cut) -> bool:
        """Whether a value comes from memory, or by element-wise operations from there for nothing else."""
        if _from_memory(node):
            return True
        alone = len(self._users.get(node.id, ())) == 1
        return (
            node.op in _ELEMENTWISE
            and alone
            and all(self._cuttable(each, cut) for each in node.inputs if cut.whole(each))
        )

    def _loads(self, node: Node, cut: _Cut) -> list[Node]:
        """What is read in parts for a value."""
        if _from_memory(node):
            return [node]
        return [load for each in node.inputs if cut.whole(each) for load in self._loads(each, cut)]

    # The graph with them.

    def run(self) -> Graph:
        graph, fresh = self._graph, self._fresh
        whole = self._whole_ones()
        for node in graph.nodes:
            if node.id in whole and node.id not in self._cuts:
                fresh.graph.source = node.source
                self._values[node.id] = fresh.add(
                    node.op, *(self._whole(each) for each in node.inputs), where=node.where, **node.attrs
                )
        for number, named in graph.named.items():
            if number in self._values and named.input.id in self._values:
                made = self._values[number]
                fresh.graph.named[made.id] = replace(named, input=self._values[named.input.id])
        return fresh.graph

    def _whole_ones(self) -> set[int]:
        """Ids of the values that something needs as a whole."""
        whole: set[int] = set()
        cut_by: dict[int, _Cut] = {}
        for node in reversed(self._graph.nodes):
            cut = cut_by.get(node.id)
            if node.op == "store":
                whole.add(node.id)
            if node.id in whole:
                cut = self._cuts.get(node.id, cut)
            if node.id in whole and node.id not in self._cuts:
                whole.update(each.id for each in node.inputs)
            if cut is None:
                continue
            if node.op in _ELEMENTWISE:
                for each in node.inputs:
                    if is_scalar(each) or not cut.whole(each):
                        whole.add(each.id)
                    else:
                        cut_by[each.id] = cut
            else:
                whole.update(each.id for each in (*node.inputs, *(() if node.id in self._cuts else (node,))))
        return whole

    def _whole(self, node: Node) -> Node:
        found = self._values.get(node.id)
        if found is None:
            cut = self._cuts[node.id]
            fresh = self._fresh
            parts = [self._part(node, at, cut) for at in range(cut.number)]
            fresh.graph.source = node.source
            place, size = node.type.rank + cut.axis, (cut.size * cut.number,)
            found = self._values[node.id] = fresh.add("concat", *parts, where=node.where, axis=place, size=size)
        return found

    def _part(self, node: Node, at: int, cut: _Cut) -> Node:
        """Part `at` of a value; what is the same for all parts as it is."""
        if is_scalar(node) or not cut.whole(node):
            return self._whole(node)
        key = node.id, at
        if key not in self._parts:
            self._parts[key] = self._made(node, at, cut)
        return self._parts[key]

    def _made(self, node: Node, at: int, cut: _Cut) -> Node:
        fresh = self._fresh
        if node.op == "concat":
            return self._whole(node.inputs[at])
        if node.op in _ELEMENTWISE:
            inputs = [self._part(each, at, cut) for each in node.inputs]
            fresh.graph.source = node.source
            return fresh.add(node.op, *inputs, where=node.where, **node.attrs)
        place = node.type.rank + cut.axis
        starts = tuple(at * cut.size if axis == place else 0 for axis in range(node.type.rank))
        sizes = tuple(cut.size if axis == place else dim for axis, dim in enumerate(node.type.shape))
        steps = (1,) * node.type.rank
        return fresh.add("slice", self._whole(node), where=node.where, starts=starts, sizes=sizes, steps=steps)


def _from_memory(node: Node) -> bool:
    while node.op in VIEWS:
        node = node.inputs[0]
    return node.op == "load"
