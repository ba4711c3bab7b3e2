"""Resizing: nearest elements are repeated, sliced or picked by index, interpolations are products with a matrix for each axis.

Weights are computed by the same operators for sizes that are known now, which makes them constants, and for symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.elementwise import hull
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.indexing import picked
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.picking import axis_in, literal
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.ir import Graph
from npuvm.compiler.graph.model import Guard
from npuvm.compiler.graph.sums import sum_of
from npuvm.compiler.graph.types import DTYPES, Dim
from npuvm.compiler.interpreter.interpret import interpret
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = ["LARGEST_SCALED", "fraction_of"]

LARGEST_SCALED = 1 << 14
"""The largest of unknown sizes that a scale which is no whole number is applied to."""

_MOST_PARTS = 1 << 8
"""The largest denominator of such a scale, times the scale where that is more than 1."""

_CENTRED = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of `size` elements that becomes one of `count`; `scale` is None where it is their quotient."""

    axis: int
    size: Dim
    count: Dim
    scale: float | None

    @property
    def known(self) -> bool:
        return isinstance(self.size, int) and isinstance(self.count, int)

    @property
    def factor(self) -> int | None:
        """How often each element is repeated, where that is a whole number known now."""
        if isinstance(self.size, int) and isinstance(self.count, int):
            return self.count // self.size if self.size and self.count % self.size == 0 else None
        return int(self.scale) if self.scale is not None and self.scale == int(self.scale) else None


@rule("Resize")
def _resize(op: Operator) -> Value | Entry:
    x, mode = op.value(0), op.attribute("mode", "nearest")
    if op.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise Unsupported("the device resizes whole images, without a region of interest")
    axes = [each for each in _axes(op, x) if each.size != each.count or each.scale not in (None, 1.0)]
    if not _changed(op, axes):
        return op.input(0)
    if mode == "nearest":
        for each in axes:
            x = _nearest(op, x, each)
        return op.entry(x, bounds=hull([op.input(0)]))
    if mode not in ("linear", "cubic"):
        raise CompileError(f"Resize: mode '{mode}' is unknown", op.source)
    if DTYPES[x.dtype].kind != "float":
        raise Unsupported(f"the device interpolates floats, not {op.input(0).dtype}")
    dtype, wide = x.dtype, op.k.cast(x, "fp32")
    for each in axes:
        wide = _interpolated(op, wide, each)
    return op.k.cast(wide, dtype)


def _changed(op: Operator, axes: Sequence[_Axis]) -> bool:
    """Whether any axis gets another size; an image that keeps all its sizes stays as it is, also at a scale that is not 1."""
    open_axes = [each for each in axes if isinstance(each.size, str) and each.scale is not None and 1 < each.scale < 2]
    others = [each for each in axes if each not in open_axes]
    if any(each.size != each.count for each in others):
        return True
    if open_axes:
        size, count = op.size(open_axes[0].size), op.size(open_axes[0].count)
        guard = Guard(size + sum_of(1), "<=", count, op.source)
        if op.lowering.deduction.is_late(size):
            raise Unsupported(f"whether {open_axes[0].size} grows by {open_axes[0].scale} follows from data")
        op.lowering.deduction.guards.append(guard)
        return True
    return False


def _axes(op: Operator, x: Value) -> list[_Axis]:
    rank = len(x.shape)
    given = op.attribute("axes")
    axes = list(range(rank)) if given is None else [axis_in(op, each, rank) for each in given]
    if op.has(2) and (op.input(2).const is None or op.const(2).size):
        scales = op.const(2).astype(np.float32)
        _check_count(op, scales.size, axes)
        return [
            _Axis(axis, x.shape[axis], _scaled(op, x.shape[axis], scale), float(scale))
            for axis, scale in zip(axes, scales, strict=True)
        ]
    sizes = op.sizes(3).ravel()
    _check_count(op, sizes.size, axes)
    found = [_Axis(axis, x.shape[axis], op.dim(size), None) for axis, size in zip(axes, sizes, strict=True)]
    policy = op.attribute("keep_aspect_ratio_policy", "stretch")
    return found if policy == "stretch" else _in_proportion(op, found, policy)


