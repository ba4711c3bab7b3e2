"""Cuts a kernel of kind parallel or sequence into its parts: each a graph of its own, joined by the names of tensors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Graph, Node, Param, Part
from npuvm.compiler.graph.ops import VIEWS
from npuvm.compiler.graph.sums import Computed
from npuvm.compiler.graph.symbols import Check, Derived
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.kinds import STACKED_KTYPES, check_operators
from npuvm.compiler.language.pins import Pins

__all__ = ["Cut", "cut_parts"]

_FREE = frozenset(("load", "const", "size", "iota"))


@dataclass(frozen=True, slots=True)
class Cut:
    """The parts of a kernel in order; `kept` are the outputs of the whole that later parts read too."""

    graphs: tuple[Graph, ...]
    kept: tuple[str, ...]


def cut_parts(graph: Graph) -> Cut:
    """The parts of a kernel of kind parallel or sequence.

    They begin where `k.part` says; without that, a parallel kernel's are what no value connects. CompileError when a parallel
    part needs a value of another one, a sequence does not say where its parts begin, or a part stores nothing.
    """
    if graph.ktype not in STACKED_KTYPES:
        if graph.parts:
            raise CompileError(
                f"k.part in kernel '{graph.name}' of ktype = {graph.ktype!r}; allowed: ktype 'parallel', 'sequence'",
                graph.parts[0].where or None,
            )
        return Cut((graph,), ())
    if graph.pins != Pins():
        raise CompileError(
            f"pins of kernel '{graph.name}' of ktype = {graph.ktype!r} belong to its parts; allowed: k.pin behind k.part",
            graph.name,
        )
    return _Cutter(graph).cut()


class _Cutter:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        needed = _needed(graph)
        self._nodes = [node for node in graph.nodes if node.id in needed]
        self._free = {node.id for node in self._nodes if node.op in _FREE}
        for node in self._nodes:
            if node.op in VIEWS and all(each.id in self._free for each in node.inputs):
                self._free.add(node.id)
        self._work = [node for node in self._nodes if node.id not in self._free]
        self._symbols = {*graph.symbols(), *(each.name for each in graph.derived)}

    def cut(self) -> Cut:
        graph = self._graph
        part_of, options = self._stated() if graph.parts else self._independent()
        handed: dict[int, str] = {}
        kept: dict[str, None] = {}
        for node in self._work:
            for each in node.inputs:
                if each.id not in self._free and part_of[each.id] != part_of[node.id]:
                    if graph.ktype == "parallel":
                        self._refuse(node, each, part_of)
                    if each.id not in handed:
                        own = self._output_of(each, part_of)
                        handed[each.id] = own or self._fresh(each)
                        if own is not None:
                            kept[own] = None
        made = [self._part(number, part_of, option, handed) for number, option in enumerate(options)]
        return Cut(tuple(made), tuple(kept))

    # Which node is in which part.

    def _stated(self) -> tuple[dict[int, int], list[Part]]:
        starts = list(self._graph.parts)
        if self._work and self._work[0].id < starts[0].first:
            starts.insert(0, Part(0))
        firsts = [each.first for each in starts]
        part_of = {node.id: bisect_right(firsts, node.id) - 1 for node in self._work}
        empty = set(range(len(starts))) - set(part_of.values())
        if empty:
            where = starts[min(empty)].where or self._graph.name
            raise CompileError(f"part {min(empty)} of kernel '{self._graph.name}' stores nothing that is wanted", where)
        return part_of, starts

    def _independent(self) -> tuple[dict[int, int], list[Part]]:
        """Parts of what values connect."""
        name = self._graph.name
        if self._graph.ktype == "sequence":
            raise CompileError(
                "a kernel of ktype = 'sequence' says where its parts begin; allowed: k.part(), or ktype 'split', which cuts "
                "by itself",
                name,
            )
        groups: dict[int, list[int]] = {}
        for node in self._work:
            joined = [node.id]
            for group in {id(groups[each.id]): groups[each.id] for each in node.inputs if each.id in groups}.values():
                joined += group
            for number in joined:
                groups[number] = joined
        lists = {id(group): group for group in groups.values()}
        if len(lists) < 2:
            raise CompileError(
                f"a kernel of ktype = 'parallel' has parts that do not depend on each other; all values of '{name}' do: "
                "allowed are two results or more without a common value, or k.part()",
                name,
            )
        numbers = {key: number for number, key in enumerate(lists)}
        return {node.id: numbers[id(groups[node.id])] for node in self._work}, [Part(0)] * len(lists)

    def _refuse(self, node: Node, each: Node, part_of: dict[int, int]) -> None:
        raise CompileError(
            f"{node.op} (%{node.id}) in part {part_of[node.id]} of parallel kernel '{self._graph.name}' takes {each.op} "
            f"(%{each.id}, {each.where or 'no place'}) of part {part_of[each.id]}; allowed: values of its own part and "
            "parameters, or ktype 'sequence'",
            node.where or None,
        )

    # What goes from part to part.

    def _output_of(self, node: Node, part_of: dict[int, int]) -> str | None:
        """The name under which a value's own part stores it."""
        for store in self._graph.stores:
            if store.inputs[0] is node and part_of[store.id] == part_of[node.id]:
                return str(store.attrs["output"])
        return None

    def _fresh(self, node: Node) -> str:
        taken = {*(each.name for each in self._graph.params), *(each.name for each in self._graph.outputs)}
        name = f"v{node.id}"
        while name in taken:
            name = f"_{name}"
        return name

    # A part as a graph.

    def _part(self, number: int, part_of: dict[int, int], option: Part, handed: dict[int, str]) -> Graph:
        own = [node for node in self._work if part_of[node.id] == number]
        reads: dict[int, Node] = {}
        for node in own:
            self._gather(node, own, reads)
        free = [node for node in self._nodes if node.id in reads and node.id in self._free]
        taken = [node for node in self._nodes if node.id in reads and node.id not in self._free]
        loaded = {str(node.attrs["param"]) for node in free if node.op == "load"}
        params = [each for each in self._graph.params if each.name in loaded]
        params += [Param(handed[node.id], node.type) for node in taken]
        derived = self._sizes((*free, *taken, *own), params)
        graph = Graph(
            f"{self._graph.name}_{number}",
            tuple(params),
            derived=derived,
            pins=option.pins,
            allowed=self._graph.allowed,
            ktype=option.ktype,
        )
        known = {*graph.symbols(), *(each.name for each in derived)}
        graph.checks += [each for each in self._graph.checks if known.issuperset(_symbols_of(each))]
        made: dict[int, Node] = {}
        for node in taken:
            made[node.id] = graph.add(
                "load", (), node.where, param=handed[node.id], dtype=node.type.dtype, shape=node.type.shape
            )
        for node in sorted((*free, *own), key=lambda each: each.id):
            graph.source = node.source
            made[node.id] = graph.add(node.op, [made[each.id] for each in node.inputs], node.where, **node.attrs)
        stored = {each.name for each in graph.outputs}
        for node in own:
            if node.id in handed and handed[node.id] not in stored:
                graph.add("store", (made[node.id],), node.where, output=handed[node.id])
        if not graph.stores:
            raise CompileError(f"part {number} of kernel '{self._graph.name}' stores nothing", option.where or None)
        check_operators(graph)
        return graph

    def _gather(self, node: Node, own: Sequence[Node], reads: dict[int, Node]) -> None:
        """What a node of the part reads from outside it, loads and views of them included."""
        for each in node.inputs:
            if each.id in self._free:
                reads[each.id] = each
                self._gather(each, own, reads)
            elif each not in own:
                reads[each.id] = each

    def _sizes(self, nodes: Sequence[Node], params: list[Param]) -> list[Derived | Computed]:
        """Definitions of symbols that the nodes need; `params` grows by those that give others."""
        wanted = {name for node in nodes for name in _names(node) if name in self._symbols}
        known = {dim for each in params for dim in each.type.shape if isinstance(dim, str)}
        derived: list[Derived | Computed] = []
        for each in reversed(self._graph.derived):
            if each.name in wanted and each.name not in known:
                derived.insert(0, each)
                wanted.update(_symbols_of(each))
        found = known | {each.name for each in derived}
        for param in self._graph.params:
            dims = {dim for dim in param.type.shape if isinstance(dim, str)}
            if (dims & wanted) - found and param not in params:
                params.append(param)
                found |= dims
        return derived


def _needed(graph: Graph) -> set[int]:
    needed = {node.id for node in graph.stores}
    for node in reversed(graph.nodes):
        if node.id in needed:
            needed.update(each.id for each in node.inputs)
    return needed


def _names(node: Node) -> Iterator[str]:
    lists: list[tuple[Dim, ...]] = [each for each in node.attrs.values() if isinstance(each, tuple)]
    for dims in (node.type.shape, *lists):
        yield from (dim for dim in dims if isinstance(dim, str))


def _symbols_of(each: Derived | Computed | Check) -> set[str]:
    if isinstance(each, Derived):
        return {*each.numerator.symbols, *each.denominator.symbols}
    if isinstance(each, Check):
        return {*each.left.symbols, *each.right.symbols}
    return {symbol for arg in each.args for term in arg.terms for symbol in term.symbols}
