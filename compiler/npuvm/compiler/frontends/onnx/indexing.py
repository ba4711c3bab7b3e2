"""Operators that pick elements by index, and put elements where an index says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.elementwise import hull
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import bounds_of, integer, is_integer
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.picking import (
    axis_in,
    literal,
    most_elements,
    not_longer,
    number_of,
    numbers_in,
    one_size,
    same_dims,
    whole_number,
    within,
)
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__ = ["picked"]


@rule("Gather")
def _gather(op: Operator) -> Entry:
    axis = axis_in(op, op.attribute("axis", 0), op.input(0).rank)
    index = op.input(1)
    if index.const is None:
        return _chosen(op, op.k.gather(op.value(0), op.value(1), axis))
    return _chosen(op, picked(op, op.value(0), index.const.astype(np.int64), axis))


def _chosen(op: Operator, value: Value) -> Entry:
    """A result whose elements are some of the first input's."""
    return op.entry(value, bounds=hull([op.input(0)]))


def picked(op: Operator, x: Value, index: npt.NDArray[np.int64], axis: int) -> Value:
    """Elements of an axis by constant numbers: slices where these are equally far apart, since slices move no data."""
    dim = x.shape[axis]
    if isinstance(dim, int):
        outside = index[(index < -dim) | (index >= dim)]
        if outside.size:
            raise CompileError(f"Gather: index {outside[0]} is outside axis {axis} of {dim} elements", op.source)
        index = np.where(index < 0, index + dim, index)
    elif index.size:  # read for these sizes alone, an index outside of them is found above
        op.lowering.deduction.has_elements(dim, op.source, max(int(index.max()) + 1, -int(index.min())))
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    whole = (slice(None),) * axis
    if index.size == 1:
        return op.k.reshape(op.k.index(x, (*whole, int(index.item()))), shape)
    steps = np.unique(np.diff(index.ravel()))
    if isinstance(dim, int) and steps.size == 1 and steps[0] > 0:
        first, last = int(index.ravel()[0]), int(index.ravel()[-1])
        return op.k.reshape(op.k.index(x, (*whole, slice(first, last + 1, int(steps[0])))), shape)
    return op.k.gather(x, literal(op, "indices", index), axis)


@rule("GatherElements")
def _gather_elements(op: Operator) -> Entry:
    x, index = op.value(0), op.value(1)
    axis = axis_in(op, op.attribute("axis", 0), len(x.shape))
    if len(x.shape) == 1:
        return _chosen(op, op.k.gather(x, index))
    return _chosen(op, op.k.gather(op.k.reshape(x, (-1,)), _element_numbers(op, x, index, axis)))


def _element_numbers(op: Operator, x: Value, index: Value, axis: int) -> Value:
    """Row-major numbers of the elements that an index of the same rank names along an axis."""
    if len(index.shape) != len(x.shape):
        raise CompileError(f"{op.type}: indices of {len(index.shape)} dims for {len(x.shape)}", op.source)
    for at, (part, whole) in enumerate(zip(index.shape, x.shape, strict=True)):
        if at != axis:
            not_longer(op, part, whole)
    return numbers_in(op, index.shape, x.shape, {axis: index})


@rule("GatherND")
def _gather_nd(op: Operator) -> Entry:
    x, batches = op.value(0), op.attribute("batch_dims", 0)
    numbers, rest = _row_numbers(op, x, batches)
    return _chosen(op, op.k.gather(op.k.reshape(x, (-1, *rest)), numbers))


def _row_numbers(op: Operator, x: Value, batches: int = 0) -> tuple[Value, tuple[Dim, ...]]:
    """Numbers of the rows that the last dim of input 1 names in `x`, behind `batches` dims of both, and a row's dims."""
    index = op.value(1)
    if not index.shape:
        raise CompileError(f"{op.type}: indices must have one dim or more", op.source)
    depth = whole_number(op, index.shape[-1], "the number of indices of a row")
    if batches + depth > len(x.shape):
        raise CompileError(f"{op.type}: {depth} indices behind {batches} dims, of {len(x.shape)}", op.source)
    for at in range(batches):
        op.equal(index.shape[at], x.shape[at])
    shape = index.shape[:-1]
    places = {batches + at: op.k.index(index, (..., at)) for at in range(depth)}
    table = x.shape[: batches + depth]
    if not table:
        numbers = op.k.iota((*shape, 1))
        return op.k.reshape(numbers - numbers, shape), x.shape
    return numbers_in(op, shape, table, places), x.shape[batches + depth :]


