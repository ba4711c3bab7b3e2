"""Rewrites operations along an axis into those that the vector unit has.

* iota is numbered along its axis only, wherever views put it, and spread over the others; types other than int32 and fp32 are
  cast.
* one_hot compares an iota with its input.
* argmax and argmin are the least place of those that equal the extreme; NaN is the extreme where there is one, and the
  places of the NaNs are found by their being unequal to themselves. In whole rows one instruction finds the place of the
  maximum; for that of the minimum the order is turned round.
* top-k has the k and the row that they are taken from as dims of their own. Rows that do not fit UB are cut into parts.
* cumsum of fp16 and bf16 is computed in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_along import BESTS, PART, TOPS, axis_of
from npuvm.compiler.graph.rewrite import Rewriter
from npuvm.compiler.graph.types import DTYPES, Dim

__all__ = ["ALONG_FORMS"]


def _numbers(r: Rewriter, dim: Dim, axis: int, rank: int, dtype: str) -> Node:
    """0, 1, 2, ... along one of `rank` axes, of size 1 along the others."""
    shape: tuple[Dim, ...] = tuple(dim if each == axis else 1 for each in range(rank))
    if dtype in ("int32", "fp32"):
        return r.add("iota", dtype=dtype, shape=shape, axis=axis)
    return _cast(r, r.add("iota", dtype="int32", shape=shape, axis=axis), dtype)


def _cast(r: Rewriter, x: Node, dtype: str) -> Node:
    """No single instruction casts to fp8 but those from fp16 and fp32."""
    if dtype.startswith("fp8") and x.type.dtype not in ("fp16", "fp32"):
        x = r.cast(x, "fp32")
    return r.cast(x, dtype)


def _iota(r: Rewriter, node: Node, inputs: list[Node], whole_rows: bool) -> Node:
    axis, shape = axis_of(node), node.type.shape
    numbers = _numbers(r, shape[axis], axis, len(shape), node.type.dtype)
    return numbers if numbers.type.shape == shape else r.add("broadcast_to", numbers, shape=shape, where=node.where)


def _view(r: Rewriter, node: Node, inputs: list[Node], whole_rows: bool) -> Node:
    """An iota with its axis elsewhere is an iota, so that it need not cross memory to be seen so."""
    x = inputs[0]
    if x.op == "iota":
        wide = [at for at, each in enumerate(node.type.shape) if each != 1]
        if [node.type.shape[at] for at in wide] == [x.type.shape[axis_of(x)]]:
            return r.add("iota", dtype=x.type.dtype, shape=node.type.shape, axis=wide[0])
    return r.add(node.op, x, where=node.where, **node.attrs)


def _one_hot(r: Rewriter, node: Node, inputs: list[Node], whole_rows: bool) -> Node:
    axis, shape = axis_of(node), node.type.shape
    numbers = _numbers(r, shape[axis], axis, len(shape), "int32")
    spread = r.reshape(inputs[0], (*shape[:axis], 1, *shape[axis + 1 :]))
    return _cast(r, r.add("eq", numbers, spread, where=node.where), node.type.dtype)


def _place(r: Rewriter, node: Node, inputs: list[Node], whole_rows: bool) -> Node:
    x, axis = inputs[0], axis_of(node)
    if x.type.shape[axis] == 1:
        return r.add("broadcast_to", r.const(0, "int32"), shape=node.type.shape)
    if x.type.dtype == "int8":
        x = r.cast(x, "fp16")
    if whole_rows and axis == x.type.rank - 1:
        if node.op == "argmin":
            x = r.add("neg", x) if x.type.info.kind == "float" else r.add("xor", x, r.const(-1, "int32"))
        return r.reshape(r.add("reduce_argmax", x, axes=(axis,), keepdims=True, where=node.where), node.type.shape)
    extreme = "reduce_max" if node.op == "argmax" else "reduce_min"
    found = r.add("eq", x, r.add(extreme, x, axes=(axis,), keepdims=True, where=node.where), where=node.where)
    if x.type.info.kind == "float":
        found = r.add("or", found, r.add("ne", x, x))
    dim = x.type.shape[axis]
    numbers = _numbers(r, dim, axis, x.type.rank, "int32")
    place = r.add("select", found, numbers, r.add("size", dtype="int32", dims=(dim,)))
    return r.reshape(r.add("reduce_min", place, axes=(axis,), keepdims=True, where=node.where), node.type.shape)


def _cumsum(r: Rewriter, node: Node, inputs: list[Node], whole_rows: bool) -> Node:
    x, axis = inputs[0], axis_of(node)
    if x.type.shape[axis] == 1:
        return x
    wide = r.cast(x, "fp32") if DTYPES[x.type.dtype].low_precision else x
    return r.cast(r.add("cumsum", wide, axis=axis, where=node.where), x.type.dtype)


def _top(r: Rewriter, node: Node, inputs: list[Node], whole_rows: bool) -> Node:
    x = inputs[0]
    *outer, size = x.type.shape
    short = isinstance(size, int) and size <= PART
    if whole_rows or short:
        best = _best(r, BESTS[node.op], r.reshape(x, (*outer, 1, size)), node.dims("k"), node.where)
    else:
        best = _best_of_parts(r, node, x)
    return r.reshape(best, node.type.shape)


def _best(r: Rewriter, op: str, rows: Node, k: tuple[Dim, ...], where: str) -> Node:
    count = r.add("size", dtype="int32", dims=rows.type.shape[-1:])
    return r.add(op, rows, count, k=k, where=where)


def _best_of_parts(r: Rewriter, node: Node, x: Node) -> Node:
    """The k largest of rows that do not fit UB, among the k largest of each part of a row.

    The parts are of one size; what fills up the last is no larger than any element and comes after all. Candidates stand in the
    order of their places where they are equal, so the first of equal candidates is the first of the elements.
    """
    outer = x.type.shape[:-1]
    parts, elements, each, candidates = node.dims("parts")
    least = -inf if x.type.info.kind == "float" else -(1 << 31)
    if elements != x.type.shape[-1]:
        x = r.add("pad", x, lows=(0,) * x.type.rank, sizes=(*outer, elements), value=least, where=node.where)
    rows = r.reshape(x, (*outer, parts, 1, PART))
    values = r.reshape(_best(r, "best_values", rows, (each,), node.where), (*outer, 1, candidates))
    if node.op == "top_values":
        return _best(r, "best_values", values, node.dims("k"), node.where)
    begin = r.add("mul", _numbers(r, parts, len(outer), len(outer) + 3, "int32"), r.const(PART, "int32"))
    places = r.add("add", _best(r, "best_indices", rows, (each,), node.where), begin)
    chosen = _best(r, "best_indices", values, node.dims("k"), node.where)
    hit = r.add("eq", _numbers(r, candidates, len(outer) + 1, len(outer) + 2, "int32"), chosen)
    # The places come first, so that they are made before what is compared, which then is in one segment with the sum.
    found = r.add("mul", r.reshape(places, (*outer, 1, candidates)), r.cast(hit, "int32"))
    return r.add("reduce_sum", found, axes=(len(outer) + 1,), keepdims=True)


ALONG_FORMS: Mapping[str, Callable[[Rewriter, Node, list[Node], bool], Node]] = {
    "iota": _iota,
    "permute": _view,
    "reshape": _view,
    "one_hot": _one_hot,
    "argmax": _place,
    "argmin": _place,
    "cumsum": _cumsum,
    **dict.fromkeys(TOPS, _top),
}
"""The rewriting of each operation: the rewriter, the operation, its inputs rewritten, whether rows are taken to fit UB."""
