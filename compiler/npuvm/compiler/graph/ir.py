"""The graph: nodes in SSA form, parameters, outputs, derived symbols and checks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ops import Attr, Attrs, infer_type
from npuvm.compiler.graph.ops_along import check_along
from npuvm.compiler.graph.ops_indexed import check_indexed
from npuvm.compiler.graph.ops_views import check_views
from npuvm.compiler.graph.sums import Computed
from npuvm.compiler.graph.symbols import Check, Derived, evaluate
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.language.allowed import Allowance
from npuvm.compiler.language.pins import NO_PINS, Pins

__all__ = ["PART_KTYPES", "Graph", "NamedOp", "Node", "Output", "Param", "Part"]

PART_KTYPES = ("auto", "vector", "cube", "mix")
"""Kinds that a part of a kernel can have."""


@dataclass(frozen=True, slots=True)
class Param:
    """An input tensor of a kernel."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Output:
    """An output tensor of a kernel, in the order of the stores."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation and its value `%id`. `where` is the source line that made it ("" when there is none).

    `source` names the operator of a model that it is a part of ("" when it is one by itself); see `KernelBuilder.source`.
    """

    id: int
    op: str
    inputs: tuple[Node, ...]
    attrs: Attrs
    type: TensorType
    where: str = ""
    source: str = ""

    def __repr__(self) -> str:
        inputs = ", ".join(f"%{node.id}" for node in self.inputs)
        return f"%{self.id} = {self.op}({inputs}) : {self.type}"

    def dims(self, name: str) -> tuple[Dim, ...]:
        """A list of dims among the attributes."""
        value = self.attrs[name]
        if not isinstance(value, tuple):
            raise CompileError(
                f"{self.op}: attribute '{name}' must be a list of dims, not {value!r}", self.where or None
            )
        return value

    def axes(self) -> tuple[int, ...]:
        """The attribute `axes` of a reduce or permute."""
        return tuple(axis for axis in self.dims("axes") if isinstance(axis, int))

    def number(self) -> float | int | bool:
        """The value of a `const`."""
        value = self.attrs["value"]
        if isinstance(value, (str, tuple)):
            raise CompileError(f"const: value {value!r} is no number", self.where or None)
        return value


