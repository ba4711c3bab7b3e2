"""The operators of the sentence encoder as kernels.

Tensors in global memory are fp16; products are summed in fp32, and softmax, layer normalisation, gelu and pooling work in
fp32 inside and round once. Attention heads are views of the projections' columns: no kernel only moves data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Value, kernel
from npuvm.runtime.models.minilm_assets import MiniLmConfig

__all__ = ["MiniLmKernels", "make_kernels"]


@dataclass(frozen=True)
class MiniLmKernels:
    """One kernel for each kind of operator; S is the number of tokens, the only size that changes from sentence to sentence."""

    embed: Kernel
    project: Kernel
    scores: Kernel
    softmax: Kernel
    context: Kernel
    add_norm: Kernel
    gelu: Kernel
    pool: Kernel


def make_kernels(config: MiniLmConfig) -> MiniLmKernels:
    """Trace the kernels for the sizes of a model."""
    return MiniLmKernels(
        embed=_embed(config),
        project=_project(),
        scores=_scores(config),
        softmax=_softmax(config),
        context=_context(config),
        add_norm=_add_norm(config),
        gelu=_gelu(),
        pool=_pool(config),
    )


def _wide(k: KernelBuilder, source: ParamRef) -> Value:
    return k.cast(k.load(source), "fp32")


def _layer_norm(k: KernelBuilder, x: Value, weight: ParamRef, bias: ParamRef, epsilon: float) -> Value:
    """Layer normalisation of fp32 rows, rounded to fp16."""
    centred = x - k.mean(x, axes=-1, keepdims=True)
    variance = k.mean(centred * centred, axes=-1, keepdims=True)
    normal = centred * k.rsqrt(variance + epsilon)
    return k.cast(normal * _wide(k, weight) + _wide(k, bias), "fp16")


def _embed(config: MiniLmConfig) -> Kernel:
    width = config.hidden

    @kernel(
        words=f"fp16[V, {width}]",
        ids="int32[S]",
        positions=f"fp16[P, {width}]",
        segment=f"fp16[{width}]",
        weight=f"fp16[{width}]",
        bias=f"fp16[{width}]",
    )
    def minilm_embed(
        k: KernelBuilder,
        words: ParamRef,
        ids: ParamRef,
        positions: ParamRef,
        segment: ParamRef,
        weight: ParamRef,
        bias: ParamRef,
    ) -> None:
        rows = k.cast(k.embedding(k.load(words), k.load(ids)), "fp32")
        first = k.as_strided(k.load(positions), f"S, {width}", (width, 1))
        total = rows + k.cast(first, "fp32") + _wide(k, segment)
        k.store(_layer_norm(k, total, weight, bias, config.epsilon))

    return minilm_embed


def _project() -> Kernel:
    @kernel(x="fp16[S, K]", weight="fp16[N, K]", bias="fp16[N]")
    def minilm_project(k: KernelBuilder, x: ParamRef, weight: ParamRef, bias: ParamRef) -> None:
        k.store(k.matmul(k.load(x), k.load(weight), transpose_b=True, bias=k.load(bias)))

    return minilm_project


def _heads(k: KernelBuilder, x: ParamRef, config: MiniLmConfig) -> Value:
    """Rows of tokens [S, hidden] as [heads, S, head width], a view."""
    return k.permute(k.reshape(k.load(x), f"S, {config.heads}, {config.head_width}"), (1, 0, 2))


def _scores(config: MiniLmConfig) -> Kernel:
    @kernel(query=f"fp16[S, {config.hidden}]", key=f"fp16[S, {config.hidden}]")
    def minilm_scores(k: KernelBuilder, query: ParamRef, key: ParamRef) -> None:
        k.store(k.matmul(_heads(k, query, config), _heads(k, key, config), transpose_b=True))

    return minilm_scores


def _softmax(config: MiniLmConfig) -> Kernel:
    scale = 1.0 / math.sqrt(config.head_width)

    @kernel(x=f"fp16[{config.heads}, S, S]")
    def minilm_softmax(k: KernelBuilder, x: ParamRef) -> None:
        scaled = _wide(k, x) * scale
        powers = k.exp(scaled - k.max(scaled, axes=-1, keepdims=True))
        k.store(k.cast(powers * k.reciprocal(k.sum(powers, axes=-1, keepdims=True)), "fp16"))

    return minilm_softmax


def _context(config: MiniLmConfig) -> Kernel:
    @kernel(weights=f"fp16[{config.heads}, S, S]", value=f"fp16[S, {config.hidden}]")
    def minilm_context(k: KernelBuilder, weights: ParamRef, value: ParamRef) -> None:
        by_head = k.matmul(k.load(weights), _heads(k, value, config))
        k.store(k.reshape(k.permute(by_head, (1, 0, 2)), f"S, {config.hidden}"))

    return minilm_context


def _add_norm(config: MiniLmConfig) -> Kernel:
    width = config.hidden

    @kernel(x=f"fp16[S, {width}]", residual=f"fp16[S, {width}]", weight=f"fp16[{width}]", bias=f"fp16[{width}]")
    def minilm_add_norm(k: KernelBuilder, x: ParamRef, residual: ParamRef, weight: ParamRef, bias: ParamRef) -> None:
        k.store(_layer_norm(k, _wide(k, x) + _wide(k, residual), weight, bias, config.epsilon))

    return minilm_add_norm


def _gelu() -> Kernel:
    @kernel(x="fp16[S, N]")
    def minilm_gelu(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.cast(k.gelu(_wide(k, x)), "fp16"))

    return minilm_gelu


def _pool(config: MiniLmConfig) -> Kernel:
    @kernel(x=f"fp16[S, {config.hidden}]")
    def minilm_pool(k: KernelBuilder, x: ParamRef) -> None:
        mean = k.mean(_wide(k, x), axes=0, keepdims=True)
        k.store(mean * k.rsqrt(k.sum(mean * mean, axes=-1, keepdims=True)))

    return minilm_pool
