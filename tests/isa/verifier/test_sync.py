"""Synchronisation beyond single faults: what must be accepted, and faults that take several instructions to make."""

from __future__ import annotations

import pytest
from tests.isa.verifier.programs import ELEMENTWISE, PIPELINE, PRODUCT, RELAY, SPLIT, change, findings


def rules(text: str) -> set[str]:
    return {finding.rule for finding in findings(text)}


TEMPORARY = """
.entry unified 0
szc size=s0 full=16
sem sem=m0 value=0
sem sem=m1 value=0
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=ub base=0x0 pitch=32
desc desc=d2 space=ub base=0x400 pitch=32
"""
HEAD = TEMPORARY
LD = "ld.fp16 dst=d1 src=d0 rows=s0 cols=s0"
MOVE = "vmov.fp16 dst=d2 a=d1 rows=s0 cols=s0"
ST = "st.fp16 dst=d0 src=d2 rows=s0 cols=s0"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{LD} | set m0\n{MOVE} | wait m0 set m1\n{ST} | wait m1", set()),
        (f"{LD}\nbarrier scope=core\n{MOVE}\nbarrier scope=core\n{ST}", set()),
        (f"{LD}\n{MOVE}", {"hazard"}),
        (f"{LD} | set m0\n{MOVE} | wait m0\n{ST}", {"hazard"}),
        (f"{LD} | set m0\n{MOVE} | wait m0\n{LD}", {"hazard"}),  # write after read
        (f"{LD} | set m0\n{MOVE} | wait m0 set m1\nusync unit=load | wait m1\n{LD}", set()),
        (f"{LD}\n{LD}", set()),  # write after write within a unit: in order
        (f"{LD}\nvdup.fp16 dst=d1 rows=s0 cols=s0 imm=0x0", {"hazard"}),  # write after write between units
        (f"vdup.fp16 dst=d1 rows=s0 cols=s0 imm=0x0\n{MOVE}", {"hazard"}),  # read after write within a unit
        (f"vdup.fp16 dst=d1 rows=s0 cols=s0 imm=0x0\n{MOVE} | order", set()),
        (f"vdup.fp16 dst=d1 rows=s0 cols=s0 imm=0x0\nusync unit=vector | order\n{MOVE}", set()),
        (f"{MOVE}\nvdup.fp16 dst=d1 rows=s0 cols=s0 imm=0x0", set()),  # write after read within a unit: in order
    ],
)
def test_plain_buffers(body: str, expected: set[str]) -> None:
    """Buffers outside rings need what a ring would give: an order between conflicting accesses of two units."""
    assert rules(f"{HEAD}{body}\nhalt\n") == expected


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("base=0x0 pitch=64", {"hazard"}),
        ("base=0x20 pitch=64", set()),  # the other half of every row
        ("base=0x400 pitch=64", set()),
    ],
)
def test_hazards_see_rows_not_hulls(second: str, expected: set[str]) -> None:
    text = f"""
.entry unified 0
szc size=s0 full=16
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=ub base=0x0 pitch=64
desc desc=d2 space=ub {second}
ld.fp16 dst=d1 src=d0 rows=s0 cols=s0
vdup.fp16 dst=d2 rows=s0 cols=s0 imm=0x0
halt
"""
    assert rules(text) == expected


def test_buffers_of_another_phase_may_overlap_after_a_barrier() -> None:
    """Semaphores, rings and bytes are given out again behind a barrier, and only there."""
    head, body = ELEMENTWISE.split("grid", 1)
    setup = "".join(line + "\n" for line in head.splitlines() if line.startswith(("ring", "desc", "dstr")))
    again = body.replace("endgrid\nhalt\n", "").replace("phase=0", "phase=1")
    ranges = head.replace("0:6", "0:6 2:3").replace("6:12", "6:12 3:9")
    second = f"{setup}grid{again}endgrid\nhalt\n"
    assert rules(f"{ranges}grid{body}".replace("halt\n", f"barrier scope=core\n{second}")) == set()
    assert rules(f"{ranges}grid{body}".replace("halt\n", second)) == {"redefinition"}


