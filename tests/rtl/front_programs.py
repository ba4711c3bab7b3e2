"""Launches written by hand for what the compiler does not emit: registers, scalar loads, skipped loops, barriers, predicates,
semaphores between cores, deep nests, and everything at once."""

from __future__ import annotations

from functools import cache

from tests.rtl.front_kernels import the_isa

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.rtl.front_compare import Launch
from npuvm.isa import assemble

_TILES = """
szc size=s1 full=4
szc size=s2 full=16
desc desc=d0 space=gm base=@arg0 pitch=64
desc desc=d1 space=ub base=0 pitch=64
desc desc=d2 space=ub base=1024 pitch=64
desc desc=d3 space=gm base=@arg1 pitch=64
"""
"""Sizes s1 x s2 and a tile of each argument, with two tiles in UB."""

_REGISTERS = """
.args 2
.entry unified main
main:
szc size=s1 full=4
li rd=r1 imm=-7
li rd=r2 imm=3
scdiv rd=r3 ra=r1 rb=r2
scdiv rd=r4 ra=r2 rb=r1
ssub rd=r5 ra=r1 rb=r2
smul rd=r6 ra=r5 rb=r5
smin rd=r7 ra=r6 rb=r2
slt rd=r8 ra=r1 rb=r2
slt rd=r9 ra=r2 rb=r1
li rd=r10 imm=140000000000000
smul rd=r11 ra=r10 rb=r10
scdiv rd=r12 ra=r6 rb=r2
szr size=s7 reg=r11 full=77
szr size=s0 reg=r6 full=90
szr size=s2 reg=r6 full=200
szr size=s3 reg=r5 full=200
szr size=s4 reg=r8 full=200
desc desc=d0 space=gm base=@arg0 pitch=64 reg=r6 reg_stride=-16
desc desc=d1 space=ub base=0 pitch=64
desc desc=d2 space=gm base=@arg1 pitch=64 reg=r3 reg_stride=64
lds.int32 rd=r13 src=d0
szr size=s5 reg=r13 full=6
lds.int32 rd=r14 src=d2
loop loop=l2 trip=s5
  ld.fp16 dst=d1 src=d0 rows=s0 cols=s1
  sadd rd=r6 ra=r6 rb=r3
  sadd rd=r7 ra=r7 rb=r14 | if not_first(l2)
  ld.fp16 dst=d1 src=d2 rows=s2 cols=s4
  ld.fp16 dst=d1 src=d0 rows=s3 cols=s0 | if last(l2) order
  lds.int32 rd=r3 src=d2 | if not_last(l2)
endloop
ssub rd=r5 ra=r7 rb=r4
szr size=s6 reg=r12 full=250
vadd.fp16 dst=d1 a=d1 b=d1 rows=s6 cols=s1
vadd.fp16 dst=d1 a=d1 b=d1 rows=s7 cols=s1
nop | if first()
halt
"""
"""Arithmetic with its corners, sizes and addresses from registers that change inside a loop, scalar loads on a condition."""

_SKIPPED = (
    """
.args 2
.entry unified main 0:0 0:0 2:3
main:
szc size=s0 full=0
szc size=s3 full=2
sza size=s4 loop_a=l0 full=3 base=1 step_a=1
sza size=s7 loop_a=l0 loop_b=l1 full=5 base=2 step_a=2 step_b=-1
szt size=s6 loop=l0 full=3 tail=2
szt size=s8 loop=l1 full=0 tail=2
"""
    + _TILES
    + """
dstr desc=d0 loop=l0 stride=256
dstr desc=d0 loop=l1 stride=-128
dstr desc=d0 loop=l1 stride=192
loop loop=l0 trip=s0
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2
  loop loop=l1 trip=s3
    ld.fp16 dst=d1 src=d0 rows=s1 cols=s2
    loop loop=l2 trip=s3
    endloop
  endloop
  loop loop=l1 trip=s0
  endloop
endloop
ld.fp16 dst=d1 src=d0 rows=s1 cols=s2
grid loops=2 phase=0 t0=s3 t1=s3
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2
endgrid
grid loops=2 phase=1 t0=s3 t1=s0
  vneg.fp16 dst=d2 a=d1 rows=s1 cols=s2
  loop loop=l2 trip=s3
  endloop
endgrid
ld.fp16 dst=d2 src=d0 rows=s1 cols=s2
loop loop=l0 trip=s3
  loop loop=l1 trip=s4
    ld.fp16 dst=d1 src=d0 rows=s7 cols=s2
    loop loop=l3 trip=s6
      ld.fp16 dst=d1 src=d0 rows=s6 cols=s7
    endloop
  endloop
  loop loop=l1 trip=s3
    loop loop=l4 trip=s8
      ld.fp16 dst=d1 src=d0 rows=s1 cols=s7
    endloop
  endloop
endloop
grid loops=2 phase=2 t0=s3 t1=s3
  loop loop=l2 trip=s0
    vneg.fp16 dst=d2 a=d1 rows=s1 cols=s2
  endloop
  st.fp16 dst=d3 src=d2 rows=s1 cols=s2 | if last(l0)
endgrid
halt
"""
)
"""Loops and grids without iterations, inside and outside of others, trip counts from tails and counters."""

