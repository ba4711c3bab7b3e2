"""The numpy meaning of operations along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_along import BESTS, axis_of
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES

__all__ = ["evaluate_along"]

Array = npt.NDArray[Any]


def evaluate_along(node: Node, inputs: Sequence[Array], binding: Mapping[str, int]) -> Array:
    """The value of an iota, one_hot, argmax, argmin, cumsum or top-k."""
    shape, target = evaluate(node.type.shape, binding), node.type.info.numpy
    if node.op == "iota":
        along = [-1 if axis == axis_of(node) else 1 for axis in range(len(shape))]
        numbers = np.arange(shape[axis_of(node)]).reshape(along)
        return np.broadcast_to(_saturated(numbers, target), shape)
    x = inputs[0]
    if node.op in BESTS.values():
        x, shape = x[..., 0, :], (*shape[:-2], shape[-2])
    if node.op == "one_hot":
        axis = axis_of(node)
        numbers = np.arange(shape[axis]).reshape([-1 if each == axis else 1 for each in range(len(shape))])
        return np.asarray(np.expand_dims(x, axis) == numbers).astype(target)
    wide = x.astype(np.float32) if DTYPES[node.inputs[0].type.dtype].low_precision else x
    if node.op in ("argmax", "argmin"):
        if 0 in shape:
            return np.zeros(shape, target)
        find = np.argmax if node.op == "argmax" else np.argmin
        return np.asarray(find(wide, axis=axis_of(node), keepdims=bool(node.attrs.get("keepdims")))).astype(target)
    if node.op == "reduce_argmax":
        return np.zeros(shape, target) if 0 in shape else np.argmax(wide, axis=-1, keepdims=True).astype(target)
    if node.op == "cumsum":
        return np.cumsum(wide, axis=axis_of(node), dtype=wide.dtype).astype(target)
    order = _descending(wide)[..., : shape[-1]]
    result = order.astype(np.int32) if node.op.endswith("indices") else np.take_along_axis(x, order, -1)
    return result[..., None] if node.op in BESTS.values() else result


def _saturated(numbers: Array, target: np.dtype[Any]) -> Array:
    return (np.minimum(numbers, np.iinfo(target).max) if target.kind == "i" else numbers).astype(target)


def _descending(x: Array) -> Array:
    """Places of the elements of each row, largest first, equal ones in their order, NaN before all numbers."""
    reverse = x[..., ::-1]
    if x.dtype.kind == "f":
        order = np.lexsort((reverse, np.isnan(reverse)), axis=-1)
    else:
        order = np.argsort(reverse, axis=-1, kind="stable")
    return np.asarray(x.shape[-1] - 1 - order[..., ::-1])
