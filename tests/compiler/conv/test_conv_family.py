"""Convolutions planned once: every loop nest against the oracle, and what is left to code that is written for a shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.compiler.conv.conv_run import Conv, check, close, conv_kernel
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import CHIPS, limits_of, run_graph, the_chip, the_isa

from npuvm.compiler import CompileError, KernelBuilder, Value, compile_kernel
from npuvm.compiler.conv.family import ConvFamily
from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.program.family import KernelFamily
from npuvm.isa import Image
from npuvm.isa.verifier import verify


def family(conv: Conv, chip: str = "edge") -> tuple[ConvFamily, tuple[int, ...]]:
    """The family of a convolution, and the values of its symbols for its own sizes."""
    graph = conv.graph()
    segment = next(each for each in make_plan(graph, CASTS).segments if isinstance(each, ConvSegment))
    binding = graph.bind(conv.shapes())
    return ConvFamily(segment, tuple(binding), the_chip(chip), the_isa()), tuple(binding.values())


def instance(conv: Conv, chip: str = "edge") -> Image | None:
    made, values = family(conv, chip)
    return made.instance(values)


_PADS = ((1, 1), (1, 1))
_NESTS = {
    # A part of a row is what is left where a single whole row has no room.
    (True, "all"): Conv(2, (13, 17), 24, 40, pads=_PADS, bias="fp16"),
    (True, "parts"): Conv(1, (9, 10), 64, 100, pads=_PADS),
    (True, "blocks"): Conv(1, (9, 40), 1200, 20, (3, 3), (1, 1), _PADS, (3, 2)),
    (False, "all"): Conv(1, (2, 900), 3, 8, pads=_PADS, bias="fp32"),
    (False, "parts"): Conv(1, (2, 500), 40, 200, (3, 5), (2, 1), ((2, 2), (3, 0)), groups=2),
    (False, "blocks"): Conv(1, (41, 200), 700, 4, (3, 2), pads=((1, 1), (0, 1)), dilation=(20, 30)),
}


def _nest(conv: Conv) -> tuple[bool, str]:
    tile, spec = conv_kernel(conv, "edge").tile, conv_kernel(conv, "edge").spec
    kind = "blocks" if tile.block < spec.channels else "parts" if tile.chunk < spec.depth else "all"
    return tile.whole, kind


@pytest.mark.parametrize("nchw", [False, True])
@pytest.mark.parametrize("nest", _NESTS)
def test_every_loop_nest_computes_the_convolution(nest: tuple[bool, str], nchw: bool) -> None:
    conv = replace(_NESTS[nest], nchw=nchw)
    assert _nest(conv) == nest
    assert instance(conv) is not None
    check(conv, "edge")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("nchw", [False, True])
def test_shapes_in_turn_from_one_plan(chip: str, nchw: bool) -> None:
    """Code has the same length whatever the size, and every program passes the verifier."""
    conv = Conv(1, (8, 8), 40, 48, pads=_PADS, bias="fp16", nchw=nchw)
    graph = conv.graph()
    made = KernelFamily(graph, the_chip(chip), the_isa())
    words = {}
    for images, size in ((1, (1, 1)), (2, (7, 9)), (500, (64, 64)), (9, (5, 20_000))):
        shapes = replace(conv, images=0, size=size).shapes()
        (launch,) = made.compile(shapes | {"x": (images, *shapes["x"][1:])}).launches
        words[images, size] = len(launch.image.words)
        verify(the_isa(), launch.image, limits_of(chip))
    assert len(set(words.values())) <= 3


def test_kernels_of_one_sort_share_templates() -> None:
    first, _ = family(Conv(2, (20, 20), 24, 40, (3, 3), (2, 1), _PADS, (1, 2)))
    other, _ = family(Conv(1, (9, 5), 7, 3, (3, 1), pads=((0, 2), (4, 0))))
    groups, _ = family(Conv(1, (9, 5), 7, 3, (3, 1), groups=2))
    assert first._programs is not None and other._programs is not None and groups._programs is not None
    templates = first._programs.templates
    assert all(other._programs.templates[key] is template for key, template in templates.items())
    assert not any(groups._programs.templates[key] is template for key, template in templates.items())


@pytest.mark.parametrize(
    "conv",
    [
        Conv(1, (3, 3), 0, 3, (2, 2), bias="fp16"),
        Conv(1, (3, 3), 2, 0, (2, 2)),
        Conv(0, (3, 3), 2, 3, (2, 2)),
        Conv(1, (2, 0), 2, 3, (2, 2), pads=_PADS),
        Conv(1, (3, 4), 2, 3, (2, 2), stride=(70_000, 1)),
    ],
)
def test_what_templates_leave_to_code_for_a_shape(conv: Conv) -> None:
    assert instance(conv) is None
    check(conv, "edge")


def test_a_stride_beyond_its_field_is_refused_where_it_is_taken() -> None:
    conv = Conv(1, (70_004, 4), 2, 3, (2, 2), stride=(70_000, 1))
    with pytest.raises(CompileError, match="a stride of 70000; allowed: at most 65535"):
        compile_kernel(conv.graph(), conv.shapes(), the_chip("edge"), the_isa())


def test_symbols_of_channels_and_filters() -> None:
    """All sizes but the kernel's may be symbols."""

    def body(k: KernelBuilder, x: Value, w: Value) -> None:
        k.store(k.conv2d(x, w, stride=2, padding=1, layout="NHWC", dtype="fp32"))

    graph = build(body, x="fp16[N, H, W, C]", w="fp16[O, 3, 3, C]")
    made = KernelFamily(graph, the_chip("edge"), the_isa())
    for images, size, channels, filters in ((1, (4, 6), 3, 5), (2, (9, 7), 40, 17), (1, (5, 60), 700, 90)):
        conv = Conv(images, size, channels, filters, (3, 3), (2, 2), _PADS)
        (launch,) = made.compile(conv.shapes()).launches
        # The same program as where they are numbers, so its results are checked there.
        assert np.array_equal(launch.image.words, _words(instance(conv)))
        check(conv, "edge")


