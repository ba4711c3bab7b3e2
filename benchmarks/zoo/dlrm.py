"""DLRM (Naumov et al. 2019, arXiv:1906.00091): embedding tables, two multilayer perceptrons, products of all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, shapes
from benchmarks.zoo.graph import GraphBuilder, Value

__all__ = ["DLRM", "DlrmConfig"]


@dataclass(frozen=True)
class DlrmConfig:
    """Sizes: the networks of the published Criteo Kaggle setting, its 26 tables cut to `rows` rows each."""

    dense: int = 13
    tables: int = 26
    rows: int = 20000
    width: int = 16
    bottom: tuple[int, ...] = (512, 256, 64)
    top: tuple[int, ...] = (512, 256)
    dtype: str = "float32"


def make(config: DlrmConfig) -> onnx.ModelProto:
    """dense [batch, dense] and indices [batch, tables, bag] to the probability of a click, [batch, 1]."""
    g = GraphBuilder("dlrm", dtype=config.dtype)
    dense = g.input("dense", ["batch", config.dense])
    indices = g.input("indices", ["batch", config.tables, "bag"], "int64")
    x = _perceptron(g, "bot_l", dense, (config.dense, *config.bottom, config.width))
    bags = [_bag(g, config, table, indices) for table in range(config.tables)]
    features = config.tables + 1
    rows = g.reshape(g.op("Concat", x, *bags, axis=1), g.size(x, 0), features, config.width)
    products = g.op("MatMul", rows, g.transpose(rows, 0, 2, 1))
    lower, column = np.tril_indices(features, -1)
    flat = g.op("Flatten", products, axis=1)
    pairs = g.op("Gather", flat, g.constant(lower * features + column), axis=1)
    joined = g.op("Concat", x, pairs, axis=1)
    sizes = (config.width + len(lower), *config.top)
    hidden = _perceptron(g, "top_l", joined, sizes)
    logit = _gemm(g, "top_l.last", hidden, sizes[-1], 1)
    g.output("click", g.op("Sigmoid", logit), ["batch", 1])
    return g.build()


def inputs(config: DlrmConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Normally distributed dense features, uniform indices."""
    batch = sizes["batch"]
    return {
        "dense": rng.standard_normal((batch, config.dense), dtype=np.float32).astype(config.dtype),
        "indices": rng.integers(0, config.rows, (batch, config.tables, sizes["bag"]), dtype=np.int64),
    }


def _bag(g: GraphBuilder, config: DlrmConfig, table: int, indices: Value) -> Value:
    """The sum of the rows of one table that its indices name, [batch, width]."""
    weight = g.weight(f"emb_l.{table}.weight", config.rows, config.width, scale=config.width**-0.5)
    own = g.op("Gather", indices, g.index(table), axis=1)
    return g.op("ReduceSum", g.op("Gather", weight, own), g.ints(1), keepdims=0)


def _gemm(g: GraphBuilder, name: str, x: Value, inputs: int, outputs: int) -> Value:
    weight = g.weight(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
    return g.op("Gemm", x, weight, g.bias(f"{name}.bias", outputs), alpha=1.0, beta=1.0, transB=1)


def _perceptron(g: GraphBuilder, name: str, x: Value, sizes: Sequence[int]) -> Value:
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        x = g.op("Relu", _gemm(g, f"{name}.{layer}", x, inputs, outputs))
    return x


DLRM = ZooModel(
    "dlrm",
    make,
    inputs,
    DlrmConfig(),
    DlrmConfig(dense=5, tables=4, rows=50, width=8, bottom=(32,), top=(32, 16)),
    shapes("batch bag", "1x1 7x1 64x1 100x1 256x1 33x4 128x10 512x3"),
    shapes("batch bag", "1x1 2x3 7x1 8x2 16x5 33x1 5x9 64x2"),
)
