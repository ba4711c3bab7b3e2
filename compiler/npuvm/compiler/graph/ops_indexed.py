"""Operations that pick rows of a tensor by a tensor of indices: gather, scatter, and scatter that adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES, Dim, TensorType, dims_text

if TYPE_CHECKING:
    from npuvm.compiler.graph.ir import Node

__all__ = ["INDEXED", "INDEXED_RULES", "MOST_ROWS", "check_indexed", "picked_shape"]

INDEXED = ("gather", "scatter", "scatter_add")
"""Operations that run in a segment of their own, as instructions that pick rows by index."""

MOST_ROWS = (1 << 31) - 1
"""Most rows of a table, and most indices: an index is int32."""

_ADDED = ("fp32", "fp16", "bf16", "int32")
_Attrs = Mapping[str, object]
_Rule = Callable[[Sequence[TensorType], _Attrs], TensorType]


def picked_shape(shape: Sequence[Dim], index: Sequence[Dim], axis: int) -> tuple[Dim, ...]:
    """The shape of rows picked along an axis: the indices' dims stand in its place."""
    return (*shape[:axis], *index, *shape[axis + 1 :])


def _axis(op: str, attrs: _Attrs, rank: int, what: object) -> int:
    axis = attrs.get("axis")
    if not isinstance(axis, int) or isinstance(axis, bool) or not 0 <= axis < rank:
        raise CompileError(f"{op}: axis {axis!r} must be within the {rank} dims of {what}")
    return axis


def _index(op: str, index: TensorType) -> None:
    if index.dtype != "int32":
        raise CompileError(f"{op}: indices are int32, not {index.dtype} (use cast)")


def _gather(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
    source, index = inputs
    axis = _axis("gather", attrs, source.rank, source)
    _index("gather", index)
    return TensorType(source.dtype, picked_shape(source.shape, index.shape, axis))


def _scatter(op: str, dtypes: Iterable[str]) -> _Rule:
    """Indices, then the rows that go to their places, then what the result starts as; zeros without."""

    def infer(inputs: Sequence[TensorType], attrs: _Attrs) -> TensorType:
        index, rows = inputs[:2]
        shape = attrs.get("shape")
        if not isinstance(shape, tuple):
            raise CompileError(f"{op}: attribute 'shape' must be a list of dims, not {shape!r}")
        result = TensorType(rows.dtype, shape)
        axis = _axis(op, attrs, result.rank, result)
        _index(op, index)
        if rows.dtype not in dtypes:
            raise CompileError(f"{op} does not take {rows.dtype}; allowed: {', '.join(dtypes)} (use cast)")
        wanted = picked_shape(shape, index.shape, axis)
        if rows.shape != wanted:
            raise CompileError(f"{op}: the rows {rows} for {result} must have the shape [{dims_text(wanted)}]")
        if len(inputs) == 3 and inputs[2] != result:
            raise CompileError(f"{op}: {inputs[2]} must be {result}, as the rows and the shape say")
        return result

    return infer


INDEXED_RULES: Mapping[str, tuple[int, int, tuple[str, ...], _Rule]] = {
    "gather": (2, 2, ("axis",), _gather),
    "scatter": (2, 3, ("axis", "shape"), _scatter("scatter", tuple(DTYPES))),
    "scatter_add": (2, 3, ("axis", "shape"), _scatter("scatter_add", _ADDED)),
}
"""Fewest and most inputs, attributes and type rule of each operation."""


def check_indexed(nodes: Iterable[Node], binding: Mapping[str, int]) -> None:
    """CompileError for indices into an axis without elements, and for more rows or indices than int32 counts."""
    for node in nodes:
        if node.op in INDEXED:
            table = node.inputs[0].type.shape if node.op == "gather" else node.type.shape
            index = node.inputs[1 if node.op == "gather" else 0].type.shape
            axis = node.attrs["axis"]
            assert isinstance(axis, int)
            count, picks = evaluate(table, binding)[axis], prod(evaluate(index, binding))
            if picks and not count:
                raise CompileError(f"{node.op}: {picks} indices into an axis without elements", node.where or None)
            if max(count, picks) > MOST_ROWS:
                message = f"{node.op}: {count} rows and {picks} indices; allowed: {MOST_ROWS} of each"
                raise CompileError(message, node.where or None)
