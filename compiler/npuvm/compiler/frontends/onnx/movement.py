"""Operators that move elements and change none: shapes, slices, parts, paddings, orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.elementwise import hull
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.reductions import axis_of
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.symbols import product
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__ = ["moved"]


def moved(op: Operator, value: Value) -> Entry:
    """A result whose elements are those of input 0."""
    return op.entry(value, bounds=hull([op.input(0)]))


def _axes(op: Operator, index: int, rank: int) -> tuple[int, ...] | None:
    """Axes from an input, or the attribute of older versions; None where there are none."""
    listed = op.const(index).ravel().tolist() if op.has(index) else op.attribute("axes")
    return None if listed is None else tuple(axis + rank if axis < 0 else axis for axis in listed)


@rule("Reshape")
def _reshape(op: Operator) -> Entry:
    value = op.value(0)
    allow_zero = op.attribute("allowzero", 0)
    target: list[Dim] = []
    for axis, size in enumerate(op.sizes(1).ravel().tolist()):
        number = size.constant()
        if number == 0 and not allow_zero:
            target.append(value.shape[axis])
        else:
            target.append(-1 if number == -1 else op.dim(size))
            if not allow_zero and number is None and value.shape[axis : axis + 1] != (target[-1],):
                op.not_zero(size)  # it would stand for the dim of the input
    if target.count(-1) > 1:
        raise CompileError(f"Reshape: {target.count(-1)} sizes are -1; allowed: one", op.source)
    return moved(op, value if tuple(target) == value.shape else reshaped(op, value, target))


def reshaped(op: Operator, value: Value, target: Sequence[Dim]) -> Value:
    """A reshape whose dim of -1 gets the name that other operators give the same size."""
    return op.reshape(value, target)


@rule("Flatten")
def _flatten(op: Operator) -> Entry:
    value = op.value(0)
    axis = axis_of(op, 1)
    return moved(op, op.k.reshape(value, [_merged(op, value.shape[:axis]), _merged(op, value.shape[axis:])]))


def _merged(op: Operator, dims: Sequence[Dim]) -> Dim:
    return 0 if 0 in dims else op.dim(Sum((product(dims),)))


@rule("Squeeze")
def _squeeze(op: Operator) -> Entry:
    value = op.value(0)
    axes = _axes(op, 1, len(value.shape))
    if axes is None:
        if any(isinstance(dim, str) for dim in value.shape):
            raise Unsupported("which dims are 1 is not known before the model runs")
        axes = tuple(axis for axis, dim in enumerate(value.shape) if dim == 1)
    for axis in axes:
        op.equal(value.shape[axis], 1)
    return moved(op, op.k.reshape(value, [dim for axis, dim in enumerate(value.shape) if axis not in axes]))


@rule("Unsqueeze")
def _unsqueeze(op: Operator) -> Entry:
    value = op.value(0)
    count = len(op.const(1).ravel()) if op.has(1) else len(op.attribute("axes"))
    axes = _axes(op, 1, len(value.shape) + count) or ()
    dims = iter(value.shape)
    return moved(op, op.k.reshape(value, [1 if at in axes else next(dims) for at in range(len(value.shape) + count)]))


@rule("Transpose")
def _transpose(op: Operator) -> Entry:
    value = op.value(0)
    order, axes = op.attribute("perm"), range(len(value.shape))
    if order and sorted(order) != list(axes):
        raise CompileError(f"Transpose: perm {list(order)} is no order of the {len(axes)} dims of input 0", op.source)
    return moved(op, op.k.permute(value, order or axes[::-1]))


@rule("Expand")
def _expand(op: Operator) -> Entry:
    value = op.value(0)
    shape = op.lowering.fit([value.shape, [op.dim(size) for size in op.sizes(1).ravel()]], op.source)
    return moved(op, value if shape == value.shape else op.k.broadcast_to(value, shape))


@rule("Tile")
def _tile(op: Operator) -> Entry:
    """Each dim behind one of its repeats, to which it is broadcast."""
    value = op.value(0)
    repeats = [op.dim(size) for size in op.sizes(1).ravel()]
    parted, whole, shape = list[Dim](), list[Dim](), list[Dim]()
    for repeat, dim in zip(repeats, value.shape, strict=True):
        parted += [1, dim]
        whole += [repeat, dim]
        shape.append(_merged(op, (repeat, dim)))
    return moved(op, op.k.reshape(op.k.broadcast_to(op.k.reshape(value, parted), whole), shape))


@rule("Concat")
def _concat(op: Operator) -> Entry:
    values = [op.value(at) for at in range(len(op.inputs))]
    axis = axis_of(op, 0)
    for value in values[1:]:
        for at, (dim, other) in enumerate(zip(values[0].shape, value.shape, strict=True)):
            if at != axis:
                op.equal(dim, other)
    entries = [op.input(at) for at in range(len(values))]
    joined = values[0] if len(values) == 1 else op.k.concat(values, axis)
    return op.entry(joined, bounds=hull(entries))


@rule("Split")
def _split(op: Operator) -> list[Entry]:
    value = op.value(0)
    axis = axis_of(op, 0)
    dim = value.shape[axis]
    if op.has(1):
        sizes = [op.dim(size) for size in op.sizes(1).ravel()]
        _one_for_each(op, f"{len(sizes)} sizes", len(sizes))
        if not isinstance(dim, str):
            return [moved(op, part) for part in op.k.split(value, sizes, axis)]
        total = sum((op.size(size) for size in sizes), Sum())
        op.equal(dim, op.dim(total))
        return [moved(op, part) for part in op.k.split(value, sizes, axis)]
    count = int(op.attribute("num_outputs", op.outputs))
    _one_for_each(op, f"num_outputs is {count}", count)
    if isinstance(dim, str) or dim % count == 0:
        if isinstance(dim, str) and op.since >= 18:
            return [moved(op, part) for part in op.k.split(value, _uneven(op, dim, count), axis)]
        return [moved(op, part) for part in op.k.split(value, count, axis)]
    each = -(-dim // count)
    sizes = [min(each, max(dim - at * each, 0)) for at in range(count)]
    return [moved(op, part) for part in op.k.split(value, sizes, axis)]


def _one_for_each(op: Operator, told: str, count: int) -> None:
    if count != op.outputs:
        raise CompileError(f"Split: {told}, with {op.outputs} outputs; allowed: one output for each part", op.source)


def _uneven(op: Operator, dim: Dim, count: int) -> list[Dim]:
    """Sizes of parts of a dim that is no multiple of their number: all as large, the last ones what is left."""
    table, whole = op.lowering.sizes, op.size(dim)
    each = table.floor_div(whole + sum_of(count - 1), count)
    ends = [table.least(each.scaled(at), whole) for at in range(count + 1)]
    return [op.dim(end - start) for start, end in pairwise(ends)]


@rule("DepthToSpace")
def _depth_to_space(op: Operator) -> Entry:
    value, block = op.value(0), int(op.attribute("blocksize"))
    batch, channels, *rest = value.shape
    if not isinstance(channels, int):
        raise Unsupported("the number of channels is not known before the model runs")
    dims = len(rest)
    depth = channels // block**dims
    blocks = (block,) * dims
    first = op.attribute("mode", "DCR") == "DCR"
    parted = op.k.reshape(value, (batch, *blocks, depth, *rest) if first else (batch, depth, *blocks, *rest))
    steps = [(1 if first else 2) + at for at in range(dims)]
    order = [0, dims + 1 if first else 1]
    for at in range(dims):
        order += [dims + 2 + at, steps[at]]
    shape = [op.dim(op.size(dim).scaled(block)) for dim in rest]
    return moved(op, op.k.reshape(op.k.permute(parted, order), (batch, depth, *shape)))


@rule("SpaceToDepth")
def _space_to_depth(op: Operator) -> Entry:
    value, block = op.value(0), int(op.attribute("blocksize"))
    batch, channels, *rest = value.shape
    if any(isinstance(dim, str) for dim in (channels, *rest)):
        raise Unsupported("that blocks fill the image is not known before the model runs")
    dims, parted = len(rest), list[Dim]((batch, channels))
    for dim in rest:
        assert isinstance(dim, int)
        parted += [dim // block, block]
    blocks, places = [3 + 2 * at for at in range(dims)], [2 + 2 * at for at in range(dims)]
    order = [0, *blocks, 1, *places] if op.attribute("mode", "DCR") == "DCR" else [0, 1, *blocks, *places]
    assert isinstance(channels, int)
    shape = [batch, channels * block**dims, *(parted[at] for at in places)]
    return moved(op, op.k.reshape(op.k.permute(op.k.reshape(value, parted), order), shape))


@rule("Slice")
def _slice(op: Operator) -> Entry:
    value = op.value(0)
    rank = len(value.shape)
    starts, stops = op.sizes(1).ravel().tolist(), op.sizes(2).ravel().tolist()
    axes = _axes(op, 3, rank) or tuple(range(len(starts)))
    steps = [int(step) for step in op.const(4).ravel()] if op.has(4) else [1] * len(starts)
    back = [axis for axis, step in zip(axes, steps, strict=True) if step < 0]
    forward: dict[int, tuple[Dim | None, Dim | None, int]] = {}
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        dim = value.shape[axis]
        bounds = [_bound(op, dim, each) for each in (start, stop)]
        if step < 0:  # of the reversed dim, whose element i is element dim - 1 - i
            bounds = [_reversed_start(op, dim, start), _reversed_bound(op, dim, stop)]
        forward[axis] = (*bounds, abs(step))  # type: ignore[assignment]
    if back:
        value = op.k.flip(value, back)
    return moved(
        op,
        op.k.slice(
            value,
            [forward[axis][0] for axis in axes],
            [forward[axis][1] for axis in axes],
            [forward[axis][2] for axis in axes],
            list(axes),
        ),
    )


def _bound(op: Operator, dim: Dim, bound: Sum) -> Dim:
    """A bound as the builder takes it: a number, which may count from the end, or a dim."""
    number = bound.constant()
    if number is not None:
        return number
    if bound.never_negative():
        return op.dim(bound)
    if bound.scaled(-1).never_negative():
        return op.dim(op.lowering.sizes.most(op.size(dim) + bound, Sum()))
    return _either(op, dim, bound)


def _either(op: Operator, dim: Dim, bound: Sum) -> Dim:
    """A bound of either sign can't be told from one that counts from the end."""
    raise Unsupported(f"whether the bound {bound} of a slice counts from the end of {dim} is not known")


