"""Mix kernels: a product and what follows it in one launch, against numpy, verified, without hazards, on three chips."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import erf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import CompiledKernel, Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, kernel
from npuvm.compiler.graph.symbols import evaluate
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.isa import EvenEntries

Array = npt.NDArray[Any]

_EDGES = st.sampled_from([1, 2, 3, 15, 16, 17, 31, 33, 64, 100, 127, 130])


@kernel(x="fp16[M, K]", w="fp16[K, N]", scale="fp16[N]", residual="fp16[M, N]")
def scaled(k: KernelBuilder, x: ParamRef, w: ParamRef, scale: ParamRef, residual: ParamRef) -> None:
    k.store(k.gelu(k.matmul(k.load(x), k.load(w))) * k.load(scale) + k.load(residual), "y")


@kernel(x="fp16[M, K]", w="fp16[K, N]", rows="fp16[M, 1]")
def two_results(k: KernelBuilder, x: ParamRef, w: ParamRef, rows: ParamRef) -> None:
    """The product itself, and two values of it in other types."""
    y = k.matmul(k.load(x), k.load(w), dtype="fp32")
    k.store(y, "y")
    k.store(k.exp(y * 0.125), "risen")
    k.store(k.cast(y, "fp16") + k.load(rows), "moved")


@kernel(x="fp16[B, H, M, K]", w="fp16[B, 1, K, N]", mask="fp16[M, N]")
def masked(k: KernelBuilder, x: ParamRef, w: ParamRef, mask: ParamRef) -> None:
    """Batches, of which one broadcasts, and rows that no tensor but the mask has apart from them."""
    k.store(k.matmul(k.load(x), k.load(w)) * 0.25 + k.load(mask), "y")


@kernel(x="fp16[M, K]", gate="fp16[K, N]", up="fp16[K, N]")
def gated(k: KernelBuilder, x: ParamRef, gate: ParamRef, up: ParamRef) -> None:
    value = k.load(x)
    g = k.matmul(value, k.load(gate))
    k.store(g * k.sigmoid(g) * k.matmul(value, k.load(up)), "y")


@kernel(x="fp16[M, K]", left="fp16[K, N]", right="fp16[K, N]")
def difference(k: KernelBuilder, x: ParamRef, left: ParamRef, right: ParamRef) -> None:
    value = k.load(x)
    k.store(k.matmul(value, k.load(left)) - k.matmul(value, k.load(right)), "y")


@kernel(x="fp16[M, K]", w="fp16[N, K]", bias="fp16[N]")
def biased(k: KernelBuilder, x: ParamRef, w: ParamRef, bias: ParamRef) -> None:
    """The bias enters the accumulators; the right operand lies transposed."""
    k.store(k.relu(k.matmul(k.load(x), k.load(w), transpose_b=True, bias=k.load(bias))) * 0.5, "y")


@kernel(x="int8[M, K]", w="int8[K, N]", scale="fp32[N]")
def dequantised(k: KernelBuilder, x: ParamRef, w: ParamRef, scale: ParamRef) -> None:
    k.store(k.cast(k.matmul(k.load(x), k.load(w)), "fp32") * k.load(scale), "y")


def filled(made: Kernel, **sizes: int) -> dict[str, Array]:
    """Inputs for values of the kernel's symbols."""
    rng = np.random.default_rng(sum(sizes.values()))
    return {
        each.name: (rng.standard_normal(evaluate(each.type.shape, sizes)) / 4).astype(each.type.info.numpy)
        for each in made.graph.params
    }


def mixed(made: Kernel, inputs: Mapping[str, Array], chip: NpuConfig, pins: Pins | None = None) -> CompiledKernel:
    return compile_kernel(made, {name: each.shape for name, each in inputs.items()}, chip, the_isa(), pins)


def kinds(compiled: CompiledKernel) -> list[str]:
    return [launch.kind for launch in compiled.launches]


def product(inputs: Mapping[str, Array], dtype: Any = np.float16, right: str = "w") -> Array:
    found: Array = (inputs["x"].astype(np.float64) @ inputs[right].astype(np.float64)).astype(dtype).astype(np.float64)
    return found