def _check_count(op: Operator, count: int, axes: Sequence[int]) -> None:
    if count != len(axes):
        raise CompileError(f"Resize: {count} scales or sizes for {len(axes)} axes", op.source)


def _scaled(op: Operator, size: Dim, scale: np.float32) -> Dim:
    if scale <= 0:
        raise CompileError(f"Resize: scale {scale} must be above 0", op.source)
    if isinstance(size, int):
        return int(np.floor(np.float32(size) * scale))
    part = fraction_of(scale)
    if part is None:
        raise Unsupported(f"{size} times {scale} is no size that follows from symbols")
    table = op.lowering.sizes
    if part.denominator > 1:
        op.lowering.deduction.at_most(op.size(size), LARGEST_SCALED, op.source)
    return table.dim(table.floor_div(table.of(size).scaled(part.numerator), part.denominator))


def fraction_of(scale: np.float32) -> Fraction | None:
    """The fraction that gives the same sizes as products in fp32, rounded down, of all sizes up to `LARGEST_SCALED`.

    A product that is a whole number is rounded to it if the scale is not below its fraction, or by less than half of a
    rounding error; others are further from the next whole number than two errors, as long as numbers are small.
    """
    exact = Fraction(float(scale))
    near = exact.limit_denominator(_MOST_PARTS)
    off = exact / near - 1 if near else Fraction(1)
    if not -Fraction(1, 1 << 25) < off < Fraction(1, 1 << 24) or near.denominator * ceil(near) > _MOST_PARTS:
        return None
    return near


def _in_proportion(op: Operator, axes: Sequence[_Axis], policy: str) -> list[_Axis]:
    """One scale for all axes: the smallest or the largest that their sizes ask for."""
    scales = []
    for each in axes:
        if not isinstance(each.size, int) or not isinstance(each.count, int):
            raise Unsupported(f"keep_aspect_ratio_policy {policy} needs sizes that are known before the model runs")
        scales.append(np.float32(each.count) / np.float32(each.size))
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [
        _Axis(each.axis, each.size, int(np.floor(float(scale) * int(each.size) + 0.5)), float(scale)) for each in axes
    ]


def _nearest(op: Operator, x: Value, axis: _Axis) -> Value:
    mode = op.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = op.attribute("nearest_mode", "round_prefer_floor")
    if mode == "half_pixel_symmetric" and rounding in ("floor", "ceil"):
        raise Unsupported(f"the rounding error of {mode} decides which element the nearest by {rounding} is")
    repeats = (mode, rounding) == ("asymmetric", "floor") or (mode in _CENTRED and rounding.startswith("round"))
    if repeats and axis.factor is not None and axis.factor > 1:
        return _repeated(op, x, axis, axis.factor)

    def places(k: KernelBuilder) -> Value:
        found = _rounded(k, _coordinates(k, axis, mode), rounding)
        last = k.size((axis.size,)) - 1.0
        return k.cast(k.minimum(k.maximum(found, 0.0), last), "int32")

    if not axis.known:
        return op.k.gather(x, places(op.k), axis.axis)
    return picked(op, x, _computed(places).astype(np.int64), axis.axis)


def _rounded(k: KernelBuilder, x: Value, rounding: str) -> Value:
    match rounding:
        case "round_prefer_floor":
            return k.ceil(x - 0.5)
        case "round_prefer_ceil":
            return k.floor(x + 0.5)
        case "floor":
            return k.floor(x)
        case "ceil":
            return k.ceil(x)
    raise Unsupported(f"nearest_mode '{rounding}' is unknown")


def _repeated(op: Operator, x: Value, axis: _Axis, factor: int) -> Value:
    """Each element as often, one copy behind the other."""
    k, shape = op.k, x.shape
    before, behind = shape[: axis.axis + 1], shape[axis.axis + 1 :]
    spread = k.broadcast_to(k.reshape(x, (*before, 1, *behind)), (*before, factor, *behind))
    return k.reshape(spread, (*before[:-1], axis.count, *behind))


