"""Corners of products in panels among those of large tiles: worked out by hand, the same by machine code, and taken."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from tests.compiler.cube.test_cube_chooser import _problem, _product
from tests.compiler.padding.test_padding import plain
from tests.compiler.vector_run import the_chip, the_isa

from npuvm.compiler import compile_kernel
from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.family import CubeFamily, Panel
from npuvm.compiler.cube.large import LargeTiles
from npuvm.compiler.cube.problem import CubeTile, ProductSizes
from npuvm.compiler.native.loading import load_native, unload_native
from npuvm.compiler.padding import panels
from npuvm.compiler.padding.corners import Corner, Whole, choose_large_corner
from npuvm.hw.config import load_chip
from npuvm.runtime import Device

_TILE = CubeTile((10, 10, 64), (10, 10, 16), 1, 1_600_000)
"""On 4 cores 64 of them, of a result of 80 x 80, take 16 rounds of 100,000 cycles."""

_LARGE = LargeTiles(np.array([10.0]), np.array([10.0]), np.array([100_000.0]), 4, 10, 10)


@pytest.fixture
def in_python() -> Iterator[None]:
    """Without machine code behind a test."""
    yield
    unload_native()


def of(copies: float, own: Corner | None = None, large: LargeTiles = _LARGE) -> Corner | None:
    return choose_large_corner(Whole(80, 80, _TILE, (copies, copies), 300), large, own, None)


def test_parts_take_rounds_of_the_best_tile() -> None:
    """25 x 25 has 3 x 2 tiles of 10 x 20, 3 rounds of 2 x 3 blocks of 5 x 5. 40 x 10 has 2 rounds of 2 x 2 blocks of these,
    and of 20 x 10 one round of 4 x 2 blocks, each in half the time."""
    tiles = LargeTiles(np.array([10.0, 20.0]), np.array([20.0, 10.0]), np.array([1.0, 0.5]), 2, 5, 5)
    rows, cols = np.array([25.0, 40.0, 0.0]), np.array([25.0, 10.0, 10.0])
    assert tiles._replace(each=np.array([1.0, 9.0])).cycles(rows, cols).tolist() == [18, 8, 0]
    assert tiles.cycles(rows, cols).tolist() == [9, 4, 0]


def test_the_corner_with_the_lowest_estimate() -> None:
    """Copies take 1.2 times as long as their bytes. 2 x 2 tiles: a quarter of both before them, 120,000 cycles; the other rows
    take 180,000 beside the corner; other 12 tiles of its columns 3 rounds, 48 of the other columns 12; two joins of 2,000."""
    assert of(200_000) == Corner(20, 20, 1_804_000)


def test_corners_are_of_any_tile_that_leaves_room() -> None:
    """Of 30 x 30 none leaves a tile; 2 x 2 of 20 x 20, each of four blocks: 240,000 of copies before, 1.3 rounds of 400,000,
    one below and two beside, two joins."""
    both = LargeTiles(np.array([30.0, 20.0]), np.array([30.0, 20.0]), np.array([1e9, 1e5]), 4, 10, 10)
    assert of(200_000, large=both) == Corner(40, 40, 1_964_000)


def test_the_own_corner_stays_where_no_other_is_surely_faster() -> None:
    """1 x 4 tiles: 75,000 before, 1.3 rounds, 7 and 8 rounds, 1,709,000 cycles for 1,694,000 of 2 x 2; 4 x 1 take 1,714,000."""
    own = Corner(10, 40, 1.0)
    assert of(100_000, own) == own
    assert of(100_000, Corner(40, 10, 1.0)) == Corner(20, 20, 1_694_000)
    assert of(100_000) == Corner(20, 20, 1_694_000)


def test_there_are_none_where_copies_take_little_or_no_tile_adds_up_alike() -> None:
    assert of(9_000) is None
    none = LargeTiles(np.zeros(0), np.zeros(0), np.zeros(0), 4, 10, 10)
    assert of(200_000, large=none) is None
    assert of(200_000, Corner(10, 40, 1.0), none) == Corner(10, 40, 1.0)


def test_a_tile_is_left_below_and_beside() -> None:
    """Of 25 x 85 only 1 x 4 and 1 x 2 tiles of a round of 2 or 4 leave one below."""
    whole = Whole(25, 85, _TILE, (200_000, 200_000), 300)
    found = choose_large_corner(whole, _LARGE, None, None)
    assert found is not None
    assert found[:2] == (10, 40)


def test_large_tiles_have_the_cycles_that_a_later_one_takes() -> None:
    """What candidates that are of use take is within 2 % of the best with the same edges."""
    chooser = TileChooser(_problem(_product(64, 64, 64), "ascend_910b1"), 24)
    sizes = ProductSizes(3000, 5000, 4000, 1, 8192, 10240)
    table, _, _, later = chooser.core_cycles(sizes)
    large = chooser.large(sizes, 64)
    most = int((table[:, 0] * table[:, 1]).max())
    assert {(128, 256), (256, 128)} <= {*zip(large.m.tolist(), large.n.tolist(), strict=True)}
    for m, n, each in zip(large.m, large.n, large.each, strict=True):
        assert m * n >= 0.9 * most
        assert max(m, n) <= 2 * min(m, n)
        at = (table[:, 0] == m) & (table[:, 1] == n) & (table[:, 5] == 64)
        assert each * m * n / (large.block_m * large.block_n) == pytest.approx(later[at].min(), rel=0.02)
    assert not len(chooser.large(sizes, 7).each)


def test_machine_code_finds_the_same(in_python: None) -> None:
    pytest.importorskip("numba")
    native, source, found = load_native(), random.Random("corners"), set[str]()
    tiles = TileChooser(_problem(_product(64, 64, 64), "ascend_910b1"), 24)
    for _ in range(300):
        m, n, k = (int(2 ** source.uniform(8, 13.5)) for _ in range(3))
        sizes = ProductSizes(m, n, k, 1, 2 * k + -2 * k % 512, 2 * n + -2 * n % 512)
        tile, copies = tiles.choose(sizes), (m * k / 800, n * k / 800)
        own = source.choice((None, Corner(tile.l1[0], min(24 * tile.l1[1], n), 1.0), Corner(m, tile.l1[1], 1.0)))
        args = Whole(m, n, tile, copies, 300), tiles.large(sizes, 64), own
        corner = choose_large_corner(*args, native)
        assert corner == choose_large_corner(*args, None), sizes
        found.add("none" if corner is None else "own" if corner is own else "other")
    assert found == {"none", "own", "other"}


def test_other_corners_are_taken_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of some random products whose own corner is not the one."""
    source, asked, made = random.Random("taken"), list[tuple[Corner | None, Corner | None]](), list[Panel]()
    panel = CubeFamily.panel

    def choose(whole: Whole, large: LargeTiles, own: Corner | None, native: None) -> Corner | None:
        asked.append((own, choose_large_corner(whole, large, own, native)))
        return asked[-1][1]

    def spy(family: CubeFamily, name: str, values: tuple[int, ...], part: Panel) -> object:
        made.append(part)
        return panel(family, name, values, part)

    monkeypatch.setattr(panels, "choose_large_corner", choose)
    monkeypatch.setattr(CubeFamily, "panel", spy)
    while not asked or None in asked[-1] or asked[-1][0] is asked[-1][1]:
        m, n, k = (source.randrange(2001, 4001, 2) for _ in range(3))
        made.clear()
        compile_kernel(plain, {"a": (m, k), "b": (k, n)}, the_chip("ascend_910b1"), the_isa())
    found = asked[-1][1]
    assert found is not None
    assert made[0] == Panel(0, found.rows, 0, found.cols)
    cycles = [run(m, n, k)]
    monkeypatch.setattr(panels, "choose_large_corner", lambda whole, large, own, native: own)
    cycles.append(run(m, n, k))
    assert cycles[0] < cycles[1]


