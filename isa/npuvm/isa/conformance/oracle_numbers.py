"""Numbers for the oracle: rounding to a data type, conversion, and the values at which data types have their edges.

Written apart from `npuvm.isa.numerics`. Everything is worked out in float64 or int64, which hold every value of every data type
and every product of two of them exactly, and is rounded by the arithmetic below, not by a cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FLOATS",
    "INTS",
    "STORAGE",
    "Array",
    "Float",
    "converted",
    "edge_values",
    "rounded",
    "stored",
    "storing",
    "tie_values",
    "value_classes",
    "wide",
]

Array: TypeAlias = NDArray[Any]

STORAGE: dict[str, np.dtype[Any]] = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "int32": np.dtype(np.int32),
    "int8": np.dtype(np.int8),
    "bool": np.dtype(np.bool_),
    "fp8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "fp8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
"""How each data type lies in memory."""

INTS: dict[str, int] = {"int32": 32, "int8": 8}
"""Bits of the integer types."""


@dataclass(frozen=True, slots=True)
class Float:
    """A binary float type: bits of its significand, exponent of its smallest normal number, its largest finite number."""

    bits: int
    low: int
    top: float
    infinite: bool = True

    @property
    def smallest(self) -> float:
        """The smallest number above 0."""
        return float(np.ldexp(1.0, self.low - self.bits + 1))

    @property
    def step(self) -> float:
        """The distance from 1 to the next number."""
        return float(np.ldexp(1.0, 1 - self.bits))


FLOATS: dict[str, Float] = {
    "fp32": Float(24, -126, (2 - 2.0**-23) * 2.0**127),
    "fp16": Float(11, -14, 65504.0),
    "bf16": Float(8, -126, (2 - 2.0**-7) * 2.0**127),
    "fp8_e4m3": Float(4, -6, 448.0, infinite=False),
    "fp8_e5m2": Float(3, -14, 57344.0),
}
"""The float types. fp8_e4m3 has no infinity: what is too large becomes NaN."""


def wide(values: Array) -> Array:
    """Stored values as float64, int64 or bool, exactly."""
    if values.dtype.kind == "b":
        return values
    return values.astype(np.int64 if values.dtype.kind == "i" else np.float64)


def rounded(values: Array, name: str) -> Array:
    """float64 values rounded to the nearest number of a float type, ties to even, as float64."""
    kind = FLOATS[name]
    _, exponent = np.frexp(values)
    quantum = np.ldexp(1.0, np.maximum(exponent - 1, kind.low) - (kind.bits - 1))
    nearest = np.where(np.isfinite(values), np.rint(values / quantum) * quantum, values)
    too_large = np.abs(nearest) > kind.top
    beyond = np.copysign(np.inf, nearest) if kind.infinite else np.full_like(nearest, np.nan)
    result: Array = np.where(too_large, beyond, nearest)
    return result


def stored(values: Array, name: str) -> Array:
    """Results as a type stores them: floats rounded to nearest even, integers wrapped, truth as it is."""
    if name in FLOATS:
        return rounded(np.asarray(values, np.float64), name).astype(STORAGE[name])
    if name == "bool":
        return values.astype(np.bool_)
    half = 1 << INTS[name] - 1
    return ((values.astype(np.int64) + half) % (2 * half) - half).astype(STORAGE[name])


def converted(values: Array, name: str) -> Array:
    """What a cast of float64, int64 or bool values to a type gives: to integers truncated and saturated, NaN as 0."""
    if name in FLOATS:
        return stored(values.astype(np.float64), name)
    if name == "bool":
        truth: Array = values != 0
        return truth
    half = 1 << INTS[name] - 1
    if values.dtype.kind == "f":
        whole = np.where(np.isnan(values), 0.0, np.trunc(values))
        return np.clip(whole, -half, half - 1).astype(np.int64).astype(STORAGE[name])
    return np.clip(values.astype(np.int64), -half, half - 1).astype(STORAGE[name])


def storing(values: Array, result: Array, name: str, beyond: str = "wrap") -> set[str]:
    """What became of exact values (float64, int64 or bool) when they were stored as a type: names of coverage bins.

    "tie": one lay half way between two numbers; "overflow": a finite one became infinite or NaN; `beyond`: an integer type
    could not hold one.
    """
    found = set()
    if name in FLOATS:
        exact, kept = values.astype(np.float64), wide(result)
        both = np.isfinite(exact) & np.isfinite(kept)
        _, exponent = np.frexp(np.where(both, exact, 1.0))
        quantum = np.ldexp(1.0, np.maximum(exponent - 1, FLOATS[name].low) - (FLOATS[name].bits - 1))
        off = np.abs(np.where(both, exact, 0.0) - np.where(both, kept, 0.0))
        if np.any(off == quantum / 2):
            found.add("tie")
        if np.any(np.isfinite(exact) & ~np.isfinite(kept)):
            found.add("overflow")
    elif name in INTS and values.dtype.kind != "b":
        half = 1 << INTS[name] - 1
        if np.any((values < -half) | (values >= half)):
            found.add(beyond)
    return found


def value_classes(values: Array) -> set[str]:
    """Which edges of their type stored values hold: names of coverage bins."""
    if values.dtype.kind == "b":
        return {"true" if value else "false" for value in np.unique(values)}
    exact = wide(values)
    if values.dtype.kind == "i":
        limits = np.iinfo(values.dtype)
        tests = {"zero": exact == 0, "minus-one": exact == -1, "min": exact == limits.min, "max": exact == limits.max}
    else:
        kind = FLOATS[next(name for name, dtype in STORAGE.items() if dtype == values.dtype)]
        size = np.abs(exact)
        tests = {
            "nan": np.isnan(exact),
            "inf": exact == np.inf,
            "minus-inf": exact == -np.inf,
            "zero": (exact == 0) & ~np.signbit(exact),
            "minus-zero": (exact == 0) & np.signbit(exact),
            "subnormal": (size > 0) & (size < 2.0**kind.low),
            "largest": size == kind.top,
        }
    return {name for name, found in tests.items() if np.any(found)}


_PLAIN = (1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.0, -7.25, 0.1, 3.14159265, 10.0, -100.0, 0.001, 2048.0, 256.0)
"""Ordinary numbers, among them halves between integers, and integers beside which 1 is half a step of fp16 and bf16."""

_WHOLE = {
    "int8": (0, 1, -1, 2, -2, 3, 7, -7, 10, -10, 63, 64, -64, 85, -86, 100, -100, 126, 127, -127, -128),
    "int32": (
        *(0, 1, -1, 2, -2, 3, 7, -7, 100, 127, 128, -128, -129, 255, 257, 259, 2049, 2051, 32767, -32768),
        *(65504, 65519, 65520, 65536, 16777215, 16777217, -16777219, 0x01010001, -0x01010001, 46341, -46341),
        *(0x55555555, 1 << 30, (1 << 31) - 64, (1 << 31) - 1, -(1 << 31)),
    ),
}  # fmt: skip
"""Integers at the limits of the types and at the ties and limits of the floats that they are cast to.

