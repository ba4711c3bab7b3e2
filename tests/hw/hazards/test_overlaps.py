"""Regions that share a byte, many at once and two alone, against sets of bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.hw.hazards import overlaps
from npuvm.hw.hazards.overlaps import RegionTable, conflicting
from npuvm.isa.regions import share_a_byte


@dataclass(frozen=True)
class Tile:
    """A region and its role: "read", "write" or "atomic"."""

    space: int
    low: int
    rows: int
    row_bytes: int
    pitch: int
    role: str

    @property
    def high(self) -> int:
        return self.low + (self.rows - 1) * self.pitch + self.row_bytes

    def covered(self) -> set[int]:
        return {self.low + row * self.pitch + byte for row in range(self.rows) for byte in range(self.row_bytes)}


@st.composite
def tiles(draw: st.DrawFn) -> Tile:
    rows, row_bytes = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    pitch = row_bytes + draw(st.integers(0, 20))
    space, low = draw(st.integers(0, 1)), draw(st.integers(0, 60))
    return Tile(space, low, rows, row_bytes, pitch, draw(st.sampled_from(("read", "write", "atomic"))))


def table(found: list[Tile]) -> RegionTable:
    space, low, rows, row_bytes, pitch = (
        np.array([getattr(tile, name) for tile in found], dtype=np.int64)
        for name in ("space", "low", "rows", "row_bytes", "pitch")
    )
    roles = np.array([tile.role for tile in found], dtype="<U6")
    reads, writes, atomic = roles != "write", roles != "read", roles == "atomic"
    return RegionTable(np.arange(len(found)), space, low, rows, row_bytes, pitch, reads, writes, atomic)


@given(tiles(), tiles())
def test_overlap_of_two_is_a_common_byte(a: Tile, b: Tile) -> None:
    assert share_a_byte(a, b) == share_a_byte(b, a) == bool(a.covered() & b.covered())
    assert table([a, b]).share(0, 1) == (a.space == b.space and bool(a.covered() & b.covered()))


@given(st.lists(tiles(), max_size=12), st.sampled_from((1, 3, 1 << 20)))
def test_conflicts_of_many_are_those_of_all_pairs(found: list[Tile], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "_AT_ONCE", at_once)
        pairs = [
            tuple(sorted(pair)) for pair in zip(*(side.tolist() for side in conflicting(table(found))), strict=True)
        ]
    want = {
        (i, j)
        for j, b in enumerate(found)
        for i, a in enumerate(found[:j])
        if a.space == b.space and a.covered() & b.covered() and {a.role, b.role} not in ({"read"}, {"atomic"})
    }
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == want
