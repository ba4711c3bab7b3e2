"""The numpy meaning of operations that move data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_views import parts
from npuvm.compiler.graph.symbols import evaluate

__all__ = ["evaluate_view"]

Array = npt.NDArray[Any]


def evaluate_view(node: Node, inputs: Sequence[Array], binding: Mapping[str, int]) -> Array:
    """The value of a slice, windows, as_strided, concat or pad."""
    shape = evaluate(node.type.shape, binding)
    x = inputs[0]
    if node.op in ("concat", "pad"):
        result = np.full(shape, node.attrs.get("value", 0), dtype=node.type.info.numpy)
        for value, (_, starts) in zip(inputs, parts(node), strict=True):
            begin = [start.value(binding) for start in starts]
            result[tuple(slice(at, at + size) for at, size in zip(begin, value.shape, strict=True))] = value
        return result
    if 0 in shape:
        return np.empty(shape, x.dtype)
    dims = {name: evaluate(node.dims(name), binding) for name, value in node.attrs.items() if isinstance(value, tuple)}
    if node.op == "slice":
        return x[
            tuple(
                slice(start, start + (size - 1) * step + 1, step)
                for start, size, step in zip(dims["starts"], shape, dims["steps"], strict=True)
            )
        ]
    if node.op == "windows":
        places = []
        for axis, dim in enumerate(x.shape):
            at = dims["axes"].index(axis) if axis in dims["axes"] else -1
            count, step = (dim, 1) if at < 0 else (dims["counts"][at], dims["steps"][at])
            place = np.arange(count).reshape(-1, *[1] * (len(shape) - axis - 1)) * step
            if at >= 0:
                inner = np.arange(dims["kernel"][at]) * dims["dilations"][at]
                place = place + inner.reshape(-1, *[1] * (len(dims["axes"]) - at - 1))
            places.append(place)
        return np.asarray(x[tuple(places)])
    flat = np.ascontiguousarray(x).reshape(-1)[dims["offset"][0] :]
    return np.lib.stride_tricks.as_strided(flat, shape, [stride * x.itemsize for stride in dims["strides"]])
