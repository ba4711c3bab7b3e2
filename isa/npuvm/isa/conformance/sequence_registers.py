"""A program of register instructions: each calculation is seen as the number of ones that a store writes to its row."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["REGISTER_ROWS", "registers_text"]

_START = """.args 3
.entry unified 0
szc size=s0 full=1
szc size=s1 full=16
szr size=s2 reg=r10 full=16
szc size=s3 full=4
sem sem=m0 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=ub base=0x0
ld.int8 dst=d1 src=d0 rows=s0 cols=s1 | set m0
usync unit=store | wait m0
li rd=r0 imm=7
li rd=r1 imm=-5
li rd=r2 imm=0x7fffffffffff
li rd=r3 imm=2
li rd=r4 imm=-0x800000000000
li rd=r5 imm=0
li rd=r6 imm=65536
"""

_CALCULATIONS: Sequence[tuple[str, int]] = (
    ("li rd=r10 imm=5", 5),
    ("li rd=r10 imm=17", 16),  # the size is 16 at most
    ("sadd rd=r10 ra=r0 rb=r1", 2),
    ("ssub rd=r10 ra=r0 rb=r1", 12),
    ("ssub rd=r10 ra=r1 rb=r0", 0),  # -12: the size is 0 at least
    ("smul rd=r10 ra=r3 rb=r0", 14),
    ("smul rd=r10 ra=r1 rb=r1", 16),  # 25
    ("scdiv rd=r10 ra=r0 rb=r3", 4),  # 3.5
    ("scdiv rd=r10 ra=r1 rb=r3; sadd rd=r10 ra=r10 rb=r0", 5),  # -2.5 is rounded up to -2
    ("scdiv rd=r10 ra=r0 rb=r1; sadd rd=r10 ra=r10 rb=r0", 6),  # -1.4 to -1
    ("scdiv rd=r10 ra=r1 rb=r1", 1),
    ("smin rd=r10 ra=r0 rb=r3", 2),
    ("smin rd=r10 ra=r0 rb=r1; sadd rd=r10 ra=r10 rb=r0", 2),
    ("slt rd=r10 ra=r1 rb=r0", 1),
    ("slt rd=r10 ra=r0 rb=r1", 0),
    ("slt rd=r10 ra=r0 rb=r0", 0),
    # (2**47 - 1)**2 wraps to 1 - 2**48.
    ("smul rd=r10 ra=r2 rb=r2; ssub rd=r10 ra=r10 rb=r4; ssub rd=r10 ra=r10 rb=r4", 1),
    # -2**63, one less than which is the largest number, and the double of which is 0.
    ("smul rd=r7 ra=r4 rb=r6; slt rd=r10 ra=r7 rb=r5", 1),
    ("li rd=r8 imm=1; ssub rd=r9 ra=r7 rb=r8; slt rd=r10 ra=r5 rb=r9", 1),
    ("sadd rd=r9 ra=r7 rb=r7; sadd rd=r10 ra=r9 rb=r3", 2),
    # An instruction reads its operands before it writes.
    ("li rd=r10 imm=3; sadd rd=r10 ra=r10 rb=r10", 6),
)

_LOADED = (3, 2, 6, 10)
"""After every scalar load of 3, -1, 4 and 2: their sum, and behind the last one it once more."""

_LOOP = """desc desc=d3 space=gm base=@arg2
dstr desc=d3 loop=l0 stride=4
desc desc=d4 space=gm base=@arg1+{loaded}
dstr desc=d4 loop=l0 stride=16
li rd=r10 imm=0
loop loop=l0 trip=s3
  lds.int32 rd=r11 src=d3
  sadd rd=r10 ra=r10 rb=r11
  sadd rd=r10 ra=r10 rb=r11 | if last(l0)
  st.int8 dst=d4 src=d1 rows=s0 cols=s2
endloop
li rd=r12 imm=2
li rd=r10 imm=9
desc desc=d5 space=gm base=@arg1+{offset} reg=r12 reg_stride=16
st.int8 dst=d5 src=d1 rows=s0 cols=s2
halt
"""

_BY_REGISTER = (0, 0, 9)
"""Rows behind: the one that a register of 2 points at."""

REGISTER_ROWS = (*(result for _, result in _CALCULATIONS), *_LOADED, *_BY_REGISTER)
"""How many ones each row of 16 bytes holds in the end."""


def registers_text() -> str:
    """The program: argument 0 holds 16 ones, 1 the rows, 2 the int32 numbers 3, -1, 4, 2."""
    body = []
    for row, (lines, _) in enumerate(_CALCULATIONS):
        body += [line.strip() for line in lines.split(";")]
        body.append(f"desc desc=d2 space=gm base=@arg1+{16 * row}")
        body.append("st.int8 dst=d2 src=d1 rows=s0 cols=s2")
    loaded = 16 * len(_CALCULATIONS)
    return _START + "\n".join(body) + "\n" + _LOOP.format(loaded=loaded, offset=loaded + 16 * len(_LOADED))
