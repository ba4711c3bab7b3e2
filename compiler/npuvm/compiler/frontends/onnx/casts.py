"""Casts, and what passes its input on."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import numpy.typing as npt

from npuvm.compiler.frontends.onnx.attributes import dtype_name
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import FLOATS, RANGES, Bounds, bounds_of, integer, reach_of, rounded_out
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.frontends.onnx.small_floats import ROUNDED, rounded
from npuvm.compiler.language.value import Value

__all__: list[str] = []

_FP8 = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
"""Floats of eight bits, and the largest of each."""


@rule("Cast")
def _cast(op: Operator) -> Entry:
    return cast(op, dtype_name(op.attribute("to")))


@rule("CastLike")
def _cast_like(op: Operator) -> Entry:
    return cast(op, op.input(1).dtype)


def cast(op: Operator, target: str) -> Entry:
    """Input 0 in another dtype of the source, as ONNX casts."""
    entry = op.input(0)
    if target == entry.dtype:
        return entry
    carrier_of(target)
    if entry.dtype in RANGES:
        return _from_integer(op, entry, target)
    value = op.value(0)
    if target in FLOATS:
        return op.entry(op.k.cast(value, carrier_of(target)), target, _rounded(entry, target))
    if target in _FP8 or target in ROUNDED:
        return _to_fp8(op, value, target)
    if target == "bool":
        return op.entry(op.k.cast(value, "bool"), target)
    least, largest = RANGES["int32"]
    reach = reach_of(entry)
    if target == "int64" and (reach is None or reach[0] < least or largest < reach[1]):
        raise Unsupported("floats may be larger than the int32 in which the device carries int64")
    bounds = (least, largest) if reach is None else (max(floor(reach[0]), least), min(ceil(reach[1]), largest))
    return integer(op, op.k.cast(value, "int32"), target, bounds)


def _from_integer(op: Operator, entry: Entry, target: str) -> Entry:
    value, k = op.value(entry), op.k
    if target == "bool":
        return op.entry(k.cast(value, "bool"), target)
    if target in RANGES:
        return integer(op, k.cast(value, "int32"), target, bounds_of(entry))
    if target in _FP8 or target in ROUNDED:
        return _to_fp8(op, k.cast(value, "fp32"), target)
    return op.entry(k.cast(value, carrier_of(target)), target, _rounded(entry, target))


def _rounded(entry: Entry, target: str) -> Bounds | None:
    reach = reach_of(entry)
    return None if reach is None else rounded_out(*reach, target)


def _to_fp8(op: Operator, value: Value, target: str) -> Entry:
    """Numbers beyond the largest one become that, or with saturate=0 what the dtype has for them."""
    wide = op.k.cast(value, "fp32")
    if target in ROUNDED:
        return op.entry(rounded(op.k, wide, target, bool(op.attribute("saturate", 1))), target)
    if op.attribute("saturate", 1):
        wide = op.k.maximum(op.k.minimum(wide, _FP8[target]), -_FP8[target])
    return op.entry(op.k.cast(wide, carrier_of(target)), target)


@rule("Identity")
def _identity(op: Operator) -> Entry:
    return op.input(0)


@rule("Dropout")
def _dropout(op: Operator) -> list[Entry | npt.NDArray[np.bool_]]:
    if op.has(2) and bool(op.const(2)) and not (op.has(1) and float(op.const(1)) == 0.0):
        raise Unsupported("dropout in training draws random numbers")
    results: list[Entry | npt.NDArray[np.bool_]] = [op.input(0)]
    if op.outputs > 1:
        mask = op.k.broadcast_to(op.k.const(True, "bool"), op.value(0).shape)
        results.append(op.entry(mask, "bool"))
    return results
