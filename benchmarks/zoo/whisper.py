"""The encoder of Whisper (Radford et al. 2022, arXiv:2212.04356): two convolutions over time, then a transformer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, shapes
from benchmarks.zoo.graph import GraphBuilder, Value
from benchmarks.zoo.layers import attend, gelu_erf, layer_norm, linear, merge_heads, split_heads

__all__ = ["WHISPER", "WhisperConfig"]


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes, by default those of Whisper tiny; `positions` is half of the most frames."""

    layers: int = 4
    hidden: int = 384
    heads: int = 6
    inner: int = 1536
    bands: int = 80
    positions: int = 1500
    dtype: str = "float32"


def make(config: WhisperConfig) -> onnx.ModelProto:
    """input_features [batch, bands, frames] to last_hidden_state [batch, half the frames, hidden]."""
    g = GraphBuilder("whisper_encoder", dtype=config.dtype)
    x = g.input("input_features", ["batch", config.bands, "frames"])
    x = gelu_erf(g, _conv(g, x, "conv1", config.bands, config.hidden, 1))
    x = gelu_erf(g, _conv(g, x, "conv2", config.hidden, config.hidden, 2))
    x = g.transpose(x, 0, 2, 1)
    table = g.table("embed_positions.weight", _sinusoids(config.positions, config.hidden).astype(config.dtype))
    x = g.op("Add", x, g.slice(table, 0, 0, g.size(x, 1)))
    for layer in range(config.layers):
        x = _layer(g, config, f"layers.{layer}", x)
    x = layer_norm(g, x, "layer_norm", config.hidden)
    g.output("last_hidden_state", x, ["batch", "(frames + 1) // 2", config.hidden])
    return g.build()


def inputs(config: WhisperConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Normally distributed energies of the bands."""
    shape = (sizes["batch"], config.bands, sizes["frames"])
    return {"input_features": rng.standard_normal(shape, dtype=np.float32).astype(config.dtype)}


def _sinusoids(length: int, channels: int) -> np.ndarray:
    rates = np.exp(-np.log(10000.0) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _conv(g: GraphBuilder, x: Value, name: str, inputs: int, outputs: int, stride: int) -> Value:
    weight = g.weight(f"{name}.weight", outputs, inputs, 3, scale=(3 * inputs) ** -0.5)
    bias = g.bias(f"{name}.bias", outputs)
    return g.op("Conv", x, weight, bias, dilations=[1], group=1, kernel_shape=[3], pads=[1, 1], strides=[stride])


def _layer(g: GraphBuilder, config: WhisperConfig, name: str, x: Value) -> Value:
    hidden, width = config.hidden, config.hidden // config.heads
    normed = layer_norm(g, x, f"{name}.self_attn_layer_norm", hidden)

    def project(part: str) -> Value:
        return linear(g, normed, f"{name}.self_attn.{part}_proj", hidden, hidden, bias=part != "k")

    query = g.op("Mul", project("q"), g.scalar(width**-0.5))
    query, key, value = (split_heads(g, each, config.heads, width) for each in (query, project("k"), project("v")))
    mixed = merge_heads(g, attend(g, query, key, value), hidden)
    x = g.op("Add", x, linear(g, mixed, f"{name}.self_attn.out_proj", hidden, hidden))
    inner = gelu_erf(
        g, linear(g, layer_norm(g, x, f"{name}.final_layer_norm", hidden), f"{name}.fc1", hidden, config.inner)
    )
    return g.op("Add", x, linear(g, inner, f"{name}.fc2", config.inner, hidden))


WHISPER = ZooModel(
    "whisper_tiny_encoder",
    make,
    inputs,
    WhisperConfig(),
    WhisperConfig(layers=2, hidden=48, heads=3, inner=96, bands=10, positions=40),
    shapes("batch frames", "1x100 1x213 1x400 1x750 1x1500 1x3000 2x300 4x128"),
    shapes("batch frames", "1x8 1x13 1x40 2x16 2x31 3x10 1x80 4x5"),
)
