"""Bands of tiles: as wide as makes the part of a core square, unless L2 then loses what it is to keep."""

from __future__ import annotations

from npuvm.compiler.cube_nest import BANDS, STEPS, NestChooser
from npuvm.compiler.cube_problem import CubeTile

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


def test_few_tiles_are_walked_row_by_row() -> None:
    assert NestChooser(24, _ROOM).choose(512, 512, 16384, 1, _TILE).number == STEPS