def test_two_rings_may_share_their_semaphores() -> None:
    """L0A and L0B slots of different sizes under one pair of semaphores."""
    text = change(PRODUCT, "ring ring=g3", "ring ring=g4 slot_bytes=1024 slots=2 ready=m4 free=m5\nring ring=g3")
    text = text.replace(
        "role=producer base=0x0 ring=g2 pitch=32\ndesc desc=d10",
        "role=producer base=0x0 ring=g4 pitch=32\ndesc desc=d10",
    )
    text = text.replace(
        "desc desc=d10 space=l0b role=consumer base=0x0 ring=g2",
        "desc desc=d10 space=l0b role=consumer base=0x0 ring=g4",
    )
    assert text.count("ring=g4") == 3
    assert rules(text) == set()
    assert "ring" in rules(change(text, "slot_bytes=1024 slots=2 ready=m4", "slot_bytes=1024 slots=3 ready=m4"))


def test_two_buffers_in_one_ring_keep_apart() -> None:
    """L0A and L0B are one ring in two spaces; in one space their slots must not meet."""
    text = PRODUCT.replace("space=l0b", "space=l0a")
    assert "space" in rules(text)
    both = change(
        ELEMENTWISE, "desc desc=d3 space=ub base=0x8000", "desc desc=d3 space=ub role=producer ring=g1 base=0x1800"
    )
    assert "slot" in rules(both)
    assert "slot" not in rules(both.replace("base=0x1800", "base=0x2800"))


def test_a_slot_may_pass_through_two_units() -> None:
    assert rules(RELAY) == set()
    assert rules(change(change(RELAY, "set m4 m2", "set m4"), "wait m2 set m0", "set m0")) == {"ring", "hazard"}


REGISTER_TRIP = """
.entry unified 0
szc size=s0 full=16
szr size=s1 full=1000 reg=r0
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=32
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=32
desc desc=d3 space=ub base=0x800 pitch=32
lds.int32 rd=r0 src=d0
loop loop=l0 trip=s1
  ld.fp16 dst=d1 src=d0 rows=s0 cols=s0 | wait m1 set m0
  vmov.fp16 dst=d3 a=d2 rows=s0 cols=s0 | wait m0 set m1
endloop
halt
"""


def test_trip_counts_from_registers() -> None:
    """A size follows its register when it is used; the count may be anything, so every iteration has to balance."""
    assert rules(REGISTER_TRIP) == set()
    assert rules(change(REGISTER_TRIP, "lds.int32 rd=r0 src=d0\n", "")) == {"undefined"}
    assert rules(change(REGISTER_TRIP, "| wait m0 set m1", "| if first(l0) wait m0 set m1")) == {"balance"}


def test_loops_that_take_at_first_and_give_at_last() -> None:
    """Legal where the trip count is a constant of one or more, not where it may be zero."""
    text = change(PRODUCT, "  usync unit=cube | wait m7\n", "")
    text = change(text, "  usync unit=cube | set m6\n", "")
    text = change(text, "endloop", "usync unit=cube | if last(l2) set m6\nendloop")
    text = change(text, "ld.fp16 dst=d5", "usync unit=cube | if first(l2) wait m7\nld.fp16 dst=d5")
    assert rules(text) == set()
    assert rules(change(text, "szc size=s3 full=4", "szc size=s3 full=0")) == {"deadlock"}
    varying = change(text, "szc size=s3 full=4", "szt size=s3 loop=l0 full=4 tail=3")
    assert rules(varying) == {"balance"}


def test_group_semaphores_and_barriers() -> None:
    assert {f.rule for f in findings(change(PIPELINE, "value=2", "value=0"), SPLIT)} == {"deadlock"}
    no_barrier = PIPELINE.replace("barrier scope=group\n", "")
    assert {f.rule for f in findings(no_barrier, SPLIT)} == set()  # waits order the use after the definition
    late = change(no_barrier, "vector2:\n", "vector2:\nsem sem=m41 value=0\n")
    assert {f.rule for f in findings(late, SPLIT)} == {"redefinition"}
    launch = PIPELINE.replace("m40", "m60").replace("m41", "m61").replace("m42", "m62")
    assert findings(launch, SPLIT) == ()


def with_trips(*trips: int) -> str:
    """The pipeline with these trip counts on the cube core and the two vector cores."""
    parts = PIPELINE.split("full=9")
    assert len(parts) == len(trips) + 1
    return parts[0] + "".join(f"full={trip}{part}" for trip, part in zip(trips, parts[1:], strict=True))