def _reversed_start(op: Operator, dim: Dim, bound: Sum) -> Dim:
    """Where a slice that goes backwards starts in the reversed dim: in its last element, where the start lies before all."""
    number, sizes = bound.constant(), op.lowering.sizes
    if number is None or number >= -1:
        return _reversed_bound(op, dim, bound)
    return op.dim(sizes.least(sum_of(-number - 1), sizes.most(op.size(dim) - sum_of(1), Sum())))


def _reversed_bound(op: Operator, dim: Dim, bound: Sum) -> Dim:
    """Where a bound of a slice that goes backwards is in the reversed dim: a number, or a dim."""
    number, whole = bound.constant(), op.size(dim)
    if number is None:
        raise Unsupported(f"the bound {bound} of a slice that goes backwards is not a constant")
    if number < 0:  # counted from the end, which is the start of the reversed dim
        return -number - 1
    return op.dim(op.lowering.sizes.most(whole - sum_of(number + 1), Sum()))


@rule("Pad")
def _pad(op: Operator) -> Entry:
    value, mode = op.value(0), op.attribute("mode", "constant")
    rank = len(value.shape)
    axes = _axes(op, 3, rank) if op.has(3) else tuple(range(rank))
    pads = op.sizes(1).ravel().tolist()
    assert axes is not None
    pairs = {axis: (pads[at], pads[at + len(axes)]) for at, axis in enumerate(axes)}
    if mode != "constant":
        for axis, (low, high) in pairs.items():
            if (low, high) != (Sum(), Sum()):
                value = _picked(op, value, axis, low, high, mode)
        return moved(op, value)
    value, whole = _without(op, value, pairs)
    if not op.has(2):
        return _padded(op, op.k.pad(value, whole))
    fill = op.input(2)
    if fill.const is not None:
        number = fill.const.reshape(()).item()
        return _padded(op, op.k.pad(value, whole, number))
    inside = op.k.broadcast_to(op.k.const(True, "bool"), value.shape)
    fillers = op.k.reshape(op.value(2), ())
    return _padded(op, op.k.select(op.k.pad(inside, whole, False), op.k.pad(value, whole), fillers))


