"""GPT-2 (Radford et al. 2019) with a cache of keys and values that grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, padding_mask, shapes, token_ids
from benchmarks.zoo.graph import INT64_MAX, GraphBuilder, Value
from benchmarks.zoo.layers import gelu_tanh, layer_norm, merge_heads, split_heads

__all__ = ["GPT2", "Gpt2Config", "empty_cache"]


@dataclass(frozen=True)
class Gpt2Config:
    """Sizes of a decoder, by default those of GPT-2 small."""

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    vocabulary: int = 50257
    positions: int = 1024
    dtype: str = "float32"

    @property
    def width(self) -> int:
        """Columns of one head."""
        return self.hidden // self.heads


def make(config: Gpt2Config) -> onnx.ModelProto:
    """Tokens [batch, sequence] and a cache of `past` tokens to logits [batch, sequence, vocabulary] and the cache with both."""
    g = GraphBuilder("gpt2", dtype=config.dtype)
    ids = g.input("input_ids", ["batch", "sequence"], "int64")
    kept = g.input("attention_mask", ["batch", "past + sequence"], "int64")
    places = g.input("position_ids", ["batch", "sequence"], "int64")
    past = [
        [g.input(f"past_key_values.{layer}.{part}", _cache(config, "past")) for part in ("key", "value")]
        for layer in range(config.layers)
    ]
    words = g.weight("wte.weight", config.vocabulary, config.hidden, scale=0.3)
    table = g.weight("wpe.weight", config.positions, config.hidden, scale=0.1)
    hidden = g.op("Add", g.op("Gather", words, ids), g.op("Gather", table, places))
    absent = g.op("Sub", g.scalar(1.0), g.cast(g.unsqueeze(kept, 1, 2)))
    mask = g.op("Mul", absent, g.lowest())
    presents = []
    for layer in range(config.layers):
        hidden, present = _layer(g, config, f"h.{layer}", hidden, past[layer], mask)
        presents.append(present)
    hidden = layer_norm(g, hidden, "ln_f", config.hidden)
    g.output("logits", g.op("MatMul", hidden, g.transpose(words, 1, 0)), ["batch", "sequence", config.vocabulary])
    for layer, present in enumerate(presents):
        for part, value in zip(("key", "value"), present, strict=True):
            g.output(f"present.{layer}.{part}", value, _cache(config, "past + sequence"))
    return g.build()


def inputs(config: Gpt2Config, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Random tokens after a random cache; some rows have the start of the cache masked, as padding on the left is."""
    batch, sequence, past = sizes["batch"], sizes["sequence"], sizes["past"]
    mask = padding_mask(rng, batch, past + sequence, least=sequence)[:, ::-1].copy()
    places = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, past:]
    feeds = {
        "input_ids": token_ids(rng, config.vocabulary, batch, sequence),
        "attention_mask": mask,
        "position_ids": places,
    }
    for name, empty in empty_cache(config, batch).items():
        shape = (*empty.shape[:2], past, config.width)
        feeds[name] = rng.standard_normal(shape, dtype=np.float32).astype(config.dtype)
    return feeds


def empty_cache(config: Gpt2Config, batch: int) -> Feeds:
    """The cache before the first token, by the names of its inputs."""
    return {
        f"past_key_values.{layer}.{part}": np.zeros((batch, config.heads, 0, config.width), config.dtype)
        for layer in range(config.layers)
        for part in ("key", "value")
    }


def _cache(config: Gpt2Config, length: str) -> list[int | str]:
    return ["batch", config.heads, length, config.width]


def _layer(
    g: GraphBuilder, config: Gpt2Config, name: str, x: Value, past: list[Value], mask: Value
) -> tuple[Value, tuple[Value, Value]]:
    hidden = config.hidden
    joint = _conv1d(g, layer_norm(g, x, f"{name}.ln_1", hidden), f"{name}.attn.c_attn", hidden, 3 * hidden)
    parts = g.ops("Split", 3, joint, g.ints(hidden, hidden, hidden), axis=2)
    query, key, value = (split_heads(g, part, config.heads, config.width) for part in parts)
    key = g.op("Concat", past[0], key, axis=-2)
    value = g.op("Concat", past[1], value, axis=-2)
    mixed = merge_heads(g, _attend(g, config, query, key, value, mask), hidden)
    x = g.op("Add", _conv1d(g, mixed, f"{name}.attn.c_proj", hidden, hidden), x)
    inner = gelu_tanh(g, _conv1d(g, layer_norm(g, x, f"{name}.ln_2", hidden), f"{name}.mlp.c_fc", hidden, 4 * hidden))
    return g.op("Add", x, _conv1d(g, inner, f"{name}.mlp.c_proj", 4 * hidden, hidden)), (key, value)


def _conv1d(g: GraphBuilder, x: Value, name: str, inputs: int, outputs: int) -> Value:
    """A linear layer as transformers' Conv1D exports: rows joined, Gemm, rows apart."""
    batch, sequence = g.size(x, 0), g.size(x, 1)
    flat = g.reshape(x, -1, g.size(x, 2))
    weight, bias = g.weight(f"{name}.weight", inputs, outputs), g.bias(f"{name}.bias", outputs)
    return g.reshape(g.op("Gemm", flat, weight, bias), batch, sequence, outputs)


def _attend(g: GraphBuilder, config: Gpt2Config, query: Value, key: Value, value: Value, mask: Value) -> Value:
    """Attention below the diagonal, which is cut out of a table for all positions."""
    scores = g.op("MatMul", query, g.transpose(key, 0, 1, 3, 2))
    scores = g.op("Div", scores, g.scalar(math.sqrt(config.width)))
    total, sequence = g.size(key, -2), g.size(query, -2)
    triangle = np.tril(np.ones((config.positions, config.positions), dtype=bool))[None, None]
    rows = g.slice(g.table("causal", triangle), 2, g.op("Sub", total, sequence), total)
    causal = g.slice(g.slice(rows, 3, 0, total), 3, 0, INT64_MAX)
    scores = g.op("Add", g.op("Where", causal, scores, g.lowest()), mask)
    return g.op("MatMul", g.op("Softmax", scores, axis=-1), value)


GPT2 = ZooModel(
    "gpt2",
    make,
    inputs,
    Gpt2Config(),
    Gpt2Config(layers=2, hidden=64, heads=4, vocabulary=97, positions=64),
    shapes("batch sequence past", "1x16x0 1x33x0 1x1x16 1x1x17 1x1x100 2x8x24 4x1x31 8x1x63"),
    shapes("batch sequence past", "1x5x0 1x1x5 1x1x6 2x1x17 2x3x9 1x32x0 3x4x4 1x1x40"),
)
