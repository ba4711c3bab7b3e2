"""Graphs on torch, in float64: a second oracle for random kernels, where torch is installed.

It shares nothing with the first one: that follows the steps which drew the graph (random_kernels, enclosures), this one the
graph that was traced. No value is rounded on the way to a dtype; integers are int64.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler import Graph
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.symbols import evaluate

Array = npt.NDArray[Any]
Tensor = Any
Binding = Mapping[str, int]

NAMED = "torch"


@cache
def torch_version() -> str | None:
    """The version of torch, or None where it is not installed."""
    return version(NAMED) if importlib.util.find_spec(NAMED) else None


def torch_outputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name, in float64, int64 or bool; those that need an operation which is not written down here are left out."""
    import torch

    binding = graph.bind({name: array.shape for name, array in inputs.items()})
    values: dict[int, Tensor] = {}
    outputs: dict[str, Array] = {}
    for node in graph.nodes:
        if any(each.id not in values for each in node.inputs):
            continue
        own = [values[each.id] for each in node.inputs]
        if node.op == "store":
            outputs[str(node.attrs["output"])] = own[0].numpy()
        elif node.op == "load":
            values[node.id] = _tensor(torch, inputs[str(node.attrs["param"])])
        elif node.op in _simple():
            values[node.id] = _simple()[node.op](*own)
        elif node.op in _WITH_ATTRS:
            values[node.id] = _WITH_ATTRS[node.op](torch, node, own, binding)
    return outputs


def _tensor(torch: Any, array: Array) -> Tensor:
    kind = np.int64 if array.dtype.kind == "i" else np.bool_ if array.dtype.kind == "b" else np.float64
    return torch.from_numpy(array.astype(kind))


def _dtype(torch: Any, node: Node) -> Any:
    kind = node.type.info.numpy.kind
    return torch.int64 if kind == "i" else torch.bool if kind == "b" else torch.float64


@cache
def _simple() -> Mapping[str, Callable[..., Tensor]]:
    """Operations that need only the values of their inputs."""
    import torch

    return {
        "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
        "min": torch.minimum, "max": torch.maximum, "lt": torch.lt, "select": torch.where,
        "neg": torch.neg, "abs": torch.abs, "relu": torch.relu, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
        "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
        "silu": torch.nn.functional.silu, "erf": torch.erf,
    }  # fmt: skip


# Operations with attributes.


def _reduce(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    functions = {"reduce_sum": torch.sum, "mean": torch.mean, "reduce_max": torch.amax, "reduce_min": torch.amin}
    return functions[node.op](own[0], dim=node.axes(), keepdim=bool(node.attrs.get("keepdims")))


def _best(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    find = torch.argmax if node.op == "argmax" else torch.argmin
    return find(own[0], dim=_axis(node), keepdim=bool(node.attrs.get("keepdims")))


def _top(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    values, places = torch.sort(own[0], dim=-1, descending=True, stable=True)
    return (values if node.op == "top_values" else places)[..., : evaluate(node.type.shape, binding)[-1]]


def _cast(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    target = _dtype(torch, node)
    if target == torch.int64 and own[0].dtype == torch.float64:
        limits = torch.iinfo(torch.int32)
        return torch.trunc(own[0]).clamp(limits.min, limits.max).to(target)
    return own[0].to(target)


def _const(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    return _tensor(torch, np.asarray(node.number(), dtype=node.type.info.numpy))


def _size(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    return torch.tensor(prod(evaluate(node.dims("dims"), binding)), dtype=_dtype(torch, node))


def _iota(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    shape = evaluate(node.type.shape, binding)
    along = [-1 if axis == _axis(node) else 1 for axis in range(len(shape))]
    return torch.arange(shape[_axis(node)], dtype=_dtype(torch, node)).reshape(along).expand(shape)


def _slice(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    starts, steps = (evaluate(node.dims(name), binding) for name in ("starts", "steps"))
    value = own[0]
    for axis, (start, step, size) in enumerate(zip(starts, steps, evaluate(node.type.shape, binding), strict=True)):
        value = torch.index_select(value, axis, start + step * torch.arange(size))
    return value


def _pad(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    lows, shape = evaluate(node.dims("lows"), binding), evaluate(node.type.shape, binding)
    ends = [(low, full - low - size) for low, full, size in zip(lows, shape, own[0].shape, strict=True)]
    flat = [each for pair in reversed(ends) for each in pair]
    return torch.nn.functional.pad(own[0], flat, value=node.attrs["value"])


def _matmul(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    a, b = (
        value.transpose(-1, -2) if node.attrs.get(f"transpose_{side}") else value
        for value, side in zip(own[:2], "ab", strict=True)
    )
    return torch.matmul(a, b) + own[2] if len(own) == 3 else torch.matmul(a, b)


def _gather(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    index = torch.where(own[1] < 0, own[1] + own[0].shape[_axis(node)], own[1])
    return torch.index_select(own[0], _axis(node), index.reshape(-1)).reshape(evaluate(node.type.shape, binding))


def _gelu(torch: Any, node: Node, own: list[Tensor], binding: Binding) -> Tensor:
    return torch.nn.functional.gelu(own[0], approximate=str(node.attrs["approximate"]))


def _axis(node: Node) -> int:
    axis = node.attrs["axis"]
    assert isinstance(axis, int)
    return axis


_WITH_ATTRS: Mapping[str, Callable[[Any, Node, list[Tensor], Binding], Tensor]] = {
    **dict.fromkeys(("reduce_sum", "mean", "reduce_max", "reduce_min"), _reduce),
    **dict.fromkeys(("argmax", "argmin"), _best),
    **dict.fromkeys(("top_values", "top_indices"), _top),
    "cast": _cast, "const": _const, "size": _size, "iota": _iota, "slice": _slice, "pad": _pad, "matmul": _matmul,
    "gather": _gather, "gelu": _gelu,
    "cumsum": lambda torch, node, own, binding: torch.cumsum(own[0], _axis(node)),
    "concat": lambda torch, node, own, binding: torch.cat(own, _axis(node)),
    "permute": lambda torch, node, own, binding: own[0].permute(node.axes()),
    "reshape": lambda torch, node, own, binding: own[0].reshape(evaluate(node.type.shape, binding)),
    "broadcast_to": lambda torch, node, own, binding: own[0].expand(evaluate(node.type.shape, binding)),
}  # fmt: skip
