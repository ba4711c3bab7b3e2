"""Faults planted in programs that have none: each is reported, with the pair of instructions and what is missing."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from tests.hw.hazards.plants import (
    ATOMIC,
    GROUP,
    PRODUCT,
    RINGS,
    SINGLE,
    SPLIT,
    TWO_CORES,
    UNIFIED,
    build,
    find,
)

from npuvm.hw.config import NpuConfig
from npuvm.hw.hazards import Hazard, HazardError
from npuvm.hw.simulator import simulate
from npuvm.isa import load_isa

SOUND = {
    "single": (SINGLE, UNIFIED),
    "product": (PRODUCT, UNIFIED),
    "rings": (RINGS, UNIFIED),
    "two cores": (TWO_CORES, UNIFIED),
    "atomic": (ATOMIC, UNIFIED),
    "group": (GROUP, SPLIT),
}


class Plant(NamedTuple):
    """`changes` are (old, new) texts; of what is found one must be of `kind` in `space` between `earlier` and `later`."""

    program: str
    changes: tuple[tuple[str, str], ...]
    kind: str
    space: str
    earlier: str
    later: str
    missing: str


RAW, WAR, SET_UP = "read after write", "write after read", "set-up in use"

PLANTS = {
    "missing wait": Plant(
        "single", (("imm=2.0 | wait m0 m3", "imm=2.0 | wait m3"),), RAW, "ub", "ld", "vmuls",
        "load sets no semaphore that vector waits for (load sets 0, vector waits for 3)",
    ),
    "wrong event": Plant(
        "single", (("imm=2.0 | wait m0 m3", "imm=2.0 | wait m0 m3 set m2"), ("| set m1 m2 order", "| set m1 order")),
        RAW, "ub", "vadd", "st",
        "semaphore 2 is set by vector and waited for by store, but this wait is 1 set too early: "
        "it takes set number 1, the data are of set number 2",
    ),
    "buffer of a load freed by its first reader": Plant(
        "single", (("imm=2.0 | wait m0 m3", "imm=2.0 | wait m0 m3 set m1"), ("| set m1 m2 order", "| set m2 order"),
                   ("wait m1 m5", "wait m1")), WAR, "ub", "vadd", "ld",
        "semaphore 1 is set by vector and waited for by load, but this wait is 1 set too early",
    ),
    "more credits than buffers": Plant(
        "single", (("sem sem=m1 value=1", "sem sem=m1 value=2"), ("wait m1 m5", "wait m1")), WAR, "ub", "vadd", "ld",
        "semaphore 1 is set by vector and waited for by load, but the wait takes a count of the set-up",
    ),
    "missing order bit": Plant(
        "single", (("| set m1 m2 order", "| set m1 m2"),), RAW, "ub", "vmuls", "vadd", "the order bit of the later one",
    ),
    "result overwritten while it is stored": Plant(
        "single", (("wait m0 m3", "wait m0"), ("wait m1 m5", "wait m1")), WAR, "ub", "st", "vmuls",
        "store sets no semaphore that vector waits for",
    ),
    "store and load of the same global bytes": Plant(
        "single", (("wait m1 m5", "wait m1"),), RAW, "gm", "st", "ld",
        "store sets no semaphore that load waits for (store sets 3, 5, load waits for 1)",
    ),
    "accumulator read before the last product": Plant(
        "product", (("if first(l1) wait m2 set m3", "if first(l1) wait m2 set m3 m4"),
                    ("  usync unit=cube | set m4\n", "")), RAW, "l0c", "mmac", "fix",
        "semaphore 4 is set by cube and waited for by fixpipe, but this wait is 1 set too early",
    ),
    "accumulator of the next tile too early": Plant(
        "product", (("  usync unit=cube | wait m5\n", ""),), WAR, "l0c", "fix", "mma",
        "fixpipe sets no semaphore that cube waits for",
    ),
    "operand moved over one in use": Plant(
        "product", (("wait m0 m3", "wait m0"),), WAR, "l0a", "mma", "mvl0a",
        "cube sets no semaphore that move waits for (cube sets 3, 4, move waits for 0)",
    ),
    "operand freed by another unit than its reader": Plant(
        "product", (("| wait m1 set m0", "| wait m1 set m0 m6"), ("| wait m0 m3", "| wait m0 m6")),
        WAR, "l0a", "mma", "mvl0a", "cube sets no semaphore that move waits for",
    ),
    "ring of more slots than it has room for": Plant(
        "rings", (("ring ring=g0 slot_bytes=2048 slots=2 ready=m0 free=m1\nring ring=g1",
                   "ring ring=g0 slot_bytes=2048 slots=3 ready=m0 free=m1\nring ring=g1"),), WAR, "ub", "st", "ld",
        "store sets no semaphore that load waits for",
    ),
    "slots of a ring that overlap": Plant(
        "rings", (("ring ring=g0 slot_bytes=2048 slots=2 ready=m0 free=m1\nring ring=g1",
                   "ring ring=g0 slot_bytes=1024 slots=2 ready=m0 free=m1\nring ring=g1"),), WAR, "ub", "vmuls", "ld",
        "semaphore 1 is set by vector and waited for by load, but",
    ),
    "ring set up again while in flight": Plant(
        "rings", (("barrier scope=core\n", ""),), SET_UP, "", "ld", "ring", "a core barrier between the use of semaphore 0",
    ),
    "race of two cores without a barrier": Plant(
        "two cores", (("barrier scope=launch\nhalt\nsecond:\nbarrier scope=launch\n", "halt\nsecond:\n"),),
        RAW, "gm", "st", "ld",
        "store of core 0 sets no semaphore that load of core 1 waits for; nor does a launch barrier lie between",
    ),
    "barrier of too small a scope": Plant(
        "two cores", (("barrier scope=launch\nhalt\n", "barrier scope=core\nhalt\n"),
                      ("second:\nbarrier scope=launch\n", "second:\nbarrier scope=core\n")), RAW, "gm", "st", "ld",
        "the core barrier at word 15 does not reach core 1",
    ),
    "scalar load without a barrier": Plant(
        "two cores", (("barrier scope=launch\nhalt\n", "halt\n"), ("second:\nbarrier scope=launch\n", "second:\n")),
        RAW, "gm", "st", "lds", "a launch barrier; a scalar load waits for nothing else",
    ),
    "plain store beside an atomic one": Plant(
        "atomic", ((".entry unified 0\n.entry unified 0\n", ".entry unified 0\n.entry unified plain\n"),
                   ("halt\n", "halt\nplain:\nszc size=s0 full=16\nszc size=s1 full=64\n"
                    "desc desc=d0 space=gm base=@arg0 pitch=256\ndesc desc=d1 space=ub base=0x0 pitch=256\n"
                    "st.fp32 dst=d0 src=d1 rows=s0 cols=s1\nhalt\n")), RAW, "gm", "st", "stadd",
        "nor does a launch barrier lie between",
    ),
    "semaphore of the group not waited for": Plant(
        "group", (("| wait m40 set m41", "| set m41"),), RAW, "gm", "fix", "ld",
        "fixpipe of core 0 sets no semaphore that load of core 1 waits for (fixpipe of core 0 sets 40, "
        "load of core 1 waits for none); nor does a group barrier lie between",
    ),
    "place in global memory written again too early": Plant(
        "group", (("sem sem=m41 value=1", "sem sem=m41 value=2"),), WAR, "gm", "ld", "fix",
        "semaphore 41 is set by load of core 1 and waited for by fixpipe of core 0, but",
    ),
    "semaphore of the group set up without a barrier": Plant(
        "group", (("sem sem=m41 value=1\nbarrier scope=group\n", "sem sem=m41 value=0\n"),
                  ("base=0x0 pitch=64\nloop loop=l0 trip=s1\n  ld", "base=0x0 pitch=64\nusync unit=load | set m41\n"
                   "loop loop=l0 trip=s1\n  ld"),
                  ("vector:\nbarrier scope=group\n", "vector:\n"), ("idle:\nbarrier scope=group\n", "idle:\n")),
        SET_UP, "", "sem", "usync", "a group barrier between the use of semaphore 41 and the set-up of its count",
    ),
}  # fmt: skip


def planted(plant: Plant) -> tuple[str, NpuConfig]:
    text, chip = SOUND[plant.program]
    for old, new in plant.changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text, chip


@pytest.mark.parametrize(("text", "chip"), SOUND.values(), ids=SOUND.keys())
def test_the_sound_programs_have_none(text: str, chip: NpuConfig) -> None:
    assert find(build(text), chip) == []


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS.keys())
def test_a_planted_hazard_is_reported(plant: Plant) -> None:
    text, chip = planted(plant)
    image = build(text)
    told: dict[tuple[str, ...], Hazard] = {
        (h.kind, h.space, h.earlier.text.split(".")[0].split()[0], h.later.text.split(".")[0].split()[0]): h
        for h in reversed(find(image, chip))
    }
    hazard = told.get((plant.kind, plant.space, plant.earlier, plant.later))
    assert hazard is not None, list(told)
    assert plant.missing in hazard.missing
    for party in (hazard.earlier, hazard.later):
        assert party.start <= party.complete
        assert party.text in str(hazard)
    if hazard.kind != SET_UP:
        assert hazard.low < hazard.high


def test_what_is_hidden_by_timing_is_reported_all_the_same() -> None:
    """The second core computes for a long time before it loads what the first one stored at once."""
    for name in ("race of two cores without a barrier", "barrier of too small a scope"):
        for hazard in find(build(planted(PLANTS[name])[0]), UNIFIED):
            assert not hazard.overlapped
            assert hazard.earlier.complete + 1000 < hazard.later.start
            assert "apart in this run" in str(hazard)


def test_the_bytes_are_those_that_both_touch() -> None:
    hazards = find(build(planted(PLANTS["race of two cores without a barrier"])[0]), UNIFIED)
    load = next(h for h in hazards if h.later.text.startswith("ld."))
    assert (load.low, load.high) == ((1 << 20) + 0x780, (1 << 20) + 0x800)
    scalar = next(h for h in hazards if h.later.unit == "sequencer")
    assert (scalar.low, scalar.high) == ((1 << 20) + 0x780, (1 << 20) + 0x784)


def test_without_collecting_the_launch_fails() -> None:
    image = build(planted(PLANTS["missing order bit"])[0])
    with pytest.raises(HazardError, match="read after write in ub") as caught:
        simulate(UNIFIED, load_isa(), image, addresses=[1 << 20, 2 << 20, 3 << 20], data=False, hazards="raise")
    assert len(caught.value.hazards) == 1
    assert simulate(UNIFIED, load_isa(), image, addresses=[1 << 20, 2 << 20, 3 << 20], data=False).hazards == ()
