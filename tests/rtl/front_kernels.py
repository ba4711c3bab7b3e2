"""Real compiled kernels as launches for the front stage: what the compiler emits for all shipped chips, a few cores each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from npuvm.compiler import CompiledKernel, Kernel, KernelBuilder, ParamRef, Value, compile_kernel, kernel
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.rtl.front_compare import Launch
from npuvm.isa import Isa, load_isa

GAP = 4096
"""Bytes to which tensors are rounded up in global memory."""


@kernel(x="fp16[M, N]", y="fp16[M, N]")
def add(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) + k.load(y))


@kernel(x="fp32[M, N]", y="fp32[M, N]")
def chain(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    a, b = k.load(x), k.load(y)
    k.store(k.maximum(a * b + a, 0.0) - b)


@kernel(x="fp16[M, N]", y="fp16[N]")
def add_row(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) * k.load(y) + 1.0)


@kernel(x="fp32[M, N]", y="fp32[M, 1]")
def add_column(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) - k.load(y))


@kernel(x="fp16[M, N]")
def softmax(k: KernelBuilder, x: ParamRef) -> None:
    wide = k.cast(k.load(x), "fp32")
    powers = k.exp(wide - k.max(wide, axes=-1, keepdims=True))
    k.store(k.cast(powers / k.sum(powers, axes=-1, keepdims=True), "fp16"))


@kernel(x="fp32[R, C]", weight="fp32[C]", bias="fp32[C]")
def layernorm(k: KernelBuilder, x: ParamRef, weight: ParamRef, bias: ParamRef) -> None:
    wide = k.load(x)
    centred = wide - k.mean(wide, axes=-1, keepdims=True)
    normal = centred * k.rsqrt(k.mean(centred * centred, axes=-1, keepdims=True) + 1e-5)
    k.store(normal * k.load(weight) + k.load(bias))


@kernel(x="fp16[M, N]")
def gelu(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.gelu(k.load(x), "tanh"))


@kernel(x="fp16[M, N]")
def sum_rows(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), axes=0))


@kernel(x="fp32[B, M, N]")
def max_middle(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.max(k.load(x), axes=1))


@kernel(x="fp32[M, N]")
def sum_all(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x)))


@kernel(x="fp16[A, B, C]")
def transposed(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.permute(k.load(x), (0, 2, 1)) + 1.0)


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)))


@kernel(a="fp16[B, M, K]", b="fp16[B, N, K]", bias="fp16[N]")
def batched(k: KernelBuilder, a: ParamRef, b: ParamRef, bias: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(a), k.load(b), transpose_b=True, bias=k.load(bias))))


@kernel(a="int8[M, K]", b="int8[K, N]")
def integers(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)))


@kernel(x="fp16[M, K]", up="fp16[K, F]", down="fp16[F, K]")
def gelu_mlp(k: KernelBuilder, x: ParamRef, up: ParamRef, down: ParamRef) -> None:
    hidden: Value = k.gelu(k.matmul(k.load(x), k.load(up)), "tanh")
    k.store(k.matmul(hidden, k.load(down)) + k.load(x))


@dataclass(frozen=True)
class Case:
    """A kernel for given shapes on a chip with `cores` cores, or groups of them, and less memory where `overrides` say so."""

    kernel: Kernel
    shapes: Mapping[str, Sequence[int]]
    chip: str
    cores: int = 2
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Kernel, sizes and chip."""
        sizes = "_".join("x".join(map(str, shape)) for shape in self.shapes.values())
        return f"{self.kernel.name}-{sizes}-{self.chip}"


SMALL = ("core.ub_kib=16",)
"""So that small tensors take several tiles."""

SMALL_CUBE = ("core.l1_kib=32", "core.l0a_kib=4", "core.l0b_kib=4", "core.l0c_kib=8", "core.ub_kib=16")

CASES = (
    Case(add, {"x": (64, 200), "y": (64, 200)}, "edge"),
    Case(add, {"x": (33, 1000), "y": (33, 1000)}, "ascend_910b1", 1, SMALL),
    Case(chain, {"x": (7, 65), "y": (7, 65)}, "edge"),
    Case(chain, {"x": (130, 90), "y": (130, 90)}, "ascend_910a", 2, SMALL),
    Case(add_row, {"x": (50, 333), "y": (333,)}, "ascend_910b1", 1, SMALL),
    Case(add_column, {"x": (70, 130), "y": (70, 1)}, "edge", 2, SMALL),
    Case(softmax, {"x": (24, 500)}, "ascend_910b1", 1, SMALL),
    Case(softmax, {"x": (9, 1)}, "edge"),
    Case(softmax, {"x": (40, 300)}, "ascend_910a", 2, SMALL),
    Case(softmax, {"x": (3, 9000)}, "edge", 2, SMALL),
    Case(layernorm, {"x": (20, 384), "weight": (384,), "bias": (384,)}, "ascend_910a", 2, SMALL),
    Case(layernorm, {"x": (5, 100), "weight": (100,), "bias": (100,)}, "ascend_910b1", 2),
    Case(gelu, {"x": (31, 257)}, "edge", 2, SMALL),
    Case(gelu, {"x": (16, 1024)}, "ascend_910b1", 1, SMALL),
    Case(sum_rows, {"x": (100, 200)}, "ascend_910a", 2, SMALL),
    Case(max_middle, {"x": (3, 40, 70)}, "edge", 2, SMALL),
    Case(sum_all, {"x": (33, 77)}, "ascend_910b1", 1, SMALL),
    Case(transposed, {"x": (3, 20, 33)}, "ascend_910a"),
    Case(product, {"a": (64, 96), "b": (96, 80)}, "edge", 1, SMALL_CUBE),
    Case(product, {"a": (50, 100), "b": (100, 70)}, "ascend_910a", 2, SMALL_CUBE),
    Case(product, {"a": (130, 64), "b": (64, 48)}, "ascend_910b1", 2, SMALL_CUBE),
    Case(batched, {"a": (3, 20, 32), "b": (3, 24, 32), "bias": (24,)}, "ascend_910b1", 2, SMALL_CUBE),
    Case(integers, {"a": (30, 64), "b": (64, 40)}, "edge", 2),
    Case(gelu_mlp, {"x": (12, 64), "up": (64, 96), "down": (96, 64)}, "ascend_910b1", 1),
    Case(gelu_mlp, {"x": (20, 48), "up": (48, 80), "down": (80, 48)}, "edge", 2),
)


@cache
def the_isa() -> Isa:
    """The instruction set, loaded once."""
    return load_isa()


def chip_of(case: Case) -> NpuConfig:
    """The chip that a case is compiled for."""
    return load_chip(case.chip, [f"core.count={case.cores}", *case.overrides])


@cache
def launches() -> tuple[Launch, ...]:
    """Every launch of every case, by name; the same kernel may take several."""
    found: list[Launch] = []
    for case in CASES:
        chip = chip_of(case)
        compiled = compile_kernel(case.kernel, case.shapes, chip, the_isa())
        found += _launches(case, chip, compiled)
    return tuple(found)


def _launches(case: Case, chip: NpuConfig, compiled: CompiledKernel) -> list[Launch]:
    addresses: dict[str, int] = {}
    free = GAP
    for tensor in compiled.tensors:
        addresses[tensor.name] = free
        free += -(-tensor.nbytes // GAP) * GAP + GAP
    return [
        Launch(f"{case.name}/{launch.segment}", chip, launch.image, [addresses[name] for name in launch.args])
        for launch in compiled.launches
    ]
