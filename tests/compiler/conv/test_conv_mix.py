"""Convolutions and what follows them element by element in one program: the bits of both apart, verified, without hazards."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import (
    Kernel,
    KernelBuilder,
    ParamRef,
    Pins,
    compile_kernel,
    interpret,
    kernel,
)
from npuvm.compiler.conv.mix import ConvMixFamily
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.mix.segment import join_products
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.plan import make_plan

Array = npt.NDArray[Any]
Pair = tuple[int, int]


def _layer(
    channels: int,
    filters: int,
    size: Pair = (3, 3),
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    layout: str = "NHWC",
    kept: bool = False,
    groups: int = 1,
) -> Kernel:
    """Bias and an activation, a scale for each filter and a residual."""
    planes, (high, wide), depth = layout == "NCHW", size, channels // groups
    if planes:
        types = {"x": f"fp16[N, {channels}, H, W]", "w": f"fp16[{filters}, {depth}, {high}, {wide}]"}
        types |= {"scale": f"fp16[{filters}, 1, 1]", "rest": f"fp16[N, {filters}, P, Q]"}
    else:
        types = {"x": f"fp16[N, H, W, {channels}]", "w": f"fp16[{filters}, {high}, {wide}, {depth}]"}
        types |= {"scale": f"fp16[{filters}]", "rest": f"fp16[N, P, Q, {filters}]"}

    @kernel(**types, bias=f"fp16[{filters}]")
    def layer(k: KernelBuilder, x: ParamRef, w: ParamRef, scale: ParamRef, rest: ParamRef, bias: ParamRef) -> None:
        y = k.conv2d(
            k.load(x), k.load(w), k.load(bias), stride=stride, padding=padding, dilation=dilation, layout=layout,
            groups=groups,
        )  # fmt: skip
        # Of a residual the sizes have names of their own.
        moved = k.relu(y * k.load(scale))
        k.store(moved + k.reshape(k.load(rest), moved.shape), "y")
        if kept:
            k.store(y, "product")

    return layer


def _arrays(made: Kernel, images: int, size: Pair) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    given = {"N": images, "H": size[0], "W": size[1]}
    shapes = {
        each.name: tuple(given.get(str(dim), 1) if isinstance(dim, str) else dim for dim in each.type.shape)
        for each in made.graph.params
    }
    (moved,) = (node.type.shape for node in made.graph.nodes if node.op == "relu")
    first = {each: shapes[each.name] for each in made.graph.params}
    binding = {str(d): s for each, shape in first.items() for d, s in zip(each.type.shape, shape, strict=True)}
    for derived in made.graph.derived:
        binding[derived.name] = derived.value(binding)
    shapes["rest"] = tuple(binding[dim] if isinstance(dim, str) else dim for dim in moved)
    return {name: (rng.integers(-8, 9, shape) / 8).astype(np.float16) for name, shape in shapes.items()}


def _check(made: Kernel, images: int, size: Pair, chip: str) -> list[str]:
    """Kinds of the launches; the outputs are those of separate launches, bit by bit, and near the interpreter's."""
    inputs = _arrays(made, images, size)
    shapes = {name: array.shape for name, array in inputs.items()}
    together = compile_kernel(made, shapes, the_chip(chip), the_isa())
    apart = compile_kernel(made, shapes, the_chip(chip), the_isa(), Pins(stack="launches"))
    assert {each.kind for each in apart.launches} <= {"cube", "vector"}
    got, wanted = (run_compiled(each, inputs, the_chip(chip)).outputs for each in (together, apart))
    near = interpret(made.graph, inputs)
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array)
        np.testing.assert_allclose(array.astype(np.float64), near[name].astype(np.float64), rtol=4e-3, atol=4e-2)
    return [each.kind for each in together.launches]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_layer_is_one_program(layout: str, chip: str) -> None:
    assert _check(_layer(16, 32, layout=layout, kept=layout == "NHWC"), 2, (14, 12), chip) == ["mix"]


