"""The operations of the graph: their names, arities, attributes and type rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ops_along import ALONG_RULES
from npuvm.compiler.graph.ops_conv import CONV_RULES
from npuvm.compiler.graph.ops_indexed import INDEXED_RULES
from npuvm.compiler.graph.ops_views import STRIDED, VIEW_RULES
from npuvm.compiler.graph.types import DTYPES, Dim, TensorType, dims_text

__all__ = [
    "ARITHMETIC", "BINARY", "COMPARES", "LOGICAL", "OPS", "REDUCES", "UNARY", "VIEWS", "Attr", "Attrs", "OpSpec",
    "broadcast_shapes", "infer_type",
]  # fmt: skip

Attr = int | float | bool | str | tuple[Dim, ...]
Attrs = Mapping[str, Attr]

_FLOATS = ("fp32", "fp16", "bf16")
_NUMBERS = (*_FLOATS, "int32")
_BITS = ("bool", "int32")
_MATMUL = (*_FLOATS, "int8")

UNARY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("neg", "abs", "relu", "sign"), _NUMBERS),
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "reciprocal", "floor", "ceil", "rint", "trunc"), _FLOATS),
    **dict.fromkeys(("tanh", "sigmoid", "silu", "gelu", "erf", "softplus", "isfinite"), _FLOATS),
    "logical_not": ("bool",),
}
"""Unary operations and the dtypes they take; all keep the dtype but isfinite, which gives bool."""

ARITHMETIC: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "sub", "mul", "max", "min"), _NUMBERS),
    **dict.fromkeys(("div", "pow"), _FLOATS),
}
LOGICAL: Mapping[str, tuple[str, ...]] = dict.fromkeys(("and", "or", "xor"), _BITS)
COMPARES: Mapping[str, tuple[str, ...]] = dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _NUMBERS)
BINARY: Mapping[str, tuple[str, ...]] = {**ARITHMETIC, **LOGICAL, **COMPARES}
REDUCES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"), _NUMBERS),
    "mean": _FLOATS,
}
VIEWS = ("reshape", "permute", *STRIDED)
"""Operations that are only another way to see their input in memory."""


@dataclass(frozen=True, slots=True)
class OpSpec:
    """An operation: how many inputs (`min_inputs`..`max_inputs`), which attributes, and the rule for its type.

    The rule gets the input types and attributes and raises CompileError when they do not fit.
    """

    name: str
    min_inputs: int
    max_inputs: int
    attrs: tuple[str, ...]
    infer: Callable[[Sequence[TensorType], Attrs], TensorType]


def broadcast_shapes(op: str, shapes: Sequence[Sequence[Dim]]) -> tuple[Dim, ...]:
    """The shape that operands broadcast to: aligned at the last dim, a literal 1 stretches.

    Dims with different names are not assumed equal. Raises CompileError.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, dim in enumerate(shape, start=rank - len(shape)):
            if dim == 1 or dim == result[axis]:
                continue
            if result[axis] != 1:
                texts = " and ".join(f"[{dims_text(each)}]" for each in shapes)
                raise CompileError(
                    f"{op}: shapes {texts} do not broadcast: {result[axis]} against {dim}; dims must be "
                    "equal, or one of them a literal 1 (give equal sizes the same name)"
                )
            result[axis] = dim
    return tuple(result)


