"""All modules with rules of operators; importing them makes the rules known."""

from __future__ import annotations

from types import ModuleType

from npuvm.compiler.frontends.onnx import (
    activations,
    attention,
    casts,
    circular,
    control,
    convolution,
    elementwise,
    indexing,
    losses,
    matrix,
    movement,
    normalisation,
    ordering,
    pooling,
    quantization,
    recurrent,
    reductions,
    resampling,
    sampling,
    sizes,
    spectral,
    tensors,
    trigonometry,
)

__all__ = ["MODULES"]

MODULES: tuple[ModuleType, ...] = (
    activations,
    attention,
    casts,
    circular,
    control,
    convolution,
    elementwise,
    indexing,
    losses,
    matrix,
    movement,
    normalisation,
    ordering,
    pooling,
    quantization,
    recurrent,
    reductions,
    resampling,
    sampling,
    sizes,
    spectral,
    tensors,
    trigonometry,
)