_PREDICATES = (
    """
.args 2
.entry unified main 3:17 0:24
.entry unified main 17:24 23:24
main:
szc size=s3 full=2
szc size=s4 full=3
szc size=s5 full=1
szc size=s6 full=4
"""
    + _TILES
    + """
dwin desc=d0 rows=9 cols=40 row0=-3 col0=-1 row_step=2 col_step=5 row_loop=l3 col_loop=l1
dstr desc=d0 loop=l0 stride=4096
dstr desc=d0 loop=l1 stride=1024
dstr desc=d0 loop=l3 stride=-256
ring ring=g3 slot_bytes=96 slots=3 ready=m5 free=m6
desc desc=d4 space=ub role=producer ring=g3 base=512 pitch=32
desc desc=d5 space=ub role=consumer ring=g3 base=512 pitch=32
grid loops=4 phase=0 t0=s3 t1=s4 t2=s5 t3=s6
  ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | if changed(l1) wait m6 set m5
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | if first(l1, l3)
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | if last(l1, l2)
  vneg.fp16 dst=d2 a=d1 rows=s1 cols=s2 | if not_first(l0, l3)
  vabs.fp16 dst=d2 a=d2 rows=s1 cols=s2 | if not_last(l3) order
  vexp.fp16 dst=d2 a=d5 rows=s1 cols=s2 | if changes(l0, l1) wait m5 set m6
  loop loop=l5 trip=s4
    st.fp16 dst=d3 src=d2 rows=s1 cols=s2 | if changes(l2)
    st.fp16 dst=d3 src=d2 rows=s1 cols=s2 | if first(l5)
  endloop
endgrid
grid loops=3 phase=1 t0=s3 t1=s4 t2=s6
  ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | if changed(l0, l2) wait m6 set m5
  vmov.fp16 dst=d2 a=d5 rows=s1 cols=s2 | wait m5 set m6
endgrid
halt
"""
)
"""All seven predicates, over grids that start and stop in the middle, with a loop of one trip; a ring that predicates skip."""

_NEST = (
    """
.args 2
.entry unified main
main:
szc size=s3 full=2
"""
    + _TILES
    + "".join(f"dstr desc=d0 loop=l{loop} stride={7 ** (loop + 1)}\n" for loop in range(8))
    + "".join(f"loop loop=l{loop} trip=s3\n" for loop in (5, 3, 7, 0, 2, 6, 1, 4))
    + "ld.fp16 dst=d1 src=d0 rows=s1 cols=s2\n"
    + "st.fp16 dst=d3 src=d1 rows=s1 cols=s2 | if first(l0, l1, l2)\nendloop\n" * 2
    + "endloop\n" * 6
    + "halt\n"
)
"""Eight loops inside one another."""

_GRID = (
    """
.args 2
.entry unified main 100:163
main:
szc size=s3 full=2
szc size=s4 full=3
szc size=s5 full=1
"""
    + _TILES
    + "".join(f"dstr desc=d0 loop=l{loop} stride={11 ** (loop + 1)}\n" for loop in range(8))
    + """
grid loops=8 phase=0 t0=s3 t1=s4 t2=s3 t3=s5 t4=s3 t5=s4 t6=s3 t7=s3
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | if changed(l3, l4)
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | if changes(l6)
endgrid
halt
"""
)
"""An odometer of eight loops."""

_SYNC = (
    """
.args 2
.entry unified main
main:
"""
    + _TILES
    + """
szc size=s3 full=5
sem sem=m0 value=2
sem sem=m1 value=127
ring ring=g0 slot_bytes=64 slots=2 ready=m2 free=m3
ring ring=g1 slot_bytes=32 slots=255 ready=m4 free=m3
desc desc=d4 space=ub role=producer ring=g0 base=0 pitch=64
desc desc=d5 space=ub role=consumer ring=g0 base=0 pitch=64
desc desc=d6 space=ub role=consumer ring=g1 base=4096 pitch=64
loop loop=l0 trip=s3
  ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | wait m0 set m2 m2
  ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | wait m1 m1 set m2 m7
  vneg.fp16 dst=d1 a=d5 rows=s1 cols=s2 | wait m2 m2 set m3 m0
  usync unit=vector | wait m2 m7 set m8 m11
  usync unit=move | wait m11 m11
  vabs.fp16 dst=d2 a=d6 rows=s1 cols=s2 | order set m3 m4
  usync unit=store | wait m8 set m9 m9
  st.fp16 dst=d3 src=d2 rows=s1 cols=s2 | wait m9 m9 order
  usync unit=fixpipe | set m10
  usync unit=cube | wait m10 order set m11
endloop
barrier scope=core
sem sem=m4 value=0
ring ring=g0 slot_bytes=128 slots=7 ready=m2 free=m3
loop loop=l0 trip=s3
  ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | wait m3 set m2
  st.fp16 dst=d3 src=d5 rows=s1 cols=s2 | wait m2 set m3
endloop
barrier scope=core
barrier scope=group
barrier scope=launch
usync unit=move | order
halt
"""
)
"""Two waits on one semaphore, two sets of one, units that only synchronise, rings that share a semaphore, counts set anew."""

