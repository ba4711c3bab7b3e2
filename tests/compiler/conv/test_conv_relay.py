"""Convolutions and what is computed of their images before them in one program: the bits of both apart, without hazards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, interpret, kernel
from npuvm.compiler.conv.relay import ConvRelayFamily
from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.fusion.report import fusion_report
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.plan.joint import RelaySegment
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.relay.segment import join_relays

Array = npt.NDArray[Any]
Pair = tuple[int, int]


@dataclass(frozen=True)
class _Layer:
    """A scale for each channel, an addition that padding must not see, an activation, and a convolution with a bias.

    With `behind` an activation and a residual, of type `result`, follow.
    """

    channels: int
    filters: int
    size: Pair = (3, 3)
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    layout: str = "NCHW"
    groups: int = 1
    dtype: str = "fp16"
    bias: bool = True
    behind: bool = False
    result: str = "fp16"

    @property
    def planes(self) -> bool:
        return self.layout == "NCHW"

    def shapes(self, images: int, image: Pair) -> dict[str, tuple[int, ...]]:
        channels, filters, depth = self.channels, self.filters, self.channels // self.groups
        if self.planes:
            shapes = {"x": (images, channels, *image), "w": (filters, depth, *self.size), "scale": (channels, 1, 1)}
        else:
            shapes = {"x": (images, *image, channels), "w": (filters, *self.size, depth), "scale": (channels,)}
        return shapes | ({"bias": (filters,)} if self.bias else {})

    def kernel(self) -> Kernel:
        named = self.shapes(-1, (-2, -3))
        text = {
            name: ", ".join({-1: "N", -2: "H", -3: "W"}.get(dim, str(dim)) for dim in shape)
            for name, shape in named.items()
        }
        types = {name: f"{self.dtype if name == 'x' else 'fp16'}[{dims}]" for name, dims in text.items()}

        def layer(k: KernelBuilder, x: ParamRef, w: ParamRef, scale: ParamRef, bias: ParamRef | None = None) -> None:
            made = k.relu(k.cast(k.load(x), "fp16") * k.load(scale) + 0.5) + 0.25
            y = k.conv2d(
                made, k.load(w), None if bias is None else k.load(bias), stride=self.stride, padding=self.padding,
                dilation=self.dilation, layout=self.layout, groups=self.groups,
            )  # fmt: skip
            k.store(k.cast(k.maximum(y, -0.5) * 0.5 - 0.25, self.result) if self.behind else y, "y")

        def plain(k: KernelBuilder, x: ParamRef, w: ParamRef, scale: ParamRef) -> None:
            layer(k, x, w, scale)

        return kernel(**types)(layer if self.bias else plain)

    def inputs(self, images: int, image: Pair) -> dict[str, Array]:
        rng = np.random.default_rng(3)
        found = {name: rng.integers(-8, 9, shape) for name, shape in self.shapes(images, image).items()}
        kind = {"fp16": np.float16, "fp32": np.float32, "int8": np.int8}[self.dtype]
        return {
            name: each.astype(kind) if name == "x" else (each / 8).astype(np.float16) for name, each in found.items()
        }


def _check(layer: _Layer, images: int, image: Pair, chip: str) -> list[str]:
    """Kinds of the launches where they may be one; the output is that of separate launches, bit by bit, and numpy's."""
    inputs, made = layer.inputs(images, image), layer.kernel()
    shapes = {name: array.shape for name, array in inputs.items()}
    together, apart = (
        compile_kernel(made, shapes, the_chip(chip), the_isa(), Pins(stack=stack)) for stack in ("mix", "launches")
    )
    assert [each.kind for each in apart.launches] == ["vector", "cube", *(["vector"] if layer.behind else [])]
    got, wanted = (run_compiled(each, inputs, the_chip(chip)).outputs["y"] for each in (together, apart))
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_allclose(got.astype(np.float64), _numpy(layer, inputs), rtol=4e-3, atol=6e-2)
    return [each.kind for each in together.launches]


