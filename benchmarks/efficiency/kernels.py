"""The kernels, and twenty shapes for each sort of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Value, kernel

__all__ = [
    "ATTENTION",
    "LARGE_PRODUCTS",
    "LAUNCH_BOUND",
    "ROWS",
    "SMALL_PRODUCTS",
    "VECTOR",
    "Case",
    "attention",
    "layernorm",
    "one_element",
    "softmax",
]

Shapes = Mapping[str, tuple[int, ...]]


class Case(NamedTuple):
    """A kernel and the shapes of its parameters."""

    kernel: Kernel
    shapes: Shapes

    @property
    def sizes(self) -> str:
        """The values of the kernel's symbols, for a table."""
        return " ".join(f"{name} {size}" for name, size in self.kernel.bind(self.shapes).items())


@kernel(x="fp16[M, N]", y="fp16[M, N]")
def add(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    """A sum of two tensors: as little work as there can be."""
    k.store(k.load(x) + k.load(y))


@kernel(x="fp32[M, N]")
def affine_relu(k: KernelBuilder, x: ParamRef) -> None:
    """A short chain on one tensor."""
    k.store(k.relu(k.load(x) * 1.5 + 0.25))


@kernel(x="fp16[M, N]", y="fp16[M, N]", z="fp16[M, N]")
def blend(k: KernelBuilder, x: ParamRef, y: ParamRef, z: ParamRef) -> None:
    """A choice between two of three tensors."""
    k.store(k.select(k.load(x) > k.load(y), k.load(x) * 0.5, k.load(z)))


@kernel(x="fp16[M, N]", row="fp16[N]")
def bias_gelu(k: KernelBuilder, x: ParamRef, row: ParamRef) -> None:
    """A broadcast row and a chain of about twenty instructions in fp32."""
    wide = k.cast(k.load(x), "fp32") + k.cast(k.load(row), "fp32")
    k.store(k.cast(k.gelu(wide, "tanh"), "fp16"))


@kernel(gate="fp16[M, N]", up="fp16[M, N]")
def gated(k: KernelBuilder, gate: ParamRef, up: ParamRef) -> None:
    """SiLU of the gate times the other half."""
    k.store(k.cast(k.silu(k.cast(k.load(gate), "fp32")) * k.cast(k.load(up), "fp32"), "fp16"))


@kernel(x="fp32[M, N]", column="fp32[M, 1]")
def scale_rows(k: KernelBuilder, x: ParamRef, column: ParamRef) -> None:
    """Every row times its own number."""
    k.store(k.load(x) * k.load(column))


def _wide(k: KernelBuilder, source: ParamRef) -> Value:
    return k.cast(k.load(source), "fp32")


@kernel(x="fp16[M, N]")
def softmax(k: KernelBuilder, x: ParamRef) -> None:
    """Softmax of every row."""
    wide = _wide(k, x)
    powers = k.exp(wide - k.max(wide, axes=-1, keepdims=True))
    k.store(k.cast(powers * k.reciprocal(k.sum(powers, axes=-1, keepdims=True)), "fp16"))


@kernel(x="fp16[M, N]", weight="fp16[N]", bias="fp16[N]")
def layernorm(k: KernelBuilder, x: ParamRef, weight: ParamRef, bias: ParamRef) -> None:
    """Layer norm of every row."""
    wide = _wide(k, x)
    centred = wide - k.mean(wide, axes=-1, keepdims=True)
    normal = centred * k.rsqrt(k.mean(centred * centred, axes=-1, keepdims=True) + 1e-5)
    k.store(k.cast(normal * _wide(k, weight) + _wide(k, bias), "fp16"))


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def matmul(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    """A product of two matrices."""
    k.store(k.matmul(k.load(a), k.load(b)))


@kernel(q="fp16[B, T, D]", keys="fp16[B, S, D]", values="fp16[B, S, D]")
def attention(k: KernelBuilder, q: ParamRef, keys: ParamRef, values: ParamRef) -> None:
    """Softmax of scaled scores, times the values."""
    scores = k.matmul(k.load(q), k.load(keys), transpose_b=True, dtype="fp32") * 0.125
    powers = k.exp(scores - k.max(scores, axes=-1, keepdims=True))
    weights = k.cast(powers / k.sum(powers, axes=-1, keepdims=True), "fp16")
    k.store(k.matmul(weights, k.load(values)))


_GRIDS = (
    (4096, 4096), (8192, 2048), (2048, 8192), (16384, 1024), (1024, 16384), (32768, 512), (65536, 256), (3000, 5000),
    (9973, 1500), (1500, 9973), (4095, 4095), (4097, 4097), (12288, 1536), (1, 16777216), (20000, 1000), (6000, 3000),
    (131072, 128), (8191, 3001), (5120, 5120), (8192, 8192),
)  # fmt: skip
_ROW_GRIDS = (
    (8192, 4096), (16384, 2048), (4096, 8192), (32768, 1024), (65536, 512), (131072, 256), (8000, 5000), (19937, 1500),
    (8191, 4095), (8193, 4097), (24576, 1536), (30000, 1000), (12000, 3000), (262144, 128), (10007, 3001), (6144, 5120),
    (16384, 4096), (98304, 384), (49152, 768), (6144, 6144),
)  # fmt: skip
_LARGE = (
    (4096, 4096, 4096), (4096, 4096, 8192), (4096, 8192, 4096), (8192, 4096, 4096), (5120, 5120, 5120),
    (4096, 11008, 4096), (4096, 4096, 11008), (6144, 6144, 4096), (4608, 4608, 4608), (8192, 8192, 4096),
    (16384, 4096, 4096), (4096, 16384, 4096), (4096, 4096, 16384), (5000, 5000, 5000), (4097, 4097, 4097),
    (4111, 5003, 4099), (6000, 4500, 5500), (4096, 12288, 4096), (7168, 4096, 4096), (8192, 8192, 8192),
)  # fmt: skip
_SMALL = (
    (128, 128, 128), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (384, 384, 384),
    (128, 768, 768), (128, 3072, 768), (128, 768, 3072), (1, 4096, 4096), (8, 4096, 4096), (64, 4096, 4096),
    (1024, 64, 1024), (64, 1024, 1024), (1000, 1000, 1000), (257, 513, 127), (2048, 128, 512), (512, 2048, 256),
    (100, 300, 700), (1536, 1536, 512),
)  # fmt: skip
_HEADS = (
    (12, 128, 128, 32), (12, 128, 128, 64), (12, 384, 384, 64), (16, 256, 256, 64), (32, 128, 128, 128),
    (32, 1, 1024, 128), (32, 1, 2048, 128), (8, 512, 512, 64), (16, 512, 512, 64), (32, 256, 256, 128),
    (1, 1024, 1024, 64), (2, 1024, 1024, 128), (4, 777, 777, 64), (12, 197, 197, 64), (16, 300, 500, 80),
    (8, 64, 4096, 128), (64, 64, 64, 64), (96, 100, 100, 32), (24, 320, 320, 48), (12, 50, 50, 64),
)  # fmt: skip
_TINY = (
    (1, 64), (1, 1000), (16, 16), (32, 128), (64, 64), (100, 100), (128, 128), (128, 384), (256, 64), (256, 256),
    (8, 4096), (1, 32768), (197, 768), (384, 128), (512, 512), (50, 768), (128, 768), (256, 1024), (512, 128), (17, 31),
)  # fmt: skip


def _grid_case(made: Kernel, rows: int, cols: int) -> Case:
    sizes = {"M": rows, "N": cols}
    shapes = {each.name: tuple(sizes.get(str(dim), 1) for dim in each.type.shape) for each in made.graph.params}
    return Case(made, shapes)


def _product_case(m: int, n: int, k: int) -> Case:
    return Case(matmul, {"a": (m, k), "b": (k, n)})


def one_element(made: Kernel) -> Case:
    """The same kernel with every size 1: what it takes to get one element through."""
    return Case(made, {each.name: (1,) * each.type.rank for each in made.graph.params})


VECTOR = tuple(
    _grid_case(made, *grid) for made in (add, affine_relu, blend, bias_gelu, gated, scale_rows) for grid in _GRIDS
)
ROWS = tuple(_grid_case(made, *grid) for made in (softmax, layernorm) for grid in _ROW_GRIDS)
LARGE_PRODUCTS = tuple(_product_case(*sizes) for sizes in _LARGE)
SMALL_PRODUCTS = tuple(_product_case(*sizes) for sizes in _SMALL)
ATTENTION = tuple(
    Case(attention, {"q": (heads, rows, width), "keys": (heads, cols, width), "values": (heads, cols, width)})
    for heads, rows, cols, width in _HEADS
)
LAUNCH_BOUND = tuple(_grid_case(made, *grid) for made in (add, softmax) for grid in _TINY)
