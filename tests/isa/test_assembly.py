"""Assembler and disassembler: the same text back, the same image back, and errors that name the place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.off import isa_without
from tests.isa.strategies import images, insns

from npuvm.isa import (
    AsmError,
    Image,
    Insn,
    IsaError,
    Pred,
    Reloc,
    assemble,
    assemble_insns,
    disassemble,
    disassemble_words,
    encode,
    format_insn,
    load_isa,
)

ISA = load_isa()

CANONICAL = f"""\
.image scale
.isa npu 1.0 {ISA.hash}
.args 2
.entry unified 0 0:12
.entry unified 0 12:20
szc size=s0 full=20
szt size=s1 loop=l0 full=64 tail=17
desc desc=d0 space=gm base=@arg0+0x40 pitch=128
dstr desc=d0 loop=l0 stride=-8192
dwin desc=d0 rows=100 cols=64 row0=-1
desc desc=d1 space=ub role=producer base=0x100 ring=g2 pitch=128
desc desc=d2 space=gm base=@arg1 pitch=128
ring ring=g2 slot_bytes=8192 slots=2 ready=m3 free=m4
grid loops=1 phase=0 t0=s0
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s1 cache=stream pad=0x3c00 | if changed(l0) wait m4 set m3
  loop loop=l3 trip=s1
    vmuls.fp16 dst=d1 a=d1 rows=s1 cols=s1 imm=0x4000 | if not_first(l0,l3) wait m3 m5 set m4 m6 order
    vcast.fp16->fp32 dst=d1 a=d1 rows=s1 cols=s1
  endloop
  usync unit=vector | wait m3
endgrid
barrier scope=launch
halt
.word 0x00000000000000ff  # unallocated
"""


def test_canonical_text_comes_back() -> None:
    """Operands stand in the order of the instruction set's YAML, whatever the order of the input."""
    image = assemble(ISA, CANONICAL)
    text = disassemble(ISA, image)
    assert text == disassemble(ISA, assemble(ISA, text))
    assert image.name == "scale"
    assert image.relocs == (Reloc(5, 0, 0x40), Reloc(18, 1, 0))
    assert [e.ranges for e in image.entries] == [((0, 12),), ((12, 20),)]
    reordered = CANONICAL.replace("rows=100 cols=64 row0=-1", "row0=-1 rows=100 cols=64")
    assert text == reordered


@given(insns(ISA))
def test_instruction_to_text_and_back(insn: Insn) -> None:
    assert assemble_insns(ISA, format_insn(ISA, insn)) == [insn]


@given(images(ISA))
def test_image_to_text_and_back(image: Image) -> None:
    text = disassemble(ISA, image)
    again = assemble(ISA, text)
    assert again.to_bytes() == image.to_bytes()
    assert disassemble(ISA, again) == text
    assert assemble(ISA, disassemble(ISA, image, offsets=True)).to_bytes() == image.to_bytes()


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=6))
def test_any_words_print_and_come_back(words: list[int]) -> None:
    lines = disassemble_words(ISA, words)
    assert assemble(ISA, "\n".join(lines)).words.tolist() == words


def test_free_form_input() -> None:
    text = """
    # a comment, and an empty line

    main:  vdup.fp16 imm=1.5 cols=s1   rows=s0 dst=d3 | order set m2 if first( l1 , l0 )   # trailing
    other: halt
    .entry vector other 0:0x10
    .entry vector main
    """
    image = assemble(ISA, text, "k.asm")
    expected = Insn(
        "vdup",
        "fp16",
        args={"dst": 3, "rows": 0, "cols": 1, "imm": 0x3FC00000},
        set=(2,),
        pred=Pred("first", 0b11),
        order=True,
    )
    assert image.words.tolist() == encode(ISA, expected) + encode(ISA, Insn("halt"))
    assert [(e.pc, e.ranges) for e in image.entries] == [(3, ((0, 16),)), (0, ())]
    assert image.name == "k.asm"
    assert image.n_args == 0


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("imm=1.5", 0x3FC00000),  # fp16 computes in fp32: sign 0, exponent 127, fraction .1
        ("imm=-2.0", 0xC0000000),
        ("imm=inf", 0x7F800000),
        ("imm=0x3e00", 0x3E00),
        ("imm=7", 7),
        ("imm=1e-3", 0x3A83126F),  # 1e-3 = 1.024 * 2**-10: exponent 117, fraction round(0.024 * 2**23) = 201327
    ],
)
def test_immediates(text: str, bits: int) -> None:
    (insn,) = assemble_insns(ISA, f"vmuls.fp16 dst=d0 a=d0 rows=s0 cols=s0 {text}")
    assert insn.args["imm"] == bits


