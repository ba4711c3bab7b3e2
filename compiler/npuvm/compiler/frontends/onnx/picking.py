"""What rules share that pick elements by number: literals, axes, and numbers of elements in row-major order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.graph.model import Guard
from npuvm.compiler.graph.types import Dim, dims_text
from npuvm.compiler.language.value import Value

__all__ = [
    "axis_in",
    "fresh",
    "literal",
    "most_elements",
    "not_longer",
    "number_of",
    "numbers_in",
    "one_size",
    "same_dims",
    "whole_number",
    "within",
]

_NOWHERE = 2**31 - 1
"""A number that no element has: picking it traps."""


def fresh(op: Operator, label: str) -> str:
    """A name of a value that no other has."""
    return f"{op.source}/{label}#{len(op.lowering.model.values)}"


def literal(op: Operator, label: str, array: npt.NDArray[Any]) -> Value:
    """A tensor that a rule makes of constants, as one of the model."""
    return op.value(Entry(fresh(op, label), str(array.dtype), array.shape, const=array))


def axis_in(op: Operator, axis: int, rank: int) -> int:
    """An axis counted from the first. CompileError for one that is not there."""
    if not -rank <= axis < rank:
        raise CompileError(f"{op.type}: axis {axis} must be -{rank} to {rank - 1} for {rank} dims", op.source)
    return axis + rank if axis < 0 else axis


def most_elements(dims: Sequence[Dim]) -> int:
    """How many elements a tensor of these dims has at most: none of the device has 2^31."""
    known = prod(each for each in dims if isinstance(each, int))
    return known if all(isinstance(each, int) for each in dims) else _NOWHERE


def one_size(op: Operator, index: int) -> Dim:
    """The dim that an input of one integer is. Unsupported where it follows from data."""
    sizes = op.sizes(index).ravel()
    if sizes.size != 1:
        raise CompileError(f"{op.type}: input {index} has {sizes.size} elements; allowed: 1", op.source)
    return op.dim(sizes[0])


def number_of(op: Operator, dims: Sequence[Dim]) -> Value | int:
    """The product of dims: a number, or a scalar of the device."""
    if all(isinstance(each, int) for each in dims):
        return int(np.prod([int(each) for each in dims], dtype=np.int64))
    return op.k.size(tuple(dims), "int32")


def within(op: Operator, picked: Value, dim: Dim) -> Value:
    """Numbers below zero counted from the end of a dim; those outside become one that traps."""
    k, size = op.k, number_of(op, (dim,))
    found = k.select(picked < 0, picked + size, picked)
    return k.select((found < 0) | (found >= size), _NOWHERE, found)


def numbers_in(op: Operator, shape: Sequence[Dim], table: Sequence[Dim], picked: Mapping[int, Value]) -> Value:
    """Row-major numbers, of `shape`, of elements in a table of these dims.

    Along an axis in `picked` they are the ones given, checked to be within; along the others each element has its own place.
    """
    k = op.k
    total: Value | None = None
    outside: Value | None = None
    for axis, dim in enumerate(table):
        place = within(op, picked[axis], dim) if axis in picked else k.iota(tuple(shape), axis)
        if axis in picked and len(table) > 1:
            missing = k.eq(place, _NOWHERE)
            outside = missing if outside is None else outside | missing
        part = place * number_of(op, table[axis + 1 :])
        total = part if total is None else total + part
    assert total is not None
    return total if outside is None else k.select(outside, _NOWHERE, total)


def same_dims(op: Operator, a: Sequence[Dim], b: Sequence[Dim]) -> None:
    """Deduce that two shapes are equal. CompileError where they cannot be."""
    if len(a) != len(b):
        raise CompileError(f"{op.type}: shapes [{dims_text(a)}] and [{dims_text(b)}] must be equal", op.source)
    for left, right in zip(a, b, strict=True):
        op.equal(left, right)


def not_longer(op: Operator, part: Dim, whole: Dim) -> None:
    """Ask that a dim is not longer than another: now, or where sizes are given."""
    if part == whole:
        return
    if isinstance(part, int) and isinstance(whole, int):
        if part > whole:
            raise CompileError(f"{op.type}: {part} elements along an axis of {whole}", op.source)
        return
    deduction = op.lowering.deduction
    guard = Guard(op.size(part), "<=", op.size(whole), op.source)
    if deduction.is_late(guard.left) or deduction.is_late(guard.right):
        raise Unsupported(f"whether {part} is at most {whole} follows from data")
    if str(guard) not in [str(each) for each in deduction.guards]:
        deduction.guards.append(guard)


def whole_number(op: Operator, dim: Dim, what: str) -> int:
    """A dim that must be known now. Unsupported where it is a symbol."""
    if not isinstance(dim, int):
        raise Unsupported(f"{what} ({dim}) is not known before the model runs")
    return dim
