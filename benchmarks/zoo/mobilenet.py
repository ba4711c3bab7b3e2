"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381): inverted residuals of depthwise convolutions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, shapes
from benchmarks.zoo.graph import GraphBuilder, Value
from benchmarks.zoo.layers import classify, conv_norm

__all__ = ["MOBILENET", "MobileNetConfig"]

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Widening, output channels, blocks, stride of the first block."""


@dataclass(frozen=True)
class MobileNetConfig:
    """Channels of the stem, stages as above, channels of the head."""

    stem: int = 32
    stages: tuple[tuple[int, int, int, int], ...] = _STAGES
    head: int = 1280
    classes: int = 1000
    dtype: str = "float32"


def make(config: MobileNetConfig) -> onnx.ModelProto:
    """Pictures [batch, 3, height, width] to logits [batch, classes]."""
    g = GraphBuilder("mobilenet", dtype=config.dtype)
    x = g.input("pixel_values", ["batch", 3, "height", "width"])
    x = _clip(g, conv_norm(g, x, "features.0", 3, config.stem, kernel=3, stride=2))
    channels, block = config.stem, 0
    for widening, outputs, blocks, stride in config.stages:
        for index in range(blocks):
            block += 1
            x = _block(g, x, f"features.{block}", channels, outputs, widening, stride if index == 0 else 1)
            channels = outputs
    x = _clip(g, conv_norm(g, x, f"features.{block + 1}", channels, config.head))
    g.output("logits", classify(g, x, "classifier", config.head, config.classes), ["batch", config.classes])
    return g.build()


def inputs(config: MobileNetConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Normally distributed pixels."""
    shape = (sizes["batch"], 3, sizes["height"], sizes["width"])
    return {"pixel_values": rng.standard_normal(shape, dtype=np.float32).astype(config.dtype)}


def _clip(g: GraphBuilder, x: Value) -> Value:
    return g.op("Clip", x, g.scalar(0.0), g.scalar(6.0))


def _block(g: GraphBuilder, x: Value, name: str, inputs: int, outputs: int, widening: int, stride: int) -> Value:
    inner = inputs * widening
    y = x if widening == 1 else _clip(g, conv_norm(g, x, f"{name}.expand", inputs, inner))
    y = _clip(g, conv_norm(g, y, f"{name}.depthwise", inner, inner, kernel=3, stride=stride, groups=inner))
    y = conv_norm(g, y, f"{name}.project", inner, outputs)
    return g.op("Add", x, y) if stride == 1 and inputs == outputs else y


MOBILENET = ZooModel(
    "mobilenet_v2",
    make,
    inputs,
    MobileNetConfig(),
    MobileNetConfig(stem=8, stages=((1, 8, 1, 1), (6, 12, 2, 2), (4, 16, 2, 1)), head=32, classes=10),
    shapes("batch height width", "1x224x224 1x160x160 1x192x256 1x97x131 2x128x128 2x224x224 4x96x96 8x64x64"),
    shapes("batch height width", "1x32x32 1x17x32 1x33x31 2x16x16 3x24x20 1x48x16 4x8x8 2x13x29"),
)