@pytest.mark.parametrize(
    ("channels", "filters", "size", "stride", "image", "layout", "chip"),
    [
        (3, 16, (7, 7), 2, (32, 31), "NCHW", "ascend_910b1"),
        (64, 48, (3, 3), 1, (9, 7), "NHWC", "ascend_910b1"),
        (130, 20, (1, 3), 1, (6, 6), "NHWC", "ascend_910a"),
        (16, 100, (2, 2), 3, (20, 9), "NCHW", "edge"),
    ],
)
def test_other_layers(
    channels: int, filters: int, size: Pair, stride: int, image: Pair, layout: str, chip: str
) -> None:
    assert _check(_layer(channels, filters, size, stride, layout=layout), 1, image, chip) == ["mix"]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_all_loop_nests_are_written(layout: str) -> None:
    """Kernels whole in L1, in parts, and with blocks of channels."""
    chip, isa, nests = the_chip("edge"), the_isa(), set()
    for channels, filters, kernel_size, image in ((16, 16, 3, 8), (64, 100, 3, 8), (512, 16, 5, 64)):
        made = _layer(channels, filters, (kernel_size, kernel_size), layout=layout, padding=kernel_size // 2)
        (segment,) = join_products(make_plan(made.graph, CASTS).segments)
        assert isinstance(segment, MixSegment)
        names = (*made.graph.symbols(), *(each.name for each in made.graph.derived))
        family = ConvMixFamily(segment, names, chip, isa)
        binding = made.bind({name: array.shape for name, array in _arrays(made, 1, (image, image)).items()})
        assert family.instance([binding[name] for name in names]) is not None
        nests |= set(family._templates)
    assert nests == {0, 1, 2}


_EDGES = st.sampled_from([1, 2, 3, 5, 8, 13, 17])


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 3),
    image=st.tuples(_EDGES, _EDGES),
    channels=st.sampled_from([1, 3, 16, 33]),
    filters=st.sampled_from([1, 2, 15, 16, 33]),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    layout=st.sampled_from(["NHWC", "NCHW"]),
    chip=st.sampled_from(CHIPS),
)
def test_random_layers(
    images: int, image: Pair, channels: int, filters: int, size: Pair, stride: int, layout: str, chip: str
) -> None:
    _check(_layer(channels, filters, size, stride, padding=1, layout=layout), images, image, chip)


def test_groups_and_broadcasts_along_rows_stay_apart() -> None:
    assert _check(_layer(8, 32, layout="NCHW", groups=4), 1, (8, 8), "edge") == ["cube", "vector"]

    @kernel(x="fp16[N, 8, 8, 16]", w="fp16[32, 3, 3, 16]", rows="fp16[8, 1, 1]")
    def by_rows(k: KernelBuilder, x: ParamRef, w: ParamRef, rows: ParamRef) -> None:
        k.store(k.conv2d(k.load(x), k.load(w), padding=1, layout="NHWC") * k.load(rows))

    shapes = {"x": (1, 8, 8, 16), "w": (32, 3, 3, 16), "rows": (8, 1, 1)}
    made = compile_kernel(by_rows, shapes, the_chip("edge"), the_isa())
    assert [each.kind for each in made.launches] == ["cube", "vector"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("image", [(5, 7), (1, 9), (16, 16)])
def test_kernels_of_one_pixel_are_products_of_all_pixels(image: Pair, chip: str) -> None:
    """Their rows are read as images, rows and columns."""
    assert _check(_layer(16, 32, (1, 1), padding=0, kept=image == (5, 7)), 2, image, chip) == ["mix"]


@pytest.mark.parametrize("chip", CHIPS)
def test_pixels_that_are_no_rows_stay_apart(chip: str) -> None:
    @kernel(x="fp16[N, H, W, 16]", w="fp16[32, 1, 1, 16]", rows="fp16[H, 1, 1]")
    def by_rows(k: KernelBuilder, x: ParamRef, w: ParamRef, rows: ParamRef) -> None:
        k.store(k.conv2d(k.load(x), k.load(w), layout="NHWC") * k.load(rows), "y")

    rng = np.random.default_rng(3)
    shapes = {"x": (2, 6, 5, 16), "w": (32, 1, 1, 16), "rows": (6, 1, 1)}
    inputs = {name: (rng.integers(-8, 9, shape) / 8).astype(np.float16) for name, shape in shapes.items()}
    compiled = compile_kernel(by_rows, shapes, the_chip(chip), the_isa())
    got = run_compiled(compiled, inputs, the_chip(chip)).outputs["y"]
    np.testing.assert_allclose(got, interpret(by_rows.graph, inputs)["y"], rtol=2e-3)


def test_nothing_to_compute_needs_no_program() -> None:
    made = _layer(16, 32)
    for images, image in ((0, (8, 8)), (1, (1, 8))):
        inputs = _arrays(made, images, image)
        shapes = {name: array.shape for name, array in inputs.items()}
        compiled = compile_kernel(made, shapes, the_chip("edge"), the_isa())
        assert len(compiled.launches) == images


def test_a_mix_of_a_convolution_can_be_inspected() -> None:
    made = _layer(16, 32)
    shapes = {name: array.shape for name, array in _arrays(made, 1, (8, 8)).items()}
    found = inspect_kernel(made, shapes, the_chip("ascend_910b1"), the_isa())
    (segment,) = found.segments
    assert segment.name == "c0+v0" and "pixels" in segment.tile and "bands" in segment.tile
