"""Llama blocks (Touvron et al. 2023, arXiv:2302.13971): rotary positions, grouped queries, RMSNorm, SwiGLU, a growing cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, padding_mask, shapes
from benchmarks.zoo.graph import INT64_MAX, GraphBuilder, Value
from benchmarks.zoo.layers import linear, merge_heads, rms_norm, scaled_scores, silu, split_heads

__all__ = ["LLAMA", "LlamaConfig"]


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of the blocks, by default one of TinyLlama-1.1B; `final_norm` is what stands behind the last block of a model.

    With `free` the weights are inputs of the graph.
    """

    layers: int = 1
    hidden: int = 2048
    heads: int = 32
    groups: int = 4
    inner: int = 5632
    theta: float = 10000.0
    epsilon: float = 1e-6
    final_norm: bool = True
    dtype: str = "float32"
    free: bool = False

    @property
    def width(self) -> int:
        """Columns of one head."""
        return self.hidden // self.heads


def make(config: LlamaConfig) -> onnx.ModelProto:
    """inputs_embeds [batch, sequence, hidden] and a cache of `past` tokens to hidden_states and the cache with both."""
    g = GraphBuilder("llama", dtype=config.dtype, free=config.free)
    hidden = embeds = g.input("inputs_embeds", ["batch", "sequence", config.hidden])
    kept = g.input("attention_mask", ["batch", "past + sequence"], "int64")
    places = g.input("position_ids", ["batch", "sequence"], "int64")
    past = [
        [g.input(f"past_key_values.{layer}.{part}", _cache(config, "past")) for part in ("key", "value")]
        for layer in range(config.layers)
    ]
    mask = _causal_mask(g, embeds, kept, past[0][0])
    rotation = _rotation(g, config, places)
    presents = []
    for layer in range(config.layers):
        hidden, present = _layer(g, config, f"layers.{layer}", hidden, past[layer], mask, rotation)
        presents.append(present)
    if config.final_norm:
        hidden = rms_norm(g, hidden, "norm", config.hidden, config.epsilon)
    g.output("hidden_states", hidden, ["batch", "sequence", config.hidden])
    for layer, present in enumerate(presents):
        for part, value in zip(("key", "value"), present, strict=True):
            g.output(f"present.{layer}.{part}", value, _cache(config, "past + sequence"))
    return g.build()


