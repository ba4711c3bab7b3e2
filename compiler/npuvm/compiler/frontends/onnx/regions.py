"""The graphs that operators are put into, and the order in which a session runs them and what the host does between them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from npuvm.compiler.graph.ir import Graph, Node, Param
from npuvm.compiler.graph.model import SIZES, DeviceStep, Step
from npuvm.compiler.graph.sums import Computed, operands
from npuvm.compiler.graph.symbols import Derived
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import ParamRef, Value

__all__ = ["Mark", "Regions", "used_symbols"]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a region was built: what is added behind it can be taken back."""

    region: int
    nodes: int
    checks: int


class Regions:
    """The regions of a model, by number. All share the table of derived symbols while they are built, and know all symbols."""

    def __init__(self, name: str, derived: list[Derived | Computed]) -> None:
        self._name, self._derived = name, derived
        self._symbols: tuple[str, ...] = ()
        self._builders: dict[int, KernelBuilder] = {}
        self._params: dict[int, dict[str, str]] = {}
        self._stores: dict[int, dict[str, str]] = {}

    def builder(self, region: int) -> KernelBuilder:
        """The builder of a region, made when it is first asked for."""
        found = self._builders.get(region)
        if found is None:
            graph = Graph(f"{self._name}_{region}", (self._sizes(),), derived=self._derived)
            found = self._builders[region] = KernelBuilder(graph)
            self._params[region], self._stores[region] = {}, {}
        return found

    def know(self, symbols: Collection[str]) -> None:
        """Let all regions use symbols, those of the whole model."""
        self._symbols = tuple(symbols)
        for builder in self._builders.values():
            builder.graph.params = (self._sizes(), *builder.graph.params[1:])

    def _sizes(self) -> Param:
        return Param(SIZES, TensorType("int8", self._symbols))

    def mark(self, region: int) -> Mark:
        """Where a region stands."""
        graph = self.builder(region).graph
        return Mark(region, len(graph.nodes), len(graph.checks))

    def roll_back(self, mark: Mark) -> None:
        """Take back what was added since; parameters stay until they turn out to be unused."""
        builder = self._builders[mark.region]
        del builder.graph.nodes[mark.nodes :], builder.graph.checks[mark.checks :]
        builder.forget(mark.nodes)

    def load(self, name: str, kind: TensorType, region: int) -> Value:
        """The parameter of a region that takes a value of the session."""
        builder = self.builder(region)
        known = [param for param, value in self._params[region].items() if value == name]
        if known:
            return builder.load(ParamRef(known[0], kind))
        param = Param(f"p{len(self._params[region])}", kind)
        self._params[region][param.name] = name
        builder.graph.params += (param,)
        return builder.load(ParamRef(param.name, kind))

    def store(self, name: str, value: Value, region: int) -> None:
        """Give a value that a region computes to the session."""
        stores = self._stores[region]
        if name not in stores.values():
            output = f"o{len(stores)}"
            stores[output] = name
            self.builder(region).store(value, output)

    def steps(self, host: Sequence[tuple[int, Step]]) -> list[Step]:
        """Regions in order, before each what the host does for it."""
        made: list[Step] = []
        last = max([*self._builders, *(level for level, _ in host)], default=-1)
        for number in range(last + 1):
            made += [step for level, step in host if level == number]
            builder = self._builders.get(number)
            if builder is not None and self._stores[number]:
                graph = self._closed(builder.graph)
                inputs = {param.name: self._params[number][param.name] for param in graph.params if param.name != SIZES}
                made.append(DeviceStep(graph.name, graph, inputs, self._stores[number]))
        return made

    def _closed(self, graph: Graph) -> Graph:
        """The graph of what is stored, with the derived symbols that it uses, and a parameter for what these follow from."""
        _settle(graph)
        loaded = {node.attrs["param"] for node in graph.nodes if node.op == "load"}
        graph.params = tuple(param for param in graph.params if param.name in loaded)
        used, graph.derived = used_symbols(_symbols_of(graph), self._derived)
        names = {each.name for each in graph.derived}
        given = {dim for param in graph.params for dim in param.type.shape if isinstance(dim, str)}
        missing = sorted(used - names - given)
        if missing:
            graph.params += (Param(SIZES, TensorType("int8", tuple(missing))),)
        return graph


def used_symbols(
    named: Collection[str], derived: Sequence[Derived | Computed]
) -> tuple[set[str], list[Derived | Computed]]:
    """All symbols that some follow from, these included, and the derived ones among them, in order of use."""
    used, kept = set(named), list[Derived | Computed]()
    for each in reversed(derived):
        if each.name in used:
            kept.append(each)
            used |= operands(each)
    return used, kept[::-1]


def _settle(graph: Graph) -> None:
    """Take out nodes that no store needs; operators are where the others come from, not lines of Python."""
    used: set[int] = set()
    for node in reversed(graph.nodes):
        if node.op == "store" or node.id in used:
            used.update((node.id, *(each.id for each in node.inputs)))
    made: dict[int, Node] = {}
    for node in graph.nodes:
        if node.id in used:
            inputs = tuple(made[each.id] for each in node.inputs)
            made[node.id] = Node(len(made), node.op, inputs, node.attrs, node.type, node.source, node.source)
    graph.nodes = list(made.values())


def _symbols_of(graph: Graph) -> set[str]:
    """Names of dims that appear anywhere in a graph."""
    found = {dim for param in graph.params for dim in param.type.shape if isinstance(dim, str)}
    for node in graph.nodes:
        found.update(dim for dim in node.type.shape if isinstance(dim, str))
        for value in node.attrs.values():
            if isinstance(value, tuple):
                found.update(each for each in value if isinstance(each, str))
    for check in graph.checks:
        found.update((*check.left.symbols, *check.right.symbols))
    return found
