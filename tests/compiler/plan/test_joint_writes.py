"""What is computed beside a product's rows but has none: every core of a joint program would write it at the same place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, kernel


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp32[N]", s="fp32[]")
def rows(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, s: ParamRef) -> None:
    y = k.matmul(k.load(x), k.load(w), dtype="fp32")
    scale, shift = k.load(s) * 2.0, k.load(b) + 1.0
    k.store((y - k.max(y, -1, keepdims=True)) * scale + shift, "y")
    k.store(scale, "scale")
    k.store(shift, "shift")


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp32[N]", s="fp32[]")
def tiles(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, s: ParamRef) -> None:
    scale, shift = k.load(s) * 2.0, k.load(b) + 1.0
    k.store(k.relu(k.matmul(k.load(x), k.load(w), dtype="fp32")) * scale + shift, "y")
    k.store(scale, "scale")
    k.store(shift, "shift")


@pytest.mark.parametrize("chip_name", CHIPS)
@pytest.mark.parametrize("made", [rows, tiles], ids=["rows", "tiles"])
@pytest.mark.parametrize("stack", ["mix", None])
def test_what_has_no_rows_is_written_once(made: Kernel, chip_name: str, stack: str | None) -> None:
    rng = np.random.default_rng(0)
    inputs: dict[str, npt.NDArray[Any]] = {
        "x": rng.standard_normal((200, 32)).astype(np.float16),
        "w": rng.standard_normal((32, 64)).astype(np.float16),
        "b": rng.standard_normal(64).astype(np.float32),
        "s": np.asarray(0.75, np.float32),
    }
    shapes = {name: each.shape for name, each in inputs.items()}
    pins = None if stack is None else Pins(stack=stack)
    compiled = compile_kernel(made, shapes, the_chip(chip_name), the_isa(), pins)
    got = run_compiled(compiled, inputs, the_chip(chip_name)).outputs
    y = inputs["x"].astype(np.float64) @ inputs["w"].astype(np.float64)
    y = y - y.max(-1, keepdims=True) if made is rows else np.maximum(y, 0)
    shift = inputs["b"] + np.float32(1)
    np.testing.assert_array_equal(got["scale"], np.float32(1.5))
    np.testing.assert_array_equal(got["shift"], shift)
    np.testing.assert_allclose(got["y"], y * 1.5 + shift, rtol=1e-3, atol=1e-3)
