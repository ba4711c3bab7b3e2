"""Sine, cosine and tangent in fp32 for any argument, of elementary operations.

x is n right angles and a rest r of at most half of one. Up to 8192 the rest comes from subtracting n times pi / 2 in four parts
(Cody and Waite); beyond, from the digits of x to the base 256, each times what 256^j right angles leave of four (as Payne and
Hanek do). The polynomials are those of the Cephes library (sinf, cosf).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import pi

from npuvm.compiler.frontends.onnx.activations import in_fp32
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__: list[str] = []

_PI = Fraction("3.14159265358979323846264338327950288419716939937510582097494459230781640629")
_LARGE = 8192.0
_HIGHEST, _LOWEST = 15, -2
"""Digits to the base 256 of what fp32 holds from 8192 on."""


@cache
def _parts(number: Fraction, bits: tuple[int, ...]) -> tuple[float, ...]:
    """A number as a sum: part i is a multiple of 2^-bits[i], the nearest one to what is left."""
    found = []
    for each in bits:
        part = Fraction(round(number * (1 << each)), 1 << each)
        found.append(float(part))
        number -= part
    return tuple(found)


@cache
def _left_of_four(digit: int) -> tuple[float, ...]:
    """How many right angles 256^digit is, without whole turns, in three parts whose products with a digit are exact."""
    right_angles = Fraction(256) ** digit * 2 / _PI
    return _parts(right_angles - 4 * round(right_angles / 4), (13, 28, 43))


def _small(k: KernelBuilder, x: Value) -> tuple[Value, Value]:
    """Right angles and rest of |x| up to 8192: 13 bits times 11 bits are exact."""
    angles = k.rint(x * (2 / pi))
    rest = x
    for part in _parts(_PI / 2, (10, 21, 32, 60)):
        rest = rest - angles * part
    return angles, rest


def _any(k: KernelBuilder, x: Value) -> tuple[Value, Value]:
    """Right angles, without whole turns, and rest of any number. Of its digits at most four are not 0."""
    left = x
    sums: list[Value | None] = [None, None, None]
    for digit in range(_HIGHEST, _LOWEST - 1, -1):
        place = 256.0**digit
        found = k.rint(left * (1 / place))
        left = left - found * place
        for at, part in enumerate(_left_of_four(digit)):
            term, total = found * part, sums[at]
            sums[at] = term if total is None else total + term
    high, middle, low = sums
    assert high is not None and middle is not None and low is not None
    angles = k.rint(high + middle)
    return angles, (((high - angles) + middle) + low) * (pi / 2)


def _reduced(k: KernelBuilder, x: Value) -> tuple[Value, Value]:
    near = k.lt(k.abs(x), _LARGE)
    small, large = _small(k, x), _any(k, x)
    return k.select(near, small[0], large[0]), k.select(near, small[1], large[1])


def _both(k: KernelBuilder, rest: Value) -> tuple[Value, Value]:
    """Sine and cosine of at most half a right angle."""
    z = rest * rest
    sine = ((z * -1.9515295891e-4 + 8.3321608736e-3) * z - 1.6666654611e-1) * z * rest + rest
    cosine = ((z * 2.443315711809948e-5 - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - z * 0.5 + 1.0
    return sine, cosine


def _turned(k: KernelBuilder, x: Value, ahead: float) -> Value:
    """The sine of x and `ahead` right angles."""
    angles, rest = _reduced(k, x)
    sine, cosine = _both(k, rest)
    place = angles + ahead if ahead else angles
    quarter = place - k.floor(place * 0.25) * 4.0
    odd = k.logical_or(k.eq(quarter, 1.0), k.eq(quarter, 3.0))
    found = k.select(odd, cosine, sine)
    return k.select(k.ge(quarter, 2.0), k.neg(found), found)


def _tangent(k: KernelBuilder, x: Value) -> Value:
    angles, rest = _reduced(k, x)
    sine, cosine = _both(k, rest)
    even = k.eq(k.floor(angles * 0.5) * 2.0, angles)
    return k.select(even, sine, k.neg(cosine)) / k.select(even, cosine, sine)


@rule("Sin", "Cos", "Tan")
def _circular(op: Operator) -> Value:
    if op.type == "Tan":
        return in_fp32(op, _tangent)
    return in_fp32(op, lambda k, x: _turned(k, x, 1.0 if op.type == "Cos" else 0.0))
