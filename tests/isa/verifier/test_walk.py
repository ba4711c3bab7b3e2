"""The walk over representative iterations gives the verdict that a walk over every iteration gives, at a bounded cost."""

from __future__ import annotations

import itertools

import pytest
from tests.isa.verifier.programs import CAUSAL, ELEMENTWISE, ISA, PRODUCT, UNIFIED, change, findings, mutants

from npuvm.isa import assemble, verify
from npuvm.isa.verifier import walk
from npuvm.isa.verifier.tables import Affine, Const, SizeDef, Tables, Tail


@pytest.mark.parametrize("text", [ELEMENTWISE, PRODUCT, CAUSAL], ids=["elementwise", "product", "causal"])
def test_same_verdict_as_over_every_iteration(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings(text) == ()
    brief = {name: verify(ISA, image, UNIFIED, collect=True).ok for name, image in mutants(text)}
    monkeypatch.setattr(walk, "_representatives", lambda low, high, extra: list(range(low, high + 1)))
    assert findings(text) == ()
    full = {name: verify(ISA, image, UNIFIED, collect=True).ok for name, image in mutants(text)}
    assert brief == full
    assert not all(brief.values())


def test_cost_does_not_depend_on_trip_counts() -> None:
    """Tiles, inner iterations and cores' ranges a million times larger take exactly as many steps."""

    def steps(tiles: int, trips: int) -> int:
        text = change(change(PRODUCT, "szc size=s0 full=3", f"szc size=s0 full={tiles}"), "0:12", f"0:{tiles * 5}")
        text = change(change(text, "szc size=s3 full=4", f"szc size=s3 full={trips}"), "12:15", "1:2")
        return verify(ISA, assemble(ISA, text), UNIFIED).steps

    assert steps(4, 5) == steps(4_000_000, 5_000_000)


SIZES = {
    "two constants": (Const(3), Const(4)),
    "one is 1": (Const(1), Const(5), Const(1)),
    "triangle": (Const(5), Affine(9, 1, ((0, 1),))),
    "tail": (Const(3), Tail(4, 2, 0), Const(2)),
}


@pytest.mark.parametrize("trips", SIZES.values(), ids=SIZES.keys())
def test_tiles_of_every_range_are_a_thinned_odometer(trips: tuple[SizeDef, ...]) -> None:
    """First and last tile are kept, order is kept, and successive tiles differ in sets of loops that successors differ in."""
    tables = Tables({}, {}, {}, {})
    total = walk.tile_count(tables, trips, {})
    everything = [walk._locate(tables, trips, tile) for tile in range(total)]
    assert everything == sorted(everything)
    assert len(set(everything)) == total
    for start in range(total):
        for stop in range(start + 1, total + 1):
            tiles = [tuple(c for c, _ in tile.values()) for tile in walk.grid_tiles(tables, trips, start, stop, ())]
            assert tiles[0] == everything[start]
            assert tiles[-1] == everything[stop - 1]
            assert tiles == sorted(tiles)
            real = {differing(a, b) for a, b in zip(everything[start:stop], everything[start + 1 : stop], strict=False)}
            assert {differing(a, b) for a, b in itertools.pairwise(tiles)} == real


def differing(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(loop for loop, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


def test_no_tiles() -> None:
    assert walk.grid_tiles(Tables({}, {}, {}, {}), (Const(0),), 0, 0, ()) == []
    assert findings(change(ELEMENTWISE, "0:6", "0:0")) == ()
