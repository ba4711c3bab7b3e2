"""Segments that differ in names only have the same programs, with tensors of their own."""

from __future__ import annotations

import numpy as np
import pytest

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, interpret
from npuvm.compiler.graph.ir import Graph, Param
from npuvm.compiler.graph.types import parse_type
from npuvm.compiler.language.value import Value
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa
from npuvm.runtime import Device


def _layers(count: int) -> Kernel:
    """Product, bias, softmax over rows and a sum over columns, again and again."""
    types = {"x": "fp16[M, 48]"}
    for layer in range(count):
        types |= {f"w{layer}": "fp16[48, 48]", f"b{layer}": "fp16[48]"}
    graph = Graph("layers", tuple(Param(name, parse_type(text)) for name, text in types.items()))
    k = KernelBuilder(graph)
    params: dict[str, Value] = {each.name: k.load(ParamRef(each.name, each.type)) for each in graph.params}
    x = params["x"]
    for layer in range(count):
        y = k.matmul(x, params[f"w{layer}"]) + params[f"b{layer}"]
        e = k.exp(y - k.max(y, -1, keepdims=True))
        x = x + e / k.sum(e, -1, keepdims=True) - k.mean(y, 0, keepdims=True)
    k.store(x)
    return Kernel(graph)


def _shapes(kernel: Kernel, rows: int) -> dict[str, tuple[int, ...]]:
    return {
        each.name: tuple(rows if dim == "M" else int(dim) for dim in each.type.shape) for each in kernel.graph.params
    }


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
@pytest.mark.parametrize("pins", [None, Pins(stack="launches"), Pins(stack="sequence"), Pins(fusion="none")])
def test_layers_have_the_values_of_the_graph(chip: str, pins: Pins | None) -> None:
    kernel, rng = _layers(3), np.random.default_rng(1)
    for rows in (5, 70):
        shapes = _shapes(kernel, rows)
        inputs = {name: (rng.standard_normal(shape) / 4).astype(np.float16) for name, shape in shapes.items()}
        device = Device(chip)
        found = device.run(kernel, {name: device.tensor(each) for name, each in inputs.items()}, pins=pins)
        expected = interpret(kernel.graph, inputs)["out0"].astype(np.float64)
        np.testing.assert_allclose(found["out0"].numpy().astype(np.float64), expected, rtol=1e-2, atol=1e-2)


def test_layers_in_the_middle_share_images() -> None:
    kernel, chip, isa = _layers(5), load_chip("ascend_910b1"), load_isa()
    made = compile_kernel(kernel, _shapes(kernel, 70), chip, isa)
    per_layer = len(made.launches) // 5
    second, third = (made.launches[at * per_layer : (at + 1) * per_layer] for at in (1, 2))
    for one, other in zip(second, third, strict=True):
        assert one.image is other.image
        assert one.args != other.args
        assert one.segment != other.segment
    names = {each.name for each in made.tensors}
    assert all(name in names for launch in made.launches for name in launch.args)
