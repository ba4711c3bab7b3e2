"""Each rule of the verifier: a legal program passes, the same program with one fault is refused, with word and reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from tests.isa.verifier.programs import (
    ELEMENTWISE,
    ISA,
    PIPELINE,
    PRODUCT,
    SPLIT,
    UNIFIED,
    change,
    findings,
    word_of,
)

from npuvm.isa import CapacityLimits, VerifyError, assemble, load_isa, verify
from npuvm.isa.verifier import RULES


@dataclass(frozen=True)
class Fault:
    """A replacement in a legal program, the rule it breaks, the instruction it is found at, and words of the message."""

    rule: str
    old: str
    new: str
    at: str
    message: str
    base: str = ELEMENTWISE
    limits: CapacityLimits = UNIFIED


LOAD = "ld.fp16 dst=d1 src=d0 rows=s2 cols=s1 | wait m1 set m0"
SCALE = "vmuls.fp16 dst=d3 a=d2 rows=s2 cols=s1 imm=2.0 | wait m0"
ADD = "vadd.fp16 dst=d4 a=d3 b=d2 rows=s2 cols=s1 | wait m3 set m2 m1 order"
STORE = "st.fp16 dst=d6 src=d5 rows=s2 cols=s1 | wait m2 set m3"

FAULTS = {
    "reserved word": Fault("decode", "halt\n", "halt\n.word 0xff\n", ".word", "unallocated"),
    "start inside": Fault("entry", "unified 0 0:6", "unified 1 0:6", "", "starts inside"),
    "absent core type": Fault("entry", "unified 0 0:6", "cube 0 0:6", "", "the chip has 0"),
    "group order": Fault("entry", "vector vector\n", "cube vector\n", "", "in this order", PIPELINE, SPLIT),
    "no endgrid": Fault("structure", "endgrid\nhalt", "halt", "halt", "halt inside a loop or grid"),
    "open at the end": Fault("structure", "endgrid\nhalt", "nop", "grid", "no matching endgrid"),
    "no halt": Fault("structure", "halt", "nop", "", "runs past its last word"),
    "stray end": Fault("structure", "halt", "endloop\nhalt", "endloop", "without an open loop"),
    "wrong end": Fault("structure", "endgrid", "loop loop=l1 trip=s0\nendgrid\nendloop", "endgrid", "endloop must come"),
    "same loop": Fault("structure", "  ld", "loop loop=l0 trip=s0\nendloop\n  ld", "loop loop", "open already"),
    "set-up inside": Fault("structure", "  ld", "szc size=s9 full=1\n  ld", "szc size=s9", "set-up inside"),
    "barrier inside": Fault("structure", "  ld", "barrier scope=core\n  ld", "barrier", "barrier inside"),
    "grid inside": Fault(
        "structure",
        "grid loops=1 phase=0 t0=s0",
        "loop loop=l7 trip=s0\ngrid loops=1 phase=0 t0=s0",
        "grid",
        "a grid inside",
    ),
    "sequencer waits": Fault("sequencer", "  ld", "li rd=r0 imm=1 | wait m0\n  ld", "li", "use usync"),
    "set-up predicate": Fault("sequencer", "t0=s0\n", "t0=s0 | if first(l0)\n", "grid", "no predicate"),
    "closed loop": Fault("predicate", LOAD, f"{LOAD} if first(l1)", "ld", "open loops; there are: l0"),
    "changed in a loop": Fault(
        "predicate",
        LOAD,
        f"{LOAD}\nloop loop=l1 trip=s0\nusync unit=load | if changed(l1)\nendloop",
        "usync",
        "loops of an open grid; there are: l0",
    ),
    "size": Fault("undefined", "szc size=s1 full=64\n", "", "ld", "size s1 is not defined"),
    "descriptor": Fault("undefined", "dst=d1 src", "dst=d9 src", "ld", "descriptor d9 is not defined"),
    "stride first": Fault("undefined", "dstr desc=d0", "dstr desc=d7", "dstr desc=d7", "descriptor d7 is not defined"),
    "ring": Fault("undefined", "ring=g1 pitch=128\ndesc desc=d5", "ring=g9 pitch=128\ndesc desc=d5", "vadd", "ring g9"),
    "semaphore": Fault("undefined", "wait m2", "wait m5", "st", "semaphore m5 is not defined"),
    "register": Fault("undefined", "szc size=s1 full=64", "szr size=s1 full=64 reg=r3", "ld", "register r3"),
    "scalar register": Fault("undefined", "  ld", "sadd rd=r0 ra=r1 rb=r1\n  ld", "sadd", "register r1"),
    "stride over closed": Fault("undefined", "dstr desc=d0 loop=l0", "dstr desc=d0 loop=l4", "ld", "loop l4"),
    "size of closed": Fault("undefined", "szt size=s2 loop=l0", "szt size=s2 loop=l3", "ld", "follows loop l3"),
    "window of closed": Fault(
        "undefined", "dstr desc=d0", "dwin desc=d0 rows=9 cols=9 row_step=1 row_loop=l5\ndstr desc=d0", "ld", "loop l5"
    ),
    "no vector unit": Fault("unit", "unified 0 0:6\n.entry unified 0", "cube 0 0:6\n.entry cube 0", "vmuls",
                            "a cube core has no vector unit", limits=replace(SPLIT, group=("cube",))),
    "no such buffer": Fault("unit", "unified 0 0:6\n.entry unified 0", "cube 0 0:6\n.entry cube 0", "ld",
                            "a cube core has no ub", limits=replace(SPLIT, group=("cube",))),
    "wrong space": Fault("space", "desc desc=d1 space=ub", "desc desc=d1 space=l0a", "ld", "allowed: ub, l1"),
    "window on chip": Fault("space", "dstr desc=d6", "dwin desc=d5 rows=1 cols=1\ndstr desc=d6", "dwin", "windows are for gm"),
    "base": Fault("alignment", "base=0x8000", "base=0x8010", "vmuls", "its base is 32784; allowed in ub: multiples of 32"),
    "pitch": Fault("alignment", "base=0x8000 pitch=128", "base=0x8000 pitch=136", "vmuls", "its pitch is 136"),
    "slot bytes": Fault("alignment", "slot_bytes=2048 slots=2", "slot_bytes=2050 slots=2", "ld", "slot_bytes of g0"),
    "stride": Fault("alignment", "dstr desc=d6 loop=l0 stride=2048", "dstr desc=d3 loop=l0 stride=16",
                    "vmuls", "stride over l0"),
    "addend": Fault("alignment", "base=@arg0", "base=@arg0+1", "ld", "its base is 1; allowed in gm: multiples of 2"),
    "written pitch 0": Fault("pitch", "base=0x8000 pitch=128", "base=0x8000 pitch=0", "vmuls", "written 0 apart"),
    "written rows overlap": Fault("pitch", "base=0x8000 pitch=128", "base=0x8000 pitch=64", "vmuls", "allowed: 128 or more"),
    "past the buffer": Fault("bounds", "base=0x8000", "base=0xf820", "vmuls",
                             "bytes 63520 to 65568 of ub; allowed: 0 to 65536"),
    "last slot past": Fault("bounds", "base=0x1000 ring=g1 pitch=128\ndesc desc=d5",
                            "base=0xe820 ring=g1 pitch=128\ndesc desc=d5", "vadd", "to 65568 of ub"),
    "last iteration past": Fault("bounds", "dstr desc=d6 loop=l0 stride=2048", "dstr desc=d3 loop=l0 stride=2976",
                                 "vmuls", "bytes 32768 to 66144"),
    "before the buffer": Fault("bounds", "dstr desc=d6 loop=l0 stride=2048", "dstr desc=d3 loop=l0 stride=-3200",
                               "vmuls", "bytes -2432 to"),
    "over the slot": Fault("slot", "slot_bytes=2048 slots=2", "slot_bytes=2016 slots=2", "ld", "allowed: 2016 bytes a slot"),
    "no relocation": Fault("relocation", "base=@arg1", "base=0x1000", "desc desc=d6", "no relocation of its base"),
    "relocated on chip": Fault("relocation", "base=0x8000", "base=@arg0", "desc desc=d3", "on-chip descriptor"),
    "past the grid": Fault("range", "6:12", "6:13", "grid",
                           "tiles 6 to 13 of a core are not within the grid; allowed: 0 to 12"),
    "backwards": Fault("range", "6:12", "7:6", "grid", "tiles 7 to 6"),
    "no range": Fault("range", "unified 0 6:12", "unified 0", "grid", "phase 0 has no range"),
    "missed barrier": Fault("barrier", "endloop\nbarrier scope=launch\nhalt\nvector2:", "endloop\nhalt\nvector2:", "", "meet",
                            PIPELINE, SPLIT),
    "two waiters": Fault("owner", STORE, f"{STORE}\nusync unit=store | wait m0", "usync", "waited for by the store unit"),
    "two setters": Fault("owner", "set m2 m1 order", "set m2 m1 order\nusync unit=load | set m1", "usync",
                         "m1 is set by the load unit and by the vector unit"),
    "named twice": Fault("owner", "wait m2 set", "wait m2 m2 set", "st", "twice"),
    "no wait for free": Fault("ring", LOAD, LOAD.replace("wait m1 ", ""), "ld", "allowed after a wait for m1"),
    "no wait for ready": Fault("ring", SCALE, SCALE.replace(" | wait m0", ""), "vmuls", "allowed after a wait for m0"),
    "early release": Fault("ring", SCALE, f"{SCALE} set m1", "vadd", "uses a slot; allowed after a wait for m0"),
    "one semaphore": Fault("ring", "ready=m0 free=m1", "ready=m0 free=m0", "ring ring=g0", "both ready and free"),
    "not drained": Fault("redefinition", "halt\n", "sem sem=m3 value=1\nhalt\n", "sem", "allowed after a barrier"),
    "lost slot": Fault("balance", STORE, STORE.replace(" set m3", ""), "grid", "allowed:"),
    "no producer": Fault("deadlock", LOAD, LOAD.replace(" set m0", ""), "vmuls", "waits for m0"),
    "group deadlock": Fault("deadlock", "wait m42 set m40 m41", "wait m42 set m41", "usync unit=fixpipe",
                            "core 1 waits for m40", PIPELINE, SPLIT),
    "too irregular": Fault("effort", "grid loops=1 phase=0 t0=s0",
                           "sza size=s8 loop_a=l0 full=9 base=1 step_a=1\nszc size=s9 full=4000000000\n"
                           "grid loops=2 phase=0 t0=s9 t1=s8",
                           "grid", "follow 4000000000 counters of outer loops"),
    "no order": Fault("hazard", ADD, ADD.replace(" order", ""), "vadd", "a=d3: read after write in ub bytes 32768 to 34816"),
    "unsynchronised read": Fault("hazard", STORE, STORE.replace("src=d5", "src=d3"), "", "m"),
    "shared with a slot not walked": Fault("hazard", "slot_bytes=2048 slots=3", "slot_bytes=2048 slots=15", "vmuls",
                                           "write after read in ub bytes 32768 to 34816"),
    "shared bytes": Fault("hazard", "base=0x8000", "base=0x0", "ld", "write after read"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "limits"), [(ELEMENTWISE, UNIFIED), (PRODUCT, UNIFIED), (PIPELINE, SPLIT)])
def test_legal_programs_pass(text: str, limits: CapacityLimits) -> None:
    report = verify(ISA, assemble(ISA, text), limits)
    assert report.ok
    assert report.instructions > 0


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_fault_is_found(fault: Fault) -> None:
    text = change(fault.base, fault.old, fault.new)
    found = findings(text, fault.limits)
    matching = [f for f in found if f.rule == fault.rule and fault.message in f.message]
    assert matching, [str(f) for f in found]
    if fault.at:
        assert word_of(text, fault.at) in [f.pc for f in matching]
    with pytest.raises(VerifyError) as caught:
        verify(ISA, assemble(ISA, text, "test"), fault.limits)
    assert str(caught.value).startswith("test")


def test_every_rule_has_a_fault() -> None:
    assert {fault.rule for fault in FAULTS.values()} | {"hash"} == set(RULES)


def test_effort_is_bounded() -> None:
    image = assemble(ISA, ELEMENTWISE, "k")
    steps = verify(ISA, image, UNIFIED).steps
    assert verify(ISA, image, UNIFIED, max_steps=steps).ok
    with pytest.raises(VerifyError, match=r"more than \d+ steps to prove.*\[effort\]"):
        verify(ISA, image, UNIFIED, max_steps=steps // 4)


def test_image_of_another_instruction_set_is_refused() -> None:
    image = replace(assemble(ISA, ELEMENTWISE, "k"), isa_hash="ab" * 32)
    with pytest.raises(VerifyError, match=r"k: the image was made for instruction set abab.* \[hash\]"):
        verify(ISA, image, UNIFIED)


def test_error_names_word_instruction_rule_and_what_is_allowed() -> None:
    text = change(ELEMENTWISE, "base=0x8000", "base=0x8010")
    with pytest.raises(VerifyError) as caught:
        verify(ISA, assemble(ISA, text, "k"), UNIFIED)
    word = word_of(text, "vmuls")
    assert caught.value.where == f"k: word {word} (vmuls.fp16 dst=d3 a=d2 rows=s2 cols=s1 imm=0x40000000 | wait m0)"
    expected = "dst=d3: its base is 32784; allowed in ub: multiples of 32 bytes [alignment]"
    assert caught.value.message == expected


def test_collect_finds_several() -> None:
    text = change(change(ELEMENTWISE, "base=0x8000", "base=0x8010"), "base=@arg1", "base=0x0")
    assert {f.rule for f in findings(text)} == {"alignment", "relocation"}


def test_image_without_entries_is_refused() -> None:
    assert findings("halt")[0].rule == "entry"
    other = load_isa(extensions=["fma"])
    with pytest.raises(VerifyError, match="hash"):
        verify(other, assemble(ISA, ELEMENTWISE), UNIFIED)
