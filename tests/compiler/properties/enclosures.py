"""Values with a bound of their error: what a kernel may differ by from exact arithmetic, element by element.

The value is float64 and not rounded on the way; the error is what roundings of the dtype, and errors of the inputs, come to at
most. Units in the last place are whole, twice what correct rounding needs. An error that is not finite means that the element
says nothing: an overflow, or a decision that rounding may turn over and that changes too much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ULP = {"fp32": 2.0**-23, "fp16": 2.0**-10, "bf16": 2.0**-7, "int32": 0.0, "bool": 0.0}
TINY = {"fp32": 2.0**-126, "fp16": 2.0**-24, "bf16": 2.0**-126, "int32": 0.0, "bool": 0.0}
MOST = {"fp32": 3e38, "fp16": 65000.0, "bf16": 3e38, "int32": 2.0**31 - 1, "bool": 1.0}

EXP_BASED = 4e-6
"""Absolute error of tanh, sigmoid, erf and their like in fp32, for arguments of a few units (`selection.legalize`)."""


@dataclass(frozen=True)
class Enclosure:
    """Values and their errors, of equal shapes, as an array of `dtype` would hold them."""

    value: Array
    error: Array
    dtype: str

    def contains(self, actual: Array) -> Array:
        """Which elements of an array are as they may be."""
        with np.errstate(invalid="ignore"):
            away = np.abs(actual.astype(np.float64) - self.value)
            return np.asarray((away <= self.error) | ~self.known)

    @property
    def known(self) -> Array:
        """Which elements say something."""
        return np.asarray(np.isfinite(self.error) & np.isfinite(self.value))


def exact(array: Array, dtype: str) -> Enclosure:
    """An input."""
    return Enclosure(array.astype(np.float64), np.zeros(array.shape), dtype)


def rounded(value: Array, error: Array, dtype: str, ulps: float = 1.0) -> Enclosure:
    """A result that is rounded to the dtype, with so many units in the last place; what may overflow is unknown."""
    value, error = np.broadcast_arrays(np.asarray(value, np.float64), np.asarray(error, np.float64))
    error = error + ulps * ULP[dtype] * (np.abs(value) + error) + TINY[dtype]
    if ULP[dtype] == 0:
        error = error - TINY[dtype]
    return Enclosure(value, np.where(np.abs(value) + error <= MOST[dtype], error, np.inf), dtype)


def monotone(function: Callable[[Array], Array], x: Enclosure, ulps: float = 1.0, absolute: float = 0.0) -> Enclosure:
    """A function that nowhere turns round between x - error and x + error."""
    value = function(x.value)
    error = np.maximum(np.abs(function(x.value + x.error) - value), np.abs(function(x.value - x.error) - value))
    return rounded(value, error + absolute, x.dtype, ulps)


def smooth(function: Callable[[Array], Array], x: Enclosure, slope: float, absolute: float) -> Enclosure:
    """A function whose slope is nowhere steeper than `slope`."""
    return rounded(function(x.value), slope * x.error + absolute, x.dtype, 4.0)


def add(a: Enclosure, b: Enclosure) -> Enclosure:
    return rounded(a.value + b.value, a.error + b.error, a.dtype)


def subtract(a: Enclosure, b: Enclosure) -> Enclosure:
    return rounded(a.value - b.value, a.error + b.error, a.dtype)


def multiply(a: Enclosure, b: Enclosure) -> Enclosure:
    error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    return rounded(a.value * b.value, error, a.dtype)


def divide(a: Enclosure, b: Enclosure) -> Enclosure:
    quotient = a.value / b.value
    least = np.abs(b.value) - b.error
    error = np.where(least > 0, (a.error + np.abs(quotient) * b.error) / least, np.inf)
    return rounded(quotient, error, a.dtype, 4.0)


def extreme(a: Enclosure, b: Enclosure, largest: bool) -> Enclosure:
    value = (np.maximum if largest else np.minimum)(a.value, b.value)
    return Enclosure(value, np.broadcast_to(np.maximum(a.error, b.error), value.shape), a.dtype)


def less(a: Enclosure, b: Enclosure) -> Enclosure:
    """Whether a < b; unsure where the errors reach over."""
    unsure = ~(np.abs(a.value - b.value) > a.error + b.error) & ((a.error > 0) | (b.error > 0))
    return Enclosure((a.value < b.value).astype(np.float64), np.where(unsure, 1.0, 0.0), "bool")


def select(condition: Enclosure, a: Enclosure, b: Enclosure) -> Enclosure:
    chosen = condition.value != 0
    value = np.where(chosen, a.value, b.value)
    other = np.abs(a.value - b.value) + np.maximum(a.error, b.error)
    error = np.where(condition.error > 0, other, np.where(chosen, a.error, b.error))
    return Enclosure(value, np.broadcast_to(error, value.shape), a.dtype)


def cast(x: Enclosure, dtype: str) -> Enclosure:
    """To a float or to int32, which cuts and saturates."""
    if dtype == "int32" and x.dtype != "int32":
        value = np.trunc(x.value)
        error = np.maximum(np.abs(np.trunc(x.value + x.error) - value), np.abs(np.trunc(x.value - x.error) - value))
        return rounded(value, error, dtype)
    return rounded(x.value, x.error, dtype)


def total(x: Enclosure, axes: tuple[int, ...], keepdims: bool, mean: bool) -> Enclosure:
    """A sum or mean in any order of additions, each rounded to the dtype."""
    count = prod(x.value.shape[axis] for axis in axes)
    size = np.sum(np.abs(x.value) + x.error, axis=axes, keepdims=keepdims)
    error = np.sum(x.error, axis=axes, keepdims=keepdims) + count * ULP[x.dtype] * size
    value = np.sum(x.value, axis=axes, keepdims=keepdims)
    safe = np.where(size <= MOST[x.dtype], error, np.inf)  # a partial sum may overflow where the whole does not
    return rounded(value / count, safe / count, x.dtype, 2.0) if mean else rounded(value, safe, x.dtype)


def best(x: Enclosure, axes: tuple[int, ...], keepdims: bool, largest: bool) -> Enclosure:
    """The largest or smallest along axes."""
    value = (np.max if largest else np.min)(x.value, axis=axes, keepdims=keepdims)
    return Enclosure(value, np.max(x.error, axis=axes, keepdims=keepdims), x.dtype)


def running(x: Enclosure, axis: int) -> Enclosure:
    """Sums of all elements up to each, in any order of additions."""
    size = np.cumsum(np.abs(x.value) + x.error, axis=axis)
    error = np.cumsum(x.error, axis=axis) + x.value.shape[axis] * ULP[x.dtype] * size
    return rounded(np.cumsum(x.value, axis=axis), np.where(size <= MOST[x.dtype], error, np.inf), x.dtype)


def product(a: Enclosure, b: Enclosure, bias: Enclosure | None, dtype: str) -> Enclosure:
    """A matrix product with sums in fp32, in any order, rounded once."""
    depth = a.value.shape[-1]
    value = np.matmul(a.value, b.value)
    size = np.matmul(np.abs(a.value) + a.error, np.abs(b.value) + b.error)
    error = size - np.matmul(np.abs(a.value), np.abs(b.value)) + (depth + 1) * ULP["fp32"] * size
    if bias is not None:
        value, error = value + bias.value, error + bias.error + ULP["fp32"] * (size + np.abs(bias.value))
    return rounded(value, error, dtype)


def moved(x: Enclosure, move: Callable[[Array], Array]) -> Enclosure:
    """Elements in other places."""
    return Enclosure(move(x.value), move(x.error), x.dtype)
