"""ResNet (He et al. 2015, arXiv:1512.03385) with bottleneck blocks; batch normalisation stands as an operator of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from benchmarks.zoo.entry import Feeds, Sizes, ZooModel, shapes
from benchmarks.zoo.graph import GraphBuilder, Value
from benchmarks.zoo.layers import classify, conv_norm

__all__ = ["RESNET", "ResNetConfig"]

_WIDENING = 4
"""A block's output has this many times the channels of its 3 x 3 convolution."""


@dataclass(frozen=True)
class ResNetConfig:
    """Blocks of each stage and channels of the first, by default those of ResNet-50."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    channels: int = 64
    classes: int = 1000
    dtype: str = "float32"


def make(config: ResNetConfig) -> onnx.ModelProto:
    """Pictures [batch, 3, height, width] to logits [batch, classes]."""
    g = GraphBuilder("resnet", dtype=config.dtype)
    x = g.input("pixel_values", ["batch", 3, "height", "width"])
    x = g.op("Relu", conv_norm(g, x, "conv1", 3, config.channels, kernel=7, stride=2))
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=0)
    inputs, channels = config.channels, config.channels
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _block(g, x, f"layer{stage + 1}.{block}", inputs, channels, stride)
            inputs = channels * _WIDENING
        channels *= 2
    g.output("logits", classify(g, x, "fc", inputs, config.classes), ["batch", config.classes])
    return g.build()


def inputs(config: ResNetConfig, sizes: Sizes, rng: np.random.Generator) -> Feeds:
    """Normally distributed pixels."""
    shape = (sizes["batch"], 3, sizes["height"], sizes["width"])
    return {"pixel_values": rng.standard_normal(shape, dtype=np.float32).astype(config.dtype)}


def _block(g: GraphBuilder, x: Value, name: str, inputs: int, channels: int, stride: int) -> Value:
    outputs = channels * _WIDENING
    y = g.op("Relu", conv_norm(g, x, f"{name}.conv1", inputs, channels))
    y = g.op("Relu", conv_norm(g, y, f"{name}.conv2", channels, channels, kernel=3, stride=stride))
    y = conv_norm(g, y, f"{name}.conv3", channels, outputs)
    if stride > 1 or inputs != outputs:
        x = conv_norm(g, x, f"{name}.downsample", inputs, outputs, stride=stride)
    return g.op("Relu", g.op("Add", y, x))


RESNET = ZooModel(
    "resnet50",
    make,
    inputs,
    ResNetConfig(),
    ResNetConfig(blocks=(1, 2), channels=8, classes=10),
    shapes("batch height width", "1x224x224 1x160x160 1x192x256 1x97x131 2x128x128 2x224x224 4x96x96 8x64x64"),
    shapes("batch height width", "1x32x32 1x17x32 1x33x31 2x16x16 3x24x20 1x48x16 4x8x8 2x13x29"),
)
