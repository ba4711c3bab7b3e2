"""Functions of one number, and of a number and parameters of its operator: activations, exponentials, rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, floor, inf, log, sqrt

from npuvm.compiler.frontends.onnx.elementwise import operands
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import FLOATS, Bounds, bounds_of, integer, is_integer, reach_of
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = ["floating", "in_fp32"]

_PLAIN: Mapping[str, Callable[[KernelBuilder, Value], Value]] = {
    "Ceil": KernelBuilder.ceil,
    "Erf": KernelBuilder.erf,
    "Exp": KernelBuilder.exp,
    "Floor": KernelBuilder.floor,
    "Log": KernelBuilder.log,
    "Reciprocal": KernelBuilder.reciprocal,
    "Round": KernelBuilder.rint,
    "Sigmoid": KernelBuilder.sigmoid,
    "Softplus": KernelBuilder.softplus,
    "Sqrt": KernelBuilder.sqrt,
    "Tanh": KernelBuilder.tanh,
}


def floating(op: Operator, index: int) -> Value:
    """An input that is a float of the vector unit."""
    if op.input(index).dtype not in FLOATS:
        raise Unsupported(f"{op.type} of {op.input(index).dtype} is not computed on the device")
    return op.value(index)


def in_fp32(op: Operator, function: Callable[[KernelBuilder, Value], Value]) -> Value:
    """A function of input 0 that is computed in fp32 and rounded once to the dtype of the input."""
    value = floating(op, 0)
    return op.k.cast(function(op.k, op.k.cast(value, "fp32")), value.dtype)


@rule(*_PLAIN)
def _plain(op: Operator) -> Entry:
    return op.entry(_PLAIN[op.type](op.k, floating(op, 0)), bounds=_reach(op.type, op.input(0)))


def _reach(type_: str, entry: Entry) -> Bounds | None:
    """Bounds of the finite results of a function, where they follow."""
    fixed = {"Erf": (-1, 1), "Sigmoid": (0, 1), "Tanh": (-1, 1)}
    found = reach_of(entry)
    if type_ == "Log":  # of the smallest fp32 it is -103.3, of the largest 88.7
        return -104, 89 if found is None else ceil(log(max(found[1], 1.0))) + 1
    if found is not None and type_ in ("Ceil", "Floor", "Round"):
        return floor(found[0]), ceil(found[1])
    if found is not None and type_ == "Sqrt" and found[1] >= 0:
        return 0, ceil(sqrt(found[1])) + 1
    return fixed.get(type_)


@rule("Relu")
def _relu(op: Operator) -> Entry:
    dtype = op.input(0).dtype
    if not is_integer(dtype):
        return op.entry(op.k.relu(floating(op, 0)))
    (value,) = operands(op, 0)
    least, largest = bounds_of(op.input(0))
    return integer(op, op.k.relu(value), dtype, (max(least, 0), max(largest, 0)))


@rule("LeakyRelu")
def _leaky_relu(op: Operator) -> Value:
    alpha = float(op.attribute("alpha", 0.01))
    return in_fp32(op, lambda k, x: k.select(k.lt(x, 0.0), x * alpha, x))


@rule("PRelu")
def _prelu(op: Operator) -> Value:
    x, slope = floating(op, 0), floating(op, 1)
    op.broadcast(0, 1)
    return op.k.select(op.k.lt(x, 0.0), x * slope, x)


@rule("ThresholdedRelu")
def _thresholded_relu(op: Operator) -> Value:
    alpha = float(op.attribute("alpha", 1.0))
    return in_fp32(op, lambda k, x: k.select(k.gt(x, alpha), x, 0.0))


@rule("Elu", "Selu", "Celu")
def _exponential_units(op: Operator) -> Value:
    alpha = float(op.attribute("alpha", 1.6732632423543772 if op.type == "Selu" else 1.0))
    gamma = float(op.attribute("gamma", 1.0507009873554805)) if op.type == "Selu" else 1.0
    inner = alpha if op.type == "Celu" else 1.0

    def unit(k: KernelBuilder, x: Value) -> Value:
        below = (k.exp(x / inner if inner != 1.0 else x) - 1.0) * alpha
        found = k.select(k.lt(x, 0.0), below, x)
        return found * gamma if gamma != 1.0 else found

    return in_fp32(op, unit)


@rule("HardSigmoid")
def _hard_sigmoid(op: Operator) -> Value:
    alpha, beta = float(op.attribute("alpha", 0.2)), float(op.attribute("beta", 0.5))
    return in_fp32(op, lambda k, x: k.maximum(k.minimum(x * alpha + beta, 1.0), 0.0))


@rule("HardSwish")
def _hard_swish(op: Operator) -> Value:
    return in_fp32(op, lambda k, x: x * k.maximum(k.minimum(x * (1.0 / 6.0) + 0.5, 1.0), 0.0))


@rule("Softsign")
def _softsign(op: Operator) -> Value:
    return in_fp32(op, lambda k, x: x / (k.abs(x) + 1.0))


@rule("Swish")
def _swish(op: Operator) -> Value:
    alpha = float(op.attribute("alpha", 1.0))
    if alpha == 1.0:
        return op.k.silu(floating(op, 0))
    return in_fp32(op, lambda k, x: x * k.sigmoid(x * alpha))


@rule("Gelu")
def _gelu(op: Operator) -> Value:
    return op.k.gelu(floating(op, 0), op.attribute("approximate", "none"))


@rule("Mish")
def _mish(op: Operator) -> Value:
    """tanh(log(1 + e^x)) is (n^2 + 2 n) / (n^2 + 2 n + 2) of n = e^x, and of e^-x for what is positive: no overflow."""

    def mish(k: KernelBuilder, x: Value) -> Value:
        small = k.exp(-k.abs(x))
        square = small * small
        above = k.lt(x, 0.0)
        top = k.select(above, square + small * 2.0, small * 2.0 + 1.0)
        bottom = k.select(above, square, square * 2.0) + small * 2.0 + k.select(above, k.const(2.0, "fp32"), 1.0)
        return x * (top / bottom)

    return in_fp32(op, mish)


@rule("Shrink")
def _shrink(op: Operator) -> Value:
    limit, bias = float(op.attribute("lambd", 0.5)), float(op.attribute("bias", 0.0))
    return in_fp32(
        op,
        lambda k, x: k.select(k.lt(x, -limit), x + bias, k.select(k.gt(x, limit), x - bias, 0.0)),
    )


@rule("IsNaN")
def _is_nan(op: Operator) -> Entry:
    x = floating(op, 0)
    return op.entry(op.k.ne(x, x), "bool")


@rule("IsInf")
def _is_inf(op: Operator) -> Entry:
    x, k = floating(op, 0), op.k
    above, below = op.attribute("detect_positive", 1), op.attribute("detect_negative", 1)
    if above and below:
        return op.entry(k.eq(k.abs(x), inf), "bool")
    if not above and not below:
        return op.entry(k.logical_and(k.ne(x, x), k.eq(x, x)), "bool")
    return op.entry(k.eq(x, inf if above else -inf), "bool")


@rule("Pow")
def _pow(op: Operator) -> Value:
    base = floating(op, 0)
    exponent = op.input(1)
    k = op.k
    if exponent.const is not None and exponent.const.size == 1 and exponent.const.item() in (1, 2, 3):
        op.broadcast(0, 1)
        if len(exponent.dims) <= op.input(0).rank:
            return _small_power(k, base, int(exponent.const.item()))
    op.broadcast(0, 1)
    (power,) = operands(op, 1)
    found = k.pow(k.cast(base, "fp32"), k.cast(power, "fp32"))
    return k.cast(found, base.dtype)


def _small_power(k: KernelBuilder, base: Value, exponent: int) -> Value:
    """The base 1 to 3 times, in fp32."""
    wide = result = k.cast(base, "fp32")
    for _ in range(exponent - 1):
        result = result * wide
    return k.cast(result, base.dtype)
