"""Random kernels, their inputs, and a reference that runs a plan segment by segment in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from npuvm.compiler import DTYPES, Graph, KernelBuilder, Param, ParamRef, TensorType, Value, parse_type
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import Attrs
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.interpreter.interpret import evaluate_node
from npuvm.compiler.plan.plan import Plan
from npuvm.compiler.plan.segments import Access, PickSegment, VectorSegment

Array = npt.NDArray[Any]

_CASTS = {
    "fp32": "fp16 bf16 int32 int8 bool fp8_e4m3 fp8_e5m2",
    "fp16": "fp32 bf16 int32 int8 bool fp8_e4m3 fp8_e5m2",
    "bf16": "fp32 fp16 int32 bool",
    "int32": "fp32 fp16 bf16 int8 bool",
    "int8": "int32 fp16 fp32",
    "bool": "fp32 fp16 bf16 int32 int8",
    "fp8_e4m3": "fp32 fp16",
    "fp8_e5m2": "fp32 fp16",
}
CASTS = frozenset((source, target) for source, targets in _CASTS.items() for target in targets.split())
"""The pairs that the base instruction set casts in one instruction."""


def build(body: Any, **params: str) -> Graph:
    """Trace `body(k, **values)` with every parameter loaded; it stores its results itself."""
    graph = Graph("generated", tuple(Param(name, parse_type(text)) for name, text in params.items()))
    k = KernelBuilder(graph)
    body(k, *(k.load(ParamRef(name, parse_type(text))) for name, text in params.items()))
    return graph


def random_inputs(graph: Graph, binding: dict[str, int], seed: int = 0) -> dict[str, Array]:
    """Small values of every dtype, for the shapes that the binding gives."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for param in graph.params:
        shape, info = evaluate(param.type.shape, binding), DTYPES[param.type.dtype]
        if info.kind == "float":
            inputs[param.name] = rng.standard_normal(shape).astype(info.numpy)
        elif info.kind == "int":
            inputs[param.name] = rng.integers(-50, 50, shape).astype(info.numpy)
        else:
            inputs[param.name] = rng.integers(0, 2, shape).astype(np.bool_)
    return inputs


def run_plan(plan: Plan, inputs: dict[str, Array]) -> dict[str, Array]:
    """What the segments compute, one after the other, through strided reads and writes of flat tensors."""
    binding = plan.graph.bind({name: array.shape for name, array in inputs.items()})
    memory: dict[str, Array] = {}
    for tensor in plan.tensors:
        count = int(np.prod(evaluate(tensor.shape, binding)))
        data = (
            inputs[tensor.name].ravel().copy()
            if tensor.kind == "param"
            else np.zeros(count, DTYPES[tensor.dtype].numpy)
        )
        memory[tensor.name] = data

    def view(access: Access) -> Array:
        flat = memory[access.tensor.name]
        strides = [stride * flat.itemsize for stride in access.layout.stride_values(binding)]
        shape = evaluate(access.layout.dims, binding)
        if 0 in shape:
            return np.empty(shape, flat.dtype)
        return np.lib.stride_tricks.as_strided(flat[access.layout.offset.value(binding) :], shape, strides)

    def value_of(node: Node, values: dict[int, Array]) -> Array:
        return evaluate_node(node, [], binding) if is_scalar(node) else values[node.id]

    with np.errstate(all="ignore"):
        for segment in plan.segments:
            if isinstance(segment, VectorSegment):
                values: dict[int, Array] = {}
                for node, access in segment.reads:
                    values[node.id] = view(access) if access.picks is None else picked(access, values, memory, binding)
                for node in segment.nodes:
                    values[node.id] = evaluate_node(node, [value_of(each, values) for each in node.inputs], binding)
                for node, access in segment.writes:
                    view(access)[...] = value_of(node, values)
            elif isinstance(segment, PickSegment):
                pick(segment, view)
            else:
                a, b = view(segment.a), view(segment.b)
                a, b = (
                    np.swapaxes(a, -1, -2) if segment.transpose_a else a,
                    np.swapaxes(b, -1, -2) if segment.transpose_b else b,
                )
                flags: Attrs = {"transpose_a": False, "transpose_b": False, "dtype": segment.node.type.dtype}
                plain = Node(0, "matmul", segment.node.inputs, flags, segment.node.type)
                operands = [a, b] if segment.bias is None else [a, b, view(segment.bias)]
                view(segment.c)[...] = evaluate_node(plain, operands, binding)
    outputs = [tensor for tensor in plan.tensors if tensor.kind == "output"]
    return {tensor.name: memory[tensor.name].reshape(evaluate(tensor.shape, binding)) for tensor in outputs}


