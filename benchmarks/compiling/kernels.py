"""Twenty kernels, each made anew on every call, and random shapes for their parameters."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from npuvm.compiler import Kernel, kernel

__all__ = ["KERNELS", "Subject", "draw"]

Shapes = dict[str, tuple[int, ...]]

MOST = 4096
"""Largest size of a dim; sizes are spread evenly over their logarithms, so 1 and 2 are as frequent as 2048 to 4096."""


class Subject(NamedTuple):
    """A kernel: its types, its body, the largest size of each of its symbols where that is not `MOST`."""

    name: str
    operators: int
    types: Mapping[str, str]
    body: Callable[..., None]
    most: Mapping[str, int] = {}

    def make(self) -> Kernel:
        """The kernel, traced anew: a graph that the compiler has not seen."""
        return kernel(**self.types)(self.body)


def draw(subject: Subject, source: random.Random) -> Shapes:
    """Random shapes for the parameters."""
    sizes: dict[str, int] = {}

    def size(dim: str) -> int:
        if dim.isdigit():
            return int(dim)
        if dim not in sizes:
            most = subject.most.get(dim, MOST)
            sizes[dim] = round(most ** source.random())
        return sizes[dim]

    dims = {name: text.split("[")[1].rstrip("]").split(",") for name, text in subject.types.items()}
    return {name: tuple(size(dim.strip()) for dim in each) for name, each in dims.items()}


def _chain(length: int) -> Callable[..., None]:
    """So many element-wise operations one after the other, of five sorts in turn."""

    def body(k: Any, x: Any, y: Any) -> None:
        value, other = k.load(x), k.load(y)
        steps = [
            lambda v: v + other,
            lambda v: v * other,
            lambda v: k.maximum(v, other),
            lambda v: v * 0.5,
            lambda v: k.relu(v),
        ]
        for at in range(length):
            value = steps[at % len(steps)](value)
        k.store(value)

    return body


def add_mul_gelu(k: Any, x: Any, y: Any, bias: Any) -> None:
    """gelu((x + bias) * y)."""
    k.store(k.gelu((k.load(x) + k.load(bias)) * k.load(y), approximate="tanh"))


def swiglu(k: Any, gate: Any, up: Any) -> None:
    """silu(gate) * up."""
    k.store(k.silu(k.load(gate)) * k.load(up))


def scale_rows(k: Any, x: Any, scale: Any) -> None:
    """Each row times its own number."""
    k.store(k.load(x) * k.load(scale))


def softmax(k: Any, x: Any) -> None:
    """Over the last axis."""
    value = k.load(x)
    risen = k.exp(value - k.max(value, axes=-1, keepdims=True))
    k.store(risen / k.sum(risen, axes=-1, keepdims=True))


def masked_softmax(k: Any, x: Any, mask: Any) -> None:
    """Scaled, masked by a row, over the last axis."""
    value = k.load(x) * 0.125 + k.load(mask)
    risen = k.exp(value - k.max(value, axes=-1, keepdims=True))
    k.store(risen / k.sum(risen, axes=-1, keepdims=True))


def layernorm(k: Any, x: Any, gamma: Any, beta: Any) -> None:
    """Over the last axis, with scale and shift."""
    value = k.load(x)
    centred = value - k.mean(value, axes=-1, keepdims=True)
    scale = k.rsqrt(k.mean(centred * centred, axes=-1, keepdims=True) + 1e-5)
    k.store(centred * scale * k.load(gamma) + k.load(beta))


def rms_norm(k: Any, x: Any, gamma: Any) -> None:
    """fp16 in and out, fp32 inside."""
    wide = k.cast(k.load(x), "fp32")
    scale = k.rsqrt(k.mean(wide * wide, axes=-1, keepdims=True) + 1e-5)
    k.store(k.cast(wide * scale, "fp16") * k.load(gamma))


def column_sum(k: Any, x: Any) -> None:
    """Sums over the first axis."""
    k.store(k.sum(k.load(x), axes=0))


def middle_mean(k: Any, x: Any) -> None:
    """Means over the middle axis."""
    k.store(k.mean(k.load(x), axes=1))


def transpose_add(k: Any, x: Any, y: Any) -> None:
    """x^T + y."""
    k.store(k.transpose(k.load(x)) + k.load(y))


def matmul(k: Any, a: Any, b: Any) -> None:
    """a @ b."""
    k.store(k.matmul(k.load(a), k.load(b)))


def matmul_bias(k: Any, a: Any, b: Any, bias: Any) -> None:
    """a @ b^T + bias."""
    k.store(k.matmul(k.load(a), k.load(b), transpose_b=True, bias=k.load(bias)))


def matmul_bias_gelu(k: Any, a: Any, b: Any, bias: Any) -> None:
    """gelu(a @ b + bias)."""
    k.store(k.gelu(k.matmul(k.load(a), k.load(b), bias=k.load(bias)), approximate="tanh"))


def gelu_mlp(k: Any, x: Any, up: Any, down: Any) -> None:
    """gelu(x @ up) @ down."""
    hidden = k.gelu(k.matmul(k.load(x), k.load(up)), approximate="tanh")
    k.store(k.matmul(hidden, k.load(down)))


def attention(k: Any, q: Any, keys: Any, values: Any) -> None:
    """softmax(q @ keys^T / 8) @ values, with the scores in fp32 between."""
    scores = k.matmul(k.load(q), k.load(keys), transpose_b=True, dtype="fp32") * 0.125
    risen = k.exp(scores - k.max(scores, axes=-1, keepdims=True))
    weights = k.cast(risen / k.sum(risen, axes=-1, keepdims=True), "fp16")
    k.store(k.matmul(weights, k.load(values)))


_TWO = {"x": "fp16[M, N]", "y": "fp16[M, N]"}
_HEADS = {"B": 16, "H": 32, "D": 256}

KERNELS = (
    *(Subject(f"chain_{length}", length, _TWO, _chain(length)) for length in (1, 2, 4, 8, 16, 30)),
    Subject("add_mul_gelu", 3, {**_TWO, "bias": "fp16[N]"}, add_mul_gelu),
    Subject("swiglu", 2, {"gate": "fp16[M, N]", "up": "fp16[M, N]"}, swiglu),
    Subject("scale_rows", 1, {"x": "fp32[B, M, N]", "scale": "fp32[B, M, 1]"}, scale_rows, {"B": 64}),
    Subject("softmax", 5, {"x": "fp32[M, N]"}, softmax),
    Subject("masked_softmax", 7, {"x": "fp32[B, M, N]", "mask": "fp32[N]"}, masked_softmax, {"B": 64}),
    Subject("layernorm", 9, {"x": "fp32[M, N]", "gamma": "fp32[N]", "beta": "fp32[N]"}, layernorm),
    Subject("rms_norm", 8, {"x": "fp16[M, N]", "gamma": "fp16[N]"}, rms_norm),
    Subject("column_sum", 1, {"x": "fp32[M, N]"}, column_sum),
    Subject("middle_mean", 1, {"x": "fp32[B, M, N]"}, middle_mean, {"B": 64}),
    Subject("transpose_add", 2, {"x": "fp16[M, N]", "y": "fp16[N, M]"}, transpose_add),
    Subject("matmul_bias", 1, {"a": "fp16[M, K]", "b": "fp16[N, K]", "bias": "fp16[N]"}, matmul_bias),
    Subject("matmul_bias_gelu", 2, {"a": "fp16[M, K]", "b": "fp16[K, N]", "bias": "fp16[N]"}, matmul_bias_gelu),
    Subject("gelu_mlp", 3, {"x": "fp16[M, K]", "up": "fp16[K, N]", "down": "fp16[N, K]"}, gelu_mlp),
    Subject(
        "attention",
        8,
        {"q": "fp16[B, H, S, D]", "keys": "fp16[B, H, T, D]", "values": "fp16[B, H, T, D]"},
        attention,
        _HEADS,
    ),
)
"""From one operator to thirty, reduces and normalisations, products with what follows them, attention."""