def test_base_value_below_a_relocation_is_kept() -> None:
    text = "desc desc=d0 space=gm base=0x30@arg1-0x10\n"
    image = assemble(ISA, text)
    assert image.relocs == (Reloc(1, 1, -16),)
    assert image.words[1] == np.uint64(0x30)
    assert image.n_args == 2
    assert text in disassemble(ISA, image)


def test_relocations_that_no_instruction_can_show() -> None:
    text = assemble(ISA, "desc desc=d0 space=gm base=0x0\n.args 1\n.reloc 1 @arg0\n.reloc 1 @arg0+0x8\n")
    printed = disassemble(ISA, text)
    assert ".reloc 1 @arg0\n.reloc 1 @arg0+0x8\n" in printed
    assert assemble(ISA, printed).relocs == text.relocs


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("halt\nvbad", "2:1", "no instruction 'vbad'"),
        ("vadd.int8 dst=d0 a=d1 b=d2 rows=s0 cols=s1", "1:5", "allowed: fp32, fp16, bf16, int32"),
        ("halt.fp16", "1:5", "has no data type"),
        ("vadd.fp16 dst=d0 dst=d1", "1:18", "given twice"),
        ("vadd.fp16 dst=d0 x=d1", "1:18", "no operand 'x'; there are: dst, a, rows, cols, b"),
        ("vadd.fp16 dst=s0", "1:15", "expected d0 to d255"),
        ("vadd.fp16 dst=d256", "1:15", "allowed: d0 to d255"),
        ("vadd.fp16 dst=d0", "1:17", "operand a is missing"),
        ("szc size=s64 full=1", "1:10", "allowed: s0 to s63"),
        ("szc size=s0 full=0x100000000", "1:18", "allowed: 0 to 4294967295"),
        ("szc size=s0 full=010x", "1:18", "expected an integer"),
        ("barrier scope=chip", "1:15", "allowed: core, group, launch"),
        ("halt | if always()", "1:11", "predicate 'always'; allowed: first"),
        ("halt | if first(l8)", "1:17", "allowed: l0 to l7"),
        ("halt | wait m63", "1:13", "allowed: m0 to m62"),
        ("halt | wait m1 m2 m3", "1:1", "a head holds two"),
        ("halt | order order", "1:14", "given twice"),
        ("halt | maybe", "1:8", "expected 'if', 'wait', 'set' or 'order'"),
        ("halt halt", "1:6", "halt has no operand 'halt'"),
        (".frob 1", "1:1", "unknown directive .frob; allowed: .args"),
        (".isa npu 2.0", "1:1", "allowed: npu 1.0"),
        (f".isa npu 1.0 {'0' * 64}", "1:1", "for hash 0000"),
        (".entry scalar 0", "1:1", "allowed: unified, cube, vector"),
        (".entry cube nowhere", "1:1", "no label 'nowhere'"),
        (".entry cube 0 3", "1:16", "expected ':'"),
        (".args 1\ndesc desc=d0 space=gm base=@arg1", "2:1", "argument 1 of 1"),
        (".reloc 3 @arg0", "1:1", "word 3 of a program of 0"),
        ("vdup.int32 dst=d0 rows=s0 cols=s0 imm=1.5", "1:39", "give an integer"),
        ("vdup.fp16 dst=d0 rows=s0 cols=s0 imm=1e39", "1:38", "does not fit fp32"),
        (".image a\n.image b", "2:1", "a second .image"),
        ('.image "\\ud800"', "1:8", "not a JSON string"),
        ("a: halt\na: halt", "2:1", "label 'a' is defined twice"),
    ],
)
def test_errors_name_the_place(text: str, place: str, message: str) -> None:
    with pytest.raises(AsmError) as caught:
        assemble(ISA, text, "t.asm")
    assert caught.value.where == f"t.asm:{place}"
    assert message in caught.value.message


def test_a_feature_that_is_off_is_told() -> None:
    with pytest.raises(AsmError, match="feature 'indexed' is off") as caught:
        assemble(isa_without("indexed"), "ldx.fp16 dst=d0 src=d0 index=d0 rows=s0 cols=s0 stride=0 count=1", "t.asm")
    assert caught.value.where == "t.asm:1:1"


def test_insns_refuse_what_needs_an_image() -> None:
    with pytest.raises(AsmError, match="a relocation belongs to an image"):
        assemble_insns(ISA, "desc desc=d0 space=gm base=@arg0")
    with pytest.raises(AsmError, match=r"t:2:1: expected an instruction"):
        assemble_insns(ISA, "nop # fine\n.word 0", "t")


def test_disassembler_refuses_another_instruction_set() -> None:
    image = Image("k", "00" * 32, np.zeros(0, np.uint64), ())
    with pytest.raises(IsaError, match="made for instruction set 0000"):
        disassemble(ISA, image)
