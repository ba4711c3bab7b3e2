"""Operators that look along an axis: places of extremes, the largest elements, sums up to each element, triangles."""

from __future__ import annotations

from npuvm.compiler.frontends.onnx.attributes import dtype_name
from npuvm.compiler.frontends.onnx.entries import Entry
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of
from npuvm.compiler.frontends.onnx.picking import axis_in, number_of, one_size, whole_number
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.types import DTYPES
from npuvm.compiler.value import Value

__all__: list[str] = []


@rule("ArgMax", "ArgMin")
def _place(op: Operator) -> Entry:
    k, x = op.k, op.value(0)
    axis = axis_in(op, op.attribute("axis", 0), len(x.shape))
    last = bool(op.attribute("select_last_index", 0))
    find = k.argmax if op.type == "ArgMax" else k.argmin
    found = find(k.flip(x, axis) if last else x, axis, keepdims=bool(op.attribute("keepdims", 1)))
    if last:
        found = number_of(op, (x.shape[axis],)) - 1 - found
    return op.entry(found, "int64")


@rule("TopK")
def _top_k(op: Operator) -> list[Entry]:
    k, x, count = op.k, op.value(0), one_size(op, 1)
    axis = axis_in(op, op.attribute("axis", -1), len(x.shape))
    order = [at for at in range(len(x.shape)) if at != axis] + [axis]
    turn_back = [order.index(at) for at in range(len(order))]
    moved = axis != len(order) - 1
    rows = k.cast(x, "int32") if x.dtype == "int8" else x
    if moved:
        rows = k.permute(rows, order)
    largest = bool(op.attribute("largest", 1))
    values, places = k.topk(rows if largest else _reversed(op, rows), count)
    values = k.cast(values if largest else _reversed(op, values), x.dtype)
    if moved:
        values, places = k.permute(values, turn_back), k.permute(places, turn_back)
    return [op.entry(values), op.entry(places, "int64")]


def _reversed(op: Operator, x: Value) -> Value:
    """The elements in the opposite order: of whole numbers all bits, since the least has no negative."""
    return op.k.logical_xor(x, -1) if x.dtype == "int32" else op.k.neg(x)


@rule("CumSum")
def _cumulative_sum(op: Operator) -> Value:
    x = op.value(0)
    axis = axis_in(op, int(op.const(1).item()), len(x.shape))
    return op.k.cumsum(x, axis, bool(op.attribute("exclusive", 0)), bool(op.attribute("reverse", 0)))


@rule("CumProd")
def _cumulative_product(op: Operator) -> Value:
    """Products of 2, 4, 8, ... neighbours, until they reach over the axis."""
    k, x = op.k, op.value(0)
    axis = axis_in(op, int(op.const(1).item()), len(x.shape))
    length = whole_number(op, x.shape[axis], "the length of a cumulative product")
    one = 1.0 if DTYPES[x.dtype].kind == "float" else 1
    reverse = bool(op.attribute("reverse", 0))

    def shifted(value: Value, by: int) -> Value:
        """The elements `by` places further; ones come in."""
        begin, end = (by, None) if reverse else (None, length - by)
        return k.pad(k.slice(value, begin, end, axes=axis), {axis: (0, by) if reverse else (by, 0)}, one)

    if length == 0:
        return x
    if op.attribute("exclusive", 0):
        x = shifted(x, 1)
    at = 1
    while at < length:
        x = x * shifted(x, at)
        at *= 2
    return x


@rule("EyeLike")
def _eye_like(op: Operator) -> Entry:
    k, shape = op.k, op.input(0).dims
    dtype = dtype_name(op.attribute("dtype")) if op.attribute("dtype") else op.input(0).dtype
    ones = k.eq(k.iota(shape, 1) - k.iota(shape, 0), int(op.attribute("k", 0)))
    return op.entry(k.cast(ones, carrier_of(dtype)), dtype)


@rule("Trilu")
def _triangle(op: Operator) -> Value:
    k, x = op.k, op.value(0)
    plane = x.shape[-2:]
    offset = k.iota(plane, 1) - k.iota(plane, 0)
    diagonal = k.reshape(op.value(1), ()) if op.has(1) else 0
    keep = offset >= diagonal if op.attribute("upper", 1) else offset <= diagonal
    return k.select(keep, x, zero_of(x))


def zero_of(value: Value) -> float | int | bool:
    """Nothing, in the kind of a value's dtype."""
    kind = DTYPES[value.dtype].kind
    return False if kind == "bool" else 0.0 if kind == "float" else 0
