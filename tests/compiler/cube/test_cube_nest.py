"""Bands of tiles: as wide as makes the part of a core square, unless L2 then loses what it is to keep. Walks in columns."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.cube.cube_run import the_isa
from tests.compiler.vector_run import the_chip

from npuvm.compiler.cube.family import ProductPrograms, ProductSort
from npuvm.compiler.cube.nest import BANDS, COLUMNS, STEPS, WHOLE, NestChooser
from npuvm.compiler.cube.problem import CubeTile
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.simulator import simulate

_TILE = CubeTile((128, 256, 256), (128, 256, 64), 1, 0)
_ROOM = float(96 << 20)
"""Elements of fp16 in an L2 of 192 MiB."""


def band(m: int, n: int, k: int, room: float = _ROOM, batch: int = 1) -> int:
    nest = NestChooser(24, room).choose(m, n, k, batch, _TILE)
    assert nest.number == BANDS
    assert sum(nest.tiles) == batch * -(-m // 128) * -(-n // 256)
    return nest.band


def test_a_core_s_part_is_square_where_l2_keeps_the_operands() -> None:
    assert band(4096, 4096, 4096) == 8
    assert band(8192, 8192, 8192) == 16
    assert band(4096, 4096, 14336) == 8


def test_bands_are_narrower_where_columns_of_all_cores_would_drive_the_left_operand_out() -> None:
    assert band(4096, 4096, 15360) == 4
    assert band(4096, 4096, 16384) == 4
    assert band(4096, 8192, 16384) == 4
    assert band(6144, 6144, 12288) == 6
    assert band(4096, 4096, 16384, room=2 * _ROOM) == 8


def test_bands_stay_where_nothing_helps() -> None:
    assert band(8192, 8192, 16384) == band(8192, 8192, 8192)
    assert band(4096, 4096, 4096, room=1024.0) == 8
    assert band(4096, 4096, 16384, batch=2) == NestChooser(24, 1e18).choose(4096, 4096, 16384, 2, _TILE).band


def test_a_core_walks_columns_where_l2_has_room_for_the_left_operand_only() -> None:
    """On one core, rows of tiles would read the right operand again and again from main memory."""

    def chosen(m: int, n: int, k: int) -> tuple[int, int, tuple[int, ...]]:
        nest = NestChooser(1, float(1 << 20)).choose(m, n, k, 1, CubeTile((128, 128, 256), (128, 128, 64), 1, 0))
        return nest.number, nest.band, nest.tiles

    assert chosen(512, 3072, 768) == (BANDS, 4, (0, 96))
    assert chosen(512, 896, 768)[0] == STEPS
    assert chosen(128, 3072, 768)[0] == STEPS
    assert chosen(1024, 3072, 1024)[1] < 8


def test_bands_of_one_core_are_as_wide_as_l2_keeps() -> None:
    """What comes by until a line of the left operand is read again: the band, two columns of the other, and the results."""
    nests, tile = NestChooser(1, float(1 << 20)), CubeTile((128, 128, 256), (128, 128, 64), 1, 0)
    assert (128 * 5 + 2 * 128) * 1024 + 128 * 5 * 128 <= 1 << 20 < (128 * 6 + 2 * 128) * 1024 + 128 * 6 * 128
    assert nests.choose(128 * 5, 4096, 1024, 1, tile) == (BANDS, 5, (0, 160))
    assert nests.choose(128 * 6, 4096, 1024, 1, tile) == (BANDS, 3, (96, 96))
    assert nests.choose(128 * 7, 4096, 1024, 1, tile) == (BANDS, 4, (128, 96))
    assert nests.choose(128 * 7, 4096, 8192, 1, tile).number == STEPS
    # Columns that begin within lines keep two of them.
    lines = NestChooser(1, float(1 << 20), line=64)
    assert lines.choose(128 * 5, 4096, 1024, 1, tile, pitch=4096).band == 5
    assert lines.choose(128 * 5, 4096, 1024, 1, tile, pitch=4104).band == 3


def test_few_tiles_are_walked_row_by_row() -> None:
    assert NestChooser(24, _ROOM).choose(512, 512, 16384, 1, _TILE).number == STEPS


def _whole(m: int, n: int, k: int, burst: float | None = 132.0, batch: int = 1, meets: bool = False) -> int:
    tile = CubeTile((128, 128, k), (128, 128, 128), 1, 0)
    nest = NestChooser(24, _ROOM, burst).choose(m, n, k, batch, tile, meets=meets)
    assert nest.tiles == (batch * -(-m // 128) * -(-n // 128),)
    return nest.number


def test_tall_results_are_walked_in_columns_where_all_of_k_is_loaded_at_once() -> None:
    """32 x 3 tiles: in rows each core loads 4 tiles of the right operand and 3 of the left, in columns 4 and 1."""
    assert _whole(4096, 384, 384) == COLUMNS
    assert _whole(384, 4096, 384) == WHOLE


def test_columns_need_rows_to_go_along_loads_that_count_and_room_in_l2() -> None:
    assert _whole(4096, 128, 384) == WHOLE
    assert _whole(4096, 384, 64) == WHOLE
    assert _whole(4096, 384, 384, burst=None) == WHOLE
    assert _whole(4096, 384, 384, batch=64) == WHOLE
    assert _whole(256, 384, 384) == WHOLE


def test_columns_where_cores_would_read_the_same_few_parts_of_l2() -> None:
    assert _whole(1024, 4096, 64) == WHOLE
    assert _whole(1024, 4096, 64, meets=True) == COLUMNS
    assert _whole(128, 4096, 64, meets=True) == WHOLE
    assert _whole(512, 512, 64, meets=True) == WHOLE


@pytest.mark.parametrize("name", ["ascend_910b1", "ascend_910a"])
def test_a_walk_in_columns_gives_what_numpy_does(name: str) -> None:
    """Two cores, the last tile of each row and column smaller, one core's part in several columns."""
    chip, isa = the_chip(name), the_isa()
    m, n, k = 130, 40, 45
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float16) for shape in ((m, k), (k, n)))
    views = [MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n))]
    sort = ProductSort(MatmulSpec(m, n, k, views[0], views[1], views[2]))
    tile = CubeTile((16, 16, k), (16, 16, 32), 2, 0)
    image = ProductPrograms(sort, 3, chip, isa, cores=2).image("columns", sort.numbers, (m, n, k, 1), tile)
    burst = chip.core.load.min_burst_bytes / 2
    assert NestChooser(2, _ROOM, burst).choose(m, n, k, 1, tile).number == COLUMNS
    memory, windows = GlobalMemory(1 << 17), [(at << 15, 2 * size) for at, size in enumerate((m * k, k * n, m * n))]
    for (base, _), array in zip(windows, (a, b), strict=False):
        memory.write(base, array)
    simulate(chip, isa, image, memory=memory, addresses=[base for base, _ in windows], windows=windows)
    found = memory.read(*windows[2]).view(np.float16).reshape(m, n)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(found, exact, rtol=2e-3, atol=2e-3)
