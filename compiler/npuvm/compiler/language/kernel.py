"""The `@kernel` builder: a Python function, traced once, becomes a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import PART_KTYPES, Graph, Node, Param, Part
from npuvm.compiler.graph.ops import Attr
from npuvm.compiler.graph.shaping import infer_reshape, known_derived
from npuvm.compiler.graph.types import DTYPES, Dim, TensorType, parse_type
from npuvm.compiler.language.allowed import Allowance
from npuvm.compiler.language.along import AlongMethods
from npuvm.compiler.language.base import listed_axes, listed_dims, typed_number
from npuvm.compiler.language.conv import ConvMethods
from npuvm.compiler.language.indexed import IndexMethods
from npuvm.compiler.language.kinds import check_ktype, check_operators, pins_of_kind
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.language.pool import PoolMethods
from npuvm.compiler.language.value import Operand, ParamRef, Value, kernel_error, kernel_line
from npuvm.compiler.stack.kind_parts import cut_parts

__all__ = ["Kernel", "KernelBuilder", "kernel"]


class KernelBuilder(PoolMethods, ConvMethods, AlongMethods, IndexMethods):
    """What a kernel function gets as its first argument: one method an operation, each appends to the graph.

    Every method raises CompileError naming the kernel's source line, what is wrong and what is allowed.
    """

    # Memory.

    def load(self, source: ParamRef, cache: str = "normal") -> Value:
        """The contents of a parameter. `cache` is "normal", or "stream" to leave L2 to others."""
        if not isinstance(source, ParamRef):
            raise kernel_error(f"load takes a parameter of the kernel, not {source!r}")
        policy = _cache(cache)
        if source.name not in self._loads:
            attrs: dict[str, Attr] = {"param": source.name, "dtype": source.type.dtype, "shape": source.type.shape}
            self._loads[source.name] = self._emit("load", (), **attrs, **policy)
        return self._loads[source.name]

    def store(self, value: Value, name: str | None = None, cache: str = "normal") -> None:
        """Make `value` an output; outputs are ordered as they are stored and named `name` or out0, out1, ..."""
        taken = [output.name for output in self.graph.outputs]
        name = f"out{len(taken)}" if name is None else name
        if not name.isidentifier() or name in taken or any(name == param.name for param in self.graph.params):
            raise kernel_error(
                f"store: output name '{name}' must be a new identifier; taken: {', '.join(taken) or 'none'} and the parameters"
            )
        self._emit("store", (self._value("store", value),), output=name, **_cache(cache))

    def const(self, value: float | int | bool, dtype: str) -> Value:
        """A scalar constant of the dtype."""
        if dtype not in DTYPES:
            raise kernel_error(f"const: unknown dtype '{dtype}'; allowed: {', '.join(DTYPES)}")
        return self._emit("const", (), dtype=dtype, value=typed_number(value, dtype))

    def size(self, dims: str | Sequence[Dim], dtype: str = "fp32") -> Value:
        """The product of dims as a scalar, for example the count of a mean."""
        return self._emit("size", (), dtype=dtype, dims=self._known_dims("size", dims))

    # Unary.

    def neg(self, x: Value) -> Value:
        return self._unary("neg", x)

    def abs(self, x: Value) -> Value:
        return self._unary("abs", x)

    def exp(self, x: Value) -> Value:
        return self._unary("exp", x)

    def log(self, x: Value) -> Value:
        return self._unary("log", x)

    def sqrt(self, x: Value) -> Value:
        return self._unary("sqrt", x)

    def rsqrt(self, x: Value) -> Value:
        return self._unary("rsqrt", x)

    def reciprocal(self, x: Value) -> Value:
        return self._unary("reciprocal", x)

    def relu(self, x: Value) -> Value:
        return self._unary("relu", x)

    def floor(self, x: Value) -> Value:
        return self._unary("floor", x)

    def ceil(self, x: Value) -> Value:
        return self._unary("ceil", x)

    def rint(self, x: Value) -> Value:
        """Round to nearest, ties to even."""
        return self._unary("rint", x)

    def trunc(self, x: Value) -> Value:
        return self._unary("trunc", x)

    def sign(self, x: Value) -> Value:
        return self._unary("sign", x)

    def logical_not(self, x: Value) -> Value:
        return self._unary("logical_not", x)

    def isfinite(self, x: Value) -> Value:
        return self._unary("isfinite", x)

    def tanh(self, x: Value) -> Value:
        return self._unary("tanh", x)

    def sigmoid(self, x: Value) -> Value:
        return self._unary("sigmoid", x)

    def silu(self, x: Value) -> Value:
        return self._unary("silu", x)

    def softplus(self, x: Value) -> Value:
        return self._unary("softplus", x)

    def erf(self, x: Value) -> Value:
        return self._unary("erf", x)

    def gelu(self, x: Value, approximate: str = "none") -> Value:
        """Gaussian error linear unit; `approximate` is "none" (erf) or "tanh"."""
        return self._emit("gelu", (self._value("gelu", x),), approximate=approximate)

    # Binary; either side may be a Python scalar.

    def add(self, a: Operand, b: Operand) -> Value:
        return self._binary("add", a, b)

    def sub(self, a: Operand, b: Operand) -> Value:
        return self._binary("sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        return self._binary("mul", a, b)

    def div(self, a: Operand, b: Operand) -> Value:
        return self._binary("div", a, b)

    def pow(self, a: Operand, b: Operand) -> Value:
        return self._binary("pow", a, b)

    def maximum(self, a: Operand, b: Operand) -> Value:
        return self._binary("max", a, b)

    def minimum(self, a: Operand, b: Operand) -> Value:
        return self._binary("min", a, b)

    def logical_and(self, a: Operand, b: Operand) -> Value:
        return self._binary("and", a, b)

    def logical_or(self, a: Operand, b: Operand) -> Value:
        return self._binary("or", a, b)

    def logical_xor(self, a: Operand, b: Operand) -> Value:
        return self._binary("xor", a, b)

    def eq(self, a: Operand, b: Operand) -> Value:
        return self._binary("eq", a, b)

    def ne(self, a: Operand, b: Operand) -> Value:
        return self._binary("ne", a, b)

    def lt(self, a: Operand, b: Operand) -> Value:
        return self._binary("lt", a, b)

    def le(self, a: Operand, b: Operand) -> Value:
        return self._binary("le", a, b)

    def gt(self, a: Operand, b: Operand) -> Value:
        return self._binary("gt", a, b)

    def ge(self, a: Operand, b: Operand) -> Value:
        return self._binary("ge", a, b)

    # Others.

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """`a` where `condition` (bool), else `b`."""
        left, right = self._pair("select", a, b)
        return self._emit("select", (self._value("select", condition).node, left, right))

    def cast(self, x: Value, dtype: str) -> Value:
        """To another dtype: to float rounds to nearest even; to int truncates and saturates; to bool is `!= 0`."""
        return x if self._value("cast", x).type.dtype == dtype else self._emit("cast", (x,), dtype=dtype)

    def broadcast_to(self, x: Value, shape: str | Sequence[Dim]) -> Value:
        return self._emit(
            "broadcast_to", (self._value("broadcast_to", x),), shape=self._known_dims("broadcast_to", shape)
        )

    def reshape(self, x: Value, shape: str | Sequence[Dim]) -> Value:
        """The same elements in another shape; one dim may be -1 or a new name, whose size follows."""
        source = self._value("reshape", x)
        target = listed_dims("reshape", shape)
        known = {*self.graph.symbols(), *(derived.name for derived in self.graph.derived)}
        try:
            result = infer_reshape(source.type.shape, target, known)
        except CompileError as error:
            raise kernel_error(error.message) from None
        if result.derived is not None:
            result = known_derived(result, self.graph.derived) if -1 in target else result
            self.graph.derived += [] if result.derived is None else [result.derived]
        if result.check is not None and result.check not in self.graph.checks:
            self.graph.checks.append(result.check)
        return self._emit("reshape", (source,), shape=result.shape)

    def permute(self, x: Value, axes: Sequence[int]) -> Value:
        """Dim i of the result is dim `axes[i]` of x."""
        rank = self._value("permute", x).type.rank
        return self._emit("permute", (x,), axes=listed_axes("permute", axes, rank))

    def transpose(self, x: Value) -> Value:
        """The last two dims exchanged."""
        rank = self._value("transpose", x).type.rank
        if rank < 2:
            raise kernel_error(f"transpose: {x.type} must have rank 2 or more")
        return self.permute(x, (*range(rank - 2), rank - 1, rank - 2))

    def sum(self, x: Value, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
        return self._reduce("reduce_sum", x, axes, keepdims)

    def max(self, x: Value, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
        return self._reduce("reduce_max", x, axes, keepdims)

    def min(self, x: Value, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
        return self._reduce("reduce_min", x, axes, keepdims)

    def mean(self, x: Value, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
        return self._reduce("mean", x, axes, keepdims)

    def matmul(
        self,
        a: Value,
        b: Value,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: Value | None = None,
        dtype: str | None = None,
    ) -> Value:
        """`a [.., M, K] @ b [.., K, N] + bias [N]`, sums in fp32 (int32 for int8), rounded once to `dtype`.

        Batch dims broadcast. `dtype` defaults to that of `a`, int32 for int8.
        """
        left, right = self._value("matmul", a), self._value("matmul", b)
        inputs = (left, right) if bias is None else (left, right, self._value("matmul", bias))
        default = "int32" if left.type.dtype == "int8" else left.type.dtype
        return self._emit("matmul", inputs, transpose_a=transpose_a, transpose_b=transpose_b, dtype=dtype or default)

    def asm(
        self, text: str, *inputs: Value, dtype: str | None = None, shape: str | Sequence[Dim] | None = None
    ) -> Value:
        """Raw instructions inserted into the tile program of a vector segment, one a line.

        `{out}` names the result's tile and `{0}`, `{1}`, ... those of the inputs; `{rows}` and `{cols}` are the sizes of
        the tile, for example `"vexp.fp16 dst={out} a={0} rows={rows} cols={cols}"`. The result has the
        shape and dtype of the first input unless given.
        """
        if not inputs:
            raise kernel_error("asm needs at least one input value")
        if not text.strip():
            raise kernel_error("asm needs at least one instruction; without one the result is never written")
        first = self._value("asm", inputs[0])
        result = first.type.shape if shape is None else self._known_dims("asm", shape)
        nodes = tuple(self._value("asm", each) for each in inputs)
        return self._emit("asm", nodes, text=text, dtype=dtype or first.type.dtype, shape=result)

    def allow(self, *, contract: bool = False, approx_ulp: float = 0.0) -> None:
        """Permit results that differ in rounding from what the operations say; see `Allowance`."""
        try:
            self.graph.allowed = Allowance(contract, approx_ulp)
        except CompileError as error:
            raise kernel_error(error.message) from None

    def pin(self, **pins: Any) -> None:
        """Fix decisions of the schedule; the fields are those of `Pins`, a later call replaces single fields.

        Behind `part` they are those of the part. Raises CompileError on an unknown field or a value that is not allowed.
        """
        known = [each.name for each in fields(Pins)]
        for name in pins:
            if name not in known:
                raise kernel_error(f"unknown pin '{name}'; pins: {', '.join(known)}")
        parts = self.graph.parts
        try:
            if parts:
                parts[-1] = replace(parts[-1], pins=replace(parts[-1].pins, **pins))
            else:
                self.graph.pins = replace(self.graph.pins, **pins)
        except CompileError as error:
            raise kernel_error(error.message) from None

    @contextmanager
    def source(self, name: str) -> Iterator[None]:
        """What is added inside is one operator of a model, called `name`: with fusion "none" it is a program of its own.

        `with k.source("encoder/LayerNorm_3"): ...`. Within another one the inner name counts; all blocks of one name are one
        operator. What is outside of any is an operator by itself.
        """
        given: object = name
        if not isinstance(given, str) or not given:
            raise kernel_error(f"source takes the name of an operator, not {name!r}")
        outer, self.graph.source = self.graph.source, name
        try:
            yield
        finally:
            self.graph.source = outer

    def part(self, ktype: str = "auto") -> None:
        """Begin the next part of a kernel of kind parallel or sequence: what follows, up to the next call, is in it.

        A part is a kernel of its own, of kind auto, vector, cube or mix. Parts of a parallel kernel share the cores in
        proportion to their work and use no values of each other, those of a sequence run in order; all in one launch.
        """
        where = kernel_line()
        kind = check_ktype(ktype, PART_KTYPES, where or None)
        self.graph.parts.append(Part(len(self.graph.nodes), kind, where=where))

    def _unary(self, op: str, x: Value) -> Value:
        return self._emit(op, (self._value(op, x),))

    def _binary(self, op: str, a: Operand, b: Operand) -> Value:
        return self._emit(op, self._pair(op, a, b))

    def _reduce(self, op: str, x: Value, axes: int | Sequence[int] | None, keepdims: bool) -> Value:
        rank = self._value(op, x).type.rank
        listed = tuple(range(rank)) if axes is None else listed_axes(op, axes, rank)
        return self._emit(op, (x,), axes=tuple(sorted(listed)), keepdims=keepdims)

    def _pair(self, op: str, a: Operand, b: Operand) -> tuple[Node, Node]:
        if isinstance(a, Value):
            left = self._value(op, a)
            return left.node, (self._value(op, b) if isinstance(b, Value) else self.const(b, left.dtype)).node
        if isinstance(b, Value):
            right = self._value(op, b)
            return self.const(a, right.dtype).node, right.node
        raise kernel_error(f"{op}: one side must be a value of the kernel, got {a!r} and {b!r}")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A traced kernel: `graph`, and its sizes for concrete shapes. One of kind eager has no nodes before these are known."""

    graph: Graph
    function: Callable[..., None] | None = field(default=None, compare=False)

    def traced(self, shapes: Mapping[str, Sequence[int]]) -> Graph:
        """The graph for shapes of the parameters: of a kernel of kind eager its function is run on these sizes.

        CompileError when they do not fit, or what the function does with them.
        """
        graph = self.graph
        if graph.ktype != "eager" or self.function is None:
            return graph
        graph.bind(shapes)
        params = tuple(Param(each.name, TensorType(each.type.dtype, tuple(shapes[each.name]))) for each in graph.params)
        return _traced(self.function, graph.name, params, "split")

    @property
    def name(self) -> str:
        return self.graph.name

    def bind(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Values of all symbols for concrete shapes by parameter name. Raises CompileError when they do not fit."""
        return self.graph.bind(shapes)

    def output_shapes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs for concrete shapes by parameter name. Raises CompileError."""
        return self.traced(shapes).output_shapes(self.bind(shapes))


def kernel(ktype: str = "auto", **params: str | TensorType) -> Callable[[Callable[..., None]], Kernel]:
    """Decorator: trace a function of a builder and the named parameters into a Kernel.

    `@kernel(x="fp16[M, N]", y="fp16[N]") def f(k, x, y): k.store(k.load(x) + k.load(y))`. Equal names are equal sizes.
    The function runs once, of kind eager once for each set of sizes. `ktype` states the kind of the kernel, one of
    `npuvm.compiler.KTYPES`, which is checked. Raises CompileError on a wrong signature, type or operation.
    """

    def trace(function: Callable[..., None]) -> Kernel:
        code = function.__code__
        names = code.co_varnames[1 : code.co_argcount]
        where = f"{Path(code.co_filename).name}:{code.co_firstlineno}"
        if set(names) != set(params):
            raise CompileError(
                f"kernel '{function.__name__}' takes ({', '.join(names)}) after the builder, but types are given for "
                f"({', '.join(params)})",
                where,
            )
        types = {name: _type_of(name, given, where) for name, given in params.items()}
        kind = check_ktype(ktype, where=where)
        listed = tuple(Param(name, types[name]) for name in names)
        if kind == "eager":
            return Kernel(Graph(function.__name__, listed, ktype=kind), function)
        return Kernel(_traced(function, function.__name__, listed, kind), function)

    return trace


def _type_of(name: str, given: object, where: str) -> TensorType:
    """The type that is given for a parameter. CompileError at the kernel's line where it is none."""
    if isinstance(given, TensorType):
        return given
    if not isinstance(given, str):
        raise CompileError(f"{name}={given!r} is no tensor type; write it as 'dtype[dim, ...]' or a TensorType", where)
    try:
        return parse_type(given)
    except CompileError as error:
        raise CompileError(f"{name}: {error.message}", where) from None


def _traced(function: Callable[..., None], name: str, params: tuple[Param, ...], ktype: str) -> Graph:
    """The graph that the function makes of parameters. CompileError when it is none of that kind."""
    code = function.__code__
    graph = Graph(name, params, ktype=ktype)
    builder = KernelBuilder(graph)
    function(builder, *(ParamRef(each.name, each.type) for each in params))
    if not graph.stores:
        raise CompileError(f"kernel '{name}' stores nothing", f"{Path(code.co_filename).name}:{code.co_firstlineno}")
    check_operators(graph)
    cut_parts(graph)
    pins_of_kind(graph)
    return graph


def _cache(cache: str) -> dict[str, Attr]:
    if cache not in ("normal", "stream"):
        raise kernel_error(f"cache must be 'normal' or 'stream', not {cache!r}")
    return {} if cache == "normal" else {"cache": cache}
