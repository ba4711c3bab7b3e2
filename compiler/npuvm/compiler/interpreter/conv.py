"""The numpy meaning of convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_conv import conv_numbers, conv_pads
from npuvm.compiler.graph.symbols import evaluate

__all__ = ["evaluate_conv"]

Array = npt.NDArray[Any]


def evaluate_conv(node: Node, inputs: Sequence[Array], binding: Mapping[str, int]) -> Array:
    """x [N, H, W, C] with w [O, KH, KW, C / groups] and maybe a bias [O]: one product for each pixel of the kernel.

    With `planes` channels stand before rows and columns. Sums are float32, for int8 int32, and rounded once.
    """
    x, w = inputs[:2]
    planes = bool(node.attrs.get("planes"))
    if planes:
        x, w = x.transpose(0, 2, 3, 1), w.transpose(0, 2, 3, 1)
    sums = np.dtype(np.int32 if x.dtype == np.int8 else np.float32)
    top, bottom, left, right = evaluate(conv_pads(node.attrs), binding)
    (step_h, step_w), (far_h, far_w) = (conv_numbers(node.attrs, name, 2, 1) for name in ("strides", "dilations"))
    (groups,) = conv_numbers(node.attrs, "groups", 1, 1)
    shape = evaluate(node.type.shape, binding)
    count, high, wide, filters = (shape[0], *shape[2:], shape[1]) if planes else shape
    padded = np.pad(x.astype(sums), ((0, 0), (top, bottom), (left, right), (0, 0)))
    result = np.zeros((count, high, wide, groups, filters // groups), dtype=sums)
    kernels = w.astype(sums).reshape(groups, filters // groups, *w.shape[1:])
    if result.size:
        for row in range(w.shape[1]):
            for col in range(w.shape[2]):
                rows = slice(row * far_h, row * far_h + (high - 1) * step_h + 1, step_h)
                cols = slice(col * far_w, col * far_w + (wide - 1) * step_w + 1, step_w)
                part = padded[:, rows, cols].reshape(count, high, wide, groups, w.shape[3])
                result += np.einsum("nhwgc,goc->nhwgo", part, kernels[:, :, row, col])
    images = result.reshape(count, high, wide, filters)
    if len(inputs) == 3:
        images = images + inputs[2].astype(sums)
    if planes:
        images = images.transpose(0, 3, 1, 2)
    return np.asarray(images.astype(node.type.info.numpy))
