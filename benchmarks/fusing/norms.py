"""Subgraphs with reduces: softmax, normalisations, statistics."""

from __future__ import annotations

from benchmarks.fusing.case import Case, layer_norm

from npuvm.compiler import KernelBuilder, ParamRef, Value, kernel

__all__ = ["CASES"]


@kernel(x="fp32[M, N]")
def softmax_parts(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    e = k.exp(value - k.max(value, -1, keepdims=True))
    k.store(e / k.sum(e, -1, keepdims=True))


@kernel(x="fp16[H, M, N]", mask="fp16[M, N]")
def masked_softmax(k: KernelBuilder, x: ParamRef, mask: ParamRef) -> None:
    value = k.load(x) * 0.125 + k.load(mask)
    e = k.exp(value - k.max(value, -1, keepdims=True))
    k.store(e / k.sum(e, -1, keepdims=True))


@kernel(x="fp32[M, N]")
def log_softmax(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    moved = value - k.max(value, -1, keepdims=True)
    k.store(moved - k.log(k.sum(k.exp(moved), -1, keepdims=True)))


def _standard(k: KernelBuilder, value: Value, axis: int) -> Value:
    centred = value - k.mean(value, axis, keepdims=True)
    return centred * k.rsqrt(k.mean(centred * centred, axis, keepdims=True) + 1e-5)


@kernel(x="fp32[M, N]")
def standardise(k: KernelBuilder, x: ParamRef) -> None:
    k.store(_standard(k, k.load(x), -1))


@kernel(x="fp32[M, N]", gain="fp32[N]", bias="fp32[N]")
def layer_norm_parts(k: KernelBuilder, x: ParamRef, gain: ParamRef, bias: ParamRef) -> None:
    k.store(_standard(k, k.load(x), -1) * k.load(gain) + k.load(bias))


@kernel(x="fp32[M, N]", gain="fp32[N]")
def rms_norm(k: KernelBuilder, x: ParamRef, gain: ParamRef) -> None:
    value = k.load(x)
    k.store(value * k.rsqrt(k.mean(value * value, -1, keepdims=True) + 1e-6) * k.load(gain))


@kernel(x="fp32[M, N]", residual="fp32[M, N]", gain="fp32[N]")
def residual_rms_norm(k: KernelBuilder, x: ParamRef, residual: ParamRef, gain: ParamRef) -> None:
    value = k.load(x) + k.load(residual)
    k.store(value, "sum")
    k.store(value * k.rsqrt(k.mean(value * value, -1, keepdims=True) + 1e-6) * k.load(gain), "norm")


@kernel(x="fp16[M, N]", residual="fp16[M, N]", gain="fp16[N]", bias="fp16[N]")
def residual_layer_norm(k: KernelBuilder, x: ParamRef, residual: ParamRef, gain: ParamRef, bias: ParamRef) -> None:
    k.store(layer_norm(k, k.load(x) + k.load(residual), k.load(gain), k.load(bias)))


@kernel(dy="fp32[M, N]", x="fp32[M, N]", r="fp32[M, 1]", gain="fp32[N]")
def rms_norm_grad_x(k: KernelBuilder, dy: ParamRef, x: ParamRef, r: ParamRef, gain: ParamRef) -> None:
    scaled, unit = k.load(dy) * k.load(gain), k.load(x) * k.load(r)
    k.store((scaled - unit * k.mean(scaled * unit, -1, keepdims=True)) * k.load(r))


@kernel(dy="fp32[M, N]", x="fp32[M, N]", r="fp32[M, 1]", gain="fp32[N]")
def rms_norm_grad(k: KernelBuilder, dy: ParamRef, x: ParamRef, r: ParamRef, gain: ParamRef) -> None:
    grad = k.load(dy)
    scaled, unit = grad * k.load(gain), k.load(x) * k.load(r)
    k.store((scaled - unit * k.mean(scaled * unit, -1, keepdims=True)) * k.load(r), "dx")
    k.store(k.sum(grad * unit, 0), "dgain")


@kernel(dy="fp32[M, N]", y="fp32[M, N]")
def softmax_grad(k: KernelBuilder, dy: ParamRef, y: ParamRef) -> None:
    grad, value = k.load(dy), k.load(y)
    k.store((grad - k.sum(grad * value, -1, keepdims=True)) * value)


@kernel(x="fp32[M, N]")
def l2_unit(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    k.store(value / (k.sqrt(k.sum(value * value, -1, keepdims=True)) + 1e-6))


@kernel(x="fp32[M, N]")
def centre_columns(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    k.store(k.relu(value - k.mean(value, 0, keepdims=True)))


@kernel(x="fp32[M, N]")
def batch_norm_train(k: KernelBuilder, x: ParamRef) -> None:
    k.store(_standard(k, k.load(x), 0))


@kernel(dy="fp16[M, N]", x="fp16[M, N]")
def bias_grad(k: KernelBuilder, dy: ParamRef, x: ParamRef) -> None:
    grad = k.select(k.load(x) > 0.0, k.load(dy), 0.0)
    k.store(grad, "dx")
    k.store(k.sum(grad, 0), "dbias")


@kernel(x="fp16[B, C, P]", gain="fp16[C, 1]")
def squeeze_excite(k: KernelBuilder, x: ParamRef, gain: ParamRef) -> None:
    value = k.load(x)
    k.store(value * k.sigmoid(k.mean(value, -1, keepdims=True) * k.load(gain)))


_SIZES = ({"M": 128, "N": 768}, {"M": 2048, "N": 1024})

CASES = [
    *(
        Case(made.name, made, _SIZES)
        for made in (
            softmax_parts, log_softmax, standardise, layer_norm_parts, rms_norm, residual_rms_norm, residual_layer_norm,
            rms_norm_grad_x, rms_norm_grad, softmax_grad, l2_unit, centre_columns, batch_norm_train, bias_grad,
        )
    ),
    Case("masked_softmax", masked_softmax, ({"H": 12, "M": 128, "N": 128}, {"H": 16, "M": 512, "N": 512})),
    Case("squeeze_excite", squeeze_excite, ({"B": 1, "C": 96, "P": 196}, {"B": 16, "C": 256, "P": 784})),
]  # fmt: skip
