"""The walk over representative iterations gives the verdict that a walk over every iteration gives, at a bounded cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.isa.verify.programs import ELEMENTWISE, ISA, PRODUCT, UNIFIED, change, findings

from npuvm.isa import Image, Insn, assemble, decode_program, encode, format_insn, verify
from npuvm.isa.verify import walk
from npuvm.isa.verify.tables import Affine, Const, SizeDef, Tables, Tail

CAUSAL = """
.args 2
.entry unified 0 0:15
.entry unified 0 3:11
szc size=s0 full=5
szt size=s1 loop=l0 full=3 tail=3
sza size=s2 loop_a=l0 loop_b=l1 full=4 base=-1 step_a=1 step_b=1
szc size=s3 full=16
ring ring=g0 slot_bytes=512 slots=3 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=2 ready=m2 free=m3
desc desc=d0 space=gm base=@arg0 pitch=32
dstr desc=d0 loop=l2 stride=512
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=32
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=32
desc desc=d3 space=ub role=producer base=0x600 ring=g1 pitch=32
desc desc=d4 space=ub role=consumer base=0x600 ring=g1 pitch=32
desc desc=d5 space=gm base=@arg1 pitch=32
grid loops=2 phase=0 t0=s0 t1=s1
  vdup.fp16 dst=d3 rows=s3 cols=s3 imm=0x0 | wait m3
  loop loop=l2 trip=s2
    ld.fp16 dst=d1 src=d0 rows=s3 cols=s3 | wait m1 set m0
    vadd.fp16 dst=d3 a=d3 b=d2 rows=s3 cols=s3 | wait m0 set m1 order
  endloop
  usync unit=vector | set m2
  st.fp16 dst=d5 src=d4 rows=s3 cols=s3 | wait m2 set m3
endgrid
halt
"""
"""Sums as many tiles as the counters of the grid say, none on the first tile."""


def mutants(text: str) -> Iterator[tuple[str, Image]]:
    """The image with one wait, set, order bit or predicate taken away, in every place."""
    image = assemble(ISA, text, "test")
    for pc, insn in decode_program(ISA, image.words):
        changed: list[Insn] = []
        for field in ("wait", "set"):
            numbers = getattr(insn, field)
            changed += [replace(insn, **{field: numbers[:i] + numbers[i + 1 :]}) for i in range(len(numbers))]
        changed += [replace(insn, order=False)] if insn.order else []
        changed += [replace(insn, pred=None)] if insn.pred else []
        for mutant in changed:
            words = image.words.copy()
            encoded = encode(ISA, mutant)
            words[pc : pc + len(encoded)] = encoded
            yield f"{pc}: {format_insn(ISA, insn)}", replace(image, words=words)


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
