"""Machine code chooses the tiles of convolutions that Python chooses, to the last word, with the same estimates."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from math import exp, log
from typing import Any

import pytest
from benchmarks.compiling.kernels import Shapes, Subject
from tests.compiler.native.test_choices import images, in_python
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import CompileError, compile_kernel
from npuvm.compiler.conv.codegen import conv_problem
from npuvm.compiler.conv.native import NativeChoice
from npuvm.compiler.conv.plan import ConvTile, ConvTileChooser
from npuvm.compiler.conv.spec import ConvSizes, ConvSpec, ImageView, sizes_of
from npuvm.compiler.cube.spec import MatView
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.native.conv_layout import TOO_LARGE
from npuvm.compiler.native.loading import load_native, unload_native
from npuvm.hw.config import NpuConfig, load_chip

pytest.importorskip("numba")

__all__ = ["in_python"]

_COUNT, _PROGRAMS = 120, 12

_OTHERS = (
    ("ascend_910b1", "memory.address_hash=false", "core.count=7", "memory.l2.capacity_mib=1"),
    ("edge", "core.load.chunk_bytes=512", "memory.l2.unaligned_reads=uncached", "core.l1_kib=96", "core.l0c_kib=32"),
)
"""Shipped chips with other numbers: rows that meet in slices, and are read past L2 there, short requests, little room."""


def _last(k: Any, x: Any, w: Any) -> None:
    k.store(k.conv2d(k.load(x), k.load(w), padding=1, layout="NHWC"))


def _first(k: Any, x: Any, w: Any) -> None:
    k.store(k.conv2d(k.load(x), k.load(w), stride=(2, 1), padding=1))


def _one_row(k: Any, x: Any, w: Any) -> None:
    k.store(k.conv1d(k.load(x), k.load(w), stride=2, dilation=2, groups=2, layout="NWC", padding=4))


def _behind(k: Any, x: Any, w: Any) -> None:
    image = k.gelu(k.load(x), approximate="tanh")
    k.store(k.conv2d(image, k.load(w), padding=1, layout="NHWC"))


def _before(k: Any, x: Any, w: Any) -> None:
    k.store(k.gelu(k.conv2d(k.load(x), k.load(w), padding=1, layout="NHWC"), approximate="tanh"))


_ROWS = {"x": "fp16[N, H, W, 40]", "w": "fp16[72, 3, 3, 40]"}
_KERNELS = {
    "last": Subject("last", 1, _ROWS, _last),
    "first": Subject("first", 1, {"x": "fp16[N, 40, H, W]", "w": "fp16[72, 40, 3, 3]"}, _first),
    "one row": Subject("one_row", 1, {"x": "fp16[N, W, 48]", "w": "fp16[72, 5, 24]"}, _one_row),
    "behind gelu": Subject("behind", 2, _ROWS, _behind),
    "before gelu": Subject("before", 2, _ROWS, _before),
}


@cache
def _mutated(number: int) -> NpuConfig:
    name, *changes = _OTHERS[number]
    return load_chip(name, changes)


def _spread(source: random.Random, most: int) -> int:
    """From 1 up, spread evenly over logarithms."""
    return round(exp(source.uniform(0, log(most))))


def _drawn(source: random.Random, planes: bool, bias: str | None = None) -> ConvSpec:
    """A convolution of random sizes, one in five of a row; channels or rows may be apart, kernels high."""
    while True:
        images, c, o, groups = (_spread(source, most) for most in (40, 600, 600, 3))
        h, w = (1, _spread(source, 3000)) if source.random() < 0.2 else (_spread(source, 300), _spread(source, 300))
        kernel = _spread(source, 150 if source.random() < 0.05 else 7), _spread(source, 7)
        strides = _spread(source, 4), _spread(source, 4)
        dilations = (1, 1) if source.random() < 0.6 else (_spread(source, 5), _spread(source, 5))
        pads = source.randrange(4), source.randrange(4)
        high, wide = (
            (size + 2 * pad - (taps - 1) * far - 1) // stride + 1
            for size, pad, taps, far, stride in zip((h, w), pads, kernel, dilations, strides, strict=True)
        )
        if high > 0 and wide > 0:
            break
    apart = source.choice((0, 0, 0, 3, 16))
    if planes:
        x = ImageView(0, "fp16", groups * c * h * w, w + apart, 1, h * (w + apart))
        y = ImageView(2, "fp16", groups * o * high * wide, wide, 1, high * wide)
    else:
        x = ImageView(0, "fp16", h * w * groups * c, w * groups * (c + apart), groups * c + apart)
        y = ImageView(2, "fp16", high * wide * groups * o, wide * groups * o, groups * o)
    return ConvSpec(
        images, (h, w), (high, wide), kernel, strides, dilations, pads, c, o, groups, x,
        MatView(1, "fp16", kernel[0] * kernel[1] * c, 1), y, None if bias is None else MatView(3, bias, 0, 1), planes,
    )  # fmt: skip


def _choosers(
    npu: NpuConfig, spec: ConvSpec, prefers_rows: bool = False, buffering: str | None = None
) -> tuple[ConvTileChooser, ConvTileChooser]:
    """The same choice in Python and by machine code."""
    problem, cores = conv_problem(spec, npu, the_isa(), Pins(buffering=buffering)), npu.cores_with("cube")
    unload_native()
    plain = ConvTileChooser(problem, spec.planes, cores, prefers_rows)
    load_native()
    return plain, ConvTileChooser(problem, spec.planes, cores, prefers_rows)


def _chosen(chooser: ConvTileChooser, sizes: ConvSizes) -> ConvTile | str:
    try:
        return chooser.choose(sizes, "conv")
    except CompileError as error:
        return str(error)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ConvSizes]]:
    """The sizes that machine code has chosen for, or left to Python, which it must not be in these tests."""
    found: list[ConvSizes] = []
    best = NativeChoice.best

    def noted(self: NativeChoice, sizes: ConvSizes, *others: object) -> object:
        found.append(sizes)
        result = best(self, sizes, *others)  # type: ignore[arg-type]
        assert result[-1] != TOO_LARGE
        return result

    monkeypatch.setattr(NativeChoice, "best", noted)
    yield found


@pytest.mark.parametrize("bias", [None, "fp16", "fp32"])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("chip", [*CHIPS, *range(len(_OTHERS))])
def test_machine_code_chooses_the_same_tiles(
    chip: str | int, planes: bool, bias: str | None, asked: list[ConvSizes]
) -> None:
    npu, source = _mutated(chip) if isinstance(chip, int) else the_chip(chip), random.Random(f"{chip}{planes}{bias}")
    plain, fast = _choosers(npu, _drawn(source, planes, bias))
    found = set()
    for _ in range(_COUNT):
        sizes = sizes_of(_drawn(source, planes, bias))
        tile = _chosen(plain, sizes)
        assert _chosen(fast, sizes) == tile, sizes
        found.add(tile)
    assert len(found) > _COUNT / 2 and len(asked) >= _COUNT
    kinds = {(each.whole, each.l0c_depth) for each in found if isinstance(each, ConvTile)}
    assert {whole for whole, _ in kinds} == {False, True}


@pytest.mark.parametrize("buffering", [None, "single"])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("chip", CHIPS)
def test_tiles_of_whole_rows_and_of_one_slot(
    chip: str, planes: bool, buffering: str | None, asked: list[ConvSizes]
) -> None:
    """What a mix and a relay ask for, and programs whose rings have one slot."""
    source = random.Random(f"{chip}{planes}{buffering}")
    plain, fast = _choosers(the_chip(chip), _drawn(source, planes), True, buffering)
    for _ in range(_COUNT):
        sizes = sizes_of(_drawn(source, planes))
        assert _chosen(fast, sizes) == _chosen(plain, sizes), sizes
    assert len(asked) >= _COUNT


@pytest.mark.parametrize("chip", CHIPS)
def test_kernels_of_many_rows_are_refused_alike(chip: str) -> None:
    """Where only a part of a row has room, and rows of a kernel are too many to load one by one; or nothing has room."""
    spec = _drawn(random.Random(1), False)
    plain, fast = _choosers(the_chip(chip), spec)
    wide = sizes_of(spec)._replace(
        size=(9000, 9000),
        out=(8000, 8000),
        strides=(1, 1),
        dilations=(1, 1),
        channels=16,
        rows=(0, 0),
        rows_apart=(1, 1),
    )
    found = []
    for kernel in ((100, 1), (101, 1), (400, 400)):
        sizes = wide._replace(kernel=kernel, depth=kernel[0] * kernel[1] * 16)
        found.append(_chosen(fast, sizes))
        assert found[-1] == _chosen(plain, sizes)
    assert isinstance(found[0], ConvTile) and not found[0].whole
    assert all(isinstance(each, str) and "fits core.l1_kib" in each for each in found[1:])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", ["last", "first", "one row", "behind gelu", "before gelu"])
def test_machine_code_makes_the_same_programs(name: str, chip: str) -> None:
    """Of kernels with a convolution by itself, between others in a relay, and before others in a mix."""
    source, npu, isa = random.Random(name), the_chip(chip), the_isa()
    shapes: list[Shapes] = []
    for _ in range(_PROGRAMS):
        count, size = _spread(source, 20), (_spread(source, 60), _spread(source, 60))
        if name == "first":
            shapes.append({"x": (count, 40, *size), "w": (72, 40, 3, 3)})
        elif name == "one row":
            shapes.append({"x": (count, 3 * size[0] + 4, 48), "w": (72, 5, 24)})
        else:
            shapes.append({"x": (count, *size, 40), "w": (72, 3, 3, 40)})
    expected = [images(compile_kernel(_KERNELS[name].make(), each, npu, isa)) for each in shapes]
    load_native()
    made = _KERNELS[name].make()
    assert [images(compile_kernel(made, each, npu, isa)) for each in shapes] == expected


def test_sizes_without_end_are_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes whose products are past what integers of 64 bits, or floats, count; and more cycles than that."""
    spec = _drawn(random.Random(2), False)
    plain, fast = _choosers(the_chip(CHIPS[1]), spec)
    sizes = sizes_of(spec)
    results: list[tuple[int, ...]] = []
    best = NativeChoice.best

    def noted(self: NativeChoice, *asked: Any) -> tuple[int, ...]:
        results.append(best(self, *asked))
        return results[-1]

    monkeypatch.setattr(NativeChoice, "best", noted)
    deep = sizes._replace(kernel=(7, 7), channels=1 << 29, depth=49 << 29)
    for other in (
        sizes._replace(images=1 << 30),
        *(sizes._replace(target=1 << bits) for bits in (30, 31, 32, 62, 63, 64, 70)),
        sizes._replace(adjacent=1 << 63),
        sizes._replace(dilations=(1 << 29, 1), kernel=(3, 1)),
        sizes._replace(images=1 << 29, filters=1 << 20),
        sizes._replace(out=(1 << 20, 1 << 20), images=1 << 14),
        deep._replace(images=1 << 29, out=(1 << 9, 1 << 9), filters=1 << 5),
    ):
        assert _chosen(fast, other) == _chosen(plain, other)
        assert results.pop()[-1] == TOO_LARGE, other
    assert plain.choose(other, "conv").cycles > 1 << 62
