"""Subgraphs with views between their operators."""

from __future__ import annotations

from benchmarks.fusing.case import Case, layer_norm, silu, softmax

from npuvm.compiler import KernelBuilder, ParamRef, kernel

__all__ = ["CASES"]


@kernel(x="fp16[S, H, 64]", cos="fp16[S, 1, 64]", sin="fp16[S, 1, 64]")
def rotary(k: KernelBuilder, x: ParamRef, cos: ParamRef, sin: ParamRef) -> None:
    value = k.load(x)
    turned = k.concat([-value[:, :, 32:], value[:, :, :32]], 2)
    k.store(value * k.load(cos) + turned * k.load(sin))


@kernel(x="fp16[M, 2048]")
def split_swiglu(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    k.store(silu(k, value[:, :1024]) * value[:, 1024:])


@kernel(x="fp16[N, M]", y="fp16[M, N]")
def transposed_add(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.relu(k.exp(k.transpose(k.load(x))) + k.load(y)))


@kernel(x="fp16[M, 768]", y="fp16[M, 768]")
def concat_relu(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.relu(k.concat([k.exp(k.load(x)), k.load(y) * 2.0], 1)))


@kernel(x="fp16[S, 768]", w="fp16[768, 768]", b="fp16[768]", p="fp16[12, S, 64]")
def split_heads(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, p: ParamRef) -> None:
    y = k.permute(k.reshape(k.matmul(k.load(x), k.load(w)) + k.load(b), "S, 12, 64"), (1, 0, 2))
    k.store(softmax(k, k.matmul(y, k.load(p), transpose_b=True)))


@kernel(table="fp16[V, N]", ids="int32[S]", place="fp16[S, N]", g="fp16[N]", e="fp16[N]")
def embedding(k: KernelBuilder, table: ParamRef, ids: ParamRef, place: ParamRef, g: ParamRef, e: ParamRef) -> None:
    rows = k.gather(k.load(table), k.load(ids))
    k.store(layer_norm(k, rows + k.load(place), k.load(g), k.load(e)))


@kernel(x="fp16[M, N]")
def transposed_softmax(k: KernelBuilder, x: ParamRef) -> None:
    k.store(softmax(k, k.transpose(k.relu(k.load(x)))) * 2.0)


_MN = ({"M": 128, "N": 768}, {"M": 2048, "N": 1024})

CASES = [
    Case("rotary", rotary, ({"S": 64, "H": 12}, {"S": 1024, "H": 16})),
    Case("split_swiglu", split_swiglu, ({"M": 64}, {"M": 1024})),
    *(Case(made.name, made, _MN) for made in (transposed_add, transposed_softmax)),
    Case("concat_relu", concat_relu, ({"M": 128}, {"M": 2048})),
    Case("split_heads", split_heads, ({"S": 64}, {"S": 512})),
    Case("embedding", embedding, ({"V": 8000, "S": 64, "N": 768}, {"V": 30000, "S": 1024, "N": 768})),
]
