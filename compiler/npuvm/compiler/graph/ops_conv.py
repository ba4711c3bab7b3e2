"""The convolution of the graph: strides, padding, dilation, groups; channels last, or first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import Dim, TensorType

if TYPE_CHECKING:
    from npuvm.compiler.graph.ir import Node

__all__ = ["CONV_RULES", "CUBE_OPS", "conv_numbers", "conv_pads", "product_sizes"]

CUBE_OPS = ("matmul", "conv2d")
"""Operations that the cube computes, each in a segment of its own."""

_DTYPES = ("fp32", "fp16", "bf16", "int8")
_Attrs = Mapping[str, object]


def conv_numbers(attrs: _Attrs, name: str, count: int, least: int) -> tuple[int, ...]:
    """Plain numbers among the attributes of a convolution. Raises CompileError."""
    value = attrs.get(name)
    if not isinstance(value, tuple) or len(value) != count or any(not isinstance(x, int) or x < least for x in value):
        raise CompileError(f"conv2d: '{name}' must be {count} whole numbers >= {least}, not {value!r}")
    return value


def conv_pads(attrs: _Attrs) -> tuple[Dim, ...]:
    """What a convolution pads above, below, left and right of its images: numbers, or names of dims. Raises CompileError."""
    value = attrs.get("pads")
    if not isinstance(value, tuple) or len(value) != 4 or any(isinstance(x, int) and x < 0 for x in value):
        raise CompileError(f"conv2d: 'pads' must be 4 whole numbers >= 0 or names of dims, not {value!r}")
    return value


def product_sizes(node: Node, binding: Mapping[str, int]) -> tuple[int, int, int, int]:
    """(batch, m, n, k) of the matrix products that an operation of the cube is: a convolution has one for each group."""
    left, right = (evaluate(each.type.shape, binding) for each in node.inputs[:2])
    result = evaluate(node.type.shape, binding)
    if node.op == "matmul":
        *batch, m, n = result
        return prod(batch), m, n, left[-2 if node.attrs.get("transpose_a") else -1]
    (groups,) = conv_numbers(node.attrs, "groups", 1, 1)
    return groups, prod(result) // max(right[0], 1), right[0] // groups, prod(right[1:])


def _conv2d(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    """x [N, H, W, C] with w [O, KH, KW, C / groups] and bias [O] gives [N, *out, O]; with `planes` all have channels first."""
    x, w = inputs[0], inputs[1]
    if x.dtype != w.dtype or x.dtype not in _DTYPES:
        raise CompileError(f"conv2d: {x} and {w} must have one dtype of {', '.join(_DTYPES)} (use cast)")
    if x.rank != 4 or w.rank != 4:
        raise CompileError(f"conv2d: {x} and {w} must have rank 4")
    planes = bool(attrs.get("planes"))
    channels, filters, depth = x.shape[1 if planes else 3], w.shape[0], w.shape[1 if planes else 3]
    conv_numbers(attrs, "strides", 2, 1)
    conv_numbers(attrs, "dilations", 2, 1)
    conv_pads(attrs)
    (groups,) = conv_numbers(attrs, "groups", 1, 1)
    _check_groups(channels, filters, depth, groups)
    sums = "int32" if x.dtype == "int8" else "fp32"
    allowed = ("int32",) if x.dtype == "int8" else ("fp32", "fp16", "bf16")
    if attrs.get("dtype") not in allowed:
        raise CompileError(f"conv2d of {x.dtype} cannot give {attrs.get('dtype')}; allowed: {', '.join(allowed)}")
    if len(inputs) == 3:
        bias = inputs[2]
        if bias.dtype not in (x.dtype, sums) or bias.shape != (filters,):
            raise CompileError(f"conv2d: the bias {bias} must be {x.dtype} or {sums} with the shape [{filters}]")
    out = attrs.get("out")
    if not isinstance(out, tuple) or len(out) != 2:
        raise CompileError(f"conv2d: 'out' must be two dims, not {out!r}")
    shape = (x.shape[0], filters, *out) if planes else (x.shape[0], *out, filters)
    return TensorType(str(attrs["dtype"]), shape)


def _check_groups(channels: Dim, filters: Dim, depth: Dim, groups: int) -> None:
    if groups == 1:
        if channels != depth:
            raise CompileError(f"conv2d: x has {channels} channels, the kernel {depth}; they must be the same")
        return
    if not isinstance(channels, int) or not isinstance(filters, int) or not isinstance(depth, int):
        raise CompileError(f"conv2d in {groups} groups needs numbers of channels, not {channels}, {filters}, {depth}")
    if channels != depth * groups or filters % groups:
        raise CompileError(
            f"conv2d in {groups} groups: x has {channels} channels, a kernel {depth}, and there are {filters} of them; "
            f"allowed: {groups} times the channels of a kernel, and a multiple of {groups} kernels"
        )


CONV_RULES: Mapping[str, tuple[int, int, tuple[str, ...], Callable[[Sequence[TensorType], _Attrs], TensorType]]] = {
    "conv2d": (2, 3, ("strides", "pads", "dilations", "groups", "planes", "out", "dtype"), _conv2d)
}
"""Least and most inputs, attributes and type rule."""
