"""Sampling of images at places that are computed: rows of channels picked by index, weighed and added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.entries import Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.picking import number_of
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.types import DTYPES, Dim
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__: list[str] = []

_CUBIC = -0.75
"""The coefficient of cubic interpolation, which ONNX fixes for grids."""

_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@dataclass(frozen=True, slots=True)
class _Tap:
    """One element that takes part along an axis: its number (fp32, within the axis), its weight, and where there is one."""

    number: Value
    weight: Value | None
    valid: Value | None


@rule("GridSample")
def _grid_sample(op: Operator) -> Value:
    k, x, grid = op.k, op.value(0), op.value(1)
    count = len(x.shape) - 2
    mode = op.attribute("mode", "linear")
    mode = _MODES.get(mode, mode)
    if DTYPES[x.dtype].kind != "float" or DTYPES[grid.dtype].kind != "float":
        raise Unsupported(f"the device samples floats, not {op.input(0).dtype}")
    if mode not in ("linear", "nearest", "cubic") or (mode == "cubic" and count != 2):
        raise CompileError(
            f"GridSample: mode '{mode}' of {count} dims; allowed: linear, nearest, cubic of 2", op.source
        )
    op.equal(x.shape[0], grid.shape[0])
    op.equal(grid.shape[-1], count)
    places = k.cast(grid, "fp32")
    # The last dim of a grid names the last axis first.
    axes = [_taps(op, k.index(places, (..., count - 1 - at)), dim, mode) for at, dim in enumerate(x.shape[2:])]
    found = _sampled(op, x, grid.shape[:-1], axes)
    rank = len(x.shape)
    return k.permute(k.cast(found, x.dtype), (0, rank - 1, *range(1, rank - 1)))


def _sampled(op: Operator, x: Value, shape: Sequence[Dim], axes: Sequence[Sequence[_Tap]]) -> Value:
    """Images [N, C, ..] at places [*shape], the first dim that of the images: [*shape, C] in fp32."""
    k, rank = op.k, len(x.shape)
    table = k.permute(x, (0, *range(2, rank), 1))
    rows = k.reshape(table, (-1, x.shape[1]))
    images = k.iota(tuple(shape), 0)
    total: Value | None = None
    for taps in product(*axes):
        number, weight, valid = images, None, None
        for tap, dim in zip(taps, x.shape[2:], strict=True):
            number = number * number_of(op, (dim,)) + k.cast(tap.number, "int32")
            weight = tap.weight if weight is None else weight if tap.weight is None else weight * tap.weight
            valid = tap.valid if valid is None else valid if tap.valid is None else valid & tap.valid
        part = k.cast(k.gather(rows, number), "fp32")
        if weight is not None:
            part = part * k.reshape(weight, (*shape, 1))
        if valid is not None:
            part = k.select(k.reshape(valid, (*shape, 1)), part, 0.0)
        total = part if total is None else total + part
    assert total is not None
    return total


def _taps(op: Operator, given: Value, dim: Dim, mode: str) -> list[_Tap]:
    """What takes part along an axis of `dim` elements at places from -1 to 1."""
    k, corners = op.k, bool(op.attribute("align_corners", 0))
    padding = op.attribute("padding_mode", "zeros")
    size = k.size((dim,))
    low: Value | float = 0.0 if corners else -0.5
    high = size - 1.0 if corners else size - 0.5
    place = (given + 1.0) / 2.0 * (size - 1.0) if corners else ((given + 1.0) * size - 1.0) / 2.0
    if padding == "reflection":
        place = _reflected(k, place, low, high)
    elif padding not in ("zeros", "border"):
        raise CompileError(f"GridSample: padding_mode '{padding}' is unknown", op.source)
    if mode == "nearest":
        numbers: list[tuple[Value, Value | None]] = [(k.rint(place), None)]
    else:
        first = k.floor(place)
        rest = place - first
        weights = {0.0: 1.0 - rest, 1.0: rest} if mode == "linear" else _cubic(k, rest)
        numbers = [(first + step, weight) for step, weight in weights.items()]
    taps = []
    for number, weight in numbers:
        at = _reflected(k, number, low, high) if padding == "reflection" else number
        inside = k.trunc(at) if padding == "reflection" else at
        valid = (at >= 0.0) & (at <= size - 1.0) if padding == "zeros" else None
        taps.append(_Tap(k.minimum(k.maximum(inside, 0.0), size - 1.0), weight, valid))
    return taps


def _reflected(k: KernelBuilder, x: Value, low: Value | float, high: Value) -> Value:
    """Places outside thrown back at both ends, as often as it takes."""
    width = high - low
    under, over = low - x, x - high
    far = k.maximum(k.maximum(under, over), 0.0)
    times = k.floor(far / width)
    rest = far - times * width
    even = k.eq(times, k.floor(times / 2.0) * 2.0)
    from_low = k.logical_xor(even, over > 0.0)
    return k.select(far > 0.0, k.select(from_low, low + rest, high - rest), x)


def _cubic(k: KernelBuilder, rest: Value) -> dict[float, Value]:
    """Weights of the four elements around a place, by how far they are from the one before it."""
    a = _CUBIC

    def far(x: Value) -> Value:
        return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a

    def near(x: Value) -> Value:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0

    return {-1.0: far(rest + 1.0), 0.0: near(rest), 1.0: near(1.0 - rest), 2.0: far(2.0 - rest)}
