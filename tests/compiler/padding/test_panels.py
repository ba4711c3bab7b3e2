"""Products whose operands are copied beside them, panel by panel: corners worked out by hand, the same bits, no hazards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.compiler.padding.test_padding import filled, flipped, plain, whole_numbers
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import the_chip, the_isa

from npuvm.compiler import (
    CompiledKernel,
    Kernel,
    KernelBuilder,
    ParamRef,
    Pins,
    compile_kernel,
    compile_stack,
    kernel,
    sequence,
)
from npuvm.compiler.cube.problem import CubeTile
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.padding import corners, panels
from npuvm.compiler.padding.corners import Corner, Whole, choose_corner
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.runtime import Device

_ALWAYS, _APART = Pins(pad="always"), Pins(pad="always", stack="launches")
_PANELS = ["c0.pad_a", "c0.pad_b", "c0.corner", "c0.pad_a.rows", "c0.rows", "c0.pad_b.columns", "c0.columns"]

_SIZES = ((600, 1101, 77), (333, 450, 201), (901, 300, 130), (400, 777, 333), (1030, 901, 33))
"""m, n and k of products that are in two or three panels on two core groups."""


def test_the_corner_with_the_lowest_estimate() -> None:
    """64 tiles on 4 cores are 16 rounds of 100,000 cycles. 2 x 2 tiles: copies of a quarter of both, 200,000 cycles; the
    other rows take 300,000 to copy beside the corner; other 12 tiles of its columns 3 rounds, 48 of the other columns 12;
    two more joins of 2,000."""
    tile = CubeTile((10, 10, 64), (10, 10, 16), 1, 1_600_000)
    assert choose_corner(Whole(80, 80, tile, (400_000, 400_000), 300), 4) == Corner(20, 20, 2_004_000)


def test_the_corner_with_one_copy_has_all_of_the_other_operand() -> None:
    """Rows of 8 tiles are 2 rounds: one of 8 copied before, the others beside 2.3 rounds, and 14 rounds behind."""
    tile = CubeTile((10, 10, 64), (10, 10, 16), 1, 1_600_000)
    cycles = 50_000 + 350_000 + 1_400_000 + 2_000
    found = (
        choose_corner(Whole(80, 77, tile, (400_000, 0), 300), 4),
        choose_corner(Whole(77, 80, tile, (0, 400_000), 300), 4),
    )
    assert [(each.rows, each.cols) for each in found if each is not None] == [(10, 77), (77, 10)]
    assert [each.cycles for each in found if each is not None] == pytest.approx([cycles * 1.01] * 2)


@pytest.mark.parametrize("copies", [(0, 0), (9_000, 9_000), (12_000, 12_000)])
def test_there_are_none_where_copies_take_little(copies: tuple[float, float]) -> None:
    tile = CubeTile((10, 10, 64), (10, 10, 16), 1, 1_600_000)
    assert choose_corner(Whole(80, 80, tile, copies, 300), 4) is None


def test_there_are_none_in_less_than_a_round() -> None:
    tile = CubeTile((10, 10, 64), (10, 10, 16), 1, 100_000)
    assert choose_corner(Whole(20, 10, tile, (400_000, 400_000), 300), 4) is None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[NpuConfig]:
    """Two core groups, on which any product of a few tiles is in panels."""
    monkeypatch.setattr(corners, "_WORTH", 1e-3)
    monkeypatch.setattr(corners, "_LEAST", -1e12)
    yield load_chip("ascend_910b1", ["core.count=2"])


def made_for(made: Kernel, sizes: dict[str, int], chip: NpuConfig, pins: Pins) -> CompiledKernel:
    inputs = filled(made, sizes)
    return compile_kernel(made, {name: each.shape for name, each in inputs.items()}, chip, the_isa(), pins)


@pytest.mark.parametrize("made", [plain, flipped, whole_numbers], ids=lambda each: each.name)
def test_panels_have_the_bits_of_one_product(small: NpuConfig, made: Kernel) -> None:
    """Run by `run_compiled`, which verifies the launch and looks for hazards."""
    counts = set()
    for m, n, k in _SIZES:
        inputs = filled(made, {"M": m, "N": n, "K": k})
        shapes = {name: each.shape for name, each in inputs.items()}
        want = run_compiled(compile_kernel(made, shapes, small, the_isa(), Pins(pad="never")), inputs, small).outputs
        joined = compile_kernel(made, shapes, small, the_isa(), _ALWAYS)
        assert len(joined.launches) == 1
        counts.add(len(made_for(made, {"M": m, "N": n, "K": k}, small, _APART).launches))
        got = run_compiled(joined, inputs, small).outputs
        np.testing.assert_array_equal(got["y"], want["y"])
        if made is plain:
            exact = inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64)
            np.testing.assert_allclose(got["y"].astype(np.float64), exact, atol=8e-3, rtol=4e-3)
    assert counts >= {7}, "copies of both operands and three products"


def test_panels_are_launches_of_their_own_where_pinned(small: NpuConfig) -> None:
    inputs = filled(plain, {"M": 600, "N": 1101, "K": 77})
    apart = made_for(plain, {"M": 600, "N": 1101, "K": 77}, small, _APART)
    got = run_compiled(apart, inputs, small).outputs["y"]
    exact = inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64)
    np.testing.assert_allclose(got.astype(np.float64), exact, atol=8e-3, rtol=4e-3)


def test_copies_run_beside_products(small: NpuConfig) -> None:
    apart = made_for(plain, {"M": 600, "N": 1101, "K": 77}, small, _APART)
    assert [each.segment for each in apart.launches] == _PANELS
    assert [each.segment for each in apart.launches if each.beside] == ["c0.pad_a.rows", "c0.pad_b.columns"]
    assert len(made_for(plain, {"M": 600, "N": 1101, "K": 77}, small, _ALWAYS).launches) == 1


def test_one_operand_is_copied_beside(small: NpuConfig) -> None:
    for sizes, name in (({"M": 600, "N": 608, "K": 77}, "a"), ({"M": 600, "N": 601, "K": 64}, "b")):
        apart = made_for(plain, sizes, small, _APART)
        last = "rows" if name == "a" else "columns"
        assert [each.segment for each in apart.launches] == [
            f"c0.pad_{name}",
            "c0.corner",
            f"c0.pad_{name}.{last}",
            f"c0.{last}",
        ]


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def padded(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.pin(pad="always")
    k.store(k.matmul(k.load(a), k.load(b)), "x")


@kernel(x="fp16[M, N]")
def doubled(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.load(x) * 2, "z")


def test_what_reads_the_product_comes_after_all_panels(small: NpuConfig) -> None:
    inputs = filled(plain, {"M": 600, "N": 1101, "K": 77})
    both = sequence(padded, doubled, name="both")
    compiled = compile_stack(both, {name: each.shape for name, each in inputs.items()}, small, the_isa())
    assert "k0.c0.pad_a..k1.v0" in {each.segment for each in compiled.launches}
    got = run_compiled(compiled, inputs, small).outputs["z"].astype(np.float64)
    exact = 2 * (inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64))
    np.testing.assert_allclose(got, exact, atol=3e-2, rtol=8e-3)


def test_other_chips_have_none() -> None:
    for chip, isa in ((the_chip("ascend_910a"), the_isa()), (the_chip("edge"), the_isa())):
        shapes = {"a": (4097, 4097), "b": (4097, 4097)}
        made = compile_kernel(plain, shapes, chip, isa, _APART)
        assert [each.segment for each in made.launches] == ["c0.pad_a", "c0.pad_b", "c0"]


def test_panels_are_shown() -> None:
    shapes = {"a": (4097, 4097), "b": (4097, 4097)}
    found = inspect_kernel(plain, shapes, the_chip("ascend_910b1"), the_isa())
    assert [each.name for each in found.segments] == _PANELS


def test_columns_are_copied_in_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads off blocks fetch whole lines: of 2304 columns, 9 lines, a quarter would fetch up to 4 lines for 2.25."""
    for name in ("choose_corner", "choose_large_corner"):
        monkeypatch.setattr(panels, name, lambda *_: Corner(320, 2304, 0))
    found = inspect_kernel(plain, {"a": (4097, 4097), "b": (4097, 4097)}, the_chip("ascend_910b1"), the_isa())
    assert [each.tile.split()[2] for each in found.segments if each.name == "c0.pad_b"] == ["2304"]


def test_large_products_are_faster_in_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"a": (5000, 5000), "b": (5000, 5000)}
    cycles = []
    for count in (1, 2):
        device = Device(load_chip("ascend_910b1"), timing_only=True)
        device.run(plain, {name: device.empty(shape, "fp16") for name, shape in shapes.items()})
        cycles.append(device.launches[0].result.cycles)
        if count == 1:
            monkeypatch.setattr(corners, "_LEAST", 1e12)
    assert cycles[0] * 1.04 < cycles[1]
