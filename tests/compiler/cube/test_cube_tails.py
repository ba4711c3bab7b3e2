"""Products in two parts: which they are, what they compute, and that they are faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.cube.cube_run import Array, the_isa
from tests.compiler.cube.test_cube_chooser import _problem
from tests.compiler.cube.test_cube_chooser import _product as _spec
from tests.compiler.vector_run import limits_of, the_chip

from npuvm.compiler import CompiledKernel, KernelBuilder, ParamRef, Pins, compile_kernel, kernel
from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.family import ProductPrograms, ProductSort
from npuvm.compiler.cube.nest import TAILED
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, Tail
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.cube.tails import TailChooser
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa import Image
from npuvm.isa.verifier import verify

_TILE = CubeTile((32, 48, 32), (32, 48, 16), 1, 0)


def _views(m: int, n: int, k: int, transposed: bool) -> tuple[MatView, MatView, MatView]:
    a = MatView(0, "fp16", 1, m) if transposed else MatView(0, "fp16", k, 1)
    b = MatView(1, "fp16", 1, k) if transposed else MatView(1, "fp16", n, 1)
    return a, b, MatView(2, "fp16", n, 1)


def _cut(m: int, n: int, by_rows: bool) -> Tail:
    """Two rows or columns of tiles, and what is behind them in smaller ones."""
    rest = CubeTile((16, 32, 32), (16, 32, 16), 1, 0)
    if by_rows:
        return Tail(_TILE, 64, n, rest, m - 64, n, 0)
    return Tail(_TILE, m, 96, rest, m, n - 96, 0)


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(("m", "n", "k"), [(80, 112, 72), (65, 97, 45), (90, 200, 64)])
def test_both_parts_give_what_numpy_does(m: int, n: int, k: int, transposed: bool, by_rows: bool) -> None:
    """On four cores, in the same order of sums as in one part."""
    chip, isa = the_chip("ascend_910b1"), the_isa()
    rng = np.random.default_rng(m)
    a, b = (rng.standard_normal(shape).astype(np.float16) for shape in ((m, k), (k, n)))
    stored: tuple[Array, Array] = (a.T.copy(), b.T.copy()) if transposed else (a, b)
    views = _views(m, n, k, transposed)
    sort = ProductSort(MatmulSpec(m, n, k, *views))
    programs = ProductPrograms(sort, 3, chip, isa, cores=4)
    tail = _cut(m, n, by_rows)
    image = programs.tailed("parts", sort.numbers, k, tail)
    assert image is not None
    verify(isa, image, limits_of(chip.name), argument_bytes=[2 * m * k, 2 * k * n, 2 * m * n])
    own = [each.ranges[-1] for each in image.entries]
    tiles = -(-tail.rest_rows // 16) * -(-tail.rest_cols // 32)
    assert sorted(at for start, stop in own for at in range(start, stop)) == list(range(tiles))
    found = _run(image, stored, m, n)
    np.testing.assert_allclose(found, a.astype(np.float64) @ b, rtol=2e-3, atol=2e-2)
    whole = programs.image("whole", sort.numbers, (m, n, k, 1), _TILE)
    np.testing.assert_array_equal(found, _run(whole, stored, m, n))


def _run(image: Image, operands: tuple[Array, Array], m: int, n: int) -> Array:
    """The result of a product's image on operands as they lie."""
    memory, sizes = GlobalMemory(1 << 17), [*(each.nbytes for each in operands), 2 * m * n]
    windows = [(at << 15, size) for at, size in enumerate(sizes)]
    for (base, _), array in zip(windows, operands, strict=False):
        memory.write(base, array)
    bases = [base for base, _ in windows]
    simulate(the_chip("ascend_910b1"), the_isa(), image, memory=memory, addresses=bases, windows=windows)
    return memory.read(*windows[2]).view(np.float16).reshape(m, n)


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def _product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)), "y")


def _compiled(m: int, n: int, k: int, pins: Pins | None = None) -> CompiledKernel:
    return compile_kernel(_product, {"a": (m, k), "b": (k, n)}, the_chip("ascend_910b1"), the_isa(), pins)


