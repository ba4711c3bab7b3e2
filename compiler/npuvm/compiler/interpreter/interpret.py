"""Numpy interpreter of a graph: the debug reference, rounding where the instruction set rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import erf, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops_along import ALONG_RULES
from npuvm.compiler.graph.ops_indexed import INDEXED
from npuvm.compiler.graph.ops_views import VIEW_RULES
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.interpreter.along import evaluate_along
from npuvm.compiler.interpreter.conv import evaluate_conv
from npuvm.compiler.interpreter.indexed import evaluate_indexed
from npuvm.compiler.interpreter.views import evaluate_view

__all__ = ["evaluate_node", "interpret"]

Array = npt.NDArray[Any]

_erf = np.vectorize(erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


_UNARY: Mapping[str, Callable[[Array], Array]] = {
    "neg": np.negative, "abs": np.abs, "relu": lambda x: np.maximum(x, 0), "sign": np.sign,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
    "floor": np.floor, "ceil": np.ceil, "rint": np.rint, "trunc": np.trunc,
    "tanh": np.tanh, "sigmoid": _sigmoid, "silu": lambda x: x * _sigmoid(x), "softplus": lambda x: np.logaddexp(x, 0),
    "erf": lambda x: _erf(x).astype(x.dtype), "isfinite": np.isfinite, "logical_not": np.logical_not,
}  # fmt: skip

_BINARY: Mapping[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
    "max": np.maximum, "min": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip

_REDUCE: Mapping[str, Callable[..., Array]] = {
    "reduce_sum": np.sum, "reduce_prod": np.prod, "reduce_max": np.max, "reduce_min": np.min, "mean": np.mean,
}  # fmt: skip


def interpret(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name for arrays by parameter name (numpy dtypes as `DTYPES` lists them).

    fp16 and bf16 operations compute in float32 and round once each; int32 wraps; a matmul sums in float32 (int8: int32).
    Raises CompileError when shapes or dtypes do not fit, and on `asm`, which has no meaning outside the chip.
    """
    binding = graph.bind({name: array.shape for name, array in inputs.items()})
    for param in graph.params:
        if inputs[param.name].dtype != param.type.info.numpy:
            raise CompileError(
                f"parameter '{param.name}' is {param.type.dtype}, got {inputs[param.name].dtype}", graph.name
            )
    values: dict[int, Array] = {}
    outputs: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.op == "store":
                outputs[str(node.attrs["output"])] = values[node.inputs[0].id]
            elif node.op == "load":
                values[node.id] = inputs[str(node.attrs["param"])]
            else:
                values[node.id] = evaluate_node(node, [values[each.id] for each in node.inputs], binding)
    return outputs


def evaluate_node(node: Node, inputs: Sequence[Array], binding: Mapping[str, int]) -> Array:
    """The value of one node, other than load and store, for the values of its inputs."""
    target = node.type.info.numpy
    if node.op in _UNARY:
        return _round(_UNARY[node.op](_wide(inputs[0])), target)
    if node.op == "gelu":
        x = _wide(inputs[0])
        exact = node.attrs["approximate"] == "none"
        return _round(0.5 * x * (1 + _erf(x / np.sqrt(2))) if exact else _gelu_tanh(x), target)
    if node.op in _BINARY:
        return _round(_BINARY[node.op](_wide(inputs[0]), _wide(inputs[1])), target)
    if node.op in _REDUCE:
        if 0 in (shape := evaluate(node.type.shape, binding)):
            return np.zeros(shape, target)
        wide = _wide(inputs[0])
        extra = {"dtype": wide.dtype} if node.op in ("reduce_sum", "reduce_prod", "mean") else {}
        return _round(
            _REDUCE[node.op](wide, axis=node.axes(), keepdims=bool(node.attrs.get("keepdims")), **extra), target
        )
    if node.op in VIEW_RULES:
        return evaluate_view(node, inputs, binding)
    if node.op in ALONG_RULES:
        return evaluate_along(node, inputs, binding)
    if node.op in INDEXED:
        return evaluate_indexed(node, inputs, binding)
    match node.op:
        case "const":
            return np.asarray(node.number(), dtype=target)
        case "size":
            return _cast(np.asarray(prod(evaluate(node.dims("dims"), binding))), target)
        case "cast":
            return _cast(inputs[0], target)
        case "select":
            return np.where(*inputs)
        case "broadcast_to":
            return np.broadcast_to(inputs[0], evaluate(node.type.shape, binding))
        case "reshape":
            return inputs[0].reshape(evaluate(node.type.shape, binding))
        case "permute":
            return inputs[0].transpose(node.axes())
        case "matmul":
            return _matmul(node, inputs)
        case "conv2d":
            return evaluate_conv(node, inputs, binding)
    raise CompileError(f"the interpreter has no meaning for '{node.op}'", node.where or None)


def _matmul(node: Node, inputs: Sequence[Array]) -> Array:
    a, b = (
        np.swapaxes(x, -1, -2) if node.attrs.get(f"transpose_{side}") else x
        for x, side in zip(inputs[:2], "ab", strict=True)
    )
    sums = np.dtype(np.int32 if a.dtype == np.int8 else np.float32)
    result = np.matmul(a.astype(sums), b.astype(sums))
    if len(inputs) == 3:
        result = result + inputs[2].astype(sums)
    return _round(result, node.type.info.numpy)


def _wide(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype in (DTYPES["fp16"].numpy, DTYPES["bf16"].numpy) else x


def _round(x: Array, target: np.dtype[Any]) -> Array:
    return np.asarray(x).astype(target)


def _cast(x: Array, target: np.dtype[Any]) -> Array:
    if target.kind not in "iu" or (x.dtype.kind in "iub" and x.dtype.itemsize <= target.itemsize):
        return (x != 0) if target == np.bool_ else x.astype(target)
    limits = np.iinfo(target)
    clipped = np.clip(
        np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)), limits.min, limits.max
    )
    return clipped.astype(target)
