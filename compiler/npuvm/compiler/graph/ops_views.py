"""Operations that move data: parts, paddings, windows and strided views of a tensor, and tensors put side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import Dim, TensorType, dims_text

if TYPE_CHECKING:
    from npuvm.compiler.graph.ir import Node

__all__ = ["ASSEMBLED", "CHECKED_VIEWS", "STRIDED", "VIEW_RULES", "check_views", "parts", "takes_all"]

STRIDED = ("slice", "windows", "as_strided")
"""Views that pick elements of their input: strides and an offset say which."""

ASSEMBLED = ("concat", "pad")
"""Operations whose result is a tensor that several programs write parts of."""

_Attrs = Mapping[str, object]


def _ints(op: str, attrs: _Attrs, name: str, count: int | None = None, least: int = 1) -> tuple[int, ...]:
    value = attrs.get(name)
    if not isinstance(value, tuple) or any(not isinstance(each, int) or each < least for each in value):
        raise CompileError(f"{op}: '{name}' must be whole numbers >= {least}, not {value!r}")
    if count is not None and len(value) != count:
        raise CompileError(f"{op}: '{name}' must have {count} numbers, not {list(value)}")
    return value


def _dims(op: str, attrs: _Attrs, name: str, count: int | None = None) -> tuple[Dim, ...]:
    value = attrs.get(name)
    if not isinstance(value, tuple) or any(isinstance(each, int) and each < 0 for each in value):
        raise CompileError(f"{op}: '{name}' must be sizes >= 0 or names of dims, not {value!r}")
    if count is not None and len(value) != count:
        raise CompileError(f"{op}: '{name}' must have {count} dims, not [{dims_text(value)}]")
    return value


def _slice(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    rank = inputs[0].rank
    _dims("slice", attrs, "starts", rank)
    _ints("slice", attrs, "steps", rank)
    return TensorType(inputs[0].dtype, _dims("slice", attrs, "sizes", rank))


def _windows(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    source = inputs[0]
    axes = _ints("windows", attrs, "axes", least=0)
    if list(axes) != sorted(set(axes)) or any(axis >= source.rank for axis in axes):
        raise CompileError(
            f"windows: axes {list(axes)} must be increasing and within the {source.rank} dims of {source}"
        )
    kernel = _ints("windows", attrs, "kernel", len(axes))
    _ints("windows", attrs, "steps", len(axes))
    _ints("windows", attrs, "dilations", len(axes))
    counts = dict(zip(axes, _dims("windows", attrs, "counts", len(axes)), strict=True))
    return TensorType(source.dtype, (*(counts.get(i, dim) for i, dim in enumerate(source.shape)), *kernel))


def _as_strided(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    shape = _dims("as_strided", attrs, "shape")
    _dims("as_strided", attrs, "strides", len(shape))
    _dims("as_strided", attrs, "offset", 1)
    return TensorType(inputs[0].dtype, shape)


def _pad(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    source = inputs[0]
    _dims("pad", attrs, "lows", source.rank)
    value = attrs.get("value")
    if not isinstance(value, int | float):
        raise CompileError(f"pad: the value {value!r} is no number")
    return TensorType(source.dtype, _dims("pad", attrs, "sizes", source.rank))


def _concat(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    first, axis = inputs[0], attrs.get("axis")
    if not isinstance(axis, int) or not 0 <= axis < first.rank:
        raise CompileError(f"concat: axis {axis!r} must be within the {first.rank} dims of {first}")
    for each in inputs[1:]:
        if each.dtype != first.dtype:
            raise CompileError(f"concat: {first} and {each} have different dtypes; cast one of them")
        if each.rank != first.rank or any(
            a != b for i, (a, b) in enumerate(zip(first.shape, each.shape, strict=True)) if i != axis
        ):
            raise CompileError(f"concat along axis {axis}: {first} and {each} must have the same other dims")
    (size,) = _dims("concat", attrs, "size", 1)
    return TensorType(first.dtype, (*first.shape[:axis], size, *first.shape[axis + 1 :]))


VIEW_RULES: Mapping[str, tuple[int, tuple[str, ...], Callable[[Sequence[TensorType], _Attrs], TensorType]]] = {
    "slice": (1, ("starts", "sizes", "steps"), _slice),
    "windows": (1, ("axes", "kernel", "steps", "dilations", "counts"), _windows),
    "as_strided": (1, ("shape", "strides", "offset"), _as_strided),
    "pad": (1, ("lows", "sizes", "value"), _pad),
    "concat": (64, ("axis", "size"), _concat),
}
"""Most inputs, attributes and type rule of each operation."""


def parts(node: Node) -> Iterator[tuple[Node, tuple[Sum, ...]]]:
    """The inputs of an assembled node, and where in its result each begins."""
    if node.op == "pad":
        yield node.inputs[0], tuple(sum_of(low) for low in node.dims("lows"))
        return
    axis = node.attrs["axis"]
    assert isinstance(axis, int)
    at = Sum()
    for each in node.inputs:
        yield each, tuple(at if i == axis else Sum() for i in range(node.type.rank))
        at += sum_of(each.type.shape[axis])


def takes_all(op: str, inputs: Sequence[TensorType], attrs: _Attrs) -> bool:
    """Whether the operation gives its only input unchanged."""
    if op == "slice":
        return attrs["sizes"] == inputs[0].shape and set(_ints(op, attrs, "steps")) <= {1}
    if op == "pad":
        return attrs["sizes"] == inputs[0].shape
    return op == "concat" and len(inputs) == 1


def check_views(nodes: Sequence[Node], binding: Mapping[str, int]) -> None:
    """Raise CompileError when a view leaves its input for these sizes, or parts do not fill their result."""
    for node in nodes:
        found = _CHECKS.get(node.op)
        if found is not None and 0 not in evaluate(node.type.shape, binding):
            found(node, evaluate(node.inputs[0].type.shape, binding), binding)


def _outside(node: Node, text: str) -> CompileError:
    return CompileError(f"{node.op}: {text}", node.where or None)


def _check_slice(node: Node, shape: Sequence[int], binding: Mapping[str, int]) -> None:
    starts, sizes = evaluate(node.dims("starts"), binding), evaluate(node.dims("sizes"), binding)
    steps = evaluate(node.dims("steps"), binding)
    for axis, (start, size, step, dim) in enumerate(zip(starts, sizes, steps, shape, strict=True)):
        if start + (size - 1) * step >= dim:
            last = start + (size - 1) * step
            raise _outside(node, f"element {last} of axis {axis}, which has {dim} of them in shape {list(shape)}")


def _check_windows(node: Node, shape: Sequence[int], binding: Mapping[str, int]) -> None:
    counts = evaluate(node.dims("counts"), binding)
    rest = (evaluate(node.dims(name), binding) for name in ("kernel", "steps", "dilations"))
    for axis, count, kernel, step, dilation in zip(node.axes(), counts, *rest, strict=True):
        need = (count - 1) * step + (kernel - 1) * dilation + 1
        if need > shape[axis]:
            raise _outside(node, f"the windows of axis {axis} reach over {need} elements of {shape[axis]}")


def _check_strided(node: Node, shape: Sequence[int], binding: Mapping[str, int]) -> None:
    sizes, strides = evaluate(node.type.shape, binding), evaluate(node.dims("strides"), binding)
    (offset,) = evaluate(node.dims("offset"), binding)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    count = 1
    for size in shape:
        count *= size
    if last >= count:
        raise _outside(node, f"element {last} of a tensor of {count} elements, shape {list(shape)}")


def _check_pad(node: Node, shape: Sequence[int], binding: Mapping[str, int]) -> None:
    lows, sizes = evaluate(node.dims("lows"), binding), evaluate(node.type.shape, binding)
    if any(low + size > whole for low, size, whole in zip(lows, shape, sizes, strict=True)):
        raise _outside(node, f"shape {list(shape)} at {list(lows)} does not fit {list(sizes)}")


def _check_concat(node: Node, shape: Sequence[int], binding: Mapping[str, int]) -> None:
    axis = int(str(node.attrs["axis"]))
    sizes = [evaluate(each.type.shape, binding)[axis] for each in node.inputs]
    whole = evaluate(node.type.shape, binding)[axis]
    if sum(sizes) != whole:
        raise _outside(node, f"parts of {sizes} elements along axis {axis} do not make {whole}")


_CHECKS: Mapping[str, Callable[[Node, Sequence[int], Mapping[str, int]], None]] = {
    "slice": _check_slice,
    "windows": _check_windows,
    "as_strided": _check_strided,
    "pad": _check_pad,
    "concat": _check_concat,
}

CHECKED_VIEWS = frozenset(_CHECKS)
"""Operations that a concrete shape may not fit."""