@pytest.mark.parametrize("nchw", [False, True])
def test_sizes_of_the_kernel_may_be_symbols(nchw: bool) -> None:
    """One plan for all of them; only tiles that are parts of a row are written for their shape."""
    free = (
        {"x": "fp16[N, 5, H, W]", "w": "fp16[6, 5, P, Q]"}
        if nchw
        else {"x": "fp16[N, H, W, 5]", "w": "fp16[6, P, Q, 5]"}
    )

    def body(k: KernelBuilder, x: Value, w: Value) -> None:
        layout = "NCHW" if nchw else "NHWC"
        k.store(k.conv2d(x, w, stride=(2, 1), padding=1, dilation=(1, 2), layout=layout, dtype="fp32"))

    graph = build(body, **free)
    made = KernelFamily(graph, the_chip("edge"), the_isa())
    lengths = set()
    for size, taps in (((7, 9), (1, 1)), ((7, 9), (3, 2)), ((20, 31), (5, 7)), ((3, 4001), (2, 1))):
        conv = Conv(2, size, 5, 6, taps, (2, 1), _PADS, (1, 2), nchw=nchw)
        ran = run_graph(graph, conv.inputs(), the_chip("edge"))
        want = conv.expected(conv.arrays())
        close(conv, ran.outputs["out0"], want.transpose(0, 3, 1, 2) if nchw else want)
        (launch,) = made.compile(conv.shapes()).launches
        lengths.add((size[1] > 4000, len(launch.image.words)))
    # One or two nests of whole rows, and one of parts of a row.
    assert len(lengths) in (2, 3)
    with pytest.raises(CompileError, match="-1 is no size"):
        graph.bind(Conv(1, (7, 9), 5, 6, (0, 3), nchw=nchw).shapes())


def test_tall_kernels_take_whole_rows() -> None:
    """Of parts of rows the code would need more descriptors than there are."""
    conv = Conv(1, (140, 5), 2, 3, (130, 2))
    assert instance(conv) is not None
    check(conv, "edge")


def _words(image: Image | None) -> Any:
    assert image is not None
    return image.words


@pytest.mark.parametrize("chip", CHIPS)
def test_code_for_one_shape_walks_the_same_tiles(chip: str) -> None:
    """It is written by the same code with the numbers themselves."""
    conv = Conv(3, (20, 21), 24, 40, pads=_PADS)
    free, own = instance(conv, chip), conv_kernel(conv, chip).image
    assert free is not None
    assert [each.ranges for each in free.entries] == [each.ranges for each in own.entries]
