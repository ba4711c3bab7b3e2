"""What L2 and main memory take where rows meet in few parts of them: against the simulator, and how tiles follow from it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.vector_run import the_chip

from npuvm.compiler.cube.chooser import TileChooser, chooser_of
from npuvm.compiler.cube.codegen import compile_matmul, problem_of
from npuvm.compiler.cube.meets import begun_in
from npuvm.compiler.cube.problem import ProductSizes
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import NpuConfig
from npuvm.hw.simulator import simulate, timing_engine
from npuvm.isa import Isa, load_isa


def _product(m: int, n: int, k: int) -> MatmulSpec:
    a, b, c = (MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n)))
    return MatmulSpec(m, n, k, a, b, c)


def _sizes(m: int, n: int, k: int) -> ProductSizes:
    return ProductSizes(m, n, k, 1, 2 * k, 2 * n)


def _of(name: str) -> tuple[NpuConfig, Isa, TileChooser]:
    chip = the_chip(name)
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    return chip, isa, chooser_of(problem_of(_product(64, 64, 64), chip, isa, Pins()), chip.cores_with("cube"))


def _simulated(name: str, size: tuple[int, int, int], tile: tuple[int, int, int], k0: int) -> int:
    """Cycles with an empty L2 and operands behind each other."""
    chip, isa, _ = _of(name)
    m, n, k = size
    product = compile_matmul(_product(*size), 3, chip, isa, Pins(tile={"l1": tile, "l0": (*tile[:2], k0)}))
    assert product is not None
    sizes = 2 * m * k, 2 * k * n, 2 * m * n
    windows = [(sum(sizes[:at]), each) for at, each in enumerate(sizes)]
    bases = [base for base, _ in windows]
    return simulate(
        chip, isa, product.image, addresses=bases, windows=windows, data=False, engine=timing_engine()
    ).cycles


def _estimated(name: str, sizes: ProductSizes, tile: tuple[int, int, int], k0: int) -> float:
    table, _, cycles = _of(name)[2].estimates(sizes)
    return float(cycles[(table[:, [0, 1, 2, 5]] == (*tile, k0)).all(axis=1)].min())


def test_parts_of_memory_in_which_rows_begin() -> None:
    assert begun_in(8192, 32, 512) == 2
    assert begun_in(2048, 2, 1024) == 1
    assert begun_in(3072, 2, 1024) == 2
    assert begun_in(1000, 2, 1024) == 2
    assert begun_in(0, 32, 512) == 32


@pytest.mark.parametrize(
    ("name", "size", "tile", "k0"),
    [
        ("ascend_910a", (384, 1024, 4096), (96, 128, 512), 32),
        ("ascend_910a", (4096, 256, 512), (128, 256, 128), 64),
        ("edge", (512, 512, 1024), (128, 128, 256), 64),
        ("edge", (128, 4096, 2048), (128, 128, 128), 64),
        ("edge", (256, 256, 256), (64, 64, 128), 64),
    ],
)
def test_estimates_know_where_rows_meet_and_what_l2_keeps(
    name: str, size: tuple[int, int, int], tile: tuple[int, int, int], k0: int
) -> None:
    estimate = _estimated(name, _sizes(*size), tile, k0)
    assert estimate == pytest.approx(_simulated(name, size, tile, k0), rel=0.3)


def test_parts_of_k_read_other_places_of_the_same_rows() -> None:
    """Rows of 8 KiB begin in two slices of L2; two parts of k at 4 KiB of each in four, as rows of 4 KiB do."""
    alone, beside, short = (
        _estimated("ascend_910a", ProductSizes(384, 1024, 2048, batch, pitch, 2048), (96, 128, 512), 32)
        for batch, pitch in ((1, 8192), (2, 8192), (1, 4096))
    )
    assert short < 0.7 * alone
    assert beside < 2 * 0.7 * alone


@pytest.mark.parametrize("name", ["ascend_910a", "ascend_910b1"])
def test_tiles_of_many_cores_are_alike(name: str) -> None:
    """The largest tile of a row or column is at most a block, or on a chip that spreads no addresses a line, larger than the
    mean."""
    chip, _, chooser = _of(name)
    line = 16 if chip.memory.address_hash else chip.memory.l2.line_bytes // 2
    for m, n, k in ((257, 4096, 1024), (200, 3072, 768), (1021, 384, 1536), (5124, 700, 2048), (97, 3000, 512)):
        rows, cols = chooser.choose(_sizes(m, n, k)).l1[:2]
        assert rows <= m / np.ceil(m / rows) + 16
        assert cols <= n / np.ceil(n / cols) + line


def test_a_product_takes_less_where_l2_has_its_operands() -> None:
    """Where they fit; else as where it has none."""
    _, _, chooser = _of("edge")
    for size, fits in (((256, 256, 256), True), ((512, 512, 512), True), ((1024, 4096, 1024), False)):
        sizes = _sizes(*size)
        kept, alone = chooser.kept_cycles(sizes), chooser.choose(sizes).cycles
        assert kept < alone if fits else kept == alone
