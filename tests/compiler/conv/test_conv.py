"""Convolutions against windows multiplied in float64, on three chips with data, hazards and the verifier on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.compiler.conv.conv_run import Conv, Pair, check, close, conv_kernel
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import CHIPS, run_graph, the_chip, the_isa
from tests.isa.off import isa_without

from npuvm.compiler import CompileError, KernelBuilder, Value
from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.graph.ops_conv import product_sizes
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.program.kinds import compile_kernel
from npuvm.hw.config import load_chip
from npuvm.hw.simulator import EngineName, simulate

_SIZES = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 40)


@st.composite
def convs(draw: st.DrawFn) -> Conv:
    """Any convolution of a small image."""

    def pair(values: st.SearchStrategy[int]) -> Pair:
        return draw(values), draw(values)

    dtype = draw(st.sampled_from(["fp16", "bf16", "fp32", "int8"]))
    outs = ["int32"] if dtype == "int8" else ["fp32", "fp16", "bf16"]
    sums = "int32" if dtype == "int8" else "fp32"
    conv = Conv(
        images=draw(st.integers(0, 3)),
        size=pair(st.sampled_from(_SIZES)),
        channels=draw(st.sampled_from([1, 2, 3, 7, 16, 17, 40])),
        filters=draw(st.sampled_from([1, 2, 5, 16, 17, 33])),
        kernel=pair(st.integers(1, 4)),
        stride=pair(st.integers(1, 3)),
        pads=(pair(st.integers(0, 3)), pair(st.integers(0, 3))),
        dilation=pair(st.integers(1, 3)),
        groups=draw(st.sampled_from([1, 1, 2, 3])),
        dtype=dtype,
        out=draw(st.sampled_from(outs)),
        bias=draw(st.sampled_from([None, dtype, sums])),
        nchw=draw(st.booleans()),
    )
    spans = [(k - 1) * d + 1 for k, d in zip(conv.kernel, conv.dilation, strict=True)]
    assume(all(size + sum(pad) >= span for size, pad, span in zip(conv.size, conv.pads, spans, strict=True)))
    return conv


@given(conv=convs(), chip=st.sampled_from(CHIPS))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_convolution(conv: Conv, chip: str) -> None:
    _check_any(conv, chip)


@pytest.mark.slow
@given(conv=convs(), chip=st.sampled_from(CHIPS))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_convolutions(conv: Conv, chip: str) -> None:
    _check_any(conv, chip)


def _check_any(conv: Conv, chip: str) -> None:
    if conv.dtype not in the_chip(chip).core.cube.cycles_per_block:
        conv = replace(conv, dtype="fp16", out="fp16", bias=conv.bias and "fp16")
    check(conv, chip)


_PLAIN = {
    "several tiles": Conv(2, (20, 19), 24, 40, pads=((1, 1), (1, 1)), bias="fp16"),
    "a part of a row": Conv(1, (2, 700), 16, 8, pads=((1, 1), (1, 1))),
    "blocks of channels": Conv(1, (43, 33), 900, 4, (3, 2), pads=((1, 1), (0, 1)), dilation=(20, 30)),
    "depthwise": Conv(1, (6, 7), 1, 1, groups=20, pads=((1, 1), (1, 1))),
    "depthwise with steps": Conv(
        2, (9, 8), 1, 1, (2, 3), (2, 1), ((1, 0), (2, 1)), (1, 2), 17, bias="fp32", out="fp16"
    ),
    "depthwise integers": Conv(1, (5, 4), 1, 1, (3, 3), groups=5, dtype="int8", out="int32", bias="int8"),
    "one element": Conv(1, (1, 1), 1, 1, (1, 1)),
    "only padding in a window": Conv(1, (3, 3), 2, 3, (1, 1), (3, 3), ((4, 4), (4, 4))),
    "no channels": Conv(1, (3, 3), 0, 3, (2, 2)),
    "no channels, a bias": Conv(1, (3, 3), 0, 3, (2, 2), bias="fp16"),
    "no filters": Conv(1, (3, 3), 2, 0, (2, 2)),
    "no images": Conv(0, (3, 3), 2, 3, (2, 2)),
    "an empty image in padding": Conv(1, (0, 2), 2, 3, (2, 2), pads=((1, 1), (1, 1))),
    "long dilation": Conv(1, (50, 50), 3, 5, (3, 3), dilation=(18, 18), pads=((18, 18), (18, 18))),
}


CASES = _PLAIN | {f"{name}, channels first": replace(conv, nchw=True) for name, conv in _PLAIN.items()}


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", CASES)
def test_shapes_at_the_borders(name: str, chip: str) -> None:
    check(CASES[name], chip)


def test_tiles_of_every_kind_are_taken() -> None:
    """The cases above reach rows, parts of rows and blocks of channels."""
    assert conv_kernel(CASES["several tiles"], "edge").tile.rows > 1
    part = conv_kernel(CASES["a part of a row"], "edge")
    assert (part.tile.rows, part.tile.cols < part.spec.out[1]) == (1, True)
    for name in ("blocks of channels", "blocks of channels, channels first"):
        blocks = conv_kernel(CASES[name], "edge")
        assert blocks.tile.block < blocks.spec.channels
    tiles = [
        conv_kernel(CASES[f"{name}, channels first"], "edge").tile for name in ("several tiles", "a part of a row")
    ]
    assert [tile.whole for tile in tiles] == [True, False]


def test_a_kernel_of_one_pixel_is_a_matrix_product() -> None:
    for nchw in (False, True):
        ran = check(Conv(2, (4, 5), 20, 9, (1, 1), bias="fp16", out="fp16", nchw=nchw), "edge")
        assert not any(isinstance(each, ConvSegment) for each in ran.plan.segments)


@pytest.mark.parametrize("nchw", [False, True])
def test_neither_order_of_channels_needs_a_copy(nchw: bool) -> None:
    plain = Conv(1, (4, 5), 4, 6, bias="fp16", nchw=nchw)
    assert [each.name for each in make_plan(plain.graph(), CASTS).segments] == ["c0"]
    # Another type of the bias than the operands' is added by the vector unit where it stands along the rows of the product.
    wide = make_plan(replace(plain, bias="fp32").graph(), CASTS).segments
    assert [each.name for each in wide] == (["c0", "v0"] if nchw else ["c0"])


@pytest.mark.parametrize("layout", ["NCW", "NWC"])
@pytest.mark.parametrize(("padding", "pads", "stride"), [(2, (2, 2), 2), ([(1, 3)], (1, 3), 3), ("same", (1, 2), 1)])
def test_along_one_dim(layout: str, padding: Any, pads: Pair, stride: int) -> None:
    conv = Conv(2, (1, 23), 6, 5, (1, 4), (1, stride), ((0, 0), pads), out="fp16")
    first = layout == "NCW"
    types = {"x": "fp16[N, 6, W]", "w": "fp16[5, 6, 4]"} if first else {"x": "fp16[N, W, 6]", "w": "fp16[5, 4, 6]"}
    graph = build(lambda k, x, w: k.store(k.conv1d(x, w, stride=stride, padding=padding, layout=layout)), **types)
    given = conv.arrays()
    want, inputs = conv.expected(given)[:, 0], {name: each[:, 0] for name, each in given.items()}
    if first:
        inputs = {name: np.ascontiguousarray(each.swapaxes(1, 2)) for name, each in inputs.items()}
        want = want.swapaxes(1, 2)
    close(conv, run_graph(graph, inputs, the_chip("edge")).outputs["out0"], want)


def test_sizes_of_the_result_are_symbols() -> None:
    graph = Conv(stride=(2, 1), pads=((1, 1), (0, 2))).graph()
    for size in ((7, 4), (8, 9)):
        shapes = {"x": (3, *size, 3), "w": (4, 3, 3, 3)}
        want = (3, (size[0] + 2 - 3) // 2 + 1, size[1] + 2 - 3 + 1, 4)
        assert graph.output_shapes(graph.bind(shapes)) == {"out0": want}
    with pytest.raises(CompileError, match="is no size"):
        graph.bind({"x": (1, 0, 0, 3), "w": (4, 3, 3, 3)})


@pytest.mark.parametrize(
    ("conv", "message"),
    [
        (Conv(out="int32"), "conv2d of fp16 cannot give int32; allowed: fp32, fp16, bf16"),
        (Conv(bias="int32"), "must be fp16 or fp32 with the shape"),
        (Conv(stride=(0, 1)), "whole numbers >= 1"),
        (Conv(pads=((-1, 0), (0, 0))), "must be one number >= 0"),
    ],
)
def test_what_cannot_be(conv: Conv, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        conv.graph()


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_same_size_for_kernels_of_any_size(layout: str, chip: str) -> None:
    planes = layout == "NCHW"
    types = (
        {"x": "fp16[N, C, H, W]", "w": "fp16[O, C, A, B]"}
        if planes
        else {"x": "fp16[N, H, W, C]", "w": "fp16[O, A, B, C]"}
    )
    graph = build(
        lambda k, x, w: k.store(k.conv2d(x, w, padding="same", dilation=(1, 2), layout=layout, dtype="fp32")), **types
    )
    assert graph.outputs[0].type.shape == (("N", "O", "H", "W") if planes else ("N", "H", "W", "O"))
    for kernel in ((1, 1), (2, 3), (5, 4)):
        spans = [(size - 1) * far for size, far in zip(kernel, (1, 2), strict=True)]
        pads = tuple((span // 2, span - span // 2) for span in spans)
        conv = Conv(2, (9, 8), 3, 5, kernel, pads=(pads[0], pads[1]), dilation=(1, 2), nchw=planes)
        given = conv.arrays()
        want = conv.expected(given)
        got = run_graph(graph, conv.inputs(), the_chip(chip)).outputs["out0"]
        close(conv, got, want.transpose(0, 3, 1, 2) if planes else want)


def test_groups_must_divide_channels_and_filters() -> None:
    with pytest.raises(CompileError, match="in 2 groups: x has 5 channels, a kernel 2"):
        build(lambda k, x, w: k.store(k.conv2d(x, w, groups=2)), x="fp16[1, 5, 4, 4]", w="fp16[4, 2, 3, 3]")
    for layout, shapes in (("NHWC", ("1, 4, 4, 5", "4, 3, 3, 1")), ("NCHW", ("1, 5, 4, 4", "4, 1, 3, 3"))):
        with pytest.raises(CompileError, match="in 4 groups: x has 5 channels, a kernel 1"):
            build(
                lambda k, x, w, layout=layout: k.store(k.conv2d(x, w, groups=4, layout=layout)),
                x=f"fp16[{shapes[0]}]",
                w=f"fp16[{shapes[1]}]",
            )
    with pytest.raises(CompileError, match="'same' needs stride 1"):
        build(
            lambda k, x, w: k.store(k.conv2d(x, w, padding="same", stride=2)),
            x="fp16[1, 5, 4, 4]",
            w="fp16[4, 5, 3, 3]",
        )


def test_pins() -> None:
    conv = Conv(2, (9, 9), 8, 8)
    assert len(conv_kernel(conv, "ascend_910a", Pins(cores=2)).image.entries) == 2
    with pytest.raises(CompileError, match="pin grid"):
        conv_kernel(conv, "ascend_910a", Pins(grid=(2, 1)))
    with pytest.raises(CompileError, match="at most 1 cores"):
        conv_kernel(conv, "edge", Pins(cores=2))


@pytest.mark.parametrize("nchw", [False, True])
def test_a_convolution_can_be_inspected(nchw: bool) -> None:
    conv = Conv(2, (9, 9), 8, 8, bias="fp16", nchw=nchw)
    seen = inspect_kernel(conv.graph(), conv.shapes(), the_chip("edge"), the_isa())
    (segment,) = seen.segments
    assert "pixels" in segment.tile
    assert {each.name for each in segment.buffers} >= {"l1.a", "l1.b", "l1.bias", "l0a", "l0b", "l0c"}


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("nchw", [False, True])
def test_both_engines_say_the_same_cycles(chip: str, nchw: bool) -> None:
    image = conv_kernel(replace(CASES["several tiles"], nchw=nchw), chip).image
    addresses = [1 << 20, 2 << 20, 3 << 20, 4 << 20]
    engines: tuple[EngineName, EngineName] = ("simpy", "compiled")
    runs = [
        simulate(the_chip(chip), the_isa(), image, addresses=addresses, data=False, engine=engine) for engine in engines
    ]
    assert runs[0].cycles == runs[1].cycles
    assert runs[0].bytes == runs[1].bytes


@pytest.mark.parametrize("nchw", [False, True])
def test_the_work_of_a_convolution_is_that_of_its_products(nchw: bool) -> None:
    conv = Conv(2, (5, 6), 3, 4, (3, 2), groups=5, nchw=nchw)
    graph = conv.graph()
    node = next(each for each in graph.nodes if each.op == "conv2d")
    assert product_sizes(node, graph.bind(conv.shapes())) == (5, 2 * 3 * 5, 4, 3 * 3 * 2)


@pytest.mark.parametrize("nchw", [False, True])
def test_parts_of_values_in_and_out(nchw: bool) -> None:
    """Strided parts of an image are read where they lie, and a result is written into its part of another."""
    order = (0, 2, 3, 1) if nchw else (0, 1, 2, 3)  # where images, rows, columns, channels stand

    def part(*bounds: slice) -> tuple[slice, ...]:
        return tuple(bounds[at] for at in sorted(range(4), key=order.__getitem__))

    every = slice(None)
    steps = part(every, slice(1, None), slice(None, None, 2), slice(2, 6))
    rest = part(slice(1, None), every, slice(3, None), slice(4, None))

    def body(k: KernelBuilder, x: Value, w: Value) -> None:
        layout = "NCHW" if nchw else "NHWC"
        k.store(k.conv2d(x[steps], w, padding=1, layout=layout))
        k.store(k.concat([k.conv2d(x[rest], w, padding=1, layout=layout), k.relu(x[rest])], axis=order[3]))

    conv = Conv(3, (9, 11), 4, 6, pads=((1, 1), (1, 1)), nchw=nchw, out="fp16")
    types = (
        {"x": "fp16[N, 8, H, W]", "w": "fp16[6, 4, 3, 3]"}
        if nchw
        else {"x": "fp16[N, H, W, 8]", "w": "fp16[6, 3, 3, 4]"}
    )
    wide = replace(conv, channels=8).inputs()
    inputs = {"x": wide["x"], "w": conv.inputs()["w"]}
    last = {name: each.transpose(0, 2, 3, 1) if nchw else each for name, each in inputs.items()}
    wanted = [
        conv.expected({"x": last["x"][:, 1:, ::2, 2:6], "w": last["w"]}),
        conv.expected({"x": last["x"][1:, :, 3:, 4:], "w": last["w"]}),
    ]
    ran = run_graph(build(body, **types), inputs, the_chip("edge"))
    got = [each.transpose(0, 2, 3, 1) if nchw else each for each in ran.outputs.values()]
    close(conv, got[0], wanted[0])
    close(conv, got[1][..., :6], wanted[1])
    np.testing.assert_array_equal(got[1][..., 6:], np.maximum(last["x"][1:, :, 3:, 4:], 0))
    assert [type(each) for each in ran.plan.segments].count(ConvSegment) == 2
    # Pixels that are not adjacent have to be copied where those of a row must be.
    assert sum(not isinstance(each, ConvSegment) for each in ran.plan.segments) == (2 if nchw else 1)


def test_without_its_instruction_a_convolution_is_refused() -> None:
    conv = Conv()
    with pytest.raises(CompileError, match="needs the instruction mvim2col, whose feature im2col is off"):
        compile_kernel(conv.graph(), conv.shapes(), the_chip("edge"), isa_without("im2col"))


def test_a_kernel_that_fits_no_buffer_is_refused() -> None:
    conv = Conv(size=(1, 9000), kernel=(1, 9000), channels=16)
    with pytest.raises(
        CompileError, match=r"no tile of a convolution with a kernel of .* fits core.l1_kib=256 of edge"
    ):
        compile_kernel(conv.graph(), conv.shapes(), the_chip("edge"), the_isa())


@pytest.mark.parametrize("l1_kib", [1, 8])
def test_a_chip_without_room_for_a_tile_is_refused(l1_kib: int) -> None:
    """Not even tiles of one block have room; or those have, but none with rows of an image and a part of the kernels beside."""
    conv, chip = Conv(size=(30, 40), channels=2048, filters=300), load_chip("edge", [f"core.l1_kib={l1_kib}"])
    message = f"no tile of a convolution with a kernel of .* fits core.l1_kib={l1_kib} of edge"
    with pytest.raises(CompileError, match=message):
        compile_kernel(conv.graph(), conv.shapes(), chip, the_isa())