def gelu_scaled(inputs: Mapping[str, Array]) -> Array:
    """What `scaled` computes."""
    y = product(inputs)
    gelu = 0.5 * y * (1 + np.vectorize(erf, otypes=[np.float64])(y / 2**0.5))
    result: Array = gelu.astype(np.float16).astype(np.float64) * inputs["scale"] + inputs["residual"]
    return result


def close(got: Array, want: Array) -> None:
    np.testing.assert_allclose(got.astype(np.float64), want, atol=4e-3, rtol=8e-3)


@cache
def a_few_cores(chip: str) -> NpuConfig:
    """With one core or group there are many tiles for each, which are walked in bands."""
    return load_chip(chip, ["core.count=1"])


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=8, deadline=None)
@given(m=_EDGES, k=_EDGES, n=_EDGES)
def test_a_product_and_what_follows_are_one_launch(chip: str, m: int, k: int, n: int) -> None:
    inputs = filled(scaled, M=m, K=k, N=n)
    compiled = mixed(scaled, inputs, the_chip(chip), Pins(stack="mix"))
    assert kinds(compiled) == ["mix"]
    assert compiled.workspace_bytes == 0
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], gelu_scaled(inputs))


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=8, deadline=None)
@given(m=_EDGES, k=_EDGES, n=_EDGES)
def test_several_results_and_the_product_itself(chip: str, m: int, k: int, n: int) -> None:
    inputs = filled(two_results, M=m, K=k, N=n)
    compiled = mixed(two_results, inputs, the_chip(chip))
    assert kinds(compiled) == ["mix"]
    got = run_compiled(compiled, inputs, the_chip(chip)).outputs
    y = product(inputs, np.float32)
    close(got["y"], y)
    close(got["risen"], np.exp(y / 8))
    close(got["moved"], y + inputs["rows"])


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=5, deadline=None)
@given(b=st.integers(1, 3), h=st.integers(1, 3), m=_EDGES, k=st.sampled_from([1, 16, 40]), n=_EDGES)
def test_batches_that_broadcast(chip: str, b: int, h: int, m: int, k: int, n: int) -> None:
    inputs = filled(masked, B=b, H=h, M=m, K=k, N=n)
    compiled = mixed(masked, inputs, the_chip(chip))
    assert kinds(compiled) == ["mix"]
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], product(inputs) / 4 + inputs["mask"])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("sizes", [(1, 7, 17), (100, 40, 130), (129, 300, 33)])
def test_a_bias_and_a_transposed_operand(chip: str, sizes: tuple[int, int, int]) -> None:
    inputs = filled(biased, **dict(zip("MKN", sizes, strict=True)))
    compiled = mixed(biased, inputs, the_chip(chip))
    assert kinds(compiled) == ["mix"]
    x, w, bias = (inputs[name].astype(np.float64) for name in ("x", "w", "bias"))
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], np.maximum(x @ w.T + bias, 0) / 2)


@pytest.mark.parametrize("chip", CHIPS)
def test_whole_numbers_become_floats_on_their_way(chip: str) -> None:
    rng = np.random.default_rng(3)
    inputs: dict[str, Array] = {
        "x": rng.integers(-100, 100, (70, 90)).astype(np.int8),
        "w": rng.integers(-100, 100, (90, 50)).astype(np.int8),
        "scale": rng.standard_normal(50).astype(np.float32),
    }
    compiled = mixed(dequantised, inputs, the_chip(chip))
    assert kinds(compiled) == ["mix"]
    want = (inputs["x"].astype(np.int64) @ inputs["w"].astype(np.int64)).astype(np.float32) * inputs["scale"]
    np.testing.assert_array_equal(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], want)


@pytest.mark.parametrize("chip", CHIPS)
def test_of_two_products_that_are_read_the_last_one_is_joined(chip: str) -> None:
    inputs = filled(difference, M=70, K=48, N=90)
    compiled = mixed(difference, inputs, the_chip(chip))
    assert kinds(compiled) == ["cube", "mix"]
    want = product(inputs, right="left") - product(inputs, right="right")
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], want)


