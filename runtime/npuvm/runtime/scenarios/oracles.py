"""Inputs and expected results of the scenario operators, in plain numpy.

Nothing here knows the compiler or the chip: expectations are computed in float64 (integers in int64, wrapped) from the
inputs as they were rounded to their dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from npuvm.runtime.scenarios.schema import Case, ElementwiseCase, GemmShape, MatmulCase, Tolerance

__all__ = ["NUMPY_DTYPES", "Errors", "compare", "default_tolerance", "expected", "input_shapes", "make_inputs"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = Sequence[int] | GemmShape

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "int32": np.dtype(np.int32),
}

# One rounding to the dtype is half a unit in the last place; twice that is allowed.
_RELATIVE = {"fp32": 2.0**-22, "fp16": 2.0**-10, "bf16": 2.0**-7, "int32": 0.0}
# fp32 arithmetic of several steps (exponentials, sums of many terms) that is rounded to the dtype at the end.
_LONG_SUM = Tolerance(absolute=2e-5, relative=2e-5)
_TRANSCENDENTAL = Tolerance(absolute=2e-6, relative=1e-5)
_EXACT_OPS = {"add", "sub", "mul", "maximum", "minimum", "relu", "where", "scale_shift", "add_row", "mul_column"}

_erf = np.frompyfunc(math.erf, 1, 1)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.asarray(_erf(x / math.sqrt(2.0)), dtype=np.float64))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _layernorm(x: Array, weight: Array, bias: Array) -> Array:
    return np.asarray((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias)


def _rmsnorm(x: Array, weight: Array) -> Array:
    return np.asarray(x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6) * weight)


def _larger_or(a: Array, b: Array, c: Array) -> Array:
    return np.asarray(np.where(a > b, a, c))


_UNARY: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "sqrt": np.sqrt,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu": _gelu,
    "scale_shift": lambda x: x * 1.5 + 0.25,
    "cast_to_fp32": lambda x: x,
    "softmax": _softmax,
    "sum": lambda x: x.sum(axis=-1, keepdims=True),
    "max": lambda x: x.max(axis=-1, keepdims=True),
    "sum_rows": lambda x: x.sum(axis=-2, keepdims=True),
}
_OTHER: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": _larger_or,
    "add_row": np.add,
    "mul_column": np.multiply,
    "layernorm": _layernorm,
    "rmsnorm": _rmsnorm,
}
_EXTRA_INPUTS: dict[str, Callable[[Sequence[int]], list[tuple[int, ...]]]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum"), lambda shape: [tuple(shape)]),
    "where": lambda shape: [tuple(shape), tuple(shape)],
    "add_row": lambda shape: [(shape[-1],)],
    "mul_column": lambda shape: [(*shape[:-1], 1)],
    "layernorm": lambda shape: [(shape[-1],), (shape[-1],)],
    "rmsnorm": lambda shape: [(shape[-1],)],
}


def _no_extra(shape: Sequence[int]) -> list[tuple[int, ...]]:
    return []


def input_shapes(case: Case, shape: Shape) -> list[tuple[int, ...]]:
    """Shapes of the inputs of one run, in the order the operator takes them."""
    if isinstance(case, MatmulCase):
        assert isinstance(shape, GemmShape)
        batch = () if shape.batch is None else (shape.batch,)
        a = (shape.k, shape.m) if case.transpose_a else (shape.m, shape.k)
        b = (shape.n, shape.k) if case.transpose_b else (shape.k, shape.n)
        return [(*batch, *a), (*batch, *b)] + ([(shape.n,)] if case.bias else [])
    assert not isinstance(shape, GemmShape)
    return [tuple(shape), *_EXTRA_INPUTS.get(case.op, _no_extra)(shape)]


def make_inputs(case: Case, dtype: str, shape: Shape, rng: np.random.Generator) -> list[Array]:
    """Random inputs: normal for floats (positive where the operator needs it), the whole range for integers."""
    arrays: list[Array] = []
    for index, dims in enumerate(input_shapes(case, shape)):
        if dtype == "int32":
            info = np.iinfo(NUMPY_DTYPES[dtype])
            arrays.append(rng.integers(info.min, info.max, size=dims, dtype=NUMPY_DTYPES[dtype], endpoint=True))
            continue
        values = rng.standard_normal(dims, dtype=np.float32)
        if case.op == "sqrt" or (case.op == "div" and index == 1):
            values = np.abs(values) + np.float32(0.25)
        if isinstance(shape, GemmShape) and index < 2:
            values /= np.float32(max(1, shape.k) ** 0.25)  # products of size one, whatever k is
        arrays.append(values.astype(NUMPY_DTYPES[dtype]))
    return arrays


def expected(case: Case, inputs: Sequence[Array]) -> Array:
    """What the operator gives for the inputs, before rounding to the result's dtype."""
    wide = [array.astype(np.int64 if array.dtype.kind == "i" else np.float64) for array in inputs]
    if isinstance(case, MatmulCase):
        return _matmul(case, wide)
    result = _UNARY[case.op](wide[0]) if case.op in _UNARY else _OTHER[case.op](*wide)
    return result.astype(inputs[0].dtype) if result.dtype.kind == "i" else result


def _matmul(case: MatmulCase, wide: Sequence[Array]) -> Array:
    a = wide[0].swapaxes(-1, -2) if case.transpose_a else wide[0]
    b = wide[1].swapaxes(-1, -2) if case.transpose_b else wide[1]
    product = a @ b
    if case.bias:
        product = product + wide[2]
    if case.epilogue == "gelu":
        return _gelu(product)
    return np.maximum(product, 0.0) if case.epilogue == "relu" else product


def default_tolerance(case: Case, dtype: str) -> Tolerance:
    """What rounding allows: one rounding to the dtype plus the fp32 arithmetic before it."""
    relative = _RELATIVE[dtype]
    if isinstance(case, ElementwiseCase):
        if case.op in _EXACT_OPS or dtype == "int32":
            # two roundings in scale_shift; a sum near zero is exact, a product may be subnormal
            return Tolerance(absolute=0.0 if dtype == "int32" else 1e-7, relative=relative)
        inner = _TRANSCENDENTAL
    else:
        inner = _LONG_SUM
    return Tolerance(absolute=inner.absolute, relative=relative + inner.relative)


@dataclass(frozen=True)
class Errors:
    """Largest absolute error of a result, and largest error in units of what the tolerance allows (<= 1 passes)."""

    absolute: float
    of_allowed: float

    @property
    def ok(self) -> bool:
        """Whether every element is within its tolerance; an element that is not a number fails."""
        return self.of_allowed <= 1.0


def compare(result: Array, wanted: Array, tolerance: Tolerance) -> Errors:
    """Errors of `result` against `wanted` of the same shape; a wrong shape counts as infinitely wrong."""
    if result.shape != wanted.shape:
        return Errors(math.inf, math.inf)
    if result.size == 0:
        return Errors(0.0, 0.0)
    exact = wanted.astype(np.float64, copy=False)
    distance = np.abs(result.astype(np.float64, copy=False) - exact)
    allowed = tolerance.absolute + tolerance.relative * np.abs(exact)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(distance == 0.0, 0.0, distance / allowed)
    return Errors(_finite(distance.max()), _finite(share.max()))


def _finite(value: float) -> float:
    return math.inf if math.isnan(value) else float(value)
