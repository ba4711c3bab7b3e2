"""BERT encoders (Devlin et al. 2018, arXiv:1810.04805) and the sentence encoder all-MiniLM-L6-v2 with its published weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, padding_mask, shapes, token_ids
from benchmarks.zoo.graph import GraphBuilder, Value
from benchmarks.zoo.layers import attend, gelu_erf, linear, merge_heads, plain_layer_norm, split_heads

__all__ = ["BERT", "MINILM", "BertConfig"]


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder; `published` takes the weights of all-MiniLM-L6-v2 and adds the sentence embedding.

    With `free` the weights are inputs of the graph, and `published` says no more than that there is an embedding.
    """

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 30522
    positions: int = 512
    published: bool = False
    dtype: str = "float32"
    free: bool = False


def make(config: BertConfig) -> onnx.ModelProto:
    """Tokens, mask and segments, each [batch, sequence], to last_hidden_state [batch, sequence, hidden]."""
    name = "minilm" if config.published else "bert"
    g = GraphBuilder(name, dtype=config.dtype, parameters=_published(config), free=config.free)
    ids, mask, kinds = (
        g.input(name, ["batch", "sequence"], "int64") for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    hidden, added = _embed(g, config, ids, kinds), _extended_mask(g, mask)
    for layer in range(config.layers):
        hidden = _layer(g, config, f"encoder.layer.{layer}", hidden, added)
    embedding = _pool(g, config, hidden, mask) if config.published else None
    g.output("last_hidden_state", hidden, ["batch", "sequence", config.hidden])
    if embedding is not None:
        g.output("sentence_embedding", embedding, ["batch", config.hidden])
    return g.build()


def inputs(config: BertConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Random tokens, padded on the right, in two segments."""
    batch, sequence = sizes["batch"], sizes["sequence"]
    return {
        "input_ids": token_ids(rng, config.vocabulary, batch, sequence),
        "attention_mask": padding_mask(rng, batch, sequence),
        "token_type_ids": token_ids(rng, 2, batch, sequence),
    }


def _published(config: BertConfig) -> dict[str, np.ndarray] | None:
    if not config.published or config.free:
        return None
    from npuvm.runtime.models.minilm_assets import load_minilm  # only this model needs the package of its weights

    return dict(load_minilm().weights)


def _embed(g: GraphBuilder, config: BertConfig, ids: Value, kinds: Value) -> Value:
    words = g.op(
        "Gather", g.weight("embeddings.word_embeddings.weight", config.vocabulary, config.hidden, scale=1.0), ids
    )
    segments = g.op("Gather", g.weight("embeddings.token_type_embeddings.weight", 2, config.hidden, scale=0.2), kinds)
    places = g.constant(np.arange(config.positions, dtype=np.int64)[None])
    places = g.slice(places, 1, 0, g.size(ids, 1))
    table = g.weight("embeddings.position_embeddings.weight", config.positions, config.hidden, scale=0.2)
    total = g.op("Add", g.op("Add", words, segments), g.op("Gather", table, places))
    return plain_layer_norm(g, total, "embeddings.LayerNorm", config.hidden)


def _extended_mask(g: GraphBuilder, mask: Value) -> Value:
    """[batch, sequence] of ones and zeros to what is added to scores, [batch, 1, sequence, sequence]."""
    length = g.size(mask, 1)
    rows = g.expand(g.unsqueeze(mask, 1, 2), g.size(mask, 0), 1, length, length)
    absent = g.op("Sub", g.scalar(1.0), g.cast(rows))
    return g.op("Where", g.cast(absent, "bool"), g.lowest(), absent)


def _layer(g: GraphBuilder, config: BertConfig, name: str, x: Value, mask: Value) -> Value:
    hidden, width = config.hidden, config.hidden // config.heads
    query, key, value = (
        split_heads(g, linear(g, x, f"{name}.attention.self.{part}", hidden, hidden), config.heads, width)
        for part in ("query", "key", "value")
    )
    mixed = merge_heads(g, attend(g, query, key, value, mask=mask, divisor=math.sqrt(width)), hidden)
    out = linear(g, mixed, f"{name}.attention.output.dense", hidden, hidden)
    x = plain_layer_norm(g, g.op("Add", out, x), f"{name}.attention.output.LayerNorm", hidden)
    inner = gelu_erf(g, linear(g, x, f"{name}.intermediate.dense", hidden, config.inner))
    out = linear(g, inner, f"{name}.output.dense", config.inner, hidden)
    return plain_layer_norm(g, g.op("Add", out, x), f"{name}.output.LayerNorm", hidden)


def _pool(g: GraphBuilder, config: BertConfig, hidden: Value, mask: Value) -> Value:
    """The mean of the tokens that the mask keeps, at length one."""
    kept = g.cast(g.expand(g.unsqueeze(mask, -1), g.size(hidden, 0), g.size(hidden, 1), g.size(hidden, 2)))
    total = g.op("ReduceSum", g.op("Mul", hidden, kept), g.ints(1), keepdims=0)
    count = g.op("Clip", g.op("ReduceSum", kept, g.ints(1), keepdims=0), g.scalar(1e-9))
    mean = g.op("Div", total, count)
    norm = g.op("ReduceL2", mean, axes=[1], keepdims=1)
    return g.op("Div", mean, g.expand(g.op("Clip", norm, g.scalar(1e-12)), g.size(mean, 0), g.size(mean, 1)))


_SMALL = shapes("batch sequence", "1x1 1x7 2x5 3x16 1x33 4x12 2x24 5x3")

BERT = ZooModel(
    "bert_base",
    make,
    inputs,
    BertConfig(),
    BertConfig(layers=2, hidden=64, heads=4, inner=128, vocabulary=101, positions=48),
    shapes("batch sequence", "1x8 1x17 1x64 1x100 1x128 2x37 4x32 8x21"),
    _SMALL,
)

_MINILM = BertConfig(layers=6, hidden=384, heads=12, inner=1536, published=True)

MINILM = ZooModel(
    "minilm",
    make,
    inputs,
    _MINILM,
    BertConfig(layers=2, hidden=384, heads=12, inner=1536, published=True),
    shapes("batch sequence", "1x5 1x9 1x24 1x77 1x128 3x16 8x32 16x11"),
    _SMALL,
)
