"""Normalisations, as models use them; statistics in fp32, results rounded once where ONNX does not ask for two roundings."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.activations import floating
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.reductions import axis_of, has_elements
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.types import Dim, dims_text
from npuvm.compiler.language.value import Value

__all__: list[str] = []


def _mean(op: Operator, wide: Value, axes: Sequence[int]) -> Value:
    """The mean over axes, which stay; NaN where they have no elements."""
    if has_elements(op, wide, axes):
        return op.k.mean(wide, axes, keepdims=True)
    dims = [1 if axis in axes else dim for axis, dim in enumerate(wide.shape)]
    return op.k.broadcast_to(op.k.const(nan, wide.dtype), dims)


def _centred(op: Operator, wide: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
    """The mean, what is left without it, and the variance."""
    mean = _mean(op, wide, axes)
    left = wide - mean
    return mean, left, _mean(op, left * left, axes)


@rule("LayerNormalization")
def _layer_norm(op: Operator) -> list[Value | Entry]:
    value, k = floating(op, 0), op.k
    axes = tuple(range(axis_of(op, -1), len(value.shape)))
    mean, left, variance = _centred(op, k.cast(value, "fp32"), axes)
    scale = k.rsqrt(variance + float(op.attribute("epsilon", 1e-5)))
    results: list[Value | Entry] = [_scaled(op, left * scale, value)]
    for each in (mean, scale)[: op.outputs - 1]:
        results.append(op.entry(each, "float32"))
    return results


def _scaled(op: Operator, normal: Value, value: Value) -> Value:
    """Times input 1, plus input 2 where it is there, in the dtype of the input."""
    k = op.k
    for at in (1, 2):
        if op.has(at):
            _check_spread(op, normal.shape, op.input(at).dims, at)
            op.lowering.fit([normal.shape, op.input(at).dims], op.source)
            other = k.cast(floating(op, at), "fp32")
            normal = normal * other if at == 1 else normal + other
    return k.cast(normal, value.dtype)


def _check_spread(op: Operator, shape: Sequence[Dim], dims: Sequence[Dim], at: int) -> None:
    """Input `at` is spread over the shape of input 0, never the other way round. CompileError where it is wider."""
    if len(dims) > len(shape):
        allowed = f"at most the {len(shape)} dims of input 0"
        raise CompileError(f"{op.type}: input {at} is [{dims_text(dims)}]; allowed: {allowed}", op.source)
    for own, other in zip(reversed(shape), reversed(dims), strict=False):
        if own == 1:
            op.equal(own, other)


@rule("RMSNormalization")
def _rms_norm(op: Operator) -> Entry:
    value, k = floating(op, 0), op.k
    axes = tuple(range(axis_of(op, -1), len(value.shape)))
    wide = k.cast(value, "fp32")
    scale = k.rsqrt(_mean(op, wide * wide, axes) + float(op.attribute("epsilon", 1e-5)))
    return op.entry(_scaled(op, wide * scale, value), op.input(1).dtype)


def _channels(op: Operator, index: int, rank: int) -> Value:
    """A parameter of each channel, of dim 1 of `rank` dims, in fp32."""
    value = floating(op, index)
    return op.k.cast(op.k.reshape(value, (*value.shape, *(1,) * (rank - 2))), "fp32")


@rule("InstanceNormalization")
def _instance_norm(op: Operator) -> Value:
    value, k = floating(op, 0), op.k
    rank = len(value.shape)
    for at in (1, 2):
        op.equal(value.shape[1], op.input(at).dims[0])
    _, left, variance = _centred(op, k.cast(value, "fp32"), tuple(range(2, rank)))
    normal = left * k.rsqrt(variance + float(op.attribute("epsilon", 1e-5)))
    return k.cast(normal * _channels(op, 1, rank) + _channels(op, 2, rank), value.dtype)


@rule("GroupNormalization")
def _group_norm(op: Operator) -> Value:
    value, k = floating(op, 0), op.k
    batch, channels, *rest = value.shape
    groups = int(op.attribute("num_groups"))
    if not isinstance(channels, int) or channels % groups:
        raise Unsupported(f"{channels} channels are not known to be {groups} equal groups")
    grouped = k.reshape(k.cast(value, "fp32"), (batch, groups, channels // groups, *rest))
    rank = len(grouped.shape)
    _, left, variance = _centred(op, grouped, tuple(range(2, rank)))
    normal = left * k.rsqrt(variance + float(op.attribute("epsilon", 1e-5)))
    for at in (1, 2):
        parameter = k.cast(floating(op, at), "fp32")
        of_group = parameter.shape == (groups,) and op.since < 21
        op.equal(op.input(at).dims[0], groups if of_group else channels)
        shape = (groups, 1 if of_group else channels // groups, *(1,) * len(rest))
        parameter = k.reshape(parameter, shape)
        normal = normal * parameter if at == 1 else normal + parameter
    return k.cast(k.reshape(normal, value.shape), value.dtype)


@rule("BatchNormalization")
def _batch_norm(op: Operator) -> list[Value | Entry]:
    value, k = floating(op, 0), op.k
    rank = len(value.shape)
    for at in (1, 2, 3, 4):
        op.equal(value.shape[1], op.input(at).dims[0])
    wide = k.cast(value, "fp32")
    mean, variance = _channels(op, 3, rank), _channels(op, 4, rank)
    running: list[Value | Entry] = []
    if op.attribute("training_mode", 0):
        axes = (0, *range(2, rank))
        momentum = float(op.attribute("momentum", 0.9))
        now, _, spread = _centred(op, wide, axes)
        for at, old, new in ((3, mean, now), (4, variance, spread)):
            flat = k.reshape(old * momentum + k.reshape(new, old.shape) * (1.0 - momentum), op.input(at).dims)
            running.append(op.entry(k.cast(flat, op.value(at).dtype), op.input(at).dtype))
        mean, variance = now, spread
    scale = k.rsqrt(variance + float(op.attribute("epsilon", 1e-5))) * _channels(op, 1, rank)
    normal = (wide - mean) * scale + _channels(op, 2, rank)
    return [k.cast(normal, value.dtype), *running]


@rule("LpNormalization")
def _lp_norm(op: Operator) -> Value:
    """Where the norm is 0, so are the elements and the result."""
    value, k, axis = floating(op, 0), op.k, axis_of(op, -1)
    wide = k.cast(value, "fp32")
    power = op.attribute("p", 2)
    total = k.sum(k.abs(wide) if power == 1 else wide * wide, axis, keepdims=True)
    norm = total if power == 1 else k.sqrt(total)
    return k.cast(wide / k.select(k.eq(norm, 0.0), k.const(1.0, "fp32"), norm), value.dtype)


@rule("MeanVarianceNormalization")
def _mean_variance(op: Operator) -> Value:
    value, k = floating(op, 0), op.k
    axes = sorted(int(axis) % len(value.shape) for axis in op.attribute("axes", [0, 2, 3]))
    _, left, variance = _centred(op, k.cast(value, "fp32"), axes)
    return k.cast(left / (k.sqrt(variance) + 1e-9), value.dtype)


@rule("LRN")
def _local_response(op: Operator) -> Value:
    """Squares of `size` neighbouring channels are added up from slices of the padded squares."""
    value, k = floating(op, 0), op.k
    wide = k.cast(value, "fp32")
    size = int(op.attribute("size"))
    low = (size - 1) // 2
    padded = k.pad(wide * wide, {1: (low, size - 1 - low)})
    total = None
    for at in range(size):
        stop = at - (size - 1)
        part = k.slice(padded, at, stop if stop else None, axes=1)
        if part.shape != wide.shape:
            part = k.reshape(part, wide.shape)
        total = part if total is None else total + part
    assert total is not None
    base = total * (float(op.attribute("alpha", 1e-4)) / size) + float(op.attribute("bias", 1.0))
    return k.cast(wide / k.pow(base, float(op.attribute("beta", 0.75))), value.dtype)