def _padded(op: Operator, value: Value) -> Entry:
    if not op.has(2):
        bounds = hull([op.input(0)])
        return op.entry(value, bounds=None if bounds is None else (min(bounds[0], 0), max(bounds[1], 0)))
    return op.entry(value, bounds=hull([op.input(0), op.input(2)]))


def _without(op: Operator, value: Value, pairs: dict[int, tuple[Sum, Sum]]) -> tuple[Value, dict[int, tuple[Dim, Dim]]]:
    """What is left where pads are below zero, and the pads that are not."""
    whole: dict[int, tuple[Dim, Dim]] = {}
    for axis, (low, high) in pairs.items():
        numbers = low.constant(), high.constant()
        cut = [-number if number is not None and number < 0 else 0 for number in numbers]
        if any(cut):
            value = op.k.slice(value, cut[0], -cut[1] if cut[1] else None, axes=axis)
        whole[axis] = (0 if cut[0] else op.dim(low), 0 if cut[1] else op.dim(high))
    return value, whole


def _picked(op: Operator, value: Value, axis: int, low: Sum, high: Sum, mode: str) -> Value:
    """Elements by their places: those beyond an end are mirrored, repeated, or taken from the other end."""
    if not low.never_negative() or not high.never_negative():
        raise Unsupported(f"pads below zero are not known in mode {mode}")
    k, dim = op.k, value.shape[axis]
    size = op.dim(op.size(dim) + low + high)
    last = k.size((dim,), "int32") - 1
    place = k.iota((size,)) - k.size((op.dim(low),), "int32")
    folds: dict[str, Callable[[Value], Value]] = {
        "edge": lambda at: k.minimum(k.maximum(at, 0), last),
        "reflect": lambda at: last - k.abs(last - k.abs(at)),
    }
    if mode == "wrap":
        if not all(isinstance(each, int) for each in (dim, low.constant(), high.constant())):
            raise Unsupported("how often a dim is repeated is not known before the model runs")
        assert isinstance(dim, int)
        start = -(low.constant() or 0) % dim
        return k.concat(_turns(op, value, axis, dim, start, int(size)), axis)
    if mode == "reflect" and (isinstance(dim, str) or not _once(dim, low, high)):
        raise Unsupported("that a reflected pad is smaller than its dim is not known before the model runs")
    return k.gather(value, folds[mode](place), axis)


def _once(dim: int, low: Sum, high: Sum) -> bool:
    numbers = low.constant(), high.constant()
    return all(number is not None and number < dim for number in numbers)


def _turns(op: Operator, value: Value, axis: int, dim: int, start: int, count: int) -> list[Value]:
    """`count` elements of a dim from `start` on, around its end."""
    parts = []
    while count:
        taken = min(dim - start, count)
        parts.append(op.k.slice(value, start, start + taken, axes=axis))
        start, count = 0, count - taken
    return parts
