"""From gathered operations to a kernel: what is needed, in which form its sizes may change, and the kernels made before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Graph, Node, Param
from npuvm.compiler.graph.ops import BINARY, REDUCES, UNARY, Attr
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.language.allowed import Allowance
from npuvm.compiler.language.kernel import Kernel, KernelBuilder
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.language.value import Value

__all__ = ["Gathered", "KernelStore", "needed_nodes"]

_ANY_SIZE = frozenset(
    (
        *UNARY,
        *BINARY,
        *REDUCES,
        "load",
        "const",
        "size",
        "select",
        "cast",
        "broadcast_to",
        "reshape",
        "permute",
        "matmul",
    )
)
"""Operations whose attributes hold sizes only as `shape` or `dims`: a graph of them serves other sizes too."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Operations in order, and those among them whose values are wanted."""

    nodes: Sequence[Node]
    wanted: Sequence[Node]
    allowed: Allowance


def needed_nodes(nodes: Sequence[Node], wanted: Sequence[Node]) -> list[Node]:
    """The nodes, in order, that the wanted ones depend on."""
    marked = {node.id for node in wanted}
    for node in reversed(nodes):
        if node.id in marked:
            marked.update(each.id for each in node.inputs)
    return [node for node in nodes if node.id in marked]


class KernelStore:
    """Kernels with `pins` by the form of what was gathered.

    The form is the same for the same operations on tensors whose sizes are equal in the same places.
    """

    def __init__(self, pins: Pins, capacity: int = 256) -> None:
        self._pins = pins
        self._capacity = capacity
        self._kernels: OrderedDict[Hashable, Kernel] = OrderedDict()
        self._fixed: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._kernels)

    def get(self, gathered: Gathered) -> tuple[Kernel, list[Node]]:
        """A kernel with parameters p0, p1, .. and outputs out0, out1, .., and the loads that its parameters stand for."""
        form = _Form(gathered, self._pins)
        if form.key in self._fixed:
            form.fix_sizes()
        found = self._kernels.pop(form.key, None)
        if found is None:
            found = self._make(form)
            if len(self._kernels) >= self._capacity:
                self._kernels.popitem(last=False)
        self._kernels[form.key] = found
        return found, form.loads

    def _make(self, form: _Form) -> Kernel:
        """The kernel for all sizes of a form; where it cannot be proven to fit them, for those that it has now."""
        try:
            return form.kernel()
        except CompileError:
            if not form.names:
                raise
            self._fixed.add(form.key)
            form.fix_sizes()
            return form.kernel()


class _Form:
    """Gathered operations with their sizes replaced by names, equal sizes by equal names."""

    def __init__(self, gathered: Gathered, pins: Pins) -> None:
        self._gathered, self._pins = gathered, pins
        self._nodes = needed_nodes(gathered.nodes, gathered.wanted)
        self.loads = [node for node in self._nodes if node.op == "load"]
        self.names: dict[int, str] = {}
        if all(node.op in _ANY_SIZE for node in self._nodes):
            for node in self.loads:
                for dim in node.type.shape:
                    if isinstance(dim, int) and dim != 1:
                        self.names.setdefault(dim, f"d{len(self.names)}")
        self.key = self._key()

    def _key(self) -> Hashable:
        place = {node.id: index for index, node in enumerate(self._nodes)}
        rows = tuple(
            (
                node.op,
                node.type.dtype,
                tuple([place[each.id] for each in node.inputs]),
                tuple(
                    [(name, type(v), self._attr(node, name, v)) for name, v in node.attrs.items() if name != "param"]
                ),
            )
            for node in self._nodes
        )
        wanted = tuple([place[node.id] for node in self._gathered.wanted])
        return rows, wanted, self._gathered.allowed

    def _attr(self, node: Node, name: str, value: Attr) -> Attr:
        if name not in ("shape", "dims") or not isinstance(value, tuple):
            return value
        named = tuple([self.names.get(dim, dim) if isinstance(dim, int) else dim for dim in value])
        if self.names and node.op == "reshape":
            # A size that no tensor has follows from the others.
            unknown = [index for index, dim in enumerate(named) if isinstance(dim, int) and dim != 1]
            if len(unknown) == 1 and 0 not in value:
                return (*named[: unknown[0]], -1, *named[unknown[0] + 1 :])
        return named

    def fix_sizes(self) -> None:
        """Let the sizes be numbers again."""
        self.names = {}
        self.key = self._key()

    def kernel(self) -> Kernel:
        """The operations as a kernel. CompileError where they are not proven to fit sizes with names."""
        params = tuple(
            Param(f"p{index}", TensorType(node.type.dtype, tuple(self._shape(node))))
            for index, node in enumerate(self.loads)
        )
        graph = Graph("eager", params, pins=self._pins, allowed=self._gathered.allowed)
        builder = KernelBuilder(graph)
        made: dict[int, Node] = {}
        for node in self._nodes:
            graph.source = node.source
            attrs = {name: self._attr(node, name, value) for name, value in node.attrs.items()}
            inputs = [made[each.id] for each in node.inputs]
            if node.op == "load":
                attrs["param"] = params[self.loads.index(node)].name
            if node.op == "reshape":
                target = attrs["shape"]
                assert isinstance(target, tuple), "a reshape has a shape"
                made[node.id] = builder.reshape(Value(builder, inputs[0]), target).node
            else:
                made[node.id] = graph.add(node.op, inputs, node.where, **attrs)
        for node in self._gathered.wanted:
            builder.store(Value(builder, made[node.id]))
        return Kernel(graph)

    def _shape(self, node: Node) -> list[int | str]:
        return [self.names.get(dim, dim) if isinstance(dim, int) else dim for dim in node.type.shape]
