"""Vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, shapes
from benchmarks.zoo.graph import GraphBuilder, Value
from benchmarks.zoo.layers import gelu_erf, layer_norm, linear, merge_heads, scaled_scores, split_heads

__all__ = ["VIT", "VitConfig"]


@dataclass(frozen=True)
class VitConfig:
    """Sizes, by default those of ViT-S/16."""

    layers: int = 12
    hidden: int = 384
    heads: int = 6
    inner: int = 1536
    side: int = 224
    patch: int = 16
    classes: int = 1000
    dtype: str = "float32"


def make(config: VitConfig) -> onnx.ModelProto:
    """Pictures [batch, 3, side, side] to logits [batch, classes]."""
    g = GraphBuilder("vit", dtype=config.dtype)
    pixels = g.input("pixel_values", ["batch", 3, config.side, config.side])
    x = _embed(g, config, pixels)
    for layer in range(config.layers):
        x = _layer(g, config, f"encoder.layer.{layer}", x)
    x = layer_norm(g, x, "layernorm", config.hidden, 1e-12)
    first = g.op("Gather", x, g.index(0), axis=1)
    weight = g.weight("classifier.weight", config.classes, config.hidden, scale=config.hidden**-0.5)
    logits = g.op("Gemm", first, weight, g.bias("classifier.bias", config.classes), transB=1)
    g.output("logits", logits, ["batch", config.classes])
    return g.build()


def inputs(config: VitConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Normally distributed pixels."""
    shape = (sizes["batch"], 3, config.side, config.side)
    return {"pixel_values": rng.standard_normal(shape, dtype=np.float32).astype(config.dtype)}


def _embed(g: GraphBuilder, config: VitConfig, pixels: Value) -> Value:
    hidden, patch = config.hidden, config.patch
    kernel = g.weight("patch.weight", hidden, 3, patch, patch, scale=(3 * patch * patch) ** -0.5)
    bias = g.bias("patch.bias", hidden)
    grid = g.op("Conv", pixels, kernel, bias, kernel_shape=[patch, patch], strides=[patch, patch])
    shape = g.op("Slice", g.op("Shape", grid), g.ints(0), g.ints(2), g.ints(0))
    patches = g.transpose(g.op("Reshape", grid, g.op("Concat", shape, g.ints(-1), axis=0)), 0, 2, 1)
    token = g.expand(g.weight("cls_token", 1, 1, hidden, scale=0.5), g.size(patches, 0), -1, -1)
    rows = g.op("Concat", token, patches, axis=1)
    places = (config.side // patch) ** 2 + 1
    return g.op("Add", rows, g.weight("position_embeddings", 1, places, hidden, scale=0.2))


def _layer(g: GraphBuilder, config: VitConfig, name: str, x: Value) -> Value:
    hidden = config.hidden
    normed = layer_norm(g, x, f"{name}.layernorm_before", hidden, 1e-12)
    query, key, value = (
        split_heads(
            g, linear(g, normed, f"{name}.attention.{part}", hidden, hidden), config.heads, hidden // config.heads
        )
        for part in ("query", "key", "value")
    )
    scores = scaled_scores(g, query, key)
    mixed = merge_heads(g, g.op("MatMul", g.op("Softmax", scores, axis=-1), value), hidden)
    x = g.op("Add", linear(g, mixed, f"{name}.attention.output", hidden, hidden), x)
    normed = layer_norm(g, x, f"{name}.layernorm_after", hidden, 1e-12)
    inner = gelu_erf(g, linear(g, normed, f"{name}.intermediate", hidden, config.inner))
    return g.op("Add", linear(g, inner, f"{name}.output", config.inner, hidden), x)


VIT = ZooModel(
    "vit_small",
    make,
    inputs,
    VitConfig(),
    VitConfig(layers=2, hidden=48, heads=3, inner=96, side=32, patch=8, classes=10),
    shapes("batch", "1 2 3 4 5 6 7 8"),
    shapes("batch", "1 2 3 4 5 7 8 11"),
)
