"""What is measured: a kernel, and sizes that it runs at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from npuvm.compiler import Kernel, KernelBuilder, Value

__all__ = ["Case", "gelu", "layer_norm", "operator", "shapes_of", "silu", "softmax"]


class Case(NamedTuple):
    """A kernel and values of its symbols, small ones first. Operators that have names are one each, the others one a node."""

    name: str
    kernel: Kernel
    sizes: Sequence[Mapping[str, int]]


def shapes_of(kernel: Kernel, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters for values of the symbols."""
    return {
        each.name: tuple(sizes[dim] if isinstance(dim, str) else dim for dim in each.type.shape)
        for each in kernel.graph.params
    }


@contextmanager
def operator(k: KernelBuilder, name: str) -> Iterator[None]:
    """What is added inside is one operator, with a name of its own."""
    with k.source(f"{name}_{len(k.graph.nodes)}"):
        yield


def softmax(k: KernelBuilder, x: Value) -> Value:
    """One operator: softmax over the last axis, in fp32."""
    with operator(k, "Softmax"):
        wide = k.cast(x, "fp32")
        e = k.exp(wide - k.max(wide, -1, keepdims=True))
        return k.cast(e / k.sum(e, -1, keepdims=True), x.dtype)


def layer_norm(k: KernelBuilder, x: Value, gain: Value, bias: Value) -> Value:
    """One operator: a layer norm over the last axis, in fp32."""
    with operator(k, "LayerNorm"):
        wide = k.cast(x, "fp32")
        centred = wide - k.mean(wide, -1, keepdims=True)
        scale = k.rsqrt(k.mean(centred * centred, -1, keepdims=True) + 1e-5)
        return k.cast(centred * scale * k.cast(gain, "fp32") + k.cast(bias, "fp32"), x.dtype)


def gelu(k: KernelBuilder, x: Value) -> Value:
    """One operator."""
    return k.gelu(x, approximate="tanh")


def silu(k: KernelBuilder, x: Value) -> Value:
    """One operator."""
    return k.silu(x)
