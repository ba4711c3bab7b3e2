"""Operators that work element by element on numbers of one dtype: arithmetic, comparisons, logic, choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import ceil, floor, frexp, inf, isfinite

from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import (
    RANGES,
    Bounds,
    bounds_of,
    carried,
    computable,
    divided,
    integer,
    is_integer,
    reach_of,
    rounded_out,
)
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = ["combined", "operands"]

Combine = Callable[[KernelBuilder, Value, Value], Value]


def operands(op: Operator, *which: int) -> list[Value]:
    """Inputs in dtypes that the device computes in; their dims fit by broadcasting."""
    op.broadcast(*which)
    return [computable(op, each) for each in which]


Reach = tuple[float, float]
Interval = Callable[[Reach, Reach], Reach]


def combined(op: Operator, combine: Combine, interval: Interval) -> Entry:
    """All inputs, one after the other; `interval` gives the bounds of the exact result."""
    values = operands(op, *range(len(op.inputs)))
    result = reduce(lambda a, b: combine(op.k, a, b), values)
    dtype = op.input(0).dtype
    entries = [op.input(at) for at in range(len(values))]
    if is_integer(dtype):
        reaches: list[Reach] = [bounds_of(each) for each in entries]
        low, high = reduce(interval, reaches)
        return integer(op, result, dtype, (int(low), int(high)))
    return op.entry(result, bounds=_of_floats(entries, interval))


def _of_floats(entries: Sequence[Entry], interval: Interval) -> Bounds | None:
    """Bounds of a result of floats, rounded after each step."""
    found = reach_of(entries[0])
    for each in entries[1:]:
        other = reach_of(each)
        if found is None or other is None:
            return None
        found = rounded_out(*interval(found, other), entries[0].dtype)
    return None if found is None else rounded_out(*found, entries[0].dtype)


def _corners(function: Callable[[float, float], float]) -> Interval:
    """The interval of a function that takes its extremes where its arguments do."""

    def interval(a: Reach, b: Reach) -> Reach:
        found = [function(x, y) for x in a for y in b]
        return min(found), max(found)

    return interval


@rule("Add", "Sum")
def _add(op: Operator) -> Entry:
    return combined(op, KernelBuilder.add, _corners(lambda a, b: a + b))


@rule("Sub")
def _sub(op: Operator) -> Entry:
    return combined(op, KernelBuilder.sub, _corners(lambda a, b: a - b))


@rule("Mul")
def _mul(op: Operator) -> Entry:
    return combined(op, KernelBuilder.mul, _corners(lambda a, b: a * b))


@rule("Max")
def _max(op: Operator) -> Entry:
    return combined(op, KernelBuilder.maximum, _corners(max))


@rule("Min")
def _min(op: Operator) -> Entry:
    return combined(op, KernelBuilder.minimum, _corners(min))


@rule("Mean")
def _mean(op: Operator) -> Entry:
    wide = [op.k.cast(each, "fp32") for each in operands(op, *range(len(op.inputs)))]
    mean = op.k.div(reduce(op.k.add, wide), float(len(wide)))
    return op.entry(op.k.cast(mean, op.value(0).dtype))


@rule("Div")
def _div(op: Operator) -> Entry:
    a, b = operands(op, 0, 1)
    k, dtype = op.k, op.input(0).dtype
    if not is_integer(dtype):
        divisor = reach_of(op.input(1))
        apart = divisor is not None and (divisor[0] > 0 or divisor[1] < 0)
        entries = [op.input(0), op.input(1)]
        factor = _exact_inverse(op.input(1), op.input(0).rank)
        found = k.div(a, b) if factor is None else k.mul(a, factor)
        return op.entry(found, bounds=_of_floats(entries, _corners(lambda x, y: x / y)) if apart else None)
    quotient, rest = divided(k, a, b)
    least, largest = bounds_of(op.input(0))
    if least < 0 or bounds_of(op.input(1))[0] < 0:  # ONNX rounds towards zero
        up = k.logical_and(k.ne(rest, 0), k.lt(quotient, 0))
        quotient = k.select(up, k.add(quotient, 1), quotient)
    reach = max(-least, largest)
    return integer(op, quotient, dtype, (0 if least >= 0 else -reach, reach))


def _exact_inverse(entry: Entry, rank: int) -> float | None:
    """The inverse of a constant power of two, by which products are what quotients by the constant are; None for others."""
    if entry.const is None or entry.const.size != 1 or entry.const.ndim > rank:
        return None
    number = float(entry.const.item())
    part, exponent = frexp(number) if isfinite(number) else (0.0, 0)
    return 1 / number if abs(part) == 0.5 and abs(exponent) < 14 else None


@rule("Mod")
def _mod(op: Operator) -> Entry:
    dtype = op.input(0).dtype
    a, b = operands(op, 0, 1)
    if not is_integer(dtype):
        raise Unsupported("remainders of floats are not exact on the device")
    k = op.k
    _, rest = divided(k, a, b)
    if op.attribute("fmod", 0):  # the sign of the dividend, not of the divisor
        other = k.logical_and(k.ne(rest, 0), k.lt(k.mul(k.sign(rest), k.sign(a)), 0))
        rest = k.select(other, k.sub(rest, b), rest)
    least, largest = bounds_of(op.input(1))
    reach = max(abs(least), abs(largest)) - 1
    signed = bounds_of(op.input(0))[0] < 0 if op.attribute("fmod", 0) else least < 0
    return integer(op, rest, dtype, (max(-reach, RANGES[dtype][0]) if signed else 0, reach))


@rule("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def _bits(op: Operator) -> Entry:
    a, b = operands(op, 0, 1)
    combine = {"And": op.k.logical_and, "Or": op.k.logical_or, "Xor": op.k.logical_xor}[op.type.removeprefix("Bitwise")]
    dtype = op.input(0).dtype
    # Sign bits are repeated in the carrier, so that the result is in range without masking.
    return op.entry(carried(op.k, combine(a, b), dtype), dtype, RANGES[dtype])


@rule("BitwiseNot")
def _bitwise_not(op: Operator) -> Entry:
    dtype = op.input(0).dtype
    least, largest = RANGES[dtype]
    return integer(op, op.k.logical_xor(computable(op, 0), largest if least == 0 else -1), dtype, (least, largest))


@rule("BitShift")
def _bit_shift(op: Operator) -> Entry:
    """By products with, and quotients by, powers of two, as many as the bits of the distance say.

    A distance below zero or beyond the dtype's bits leaves 0, to the right copies of the sign.
    """
    a, places = operands(op, 0, 1)
    k, dtype = op.k, op.input(0).dtype
    if dtype == "int64":
        raise Unsupported("bits of int64 are not shifted in the int32 in which the device carries them")
    power = k.const(1, "int32")
    for bit in range(5):
        is_set = k.ne(k.logical_and(places, 1 << bit), 0)
        power = k.mul(k.select(is_set, k.const(1 << (1 << bit), "int32"), 1), power)
    least, largest = RANGES[dtype]
    inside = k.logical_and(k.ge(places, 0), k.lt(places, (largest - least).bit_length()))
    if op.attribute("direction") == "LEFT":
        reach = (largest + 1) * (largest + 1)
        return integer(op, k.select(inside, k.mul(a, power), 0), dtype, (-reach, reach))
    sign = k.select(k.lt(a, 0), k.const(-1, "int32"), 0)
    whole = k.logical_and(inside, k.lt(places, 31))
    return integer(op, k.select(whole, divided(k, a, power)[0], sign), dtype, RANGES[dtype])


@rule("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def _compare(op: Operator) -> Entry:
    a, b = operands(op, 0, 1)
    k = op.k
    compare = {"Equal": k.eq, "Greater": k.gt, "GreaterOrEqual": k.ge, "Less": k.lt, "LessOrEqual": k.le}[op.type]
    return op.entry(compare(a, b), "bool")


@rule("And", "Or", "Xor")
def _logical(op: Operator) -> Value:
    a, b = op.broadcast(0, 1)
    return {"And": op.k.logical_and, "Or": op.k.logical_or, "Xor": op.k.logical_xor}[op.type](a, b)


@rule("Not")
def _not(op: Operator) -> Value:
    return op.k.logical_not(op.value(0))


@rule("Where")
def _where(op: Operator) -> Entry:
    condition, a, b = op.broadcast(0, 1, 2)
    return op.entry(op.k.select(condition, a, b), op.input(1).dtype, hull([op.input(1), op.input(2)]))


def hull(entries: Sequence[Entry]) -> Bounds | None:
    """Bounds of a value whose elements come from those of others; None where one is not known."""
    found = [reach_of(each) for each in entries]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return None
    return floor(min(each[0] for each in known)), ceil(max(each[1] for each in known))


@rule("Clip")
def _clip(op: Operator) -> Entry:
    dtype, reach = op.input(0).dtype, reach_of(op.input(0)) or (-inf, inf)
    result = computable(op, 0)
    for at, limit, choose in ((1, op.k.maximum, max), (2, op.k.minimum, min)):
        if op.has(at):
            other = reach_of(op.input(at)) or (-inf, inf)
            if is_integer(dtype) and (other[1] <= reach[0] if at == 1 else other[0] >= reach[1]):
                continue  # nothing is beyond the limit, which int32 may not hold
            result = limit(result, computable(op, at))
            reach = choose(reach[0], other[0]), choose(reach[1], other[1])
    if is_integer(dtype):
        return integer(op, result, dtype, (int(reach[0]), int(reach[1])))
    return op.entry(result, bounds=rounded_out(*reach, dtype))


@rule("Abs", "Neg", "Sign")
def _sign_rules(op: Operator) -> Entry:
    dtype, value = op.input(0).dtype, computable(op, 0)
    result = {"Abs": op.k.abs, "Neg": op.k.neg, "Sign": op.k.sign}[op.type](value)
    reached = reach_of(op.input(0))
    if reached is None:
        return op.entry(result)
    least, largest = floor(reached[0]), ceil(reached[1])
    reach = max(abs(least), abs(largest))
    bounds = {"Abs": (0, reach), "Neg": (-largest, -least), "Sign": (-1 if least < 0 else 0, 1)}[op.type]
    return integer(op, result, dtype, bounds) if is_integer(dtype) else op.entry(result, bounds=bounds)
