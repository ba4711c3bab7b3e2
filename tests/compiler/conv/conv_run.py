"""Convolutions for tests: kernels, inputs, and an oracle that multiplies windows in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import Ran, run_graph, the_chip, the_isa

from npuvm.compiler import Graph, KernelBuilder, Value, interpret
from npuvm.compiler.conv.codegen import ConvKernel, compile_conv
from npuvm.compiler.conv.segment import ConvSegment, lower_conv
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan

Array = npt.NDArray[Any]
Pair = tuple[int, int]

NUMPY = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16, "int8": np.int8, "int32": np.int32}


@dataclass(frozen=True)
class Conv:
    """A convolution of `images` x `size` pixels; channels and filters are those of one group."""

    images: int = 1
    size: Pair = (5, 6)
    channels: int = 3
    filters: int = 4
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    pads: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    dtype: str = "fp16"
    out: str = "fp32"
    bias: str | None = None
    nchw: bool = False

    def graph(self) -> Graph:
        """The kernel, for any number and size of images."""
        c, o, (kh, kw) = self.channels * self.groups, self.filters * self.groups, self.kernel
        shapes = (
            {"x": f"N, {c}, H, W", "w": f"{o}, {self.channels}, {kh}, {kw}"}
            if self.nchw
            else {"x": f"N, H, W, {c}", "w": f"{o}, {kh}, {kw}, {self.channels}"}
        )
        types = {name: f"{self.dtype}[{shape}]" for name, shape in shapes.items()}
        if self.bias is not None:
            types["bias"] = f"{self.bias}[{o}]"

        def body(k: KernelBuilder, x: Value, w: Value, bias: Value | None = None) -> None:
            layout = "NCHW" if self.nchw else "NHWC"
            given = (self.stride, self.pads, self.dilation, self.groups, layout, self.out)
            k.store(k.conv2d(x, w, bias, *given))

        return build(body, **types)

    def arrays(self, seed: int = 0) -> dict[str, Array]:
        """Small numbers, channels last."""
        rng = np.random.default_rng(seed)
        c, o = self.channels * self.groups, self.filters * self.groups
        made = {
            "x": _fill(rng, (self.images, *self.size, c), self.dtype),
            "w": _fill(rng, (o, *self.kernel, self.channels), self.dtype),
        }
        return made if self.bias is None else made | {"bias": _fill(rng, (o,), self.bias)}

    def inputs(self) -> dict[str, Array]:
        """The same as the kernel takes them."""
        made = self.arrays()
        if self.nchw:
            made |= {name: np.ascontiguousarray(made[name].transpose(0, 3, 1, 2)) for name in ("x", "w")}
        return made

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.inputs().items()}

    def expected(self, given: dict[str, Array]) -> Array:
        """Every window times every kernel of its group, in float64."""
        x, w = given["x"].astype(np.float64), given["w"].astype(np.float64)
        padded = np.pad(x, ((0, 0), *self.pads, (0, 0)))
        spans = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        views = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(1, 2))
        views = views[:, :: self.stride[0], :: self.stride[1], :, :: self.dilation[0], :: self.dilation[1]]
        split = views.reshape(*views.shape[:3], self.groups, self.channels, *self.kernel)
        kernels = w.reshape(self.groups, self.filters, *self.kernel, self.channels)
        result = np.einsum("npqgcij,goijc->npqgo", split, kernels, optimize=True)
        result = result.reshape(*views.shape[:3], self.groups * self.filters)
        total: Array = result + (given["bias"].astype(np.float64) if "bias" in given else 0)
        return total


def _fill(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    values = rng.integers(-9, 10, shape) if dtype.startswith("int") else rng.standard_normal(shape)
    return values.astype(NUMPY[dtype])


def close(conv: Conv, got: Array, want: Array) -> None:
    """Exact for integers, within the rounding of the products and of the output for floats."""
    assert got.shape == want.shape
    if conv.out == "int32":
        np.testing.assert_array_equal(got, want.astype(np.int64))
        return
    depth = conv.channels * conv.kernel[0] * conv.kernel[1] + 1
    rounding = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}[conv.out]
    allowed = 64 * depth * 2.0**-24 + 1.01 * rounding * np.abs(want) + 1e-7
    assert (np.abs(got.astype(np.float64) - want) <= allowed).all()


def check(conv: Conv, chip: str) -> Ran:
    """Run on a chip, and in the interpreter, and compare both with the oracle."""
    graph, inputs = conv.graph(), conv.inputs()
    want = conv.expected(conv.arrays())
    if conv.nchw:
        want = want.transpose(0, 3, 1, 2)
    ran = run_graph(graph, inputs, the_chip(chip))
    close(conv, ran.outputs["out0"], want)
    close(conv, interpret(graph, inputs)["out0"], want)
    return ran


def conv_kernel(conv: Conv, chip: str, pins: Pins | None = None) -> ConvKernel:
    """The program of the convolution itself."""
    graph = conv.graph()
    segments = make_plan(graph, CASTS).segments
    segment = next(each for each in segments if isinstance(each, ConvSegment))
    spec, args = lower_conv(segment, graph.bind(conv.shapes()))
    found = compile_conv(spec, len(args), the_chip(chip), the_isa(), pins)
    assert found is not None
    return found