_RESET = (
    """
.args 2
.entry unified main
main:
"""
    + _TILES
    + """
sem sem=m7 value=0
ring ring=g0 slot_bytes=64 slots=1 ready=m0 free=m1
desc desc=d4 space=ub role=producer ring=g0 base=0 pitch=64
desc desc=d5 space=ub role=consumer ring=g0 base=0 pitch=64
ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | wait m1 set m0
st.fp16 dst=d3 src=d5 rows=s1 cols=s2 | wait m0 set m1
barrier scope=core
ring ring=g0 slot_bytes=64 slots=1 ready=m0 free=m1
ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | wait m1 set m0
st.fp16 dst=d3 src=d5 rows=s1 cols=s2 | wait m0 set m1
ld.fp16 dst=d4 src=d0 rows=s1 cols=s2 | wait m1 set m0
st.fp16 dst=d3 src=d5 rows=s1 cols=s2 | wait m0 set m1
vexp.fp16 dst=d2 a=d1 rows=s1 cols=s2 | set m7
vexp.fp16 dst=d2 a=d1 rows=s1 cols=s2 | set m7
sem sem=m7 value=0
vabs.fp16 dst=d2 a=d1 rows=s1 cols=s2 | set m7
st.fp16 dst=d3 src=d2 rows=s1 cols=s2 | wait m7
halt
"""
)
"""Counts set anew while a signal is on its way, and while an instruction that signals is."""

_CORES = (
    """
.args 2
.entry cube producer
.entry vector left
.entry vector right
.entry cube idle
.entry vector far
.entry vector right
producer:
szc size=s3 full=6
"""
    + _TILES
    + """
desc desc=d6 space=l1 base=0 pitch=64
sem sem=m40 value=0
sem sem=m41 value=0
sem sem=m60 value=0
loop loop=l0 trip=s3
  ld.fp16 dst=d6 src=d0 rows=s1 cols=s2 | set m40 m41
endloop
barrier scope=group
ld.fp16 dst=d6 src=d0 rows=s1 cols=s2 | set m52 m60
barrier scope=launch
ld.fp16 dst=d6 src=d0 rows=s1 cols=s2 | wait m53
halt
left:
szc size=s3 full=6
"""
    + _TILES
    + """
sem sem=m53 value=0
loop loop=l0 trip=s3
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | wait m40
  st.fp16 dst=d3 src=d1 rows=s1 cols=s2
endloop
barrier scope=group
barrier scope=launch
ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | set m53
halt
right:
"""
    + _TILES
    + """
barrier scope=core
barrier scope=group
barrier scope=launch
vneg.fp16 dst=d2 a=d1 rows=s1 cols=s2
halt
idle:
barrier scope=group
barrier scope=launch
halt
far:
"""
    + _TILES
    + """
sem sem=m54 value=1
barrier scope=group
ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | wait m52 m60
barrier scope=launch
ld.fp16 dst=d1 src=d0 rows=s1 cols=s2 | wait m54
halt
"""
)
"""Six cores of two groups: semaphores of the group and of the launch, barriers of all scopes."""


def _chip(name: str, cores: int) -> NpuConfig:
    return load_chip(name, [f"core.count={cores}"])


@cache
def hand_written() -> tuple[Launch, ...]:
    """All of them."""
    one, two, split = _chip("edge", 1), _chip("ascend_910a", 2), _chip("ascend_910b1", 2)
    texts = (
        ("registers", one, _REGISTERS, ((5, -2, 1, 0, 0, 2, 9, 11),)),
        ("skipped", one, _SKIPPED, ()),
        ("predicates", two, _PREDICATES, ()),
        ("nest", two, _NEST, ()),
        ("grid", one, _GRID, ()),
        ("sync", one, _SYNC, ()),
        ("reset", one, _RESET, ()),
        ("cores", split, _CORES, ()),
    )
    return tuple(
        Launch(name, chip, assemble(the_isa(), text, name), (0x10000, 0x40000), scalars)
        for name, chip, text, scalars in texts
    )