@pytest.mark.parametrize("chip", CHIPS)
def test_what_one_product_becomes_is_read_beside_another(chip: str) -> None:
    inputs = filled(gated, M=70, K=48, N=90)
    compiled = mixed(gated, inputs, the_chip(chip))
    assert kinds(compiled) == ["mix", "mix"]
    gate = product(inputs, right="gate")
    want = gate / (1 + np.exp(-gate)) * product(inputs, right="up")
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], want)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("k", [16, 700])
def test_many_tiles_for_a_core(chip: str, k: int) -> None:
    """All of k in one tile, and k in steps with tiles walked in bands: rows and columns with smaller last tiles.

    Copies of operands, which pay for some of these sizes, would be programs of their own in the launch.
    """
    few = a_few_cores(chip)
    inputs = filled(scaled, M=333, K=k, N=421)
    compiled = mixed(scaled, inputs, few, Pins(pad="never"))
    assert kinds(compiled) == ["mix"]
    close(run_compiled(compiled, inputs, few).outputs["y"], gelu_scaled(inputs))


@pytest.mark.parametrize("chip", CHIPS)
def test_the_bits_are_those_of_separate_launches(chip: str) -> None:
    inputs = filled(two_results, M=100, K=77, N=150)
    together = run_compiled(mixed(two_results, inputs, the_chip(chip)), inputs, the_chip(chip)).outputs
    compiled = mixed(two_results, inputs, the_chip(chip), Pins(stack="launches"))
    assert kinds(compiled) == ["cube", "vector"]
    apart = run_compiled(compiled, inputs, the_chip(chip)).outputs
    for name, each in together.items():
        np.testing.assert_array_equal(each, apart[name])


@pytest.mark.parametrize("chip", CHIPS)
def test_a_mix_in_a_stack(chip: str) -> None:
    """Two mixes, one after the other in one launch."""
    inputs = filled(gated, M=40, K=48, N=90)
    compiled = mixed(gated, inputs, the_chip(chip), Pins(stack="sequence"))
    assert kinds(compiled) == ["stack"]
    gate = product(inputs, right="gate")
    want = gate / (1 + np.exp(-gate)) * product(inputs, right="up")
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], want)


def test_a_group_of_three_vector_cores_runs_them_apart() -> None:
    """The two sides of a loop's end tell two cores apart, no more."""
    chip = load_chip("ascend_910b1", ["core.vector_per_group=3", "core.count=1"])
    compiled = mixed(scaled, filled(scaled, M=64, K=64, N=64), chip)
    assert kinds(compiled) == ["cube", "vector"]


@pytest.mark.parametrize("chip", CHIPS)
def test_nothing_to_add_up_and_nothing_to_write(chip: str) -> None:
    inputs = filled(scaled, M=20, K=0, N=30)
    compiled = mixed(scaled, inputs, the_chip(chip))
    assert kinds(compiled) == ["cube", "vector"]
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], inputs["residual"].astype(np.float64))
    assert kinds(mixed(scaled, filled(scaled, M=0, K=5, N=30), the_chip(chip))) == []


@pytest.mark.parametrize(("m", "n"), [(3, 520), (16, 512), (40, 330)])
def test_mixes_walk_rounds_where_addresses_are_not_spread(m: int, n: int) -> None:
    """On four cores, with buffers so small that each has several tiles and k comes in steps."""
    cut = ["core.count=4", "core.l1_kib=16", "core.l0a_kib=4", "core.l0b_kib=4", "core.l0c_kib=16"]
    chip, k, mix = load_chip("ascend_910a", cut), 300, Pins(stack="mix")
    made = compile_kernel(scaled, {"x": (m, k), "w": (k, n), "scale": (n,), "residual": (m, n)}, chip, the_isa(), mix)
    (launch,) = made.launches
    assert isinstance(launch.image.entries, EvenEntries)
    assert launch.image.entries.by_grid
    rng = np.random.default_rng(0)
    shapes = {"x": (m, k), "w": (k, n), "scale": (n,), "residual": (m, n)}
    given = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    product = (given["x"].astype(np.float64) @ given["w"]).astype(np.float16).astype(np.float64)
    expected = product * 0.5 * (1 + np.vectorize(erf)(product / 2**0.5)) * given["scale"] + given["residual"]
    found = run_compiled(made, given, chip).outputs["y"]
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2e-2, atol=0.15)
