"""Input that once did what it must not, each with what it does now."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.guarded import outcome_of, the_chip, the_isa

from npuvm.hw.expansion.contexts import LOOPS, grid_contexts
from npuvm.hw.expansion.program import SizeDef
from npuvm.hw.launch import capacity_limits
from npuvm.hw.simulator import simulate
from npuvm.isa import AsmError, Entry, Image, IsaError, assemble, verify

IMAGE = Image("finding", the_isa().hash, np.array([2], dtype=np.uint64), (Entry("unified", 0, ((0, 1),)),))


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003", "\u2028"])
def test_other_white_space_in_assembly(space: str) -> None:
    """Only blanks and tabs stand between words; the error used to be an IndexError where such a character was alone."""
    with pytest.raises(AsmError, match=r"^<asm>:1:5: expected") as caught:
        assemble(the_isa(), f"nop {space}")
    assert repr(space) in caught.value.message


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000, "-" + "1" * 5000, "0b" + "1" * 20000])
@pytest.mark.parametrize(
    "line", ["szc size=s0 full={}", ".args {}", ".word {}", "szc size=s{} full=1", "nop | wait m{}"]
)
def test_numbers_of_thousands_of_digits(line: str, digits: str) -> None:
    """Python reads and prints no decimal of more than 4300 digits, which used to be a ValueError."""
    with pytest.raises(AsmError, match=r"^<asm>:1:[0-9]+: "):
        assemble(the_isa(), line.format(digits))


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (8 + 32 + 5 * 4, "the header's reserved field is 0x1; allowed: 0"),
        (8 + 32 + 6 * 4 + len("finding") + 1, "the reserved bytes of an entry are 010000; allowed: 000000"),
        (8 + 32 + 6 * 4 + len("finding") + 3, "the reserved bytes of an entry are 000001; allowed: 000000"),
    ],
)
def test_reserved_bytes_of_an_image(at: int, message: str) -> None:
    """They were not looked at, so that two different files were the same image."""
    body = bytearray(IMAGE.to_bytes()[:-4])
    assert body[at] == 0
    body[at] = 1
    with pytest.raises(IsaError, match=message):
        Image.from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))


HUGE = "szc size=s0 full=4294967295"
ENDLESS = {
    "an empty loop": "loop loop=l0 trip=s0\nendloop",
    "empty loops in each other": "loop loop=l0 trip=s0\nloop loop=l1 trip=s0\nendloop\nendloop",
    "an empty loop in one that dispatches": "loop loop=l0 trip=s0\nusync unit=load\nloop loop=l1 trip=s0\nendloop\nendloop",
    "a loop of nops": "loop loop=l0 trip=s0\nnop\nendloop",
    "a loop of scalars": "li rd=r0 imm=3\nloop loop=l0 trip=s0\nsmul rd=r0 ra=r0 rb=r0\nendloop",
    "a loop whose instruction is off": "loop loop=l0 trip=s0\nusync unit=load | if last(l0)\nendloop",
    "an empty grid": "grid loops=2 phase=0 t0=s0 t1=s0\nendgrid",
}


@pytest.mark.parametrize("body", list(ENDLESS.values()), ids=list(ENDLESS))
def test_loops_that_dispatch_next_to_nothing(body: str) -> None:
    """Their iterations were all expanded at once, for want of memory, or walked to the end before the cycle limit was seen."""
    text = f".args 1\n.entry unified 0 0:18446744065119617025\n{HUGE}\n{body}\nhalt"
    assert outcome_of(assemble(the_isa(), text), (bytes(64),), 100_000) == "trap cycle_limit"


def test_pauses_take_no_time() -> None:
    """A sequencer that is busy for long takes the cycles that docs/timing-model.md says."""
    sequencer = the_chip().core.sequencer
    trips = 50_000
    text = f".entry unified 0\nszc size=s0 full={trips}\nloop loop=l0 trip=s0\nnop\nendloop\nusync unit=load\nhalt"
    result = simulate(the_chip(), the_isa(), assemble(the_isa(), text), data=False)
    word = sequencer.decode_cycles_per_word
    entry = sequencer.start_cycles + 2 * word + word + sequencer.loop_cycles
    loops = trips * (2 * word + sequencer.loop_cycles)
    usync = word + sequencer.dispatch_cycles
    assert result.cycles == entry + loops + usync + max(1, word)


def test_grids_whose_tiles_are_too_many_to_visit() -> None:
    """The tiles that the verifier walks were listed before its steps were counted: 80**6 of them here."""
    lines = [f".entry unified 0 0:{10**18}", "szc size=s0 full=1000"]
    for size in range(1, 61):
        lines.append(f"sza size=s{size} loop_a=l{size % 6} full=100000 base={-97 * (size // 6)} step_a=1")
    lines.append("grid loops=6 phase=0 t0=s0 t1=s0 t2=s0 t3=s0 t4=s0 t5=s0")
    for size in range(1, 61):
        lines += [f"loop loop=l7 trip=s{size}", "usync unit=load", "endloop"]
    image = assemble(the_isa(), "\n".join([*lines, "endgrid", "halt"]))
    report = verify(the_isa(), image, capacity_limits(the_chip()), collect=True)
    assert [finding.rule for finding in report.findings] == ["effort"]


def test_long_programs_over_few_tiles() -> None:
    """Every access of a straight program was held against all before it; a unit's last one to a place now stands for them."""
    lines = [".entry unified 0", "szc size=s0 full=8"]
    lines += [f"desc desc=d{tile} space=ub base={tile * 512:#x} pitch=32" for tile in range(200)]
    for number in range(1500):
        a, b = 7 * number % 200, 13 * number % 200
        lines.append(f"vadd.fp32 dst=d{number % 200} a=d{a} b=d{b} rows=s0 cols=s0 | order")
    limits = capacity_limits(the_chip())
    for tail, rules in (("", []), ("vadd.fp32 dst=d1 a=d9 b=d99 rows=s0 cols=s0", ["hazard"])):
        image = assemble(the_isa(), "\n".join([*lines, tail, "halt"]))
        report = verify(the_isa(), image, limits, collect=True)
        assert [finding.rule for finding in report.findings] == rules


