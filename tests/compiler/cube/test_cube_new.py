"""Tiles whose loads wait for main memory, held on the simulator against tiles named here."""

from __future__ import annotations

import pytest

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.compiler.cube.codegen import compile_matmul
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import load_chip
from npuvm.hw.simulator import simulate, timing_engine
from npuvm.isa import load_isa
from npuvm.runtime import Device

_PLACED = 512


def _cycles(sizes: tuple[int, int, int], pins: Pins | None = None, name: str = "ascend_910b1") -> int:
    """Simulated cycles of a product as one launch with an empty L2, operands one after the other."""
    chip = load_chip(name)
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    m, n, k = sizes
    a, b, c = (MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n)))
    product = compile_matmul(MatmulSpec(m, n, k, a, b, c), 3, chip, isa, pins)
    assert product is not None
    windows, at = [], 0
    for nbytes in (2 * m * k, 2 * k * n, 2 * m * n):
        windows.append((at, nbytes))
        at += -(-nbytes // _PLACED) * _PLACED
    return simulate(
        chip,
        isa,
        product.image,
        addresses=[base for base, _ in windows],
        windows=windows,
        data=False,
        engine=timing_engine(),
    ).cycles


@pytest.mark.parametrize(
    ("sizes", "l1", "k0"),
    [
        # Rows of the left operand are new in every round.
        ((8448, 4, 2816), (16, 4, 1536), 192),
        ((8448, 16, 2816), (16, 16, 2816), 240),
        # Columns of the right operand are new in every round.
        ((32, 22016, 4096), (32, 512, 128), 16),
        # One round of wide tiles, which leaves no cores without work and opens few rows of main memory.
        ((3, 15360, 5120), (3, 640, 64), 16),
        ((16, 22016, 4096), (16, 1008, 64), 16),
        # One round, in which the work of the last step is behind all loads.
        ((1, 4096, 1024), (1, 192, 128), 64),
        ((257, 1024, 1024), (48, 256, 256), 64),
        # Rows off blocks are read past L2 by all cores at once, so that few wide tiles are better.
        ((3, 1024, 479), (3, 96, 256), 64),
        # The end of all rows is off a block, and one core after the other reads it past L2.
        ((7, 512, 13), (7, 144, 13), 13),
    ],
)
def test_what_is_new_is_charged_where_it_is_loaded(
    sizes: tuple[int, int, int], l1: tuple[int, int, int], k0: int
) -> None:
    """The compiler's tile takes no longer than one that loads in long rows, in short steps, or by few cores."""
    named = _cycles(sizes, Pins(tile={"l1": l1, "l0": (*l1[:2], k0)}))
    assert _cycles(sizes) <= 1.02 * named


def test_wide_tiles_of_few_rows_are_of_use_for_all_rows_only() -> None:
    """With several rows of them each would read all of the right operand: it took twice as long as with other tiles."""
    named = _cycles((1000, 1000, 1000), Pins(tile={"l1": (128, 176, 256), "l0": (128, 176, 64)}))
    assert _cycles((1000, 1000, 1000)) <= 1.02 * named
    wide = _cycles((100, 1000, 1000), Pins(tile={"l1": (32, 1024, 64), "l0": (32, 1024, 16)}))
    assert _cycles((100, 1000, 1000)) < wide, "a pin takes them for any rows"


@pytest.mark.parametrize(
    ("name", "sizes", "l1", "k0"),
    [
        ("ascend_910b1", (257, 2304, 768), (160, 192, 256), 32),
        ("ascend_910b1", (257, 5120, 5120), (144, 224, 256), 64),
        ("ascend_910a", (1024, 640, 640), (112, 160, 256), 64),
        ("edge", (133, 768, 1008), (72, 128, 256), 64),
    ],
)
def test_edges_between_leave_fewer_cores_without_work(
    name: str, sizes: tuple[int, int, int], l1: tuple[int, int, int], k0: int
) -> None:
    """The compiler's tile takes little longer than one with an edge that is no power of two or one and a half times one."""
    named = _cycles(sizes, Pins(tile={"l1": l1, "l0": (*l1[:2], k0)}), name)
    assert _cycles(sizes, name=name) <= 1.04 * named


@pytest.mark.parametrize(
    ("sizes", "l1", "k0"),
    [
        # Two rows of tiles instead of three read the right operand, in steps that are no power of two.
        ((257, 768, 768), (136, 112, 144), 48),
        ((144, 688, 688), (144, 112, 144), 48),
        # All of k is in L1, and the left operand stays there.
        ((97, 1536, 384), (97, 64, 384), 64),
    ],
)
def test_one_core_has_heights_and_steps_of_its_own(
    sizes: tuple[int, int, int], l1: tuple[int, int, int], k0: int
) -> None:
    """The compiler's tile takes no longer than one that the edges of chips with many cores and powers of two leave out."""
    named = _cycles(sizes, Pins(tile={"l1": l1, "l0": (*l1[:2], k0)}), "edge")
    assert _cycles(sizes, name="edge") <= 1.02 * named


@pytest.mark.parametrize(
    ("sizes", "l1", "k0", "share"),
    [
        # Results of cores at the same columns meet in few slices of L2.
        ((4096, 512, 13), (256, 64, 13), 13, 1.02),
        ((8192, 512, 13), (176, 128, 13), 13, 1.02),
        # All cores wait for few slices of L2 at once, and then load the right operand.
        ((97, 12288, 4096), (64, 256, 768), 64, 0.9),
        ((768, 768, 3072), (192, 192, 256), 32, 0.85),
    ],
)
def test_what_few_slices_serve_is_waited_for_in_turn(
    sizes: tuple[int, int, int], l1: tuple[int, int, int], k0: int, share: float
) -> None:
    """On a chip that spreads no addresses the compiler's tile takes at most a share of one named."""
    named = _cycles(sizes, Pins(tile={"l1": l1, "l0": (*l1[:2], k0)}), "ascend_910a")
    assert _cycles(sizes, name="ascend_910a") <= share * named


@pytest.mark.parametrize(
    ("sizes", "l1", "k0"),
    [((2048, 768, 3072), (128, 384, 512), 32), ((8192, 384, 1536), (128, 384, 512), 32)],
)
def test_lines_that_steps_share_are_waited_for_once(
    sizes: tuple[int, int, int], l1: tuple[int, int, int], k0: int
) -> None:
    """Where a step is shorter than a line, cores wait in the first of those that share one, and work in the others."""
    named = _cycles(sizes, Pins(tile={"l1": l1, "l0": (*l1[:2], k0)}), "ascend_910a")
    assert _cycles(sizes, name="ascend_910a") <= 1.02 * named


@pytest.mark.parametrize(
    ("m", "n", "k", "most"),
    [
        # Finer edges would read so much again past L2 that 6.2 million cycles were needed instead of 3.5.
        (4096, 4096, 16384, 1.3),
        # L2 has room, and 160 x 192 takes 29 rounds, and 256 x 128 28 that are longer by a fifteenth: 1.37 before.
        (8448, 2496, 960, 1.31),
        # The same in panels, whose operands are copied: 1.36 before.
        (1541, 8743, 4002, 1.26),
    ],
)
def test_products_of_many_rounds_have_edges_that_l2_has_room_for(m: int, n: int, k: int, most: float) -> None:
    """They take no longer than so many times what the cube does."""

    @kernel(a="fp16[M, K]", b="fp16[K, N]")
    def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
        k.store(k.matmul(k.load(a), k.load(b)))

    device = Device("ascend_910b1", timing_only=True)
    device.run(product, {"a": device.empty((m, k), "fp16"), "b": device.empty((k, n), "fp16")})
    cube = m * n * k / 16**3 / device.chip.cores_with("cube")
    assert cube < sum(launch.result.cycles for launch in device.launches) < most * cube
