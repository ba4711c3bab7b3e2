"""Quantisation, and convolutions of quantised images, with the rounding and the limits that ONNX asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuvm.compiler.frontends.onnx.attributes import dtype_name
from npuvm.compiler.frontends.onnx.convolution import convolved, fit_channels
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator, carrier_of
from npuvm.compiler.frontends.onnx.picking import axis_in, same_dims
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.frontends.onnx.spatial import Spatial, spatial_of
from npuvm.compiler.graph.sums import sum_of
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__ = ["LIMITS", "quantized"]

LIMITS: Mapping[str, tuple[int, int]] = {
    "int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1),
    "int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3),
}  # fmt: skip
"""The least and the largest number of dtypes that values are quantised to."""

_FP8 = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


@rule("QuantizeLinear")
def _quantize(op: Operator) -> Entry:
    k, x = op.k, op.value(0)
    scale = k.cast(_along(op, op.value(1), x.shape), "fp32")
    dtype = _quantized_dtype(op)
    numbers = k.cast(x, "fp32") / scale
    if dtype in _FP8:
        return op.entry(_as_fp8(op, numbers, dtype), dtype)
    if dtype not in LIMITS:
        raise Unsupported(f"the device has no {dtype}")
    zero = _along(op, op.value(2), x.shape) if op.has(2) else None
    return op.entry(quantized(op, numbers, zero, dtype), dtype, LIMITS[dtype])


def _quantized_dtype(op: Operator) -> str:
    if op.has(2):
        return op.input(2).dtype
    return dtype_name(op.attribute("output_dtype")) if op.attribute("output_dtype", 0) else "uint8"


def _as_fp8(op: Operator, numbers: Value, dtype: str) -> Value:
    if op.has(2) and not _is_zero(op, 2):
        raise Unsupported(f"a zero point of {dtype} must be a constant 0")
    if op.attribute("saturate", 1):
        most = _FP8[dtype]
        numbers = op.k.maximum(op.k.minimum(numbers, most), -most)
    return op.k.cast(numbers, carrier_of(dtype))


def quantized(op: Operator, numbers: Value, zero: Value | None, dtype: str) -> Value:
    """fp32 numbers rounded, ties to even, moved by the zero point and held within the dtype, in its carrier."""
    k, (least, most) = op.k, LIMITS[dtype]
    low: Value | float = float(least)
    high: Value | float = float(most)
    if zero is not None:
        zero = k.cast(zero, "int32")
        low, high = (limit - k.cast(zero, "fp32") for limit in (low, high))
    # Limits come before the zero point, so that no number leaves int32.
    whole = k.cast(k.minimum(k.maximum(k.rint(numbers), low), high), "int32")
    return k.cast(whole if zero is None else whole + zero, carrier_of(dtype))


@rule("DequantizeLinear")
def _dequantize(op: Operator) -> Entry:
    k, x = op.k, op.value(0)
    scale = k.cast(_along(op, op.value(1), x.shape), "fp32")
    whole = op.input(0).dtype in (*LIMITS, "int32")
    numbers = k.cast(x, "int32") if whole else x
    if op.has(2) and not _is_zero(op, 2):
        zero = _along(op, op.value(2), x.shape)
        if not whole:
            raise Unsupported(f"a zero point of {op.input(0).dtype} must be a constant 0")
        numbers = numbers - k.cast(zero, "int32")
    given = op.attribute("output_dtype", 0)
    dtype = dtype_name(given) if given else op.input(1).dtype
    return op.entry(k.cast(k.cast(numbers, "fp32") * scale, carrier_of(dtype)), dtype)


@rule("DynamicQuantizeLinear")
def _dynamic_quantize(op: Operator) -> list[Entry]:
    k, x = op.k, op.value(0)
    least, most = k.minimum(k.min(x), 0.0), k.maximum(k.max(x), 0.0)
    scale = (most - least) / 255.0
    scale = k.select(k.eq(scale, 0.0), 1.0, scale)
    zero = k.cast(k.rint(k.minimum(k.maximum((0.0 - least) / scale, 0.0), 255.0)), "int32")
    limits = LIMITS["uint8"]
    numbers = quantized(op, x / scale, zero, "uint8")
    return [op.entry(numbers, "uint8", limits), op.entry(scale, "float32"), op.entry(zero, "uint8", limits)]


def _along(op: Operator, x: Value, shape: Sequence[Dim]) -> Value:
    """A scale or zero point so that it broadcasts to a shape: one for all, for each place of an axis, or for a block of it."""
    k, rank = op.k, len(shape)
    if not x.shape or x.shape == (1,):
        return k.reshape(x, ())
    axis = axis_in(op, op.attribute("axis", 1), rank)
    block = op.attribute("block_size", 0)
    if not block:
        same_dims(op, x.shape, (shape[axis],))
        return k.reshape(x, (x.shape[0], *[1] * (rank - axis - 1)))
    table = op.lowering.sizes
    blocks = table.dim(table.floor_div(table.of(shape[axis]) + sum_of(block - 1), block))
    same_dims(op, x.shape, (*shape[:axis], blocks, *shape[axis + 1 :]))
    spread = (*x.shape[: axis + 1], block, *x.shape[axis + 1 :])
    apart = k.broadcast_to(k.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :])), spread)
    longer = op.dim(op.size(blocks).scaled(block))
    whole = k.reshape(apart, (*x.shape[:axis], longer, *x.shape[axis + 1 :]))
    return whole if longer == shape[axis] else k.split(whole, (shape[axis], -1), axis)[0]


def _is_zero(op: Operator, index: int) -> bool:
    """Whether an input is left out, or nothing but constant zeros."""
    if not op.has(index):
        return True
    const = op.input(index).const
    return const is not None and not const.astype("float32").any()


@rule("ConvInteger")
def _conv_integer(op: Operator) -> Entry:
    return op.entry(_integer_sums(op, (0, 2), (1, 3)), "int32")


@rule("QLinearConv")
def _quantized_conv(op: Operator) -> Entry:
    k, dtype = op.k, op.input(7).dtype
    sums = _integer_sums(op, (0, 2), (3, 5))
    shape = sums.shape
    if op.has(8):
        sums = sums + _by_filter(op, op.value(8), shape)
    factor, filters, wanted = (_by_filter(op, op.value(at), shape) for at in (1, 4, 6))
    scale, zero = factor * filters / wanted, _by_filter(op, op.value(7), shape)
    return op.entry(quantized(op, k.cast(sums, "fp32") * scale, zero, dtype), dtype, LIMITS[dtype])


def _by_filter(op: Operator, x: Value, image: Sequence[Dim]) -> Value:
    """One number for all, or one for each filter of an image."""
    if not x.shape or x.shape == (1,):
        return op.k.reshape(x, ())
    same_dims(op, x.shape, (image[1],))
    return op.k.reshape(x, (x.shape[0], *[1] * (len(image) - 2)))


def _integer_sums(op: Operator, image: tuple[int, int], kernels: tuple[int, int]) -> Value:
    """The convolution of what two inputs are above their zero points, exact in int32; inputs and zero points by number.

    The cube multiplies int8: with x = x' + a and w = w' + b, what the zero points add is taken from sums of x' and w'.
    """
    k = op.k
    x, x_zero = _as_int8(op, *image)
    w, w_zero = _as_int8(op, *kernels)
    fit_channels(op, x, w)
    groups = op.attribute("group", 1)
    spatial = spatial_of(op, x.shape[2:], w.shape[2:])
    sums = _sums(op, x, w, spatial, groups)
    one = k.const(1, "int8")
    ones = k.broadcast_to(one, (1, *x.shape[1:]))
    all_w = k.broadcast_to(one, w.shape)
    if x_zero is not None:
        sums = sums - k.reshape(x_zero, ()) * _sums(op, ones, w, spatial, groups)
    if w_zero is not None:
        column = _by_filter(op, w_zero, sums.shape)
        sums = sums - column * _sums(op, x, all_w, spatial, groups)
        if x_zero is not None:
            sums = sums + column * k.reshape(x_zero, ()) * _sums(op, ones, all_w, spatial, groups)
    return sums


def _sums(op: Operator, x: Value, w: Value, spatial: Spatial, groups: int) -> Value:
    return convolved(op, x, w, None, spatial, groups, "int32")


def _as_int8(op: Operator, index: int, zero: int) -> tuple[Value, Value | None]:
    """An input as int8, and its zero point (int32) moved as far; None where that is 0."""
    k, dtype = op.k, op.input(index).dtype
    if dtype not in ("int8", "uint8"):
        raise Unsupported(f"the device convolves int8 and uint8, not {dtype}")
    point = None if _is_zero(op, zero) else k.cast(op.value(zero), "int32")
    if dtype == "int8":
        return op.value(index), point
    moved = k.cast(op.value(index) - 128, "int8")
    return moved, k.const(-128, "int32") if point is None else point - 128
