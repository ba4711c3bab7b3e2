"""Convolutions and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.entries import Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.picking import literal, same_dims, whole_number
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.frontends.onnx.spatial import Spatial, spatial_of
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__ = ["convolved"]


@rule("Conv")
def _conv(op: Operator) -> Value:
    x, w = op.value(0), op.value(1)
    fit_channels(op, x, w)
    bias = op.value(2) if op.has(2) else None
    spatial = spatial_of(op, x.shape[2:], w.shape[2:])
    return convolved(op, x, w, bias, spatial, op.attribute("group", 1))


def fit_channels(op: Operator, x: Value, w: Value) -> None:
    """Deduce the channels of the image from those of the kernels."""
    if len(x.shape) != len(w.shape) or len(x.shape) < 3:
        raise CompileError(f"{op.type}: an image {x.type} and kernels {w.type} must have the same rank >= 3", op.source)
    op.equal(x.shape[1], op.dim(op.size(w.shape[1]).scaled(op.attribute("group", 1))))
    _fit_kernel(op, w)


def _fit_kernel(op: Operator, w: Value) -> None:
    same_dims(op, w.shape[2:], tuple(op.attribute("kernel_shape", w.shape[2:])))


def convolved(
    op: Operator,
    x: Value,
    w: Value,
    bias: Value | None,
    spatial: Spatial,
    groups: int,
    dtype: str | None = None,
) -> Value:
    """x [N, C, ...] with kernels [O, C / groups, ...] of one to three dims, padded with 0. `dtype` is that of the result."""
    if spatial.fixed is None:
        x, spatial = spatial.padded(op, x, 0), spatial.without_pads()
    pads = spatial.fixed
    assert pads is not None
    rank = len(spatial.strides)
    if rank == 3:
        return _volume(op, x, w, bias, replace(spatial, pads=pads), groups, dtype)
    if rank > 3:
        raise Unsupported(f"the device convolves over 1, 2 or 3 dims, not {rank}")
    method = op.k.conv1d if rank == 1 else op.k.conv2d
    return method(x, w, bias, spatial.strides, pads, spatial.dilations, groups, dtype=dtype)


def _volume(
    op: Operator, x: Value, w: Value, bias: Value | None, spatial: Spatial, groups: int, dtype: str | None
) -> Value:
    """Three dims as two: the planes that a kernel reaches over are channels of one image."""
    k, depth = op.k, whole_number(op, w.shape[2], "the depth of a kernel")
    padded = k.pad(x, {2: spatial.pads[0]}) if any(spatial.pads[0]) else x
    planes = k.windows(padded, 2, depth, spatial.strides[0], spatial.dilations[0])
    batch, channels, count, height, width, _ = planes.shape
    merged = op.dim(op.size(channels).scaled(depth))
    images = k.reshape(k.permute(planes, (0, 2, 1, 5, 3, 4)), (-1, merged, height, width))
    kernels = k.reshape(w, (w.shape[0], op.dim(op.size(w.shape[1]).scaled(depth)), *w.shape[3:]))
    flat = Spatial(spatial.kernel[1:], spatial.strides[1:], spatial.dilations[1:], spatial.pads[1:])
    found = convolved(op, images, kernels, bias, flat, groups, dtype)
    return k.permute(k.reshape(found, (batch, count, *found.shape[1:])), (0, 2, 1, 3, 4))


@rule("ConvTranspose")
def _conv_transpose(op: Operator) -> Value:
    """A convolution of the image with zeros between its elements, with kernels the other way around."""
    x, w = op.value(0), op.value(1)
    groups, count = op.attribute("group", 1), len(x.shape) - 2
    op.equal(x.shape[1], w.shape[0])
    _fit_kernel(op, w)
    bias = op.value(2) if op.has(2) else None
    plain = {"strides": [1] * count, "dilations": [1] * count, "output_padding": [0] * count}
    strides, dilations, extra = (op.attribute(name, default) for name, default in plain.items())
    kernel = Spatial(w.shape[2:], (1,) * count, tuple(dilations), ((0, 0),) * count)
    spread, pads = x, []
    for at in range(count):
        low, high = _cut(op, at, x.shape[2 + at], strides[at], kernel.spans[at] + extra[at])
        # What a stride leaves behind the last element counts as padding.
        ends = (kernel.spans[at] - 1 - low, kernel.spans[at] - strides[at] + extra[at] - high)
        spread = _cropped(op, _spread(op, spread, 2 + at, strides[at]), 2 + at, ends)
        pads.append((max(ends[0], 0), max(ends[1], 0)))
    return convolved(op, spread, _turned(op, groups), bias, replace(kernel, pads=tuple(pads)), groups)


def _cut(op: Operator, at: int, size: Dim, stride: int, reach: int) -> tuple[int, int]:
    """How many elements are cut from both ends of the whole result, which has stride * (size - 1) + reach."""
    shape, mode = op.attribute("output_shape"), op.attribute("auto_pad", "NOTSET")
    if shape is not None:
        wanted = shape[at]
        total = stride * (whole_number(op, size, "a size of an image with output_shape") - 1) + reach - wanted
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        total = max(reach - stride, 0)  # as onnxruntime does it for kernels that are shorter than a stride
    else:
        pads = op.attribute("pads")
        return (pads[at], pads[at + len(pads) // 2]) if pads and mode == "NOTSET" else (0, 0)
    if total < 0:  # zeros behind the whole result
        return 0, total
    less = total // 2
    return (less, total - less) if mode == "SAME_UPPER" else (total - less, less)


def _spread(op: Operator, x: Value, axis: int, stride: int) -> Value:
    """The image with stride - 1 zeros behind each element of an axis."""
    if stride == 1:
        return x
    k, shape = op.k, x.shape
    apart = k.pad(k.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :])), {axis + 1: (0, stride - 1)})
    longer = op.dim(op.size(shape[axis]).scaled(stride))
    return k.reshape(apart, (*shape[:axis], longer, *shape[axis + 1 :]))


def _cropped(op: Operator, x: Value, axis: int, ends: Sequence[int]) -> Value:
    """The image without as many elements as the ends are below zero."""
    low, high = (max(-each, 0) for each in ends)
    return op.k.slice(x, low, -high if high else None, axes=axis) if low or high else x


def _turned(op: Operator, groups: int) -> Value:
    """Kernels [C, O / groups, ...] as those of a convolution: [O, C / groups, ...], in reverse order."""
    k, const = op.k, op.input(1).const
    channels, filters, *kernel = op.input(1).dims
    spatial = tuple(range(3, 3 + len(kernel)))
    if const is not None:
        grouped = const.reshape(groups, const.shape[0] // groups, *const.shape[1:]).swapaxes(1, 2)
        turned = np.flip(grouped, spatial).reshape(-1, const.shape[0] // groups, *const.shape[2:])
        return literal(op, "turned", np.ascontiguousarray(turned))
    each = whole_number(op, channels, "the number of channels of kernels") // groups
    whole = op.dim(op.size(filters).scaled(groups))
    parts = k.reshape(op.value(1), (groups, each, filters, *kernel))
    swapped = k.reshape(k.permute(parts, (0, 2, 1, *spatial)), (whole, each, *kernel))
    return k.flip(swapped, tuple(range(2, 2 + len(kernel))))
