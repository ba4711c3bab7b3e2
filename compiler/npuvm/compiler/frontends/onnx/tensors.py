"""Tensors that are made of sizes and attributes: constants of a shape, ranges."""

from __future__ import annotations

from onnx import numpy_helper

from npuvm.compiler.deduction import ANY_SIZE
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import Bounds, is_integer
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.types import DTYPES

__all__: list[str] = []


@rule("ConstantOfShape")
def _constant_of_shape(op: Operator) -> Entry:
    given = op.attribute("value")
    array = numpy_helper.to_array(given) if given is not None else None
    dtype = "float32" if array is None else str(array.dtype)
    carrier = carrier_of(dtype)
    number = 0.0 if array is None else array.reshape(()).item()
    if DTYPES[carrier].kind == "float":
        number = float(number)
    filled = op.k.broadcast_to(op.k.const(number, carrier), [op.dim(size) for size in op.sizes(0).ravel()])
    bounds = (int(number), int(number)) if is_integer(dtype) else None
    return op.entry(filled, dtype, bounds)


@rule("Range")
def _range(op: Operator) -> Entry:
    """Integers whose bounds follow from sizes, one apart or constantly more."""
    dtype = op.input(0).dtype
    if not is_integer(dtype):
        raise Unsupported(f"how many numbers of {dtype} there are follows from data")
    start, stop, step = (op.sizes(at).item() for at in range(3))
    each = step.constant()
    if each is None or each == 0:
        raise Unsupported("the step of a range is not a constant")
    table = op.lowering.sizes
    span = stop - start if each > 0 else start - stop
    count = op.dim(table.floor_div(table.most(span, Sum()) + sum_of(abs(each) - 1), abs(each)))
    k = op.k
    numbers = k.iota((count,))
    if each != 1:
        numbers = numbers * each
    first = start.constant()
    if first != 0:
        base = k.const(first, "int32") if first is not None else k.size((op.dim(start),), "int32")
        numbers = numbers + base
    return op.entry(numbers, dtype, _ends(op, start, stop, forward=each > 0))


def _ends(op: Operator, start: Sum, stop: Sum, forward: bool) -> Bounds:
    """The least and the largest number of a range; that they are no larger than sizes are taken to be becomes a guard."""
    deduction = op.lowering.deduction
    for end in (start, stop):
        most = deduction.interval(end)[1]
        if deduction.interval(end, ANY_SIZE)[1] > most:
            deduction.at_most(end, most, op.source)
    (least, _), (_, largest) = (deduction.interval(each) for each in ((start, stop) if forward else (stop, start)))
    return min(least, largest), max(least, largest)
