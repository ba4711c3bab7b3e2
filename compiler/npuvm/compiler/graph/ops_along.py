"""Operations along an axis that are no reduces: numbers, places of extremes, prefix sums, one-hot, the largest elements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES, Dim, TensorType

if TYPE_CHECKING:
    from npuvm.compiler.graph.ir import Node

__all__ = ["ALONG_RULES", "BESTS", "PART", "TOPS", "axis_of", "check_along"]

TOPS = ("top_values", "top_indices")
"""The k largest elements along the last axis, and where they are."""

BESTS = {"top_values": "best_values", "top_indices": "best_indices"}
"""The same with the k and the elements they are taken from as dims of their own: [.., 1, N] gives [.., k, 1]."""

PART = 2048
"""Elements of the parts of rows that are too long for UB: the largest of each part are candidates for those of the row."""

_FLOATS = ("fp32", "fp16", "bf16")
_NUMBERS = (*_FLOATS, "int32")

_Attrs = Mapping[str, object]
_Rule = Callable[[Sequence[TensorType], _Attrs], TensorType]


def axis_of(node: Node) -> int:
    """The attribute `axis` of an operation."""
    axis = node.attrs["axis"]
    assert isinstance(axis, int)
    return axis


def _axis(op: str, attrs: _Attrs, rank: int, what: object) -> int:
    axis = attrs.get("axis")
    if not isinstance(axis, int) or isinstance(axis, bool) or not 0 <= axis < rank:
        raise CompileError(f"{op}: axis {axis!r} must be within the {rank} dims of {what}")
    return axis


def _dtype(op: str, attrs: _Attrs) -> str:
    dtype = attrs.get("dtype")
    if dtype not in DTYPES or dtype == "bool":
        allowed = ", ".join(each for each in DTYPES if each != "bool")
        raise CompileError(f"{op}: the dtype {dtype!r} must be one of {allowed}")
    return str(dtype)


def _one_dim(op: str, attrs: _Attrs, name: str) -> Dim:
    value = attrs.get(name)
    if not isinstance(value, tuple) or len(value) != 1 or (isinstance(value[0], int) and value[0] < 0):
        raise CompileError(f"{op}: '{name}' must be one size >= 0 or the name of a dim, not {value!r}")
    dim: Dim = value[0]
    return dim


def _takes(op: str, x: TensorType, allowed: Iterable[str]) -> None:
    if x.dtype not in allowed:
        raise CompileError(f"{op} does not take {x.dtype}; allowed: {', '.join(allowed)} (use cast)")


def _iota(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    shape = attrs.get("shape")
    if not isinstance(shape, tuple):
        raise CompileError(f"iota: attribute 'shape' must be a list of dims, not {shape!r}")
    result = TensorType(_dtype("iota", attrs), shape)
    _axis("iota", attrs, result.rank, result)
    return result


def _one_hot(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    x = inputs[0]
    _takes("one_hot", x, ("int32",))
    depth, dtype = _one_dim("one_hot", attrs, "depth"), attrs.get("dtype")
    if dtype not in DTYPES:
        raise CompileError(f"one_hot: unknown dtype {dtype!r}; allowed: {', '.join(DTYPES)}")
    axis = _axis("one_hot", attrs, x.rank + 1, f"{x} and the new one")
    return TensorType(str(dtype), (*x.shape[:axis], depth, *x.shape[axis:]))


def _place(op: str) -> _Rule:
    def infer(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
        x = inputs[0]
        _takes(op, x, (*_NUMBERS, "int8"))
        axis = _axis(op, attrs, x.rank, x)
        kept: tuple[Dim, ...] = (1,) if attrs.get("keepdims") else ()
        return TensorType("int32", (*x.shape[:axis], *kept, *x.shape[axis + 1 :]))

    return infer


def _row_place(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    """The first place of the maximum of whole rows, which one instruction finds."""
    x = inputs[0]
    _takes("reduce_argmax", x, _NUMBERS)
    axes = attrs.get("axes")
    if axes != (x.rank - 1,) or attrs.get("keepdims") is not True:
        raise CompileError(f"reduce_argmax: axes {axes!r} must be the last axis of {x}, and it is kept")
    return TensorType("int32", (*x.shape[:-1], 1))


def _cumsum(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    _takes("cumsum", inputs[0], _NUMBERS)
    _axis("cumsum", attrs, inputs[0].rank, inputs[0])
    return inputs[0]


def _top(op: str) -> _Rule:
    def infer(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
        x = inputs[0]
        _takes(op, x, _NUMBERS)
        k = _one_dim(op, attrs, "k")
        if x.rank == 0:
            raise CompileError(f"{op}: {x} has no last axis")
        parts = attrs.get("parts")
        if not isinstance(parts, tuple) or len(parts) != 4:
            raise CompileError(
                f"{op}: 'parts' must be the number of parts, their elements, candidates of each, all candidates, not {parts!r}"
            )
        if isinstance(k, int) and isinstance(x.shape[-1], int) and k > x.shape[-1]:
            raise CompileError(f"{op}: k is {k}, but the last axis of {x} has {x.shape[-1]} elements")
        return TensorType("int32" if op == "top_indices" else x.dtype, (*x.shape[:-1], k))

    return infer


def _best(op: str) -> _Rule:
    def infer(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
        x = inputs[0]
        if x.rank < 2 or x.shape[-2] != 1:
            raise CompileError(f"{op}: the last but one dim of {x} must be 1")
        return TensorType("int32" if op == "best_indices" else x.dtype, (*x.shape[:-2], _one_dim(op, attrs, "k"), 1))

    return infer


ALONG_RULES: Mapping[str, tuple[int, tuple[str, ...], _Rule]] = {
    "iota": (0, ("dtype", "shape", "axis"), _iota),
    "one_hot": (1, ("depth", "dtype", "axis"), _one_hot),
    "argmax": (1, ("axis", "keepdims"), _place("argmax")),
    "argmin": (1, ("axis", "keepdims"), _place("argmin")),
    "reduce_argmax": (1, ("axes", "keepdims"), _row_place),
    "cumsum": (1, ("axis",), _cumsum),
    **{op: (1, ("k", "parts"), _top(op)) for op in TOPS},
    **{op: (2, ("k",), _best(op)) for op in BESTS.values()},
}
"""Inputs, attributes and type rule of each operation."""


def check_along(nodes: Iterable[Node], binding: Mapping[str, int]) -> None:
    """CompileError for a place in an axis without elements, and for more of the largest than there are."""
    for node in nodes:
        if node.op in ("argmax", "argmin"):
            shape = evaluate(node.inputs[0].type.shape, binding)
            if shape[axis_of(node)] == 0 and 0 not in evaluate(node.type.shape, binding):
                raise CompileError(
                    f"{node.op} over an empty axis of shape {list(shape)} has no value", node.where or None
                )
        elif node.op in TOPS:
            count, size = evaluate((*node.dims("k"), node.inputs[0].type.shape[-1]), binding)
            if count > size:
                raise CompileError(
                    f"{node.op}: k is {count}, but the last axis has {size} elements", node.where or None
                )