@pytest.mark.parametrize(("m", "n", "k", "asked"), [(9001, 9001, 1501, 0), (4001, 4003, 1501, 1)])
def test_products_that_l2_has_no_room_for_keep_their_own(
    monkeypatch: pytest.MonkeyPatch, m: int, n: int, k: int, asked: int
) -> None:
    """Of 192 MiB; a result of 9001 x 9001 has 155, and its operands 52."""
    found = list[int]()

    def choose(whole: Whole, large: LargeTiles, own: Corner | None, native: None) -> Corner | None:
        found.append(whole.rows)
        return own

    monkeypatch.setattr(panels, "choose_large_corner", choose)
    compile_kernel(plain, {"a": (m, k), "b": (k, n)}, the_chip("ascend_910b1"), the_isa())
    assert len(found) == asked


def test_one_row_and_column_more_than_whole_tiles_keep_the_cube_busy() -> None:
    """Four fifths of what 24 cubes of 16 x 16 x 16 multiplications a cycle could do."""
    assert run(4097, 4097, 4097) * 0.8 <= 4097**3 / (24 * 16**3)


def run(m: int, n: int, k: int) -> int:
    """Cycles of a product."""
    device = Device(load_chip("ascend_910b1"), timing_only=True)
    device.run(plain, {"a": device.empty((m, k), "fp16"), "b": device.empty((k, n), "fp16")})
    return device.launches[0].result.cycles