def _numpy(layer: _Layer, inputs: dict[str, Array]) -> npt.NDArray[np.float64]:
    """The convolution of what is padded behind the operations before it, one element of the kernel after the other."""
    given = {name: array.astype(np.float64) for name, array in inputs.items()}
    made = np.maximum(given["x"] * given["scale"] + 0.5, 0.0) + 0.25
    w = given["w"]
    if layer.planes:
        made, w = np.moveaxis(made, 1, 3), np.moveaxis(w, 1, 3)
    pad, far, step = layer.padding, layer.dilation, layer.stride
    made = np.pad(made, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    (high, wide), (kernel_h, kernel_w) = made.shape[1:3], layer.size
    p, q = ((size - (taps - 1) * far - 1) // step + 1 for size, taps in ((high, kernel_h), (wide, kernel_w)))
    total = np.zeros((made.shape[0], p, q, layer.filters))
    for row in range(kernel_h):
        for col in range(kernel_w):
            part = made[:, row * far :: step, col * far :: step][:, :p, :q]
            total += np.einsum("npqc,oc->npqo", part, w[:, row, col])
    total += given.get("bias", np.zeros(layer.filters))
    if layer.behind:
        total = np.maximum(total, -0.5) * 0.5 - 0.25
    return np.moveaxis(total, 3, 1) if layer.planes else total


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_layer_is_one_program(layout: str, chip: str) -> None:
    assert _check(_Layer(16, 32, layout=layout), 2, (14, 12), chip) == ["mix"]


@pytest.mark.parametrize(
    ("layer", "images", "image", "chip"),
    [
        (_Layer(3, 16, (7, 7), 2, 3), 1, (32, 31), "ascend_910b1"),
        (_Layer(64, 200, (3, 3), 2), 1, (28, 28), "edge"),
        (_Layer(33, 20, (1, 3), 1, 0, 2, "NHWC"), 3, (6, 9), "ascend_910b1"),
        (_Layer(130, 260, (2, 2), 2, 2, layout="NHWC"), 3, (18, 14), "ascend_910a"),
        (_Layer(16, 40, (5, 3), 1, 2, 2, bias=False), 3, (21, 9), "ascend_910a"),
        (_Layer(16, 16, (1, 1), 2, 0), 2, (9, 9), "edge"),
        (_Layer(2, 1, (3, 3)), 2, (5, 1), "ascend_910b1"),
    ],
)
def test_other_layers(layer: _Layer, images: int, image: Pair, chip: str) -> None:
    assert _check(layer, images, image, chip) == ["mix"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("result", ["fp16", "fp32"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_what_follows_is_in_the_program_too(layout: str, result: str, chip: str) -> None:
    """Its result lies where that of the convolution would, or not."""
    layer = _Layer(16, 32, layout=layout, behind=True, result=result)
    assert _check(layer, 2, (14, 12), chip) == ["mix"]
    assert _check(replace(layer, filters=300, stride=2), 1, (15, 9), chip) == ["mix"]


@pytest.mark.parametrize("dtype", ["int8", "fp32"])
@pytest.mark.parametrize("chip", CHIPS)
def test_images_of_another_type_are_cast_on_their_way(dtype: str, chip: str) -> None:
    assert _check(_Layer(16, 24, dtype=dtype), 2, (10, 10), chip) == ["mix"]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_all_programs_are_written(layout: str) -> None:
    """Kernels whole in L1, in parts, and with blocks of channels; one tile of filters for an image, or several."""
    chip, isa, found = the_chip("edge"), the_isa(), set()
    cases = [(16, 16, 3, 8), (64, 100, 3, 8), (512, 16, 5, 64), (700, 16, 5, 30)]
    cases += [(64, 2000, 1, 20), (128, 600, 3, 20), (16, 600, 3, 20)]
    for channels, filters, size, image in cases:
        layer = _Layer(channels, filters, (size, size), 1 if size > 1 else 2, size // 2, layout=layout)
        made = layer.kernel()
        (segment,) = join_relays(make_plan(made.graph, CASTS).segments)
        assert isinstance(segment, RelaySegment)
        names = (*made.graph.symbols(), *(each.name for each in made.graph.derived))
        family = ConvRelayFamily(segment, names, chip, isa)
        binding = made.bind(layer.shapes(8, (image, image)))
        values = [binding[name] for name in names]
        chosen = family.choose(values)
        if chosen is not None:
            family.image(values, chosen)
            found.add((chosen.nest, chosen.inside))
    assert {nest for nest, _ in found} == {0, 1, 2} and {inside for _, inside in found} == {False, True}


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
@pytest.mark.parametrize(("layout", "planes"), [("NCW", True), ("NWC", False)])
def test_one_dim(layout: str, planes: bool, chip: str) -> None:
    types = {
        "x": "fp16[N, 16, W]" if planes else "fp16[N, W, 16]",
        "w": "fp16[24, 16, 3]" if planes else "fp16[24, 3, 16]",
    }

    @kernel(**types)
    def layer(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        k.store(k.conv1d(k.sigmoid(k.load(x)), k.load(w), padding=2, layout=layout), "y")

    rng = np.random.default_rng(3)
    shapes = {"x": (2, 16, 37) if planes else (2, 37, 16), "w": (24, 16, 3) if planes else (24, 3, 16)}
    inputs = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    made = compile_kernel(layer, shapes, the_chip(chip), the_isa(), Pins(stack="mix"))
    assert [each.kind for each in made.launches] == ["mix"]
    got = run_compiled(made, inputs, the_chip(chip)).outputs["y"]
    np.testing.assert_allclose(got, interpret(layer.graph, inputs)["y"], rtol=4e-3, atol=4e-2)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    layer=st.builds(
        _Layer,
        channels=st.sampled_from([2, 3, 16, 33, 130]),
        filters=st.sampled_from([1, 2, 15, 33, 260]),
        size=st.tuples(st.integers(2, 4), st.integers(1, 3)),
        stride=st.integers(1, 3),
        padding=st.integers(0, 2),
        dilation=st.integers(1, 2),
        layout=st.sampled_from(["NHWC", "NCHW"]),
        bias=st.booleans(),
        behind=st.booleans(),
    ),
    images=st.integers(1, 3),
    image=st.tuples(st.integers(7, 24), st.integers(5, 24)),
    chip=st.sampled_from(CHIPS),
)
def test_random_layers(layer: _Layer, images: int, image: Pair, chip: str) -> None:
    assert _check(layer, images, image, chip) == ["mix"]


def test_the_host_decides_where_the_chip_is_not_faster() -> None:
    """A core with both units does one after the other, so one program pays as far as a launch is saved."""
    chip = the_chip("edge")
    small, large = _Layer(16, 16), _Layer(64, 200, stride=2)
    for layer, image, taken in ((small, (8, 8), True), (large, (28, 28), False)):
        report = fusion_report(layer.kernel().graph, layer.shapes(1, image), chip, the_isa())
        (decision,) = report.decisions
        assert decision.taken == taken and decision.together > 0
        kinds = [program.kind for program in report.programs]
        assert kinds == (["relay"] if taken else ["vector", "cube"])


def test_what_cannot_share_a_program_stays_apart() -> None:
    chip, isa = the_chip("edge"), the_isa()

    def kinds(made: Kernel, shapes: dict[str, tuple[int, ...]]) -> list[str]:
        return [each.kind for each in compile_kernel(made, shapes, chip, isa, Pins(stack="mix")).launches]

    grouped = _Layer(16, 32, groups=2)
    assert kinds(grouped.kernel(), grouped.shapes(1, (8, 8))) == ["vector", "cube"]
    shapes: dict[str, tuple[int, ...]] = {"x": (1, 16, 8, 8), "w": (16, 16, 3, 3)}
    types = {"x": "fp16[N, 16, H, W]", "w": "fp16[16, 16, 3, 3]"}

    @kernel(**types)
    def twice(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        made = k.exp(k.load(x))
        k.store(k.conv2d(made, k.load(w), padding=1), "y")
        k.store(made, "made")

    assert kinds(twice, shapes) == ["vector", "cube"]

    @kernel(**types)
    def kept(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        y = k.conv2d(k.exp(k.load(x)), k.load(w), padding=1)
        k.store(k.sigmoid(y), "y")
        k.store(y, "product")

    assert kinds(kept, shapes) == ["vector", "mix"]

    @kernel(**types, rows="fp16[H, 1]")
    def by_rows(k: KernelBuilder, x: ParamRef, w: ParamRef, rows: ParamRef) -> None:
        k.store(k.conv2d(k.load(x) * k.load(rows), k.load(w), padding=1), "y")

    assert kinds(by_rows, {**shapes, "rows": (8, 1)}) == ["vector", "cube"]


def test_an_operand_for_each_pixel_follows_the_windows() -> None:
    @kernel(x="fp16[N, 16, H, W]", w="fp16[16, 16, 3, 3]", mask="fp16[H, W]")
    def masked(k: KernelBuilder, x: ParamRef, w: ParamRef, mask: ParamRef) -> None:
        k.store(k.conv2d(k.load(x) * k.load(mask) + 1.0, k.load(w), padding=1), "y")

    rng = np.random.default_rng(3)
    shapes = {"x": (2, 16, 30, 11), "w": (16, 16, 3, 3), "mask": (30, 11)}
    inputs = {name: (rng.integers(-8, 9, shape) / 8).astype(np.float16) for name, shape in shapes.items()}
    for chip in CHIPS:
        made = compile_kernel(masked, shapes, the_chip(chip), the_isa(), Pins(stack="mix"))
        assert [each.kind for each in made.launches] == ["mix"]
        got = run_compiled(made, inputs, the_chip(chip)).outputs["y"]
        np.testing.assert_allclose(got, interpret(masked.graph, inputs)["y"], rtol=4e-3, atol=6e-2)


def test_nothing_to_compute_needs_no_program() -> None:
    layer = _Layer(16, 16)
    compiled = compile_kernel(layer.kernel(), layer.shapes(0, (8, 8)), the_chip("edge"), the_isa())
    assert not compiled.launches


def test_it_can_be_inspected() -> None:
    layer = replace(_Layer(16, 32), layout="NHWC")
    found = inspect_kernel(layer.kernel(), layer.shapes(1, (8, 8)), the_chip("ascend_910b1"), the_isa())
    (segment,) = found.segments
    assert segment.name == "v0+c0" and "pixels" in segment.tile and "channels" in segment.tile


def test_calls_behind_each_other_take_what_the_host_or_the_chip_takes() -> None:
    """A hundred cycles of the host for each launch, or thirty between programs of one launch."""
    apart, linked = LaunchCost(100.0, 0.0), LaunchCost(0.0, 30.0)
    assert [apart.repeated(each) for each in ((10.0, 60.0), (150.0, 60.0))] == [200.0, 210.0]
    assert [linked.repeated(each) for each in ((10.0, 60.0), (150.0,))] == [100.0, 150.0]


@pytest.mark.parametrize("chip", CHIPS)
def test_rings_of_one_slot(chip: str) -> None:
    layer = _Layer(16, 32)
    inputs = layer.inputs(2, (14, 12))
    shapes = {name: array.shape for name, array in inputs.items()}
    made = compile_kernel(layer.kernel(), shapes, the_chip(chip), the_isa(), Pins(stack="mix", buffering="single"))
    assert [each.kind for each in made.launches] == ["mix"]
    got = run_compiled(made, inputs, the_chip(chip)).outputs["y"]
    np.testing.assert_allclose(got.astype(np.float64), _numpy(layer, inputs), rtol=4e-3, atol=6e-2)


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
def test_it_joins_a_stack(chip: str) -> None:
    """Two layers in one launch, each with an activation before it, and the second with one behind it."""

    @kernel(x="fp16[N, 16, H, W]", w="fp16[24, 16, 3, 3]", v="fp16[16, 24, 3, 3]")
    def block(k: KernelBuilder, x: ParamRef, w: ParamRef, v: ParamRef) -> None:
        first = k.conv2d(k.relu(k.load(x) + 0.5), k.load(w), padding=1)
        pooled = k.max_pool(first, 2)
        k.store(k.relu(k.conv2d(k.relu(pooled) + 0.25, k.load(v), padding=1)), "y")

    rng = np.random.default_rng(3)
    shapes = {"x": (2, 16, 12, 10), "w": (24, 16, 3, 3), "v": (16, 24, 3, 3)}
    inputs = {name: (rng.integers(-4, 5, shape) / 8).astype(np.float16) for name, shape in shapes.items()}
    wanted = interpret(block.graph, inputs)["y"]
    for pins in (Pins(fusion="stack"), Pins(fusion="both"), None):
        made = compile_kernel(block, shapes, the_chip(chip), the_isa(), pins)
        got = run_compiled(made, inputs, the_chip(chip)).outputs["y"]
        np.testing.assert_allclose(got, wanted, rtol=4e-3, atol=4e-2)


def test_programs_are_linked_as_they_would_be_then() -> None:
    """Two launches of their own, or one with three programs, for whose images the host takes no time."""

    @kernel(x="fp16[N, 64, H, W]", scale="fp16[64, 1, 1]", w="fp16[64, 64, 3, 3]", v="fp16[64, 64, 3, 3]")
    def block(k: KernelBuilder, x: ParamRef, scale: ParamRef, w: ParamRef, v: ParamRef) -> None:
        value = k.load(x)
        inner = k.relu(k.conv2d(k.relu(value * k.load(scale)), k.load(w), padding=1))
        k.store(k.conv2d(inner, k.load(v), padding=1) + value, "y")

    shapes = {"x": (1, 64, 28, 28), "scale": (64, 1, 1), "w": (64, 64, 3, 3), "v": (64, 64, 3, 3)}
    counts = {
        fusion: len(compile_kernel(block, shapes, the_chip("ascend_910a"), the_isa(), Pins(fusion=fusion)).launches)
        for fusion in ("pattern", "both")
    }
    assert counts == {"pattern": 2, "both": 1}


@pytest.mark.parametrize("chip", CHIPS)
def test_what_padding_would_make_infinite_is_never_seen(chip: str) -> None:
    """Kernels of any size; of what stands outside the images, 0, this is infinite."""

    @kernel(ktype="mix", x="fp16[N, 16, H, W]", w="fp16[24, 16, R, S]")
    def layer(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        value = k.load(x)
        k.store(k.conv2d(1.0 / value + k.log(value), k.load(w), padding="same"), "y")

    rng = np.random.default_rng(3)
    shapes = {"x": (2, 16, 9, 11), "w": (24, 16, 3, 5)}
    inputs = {name: (rng.random(shape) + 0.5).astype(np.float16) for name, shape in shapes.items()}
    made = compile_kernel(layer, shapes, the_chip(chip), the_isa())
    assert [each.kind for each in made.launches] == ["mix"]
    got = run_compiled(made, inputs, the_chip(chip)).outputs["y"]
    np.testing.assert_allclose(got, interpret(layer.graph, inputs)["y"], rtol=4e-3, atol=4e-2)


def test_images_of_one_channel_stay_apart() -> None:
    layer = _Layer(1, 16)
    made = compile_kernel(layer.kernel(), layer.shapes(1, (8, 8)), the_chip("edge"), the_isa(), Pins(stack="mix"))
    assert [each.kind for each in made.launches] == ["vector", "cube"]
