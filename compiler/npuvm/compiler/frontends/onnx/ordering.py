"""Operators that look along an axis: places of extremes, the largest elements, sums up to each element, triangles."""

from __future__ import annotations

from npuvm.compiler.deduction import LARGEST_SIZE
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.attributes import dtype_name
from npuvm.compiler.frontends.onnx.elementwise import hull
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import Bounds, bounds_of, integer, is_integer
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of
from npuvm.compiler.frontends.onnx.picking import axis_in, most_elements, number_of, one_size, whole_number
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.types import DTYPES, Dim
from npuvm.compiler.language.value import Value

__all__: list[str] = []

_MOST = 2**31 - 1

_SMALL = _MOST // LARGEST_SIZE
"""Numbers of which as many as a size may be can be added up in int32."""


@rule("ArgMax", "ArgMin")
def _place(op: Operator) -> Entry:
    k, x = op.k, op.value(0)
    axis = axis_in(op, op.attribute("axis", 0), len(x.shape))
    last = bool(op.attribute("select_last_index", 0))
    find = k.argmax if op.type == "ArgMax" else k.argmin
    found = find(k.flip(x, axis) if last else x, axis, keepdims=bool(op.attribute("keepdims", 1)))
    if last:
        found = number_of(op, (x.shape[axis],)) - 1 - found
    return op.entry(found, "int64", _places(x.shape[axis]))


def _places(dim: Dim) -> Bounds:
    """Bounds of numbers of elements of a dim."""
    return 0, most_elements((dim,)) - 1


@rule("TopK")
def _top_k(op: Operator) -> list[Entry]:
    k, x, count = op.k, op.value(0), one_size(op, 1)
    axis = axis_in(op, op.attribute("axis", -1), len(x.shape))
    dim = x.shape[axis]
    if isinstance(count, int):
        if isinstance(dim, int) and count > dim:
            raise CompileError(f"TopK: k is {count}, but axis {axis} has {dim} elements", op.source)
        op.lowering.deduction.has_elements(dim, op.source, count)
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
    return [op.entry(values, bounds=hull([op.input(0)])), op.entry(places, "int64", _places(x.shape[axis]))]


def _reversed(op: Operator, x: Value) -> Value:
    """The elements in the opposite order: of whole numbers all bits, since the least has no negative."""
    return op.k.logical_xor(x, -1) if x.dtype == "int32" else op.k.neg(x)


@rule("CumSum")
def _cumulative_sum(op: Operator) -> Entry:
    x = op.value(0)
    axis = axis_in(op, int(op.const(1).item()), len(x.shape))
    found = op.k.cumsum(x, axis, bool(op.attribute("exclusive", 0)), bool(op.attribute("reverse", 0)))
    if not is_integer(op.input(0).dtype):
        return op.entry(found)
    (least, largest), count = _summed(op, x.shape[axis])
    return integer(op, found, op.input(0).dtype, (min(least * count, 0), max(largest * count, 0)))


def _summed(op: Operator, dim: Dim) -> tuple[Bounds, int]:
    """Bounds of the first input, and of the number of its elements along a dim.

    An int64 input of the model that would be too large to be added up is taken to hold small numbers, as masks do.
    """
    entry, count = op.input(0), most_elements((dim,))
    least, largest = bounds_of(entry)
    taken = op.lowering.model.taken
    if entry.dtype == "int64" and max(-least, largest) * count > _MOST and entry.name in taken:
        entry.bounds = taken[entry.name] = max(least, -_SMALL), min(largest, _SMALL)
        if isinstance(dim, str):
            op.lowering.deduction.at_most(op.size(dim), LARGEST_SIZE, op.source)
            count = LARGEST_SIZE
        return entry.bounds, count
    return (least, largest), count


@rule("CumProd")
def _cumulative_product(op: Operator) -> Value:
    """Products of 2, 4, 8, ... neighbours, until they reach over the axis."""
    if op.input(0).dtype == "int64":
        raise Unsupported("products of int64 may not fit int32, in which the device computes")
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
    return op.entry(k.cast(ones, carrier_of(dtype)), dtype, (0, 1))


@rule("Trilu")
def _triangle(op: Operator) -> Entry:
    k, x = op.k, op.value(0)
    plane = x.shape[-2:]
    offset = k.iota(plane, 1) - k.iota(plane, 0)
    diagonal = k.reshape(op.value(1), ()) if op.has(1) else 0
    keep = offset >= diagonal if op.attribute("upper", 1) else offset <= diagonal
    bounds = hull([op.input(0)])
    wider = None if bounds is None else (min(bounds[0], 0), max(bounds[1], 0))
    return op.entry(k.select(keep, x, zero_of(x)), bounds=wider)


def zero_of(value: Value) -> float | int | bool:
    """Nothing, in the kind of a value's dtype."""
    kind = DTYPES[value.dtype].kind
    return False if kind == "bool" else 0.0 if kind == "float" else 0
