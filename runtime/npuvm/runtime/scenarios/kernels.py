"""The operators of kernel scenarios, written with the `@kernel` builder.

A kernel is made once for each operator, dtype and number of dimensions; its sizes are symbols, so that all shapes of a sweep
share one plan. Operators over rows and the epilogues of products work in fp32 inside and round once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Value, kernel
from npuvm.runtime.scenarios.schema import Case, MatmulCase, RowsCase

__all__ = ["kernel_of", "parameter_names"]

_UNARY: dict[str, Callable[[KernelBuilder, Value], Value]] = {
    "exp": lambda k, x: k.exp(x),
    "sqrt": lambda k, x: k.sqrt(x),
    "relu": lambda k, x: k.relu(x),
    "sigmoid": lambda k, x: k.sigmoid(x),
    "tanh": lambda k, x: k.tanh(x),
    "gelu": lambda k, x: k.gelu(x),
    "scale_shift": lambda k, x: x * 1.5 + 0.25,
    "cast_to_fp32": lambda k, x: k.cast(x, "fp32"),
}
_BINARY: dict[str, Callable[[KernelBuilder, Value, Value], Value]] = {
    "add": lambda k, x, y: x + y,
    "sub": lambda k, x, y: x - y,
    "mul": lambda k, x, y: x * y,
    "div": lambda k, x, y: x / y,
    "maximum": lambda k, x, y: k.maximum(x, y),
    "minimum": lambda k, x, y: k.minimum(x, y),
    "add_row": lambda k, x, y: x + y,
    "mul_column": lambda k, x, y: x * y,
}
_EXACT_IN_DTYPE = frozenset({"relu", "cast_to_fp32", "exp", "sqrt"})
"""Unary operators of one instruction, which rounds once by itself; the others are cast to fp32 around several."""


def kernel_of(case: Case, dtype: str, rank: int) -> Kernel:
    """The kernel of a case for one dtype; `rank` is the number of dimensions of its first input."""
    if isinstance(case, MatmulCase):
        return _matmul(dtype, rank == 3, case.transpose_a, case.transpose_b, case.bias, case.epilogue)
    if isinstance(case, RowsCase):
        return _rows(case.op, dtype)
    return _elementwise(case.op, dtype, rank)


def parameter_names(made: Kernel) -> tuple[str, ...]:
    """Names of a kernel's inputs, in the order in which `scenario_oracles.make_inputs` gives them."""
    return tuple(param.name for param in made.graph.params)


def _wide(k: KernelBuilder, source: ParamRef) -> Value:
    return k.cast(k.load(source), "fp32")


@cache
def _elementwise(op: str, dtype: str, rank: int) -> Kernel:
    full = [f"D{axis}" for axis in range(rank)]
    shape = f"{dtype}[{', '.join(full)}]"
    if op in _UNARY:
        return _unary(op, dtype, shape)
    if op == "where":
        return _where(shape)
    narrow = {"add_row": full[-1:], "mul_column": [*full[:-1], "1"]}.get(op, full)

    @kernel(x=shape, y=f"{dtype}[{', '.join(narrow)}]")
    def binary(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
        k.store(_BINARY[op](k, k.load(x), k.load(y)))

    return binary


def _unary(op: str, dtype: str, shape: str) -> Kernel:
    @kernel(x=shape)
    def unary(k: KernelBuilder, x: ParamRef) -> None:
        if op in _EXACT_IN_DTYPE:
            k.store(_UNARY[op](k, k.load(x)))
        else:
            k.store(k.cast(_UNARY[op](k, _wide(k, x)), dtype))

    return unary


def _where(shape: str) -> Kernel:
    @kernel(x=shape, y=shape, z=shape)
    def where(k: KernelBuilder, x: ParamRef, y: ParamRef, z: ParamRef) -> None:
        k.store(k.select(k.load(x) > k.load(y), k.load(x), k.load(z)))

    return where


@cache
def _rows(op: str, dtype: str) -> Kernel:
    return {
        "softmax": _softmax,
        "layernorm": _layernorm,
        "rmsnorm": _rmsnorm,
        "sum": _sum,
        "max": _max,
        "sum_rows": _sum_rows,
    }[op](dtype)


def _softmax(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[R, C]")
    def softmax(k: KernelBuilder, x: ParamRef) -> None:
        wide = _wide(k, x)
        powers = k.exp(wide - k.max(wide, axes=-1, keepdims=True))
        k.store(k.cast(powers * k.reciprocal(k.sum(powers, axes=-1, keepdims=True)), dtype))

    return softmax


def _layernorm(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[R, C]", weight=f"{dtype}[C]", bias=f"{dtype}[C]")
    def layernorm(k: KernelBuilder, x: ParamRef, weight: ParamRef, bias: ParamRef) -> None:
        wide = _wide(k, x)
        centred = wide - k.mean(wide, axes=-1, keepdims=True)
        normal = centred * k.rsqrt(k.mean(centred * centred, axes=-1, keepdims=True) + 1e-5)
        k.store(k.cast(normal * _wide(k, weight) + _wide(k, bias), dtype))

    return layernorm


def _rmsnorm(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[R, C]", weight=f"{dtype}[C]")
    def rmsnorm(k: KernelBuilder, x: ParamRef, weight: ParamRef) -> None:
        wide = _wide(k, x)
        scale = k.rsqrt(k.mean(wide * wide, axes=-1, keepdims=True) + 1e-6)
        k.store(k.cast(wide * scale * _wide(k, weight), dtype))

    return rmsnorm


def _sum(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[R, C]")
    def row_sum(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.sum(k.load(x), axes=-1, keepdims=True))

    return row_sum


def _max(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[R, C]")
    def row_max(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.max(k.load(x), axes=-1, keepdims=True))

    return row_max


def _sum_rows(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[R, C]")
    def sum_of_rows(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.sum(k.load(x), axes=0, keepdims=True))

    return sum_of_rows


@cache
def _matmul(dtype: str, batched: bool, transpose_a: bool, transpose_b: bool, bias: bool, epilogue: str) -> Kernel:
    batch = "B, " if batched else ""
    types = {
        "a": f"{dtype}[{batch}{'K, M' if transpose_a else 'M, K'}]",
        "b": f"{dtype}[{batch}{'N, K' if transpose_b else 'K, N'}]",
    }

    def finish(k: KernelBuilder, a: ParamRef, b: ParamRef, c: ParamRef | None) -> None:
        row = None if c is None else k.load(c)
        sums = dtype if epilogue == "none" else "fp32"
        product = k.matmul(k.load(a), k.load(b), transpose_a=transpose_a, transpose_b=transpose_b, bias=row, dtype=sums)
        if epilogue == "gelu":
            product = k.gelu(product)
        elif epilogue == "relu":
            product = k.relu(product)
        k.store(k.cast(product, dtype))

    if bias:

        @kernel(**types, c=f"{dtype}[N]")
        def matmul_bias(k: KernelBuilder, a: ParamRef, b: ParamRef, c: ParamRef) -> None:
            finish(k, a, b, c)

        return matmul_bias

    @kernel(**types)
    def matmul(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
        finish(k, a, b, None)

    return matmul