def picked(
    access: Access, values: Mapping[int, Array], memory: Mapping[str, Array], binding: Mapping[str, int]
) -> Array:
    """Rows of a table by indices that were read before."""
    flat, picks = memory[access.tensor.name], access.picks
    assert picks is not None
    index = values[picks.index]
    shape, strides = evaluate(access.layout.dims, binding), access.layout.stride_values(binding)
    result = np.empty(shape, flat.dtype)
    (count,) = evaluate((picks.count,), binding)
    for place in np.ndindex(*shape):
        row = int(index[tuple(min(at, size - 1) for at, size in zip(place, index.shape, strict=True))])
        first = access.layout.offset.value(binding) + row % count * picks.row.value(binding)
        result[place] = flat[first + sum(at * stride for at, stride in zip(place, strides, strict=True))]
    return result


def pick(segment: PickSegment, view: Callable[[Access], Array]) -> None:
    """A gather or scatter, by the flat table that the segment sees."""
    axis = int(str(segment.node.attrs["axis"]))
    table = np.moveaxis(view(segment.table), axis, 0)
    index, rows = view(segment.index), view(segment.rows)
    rows = np.moveaxis(rows, range(axis, axis + index.ndim), range(index.ndim))
    for at in np.ndindex(index.shape):
        if segment.node.op == "gather":
            rows[at] = table[index[at]]
        elif segment.node.op == "scatter":
            table[index[at]] = rows[at]
        else:
            table[index[at]] += rows[at]


@st.composite
def vector_graphs(draw: st.DrawFn) -> tuple[Graph, dict[str, int]]:
    """A kernel of element-wise operations, broadcasts, reduces, reshapes and permutes, and sizes for its symbols."""
    rank = draw(st.integers(1, 3))
    dims = ["A", "B", "C"][:rank]
    binding = {dim: draw(st.sampled_from([1, 2, 3, 5, 17, 33])) for dim in dims}
    dtype = draw(st.sampled_from(["fp32", "fp16", "int32"]))
    full = ", ".join(dims)
    row = ", ".join("1" if draw(st.booleans()) else dim for dim in dims)
    steps = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=8))

    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        values = [x, x + y]
        for step in steps:
            kind, at, pick = step % 8, (step // 8) % len(values), step // 100
            value = values[at]
            if kind == 0:
                values.append(k.maximum(value, values[pick % len(values)]) if value.shape == x.shape else k.neg(value))
            elif kind == 1:
                values.append(value * 0.5 if dtype != "int32" else value * 3)
            elif kind == 2 and value.shape:
                axes = tuple(axis for axis in range(len(value.shape)) if (pick >> axis) & 1) or (len(value.shape) - 1,)
                reduced = (k.sum, k.max, k.min)[pick % 3](value, axes, keepdims=True)
                values.append(reduced)
                if value.shape == x.shape:
                    values.append(value - reduced)
            elif kind == 3 and value.shape:
                k.store(k.sum(value, pick % len(value.shape)) + (1 if dtype == "int32" else 1.0))
            elif kind == 4 and value.shape:
                order = sorted(range(len(value.shape)), key=lambda axis: (pick >> axis) % 7)
                k.store(k.permute(value, order))
            elif kind == 5:
                k.store(k.reshape(value, "-1"))
            elif kind == 6:
                values.append(k.select(value > y, value, x) if value.shape == x.shape else k.relu(value))
            elif dtype == "fp16":
                values.append(k.cast(k.cast(value, "fp32") + 1.0, "fp16"))
        k.store(values[-1], name="result")

    return build(body, x=f"{dtype}[{full}]", y=f"{dtype}[{row}]"), binding


def assert_close(actual: dict[str, Array], expected: dict[str, Array], kinds: dict[str, TensorType]) -> None:
    """Equal for integers and bools, within a few units in the last place of the output's dtype for floats."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        tolerance = {"fp32": 2e-5, "fp16": 1e-2, "bf16": 6e-2}.get(kinds[name].dtype, 0)
        np.testing.assert_allclose(
            actual[name].astype(np.float64), value.astype(np.float64), rtol=tolerance, atol=tolerance, err_msg=name
        )