def _cycles(made: CompiledKernel, m: int, n: int, k: int) -> float:
    windows = [(0, 2 * m * k), (2 * m * k, 2 * k * n), (2 * k * (n + m), 2 * m * n)]
    (launch,) = made.launches
    bases = [base for base, _ in windows]
    result = simulate(the_chip("ascend_910b1"), the_isa(), launch.image, addresses=bases, windows=windows, data=False)
    return float(result.cycles)


def test_a_round_that_is_half_empty_is_left_to_smaller_tiles() -> None:
    """512 x 4096 in tiles of 128 x 256 are two rounds of 24 cores and two thirds of one."""
    sizes = 512, 4096, 1024
    made = _compiled(*sizes)
    assert len(made.launches[0].image.entries[0].ranges) == 3
    whole = _compiled(*sizes, Pins(order="row"))
    assert len(whole.launches[0].image.entries[0].ranges) == 1
    assert _cycles(made, *sizes) < 0.97 * _cycles(whole, *sizes)


def test_it_is_told() -> None:
    chip, isa = the_chip("ascend_910b1"), the_isa()
    inspected = inspect_kernel(_product, {"a": (512, 1024), "b": (1024, 4096)}, chip, isa)
    (segment,) = inspected.segments
    assert segment.tiling is not None
    assert segment.tiling.tail == "from row 384 on tiles of 128 x 176"
    assert segment.tiling.tiles == 3 * 16 + 24
    assert segment.tiling.rounds == 3
    assert segment.tiling.idle == 0
    assert segment.image.words.tolist() == _compiled(512, 4096, 1024).launches[0].image.words.tolist()


def _tail(chip: str, cores: int, m: int, n: int, k: int, **others: Any) -> Tail | None:
    chooser = TileChooser(_problem(_spec(64, 64, 64), chip), cores)
    sizes = ProductSizes(m, n, k, 1, 2 * k, 2 * n)._replace(**others)
    return TailChooser(chooser, cores).choose(sizes, chooser.choose(sizes))


def test_where_nothing_is_left_a_product_is_one_part() -> None:
    assert _tail("ascend_910b1", 24, 512, 4096, 1024) is not None
    assert _tail("ascend_910b1", 24, 3072, 2048, 1024) is None, "eight rounds of 128 x 256"
    assert _tail("ascend_910b1", 24, 512, 4096, 1024, batch=2) is None
    assert _tail("ascend_910b1", 24, 512, 4096, 1024, a_pitch=2050) is None, "rows off blocks are read past L2 again"
    assert _tail("ascend_910b1", 1, 512, 4096, 1024) is None
    assert _tail("ascend_910b1", 24, 128, 256, 64) is None, "too little to do"


@pytest.mark.parametrize("k", [4096, 16384])
def test_all_cores_have_as_many_tiles_before_the_tail(k: int) -> None:
    """32 rows of 16 tiles are 21 rounds of 24 cores and a third. 31 rows leave a round unfilled; 30 are 20 rounds."""
    tail = _tail("ascend_910b1", 24, 4096, 4096, k)
    assert tail is not None
    assert (tail.main.l1[:2], tail.rows, tail.cols) == ((128, 256), 30 * 128, 4096)
    assert (tail.rest_rows, tail.rest_cols) == (256, 4096)
    assert -(-256 // tail.rest.l1[0]) * -(-4096 // tail.rest.l1[1]) == 2 * 24


def test_tiles_of_a_tail_fit_beside_those_of_the_first_part() -> None:
    for m in range(256, 3000, 112):
        for n, k in ((1024, 1024), (2560, 640), (768, 3072), (4096, 512)):
            tail = _tail("ascend_910b1", 24, m, n, k)
            if tail is None:
                continue
            assert tail.rest.l1 <= tail.main.l1
            assert all(one <= other for one, other in zip(tail.rest.l1, tail.main.l1, strict=True))
            assert tail.rest.l0[2] == tail.main.l0[2]
            assert tail.rows * tail.cols + tail.rest_rows * tail.rest_cols == m * n


def test_chips_whose_cores_walk_side_by_side_have_none() -> None:
    chip, isa = the_chip("ascend_910a"), the_isa()
    views = _views(64, 64, 64, False)
    sort = ProductSort(MatmulSpec(64, 64, 64, *views))
    programs = ProductPrograms(sort, 3, chip, isa, cores=4)
    assert TAILED not in programs._templates
    assert programs.tailed("parts", sort.numbers, 64, _cut(64, 64, True)) is None
