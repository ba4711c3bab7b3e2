"""Products of sizes that are stated as 0 or 1, in kernels of several parts: compiled, run, compared with the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import the_chip, the_isa

from npuvm.compiler import CompileError, Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, interpret, kernel

Shape = tuple[int, ...]


def _product(a: Shape, b: Shape, pad: str | None, transpose_a: bool) -> Kernel:
    @kernel(a=f"fp16{list(a)}", b=f"fp16{list(b)}")
    def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
        k.pin(pad=pad)
        k.store(k.relu(k.matmul(k.load(a), k.load(b), transpose_a=transpose_a)))

    return product


def _relay(a: Shape, b: Shape, w: Shape) -> Kernel:
    @kernel(a=f"fp16{list(a)}", b=f"fp16{list(b)}", w=f"fp16{list(w)}")
    def relay(k: KernelBuilder, a: ParamRef, b: ParamRef, w: ParamRef) -> None:
        k.store(k.matmul(k.relu(k.matmul(k.load(a), k.load(b))), k.load(w)))

    return relay


@kernel(a="fp16[M, K]", b="fp16[K, 0]")
def without_columns(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    """Whatever its sizes are, its result is empty."""
    k.store(k.matmul(k.load(a), k.load(b)))


def test_a_dynamic_product_without_columns() -> None:
    compiled = compile_kernel(without_columns, {"a": (4, 130), "b": (130, 0)}, the_chip("ascend_910b1"), the_isa())
    assert compiled.launches == ()


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(_product((0, 128), (0, 0), "always", True), id="copies of a result without elements"),
        pytest.param(_product((2, 3, 0, 129), (2, 3, 0, 65), "always", True), id="copies without k"),
        pytest.param(_product((2, 0, 127, 3), (3, 5), None, False), id="mix without matrices"),
        pytest.param(_product((64, 0), (0, 64), None, False), id="mix without k"),
        pytest.param(_product((3, 33, 1), (1, 1), None, False), id="matrices of one element by one row"),
        pytest.param(_product((3, 1, 17), (1, 16), None, True), id="matrices of one row off blocks"),
        pytest.param(_relay((2, 0, 7, 33), (33, 97), (97, 31)), id="relay without matrices"),
        pytest.param(_relay((2, 3, 31, 0), (0, 13), (13, 64)), id="relay without k"),
        pytest.param(_relay((2, 33, 33), (33, 0), (0, 97)), id="relay without rows between"),
    ],
)
def test_as_the_interpreter(made: Kernel, chip: str) -> None:
    rng = np.random.default_rng(3)
    shapes = {each.name: tuple(int(str(dim)) for dim in each.type.shape) for each in made.graph.params}
    inputs = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    compiled = compile_kernel(made, shapes, the_chip(chip), the_isa())
    (got,) = run_compiled(compiled, inputs, the_chip(chip)).outputs.values()
    (wanted,) = interpret(made.graph, inputs).values()
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.astype(np.float64), wanted.astype(np.float64), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("fusion", ["none", "pattern", "stack", "both"])
@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 0), (3, 0, 5), (0, 0, 0)])
def test_sizes_that_turn_out_to_be_0_with_every_fusion(fusion: str, shape: tuple[int, int, int]) -> None:
    """With "both", launches of a product were weighed before anyone asked whether it has elements."""

    @kernel(a="fp16[M, K]", b="fp16[K, N]")
    def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
        k.store(k.relu(k.matmul(k.load(a), k.load(b))), "y")

    m, inner, n = shape
    inputs = {"a": np.ones((m, inner), np.float16), "b": np.ones((inner, n), np.float16)}
    shapes = {name: each.shape for name, each in inputs.items()}
    compiled = compile_kernel(product, shapes, the_chip("ascend_910b1"), the_isa(), Pins(fusion=fusion))
    np.testing.assert_array_equal(
        run_compiled(compiled, inputs, the_chip("ascend_910b1")).outputs["y"], np.full((m, n), inner, np.float16)
    )


def test_a_mix_that_says_so_needs_something_to_add_up() -> None:
    @kernel(ktype="mix", a="fp16[64, 0]", b="fp16[0, 64]")
    def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
        k.store(k.relu(k.matmul(k.load(a), k.load(b))))

    with pytest.raises(CompileError, match="nothing to add up"):
        compile_kernel(product, {"a": (64, 0), "b": (0, 64)}, the_chip("edge"), the_isa())


@pytest.mark.parametrize("fusion", ["none", "pattern", "stack", "both"])
def test_what_is_linked_with_rows_that_have_no_elements(fusion: str) -> None:
    """The columns of one tensor are stated as none."""

    @kernel(x="fp16[N, 16]", y="fp16[16, 0]")
    def sums(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
        risen = k.exp(k.load(y))
        k.store(risen / k.sum(risen, -1, keepdims=True))
        k.store(k.sum(k.exp(k.load(x)), 0))

    shapes = {"x": (5, 16), "y": (16, 0)}
    compiled = compile_kernel(sums, shapes, the_chip("edge"), the_isa(), Pins(fusion=fusion))
    x = np.linspace(-1, 1, 80).reshape(5, 16).astype(np.float16)
    made = run_compiled(compiled, {"x": x, "y": np.empty((16, 0), np.float16)}, the_chip("edge")).outputs
    np.testing.assert_allclose(made["out1"], np.exp(x.astype(np.float64)).sum(0), rtol=2e-3)
    assert made["out0"].shape == (16, 0)