@dataclass(frozen=True, slots=True)
class NamedOp:
    """An operation by its name in the kernel, where the graph has its expansion: `op` of `input`."""

    op: str
    approximate: str
    input: Node


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a kernel of kind parallel or sequence: the nodes from number `first` to the next part."""

    first: int
    ktype: str = "auto"
    pins: Pins = field(default_factory=Pins)
    where: str = ""


@dataclass(slots=True)
class Graph:
    """A kernel as a list of nodes in topological order.

    `derived` defines symbols that reshapes and views introduce, in order of use; `checks` are equalities that a concrete
    shape must fulfil. `pins` are what an expert fixed of the schedule; they are not part of the printed form. `allowed` is what
    the kernel permits to change in its results. `named` says, by node id, which nodes of a legalised graph are the last of an
    expanded operation. `ktype` is the kind of the kernel (`language.kinds`), `parts` are where those of a kernel of kind
    parallel or sequence begin, in order. `source` is the operator of a model that nodes added next are part of.
    """

    name: str
    params: tuple[Param, ...] = ()
    nodes: list[Node] = field(default_factory=list)
    derived: list[Derived | Computed] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    pins: Pins = NO_PINS
    allowed: Allowance = field(default_factory=Allowance)
    named: dict[int, NamedOp] = field(default_factory=dict)
    ktype: str = "auto"
    parts: list[Part] = field(default_factory=list)
    source: str = ""
    _named: tuple[tuple[Param, ...], int, tuple[str, ...]] = field(default=((), -1, ()), repr=False, compare=False)

    def add(self, op: str, inputs: Sequence[Node] = (), where: str = "", **attrs: Attr) -> Node:
        """Append an operation; its type is inferred. Raises CompileError with `where` as the place."""
        try:
            result = infer_type(op, [node.type for node in inputs], attrs)
        except CompileError as error:
            raise CompileError(error.message, error.where or where or None) from None
        node = Node(len(self.nodes), op, tuple(inputs), attrs, result, where, self.source)
        self.nodes.append(node)
        return node

    @property
    def stores(self) -> list[Node]:
        """The store nodes, in order."""
        return [node for node in self.nodes if node.op == "store"]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Names and types of what the graph stores, in order."""
        return tuple(Output(str(node.attrs["output"]), node.type) for node in self.stores)

    def symbols(self) -> tuple[str, ...]:
        """Symbols that the parameters' shapes give, in order of appearance; derived ones are left out."""
        if self._named[0] is not self.params or self._named[1] != len(self.derived):
            derived = {each.name for each in self.derived}
            dims = dict.fromkeys(dim for param in self.params for dim in param.type.shape if isinstance(dim, str))
            self._named = self.params, len(self.derived), tuple(dim for dim in dims if dim not in derived)
        return self._named[2]

    def bind(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Values of all symbols for concrete parameter shapes. Raises CompileError when they do not fit."""
        binding: dict[str, int] = {}
        origin: dict[str, str] = {}
        derived_names = {each.name for each in self.derived}
        for param in self.params:
            if param.name not in shapes:
                raise CompileError(f"no shape for parameter '{param.name}'", self.name)
            self._bind_param(param, tuple(shapes[param.name]), binding, origin, derived_names)
        unknown = set(shapes) - {param.name for param in self.params}
        if unknown:
            names = ", ".join(param.name for param in self.params)
            raise CompileError(f"no parameter '{sorted(unknown)[0]}'; parameters: {names}", self.name)
        for derived in self.derived:
            try:
                binding[derived.name] = derived.value(binding)
            except CompileError as error:
                raise CompileError(error.message, self._maker_of(derived.name)) from None
        self._check_derived(shapes, binding, derived_names)
        for check in self.checks:
            check.test(binding)
        self._check_reduces(binding)
        check_views(self.nodes, binding)
        check_along(self.nodes, binding)
        check_indexed(self.nodes, binding)
        return binding

    def _bind_param(
        self,
        param: Param,
        shape: tuple[int, ...],
        binding: dict[str, int],
        origin: dict[str, str],
        derived: Collection[str],
    ) -> None:
        if len(shape) != param.type.rank:
            raise CompileError(
                f"parameter '{param.name}' is {param.type} (rank {param.type.rank}), got shape {list(shape)}", self.name
            )
        for axis, (dim, size) in enumerate(zip(param.type.shape, shape, strict=True)):
            place = f"{param.name}[{axis}]"
            if not hasattr(size, "__index__"):
                raise CompileError(f"{place} is {size!r}; a size is a whole number", self.name)
            if isinstance(dim, int):
                if dim != size:
                    raise CompileError(f"{place} must be {dim}, got {size} in shape {list(shape)}", self.name)
            elif dim in derived:
                continue
            elif binding.setdefault(dim, int(size)) != size:
                raise CompileError(f"{dim} is {binding[dim]} from {origin[dim]} but {size} from {place}", self.name)
            else:
                origin.setdefault(dim, place)
                if size < 0:
                    raise CompileError(f"{place} is {size}; a size is >= 0", self.name)

    def _maker_of(self, derived: str) -> str:
        """The source line of the first value that has this dim or one that follows from it, or the kernel's name."""
        names = {derived}
        for each in self.derived:
            if not names.isdisjoint(re.findall(r"\w+", str(each))):
                names.add(each.name)
        made = (node.where for node in self.nodes if node.where and not names.isdisjoint(node.type.shape))
        return next(made, self.name)

    def _check_derived(
        self, shapes: Mapping[str, Sequence[int]], binding: Mapping[str, int], derived: Collection[str]
    ) -> None:
        """Dims of parameters that follow from others are what follows."""
        for param in self.params:
            for axis, (dim, size) in enumerate(zip(param.type.shape, shapes[param.name], strict=True)):
                if dim in derived and binding[str(dim)] != size:
                    (rule,) = (each for each in self.derived if each.name == dim)
                    raise CompileError(
                        f"{param.name}[{axis}] must be {binding[str(dim)]} ({rule}), got {size}", self.name
                    )

    def _check_reduces(self, binding: Mapping[str, int]) -> None:
        for node in self.nodes:
            if node.op not in ("reduce_max", "reduce_min", "mean"):
                continue
            shape = evaluate(node.inputs[0].type.shape, binding)
            if any(shape[axis] == 0 for axis in node.axes()) and 0 not in evaluate(node.type.shape, binding):
                raise CompileError(
                    f"{node.op} over an empty axis of shape {list(shape)} has no value", node.where or self.name
                )

    def output_shapes(self, binding: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Concrete shapes of the outputs."""
        return {output.name: evaluate(output.type.shape, binding) for output in self.outputs}
