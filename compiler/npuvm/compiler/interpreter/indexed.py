"""The numpy meaning of operations that pick rows by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES

__all__ = ["evaluate_indexed"]

Array = npt.NDArray[Any]


def evaluate_indexed(node: Node, inputs: Sequence[Array], binding: Mapping[str, int]) -> Array:
    """The value of a gather, scatter or scatter_add; fp16 and bf16 are added up in float32 and rounded once.

    Negative indices count from the end. CompileError for an index outside its axis.
    """
    axis = node.attrs["axis"]
    assert isinstance(axis, int)
    if node.op == "gather":
        index = _wrapped(node, inputs[1], inputs[0].shape[axis])
        return np.take(inputs[0], index, axis=axis)
    shape, target = evaluate(node.type.shape, binding), node.type.info.numpy
    index, rows = _wrapped(node, inputs[0], shape[axis]), inputs[1]
    start = inputs[2] if len(inputs) == 3 else np.zeros(shape, target)
    adds = node.op == "scatter_add"
    wide = np.dtype(np.float32) if adds and DTYPES[node.type.dtype].low_precision else target
    table = np.moveaxis(start, axis, 0).astype(wide)
    # The dims of the indices come first, in one, then the others of the table.
    moved = np.moveaxis(rows, range(axis, axis + index.ndim), range(index.ndim))
    moved = moved.reshape(index.size, *table.shape[1:]).astype(wide)
    if adds:
        np.add.at(table, index.reshape(-1), moved)
    else:
        for at, row in zip(index.reshape(-1), moved, strict=True):
            table[at] = row
    return np.moveaxis(table, 0, axis).astype(target)


def _wrapped(node: Node, index: Array, count: int) -> Array:
    outside = (index < -count) | (index >= count)
    if outside.any():
        message = f"{node.op}: index {int(index[outside].flat[0])} is outside an axis of {count} elements"
        raise CompileError(message, node.where or None)
    return np.where(index < 0, index + count, index)
