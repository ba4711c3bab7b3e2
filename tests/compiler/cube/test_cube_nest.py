"""Bands of tiles: as wide as makes the part of a core square, unless L2 then loses what it is to keep. Columns, and rounds."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.cube.cube_run import Array, the_isa
from tests.compiler.vector_run import the_chip

from npuvm.compiler import KernelBuilder, ParamRef, Pins, compile_kernel, kernel
from npuvm.compiler.cube.family import ProductPrograms, ProductSort
from npuvm.compiler.cube.nest import BANDS, COLUMNS, ROUNDS, STEPS, WHOLE, NestChooser
from npuvm.compiler.cube.problem import CubeTile
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa import Image
from npuvm.runtime import Device

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


def test_few_tiles_of_whole_lines_are_walked_in_columns() -> None:
    def chosen(m: int, n: int, k: int, width: int = 256, batch: int = 1, *, spread: bool = True) -> tuple[int, int]:
        tile = CubeTile((128, width, 256), (128, width, 64), 1, 0)
        nest = NestChooser(24, _ROOM, line=256, spread=spread).choose(m, n, k, batch, tile)
        assert sum(nest.tiles) == batch * -(-m // 128) * -(-n // width)
        return nest.number, nest.band

    assert chosen(2048, 768, 768) == chosen(2048, 1024, 768) == (BANDS, 16)
    assert chosen(1024, 5888, 1024) == (BANDS, 8)
    # One tile for each core, many tiles, parts of lines, several matrices, operands that L2 does not hold, addresses in order.
    assert chosen(1024, 768, 768)[0] == STEPS
    assert chosen(4096, 1536, 768)[1] < 32
    assert chosen(2048, 768, 768, width=192)[0] == STEPS
    assert chosen(2048, 768, 768, batch=2)[1] < 16
    assert chosen(2048, 1024, 1 << 16)[0] == STEPS
    assert chosen(2048, 768, 768, spread=False)[1] < 16


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


def test_cores_that_would_crowd_at_columns_walk_others() -> None:
    """Where each core's tiles are half a row, half of all cores are at one column in each round."""

    def chosen(
        m: int, n: int, k: int, k1: int, crowd: float = 0.2, batch: int = 1, *, kept: bool = True
    ) -> tuple[int, int]:
        tile = CubeTile((128, 128, k1), (128, 128, 64), 1, 0)
        nest = NestChooser(24, _ROOM, 128.0, crowd=(crowd, crowd)).choose(m, n, k, batch, tile, kept=kept)
        assert sum(nest.tiles) == batch * -(-m // 128) * -(-n // 128)
        return nest.number, nest.band

    assert chosen(1536, 1536, 512, 512) == (COLUMNS, 1)
    assert chosen(1536, 1536, 512, 512, crowd=0.51)[0] == WHOLE
    assert chosen(1024, 768, 1024, 256) == (BANDS, 2)
    assert chosen(1024, 768, 1024, 256, crowd=0.34)[0] == STEPS
    # Cores begin at all columns; 13 of 24 have whole rows; two tiles each; operands L2 does not keep, several matrices.
    assert chosen(1536, 1664, 512, 512)[0] == WHOLE
    assert chosen(3200, 1408, 512, 512, crowd=0.29)[0] == COLUMNS
    assert chosen(1024, 768, 512, 512)[0] == WHOLE
    assert chosen(1536, 1536, 512, 512, kept=False)[0] == WHOLE
    assert chosen(1536, 1536, 512, 512, batch=3)[0] == WHOLE


@pytest.mark.parametrize(
    ("m", "n", "k", "share"),
    [(1536, 1536, 512, 0.9), (3072, 2816, 144, 0.7), (4416, 320, 768, 0.92)],
)
def test_cores_apart_take_less_time(m: int, n: int, k: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the walk in rows, for the same tiles."""

    def cycles() -> int:
        @kernel(a="fp16[M, K]", b="fp16[K, N]")
        def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
            k.store(k.matmul(k.load(a), k.load(b)))

        device = Device("ascend_910b1", timing_only=True)
        device.run(product, {"a": device.empty((m, k), "fp16"), "b": device.empty((k, n), "fp16")})
        return sum(launch.result.cycles for launch in device.launches)

    apart = cycles()
    monkeypatch.setattr(NestChooser, "_is_crowded", lambda *_: False)
    assert apart < share * cycles()


def test_cores_are_at_columns_side_by_side_where_addresses_are_not_spread() -> None:
    """86 columns of tiles on 32 cores: two whole rounds, and one of the 22 that are left."""
    tile = CubeTile((128, 256, 256), (128, 256, 64), 1, 0)

    def chosen(m: int, n: int, k: int, batch: int = 1, spread: bool = False, cores: int = 32) -> tuple[int, ...]:
        nest = NestChooser(cores, _ROOM, spread=spread).choose(m, n, k, batch, tile)
        assert nest.by_grid == (nest.number == ROUNDS)
        return nest.number, nest.band, *nest.tiles

    assert chosen(128, 22016, 4096) == (ROUNDS, 32, 64, 22)
    assert chosen(512, 6144, 4096) == (ROUNDS, 8, 64, 32)
    assert chosen(4096, 512, 4096) == (BANDS, 2, 60, 4), "what is new of the left operand comes in both rounds"
    assert chosen(128, 16384, 4096) == (ROUNDS, 32, 32, 32)
    assert chosen(128, 22016, 4096, spread=True) == (STEPS, 1, 86)
    assert chosen(384, 6144, 4096)[0] == STEPS, "three rows do not share 32 cores evenly"
    assert chosen(128, 8192, 4096)[0] == STEPS, "one round"
    assert chosen(128, 22016, 256)[0] == WHOLE
    assert chosen(128, 22016, 4096, batch=2)[0] == STEPS
    assert chosen(128, 22016, 4096, cores=1)[0] == STEPS


@pytest.mark.parametrize(("m", "n"), [(5, 100), (5, 96), (20, 55), (32, 64)])
def test_rounds_give_what_numpy_does(m: int, n: int) -> None:
    """On four cores, one or two rows of tiles, the last tile smaller or not."""
    chip, isa = the_chip("ascend_910a"), the_isa()
    k, tile = 45, CubeTile((16, 16, 32), (16, 16, 32), 2, 0)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float16) for shape in ((m, k), (k, n)))
    views = [MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n))]
    sort = ProductSort(MatmulSpec(m, n, k, views[0], views[1], views[2]))
    image = ProductPrograms(sort, 3, chip, isa, cores=4).image("rounds", sort.numbers, (m, n, k, 1), tile)
    rows, cols = -(-m // 16), -(-n // 16)
    side, shares = 4 // rows, [sum(stop - start for start, stop in each.ranges) for each in image.entries]
    first = rows * ((cols - 1) // side * side)
    assert [max(stop for _, stop in grid) for grid in zip(*(each.ranges for each in image.entries), strict=True)] == [
        first,
        rows * cols - first,
    ]
    assert max(shares) - min(shares) <= 1
    np.testing.assert_allclose(_run(image, a, b), a.astype(np.float64) @ b, rtol=2e-3, atol=2e-3)


def test_rounds_read_all_channels_of_a_chip_that_spreads_no_addresses() -> None:
    """Half of the channels were idle: each core was at every second column."""
    chip, isa = the_chip("ascend_910a"), the_isa()
    n, k, cycles = 16384, 512, {}
    for order in ("row", "rounds"):
        pins = Pins(tile={"l1": (1, 256, 128), "l0": (1, 256, 64)}, order=order)
        made = compile_kernel(_product, {"a": (1, k), "b": (k, n)}, chip, isa, pins)
        windows = [(0, 2 * k), (2 * k, 2 * k * n), (2 * k * (n + 1), 2 * n)]
        (launch,) = made.launches
        bases = [base for base, _ in windows]
        cycles[order] = simulate(chip, isa, launch.image, addresses=bases, windows=windows, data=False).cycles
    assert cycles["rounds"] < 1.2 * 2 * k * n / float(chip.hbm_bytes_per_cycle)
    assert cycles["row"] > 1.6 * cycles["rounds"]


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def _product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)), "y")


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
    np.testing.assert_allclose(_run(image, a, b, name), a.astype(np.float64) @ b, rtol=2e-3, atol=2e-3)


def _run(image: Image, a: Array, b: Array, name: str = "ascend_910a") -> Array:
    """The result of a product's image on data."""
    (m, k), n = a.shape, b.shape[1]
    memory, windows = GlobalMemory(1 << 17), [(at << 15, 2 * size) for at, size in enumerate((m * k, k * n, m * n))]
    for (base, _), array in zip(windows, (a, b), strict=False):
        memory.write(base, array)
    simulate(the_chip(name), the_isa(), image, memory=memory, addresses=[base for base, _ in windows], windows=windows)
    return memory.read(*windows[2]).view(np.float16).reshape(m, n)
