"""Instructions worked out by hand, bit by bit: text, the sum of its fields, and the words that the sum gives.

Head word: opcode at bit 0, number of operand words at 8, data type at 11, waits at 15 and 21, sets at 27 and 33 (semaphore
number plus one, 0 for none), predicate at 39, its loops at 42 (a bit per loop), order at 50, the format's own fields from 51.
Negative numbers are two's complement in their field: -1 in 32 bits at bit 32 is (2**32 - 1) << 32.

Codes: fp32 0, fp16 1, bf16 2, int32 3, int8 4, bool 5, fp8_e4m3 6, fp8_e5m2 7. Predicates: first 1, last 2, not_first 3,
not_last 4, changed 5, changes 6.
"""

from __future__ import annotations

import pytest

from npuvm.isa import assemble_insns, classify, decode_at, encode, format_insn, load_isa
from npuvm.isa.model import WordClass

ISA = load_isa()

GOLDEN: list[tuple[str, list[int], list[int]]] = [
    (
        "nop",
        [0x1],
        [0x0000000000000001],
    ),
    (
        "halt",
        [0x2],
        [0x0000000000000002],
    ),
    (
        "barrier scope=launch",
        [0x3 + (2 << 51)],
        [0x0010000000000003],
    ),
    (
        "loop loop=l5 trip=s33",
        [0x4 + (5 << 51) + (33 << 54)],
        [0x0868000000000004],
    ),
    (
        "endloop",
        [0x5],
        [0x0000000000000005],
    ),
    (
        "grid loops=3 phase=2 t0=s1 t1=s2 t2=s3",
        [0x6 + (1 << 8) + (3 << 51) + (2 << 55), 1 + (2 << 6) + (3 << 12)],
        [0x0118000000000106, 0x0000000000003081],
    ),
    (
        "szc size=s9 full=1000",
        [0x8 + (1 << 8) + (9 << 51), 1000],
        [0x0048000000000108, 0x00000000000003E8],
    ),
    (
        "szt size=s63 loop=l7 full=64 tail=17",
        [0x9 + (1 << 8) + (63 << 51) + (7 << 57), 64 + (17 << 32)],
        [0x0FF8000000000109, 0x0000001100000040],
    ),
    (
        "sza size=s1 loop_a=l2 loop_b=l3 full=128 base=-1 step_a=-128 step_b=5",
        [0xA + (2 << 8) + (1 << 51) + (2 << 57) + (3 << 60), 128 + (4294967295 << 32), 0xFFFFFF80 + (5 << 32)],
        [0x340800000000020A, 0xFFFFFFFF00000080, 0x00000005FFFFFF80],
    ),
    (
        "szr size=s4 reg=r15 full=7",
        [0xB + (1 << 8) + (4 << 51) + (15 << 57), 7],
        [0x1E2000000000010B, 0x0000000000000007],
    ),
    (
        "desc desc=d200 space=l0c role=consumer base=0x123456789abc ring=g5 reg=r6 pitch=96 reg_stride=-2",
        [
            0xC + (2 << 8) + (200 << 51) + (5 << 59) + (2 << 62),
            0x123456789ABC + (5 << 48) + (6 << 52),
            96 + (4294967294 << 32),
        ],
        [0xAE4000000000020C, 0x0065123456789ABC, 0xFFFFFFFE00000060],
    ),
    (
        "dstr desc=d255 loop=l1 stride=-8192",
        [0xD + (1 << 8) + (255 << 51) + (1 << 59), 0xFFFFFFFFE000],
        [0x0FF800000000010D, 0x0000FFFFFFFFE000],
    ),
    (
        "dwin desc=d1 row0=-3 col0=4 rows=100 cols=200 row_step=16 col_step=-16 row_loop=l2 col_loop=l3",
        [0xE + (4 << 8) + (1 << 51), 0xFFFFFFFD + (4 << 32), 100 + (200 << 32), 16 + (4294967280 << 32), 2 + (3 << 3)],
        [0x000800000000040E, 0x00000004FFFFFFFD, 0x000000C800000064, 0xFFFFFFF000000010, 0x000000000000001A],
    ),
    (
        "ring ring=g15 slot_bytes=4096 slots=3 ready=m10 free=m62",
        [0xF + (1 << 8) + (15 << 51), 4096 + (3 << 32) + (10 << 40) + (62 << 46)],
        [0x007800000000010F, 0x000F8A0300001000],
    ),
    (
        "sem sem=m40 value=127",
        [0x10 + (40 << 51) + (127 << 57)],
        [0xFF40000000000010],
    ),
    (
        "li rd=r3 imm=-1",
        [0x11 + (1 << 8) + (3 << 51), 0xFFFFFFFFFFFF],
        [0x0018000000000111, 0x0000FFFFFFFFFFFF],
    ),
    (
        "lds.int32 rd=r2 src=d129",
        [0x12 + (3 << 11) + (2 << 51) + (129 << 55)],
        [0x4090000000001812],
    ),
    (
        "scdiv rd=r1 ra=r2 rb=r3",
        [0x16 + (1 << 51) + (2 << 55) + (3 << 59)],
        [0x1908000000000016],
    ),
    (
        "usync unit=store | wait m0 m62 set m1 m2",
        [0x19 + (1 << 15) + (63 << 21) + (2 << 27) + (3 << 33) + (6 << 51)],
        [0x0030000617E08019],
    ),
    (
        "ld.fp16 dst=d1 src=d2 rows=s3 cols=s4 cache=stream pad=0xfc00 | if changed(l0,l7) wait m5 set m6 order",
        [
            0x20 + (2 << 8) + (1 << 11) + (6 << 15) + (7 << 27) + (5 << 39) + (129 << 42) + (1 << 50),
            1 + (2 << 8) + (3 << 32) + (4 << 38) + (1 << 56),
            64512,
        ],
        [0x0006068038030A20, 0x0100010300000201, 0x000000000000FC00],
    ),
    (
        "st.bool dst=d255 src=d0 rows=s63 cols=s0",
        [0x21 + (1 << 8) + (5 << 11), 255 + (63 << 32)],
        [0x0000000000002921, 0x0000003F000000FF],
    ),
    (
        "mvl0bt.fp8_e5m2 dst=d9 src=d8 rows=s7 cols=s6",
        [0x33 + (1 << 8) + (7 << 11), 9 + (8 << 8) + (7 << 32) + (6 << 38)],
        [0x0000000000003933, 0x0000018700000809],
    ),
    (
        "mmac.int8 dst=d1 a=d2 b=d3 m=s4 n=s5 k=s6 | if not_first(l2) order",
        [
            0x39 + (1 << 8) + (4 << 11) + (3 << 39) + (4 << 42) + (1 << 50),
            1 + (2 << 8) + (3 << 16) + (4 << 32) + (5 << 38) + (6 << 44),
        ],
        [0x0004118000002139, 0x0000614400030201],
    ),
    (
        "fix.fp32->fp16 dst=d1 src=d2 rows=s3 cols=s4 act=relu cache=stream",
        [0x3C + (1 << 8) + (1 << 51), 1 + (2 << 8) + (3 << 32) + (4 << 38) + (1 << 50) + (1 << 56)],
        [0x000800000000013C, 0x0104010300000201],
    ),
    (
        "vcast.bool->int8 dst=d3 a=d4 rows=s5 cols=s6 | if last(l1)",
        [0x4F + (1 << 8) + (5 << 11) + (2 << 39) + (2 << 42) + (4 << 51), 3 + (4 << 8) + (5 << 32) + (6 << 38)],
        [0x002009000000294F, 0x0000018500000403],
    ),
    (
        "vsel.bf16 dst=d1 a=d2 rows=s5 cols=s6 b=d3 c=d4",
        [0x68 + (1 << 8) + (2 << 11), 1 + (2 << 8) + (3 << 16) + (4 << 24) + (5 << 32) + (6 << 38)],
        [0x0000000000001168, 0x0000018504030201],
    ),
    (
        "vmuls.fp32 dst=d1 a=d2 rows=s5 cols=s6 imm=0x3f800000",
        [0x71 + (2 << 8), 1 + (2 << 8) + (5 << 32) + (6 << 38), 0x3F800000],
        [0x0000000000000271, 0x0000018500000201, 0x000000003F800000],
    ),
    (
        "vdup.int32 dst=d7 rows=s0 cols=s1 imm=0xffffffff",
        [0x51 + (2 << 8) + (3 << 11), 7 + (1 << 38), 0xFFFFFFFF],
        [0x0000000000001A51, 0x0000004000000007, 0x00000000FFFFFFFF],
    ),
    (
        "vsumf.fp16 dst=d1 a=d2 rows=s5 cols=s6 | if changes(l0)",
        [0x83 + (1 << 8) + (1 << 11) + (6 << 39) + (1 << 42), 1 + (2 << 8) + (5 << 32) + (6 << 38)],
        [0x0000070000000983, 0x0000018500000201],
    ),
]


@pytest.mark.parametrize(("text", "sums", "words"), GOLDEN, ids=[text.split()[0] for text, _, _ in GOLDEN])
def test_golden_words(text: str, sums: list[int], words: list[int]) -> None:
    assert sums == words
    (insn,) = assemble_insns(ISA, text)
    assert encode(ISA, insn) == words
    decoded, length = decode_at(ISA, words)
    assert (decoded, length) == (insn, len(words))
    assert format_insn(ISA, decoded) == text
    assert classify(ISA, words) is WordClass.LEGAL


def test_golden_words_cover_every_kind_of_field() -> None:
    """Every format of the base set except reserved and inherited twins, every operand kind."""
    used = [ISA.instruction(text.split()[0].split(".")[0]) for text, _, _ in GOLDEN]
    kinds = {operand.kind.name for instruction in used for operand in instruction.operands}
    assert kinds == {operand.kind.name for i in ISA.instructions.values() for operand in i.operands}
    assert len(GOLDEN) >= 20
