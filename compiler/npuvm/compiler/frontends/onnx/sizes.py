"""Operators that compute sizes from sizes: what the shapes of reshapes, slices and expansions are made of.

Each gives an array of sums, or of bools where a comparison of sizes has one answer for all; None where it makes something else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.frontends.onnx.entries import Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator, constant_sum
from npuvm.compiler.frontends.onnx.registry import size_rule
from npuvm.compiler.graph.sums import Sum
from npuvm.compiler.graph.types import Dim

__all__: list[str] = []

Sizes = npt.NDArray[np.object_]

_MOST = 64
"""Most integers that are kept as sizes: those of shapes are a handful."""


@size_rule("Shape")
def _shape(op: Operator) -> Sizes | None:
    entry = op.input(0)
    if entry.shape is None:
        return None
    part = slice(op.attribute("start", 0), op.attribute("end"))
    return array_of([op.size(dim) for dim in entry.shape[part]])


@size_rule("Size")
def _size(op: Operator) -> Sizes | None:
    entry = op.input(0)
    return None if entry.shape is None else np.asarray(_product(op, entry.shape), dtype=object)


def _product(op: Operator, dims: tuple[Dim, ...]) -> Sum:
    return reduce(Sum.multiplied, (op.size(dim) for dim in dims), constant_sum(1))


# Parts and orders of arrays of sizes.


@size_rule("Identity")
def _identity(op: Operator) -> Sizes | None:
    return op.sizes(0) if op.all_sizes() else None


@size_rule("Cast")
def _cast(op: Operator) -> Sizes | None:
    return op.sizes(0) if op.all_sizes() and op.result_dtype in ("int64", "int32") else None


@size_rule("Concat")
def _concat(op: Operator) -> Sizes | None:
    if not op.all_sizes():
        return None
    return np.concatenate([op.sizes(at) for at in range(len(op.inputs))], axis=op.attribute("axis"))


@size_rule("Gather")
def _gather(op: Operator) -> Sizes | None:
    return _array(np.take(_given(op), op.const(1), axis=op.attribute("axis", 0)))


@size_rule("Slice")
def _slice(op: Operator) -> Sizes | None:
    sizes = _given(op)
    starts, ends = op.const(1).ravel().tolist(), op.const(2).ravel().tolist()
    axes = op.const(3).ravel().tolist() if op.has(3) else range(len(starts))
    steps = op.const(4).ravel().tolist() if op.has(4) else [1] * len(starts)
    places = [slice(None)] * sizes.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Backwards, an end before the first element is none; numpy would count -1 from the end.
        before = step < 0 and end < -sizes.shape[axis]
        places[axis] = slice(start, None if before else end, step)
    return _array(sizes[tuple(places)])


@size_rule("Squeeze")
def _squeeze(op: Operator) -> Sizes | None:
    axes = op.const(1).ravel().tolist() if op.has(1) else op.attribute("axes")
    return _array(np.squeeze(_given(op), axis=None if axes is None else tuple(axes)))


@size_rule("Unsqueeze")
def _unsqueeze(op: Operator) -> Sizes | None:
    axes = op.const(1).ravel().tolist() if op.has(1) else op.attribute("axes")
    return _array(np.expand_dims(_given(op), tuple(axes)))


@size_rule("Reshape")
def _reshape(op: Operator) -> Sizes | None:
    sizes = _given(op)
    target = [sizes.shape[at] if dim == 0 else dim for at, dim in enumerate(op.const(1).ravel().tolist())]
    return _array(sizes.reshape(target))


@size_rule("Flatten")
def _flatten(op: Operator) -> Sizes | None:
    sizes, axis = _given(op), op.attribute("axis", 1)
    axis = axis + sizes.ndim if axis < 0 else axis
    rows = int(np.prod(sizes.shape[:axis], dtype=np.int64))
    return _array(sizes.reshape(rows, -1 if sizes.size else 0))


@size_rule("Transpose")
def _transpose(op: Operator) -> Sizes | None:
    return _array(_given(op).transpose(op.attribute("perm")))


@size_rule("Expand")
def _expand(op: Operator) -> Sizes | None:
    sizes, shape = _given(op), tuple(op.const(1).ravel().tolist())
    return _array(np.broadcast_to(sizes, np.broadcast_shapes(sizes.shape, shape)))


@size_rule("Tile")
def _tile(op: Operator) -> Sizes | None:
    return _array(np.tile(_given(op), op.const(1).ravel().tolist()))


@size_rule("Split")
def _split(op: Operator) -> list[Sizes] | None:
    sizes, axis = _given(op), op.attribute("axis", 0)
    if op.has(1):
        ends = np.cumsum(op.const(1).ravel())[:-1].tolist()
    else:
        each = -(-sizes.shape[axis] // op.outputs)
        ends = [each * at for at in range(1, op.outputs)]
    return np.split(sizes, ends, axis)


@size_rule("Range")
def _range(op: Operator) -> Sizes | None:
    start, stop, step = (op.sizes(at).item() for at in range(3))
    each, count = step.constant(), (stop - start).constant()
    if not each or count is None or abs(count) > _MOST or not op.all_sizes():
        return None
    return array_of([start + constant_sum(number) for number in range(0, count, each)])


# Arithmetic.


def _arithmetic(*types: str) -> Callable[[Callable[[Operator, Sum, Sum], Any]], Any]:
    """Decorator: operators on two or more arrays of sizes, element by element."""

    def add(function: Callable[[Operator, Sum, Sum], Any]) -> Any:
        @size_rule(*types)
        def elementwise(op: Operator) -> Sizes | None:
            if not op.all_sizes():
                return None
            if any(each.const is not None and each.const.size > _MOST for each in op.inputs if each is not None):
                return None
            arrays = [op.sizes(at) for at in range(len(op.inputs))]
            return reduce(lambda a, b: _each(lambda x, y: function(op, x, y), a, b), arrays)

        return elementwise

    return add


def _each(function: Callable[..., Any], *arrays: Sizes) -> Sizes:
    """A function of the elements of arrays that are broadcast to each other."""
    whole = np.broadcast_arrays(*arrays)
    made = np.empty(whole[0].shape, dtype=object)
    made.ravel()[:] = [function(*each) for each in zip(*(array.ravel() for array in whole), strict=True)]
    if made.size and all(isinstance(each, bool) for each in made.ravel()):
        return made.astype(np.bool_)
    return made


@_arithmetic("Add", "Sum")
def _add(_: Operator, a: Sum, b: Sum) -> Sum:
    return a + b


@_arithmetic("Sub")
def _sub(_: Operator, a: Sum, b: Sum) -> Sum:
    return a - b


@_arithmetic("Mul")
def _mul(_: Operator, a: Sum, b: Sum) -> Sum:
    return a.multiplied(b)


@_arithmetic("Min")
def _min(op: Operator, a: Sum, b: Sum) -> Sum:
    return op.lowering.sizes.least(a, b) if _order(op, a, b) is None else (a if _order(op, a, b) else b)


@_arithmetic("Max")
def _max(op: Operator, a: Sum, b: Sum) -> Sum:
    return op.lowering.sizes.most(a, b) if _order(op, a, b) is None else (b if _order(op, a, b) else a)


@_arithmetic("Div")
def _div(op: Operator, a: Sum, b: Sum) -> Sum:
    """Rounded towards zero, which is down for sizes."""
    return op.divided(a, b)


@_arithmetic("Mod")
def _mod(op: Operator, a: Sum, b: Sum) -> Sum:
    return a - b.multiplied(op.divided(a, b))


@size_rule("Neg")
def _neg(op: Operator) -> Sizes | None:
    return _each(lambda each: each.scaled(-1), op.sizes(0)) if op.all_sizes() else None


@size_rule("Abs")
def _abs(op: Operator) -> Sizes | None:
    def absolute(each: Sum) -> Sum:
        least, most = op.interval(each)
        if least < 0 < most:
            raise Unsupported(f"whether {each} is below zero is not known before the model runs")
        return each if least >= 0 else each.scaled(-1)

    return _each(absolute, op.sizes(0)) if op.all_sizes() else None


@size_rule("ReduceProd", "ReduceSum", "ReduceMin", "ReduceMax")
def _reduce(op: Operator) -> Sizes | None:
    if not op.all_sizes():
        return None
    sizes = op.sizes(0)
    axes = op.const(1).ravel().tolist() if op.has(1) else op.attribute("axes")
    if not axes:
        if op.attribute("noop_with_empty_axes", 0):
            return sizes
        axes = list(range(sizes.ndim))
    combine: Callable[[Sum, Sum], Sum] = {
        "ReduceProd": Sum.multiplied,
        "ReduceSum": Sum.__add__,
        "ReduceMin": lambda a, b: _min_of(op, a, b),
        "ReduceMax": lambda a, b: _max_of(op, a, b),
    }[op.type]
    if op.type in ("ReduceMin", "ReduceMax") and not sizes.size:
        return None
    for axis in sorted((axis % sizes.ndim for axis in axes), reverse=True):
        parts = np.split(sizes, sizes.shape[axis], axis)
        if not parts:
            start = constant_sum(1 if op.type == "ReduceProd" else 0)
            parts = [np.full((*sizes.shape[:axis], 1, *sizes.shape[axis + 1 :]), start, dtype=object)]
        sizes = reduce(lambda a, b: _each(combine, a, b), parts)
        if not op.attribute("keepdims", 1):
            sizes = np.squeeze(sizes, axis)
    return sizes


def _min_of(op: Operator, a: Sum, b: Sum) -> Sum:
    order = _order(op, a, b)
    return op.lowering.sizes.least(a, b) if order is None else (a if order else b)


def _max_of(op: Operator, a: Sum, b: Sum) -> Sum:
    order = _order(op, a, b)
    return op.lowering.sizes.most(a, b) if order is None else (b if order else a)


# Comparisons that are the same for all sizes.


def _order(op: Operator, a: Sum, b: Sum) -> bool | None:
    """Whether a <= b, where that is known."""
    least, most = op.interval(b - a)
    return True if least >= 0 else False if most <= 0 else None


def _known(answer: bool | None, op: Operator, a: Sum, b: Sum) -> bool:
    if answer is None:
        raise Unsupported(f"{op.type} of {a} and {b} is not the same for all sizes")
    return answer


@_arithmetic("Equal")
def _equal(op: Operator, a: Sum, b: Sum) -> bool:
    least, most = op.interval(b - a)
    return _known(True if least == most == 0 else False if least > 0 or most < 0 else None, op, a, b)


@_arithmetic("Less")
def _less(op: Operator, a: Sum, b: Sum) -> bool:
    least, most = op.interval(b - a)
    return _known(True if least > 0 else False if most <= 0 else None, op, a, b)


@_arithmetic("LessOrEqual")
def _less_or_equal(op: Operator, a: Sum, b: Sum) -> bool:
    least, most = op.interval(b - a)
    return _known(True if least >= 0 else False if most < 0 else None, op, a, b)


@_arithmetic("Greater")
def _greater(op: Operator, a: Sum, b: Sum) -> bool:
    least, most = op.interval(a - b)
    return _known(True if least > 0 else False if most <= 0 else None, op, a, b)


@_arithmetic("GreaterOrEqual")
def _greater_or_equal(op: Operator, a: Sum, b: Sum) -> bool:
    least, most = op.interval(a - b)
    return _known(True if least >= 0 else False if most < 0 else None, op, a, b)


@size_rule("Where")
def _where(op: Operator) -> Sizes | None:
    condition, a, b = op.const(0), op.sizes(1), op.sizes(2)
    made = np.where(*np.broadcast_arrays(condition, a, b))
    return made if op.input(1).dtype == "int64" and made.size <= _MOST else None


def array_of(values: list[Any]) -> Sizes:
    """A vector of sums."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _given(op: Operator) -> Sizes:
    """The sizes that an operator moves. Unsupported where it moves something else."""
    found = op.input(0).sizes
    if found is None:
        raise Unsupported(f"'{op.input(0).name}' is not made of sizes")
    return found


def _array(made: Any) -> Sizes:
    """A part of sizes, which may be a single one, as an array."""
    found = np.empty(np.shape(made), dtype=object)
    found[...] = made
    return found
