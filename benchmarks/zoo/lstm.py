"""A tagger of words: embedding, bidirectional LSTM, linear layer (Huang et al. 2015, arXiv:1508.01991, without its CRF)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, shapes, token_ids
from benchmarks.zoo.graph import GraphBuilder, Value
from benchmarks.zoo.layers import linear

__all__ = ["LSTM", "LstmConfig"]


@dataclass(frozen=True)
class LstmConfig:
    """Sizes of the tagger; `hidden` is that of one direction."""

    vocabulary: int = 20000
    embedding: int = 100
    hidden: int = 128
    layers: int = 2
    tags: int = 17
    dtype: str = "float32"


def make(config: LstmConfig) -> onnx.ModelProto:
    """Tokens [batch, sequence] to logits [batch, sequence, tags]."""
    g = GraphBuilder("lstm", dtype=config.dtype)
    ids = g.input("input_ids", ["batch", "sequence"], "int64")
    table = g.weight("embedding.weight", config.vocabulary, config.embedding, scale=1.0)
    x = g.transpose(g.op("Gather", table, ids), 1, 0, 2)
    width = config.embedding
    for layer in range(config.layers):
        x = _bidirectional(g, f"lstm.{layer}", x, width, config.hidden)
        width = 2 * config.hidden
    logits = linear(g, g.transpose(x, 1, 0, 2), "tags", width, config.tags)
    g.output("logits", logits, ["batch", "sequence", config.tags])
    return g.build()


def inputs(config: LstmConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Random tokens."""
    return {"input_ids": token_ids(rng, config.vocabulary, sizes["batch"], sizes["sequence"])}


def _bidirectional(g: GraphBuilder, name: str, x: Value, inputs: int, hidden: int) -> Value:
    """[sequence, batch, inputs] to [sequence, batch, 2 * hidden], from a state of zeros."""
    zeros = g.expand(g.scalar(0.0), 2, g.size(x, 1), hidden)
    weights = [
        g.weight(f"{name}.w", 2, 4 * hidden, inputs, scale=inputs**-0.5),
        g.weight(f"{name}.r", 2, 4 * hidden, hidden, scale=hidden**-0.5),
        g.bias(f"{name}.b", 2, 8 * hidden),
    ]
    states = g.ops("LSTM", 3, x, *weights, "", zeros, zeros, direction="bidirectional", hidden_size=hidden)[0]
    return g.op("Reshape", g.transpose(states, 0, 2, 1, 3), g.ints(0, 0, -1))


LSTM = ZooModel(
    "lstm_tagger",
    make,
    inputs,
    LstmConfig(),
    LstmConfig(vocabulary=53, embedding=24, hidden=32, layers=1, tags=5),
    shapes("batch sequence", "1x5 1x12 1x31 1x64 4x9 8x20 16x17 32x40"),
    shapes("batch sequence", "1x1 1x5 1x9 2x4 3x7 4x3 5x6 8x2"),
)