def infer_type(op: str, inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    """The result type of an operation. Raises CompileError saying what is allowed."""
    spec = OPS.get(op)
    if spec is None:
        raise CompileError(f"unknown operation '{op}'; known: {', '.join(sorted(OPS))}")
    if not spec.min_inputs <= len(inputs) <= spec.max_inputs:
        allowed = str(spec.min_inputs)
        if spec.max_inputs != spec.min_inputs:
            allowed += f" to {spec.max_inputs}"
        raise CompileError(f"{op} takes {allowed} inputs, not {len(inputs)}")
    unknown = set(attrs) - set(spec.attrs)
    if unknown:
        raise CompileError(f"{op} has no attribute '{sorted(unknown)[0]}'; it has: {', '.join(spec.attrs) or 'none'}")
    return spec.infer(inputs, attrs)


def _need_dtype(op: str, dtype: str, allowed: Sequence[str]) -> None:
    if dtype not in allowed:
        raise CompileError(f"{op} does not take {dtype}; allowed: {', '.join(allowed)} (use cast)")


def _same_dtype(op: str, types: Sequence[TensorType]) -> str:
    dtypes = {each.dtype for each in types}
    if len(dtypes) > 1:
        listed = " and ".join(str(each) for each in types)
        raise CompileError(f"{op}: {listed} have different dtypes; cast one of them")
    return types[0].dtype


def _shape_attr(attrs: Attrs, name: str) -> tuple[Dim, ...]:
    value = attrs.get(name)
    if not isinstance(value, tuple):
        raise CompileError(f"attribute '{name}' must be a list of dims, not {value!r}")
    return value


def axes_attr(attrs: Attrs, name: str) -> tuple[int, ...]:
    """A list of plain integers among the attributes."""
    return tuple(axis for axis in _shape_attr(attrs, name) if isinstance(axis, int))


def _unary(op: str) -> Callable[[Sequence[TensorType], Attrs], TensorType]:
    def infer(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
        _need_dtype(op, inputs[0].dtype, UNARY[op])
        if op == "gelu" and attrs.get("approximate") not in ("none", "tanh"):
            raise CompileError(f"gelu: approximate must be 'none' or 'tanh', not {attrs.get('approximate')!r}")
        return inputs[0].with_dtype("bool") if op == "isfinite" else inputs[0]

    return infer


def _binary(op: str) -> Callable[[Sequence[TensorType], Attrs], TensorType]:
    def infer(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
        dtype = _same_dtype(op, inputs)
        _need_dtype(op, dtype, BINARY[op])
        shape = broadcast_shapes(op, [each.shape for each in inputs])
        return TensorType("bool" if op in COMPARES else dtype, shape)

    return infer


def _select(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    _need_dtype("select (condition)", inputs[0].dtype, ("bool",))
    dtype = _same_dtype("select", inputs[1:])
    return TensorType(dtype, broadcast_shapes("select", [each.shape for each in inputs]))


def _cast(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    dtype = attrs.get("dtype")
    if dtype not in DTYPES:
        raise CompileError(f"cast: unknown dtype {dtype!r}; allowed: {', '.join(DTYPES)}")
    return inputs[0].with_dtype(str(dtype))


def _broadcast_to(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    shape = _shape_attr(attrs, "shape")
    if broadcast_shapes("broadcast_to", [inputs[0].shape, shape]) != shape:
        raise CompileError(f"broadcast_to: {inputs[0]} cannot become [{dims_text(shape)}]")
    return TensorType(inputs[0].dtype, shape)


def _reshape(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    return TensorType(inputs[0].dtype, _shape_attr(attrs, "shape"))


def _permute(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    axes = axes_attr(attrs, "axes")
    rank = inputs[0].rank
    if sorted(axes) != list(range(rank)):
        raise CompileError(f"permute: axes {list(axes)} are no order of the {rank} dims of {inputs[0]}")
    return TensorType(inputs[0].dtype, tuple(inputs[0].shape[axis] for axis in axes))


def _reduce(op: str) -> Callable[[Sequence[TensorType], Attrs], TensorType]:
    def infer(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
        source = inputs[0]
        _need_dtype(op, source.dtype, REDUCES[op])
        axes = axes_attr(attrs, "axes")
        if list(axes) != sorted(set(axes)) or any(axis < 0 or axis >= source.rank for axis in axes):
            raise CompileError(
                f"{op}: axes {list(axes)} must be increasing and within the {source.rank} dims of {source}"
            )
        if attrs.get("keepdims"):
            return TensorType(source.dtype, tuple(1 if i in axes else d for i, d in enumerate(source.shape)))
        return TensorType(source.dtype, tuple(d for i, d in enumerate(source.shape) if i not in axes))

    return infer


def _matmul(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    a, b = inputs[0], inputs[1]
    dtype = _same_dtype("matmul", (a, b))
    _need_dtype("matmul", dtype, _MATMUL)
    if a.rank < 2 or b.rank < 2:
        raise CompileError(f"matmul: {a} and {b} must have rank 2 or more")
    (m, k), (k2, n) = a.shape[-2:], b.shape[-2:]
    if attrs.get("transpose_a"):
        m, k = k, m
    if attrs.get("transpose_b"):
        k2, n = n, k2
    if k != k2:
        raise CompileError(f"matmul: the inner dims of {a} and {b} differ: {k} against {k2}")
    allowed = ("int32",) if dtype == "int8" else ("fp32", "fp16", "bf16")
    result = str(attrs.get("dtype"))
    if result not in allowed:
        raise CompileError(f"matmul of {dtype} cannot give {result}; allowed: {', '.join(allowed)}")
    batch = broadcast_shapes("matmul (batch dims)", [a.shape[:-2], b.shape[:-2]])
    if len(inputs) == 3:
        bias, sums = inputs[2], "int32" if dtype == "int8" else "fp32"
        _need_dtype("matmul (bias)", bias.dtype, tuple(dict.fromkeys((dtype, sums))))
        if bias.shape != (n,):
            raise CompileError(f"matmul: the bias {bias} must have the shape [{n}]")
    return TensorType(result, (*batch, m, n))


def _const(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    dtype = attrs.get("dtype")
    if dtype not in DTYPES:
        raise CompileError(f"const: unknown dtype {dtype!r}; allowed: {', '.join(DTYPES)}")
    return TensorType(str(dtype), ())


def _declared(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    return TensorType(str(attrs.get("dtype")), _shape_attr(attrs, "shape"))


def _same(inputs: Sequence[TensorType], attrs: Attrs) -> TensorType:
    return inputs[0]


def _specs() -> list[OpSpec]:
    specs = [OpSpec(op, 1, 1, ("approximate",) if op == "gelu" else (), _unary(op)) for op in UNARY]
    specs += [OpSpec(op, 2, 2, (), _binary(op)) for op in BINARY]
    specs += [OpSpec(op, 1, 1, ("axes", "keepdims"), _reduce(op)) for op in REDUCES]
    specs += [OpSpec(op, 1, most, attrs, rule) for op, (most, attrs, rule) in VIEW_RULES.items()]
    specs += [OpSpec(op, count, count, attrs, rule) for op, (count, attrs, rule) in ALONG_RULES.items()]
    specs += [OpSpec(op, *rule) for op, rule in CONV_RULES.items()]
    specs += [OpSpec(op, *rule) for op, rule in INDEXED_RULES.items()]
    return [
        *specs,
        OpSpec("load", 0, 0, ("param", "dtype", "shape", "cache"), _declared),
        OpSpec("store", 1, 1, ("output", "cache"), _same),
        OpSpec("const", 0, 0, ("dtype", "value"), _const),
        OpSpec("size", 0, 0, ("dtype", "dims"), _const),
        OpSpec("select", 3, 3, (), _select),
        OpSpec("cast", 1, 1, ("dtype",), _cast),
        OpSpec("broadcast_to", 1, 1, ("shape",), _broadcast_to),
        OpSpec("reshape", 1, 1, ("shape",), _reshape),
        OpSpec("permute", 1, 1, ("axes",), _permute),
        OpSpec("matmul", 2, 3, ("transpose_a", "transpose_b", "dtype"), _matmul),
        OpSpec("asm", 0, 8, ("text", "dtype", "shape"), _declared),
    ]


OPS: Mapping[str, OpSpec] = {spec.name: spec for spec in _specs()}
"""All operations of the graph, by name."""
