"""Reductions, normalisations and element-wise kernels with shapes of models, primes, and few or many rows."""

from __future__ import annotations

import random
from math import prod
from typing import NamedTuple

from benchmarks.efficiency.kernels import layernorm, softmax

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Value, kernel

__all__ = ["RowCase", "row_cases"]


class RowCase(NamedTuple):
    """A kernel and the values of its symbols."""

    kernel: Kernel
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The kernel with its sizes."""
        return f"{self.kernel.graph.name} {' x '.join(map(str, self.sizes))}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters."""
        values = dict(zip(self.kernel.graph.symbols(), self.sizes, strict=True))
        return {
            each.name: tuple(values[dim] if isinstance(dim, str) else dim for dim in each.type.shape)
            for each in self.kernel.graph.params
        }


def _wide(k: KernelBuilder, source: ParamRef) -> Value:
    return k.cast(k.load(source), "fp32")


@kernel(x="fp32[M, N]")
def sum_rows(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), 1))


@kernel(x="fp16[M, N]")
def max_rows(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.max(k.load(x), 1))


@kernel(x="fp32[M, N]")
def sum_columns(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), 0))


@kernel(x="fp16[M, N]")
def mean_columns(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.mean(_wide(k, x), 0))


@kernel(x="fp32[B, M, N]")
def sum_middle(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), 1))


@kernel(x="fp16[M, N]", weight="fp16[N]")
def rmsnorm(k: KernelBuilder, x: ParamRef, weight: ParamRef) -> None:
    wide = _wide(k, x)
    scale = k.rsqrt(k.mean(wide * wide, axes=-1, keepdims=True) + 1e-6)
    k.store(k.cast(wide * scale * _wide(k, weight), "fp16"))


@kernel(x="fp16[M, N]", row="fp16[N]")
def bias_gelu(k: KernelBuilder, x: ParamRef, row: ParamRef) -> None:
    k.store(k.cast(k.gelu(_wide(k, x) + _wide(k, row), "tanh"), "fp16"))


@kernel(x="fp16[M, N]", y="fp16[M, N]")
def add(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) + k.load(y))


_WIDTHS = (64, 77, 128, 256, 384, 509, 512, 768, 1000, 1021, 1024, 2048, 3072, 4096, 5120, 8191, 11008, 32000, 65536)
"""Hidden sizes of models, numbers of classes and of words, and primes."""

_ROWS = (1, 2, 3, 8, 17, 31, 64, 97, 128, 197, 257, 512, 1021, 1024, 2048, 4093, 8192)
"""Tokens, images with their patches, and primes."""

_BATCHES = (2, 3, 8, 31, 64)

_MOST = 1 << 23
"""Elements of an input at most, so that a search by simulation ends."""

_TWO_DIMS = (
    sum_rows, max_rows, sum_columns, mean_columns, softmax, softmax, layernorm, layernorm, rmsnorm, bias_gelu, add
)  # fmt: skip
"""The kernels of two dims; what models have most of stands here twice."""


def row_cases(count: int, seed: int = 0) -> list[RowCase]:
    """`count` different cases, drawn with the seed: the kernels one after the other."""
    source, found = random.Random(seed), dict[str, RowCase]()
    while len(found) < count:
        at = len(found) % (len(_TWO_DIMS) + 1)
        sizes: tuple[int, ...] = source.choice(_ROWS), source.choice(_WIDTHS)
        if at == len(_TWO_DIMS):
            case = RowCase(sum_middle, (source.choice(_BATCHES), *sizes))
        else:
            case = RowCase(_TWO_DIMS[at], sizes)
        if prod(case.sizes) <= _MOST:
            found.setdefault(case.name, case)
    return list(found.values())