@pytest.mark.parametrize(
    ("trips", "message"),
    [
        ((4, 9, 9), "m40 is waited for 9 times over all iterations and signalled 4 times at most"),
        ((9, 65545, 9), "m40 is waited for 65545 times over all iterations and signalled 9 times at most"),
        ((9, 9, 12), "m41 is waited for 12 times over all iterations and signalled 9 times at most"),
        ((9, 4, 9), "m42 is waited for 9 times over all iterations and signalled 6 times at most"),
        (
            (2_000_000_000, 9, 9),
            "m42 is waited for 2000000000 times over all iterations and signalled 11 times at most",
        ),
    ],
)
def test_cores_that_signal_each_other_unequally_often(trips: tuple[int, ...], message: str) -> None:
    """The walk visits three iterations on every side, whatever the trip counts, and finds nothing."""
    (found,) = findings(with_trips(*trips), SPLIT)
    assert found.rule == "deadlock"
    assert found.message == f"{message}; allowed: as often"


@pytest.mark.parametrize("trips", [(1_000_000, 1_000_000, 1_000_000), (9, 8, 9), (9, 9, 4), (4, 3, 4), (0, 0, 0)])
def test_cores_that_signal_each_other_often_enough(trips: tuple[int, ...]) -> None:
    assert findings(with_trips(*trips), SPLIT) == ()


@pytest.mark.parametrize(
    ("predicate", "fits"),
    [("first(l0)", 1), ("last(l0)", 1), ("not_first(l0)", 8), ("not_last(l0)", 8)],
)
def test_predicates_count_as_often_as_they_hold(predicate: str, fits: int) -> None:
    """The first vector core waits in some of its nine iterations for signals that the cube core gives ahead."""
    text = PIPELINE.replace("wait m40 set m42", f"if {predicate} wait m40").replace("wait m42 set m40 m41", "set m41")
    given = change(text, "sem sem=m40 value=0", f"sem sem=m40 value={fits}")
    assert findings(given, SPLIT) == ()
    short = change(text, "sem sem=m40 value=0", f"sem sem=m40 value={fits - 1}")
    assert {found.rule for found in findings(short, SPLIT)} == {"deadlock"}


def test_cores_of_one_type_on_a_split_chip() -> None:
    vector = ELEMENTWISE.replace("unified", "vector")
    assert findings(vector, SPLIT) == ()


def test_argument_sizes_bound_global_memory() -> None:
    tensor = 11 * 2048 + 5 * 128
    assert findings(ELEMENTWISE, argument_bytes=[tensor, tensor]) == ()
    found = findings(ELEMENTWISE, argument_bytes=[tensor, tensor - 2])
    assert [f.message for f in found] == [
        f"dst=d6 reaches bytes 0 to {tensor} of argument 1; allowed: 0 to {tensor - 2}"
    ]
    windowed = change(
        ELEMENTWISE, "dstr desc=d6", "dwin desc=d6 rows=180 cols=64 row_step=16 row_loop=l0\ndstr desc=d6"
    )
    assert findings(windowed, argument_bytes=[tensor, 180 * 128]) == ()
    assert findings(windowed, argument_bytes=[tensor, 180 * 128 - 2])[0].rule == "bounds"
    assert findings(ELEMENTWISE, argument_bytes=[tensor])[0].rule == "relocation"


def test_absolute_addresses_must_be_allowed() -> None:
    text = change(ELEMENTWISE, "base=@arg1", "base=0x10000")
    assert {f.rule for f in findings(text)} == {"relocation"}
    assert findings(text, absolute=True) == ()


def test_relocations_patch_bases_only() -> None:
    for line, message in ((".reloc 0 @arg0", "no base of a descriptor"), (".reloc 18 @arg0", "no base")):
        found = findings(ELEMENTWISE + line + "\n")
        assert [f.rule for f in found] == ["relocation"]
        assert message in found[0].message
    twice = ELEMENTWISE + ".reloc 11 @arg0\n"
    assert [f.message for f in findings(twice)] == ["patched twice; a base has one relocation"]


def test_grid_trip_counts_are_no_registers() -> None:
    text = change(ELEMENTWISE, "szc size=s0 full=12", "li rd=r0 imm=12\nszr size=s0 full=12 reg=r0")
    assert rules(text) == {"range"}