def _interpolated(op: Operator, x: Value, axis: _Axis) -> Value:
    """The product of an axis with its weights."""
    k, at, shape = op.k, axis.axis, x.shape

    def weights(builder: KernelBuilder) -> Value:
        return _weights(op, builder, axis)

    matrix = literal(op, f"weights{at}", _computed(weights)) if axis.known else weights(k)
    if at == len(shape) - 1:
        return k.matmul(x, matrix, transpose_b=True)
    if at == len(shape) - 2:
        return k.matmul(matrix, x)
    flat = k.matmul(matrix, k.reshape(x, (*shape[: at + 1], -1)))
    return k.reshape(flat, (*shape[:at], axis.count, *shape[at + 1 :]))


def _weights(op: Operator, k: KernelBuilder, axis: _Axis) -> Value:
    """[count, size]: what each element takes of each of the axis before; those outside count for the first and the last."""
    place = k.reshape(
        _coordinates(k, axis, op.attribute("coordinate_transformation_mode", "half_pixel")), (axis.count, 1)
    )
    numbers, last = k.iota((axis.count, axis.size), 1, "fp32"), k.size((axis.size,)) - 1.0
    linear, smooth = op.attribute("mode") == "linear", bool(op.attribute("antialias", 0))
    if linear and not smooth:
        inside = k.minimum(k.maximum(place, 0.0), last)
        return k.maximum(1.0 - k.abs(inside - numbers), 0.0)
    scale = _smallest_scale(axis) if smooth else 1.0
    first = k.floor(place)
    begin = floor(-(1 if linear else 2) / scale) + 1
    excluded = bool(op.attribute("exclude_outside", 0))
    total, taken = None, None
    for step in range(begin, 2 - begin):
        distance = (place - first - float(step)) * scale
        factor = k.maximum(1.0 - k.abs(distance), 0.0) if linear else _cubic(op, k, distance)
        at = first + float(step)
        part = k.select(k.eq(numbers, at if excluded else k.minimum(k.maximum(at, 0.0), last)), factor, 0.0)
        total, taken = (part, factor) if total is None or taken is None else (total + part, taken + factor)
    assert total is not None and taken is not None
    if excluded:
        return total / k.sum(total, 1, keepdims=True)
    return total / taken if smooth else total


def _smallest_scale(axis: _Axis) -> float:
    """How much narrower than an element the filter is; it is never wider."""
    if not isinstance(axis.size, int) or not isinstance(axis.count, int):
        raise Unsupported("a filter against aliasing needs sizes that are known before the model runs")
    return min(axis.scale if axis.scale is not None else float(np.float32(axis.count) / np.float32(axis.size)), 1.0)


def _cubic(op: Operator, k: KernelBuilder, distance: Value) -> Value:
    """The weight of an element at a distance, by two polynomials that are 0 from 2 on."""
    a, x = float(op.attribute("cubic_coeff_a", -0.75)), k.abs(distance)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return k.select(x <= 1.0, near, k.select(x < 2.0, far, 0.0))


def _scale(k: KernelBuilder, axis: _Axis) -> Value:
    if axis.scale is not None:
        return k.const(float(np.float32(axis.scale)), "fp32")
    return k.size((axis.count,)) / k.size((axis.size,))


def _coordinates(k: KernelBuilder, axis: _Axis, mode: str) -> Value:
    """Where in the axis before each element lies, fp32, in the order of onnxruntime's operations."""
    number, scale = k.iota((axis.count,), dtype="fp32"), _scale(k, axis)
    count, size = k.size((axis.count,)), k.size((axis.size,))
    match mode:
        case "half_pixel":
            return (number + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return k.select(count > 1.0, (number + 0.5) / scale - 0.5, 0.0)
        case "half_pixel_symmetric":
            adjustment = count / (scale * size)
            return size / 2.0 * (1.0 - adjustment) + (number + 0.5) / scale - 0.5
        case "align_corners":
            return number * (size - 1.0) / k.maximum(count - 1.0, 1.0)
        case "asymmetric":
            return number / scale
    raise Unsupported(f"coordinate_transformation_mode '{mode}' is unknown")


def _computed(build: Callable[[KernelBuilder], Value]) -> np.ndarray:
    """What operators without inputs give, now."""
    k = KernelBuilder(Graph("constant"))
    k.store(build(k), "found")
    return interpret(k.graph, {})["found"]
