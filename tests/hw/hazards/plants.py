"""Programs by hand for the hazard checker, each with faults to plant: one buffer, one product, two cores, cores of a group."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.hazards import Hazard
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, assemble, load_isa

ISA = load_isa()
UNIFIED = load_chip("ascend_910a")
SPLIT = load_chip("ascend_910b1")

SINGLE = """
.args 3
.entry unified 0
szc size=s0 full=16
szc size=s1 full=64
szc size=s2 full=6
sem sem=m1 value=1
sem sem=m3 value=1
sem sem=m5 value=1
desc desc=d0 space=gm base=@arg0 pitch=128
dstr desc=d0 loop=l0 stride=2048
desc desc=d1 space=ub base=0x0 pitch=128
desc desc=d2 space=ub base=0x1000 pitch=128
desc desc=d3 space=gm base=@arg0+0x800 pitch=128
dstr desc=d3 loop=l0 stride=2048
loop loop=l0 trip=s2
  ld.fp16 dst=d1 src=d0 rows=s0 cols=s1 | wait m1 m5 set m0
  vmuls.fp16 dst=d2 a=d1 rows=s0 cols=s1 imm=2.0 | wait m0 m3
  vadd.fp16 dst=d2 a=d2 b=d1 rows=s0 cols=s1 | set m1 m2 order
  st.fp16 dst=d3 src=d2 rows=s0 cols=s1 | wait m2 set m3 m5
endloop
halt
"""
"""Every tile is made of the one before: one buffer for what is loaded (m0 full, m1 free), one for the result (m2, m3)."""

PRODUCT = """
.args 2
.entry unified 0
szc size=s0 full=16
szc size=s1 full=3
szc size=s2 full=4
sem sem=m1 value=1
sem sem=m3 value=1
sem sem=m5 value=1
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=l1 base=0x0 pitch=32
desc desc=d2 space=l0a base=0x0 pitch=32
desc desc=d3 space=l0b base=0x0 pitch=32
desc desc=d4 space=l0c base=0x0 pitch=64
desc desc=d5 space=gm base=@arg1 pitch=64
dstr desc=d5 loop=l0 stride=1024
loop loop=l0 trip=s2
  usync unit=cube | wait m5
  loop loop=l1 trip=s1
    ld.fp16 dst=d1 src=d0 rows=s0 cols=s0 | wait m1 set m0
    mvl0a.fp16 dst=d2 src=d1 rows=s0 cols=s0 | wait m0 m3
    mvl0b.fp16 dst=d3 src=d1 rows=s0 cols=s0 | set m2 m1
    mma.fp16 dst=d4 a=d2 b=d3 m=s0 n=s0 k=s0 | if first(l1) wait m2 set m3
    mmac.fp16 dst=d4 a=d2 b=d3 m=s0 n=s0 k=s0 | if not_first(l1) wait m2 set m3 order
  endloop
  usync unit=cube | set m4
  fix.fp32->fp32 dst=d5 src=d4 rows=s0 cols=s0 | wait m4 set m5
endloop
halt
"""
"""Products of blocks, one buffer of each kind; m5 is the accumulator's."""

RINGS = """
.args 2
.entry unified 0
szc size=s0 full=16
szc size=s1 full=64
szc size=s2 full=9
ring ring=g0 slot_bytes=2048 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=2048 slots=2 ready=m2 free=m3
desc desc=d0 space=gm base=@arg0 pitch=128
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=128
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=128
desc desc=d4 space=ub role=producer base=0x1000 ring=g1 pitch=128
desc desc=d5 space=ub role=consumer base=0x1000 ring=g1 pitch=128
desc desc=d6 space=gm base=@arg1 pitch=128
loop loop=l0 trip=s2
  ld.fp16 dst=d1 src=d0 rows=s0 cols=s1 | wait m1 set m0
  vmuls.fp16 dst=d4 a=d2 rows=s0 cols=s1 imm=2.0 | wait m0 m3 set m2 m1
  st.fp16 dst=d6 src=d5 rows=s0 cols=s1 | wait m2 set m3
endloop
barrier scope=core
ring ring=g0 slot_bytes=2048 slots=2 ready=m0 free=m1
halt
"""
"""Two rings of two slots, side by side, of which one is set up again at the end."""

TWO_CORES = """
.args 1
.entry unified first
.entry unified second
first:
szc size=s0 full=16
szc size=s1 full=64
desc desc=d0 space=gm base=@arg0 pitch=128
desc desc=d1 space=ub base=0x0 pitch=128
vdup.fp16 dst=d1 rows=s0 cols=s1 imm=0x0 | set m0
st.fp16 dst=d0 src=d1 rows=s0 cols=s1 | wait m0
barrier scope=launch
halt
second:
barrier scope=launch
szc size=s0 full=16
szc size=s1 full=64
szc size=s2 full=200
desc desc=d0 space=gm base=@arg0+0x780 pitch=128
desc desc=d1 space=ub base=0x0 pitch=128
loop loop=l0 trip=s2
  vmuls.fp16 dst=d1 a=d1 rows=s0 cols=s1 imm=2.0 | order
endloop
usync unit=vector | set m0
ld.fp16 dst=d1 src=d0 rows=s0 cols=s1 | wait m0 set m1
lds.int32 rd=r1 src=d0
halt
"""
"""The first core stores, much later the second one loads; they share one row."""

ATOMIC = """
.args 1
.entry unified 0
.entry unified 0
szc size=s0 full=16
szc size=s1 full=64
desc desc=d0 space=gm base=@arg0 pitch=256
desc desc=d1 space=ub base=0x0 pitch=256
vdup.fp32 dst=d1 rows=s0 cols=s1 imm=0x0 | set m0
stadd.fp32 dst=d0 src=d1 rows=s0 cols=s1 | wait m0
halt
"""
"""Two cores add to the same tile."""

GROUP = """
.args 2
.entry cube cube
.entry vector vector
.entry vector idle
cube:
sem sem=m40 value=0
sem sem=m41 value=1
barrier scope=group
szc size=s0 full=16
szc size=s1 full=5
desc desc=d0 space=l0c base=0x0 pitch=64
desc desc=d1 space=gm base=@arg0 pitch=64
loop loop=l0 trip=s1
  fix.fp32->fp32 dst=d1 src=d0 rows=s0 cols=s0 | wait m41 set m40
endloop
halt
vector:
barrier scope=group
szc size=s0 full=16
szc size=s1 full=5
desc desc=d0 space=gm base=@arg0 pitch=64
desc desc=d1 space=ub base=0x0 pitch=64
loop loop=l0 trip=s1
  ld.fp32 dst=d1 src=d0 rows=s0 cols=s0 | wait m40 set m41
endloop
halt
idle:
barrier scope=group
halt
"""
"""A cube core hands tiles to a vector core through one place in global memory: m40 is full, m41 free."""


def find(image: Image, chip: NpuConfig, addresses: Sequence[int] = (1 << 20, 2 << 20, 3 << 20)) -> list[Hazard]:
    """Hazards of a launch; scalar loads read 0."""
    registers = [[0] * 8 for _ in image.entries]
    result = simulate(
        chip, ISA, image, addresses=addresses[: image.n_args], data=False, hazards="collect", registers=registers
    )
    return list(result.hazards)


def build(text: str) -> Image:
    """The image of a program."""
    return assemble(ISA, text, "planted")
