"""Matrix products of published benchmarks and models, as m, n, k."""

from __future__ import annotations

import random

__all__ = ["products"]

Sizes = tuple[int, int, int]

_HIDDEN = (1760, 2048, 2560, 4096)
_GATES = ((7680, 2560), (6144, 2048), (4608, 1536), (8448, 2816), (3072, 1024))

_DEEPBENCH: tuple[Sizes, ...] = (
    *((size, n, size) for size in _HIDDEN for n in (16, 32, 64, 128, 7000)),
    *((m, n, size) for size in _HIDDEN for m, n in ((5124, 9124), (35, 8457))),
    *((m, n, k) for m, k in _GATES for n in (1, 2, 4, 16, 32, 1500, 3000, 6000)),
    *((m, n, k) for m in (512, 1024) for n in (1500, 3000, 6000) for k in (1536, 2048, 2560, 2816)),
    *((m, n, 512) for m in (512, 1024) for n in (1, 2, 4, 16, 32)),
    *((m, n, 500000) for m in (512, 1024) for n in (1, 2, 4, 8, 16)),
    *((m, n, k) for m in (35, 5124) for n in (700, 1500) for k in (2048, 2560)),
    *((1024, 700, 512), (64, 1, 1216), (128, 1500, 1280), (3072, 1500, 128), (128, 1, 1024), (3072, 1, 128)),
    *((176, 1500, 1408), (4224, 1500, 176), (128, 1, 1408), (4224, 1, 128)),
)
"""Products of Baidu's DeepBench that are not transposed, with its names of the sizes; the largest of training are left out.

Source: github.com/baidu-research/DeepBench, code/kernels/gemm_problems.h.
"""

_LAYERS: dict[str, tuple[tuple[int, int], ...]] = {
    "Llama-2-7B": ((12288, 4096), (4096, 4096), (22016, 4096), (4096, 11008)),
    "Llama-2-13B": ((15360, 5120), (5120, 5120), (5120, 13824)),
    "BERT base": ((2304, 768), (768, 768), (3072, 768), (768, 3072)),
    "BERT large": ((1024, 1024), (4096, 1024), (1024, 4096)),
    "MiniLM": ((384, 384), (1536, 384), (384, 1536)),
    "DLRM": ((512, 13), (256, 512), (128, 256), (1024, 479), (1024, 1024), (256, 512), (1, 256)),
}
"""n and k of the layers of models; m is the number of tokens, or of the batch."""

_TOKENS = (1, 2, 3, 7, 8, 16, 31, 32, 64, 97, 128, 200, 257, 384, 509, 512, 768, 1021, 1024, 2048, 4093, 4096, 8192)

_MOST = 1.2e10
"""Multiplications of a product at most, so that a search by simulation ends."""


def products(count: int, seed: int = 0) -> list[Sizes]:
    """`count` products, or all that there are, drawn with the seed: those of DeepBench, and layers over numbers of tokens."""
    layers = [(m, n, k) for pairs in _LAYERS.values() for n, k in pairs for m in _TOKENS]
    every = [sizes for sizes in dict.fromkeys([*_DEEPBENCH, *layers]) if sizes[0] * sizes[1] * sizes[2] <= _MOST]
    return every if count >= len(every) else random.Random(seed).sample(every, count)
