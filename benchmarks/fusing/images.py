"""Subgraphs around convolutions."""

from __future__ import annotations

from benchmarks.fusing.case import Case, operator

from npuvm.compiler import KernelBuilder, ParamRef, kernel

__all__ = ["CASES"]


@kernel(x="fp16[N, C, S, S]", scale="fp16[C, 1, 1]", shift="fp16[C, 1, 1]", w="fp16[F, C, 3, 3]", b="fp16[F]")
def preactivation(k: KernelBuilder, x: ParamRef, scale: ParamRef, shift: ParamRef, w: ParamRef, b: ParamRef) -> None:
    value = k.load(x)
    with operator(k, "BatchNorm"):
        value = value * k.load(scale) + k.load(shift)
    k.store(k.conv2d(k.relu(value), k.load(w), k.load(b), padding=1))


@kernel(
    x="fp16[N, C, S, S]", scale="fp16[C, 1, 1]", shift="fp16[C, 1, 1]", w="fp16[F, C, 3, 3]", more="fp16[F, 1, 1]",
    less="fp16[F, 1, 1]", v="fp16[C, F, 3, 3]",
)  # fmt: skip
def preactivation_block(
    k: KernelBuilder, x: ParamRef, scale: ParamRef, shift: ParamRef, w: ParamRef, more: ParamRef, less: ParamRef,
    v: ParamRef,
) -> None:  # fmt: skip
    value = k.load(x)
    with operator(k, "BatchNorm"):
        normal = value * k.load(scale) + k.load(shift)
    inner = k.conv2d(k.relu(normal), k.load(w), padding=1)
    with operator(k, "BatchNorm"):
        inner = inner * k.load(more) + k.load(less)
    k.store(k.conv2d(k.relu(inner), k.load(v), padding=1) + value)


_IMAGES = ({"N": 1, "C": 64, "F": 64, "S": 28}, {"N": 8, "C": 64, "F": 64, "S": 56})

CASES = [Case(made.name, made, _IMAGES) for made in (preactivation, preactivation_block)]