0x01010001 rounded to fp32 and then to bf16 is not what it is when rounded once.
"""


def edge_values(name: str) -> Array:
    """One-dimensional stored values of a type: zeros, subnormals, limits, infinities, NaN, halves, ordinary numbers."""
    if name == "bool":
        return np.array([False, True])
    if name in INTS:
        return np.array(_WHOLE[name], dtype=STORAGE[name])
    kind = FLOATS[name]
    normal = 2.0**kind.low
    signed = (0.0, kind.smallest, normal - kind.smallest, normal, 1 + kind.step, kind.top)
    values = [*signed, *(-v for v in signed), *_PLAIN, np.inf, -np.inf, np.nan]
    return stored(np.array(values), name)


def tie_values(source: str, target: str) -> Array:
    """Stored values of a type at and beside what lies half way between two numbers of a float type, and at its limits."""
    kind = FLOATS[target]
    halves = [1 + (k + 0.5) * kind.step for k in range(4)] + [(k + 0.5) * kind.smallest for k in range(4)]
    quantum = 2.0 ** (np.frexp(kind.top)[1] - kind.bits)
    halves += [kind.top + 0.5 * quantum, kind.top - 0.5 * quantum, kind.top + quantum, 2 * kind.top]
    exact = np.array([sign * value for value in halves for sign in (1.0, -1.0)])
    if source not in FLOATS:
        return stored(np.clip(np.trunc(exact), -(2.0**31), 2.0**31 - 1), source)
    beside = np.abs(exact) * FLOATS[source].step
    return stored(np.concatenate([exact, exact + beside, exact - beside]), source)
