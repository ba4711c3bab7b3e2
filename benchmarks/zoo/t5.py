"""T5 (Raffel et al. 2019, arXiv:1910.10683): an encoder and a decoder with relative positions in buckets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, padding_mask, shapes, token_ids
from benchmarks.zoo.graph import GraphBuilder, Value
from benchmarks.zoo.layers import attend, linear, rms_norm, split_heads

__all__ = ["T5", "T5Config"]


@dataclass(frozen=True)
class T5Config:
    """Sizes of both stacks, by default those of T5-small."""

    layers: int = 6
    hidden: int = 512
    heads: int = 8
    width: int = 64
    inner: int = 2048
    vocabulary: int = 32128
    buckets: int = 32
    distance: int = 128
    dtype: str = "float32"


def make(config: T5Config) -> onnx.ModelProto:
    """input_ids [batch, source] and decoder_input_ids [batch, target] to logits [batch, target, vocabulary]."""
    g = GraphBuilder("t5", dtype=config.dtype)
    source = g.input("input_ids", ["batch", "source"], "int64")
    kept = g.input("attention_mask", ["batch", "source"], "int64")
    target = g.input("decoder_input_ids", ["batch", "target"], "int64")
    table = g.weight("shared.weight", config.vocabulary, config.hidden, scale=1.0)
    padding = g.op("Mul", g.op("Sub", g.scalar(1.0), g.cast(g.unsqueeze(kept, 1, 2))), g.lowest())
    memory = g.op("Gather", table, source)
    bias = g.op("Add", _position_bias(g, config, "encoder", source), padding)
    for layer in range(config.layers):
        name = f"encoder.block.{layer}"
        memory = _attention(g, config, f"{name}.layer.0", memory, None, bias)
        memory = _feed_forward(g, config, f"{name}.layer.1", memory)
    memory = rms_norm(g, memory, "encoder.final_layer_norm", config.hidden)
    x = g.op("Gather", table, target)
    bias = g.op("Add", _position_bias(g, config, "decoder", target), _causal_mask(g, target))
    for layer in range(config.layers):
        name = f"decoder.block.{layer}"
        x = _attention(g, config, f"{name}.layer.0", x, None, bias)
        x = _attention(g, config, f"{name}.layer.1", x, memory, padding)
        x = _feed_forward(g, config, f"{name}.layer.2", x)
    x = rms_norm(g, x, "decoder.final_layer_norm", config.hidden)
    logits = g.op("MatMul", g.op("Mul", x, g.scalar(config.hidden**-0.5)), g.transpose(table, 1, 0))
    g.output("encoder_last_hidden_state", memory, ["batch", "source", config.hidden])
    g.output("logits", logits, ["batch", "target", config.vocabulary])
    return g.build()


def inputs(config: T5Config, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Random tokens, the source padded on the right."""
    batch, source = sizes["batch"], sizes["source"]
    return {
        "input_ids": token_ids(rng, config.vocabulary, batch, source),
        "attention_mask": padding_mask(rng, batch, source),
        "decoder_input_ids": token_ids(rng, config.vocabulary, batch, sizes["target"]),
    }


def _position_bias(g: GraphBuilder, config: T5Config, stack: str, ids: Value) -> Value:
    """The learnt bias of each distance, [1, heads, length, length]; equal distances far away share a bucket."""
    length = g.size(ids, 1)
    places = g.range(length)
    relative = g.op("Sub", g.unsqueeze(places, 0), g.unsqueeze(places, 1))
    if stack == "encoder":
        buckets = config.buckets // 2
        start = g.op("Mul", g.cast(g.op("Greater", relative, g.index(0)), "int64"), g.index(buckets))
        distance = g.op("Abs", relative)
    else:
        buckets = config.buckets
        start = g.index(0)
        zeros = g.op("Mul", relative, g.index(0))
        distance = g.op("Neg", g.op("Min", relative, zeros))
    exact = buckets // 2
    ratio = g.op("Div", g.cast(distance, "float32"), g.constant(np.array(exact, np.float32)))
    steps = g.op("Div", g.op("Log", ratio), g.constant(np.array(math.log(config.distance / exact), np.float32)))
    steps = g.op("Mul", steps, g.constant(np.array(buckets - exact, np.float32)))
    far = g.op("Add", g.cast(steps, "int64"), g.index(exact))
    last = g.op("ConstantOfShape", g.op("Shape", far), value=onnx.helper.make_tensor("value", 7, [1], [buckets - 1]))
    near = g.op("Less", distance, g.index(exact))
    bucket = g.op("Add", start, g.op("Where", near, distance, g.op("Min", far, last)))
    name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    rows = g.op("Gather", g.weight(name, config.buckets, config.heads, scale=0.5), bucket)
    return g.unsqueeze(g.transpose(rows, 2, 0, 1), 0)


def _causal_mask(g: GraphBuilder, ids: Value) -> Value:
    """Lowest above the diagonal, [batch, 1, target, target]."""
    batch, length = g.size(ids, 0), g.size(ids, 1)
    places = g.range(length)
    rows = g.expand(g.unsqueeze(places, 0, 1), batch, length, length)
    reached = g.op("LessOrEqual", rows, g.unsqueeze(places, 0, 2))
    absent = g.op("Sub", g.scalar(1.0), g.cast(g.unsqueeze(reached, 1)))
    return g.op("Mul", absent, g.lowest())


def _attention(g: GraphBuilder, config: T5Config, name: str, x: Value, memory: Value | None, bias: Value) -> Value:
    """x plus attention of normed x to itself, or to `memory`."""
    kind = "SelfAttention" if memory is None else "EncDecAttention"
    columns = config.heads * config.width
    normed = rms_norm(g, x, f"{name}.layer_norm", config.hidden)

    def heads(part: str, rows: Value) -> Value:
        projected = linear(g, rows, f"{name}.{kind}.{part}", config.hidden, columns, bias=False)
        return split_heads(g, projected, config.heads, config.width)

    seen = normed if memory is None else memory
    query = g.op("Mul", heads("q", normed), g.scalar(config.width**-0.5))  # T5 has this factor in its weights
    rows = g.transpose(attend(g, query, heads("k", seen), heads("v", seen), mask=bias), 0, 2, 1, 3)
    mixed = g.reshape(rows, g.size(x, 0), -1, columns)
    return g.op("Add", x, linear(g, mixed, f"{name}.{kind}.o", columns, config.hidden, bias=False))


def _feed_forward(g: GraphBuilder, config: T5Config, name: str, x: Value) -> Value:
    normed = rms_norm(g, x, f"{name}.layer_norm", config.hidden)
    inner = g.op("Relu", linear(g, normed, f"{name}.DenseReluDense.wi", config.hidden, config.inner, bias=False))
    return g.op("Add", x, linear(g, inner, f"{name}.DenseReluDense.wo", config.inner, config.hidden, bias=False))


T5 = ZooModel(
    "t5_small",
    make,
    inputs,
    T5Config(),
    T5Config(layers=2, hidden=48, heads=3, width=16, inner=96, vocabulary=89),
    shapes("batch source target", "1x16x1 1x16x2 1x37x5 1x64x64 1x200x1 2x24x8 4x33x12 8x9x3"),
    shapes("batch source target", "1x8x1 1x8x2 1x17x5 2x6x9 1x1x1 3x12x4 2x40x3 1x5x30"),
)
