"""The graphs that operators are put into, and the order in which a session runs them and what the host does between them."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.compiler.builder import KernelBuilder
from npuvm.compiler.ir import Graph, Param
from npuvm.compiler.model import SIZES, DeviceStep, Model, Step
from npuvm.compiler.sums import Computed
from npuvm.compiler.symbols import Derived
from npuvm.compiler.types import TensorType
from npuvm.compiler.value import ParamRef, Value

__all__ = ["Regions"]


class Regions:
    """The regions of a model, by number. All share the model's table of derived symbols while they are built."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._builders: dict[int, KernelBuilder] = {}
        self._params: dict[int, dict[str, str]] = {}
        self._stores: dict[int, dict[str, str]] = {}

    def builder(self, region: int) -> KernelBuilder:
        """The builder of a region, made when it is first asked for."""
        found = self._builders.get(region)
        if found is None:
            graph = Graph(f"{self._model.name}_{region}", derived=self._model.derived)
            found = self._builders[region] = KernelBuilder(graph)
            self._params[region], self._stores[region] = {}, {}
        return found

    def load(self, name: str, kind: TensorType, region: int) -> Value:
        """The parameter of a region that takes a value of the session."""
        builder = self.builder(region)
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
                made.append(DeviceStep(graph.name, graph, self._params[number], self._stores[number]))
        return made

    def _closed(self, graph: Graph) -> Graph:
        """The graph with the derived symbols that it uses, and a parameter for the symbols that these follow from."""
        used = _symbols_of(graph)
        derived: list[Derived | Computed] = []
        for each in reversed(self._model.derived):
            if each.name in used:
                derived.append(each)
                used |= _inputs_of(each)
        graph.derived = derived[::-1]
        names = {each.name for each in derived}
        given = {dim for param in graph.params for dim in param.type.shape if isinstance(dim, str)}
        missing = sorted(used - names - given)
        if missing:
            graph.params += (Param(SIZES, TensorType("int8", tuple(missing))),)
        return graph


def _symbols_of(graph: Graph) -> set[str]:
    """Names of dims that appear anywhere in a graph."""
    found = {dim for param in graph.params for dim in param.type.shape if isinstance(dim, str)}
    for node in graph.nodes:
        found.update(dim for dim in node.type.shape if isinstance(dim, str))
        for name, value in node.attrs.items():
            if isinstance(value, tuple) and name != "axes":
                found.update(each for each in value if isinstance(each, str))
    for check in graph.checks:
        found.update((*check.left.symbols, *check.right.symbols))
    return found


def _inputs_of(derived: Derived | Computed) -> set[str]:
    """The symbols that one is made of."""
    if isinstance(derived, Derived):
        return {*derived.numerator.symbols, *derived.denominator.symbols}
    return {symbol for each in derived.args for term in each.terms for symbol in term.symbols}
