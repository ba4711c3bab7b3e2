"""Reductions over axes, softmax, and what else is made of a reduction."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan

from npuvm.compiler.frontends.onnx.activations import floating
from npuvm.compiler.frontends.onnx.elementwise import hull
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import RANGES, Bounds, bounds_of, carried, computable, integer, is_integer
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = ["axes_of", "axis_of", "has_elements", "log_softmax", "softmax"]


def axis_of(op: Operator, default: int, rank: int | None = None) -> int:
    """The attribute `axis`, counted from the first."""
    axis = int(op.attribute("axis", default))
    return axis + (op.input(0).rank if rank is None else rank) if axis < 0 else axis


def axes_of(op: Operator) -> tuple[int, ...] | None:
    """The axes of a reduction, increasing; None where the operator is to pass its input on."""
    rank = op.input(0).rank
    listed = op.const(1).ravel().tolist() if op.has(1) else op.attribute("axes")
    if not listed:
        return None if op.attribute("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(axis + rank if axis < 0 else axis for axis in listed))


def has_elements(op: Operator, value: Value, axes: Sequence[int]) -> bool:
    """Whether axes of a value have elements; assumed of those that are not known."""
    if any(value.shape[axis] == 0 for axis in axes):
        return False
    for axis in axes:
        op.lowering.deduction.has_elements(value.shape[axis], op.source)
    return True


def _keepdims(op: Operator) -> bool:
    return bool(op.attribute("keepdims", 1))


@rule("ReduceMax", "ReduceMin")
def _extreme(op: Operator) -> Entry:
    axes, dtype = axes_of(op), op.input(0).dtype
    if axes is None:
        return op.input(0)
    value, largest = computable(op, 0), op.type == "ReduceMax"
    if not has_elements(op, value, axes):
        return _nothing(op, value, axes, (-inf if largest else inf), RANGES.get(dtype, (0, 0))[0 if largest else 1])
    found = (op.k.max if largest else op.k.min)(value, axes, _keepdims(op))
    return op.entry(carried(op.k, found, dtype), dtype, hull([op.input(0)]))


def _nothing(op: Operator, value: Value, axes: tuple[int, ...], number: float, whole: int) -> Entry:
    """What a reduction of no elements gives: `number` of floats, `whole` of integers. Unsupported for int64."""
    if op.input(0).dtype == "int64":
        raise Unsupported("the ends of int64, which a reduction of nothing gives, do not fit int32")
    dims: list[Dim] = []
    for axis, dim in enumerate(value.shape):
        if axis not in axes:
            dims.append(dim)
        elif _keepdims(op):
            dims.append(1)
    filled = op.k.const(whole if value.dtype == "int32" else number, value.dtype)
    return op.entry(carried(op.k, op.k.broadcast_to(filled, dims), op.input(0).dtype))


@rule("ReduceSum", "ReduceSumSquare", "ReduceL1")
def _sum(op: Operator) -> Entry:
    axes, dtype, k = axes_of(op), op.input(0).dtype, op.k
    if axes is None and op.type == "ReduceSum":
        return op.input(0)
    value = computable(op, 0)
    wide = k.cast(value, "fp32") if value.dtype != "int32" else value
    terms = {"ReduceSum": lambda: wide, "ReduceSumSquare": lambda: k.mul(wide, wide), "ReduceL1": lambda: k.abs(wide)}
    found = terms[op.type]()
    found = found if axes is None else k.sum(found, axes, _keepdims(op))
    if not is_integer(dtype):
        return op.entry(k.cast(found, value.dtype))
    least, largest = bounds_of(op.input(0))
    reach = max(abs(least), abs(largest))
    each = {"ReduceSum": (least, largest), "ReduceSumSquare": (0, reach * reach), "ReduceL1": (0, reach)}[op.type]
    return integer(op, found, dtype, _times(each, value, axes or ()))


def _times(each: Bounds, value: Value, axes: tuple[int, ...]) -> Bounds:
    """Bounds of a sum over axes. No tensor of the device has 2^31 elements."""
    count = 1
    for axis in axes:
        dim = value.shape[axis]
        count = count * dim if isinstance(dim, int) and count < (1 << 31) - 1 else (1 << 31) - 1
    count = min(count, (1 << 31) - 1)
    return min(each[0] * count, 0), max(each[1] * count, 0)


@rule("ReduceProd")
def _product(op: Operator) -> Entry:
    axes, dtype = axes_of(op), op.input(0).dtype
    if axes is None:
        return op.input(0)
    value = computable(op, 0)
    found = op.k.prod(value, axes, _keepdims(op))
    if not is_integer(dtype):
        return op.entry(found)
    if dtype == "int64":
        raise Unsupported("products of int64 may not fit int32, in which the device computes")
    return integer(op, found, dtype, (-(1 << 62), 1 << 62))


@rule("ReduceMean")
def _mean(op: Operator) -> Entry | Value:
    axes, value = axes_of(op), floating(op, 0)
    if axes is None:
        return op.input(0)
    if not has_elements(op, value, axes):
        return _nothing(op, value, axes, nan, 0)
    return op.k.mean(value, axes, _keepdims(op))


@rule("ReduceL2", "ReduceLogSum")
def _of_sum(op: Operator) -> Value:
    axes, value, k = axes_of(op), floating(op, 0), op.k
    wide = k.cast(value, "fp32")
    terms = wide * wide if op.type == "ReduceL2" else wide
    total = terms if axes is None else k.sum(terms, axes, _keepdims(op))
    return k.cast(k.sqrt(total) if op.type == "ReduceL2" else k.log(total), value.dtype)


@rule("ReduceLogSumExp")
def _log_sum_exp(op: Operator) -> Value | Entry:
    axes, value, k = axes_of(op), floating(op, 0), op.k
    if axes is None:
        return op.input(0)
    if not has_elements(op, value, axes):
        return _nothing(op, value, axes, -inf, 0)
    wide = k.cast(value, "fp32")
    top = k.max(wide, axes, keepdims=True)
    top = k.select(k.isfinite(top), top, 0.0)
    total = k.log(k.sum(k.exp(wide - top), axes, keepdims=True)) + top
    if not _keepdims(op):
        total = k.reshape(total, [dim for axis, dim in enumerate(total.shape) if axis not in axes])
    return k.cast(total, value.dtype)


def softmax(k: KernelBuilder, x: Value, axis: int) -> Value:
    """e^x over the sum of them along an axis, in fp32."""
    parts = k.exp(x - k.max(x, axis, keepdims=True))
    return parts / k.sum(parts, axis, keepdims=True)


def log_softmax(k: KernelBuilder, x: Value, axis: int) -> Value:
    """The logarithm of `softmax`, in fp32."""
    shifted = x - k.max(x, axis, keepdims=True)
    return shifted - k.log(k.sum(k.exp(shifted), axis, keepdims=True))


@rule("Softmax", "LogSoftmax")
def _softmax(op: Operator) -> Value:
    value, axis, k = floating(op, 0), axis_of(op, -1), op.k
    if not has_elements(op, value, (axis,)):
        return value
    wide = k.cast(value, "fp32")
    found = softmax(k, wide, axis) if op.type == "Softmax" else log_softmax(k, wide, axis)
    return k.cast(found, value.dtype)


@rule("Hardmax")
def _hardmax(op: Operator) -> Value:
    value, axis, k = floating(op, 0), axis_of(op, -1), op.k
    return k.one_hot(k.argmax(value, axis), value.shape[axis], value.dtype, axis)
