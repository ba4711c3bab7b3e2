"""Fusion pinned: which operators share a program and a launch, always with the numbers of the graph."""

from __future__ import annotations

import numpy as np
import pytest

from npuvm.compiler import CompileError, KernelBuilder, ParamRef, Pins, compile_kernel, interpret, kernel
from npuvm.compiler.language.pins import FUSIONS
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa
from npuvm.runtime import Device


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", g="fp16[N]")
def named(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, g: ParamRef) -> None:
    with k.source("fc"):
        y = k.matmul(k.load(x), k.load(w)) + k.load(b)
    with k.source("ln"):
        wide = k.cast(y, "fp32")
        centred = wide - k.mean(wide, -1, keepdims=True)
        with k.source("gain"):
            gain = k.exp(k.load(g))
        scale = k.rsqrt(k.mean(centred * centred, -1, keepdims=True) + 1e-5)
        y = k.cast(centred * scale * k.cast(gain, "fp32"), "fp16")
    k.store(k.relu(y))


SHAPES = {"x": (33, 64), "w": (64, 130), "b": (130,), "g": (130,)}


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_gives_the_values_of_the_graph(chip: str, fusion: str) -> None:
    rng = np.random.default_rng(3)
    inputs = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in SHAPES.items()}
    device = Device(chip)
    found = device.run(named, {name: device.tensor(each) for name, each in inputs.items()}, pins=Pins(fusion=fusion))
    expected = interpret(named.graph, inputs)["out0"].astype(np.float64)
    np.testing.assert_allclose(found["out0"].numpy().astype(np.float64), expected, rtol=4e-3, atol=4e-3)


def test_operators_of_the_source_are_launches() -> None:
    chip, isa = load_chip("ascend_910b1"), load_isa()
    launches = {
        fusion: compile_kernel(named, SHAPES, chip, isa, Pins(fusion=fusion)).launches for fusion in ("none", "stack")
    }
    assert len(launches["none"]) == 4  # fc, gain, ln, relu
    assert len(launches["stack"]) == 1


def test_a_source_block_inside_another_counts_for_itself() -> None:
    sources = [node.source for node in named.graph.nodes if node.op in ("exp", "rsqrt", "matmul", "relu")]
    assert sources == ["fc", "gain", "ln", ""]


def test_an_operator_without_a_name_is_refused() -> None:
    with pytest.raises(CompileError, match="source takes the name of an operator"):

        @kernel(x="fp16[M]")
        def unnamed(k: KernelBuilder, x: ParamRef) -> None:
            with k.source(""):
                k.store(k.load(x))


def test_wrong_fusion_is_refused() -> None:
    with pytest.raises(CompileError, match="none, pattern, stack, both"):
        Pins(fusion="all")
    with pytest.raises(CompileError, match="none beside stack"):
        Pins(fusion="none", stack="sequence")


def test_no_tile_goes_with_fusion() -> None:
    pins = Pins(fusion="none", tile={"vector": (8, 64)})
    with pytest.raises(CompileError, match="none beside fusion"):
        compile_kernel(named, SHAPES, load_chip("edge"), load_isa(), pins)


@kernel(dy="fp32[M, N]", x="fp32[M, N]", r="fp32[M, 1]", g="fp32[N]")
def norm_grad(k: KernelBuilder, dy: ParamRef, x: ParamRef, r: ParamRef, g: ParamRef) -> None:
    scaled, unit = k.load(dy) * k.load(g), k.load(x) * k.load(r)
    k.store((scaled - unit * k.mean(scaled * unit, -1, keepdims=True)) * k.load(r))


def test_rows_that_fit_only_by_a_few_stay_in_one_program() -> None:
    shapes = {"dy": (64, 1024), "x": (64, 1024), "r": (64, 1), "g": (1024,)}
    assert len(compile_kernel(norm_grad, shapes, load_chip("ascend_910b1"), load_isa()).launches) == 1
    rng = np.random.default_rng(4)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    device = Device("ascend_910b1")
    found = device.run(norm_grad, {name: device.tensor(each) for name, each in inputs.items()})["out0"].numpy()
    np.testing.assert_allclose(found, interpret(norm_grad.graph, inputs)["out0"], rtol=1e-5, atol=1e-5)


@kernel(x="fp32[M, N]")
def three_programs(k: KernelBuilder, x: ParamRef) -> None:
    y = k.load(x)
    for axis in (0, 1, 0):
        y = y - k.max(y, axis, keepdims=True)
    k.store(y)


@pytest.mark.parametrize(("rows", "launches"), [(4, 1), (8192, 3)])
def test_programs_are_stacked_where_the_host_takes_longer(rows: int, launches: int) -> None:
    made = compile_kernel(three_programs, {"x": (rows, 256)}, load_chip("edge"), load_isa(), Pins(fusion="both"))
    assert (len(made.launches) > 1) == (launches > 1)


@kernel(x="fp32[M, N]")
def columns(k: KernelBuilder, x: ParamRef) -> None:
    centred = k.load(x) - k.mean(k.load(x), 0, keepdims=True)
    k.store(centred * k.rsqrt(k.mean(centred * centred, 0, keepdims=True) + 1e-5))


def test_a_cheap_value_is_made_again_by_every_program_that_reads_it() -> None:
    made = compile_kernel(columns, {"x": (70, 90)}, load_chip("edge"), load_isa())
    assert len(made.launches) == 3
    assert {each.shape for each in made.tensors if each.kind == "workspace"} == {(1, 90)}
    x = np.random.default_rng(5).standard_normal((70, 90)).astype(np.float32)
    device = Device("edge")
    for fusion in FUSIONS:
        found = device.run(columns, {"x": device.tensor(x)}, pins=Pins(fusion=fusion))["out0"].numpy()
        np.testing.assert_allclose(found, interpret(columns.graph, {"x": x})["out0"], rtol=1e-4, atol=1e-5)
