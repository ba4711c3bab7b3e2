"""Poolings over windows and over whole images."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from npuvm.compiler.frontends.onnx.elementwise import hull
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.frontends.onnx.spatial import Spatial, spatial_of
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.value import Value

__all__: list[str] = []

_LOWEST = -(2**31)


@rule("MaxPool")
def _max_pool(op: Operator) -> Entry:
    if op.outputs > 1 and op.node.output[1]:
        raise Unsupported("the device does not say where in the image a largest element is")
    k, x = op.k, op.value(0)
    spatial = _spatial(op, x)
    wide = k.cast(x, "int32") if x.dtype == "int8" else x
    if not _narrow(spatial):
        _without_ceil(op)
        lowest = -float("inf") if DTYPES[wide.dtype].kind == "float" else _LOWEST
        wide, spatial = spatial.padded(op, wide, lowest), spatial.without_pads()
    kernel, pads = _numbers(spatial)
    found = k.max_pool(wide, kernel, spatial.strides, pads, spatial.dilations, bool(op.attribute("ceil_mode", 0)))
    return op.entry(k.cast(found, x.dtype), bounds=hull([op.input(0)]))


@rule("AveragePool")
def _average_pool(op: Operator) -> Value:
    return _averaged(op, op.value(0), _spatial(op, op.value(0)), bool(op.attribute("count_include_pad", 0)))


def _averaged(op: Operator, x: Value, spatial: Spatial, count_pads: bool) -> Value:
    k, ceil = op.k, bool(op.attribute("ceil_mode", 0))
    if _narrow(spatial):
        kernel, pads = _numbers(spatial)
        return k.avg_pool(x, kernel, spatial.strides, pads, spatial.dilations, ceil, count_pads)
    _without_ceil(op)
    kernel, none = _numbers(plain := spatial.without_pads())

    def pooled(image: Value) -> Value:
        padded = spatial.padded(op, image, 0.0)
        return k.avg_pool(padded, kernel, plain.strides, none, plain.dilations, count_include_pad=True)

    if count_pads:
        return pooled(x)
    ones = k.broadcast_to(k.const(1.0, "fp32"), (1, 1, *x.shape[2:]))
    return k.cast(pooled(k.cast(x, "fp32")) / pooled(ones), x.dtype)


@rule("LpPool")
def _lp_pool(op: Operator) -> Value:
    _without_ceil(op)
    k, x = op.k, op.value(0)
    spatial, power = _spatial(op, x), float(op.attribute("p", 2))
    means = _averaged(op, _raised(op, k.cast(x, "fp32"), power), spatial, count_pads=True)
    count = prod(op.attribute("kernel_shape"))
    return k.cast(_root(op, means * float(count), power), x.dtype)


@rule("GlobalAveragePool")
def _global_average_pool(op: Operator) -> Value:
    x = op.value(0)
    return op.k.mean(x, tuple(range(2, len(x.shape))), keepdims=True)


@rule("GlobalMaxPool")
def _global_max_pool(op: Operator) -> Value:
    x = op.value(0)
    return op.k.max(x, tuple(range(2, len(x.shape))), keepdims=True)


@rule("GlobalLpPool")
def _global_lp_pool(op: Operator) -> Value:
    k, x, power = op.k, op.value(0), float(op.attribute("p", 2))
    total = k.sum(_raised(op, k.cast(x, "fp32"), power), tuple(range(2, len(x.shape))), keepdims=True)
    return k.cast(_root(op, total, power), x.dtype)


def _raised(op: Operator, x: Value, power: float) -> Value:
    """|x| to a power."""
    if power == 2:
        return x * x
    return op.k.abs(x) if power == 1 else op.k.pow(op.k.abs(x), power)


def _root(op: Operator, total: Value, power: float) -> Value:
    if power == 2:
        return op.k.sqrt(total)
    return total if power == 1 else op.k.pow(total, 1 / power)


def _spatial(op: Operator, x: Value) -> Spatial:
    kernel = tuple(op.attribute("kernel_shape"))
    if len(kernel) != len(x.shape) - 2:
        raise Unsupported(f"a kernel of {len(kernel)} dims for an image of {len(x.shape) - 2}")
    spatial = spatial_of(op, x.shape[2:], kernel)
    apart = op.type != "MaxPool" and any(size < step for size, step in zip(kernel, spatial.strides, strict=True))
    if (apart or max(spatial.dilations) > 1) and op.attribute("auto_pad", "NOTSET").startswith("SAME"):
        raise Unsupported("what auto_pad gives with dilations, and strides longer than the kernel, is read in two ways")
    return replace(spatial, pads=((0, 0),) * len(kernel)) if all(pair == (0, 0) for pair in spatial.pads) else spatial


def _narrow(spatial: Spatial) -> bool:
    """Whether the builder's poolings take the padding: numbers, of half a window at most."""
    pads = spatial.fixed
    return pads is not None and all(max(pair) <= span // 2 for pair, span in zip(pads, spatial.spans, strict=True))


def _numbers(spatial: Spatial) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Kernel and padding, which are numbers."""
    assert spatial.fixed is not None
    return tuple(int(each) for each in spatial.kernel), spatial.fixed


def _without_ceil(op: Operator) -> None:
    if op.attribute("ceil_mode", 0):
        raise Unsupported(f"{op.type} with ceil_mode takes paddings of half a window at most")
