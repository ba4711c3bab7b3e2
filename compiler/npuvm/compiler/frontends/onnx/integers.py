"""Integers of models on a device that computes in int32: how far values reach, and results that wrap as those of the source."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, isfinite

import numpy as np

from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.graph.carriers import CARRIERS
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = [
    "FLOATS", "RANGES", "Bounds", "bounds_of", "carried", "computable", "divided", "integer", "is_integer", "reach_of",
    "rounded_out", "wrapped",
]  # fmt: skip

Bounds = tuple[int, int]

FLOATS = ("float32", "float16", "bfloat16")
"""Floating dtypes that the vector unit computes in."""

_INT32: Bounds = (-(1 << 31), (1 << 31) - 1)

RANGES: Mapping[str, Bounds] = {
    "bool": (0, 1),
    "int2": (-2, 1),
    "uint2": (0, 3),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "uint16": (0, (1 << 16) - 1),
    "int32": _INT32,
    "int64": _INT32,
}
"""Least and largest values of integers on the device. int64 is carried in int32, which is checked at the model's boundary."""


_SMALL = 1 << 12
"""Elements of the largest constant of floats whose range is looked at; that of a weight is of no use."""


def is_integer(dtype: str) -> bool:
    """Whether the device carries it as an integer (bool is none)."""
    return dtype in RANGES and dtype != "bool"


def bounds_of(entry: Entry) -> Bounds:
    """The least and the largest integer that a value can hold on the device."""
    if entry.const is not None and entry.const.size and entry.dtype in RANGES:
        return int(entry.const.min()), int(entry.const.max())
    if entry.bounds is not None:
        return entry.bounds
    return RANGES[entry.dtype] if entry.sizes is None else (0, _INT32[1])


def reach_of(entry: Entry) -> tuple[float, float] | None:
    """The least and the largest number that a value can hold, infinities and NaN aside; None where that is not known."""
    if entry.dtype in RANGES:
        return bounds_of(entry)
    if entry.const is not None and entry.dtype in FLOATS and 0 < entry.const.size <= _SMALL:
        finite = entry.const[np.isfinite(entry.const)]
        return (float(finite.min()), float(finite.max())) if finite.size else None
    return entry.bounds if entry.dtype in FLOATS else None


def rounded_out(low: float, high: float, dtype: str) -> Bounds | None:
    """Whole bounds of floats between two numbers that were rounded to a dtype; None where they are too large to be of use."""
    if not (isfinite(low) and isfinite(high)) or max(abs(low), abs(high)) > 1e30:
        return None
    part = 2.0**-20 if dtype == "float32" else 2.0**-6
    return floor(low - abs(low) * part), ceil(high + abs(high) * part)


def computable(op: Operator, which: int | Entry) -> Value:
    """A tensor in a dtype that the vector unit computes in: a float, or int32 for all integers and bool."""
    entry = op.input(which) if isinstance(which, int) else which
    if entry.dtype not in FLOATS and entry.dtype not in RANGES:
        raise Unsupported(f"the device does not compute in {entry.dtype}")
    value = op.value(entry)
    return op.k.cast(value, "int32") if value.dtype in ("int8", "bool") else value


def integer(op: Operator, value: Value, dtype: str, bounds: Bounds) -> Entry:
    """What was computed in int32, of which the true result is in `bounds`, as a value of an integer dtype, wrapped as it wraps.

    Unsupported for int64 that int32 may not hold.
    """
    least, largest = RANGES[dtype]
    if least <= bounds[0] and bounds[1] <= largest:
        return op.entry(carried(op.k, value, dtype), dtype, bounds)
    if dtype == "int64":
        raise Unsupported("int64 results may not fit int32, in which the device computes")
    return op.entry(carried(op.k, wrapped(op.k, value, dtype), dtype), dtype, (least, largest))


def carried(k: KernelBuilder, value: Value, dtype: str) -> Value:
    """An int32 tensor, its values in range, in the dtype that carries `dtype`."""
    return k.cast(value, CARRIERS[dtype])


def wrapped(k: KernelBuilder, value: Value, dtype: str) -> Value:
    """An int32 tensor with its values taken into the range of a dtype, modulo its size."""
    least, largest = RANGES[dtype]
    if dtype in ("int32", "int64"):
        return value
    if least == 0:
        return k.logical_and(value, largest)
    return k.sub(k.logical_and(k.sub(value, least), largest - least), -least)


def divided(k: KernelBuilder, a: Value, b: Value) -> tuple[Value, Value]:
    """Quotient, rounded down, and remainder, with the sign of the divisor, of int32 tensors. Both are 0 where `a` is.

    The quotient is guessed in fp32, whose error is below 2^-22 of it; a second guess for what is left is off by one at most.
    """
    wide = k.cast(b, "fp32")
    quotient = k.cast(k.div(k.cast(a, "fp32"), wide), "int32")
    rest = k.sub(a, k.mul(quotient, b))
    more = k.cast(k.floor(k.div(k.cast(rest, "fp32"), wide)), "int32")
    quotient, rest = k.add(quotient, more), k.sub(rest, k.mul(more, b))
    for _ in range(2):
        down = k.logical_and(k.ne(rest, 0), k.lt(k.mul(k.sign(rest), k.sign(b)), 0))
        rest = k.select(down, k.add(rest, b), rest)
        quotient = k.select(down, k.sub(quotient, 1), quotient)
    up = k.select(k.gt(b, 0), k.ge(rest, b), k.le(rest, b))
    return k.select(up, k.add(quotient, 1), quotient), k.select(up, k.sub(rest, b), rest)
