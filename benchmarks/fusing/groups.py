"""The operators of a subgraph, the ways to cut it into groups, and each group as a kernel of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from npuvm.compiler import Graph, Kernel, Node, Param
from npuvm.compiler.graph.ops import VIEWS
from npuvm.compiler.graph.sums import Computed
from npuvm.compiler.graph.symbols import Derived

__all__ = ["Group", "Operators", "Partition"]

Group = frozenset[int]
Partition = tuple[Group, ...]

_FREE = frozenset(("load", "const", "size", *VIEWS))


class _Operator(NamedTuple):
    name: str
    nodes: list[Node]


class Operators:
    """A kernel's operators by number, in order; loads, numbers and views belong to whoever uses them."""

    def __init__(self, kernel: Kernel) -> None:
        self.graph = kernel.graph
        self._number: dict[int, int] = {}
        self.all: list[_Operator] = []
        known: dict[str, int] = {}
        for node in self.graph.nodes:
            if node.op in _FREE or node.op == "store":
                continue
            name = node.source or f"{node.op}_{node.id}"
            number = known.setdefault(name, len(known))
            if number == len(self.all):
                self.all.append(_Operator(name, []))
            self.all[number].nodes.append(node)
            self._number[node.id] = number
        self.needs = [{*self._read(number)} - {number} for number in range(len(self.all))]
        self._loads = [self._loaded(each) for each in self.all]

    def _read(self, number: int) -> Iterator[int]:
        for node in self.all[number].nodes:
            for each in node.inputs:
                root = _root(each)
                if root.id in self._number:
                    yield self._number[root.id]

    def _loaded(self, operator: _Operator) -> set[int]:
        """Ids of the parameters' loads that an operator reads."""
        roots = (_root(each) for node in operator.nodes for each in node.inputs)
        return {root.id for root in roots if root.op == "load"}

    def partitions(self) -> Iterator[Partition]:
        """All ways to cut the operators into groups, each connected by values or a common parameter, without circles."""
        yield from self._grown(0, [])

    def _grown(self, number: int, groups: list[set[int]]) -> Iterator[Partition]:
        if number == len(self.all):
            found = tuple(frozenset(each) for each in groups)
            if all(self._connected(each) for each in found) and self._acyclic(found):
                yield found
            return
        for group in groups:
            group.add(number)
            yield from self._grown(number + 1, groups)
            group.remove(number)
        yield from self._grown(number + 1, [*groups, {number}])

    def _connected(self, group: Group) -> bool:
        reached, rest = {min(group)}, set(group) - {min(group)}
        while True:
            near = {each for each in rest if any(self._linked(each, other) for other in reached)}
            if not near:
                return not rest
            reached |= near
            rest -= near

    def _linked(self, one: int, other: int) -> bool:
        shared = self._loads[one] & self._loads[other] or self.needs[one] & self.needs[other]
        return one in self.needs[other] or other in self.needs[one] or bool(shared)

    def _acyclic(self, groups: Sequence[Group]) -> bool:
        return len(self.ordered(groups)) == len(groups)

    def ordered(self, groups: Sequence[Group]) -> list[Group]:
        """The groups, each behind those that it waits for; without those that wait for each other in a circle."""
        of = {number: at for at, group in enumerate(groups) for number in group}
        waits = [
            {of[need] for number in group for need in self.needs[number]} - {at} for at, group in enumerate(groups)
        ]
        done: dict[int, Group] = {}
        while ready := [at for at, needs in enumerate(waits) if at not in done and needs <= done.keys()]:
            done |= {at: groups[at] for at in ready}
        return list(done.values())

    def kernel(self, group: Group) -> Kernel:
        """The group as a kernel: values of others are parameters, values that others or the outputs want are stored.

        A value has the same name in all groups.
        """
        own = {node.id for number in group for node in self.all[number].nodes}
        graph = Graph("group", allowed=self.graph.allowed)
        made: dict[int, Node] = {}
        params: list[Param] = []

        def value(node: Node) -> Node:
            if node.id not in made:
                taken = node.op == "load" or (node.id not in own and node.op not in _FREE)
                if taken:
                    name = str(node.attrs["param"]) if node.op == "load" else f"value{node.id}"
                    params.append(Param(name, node.type))
                    made[node.id] = graph.add("load", (), param=name, dtype=node.type.dtype, shape=node.type.shape)
                else:
                    inputs = [value(each) for each in node.inputs]
                    graph.source = node.source
                    made[node.id] = graph.add(node.op, inputs, node.where, **node.attrs)
            return made[node.id]

        stored: set[int] = set()
        for node in self.graph.nodes:
            if node.id in own:
                value(node)
            wanted = node.inputs if node.op == "store" else [_root(each) for each in node.inputs if node.id not in own]
            for each in wanted:
                if _root(each).id in own and each.id not in stored and node.op not in VIEWS:
                    stored.add(each.id)
                    graph.add("store", (value(each),), output=f"value{each.id}")
        graph.params = tuple(params)
        known = set(graph.symbols())
        for derived in self.graph.derived:
            if known.issuperset(_symbols_of(derived)):
                known.add(derived.name)
                graph.derived.append(derived)
        return Kernel(graph)


def _symbols_of(derived: Derived | Computed) -> set[str]:
    if isinstance(derived, Derived):
        return {*derived.numerator.symbols, *derived.denominator.symbols}
    return {symbol for arg in derived.args for term in arg.terms for symbol in term.symbols}


def _root(node: Node) -> Node:
    while node.op in VIEWS:
        node = node.inputs[0]
    return node
