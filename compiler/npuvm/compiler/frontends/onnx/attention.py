"""Attention and rotary embeddings as graphs of products, masks and softmax."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import inf

import onnx

from npuvm.compiler.frontends.onnx.activations import floating
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.reductions import softmax
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.sums import Sum
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__: list[str] = []


@rule("Attention")
def _attention(op: Operator) -> list[Value | Entry | None]:
    k = op.k
    query, key, value = (_heads(op, at) for at in range(3))
    for at, old in ((0, 4), (1, 5)):
        if op.has(old):
            new = (key, value)[at]
            past = floating(op, old)
            for axis in (0, 1, 3):
                op.equal(past.shape[axis], new.shape[axis])
            joined = k.concat([past, new], 2)
            key, value = (joined, value) if at == 0 else (key, joined)
    for a, b in ((query, key), (key, value)):
        op.equal(a.shape[0], b.shape[0])
    op.equal(query.shape[3], key.shape[3])
    op.equal(key.shape[2], value.shape[2])
    mask = _mask_of(op, query, key)
    scores, found = _weights(op, query, key, mask)
    result = _product_of_heads(op, k.cast(found, value.dtype), value, query.dtype)
    if op.input(0).rank == 3:
        turned = k.permute(result, (0, 2, 1, 3))
        result = k.reshape(turned, (*turned.shape[:2], _times(op, turned.shape[2], turned.shape[3])))
    results: list[Value | Entry | None] = [result]
    if op.outputs > 1:
        results += [op.entry(key, op.input(1).dtype), op.entry(value, op.input(2).dtype)]
    return [*results, k.cast(scores, query.dtype)] if op.outputs > 3 else results


def _times(op: Operator, a: Dim, b: Dim) -> Dim:
    if isinstance(b, int):
        return op.dim(op.size(a).scaled(b))
    return op.dim(op.size(b).scaled(a)) if isinstance(a, int) else _unknown(a, b)


def _unknown(a: Dim, b: Dim) -> Dim:
    raise Unsupported(f"neither {a} nor {b} is known before the model runs")


def _heads(op: Operator, index: int) -> Value:
    """Input [batch, heads, sequence, size]; of three dims, the heads are parts of the last one."""
    value, k = floating(op, index), op.k
    if len(value.shape) == 4:
        return value
    heads = int(op.attribute("q_num_heads" if index == 0 else "kv_num_heads"))
    batch, sequence, hidden = value.shape
    if not isinstance(hidden, int) or hidden % heads:
        raise Unsupported(f"that {hidden} is a multiple of {heads} heads is not known before the model runs")
    return k.permute(k.reshape(value, (batch, sequence, heads, hidden // heads)), (0, 2, 1, 3))


@dataclass(slots=True)
class _Mask:
    """What scores are changed by: `allowed` (bool) are those that count, `added` (fp32) is added; None for nothing.

    `open_rows` tells that every query has a key that counts.
    """

    allowed: Value | None = None
    added: Value | None = None
    open_rows: bool = True


def _mask_of(op: Operator, query: Value, key: Value) -> _Mask:
    """The masks of the inputs and attributes together; their dims broadcast to [batch, heads, queries, keys]."""
    k, conditions, mask = op.k, list[Value](), _Mask()
    queries, keys = query.shape[2], key.shape[2]
    if op.has(3):
        given = _padded_mask(op, keys)
        op.lowering.fit([(query.shape[0], query.shape[1], queries, keys), given.shape], op.source)
        mask.open_rows = False
        if given.dtype == "bool":
            conditions.append(given)
        else:
            mask.added = k.cast(given, "fp32")
    left, right = (int(op.attribute(f"{side}_window_size", -1)) for side in ("left", "right"))
    causal = bool(op.attribute("is_causal", 0))
    if op.has(6):
        mask.open_rows = False
        seqlen = k.cast(op.value(6), "int32")
        seqlen = k.reshape(seqlen, (op.equal(seqlen.shape[0], query.shape[0]), 1, 1, 1))
        conditions.append(k.lt(k.iota((keys,)), seqlen))
    if causal or left >= 0 or right >= 0:
        mask.open_rows = mask.open_rows and left < 0 and right < 0
        ahead = k.iota((queries, keys), 1) - k.iota((queries, keys), 0)  # how far a key is ahead of its query
        if op.has(4):
            ahead = ahead - k.size((op.input(4).dims[2],), "int32")
        elif op.has(6):
            ahead = ahead - (seqlen - k.size((queries,), "int32"))
        if causal:
            conditions.append(k.le(ahead, 0))
        if left >= 0:
            conditions.append(k.ge(ahead, -left))
        if right >= 0:
            conditions.append(k.le(ahead, right))
    mask.allowed = reduce(k.logical_and, conditions) if conditions else None
    return mask


def _padded_mask(op: Operator, keys: Dim) -> Value:
    """The mask of input 3 for all keys: those beyond its end do not count."""
    k, given = op.k, op.value(3)
    missing: Sum = op.size(keys) - op.size(given.shape[-1])
    number = missing.constant()
    if given.shape[-1] == 1 or number is None or number == 0:
        return given
    if number < 0:
        raise Unsupported("the mask is of more keys than there are")
    return k.pad(given, {len(given.shape) - 1: (0, number)}, False if given.dtype == "bool" else -inf)


def _weights(op: Operator, query: Value, key: Value, mask: _Mask) -> tuple[Value, Value]:
    """What output 3 shows, and the weights of the values, in fp32."""
    k, mode = op.k, int(op.attribute("qk_matmul_output_mode", 0))
    if op.attribute("softmax_precision") == onnx.TensorProto.DOUBLE:
        raise Unsupported("the device has no float64")
    size, scale = query.shape[3], op.attribute("scale")
    scores = _product_of_heads(op, query, key, "fp32", turned=True)
    if scale is not None or isinstance(size, int):
        scores = scores * (float(scale) if scale is not None else float(size) ** -0.5)
    else:
        scores = scores * k.rsqrt(k.size((size,)))
    shown = scores
    cap = float(op.attribute("softcap", 0.0))
    if cap > 0.0:
        scores = shown = k.tanh(scores / cap) * cap
        if op.outputs > 3 and mode == 0:
            raise Unsupported("whether scores are shown before or after the cap is not clear")
    if mask.added is not None:
        scores = scores + mask.added
    if mask.allowed is not None:
        scores = k.select(mask.allowed, scores, -inf)
    shown = scores if mode == 2 else shown
    weights = softmax(k, scores, 3)
    if not mask.open_rows:
        bias = mask.added if mask.added is not None else k.const(0.0, "fp32")
        if mask.allowed is not None:
            bias = k.select(mask.allowed, bias, -inf)
        shut = k.eq(k.max(bias, len(bias.shape) - 1, keepdims=True), -inf)
        weights = k.select(shut, 0.0, weights)
    return (weights if mode == 3 else shown), weights


def _product_of_heads(op: Operator, a: Value, b: Value, dtype: str, turned: bool = False) -> Value:
    """A product for each head of `a`; a head of `b` may belong to several of `a`, whose rows then are one matrix."""
    k = op.k
    heads, shared = a.shape[1], b.shape[1]
    if isinstance(heads, str) or isinstance(shared, str):
        op.lowering.fit([(heads,), (shared,)], op.source)  # assumed; where it is wrong, sizes are numbers
        shared = heads
    if heads == shared:
        return k.matmul(a, b, transpose_b=turned, dtype=dtype)
    if not isinstance(heads, int) or not isinstance(shared, int) or heads % shared:
        raise Unsupported(f"{heads} heads of queries are not known to be a multiple of {shared} of keys")
    batch, _, rows, inner = a.shape
    grouped = k.reshape(a, (batch, shared, op.dim(op.size(rows).scaled(heads // shared)), inner))
    found = k.matmul(grouped, b, transpose_b=turned, dtype=dtype)
    return k.reshape(found, (batch, heads, rows, found.shape[3]))


@rule("RotaryEmbedding")
def _rotary(op: Operator) -> Value:
    """x [batch, heads, sequence, size], or [batch, sequence, heads * size]; halves, or neighbours, are turned by the angles."""
    value, k = floating(op, 0), op.k
    shape = value.shape
    if len(shape) == 4:
        wide = k.permute(value, (0, 2, 1, 3))
    else:
        heads, hidden = int(op.attribute("num_heads", 0)), shape[2]
        if not heads or not isinstance(hidden, int):
            raise Unsupported("the number of heads is not known before the model runs")
        wide = k.reshape(value, (*shape[:2], heads, hidden // heads))
    size = int(op.attribute("rotary_embedding_dim", 0)) or wide.shape[3]
    if not isinstance(size, int):
        raise Unsupported("the size of a head is not known before the model runs")
    cos, sin = (_angles(op, at, size // 2, wide) for at in (1, 2))
    wide = k.cast(wide, "fp32")
    turned, kept = (wide, None) if size == wide.shape[3] else (k.split(wide, (size, -1), 3))
    if op.attribute("interleaved", 0):
        a, b = (k.slice(turned, start, None, 2, axes=3) for start in (0, 1))
        pairs = k.stack([a * cos - b * sin, a * sin + b * cos], 4)
        found = k.reshape(pairs, turned.shape)
    else:
        a, b = k.split(turned, 2, 3)
        found = k.concat([a * cos - b * sin, a * sin + b * cos], 3)
    if kept is not None:
        found = k.concat([found, kept], 3)
    found = k.cast(found, value.dtype)
    return k.permute(found, (0, 2, 1, 3)) if len(shape) == 4 else k.reshape(found, shape)


def _angles(op: Operator, index: int, half: int, wide: Value) -> Value:
    """Cosines or sines [batch, sequence, 1, half] in fp32: rows of a table by position, or one for each place."""
    k, table = op.k, floating(op, index)
    if op.has(3):
        table = k.gather(table, k.cast(op.value(3), "int32"), 0)
    for at, dim in enumerate((*wide.shape[:2], half)):
        op.equal(table.shape[at], dim)
    return k.cast(k.reshape(table, (*table.shape[:2], 1, half)), "fp32")