def inputs(config: LlamaConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Random embeddings after a random cache; some rows are padded on the left."""
    batch, sequence, past = sizes["batch"], sizes["sequence"], sizes["past"]
    mask = padding_mask(rng, batch, past + sequence, least=sequence)[:, ::-1].copy()
    embeds = rng.standard_normal((batch, sequence, config.hidden), dtype=np.float32)
    feeds = {
        "inputs_embeds": embeds.astype(config.dtype),
        "attention_mask": mask,
        "position_ids": np.maximum(mask.cumsum(axis=1) - 1, 0)[:, past:],
    }
    for layer in range(config.layers):
        for part in ("key", "value"):
            cached = rng.standard_normal((batch, config.groups, past, config.width), dtype=np.float32)
            feeds[f"past_key_values.{layer}.{part}"] = cached.astype(config.dtype)
    return feeds


def _cache(config: LlamaConfig, length: str) -> list[int | str]:
    return ["batch", config.groups, length, config.width]


def _causal_mask(g: GraphBuilder, embeds: Value, kept: Value, past: Value) -> Value:
    """What is added to scores, [batch, 1, sequence, past + sequence]: lowest above the diagonal and at padding."""
    sequence, before = g.size(embeds, 1), g.size(past, 2)
    total = g.op("Add", before, sequence)
    low = g.expand(g.lowest(), sequence, total)
    above = g.op("Trilu", low, g.index(1), upper=1)
    here = g.unsqueeze(g.op("Range", before, total, g.index(1)), 1)
    later = g.op("Greater", g.range(total), here)
    causal = g.expand(g.unsqueeze(g.op("Mul", above, g.cast(later)), 0, 1), g.size(embeds, 0), 1, -1, -1)
    padding = g.op("Equal", g.cast(g.unsqueeze(kept, 1, 2)), g.scalar(0.0))
    return g.op("Where", padding, g.lowest(), causal)


def _rotation(g: GraphBuilder, config: LlamaConfig, places: Value) -> tuple[Value, Value]:
    """Cosine and sine of the rotary embedding, each [batch, 1, sequence, width], computed in float32."""
    powers = np.arange(0, config.width, 2, dtype=np.float32) / np.float32(config.width)
    inverse = g.constant((np.float32(config.theta) ** -powers)[None, :, None])
    columns = g.expand(inverse, g.size(places, 0), -1, 1)
    angles = g.op("MatMul", columns, g.cast(g.unsqueeze(places, 1), "float32"))
    both = g.transpose(angles, 0, 2, 1)
    both = g.op("Concat", both, both, axis=-1)
    cosine, sine = (g.unsqueeze(g.cast(g.op(kind, both)), 1) for kind in ("Cos", "Sin"))
    return cosine, sine


def _rotate(g: GraphBuilder, x: Value, rotation: tuple[Value, Value]) -> Value:
    half = g.op("Div", g.size(x, 3), g.index(2))
    low, high = g.slice(x, 3, 0, half), g.slice(x, 3, half, INT64_MAX)
    turned = g.op("Concat", g.op("Neg", high), low, axis=-1)
    return g.op("Add", g.op("Mul", x, rotation[0]), g.op("Mul", turned, rotation[1]))


def _repeat(g: GraphBuilder, config: LlamaConfig, x: Value) -> Value:
    """[batch, groups, length, width] to [batch, heads, length, width], every group for all of its queries."""
    batch, length = g.size(x, 0), g.size(x, 2)
    each = g.expand(g.unsqueeze(x, 2), batch, config.groups, config.heads // config.groups, length, config.width)
    return g.reshape(each, batch, config.heads, length, config.width)


def _layer(
    g: GraphBuilder,
    config: LlamaConfig,
    name: str,
    x: Value,
    past: list[Value],
    mask: Value,
    rotation: tuple[Value, Value],
) -> tuple[Value, tuple[Value, Value]]:
    hidden, shared = config.hidden, config.groups * config.width
    normed = rms_norm(g, x, f"{name}.input_layernorm", hidden, config.epsilon)

    def project(part: str, heads: int) -> Value:
        columns = hidden if heads == config.heads else shared
        projected = linear(g, normed, f"{name}.self_attn.{part}_proj", hidden, columns, bias=False)
        return split_heads(g, projected, heads, config.width)

    query = _rotate(g, project("q", config.heads), rotation)
    key = g.op("Concat", past[0], _rotate(g, project("k", config.groups), rotation), axis=-2)
    value = g.op("Concat", past[1], project("v", config.groups), axis=-2)
    scores = scaled_scores(g, query, _repeat(g, config, key))
    weights = g.op("Softmax", g.op("Add", scores, mask), axis=-1)
    mixed = merge_heads(g, g.op("MatMul", weights, _repeat(g, config, value)), hidden)
    x = g.op("Add", x, linear(g, mixed, f"{name}.self_attn.o_proj", hidden, hidden, bias=False))
    normed = rms_norm(g, x, f"{name}.post_attention_layernorm", hidden, config.epsilon)
    gate = silu(g, linear(g, normed, f"{name}.mlp.gate_proj", hidden, config.inner, bias=False))
    up = linear(g, normed, f"{name}.mlp.up_proj", hidden, config.inner, bias=False)
    down = linear(g, g.op("Mul", gate, up), f"{name}.mlp.down_proj", config.inner, hidden, bias=False)
    return g.op("Add", x, down), (key, value)


LLAMA = ZooModel(
    "llama_block",
    make,
    inputs,
    LlamaConfig(),
    LlamaConfig(layers=2, hidden=64, heads=4, groups=2, inner=96),
    shapes("batch sequence past", "1x16x0 1x61x0 1x1x61 1x1x62 1x1x255 2x8x24 4x1x31 8x1x63"),
    shapes("batch sequence past", "1x5x0 1x1x5 1x1x6 2x1x17 2x3x9 1x32x0 3x4x4 1x1x40"),
)
