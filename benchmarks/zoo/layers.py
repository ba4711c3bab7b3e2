"""Layers that several models share, as chains of plain ONNX operators where exporters write such chains."""

from __future__ import annotations

import math

from benchmarks.zoo.graph import INT64_MAX, GraphBuilder, Value

__all__ = [
    "attend",
    "classify",
    "conv_norm",
    "gelu_erf",
    "gelu_tanh",
    "layer_norm",
    "linear",
    "merge_heads",
    "plain_layer_norm",
    "rms_norm",
    "scaled_scores",
    "silu",
    "split_heads",
]


def linear(g: GraphBuilder, x: Value, name: str, inputs: int, outputs: int, *, bias: bool = True) -> Value:
    """A linear layer on the last axis, [..., inputs] to [..., outputs]."""
    product = g.op("MatMul", x, g.weight(f"{name}.weight", inputs, outputs, transposed=True))
    return g.op("Add", g.bias(f"{name}.bias", outputs), product) if bias else product


def layer_norm(g: GraphBuilder, x: Value, name: str, width: int, epsilon: float = 1e-5) -> Value:
    """Layer normalisation of the last axis as one operator."""
    gain, shift = g.gain(f"{name}.weight", width), g.bias(f"{name}.bias", width)
    return g.op("LayerNormalization", x, gain, shift, axis=-1, epsilon=epsilon)


def plain_layer_norm(g: GraphBuilder, x: Value, name: str, width: int, epsilon: float = 1e-12) -> Value:
    """Layer normalisation of the last axis in plain operators, as exporters before opset 17 write it."""
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[-1], keepdims=1))
    variance = g.op("ReduceMean", g.op("Pow", centred, g.scalar(2.0)), axes=[-1], keepdims=1)
    deviation = g.op("Sqrt", g.op("Add", variance, g.scalar(epsilon)))
    scaled = g.op("Mul", g.op("Div", centred, deviation), g.gain(f"{name}.weight", width))
    return g.op("Add", scaled, g.bias(f"{name}.bias", width))


def rms_norm(g: GraphBuilder, x: Value, name: str, width: int, epsilon: float = 1e-6) -> Value:
    """Normalisation of the last axis by its root mean square."""
    mean = g.op("ReduceMean", g.op("Pow", x, g.scalar(2.0)), axes=[-1], keepdims=1)
    inverse = g.op("Div", g.scalar(1.0), g.op("Sqrt", g.op("Add", mean, g.scalar(epsilon))))
    return g.op("Mul", g.gain(f"{name}.weight", width), g.op("Mul", x, inverse))


def gelu_erf(g: GraphBuilder, x: Value) -> Value:
    """The exact Gaussian error linear unit."""
    erf = g.op("Erf", g.op("Div", x, g.scalar(math.sqrt(2.0))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", erf, g.scalar(1.0))), g.scalar(0.5))


def gelu_tanh(g: GraphBuilder, x: Value) -> Value:
    """The Gaussian error linear unit by tanh, as GPT-2 has it."""
    cubic = g.op("Mul", g.scalar(0.044715), g.op("Pow", x, g.scalar(3.0)))
    inner = g.op("Mul", g.scalar(math.sqrt(2.0 / math.pi)), g.op("Add", x, cubic))
    return g.op("Mul", g.op("Mul", g.scalar(0.5), x), g.op("Add", g.scalar(1.0), g.op("Tanh", inner)))


def silu(g: GraphBuilder, x: Value) -> Value:
    """x * sigmoid(x)."""
    return g.op("Mul", x, g.op("Sigmoid", x))


def split_heads(g: GraphBuilder, x: Value, heads: int, width: int) -> Value:
    """[batch, sequence, heads * width] to [batch, heads, sequence, width]."""
    return g.transpose(g.reshape(x, g.size(x, 0), g.size(x, 1), heads, width), 0, 2, 1, 3)


def merge_heads(g: GraphBuilder, x: Value, hidden: int) -> Value:
    """[batch, heads, sequence, width] to [batch, sequence, hidden]."""
    rows = g.transpose(x, 0, 2, 1, 3)
    return g.reshape(rows, g.size(rows, 0), g.size(rows, 1), hidden)


def attend(
    g: GraphBuilder, query: Value, key: Value, value: Value, *, mask: Value | None = None, divisor: float | None = None
) -> Value:
    """Attention of [batch, heads, sequence, width]; `mask` is added to the scores, which `divisor` divides before."""
    scores = g.op("MatMul", query, g.transpose(key, 0, 1, 3, 2))
    if divisor is not None:
        scores = g.op("Div", scores, g.scalar(divisor))
    if mask is not None:
        scores = g.op("Add", scores, mask)
    return g.op("MatMul", g.op("Softmax", scores, axis=-1), value)


def scaled_scores(g: GraphBuilder, query: Value, key: Value) -> Value:
    """Scores of [batch, heads, sequence, width] over the root of the width, which is read from the query's shape.

    So PyTorch exports scaled_dot_product_attention: half of the factor on either side.
    """
    width = g.op("Slice", g.op("Shape", query), g.ints(-1), g.ints(INT64_MAX))
    factor = g.op("Sqrt", g.op("Div", g.scalar(1.0), g.op("Sqrt", g.cast(width))))
    return g.op("MatMul", g.op("Mul", query, factor), g.op("Mul", g.transpose(key, 0, 1, 3, 2), factor))


def conv_norm(
    g: GraphBuilder,
    x: Value,
    name: str,
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> Value:
    """A square convolution of [batch, inputs, height, width] with equal padding all round, then batch normalisation."""
    depth = inputs // groups
    weight = g.weight(f"{name}.weight", outputs, depth, kernel, kernel, scale=(kernel * kernel * depth) ** -0.5)
    x = g.op(
        "Conv",
        x,
        weight,
        dilations=[1, 1],
        group=groups,
        kernel_shape=[kernel, kernel],
        pads=[kernel // 2] * 4,
        strides=[stride, stride],
    )
    gain, shift = g.gain(f"{name}.bn.weight", outputs), g.bias(f"{name}.bn.bias", outputs)
    mean, variance = g.bias(f"{name}.bn.running_mean", outputs), g.gain(f"{name}.bn.running_var", outputs)
    return g.op("BatchNormalization", x, gain, shift, mean, variance, epsilon=1e-5, momentum=0.9)


def classify(g: GraphBuilder, x: Value, name: str, inputs: int, classes: int) -> Value:
    """The mean of [batch, inputs, height, width] over the picture, then a linear layer."""
    pooled = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    weight = g.weight(f"{name}.weight", classes, inputs, scale=inputs**-0.5)
    return g.op("Gemm", pooled, weight, g.bias(f"{name}.bias", classes), alpha=1.0, beta=1.0, transB=1)
