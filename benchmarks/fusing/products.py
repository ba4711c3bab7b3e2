"""Subgraphs around products: layers, attention."""

from __future__ import annotations

from benchmarks.fusing.case import Case, gelu, layer_norm, silu, softmax

from npuvm.compiler import KernelBuilder, ParamRef, kernel

__all__ = ["CASES"]


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]")
def linear_relu(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(x), k.load(w)) + k.load(b)))


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", r="fp16[M, N]")
def linear_gelu_residual(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, r: ParamRef) -> None:
    k.store(gelu(k, k.matmul(k.load(x), k.load(w)) + k.load(b)) + k.load(r))


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", v="fp16[N, K]", c="fp16[K]")
def mlp(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, v: ParamRef, c: ParamRef) -> None:
    hidden = gelu(k, k.matmul(k.load(x), k.load(w)) + k.load(b))
    k.store(k.matmul(hidden, k.load(v)) + k.load(c))


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", v="fp16[N, K]", c="fp16[K]", g="fp16[K]", e="fp16[K]")
def mlp_block(
    k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, v: ParamRef, c: ParamRef, g: ParamRef, e: ParamRef
) -> None:
    value = k.load(x)
    hidden = gelu(k, k.matmul(value, k.load(w)) + k.load(b))
    k.store(layer_norm(k, k.matmul(hidden, k.load(v)) + k.load(c) + value, k.load(g), k.load(e)))


@kernel(x="fp16[M, K]", wg="fp16[K, N]", wu="fp16[K, N]", wd="fp16[N, K]")
def swiglu_mlp(k: KernelBuilder, x: ParamRef, wg: ParamRef, wu: ParamRef, wd: ParamRef) -> None:
    value = k.load(x)
    gate = silu(k, k.matmul(value, k.load(wg)))
    k.store(k.matmul(gate * k.matmul(value, k.load(wu)), k.load(wd)))


@kernel(x="fp16[M, K]", wq="fp16[K, N]", wk="fp16[K, N]", wv="fp16[K, N]", bq="fp16[N]", bk="fp16[N]", bv="fp16[N]")
def qkv(
    k: KernelBuilder, x: ParamRef, wq: ParamRef, wk: ParamRef, wv: ParamRef, bq: ParamRef, bk: ParamRef, bv: ParamRef
) -> None:
    value = k.load(x)
    for name, w, b in (("q", wq, bq), ("key", wk, bk), ("value", wv, bv)):
        k.store(k.matmul(value, k.load(w)) + k.load(b), name)


@kernel(q="fp16[H, S, D]", p="fp16[H, T, D]", mask="fp16[S, T]")
def scores(k: KernelBuilder, q: ParamRef, p: ParamRef, mask: ParamRef) -> None:
    k.store(softmax(k, k.matmul(k.load(q), k.load(p), transpose_b=True) * 0.125 + k.load(mask)))


@kernel(s="fp16[H, S, T]", v="fp16[H, T, D]")
def softmax_values(k: KernelBuilder, s: ParamRef, v: ParamRef) -> None:
    k.store(k.matmul(softmax(k, k.load(s)), k.load(v)))


@kernel(q="fp16[H, S, D]", p="fp16[H, T, D]", v="fp16[H, T, D]")
def attention(k: KernelBuilder, q: ParamRef, p: ParamRef, v: ParamRef) -> None:
    k.store(k.matmul(softmax(k, k.matmul(k.load(q), k.load(p), transpose_b=True) * 0.125), k.load(v)))


@kernel(q="fp16[H, S, D]", p="fp16[H, T, D]", v="fp16[H, T, D]", mask="fp16[S, T]")
def masked_attention(k: KernelBuilder, q: ParamRef, p: ParamRef, v: ParamRef, mask: ParamRef) -> None:
    found = k.matmul(k.load(q), k.load(p), transpose_b=True) * 0.125 + k.load(mask)
    k.store(k.matmul(softmax(k, found), k.load(v)))


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", r="fp16[M, N]", g="fp16[N]", e="fp16[N]")
def project_norm(
    k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, r: ParamRef, g: ParamRef, e: ParamRef
) -> None:
    total = k.matmul(k.load(x), k.load(w)) + k.load(b) + k.load(r)
    k.store(layer_norm(k, total, k.load(g), k.load(e)))


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", g="fp16[K]", e="fp16[K]")
def norm_project(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, g: ParamRef, e: ParamRef) -> None:
    k.store(k.matmul(layer_norm(k, k.load(x), k.load(g), k.load(e)), k.load(w)) + k.load(b))


@kernel(x="fp16[M, K]", w="fp16[K, N]")
def linear_softmax(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    k.store(softmax(k, k.matmul(k.load(x), k.load(w))))


@kernel(a="fp16[M, K]", b="fp16[K, N]", c="fp16[M, K]", d="fp16[K, N]")
def two_products(k: KernelBuilder, a: ParamRef, b: ParamRef, c: ParamRef, d: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(a), k.load(b)) + k.matmul(k.load(c), k.load(d))))


@kernel(x="fp16[M, K]", w="fp16[K, N]")
def product_diamond(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    y = k.matmul(k.load(x), k.load(w))
    k.store(y * k.sigmoid(y), "y")
    k.store(k.max(y, -1), "top")


_LAYER = ({"M": 64, "K": 256, "N": 512}, {"M": 1024, "K": 768, "N": 3072})
_SQUARE = ({"M": 64, "K": 256, "N": 256}, {"M": 1024, "K": 768, "N": 768})
_HEADS = ({"H": 12, "S": 64, "T": 64, "D": 64}, {"H": 16, "S": 512, "T": 512, "D": 64})

CASES = [
    *(Case(made.name, made, _LAYER) for made in (linear_relu, linear_gelu_residual, mlp, mlp_block, swiglu_mlp)),
    *(
        Case(made.name, made, _SQUARE)
        for made in (qkv, project_norm, norm_project, linear_softmax, two_products, product_diamond)
    ),
    *(Case(made.name, made, _HEADS) for made in (scores, softmax_values, attention, masked_attention)),
]