@rule("ScatterElements", "Scatter")
def _scatter_elements(op: Operator) -> Entry:
    x, index, updates = op.value(0), op.value(1), op.value(2)
    axis = axis_in(op, op.attribute("axis", 0), len(x.shape))
    same_dims(op, updates.shape, index.shape)
    if len(x.shape) == 1:
        return _scattered(op, x, within(op, index, x.shape[0]), updates)
    numbers = _element_numbers(op, x, index, axis)
    return _scattered(op, op.k.reshape(x, (-1,)), numbers, updates)


@rule("ScatterND")
def _scatter_nd(op: Operator) -> Entry:
    x, updates = op.value(0), op.value(2)
    numbers, rest = _row_numbers(op, x)
    same_dims(op, updates.shape, (*numbers.shape, *rest))
    return _scattered(op, op.k.reshape(x, (-1, *rest)), numbers, updates)


def _scattered(op: Operator, base: Value, numbers: Value, updates: Value) -> Entry:
    """Updates in the rows of `base`, which is the first input in another shape."""
    reduction, k, dims = op.attribute("reduction", "none"), op.k, op.input(0).dims
    if reduction == "none":
        return op.entry(k.reshape(k.scatter(base, numbers, updates), dims), bounds=hull([op.input(0), op.input(2)]))
    if reduction != "add":
        raise Unsupported(f"the device scatters with reductions none and add, not {reduction}")
    if base.dtype in ("int8", "bool"):
        raise Unsupported(f"the device adds up no {base.dtype} by index")
    total, dtype = k.reshape(k.scatter_add(base, numbers, updates), dims), op.input(0).dtype
    if not is_integer(dtype):
        return op.entry(total)
    (low, high), (least, largest) = bounds_of(op.input(0)), bounds_of(op.input(2))
    count = most_elements(numbers.shape)
    return integer(op, total, dtype, (low + min(least * count, 0), high + max(largest * count, 0)))


@rule("TensorScatter")
def _tensor_scatter(op: Operator) -> Entry:
    """A cache with an update written at a place along an axis, by batch."""
    k, x, update = op.k, op.value(0), op.value(1)
    axis = axis_in(op, op.attribute("axis", -2), len(x.shape))
    length = number_of(op, (x.shape[axis],))
    shape = update.shape[: axis + 1]
    same_dims(op, (*update.shape[:axis], *update.shape[axis + 1 :]), (*x.shape[:axis], *x.shape[axis + 1 :]))
    not_longer(op, shape[axis], x.shape[axis])
    place = k.iota(shape, axis)
    if op.has(2):
        place = place + k.reshape(op.value(2), (x.shape[0], *[1] * axis))
    if op.attribute("mode", "linear") == "circular":
        place = k.select(place >= length, place - length, place)
    numbers = numbers_in(op, shape, x.shape[: axis + 1], {axis: place})
    rest = x.shape[axis + 1 :]
    found = k.reshape(k.scatter(k.reshape(x, (-1, *rest)), numbers, update), x.shape)
    return op.entry(found, bounds=hull([op.input(0), op.input(1)]))


@rule("OneHot")
def _one_hot(op: Operator) -> Entry:
    k, index, values = op.k, op.value(0), op.value(2)
    depth = _depth(op)
    if index.dtype != "int32":
        index = k.cast(index, "int32")
    axis = axis_in(op, op.attribute("axis", -1), len(index.shape) + 1)
    size = number_of(op, (depth,))
    hot = k.one_hot(k.select(index < 0, index + size, index), depth, "bool", axis)
    return op.entry(k.select(hot, values[1], values[0]), op.input(2).dtype, hull([op.input(2)]))


def _depth(op: Operator) -> Dim:
    """The depth may be a number of any dtype."""
    const = op.input(1).const
    return one_size(op, 1) if const is None or const.dtype.kind in "iu" else int(const.item())


@rule("ReverseSequence")
def _reverse_sequence(op: Operator) -> Entry:
    """Rows of time steps and batches are picked by number: those before a batch's length in reverse order."""
    k, x = op.k, op.value(0)
    time, batch = op.attribute("time_axis", 0), op.attribute("batch_axis", 1)
    order = (time, batch, *range(2, len(x.shape)))
    turned = x if time == 0 else k.permute(x, order)
    shape = turned.shape[:2]
    step, length = k.iota(shape, 0), op.value(1)
    op.equal(length.shape[0], shape[1])
    place = k.select(step < length, length - 1 - step, step)
    numbers = numbers_in(op, shape, shape, {0: place})
    found = k.gather(k.reshape(turned, (-1, *x.shape[2:])), numbers)
    return _chosen(op, found if time == 0 else k.permute(found, order))


@rule("Compress", "NonZero", "Unique")
def _counted(op: Operator) -> Sequence[Value]:
    raise Unsupported("the size of its result follows from data")
