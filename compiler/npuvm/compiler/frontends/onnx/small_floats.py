"""Floats of eight and four bits that the device does not have: carried in fp16, which holds them all, and rounded to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import nan

from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = ["ROUNDED", "rounded"]

Magnitude = Callable[[KernelBuilder, Value, bool], Value]


def _e4m3fnuz(k: KernelBuilder, m: Value, saturate: bool) -> Value:
    """Half of what fp8_e4m3, whose exponents are one larger, makes of twice the number; it has no 480, which is 240 here."""
    found = k.select(k.gt(m, 232.0), 240.0, k.cast(k.cast(m * 2.0, "fp8_e4m3"), "fp32") * 0.5)
    return found if saturate else k.select(k.ge(m, 248.0), nan, found)


def _e5m2fnuz(k: KernelBuilder, m: Value, saturate: bool) -> Value:
    """As fp8_e5m2 makes it; up to 1 half of what that makes of twice the number, as exponents go down one further."""
    inside = k.minimum(m, 57344.0)
    small = k.cast(k.cast(k.minimum(inside, 1.0) * 2.0, "fp8_e5m2"), "fp32") * 0.5
    found = k.select(k.gt(m, 1.0), k.cast(k.cast(inside, "fp8_e5m2"), "fp32"), small)
    return found if saturate else k.select(k.ge(m, 61440.0), nan, found)


def _e2m1fn(k: KernelBuilder, m: Value, saturate: bool) -> Value:
    """Steps of a half up to 2, of 1 up to 4, of 2 up to 6, the largest."""
    large = k.minimum(k.rint(m * 0.5) * 2.0, 6.0)
    return k.select(k.lt(m, 2.0), k.rint(m * 2.0) * 0.5, k.select(k.lt(m, 4.0), k.rint(m), large))


ROUNDED: Mapping[str, Magnitude] = {
    "float8_e4m3fnuz": _e4m3fnuz,
    "float8_e5m2fnuz": _e5m2fnuz,
    "float4_e2m1fn": _e2m1fn,
}
"""How magnitudes in fp32 are rounded to a dtype, ties to even; what is too large becomes its largest, or NaN."""


def rounded(k: KernelBuilder, wide: Value, dtype: str, saturate: bool) -> Value:
    """fp32 numbers rounded to a dtype, in fp16. Zeros of dtypes without a negative one are positive."""
    found = ROUNDED[dtype](k, k.abs(wide), saturate)
    negative = k.lt(wide, 0.0)
    if dtype != "float4_e2m1fn":
        negative = k.logical_and(negative, k.ne(found, 0.0))
    return k.cast(k.select(negative, k.neg(found), found), "fp16")
