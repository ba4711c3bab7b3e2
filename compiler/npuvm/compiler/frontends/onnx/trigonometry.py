"""Circular and hyperbolic functions and their inverses in fp32, of elementary operations.

Polynomials are those of the Cephes library (sinf, asinf, atanf), whose error is about one unit in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log, nan, pi

from npuvm.compiler.frontends.onnx.activations import in_fp32
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__: list[str] = []


def _polynomial(x: Value, factors: Sequence[float]) -> Value:
    """The value of a polynomial, the factor of the highest power first."""
    found = x * factors[0] + factors[1]
    for each in factors[2:]:
        found = found * x + each
    return found


def _signed(k: KernelBuilder, x: Value, magnitude: Value) -> Value:
    """An odd function of x from that of |x|; zeros keep their sign, and NaN stays."""
    return k.select(k.lt(x, 0.0), k.neg(magnitude), k.select(k.gt(x, 0.0), magnitude, x))


def _log1p(k: KernelBuilder, y: Value) -> Value:
    """log(1 + y) with y's precision for small y: the error that rounding 1 + y makes is the same in both factors."""
    whole = y + 1.0
    ratio = k.log(whole) * (y / (whole - 1.0))
    return k.select(k.eq(whole, 1.0), y, k.select(k.eq(whole, inf), whole, ratio))


def _arcsine(k: KernelBuilder, a: Value, cosine: bool) -> Value:
    """asin of |x|, or its complement to pi / 2; NaN beyond 1."""
    large = k.gt(a, 0.5)
    square = k.select(large, (1.0 - a) * 0.5, a * a)
    root = k.select(large, k.sqrt(square), a)
    factors = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)
    part = _polynomial(square, factors) * square * root + root
    if cosine:
        return k.select(large, part * 2.0, pi / 2 - part)
    return k.select(large, pi / 2 - part * 2.0, part)


def _asin(k: KernelBuilder, x: Value) -> Value:
    return _signed(k, x, _arcsine(k, k.abs(x), cosine=False))


def _acos(k: KernelBuilder, x: Value) -> Value:
    found = _arcsine(k, k.abs(x), cosine=True)
    return k.select(k.lt(x, 0.0), pi - found, found)


def _atan(k: KernelBuilder, x: Value) -> Value:
    a = k.abs(x)
    far, middle = k.gt(a, 2.414213562373095), k.gt(a, 0.4142135623730950)
    z = k.select(far, -1.0 / a, k.select(middle, (a - 1.0) / (a + 1.0), a))
    start = k.select(far, k.const(pi / 2, "fp32"), k.select(middle, k.const(pi / 4, "fp32"), 0.0))
    square = z * z
    part = _polynomial(square, (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1))
    return _signed(k, x, start + (part * square * z + z))


def _sinh(k: KernelBuilder, x: Value) -> Value:
    """Halves of e^x from squares of e^(x/2), which do not overflow before the result does; a series where they cancel."""
    a = k.abs(x)
    root = k.exp(a * 0.5)
    large = root * 0.5 * root - 0.5 / root / root
    square = a * a
    series = _polynomial(square, (1 / 362880, 1 / 5040, 1 / 120, 1 / 6)) * square * a + a
    return _signed(k, x, k.select(k.lt(a, 1.0), series, large))


def _cosh(k: KernelBuilder, x: Value) -> Value:
    root = k.exp(k.abs(x) * 0.5)
    return root * 0.5 * root + 0.5 / root / root


def _asinh(k: KernelBuilder, x: Value) -> Value:
    a = k.abs(x)
    square = a * a
    near = _log1p(k, a + square / (k.sqrt(square + 1.0) + 1.0))
    return _signed(k, x, k.select(k.gt(a, 1e9), k.log(a) + log(2), near))


def _acosh(k: KernelBuilder, x: Value) -> Value:
    above = x - 1.0
    near = _log1p(k, above + k.sqrt(above * (x + 1.0)))
    return k.select(k.lt(x, 1.0), nan, k.select(k.gt(x, 1e9), k.log(x) + log(2), near))


def _atanh(k: KernelBuilder, x: Value) -> Value:
    a = k.abs(x)
    return _signed(k, x, _log1p(k, a * 2.0 / (1.0 - a)) * 0.5)


@rule("Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")
def _function(op: Operator) -> Value:
    table = {
        "Asin": _asin,
        "Acos": _acos,
        "Atan": _atan,
        "Sinh": _sinh,
        "Cosh": _cosh,
        "Asinh": _asinh,
        "Acosh": _acosh,
        "Atanh": _atanh,
    }
    return in_fp32(op, table[op.type])