@pytest.mark.parametrize(
    "inner", ["szt size=s1 loop=l0 full=4294967295 tail=4294967294", "szc size=s1 full=4294967295"]
)
@pytest.mark.parametrize("first", [0, 4294967293, 8589934585])
def test_a_few_tiles_of_a_huge_grid(inner: str, first: int) -> None:
    """All tiles of a grid used to be listed when a trip count follows a counter, however few a core has."""
    text = f"""
        .args 1
        .entry unified 0 {first}:{first + 4}
        szc size=s0 full=2
        {inner}
        grid loops=2 phase=0 t0=s0 t1=s1
        usync unit=load
        endgrid
        halt"""
    assert outcome_of(assemble(the_isa(), text), (bytes(64),), 100_000) == "ran"


@pytest.mark.parametrize("start", [0, (1 << 32) - 3, (1 << 63) - 2, (1 << 64) - 5])
def test_tiles_by_the_largest_indices(start: int) -> None:
    """Linear indices are unsigned 64-bit numbers; as signed ones they would turn negative or inexact."""
    trip = (1 << 32) - 1
    (rows, _) = grid_contexts([SizeDef("const", trip)] * 3, [(start, start + 4)], [0] * 16, "here")
    expected = [[index // trip**2, index // trip % trip, index % trip] for index in range(start, start + 4)]
    assert rows[:, :3].tolist() == expected
    assert (rows[:, LOOPS : LOOPS + 3] == trip).all()


def tiles_of(trips: list[SizeDef], outer: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """(counter, trip count) of every loop of every tile, by nested loops."""
    if len(outer) == len(trips):
        return [outer]
    size = trips[len(outer)]
    count = size.full
    if size.kind == "tail":
        counter, trip = outer[size.loop_a]
        count = size.tail if counter == trip - 1 else size.full
    elif size.kind == "affine":
        value = size.base + size.step_a * outer[size.loop_a][0] + size.step_b * outer[size.loop_b][0]
        count = max(0, min(size.full, value))
    return [tile for counter in range(count) for tile in tiles_of(trips, [*outer, (counter, count)])]


@st.composite
def grids(draw: Any) -> list[SizeDef]:
    trips = [SizeDef("const", draw(st.integers(0, 4)))]
    while len(trips) < draw(st.integers(1, 4)):
        outer = st.integers(0, len(trips) - 1)
        kind = draw(st.sampled_from(["const", "tail", "affine"]))
        fields = {"full": draw(st.integers(0, 5)), "loop_a": draw(outer)}
        if kind == "tail":
            fields["tail"] = draw(st.integers(0, 5))
        elif kind == "affine":
            fields |= {"loop_b": draw(outer), "base": draw(st.integers(-2, 3))}
            fields |= {"step_a": draw(st.integers(-2, 2)), "step_b": draw(st.integers(-1, 1))}
        trips.append(SizeDef(kind, **fields))
    return trips


@given(grids(), st.data())
def test_tiles_of_any_grid(trips: list[SizeDef], data: st.DataObject) -> None:
    tiles = tiles_of(trips, [])
    start = data.draw(st.integers(0, len(tiles)))
    stop = data.draw(st.integers(start, len(tiles)))
    rows, counts = grid_contexts(trips, [(start, stop), (0, start)], [0] * 16, "here")
    assert counts.tolist() == [stop - start, start]
    loops = range(len(trips))
    found = [[(row[loop], row[LOOPS + loop]) for loop in loops] for row in rows.tolist()]
    assert found == tiles[start:stop] + tiles[:start]
