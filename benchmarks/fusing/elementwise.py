"""Subgraphs of element-wise operators."""

from __future__ import annotations

from benchmarks.fusing.case import Case, gelu, silu

from npuvm.compiler import KernelBuilder, ParamRef, kernel

__all__ = ["CASES"]


@kernel(x="fp16[M, N]", y="fp16[M, N]", z="fp16[N]")
def add_mul_gelu(k: KernelBuilder, x: ParamRef, y: ParamRef, z: ParamRef) -> None:
    k.store(gelu(k, (k.load(x) + k.load(y)) * k.load(z)))


@kernel(x="fp16[M, N]")
def gelu_tanh(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    inner = (value + value * value * value * 0.044715) * 0.7978845608
    k.store(value * 0.5 * (k.tanh(inner) + 1.0))


@kernel(dy="fp16[M, N]", x="fp16[M, N]")
def gelu_grad(k: KernelBuilder, dy: ParamRef, x: ParamRef) -> None:
    value = k.load(x)
    square = value * value
    t = k.tanh((square * value * 0.044715 + value) * 0.7978845608)
    slope = (square * 0.134145 + 1.0) * 0.7978845608
    k.store(k.load(dy) * ((t + 1.0) * 0.5 + value * 0.5 * (t * t * -1.0 + 1.0) * slope))


@kernel(gate="fp16[M, N]", up="fp16[M, N]")
def swiglu(k: KernelBuilder, gate: ParamRef, up: ParamRef) -> None:
    k.store(silu(k, k.load(gate)) * k.load(up))


@kernel(dy="fp16[M, N]", gate="fp16[M, N]", up="fp16[M, N]")
def swiglu_grad(k: KernelBuilder, dy: ParamRef, gate: ParamRef, up: ParamRef) -> None:
    d, g, u = k.load(dy), k.load(gate), k.load(up)
    s = k.sigmoid(g)
    k.store(d * s * g, "dup")
    k.store(d * u * (s + s * g * (s * -1.0 + 1.0)), "dgate")


@kernel(p="fp32[N]", g="fp32[N]", m="fp32[N]", v="fp32[N]")
def adamw(k: KernelBuilder, p: ParamRef, g: ParamRef, m: ParamRef, v: ParamRef) -> None:
    weight, grad = k.load(p), k.load(g)
    first = k.load(m) * 0.9 + grad * 0.1
    second = k.load(v) * 0.999 + grad * grad * 0.001
    step = first / (k.sqrt(second) + 1e-8)
    k.store(weight - (step + weight * 0.01) * 1e-3, "p1")
    k.store(first, "m1")
    k.store(second, "v1")


@kernel(g="fp32[N]", m="fp32[N]", v="fp32[N]")
def adam_moments(k: KernelBuilder, g: ParamRef, m: ParamRef, v: ParamRef) -> None:
    grad = k.load(g)
    k.store(k.load(m) * 0.9 + grad * 0.1, "m1")
    k.store(k.load(v) * 0.999 + grad * grad * 0.001, "v1")


@kernel(x="fp16[M, N]")
def diamond(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    risen = k.exp(value)
    k.store(risen * k.sigmoid(value) + k.relu(risen))


@kernel(x="fp16[M, N]", y="fp16[M, N]")
def three_outputs(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    a, b = k.load(x), k.load(y)
    total = a + b
    k.store(k.relu(total), "risen")
    k.store(total * a, "product")
    k.store(k.exp(b), "power")


@kernel(x="fp16[M, N]", mask="fp16[M, N]", residual="fp16[M, N]")
def dropout_residual(k: KernelBuilder, x: ParamRef, mask: ParamRef, residual: ParamRef) -> None:
    k.store(k.load(x) * k.load(mask) * 1.25 + k.load(residual))


@kernel(x="fp16[M, N]", slope="fp16[N]")
def prelu(k: KernelBuilder, x: ParamRef, slope: ParamRef) -> None:
    value = k.load(x)
    k.store(k.select(value > 0.0, value, value * k.load(slope)) + 1.0)


@kernel(x="fp16[M, N]", row="fp16[1, N]", col="fp16[M, 1]")
def outer_scale(k: KernelBuilder, x: ParamRef, row: ParamRef, col: ParamRef) -> None:
    k.store(k.load(x) * (k.exp(k.load(row)) + k.sigmoid(k.load(col))))


_SMALL, _MEDIUM = {"M": 128, "N": 768}, {"M": 2048, "N": 1024}
_FLAT = ({"N": 98304}, {"N": 2097152})

CASES = [
    *(
        Case(made.name, made, (_SMALL, _MEDIUM))
        for made in (
            add_mul_gelu, gelu_tanh, gelu_grad, swiglu, swiglu_grad, diamond, three_outputs, dropout_residual, prelu,
            outer_scale,
        )
    ),
    Case("adamw", adamw, _FLAT),
    Case("adam_moments", adam_moments, _FLAT),
]  # fmt: skip
