"""Element-wise operations on values put side by side run part by part, with the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, interpret, kernel
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa
from npuvm.runtime import Device


@kernel(x="fp16[S, H, 64]", cos="fp16[S, 1, 64]", sin="fp16[S, 1, 64]")
def rotary(k: KernelBuilder, x: ParamRef, cos: ParamRef, sin: ParamRef) -> None:
    value = k.load(x)
    turned = k.concat([-value[:, :, 32:], value[:, :, :32]], 2)
    k.store(value * k.load(cos) + turned * k.load(sin))


@kernel(x="fp16[M, 160]", y="fp16[M, 160]", z="fp16[M, 1]", r="fp16[M, 320]")
def side_by_side(k: KernelBuilder, x: ParamRef, y: ParamRef, z: ParamRef, r: ParamRef) -> None:
    both = k.relu(k.concat([k.exp(k.load(x)), k.load(y)], 1)) * k.load(z)
    k.store(both + k.load(r), "wide")
    k.store(k.sum(both, -1), "total")


@kernel(x="fp32[M, 8]", y="fp32[M, 16]")
def unequal(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.relu(k.concat([k.load(x), k.load(y)], 1)))


@kernel(x="fp32[M, 16]", y="fp32[M, 16]")
def read_twice(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    whole = k.concat([k.load(x), k.load(y)], 1)
    k.store(whole, "whole")
    k.store(k.exp(whole), "power")


@kernel(x="fp16[64, M]", w="fp16[M, 32]")
def product_of_both(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    value = k.load(x)
    both = k.relu(k.concat([value, value * 2.0], 0))
    k.store(k.matmul(both, k.load(w)))


CASES: list[tuple[Kernel, dict[str, int], int]] = [
    (rotary, {"S": 5, "H": 3}, 1),
    (side_by_side, {"M": 7}, 2),
    (unequal, {"M": 9}, 3),
    (read_twice, {"M": 9}, 2),
    (product_of_both, {"M": 24}, 2),
]


@pytest.mark.parametrize(("made", "sizes", "launches"), CASES, ids=lambda each: getattr(each, "name", ""))
def test_parts_have_the_values_of_the_whole(made: Kernel, sizes: dict[str, int], launches: int) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        each.name: tuple(sizes[dim] if isinstance(dim, str) else dim for dim in each.type.shape)
        for each in made.graph.params
    }
    inputs = {
        each.name: rng.standard_normal(shapes[each.name]).astype(each.type.info.numpy) for each in made.graph.params
    }
    expected = interpret(made.graph, inputs)
    device = Device("edge")
    tensors = {name: device.tensor(each) for name, each in inputs.items()}
    for fusion in ("none", "pattern", "both"):
        found = device.run(made, tensors, pins=Pins(fusion=fusion))
        for name, each in expected.items():
            np.testing.assert_allclose(
                found[name].numpy().astype(np.float64), each.astype(np.float64), rtol=2e-3, atol=2e-3
            )
    assert len(compile_kernel(made, shapes, load_chip("edge"), load_isa()).launches) == launches
