"""Programs whose numbers the tests of verification by form change: with tails, predicates, several units and several cores."""

from __future__ import annotations

STRIDED = """
.args 2
.entry unified 0 0:6
.entry unified 0 6:12
szc size=s0 full=12
szc size=s1 full=64
szc size=s2 full=12
szc size=s3 full=3
szt size=s4 loop=l1 full=4 tail=2
szt size=s5 loop=l0 full=3 tail=2
sza size=s6 loop_a=l0 loop_b=l1 full=4 base=44 step_a=-4 step_b=-1
ring ring=g0 slot_bytes=2048 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=1536 slots=3 ready=m2 free=m3
desc desc=d0 space=gm base=@arg0 pitch=128
dstr desc=d0 loop=l0 stride=2048
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=128
dstr desc=d1 loop=l1 stride=512
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=128
dstr desc=d2 loop=l1 stride=512
desc desc=d3 space=ub base=0x8000 pitch=128
dstr desc=d3 loop=l1 stride=512
desc desc=d4 space=ub role=producer base=0x1000 ring=g1 pitch=128
dstr desc=d4 loop=l1 stride=512
desc desc=d5 space=ub role=consumer base=0x1000 ring=g1 pitch=128
desc desc=d6 space=gm base=@arg1 pitch=128
dstr desc=d6 loop=l0 stride=2048
grid loops=1 phase=0 t0=s0
  usync unit=load | wait m1
  loop loop=l1 trip=s5
    ld.fp16 dst=d1 src=d0 rows=s4 cols=s1
  endloop
  usync unit=load | set m0
  usync unit=vector | wait m0 m3
  loop loop=l1 trip=s3
    vmuls.fp16 dst=d3 a=d2 rows=s4 cols=s1 imm=2.0 | if not_first(l1)
    vmuls.fp16 dst=d3 a=d2 rows=s6 cols=s1 imm=3.0 | if first(l1)
    vadd.fp16 dst=d4 a=d3 b=d2 rows=s4 cols=s1 | order
  endloop
  usync unit=vector | set m2 m1
  st.fp16 dst=d6 src=d5 rows=s2 cols=s1 | wait m2 set m3
endgrid
halt
"""
"""Inner loops over parts of slots, with tails, a trip count with a tail, and predicates."""

MIXED = """
.args 2
.entry cube cube 0:6
.entry vector vector 0:6
.entry vector vector 6:12
cube:
sem sem=m40 value=0
sem sem=m41 value=2
barrier scope=group
szc size=s0 full=6
szc size=s1 full=16
szt size=s2 loop=l0 full=2 tail=1
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=l1 role=producer base=0x0 ring=g0 pitch=32
desc desc=d2 space=l1 role=consumer base=0x0 ring=g0 pitch=32
desc desc=d3 space=l0a base=0x0 pitch=32
grid loops=1 phase=0 t0=s0
  usync unit=move | wait m41
  loop loop=l1 trip=s2
    ld.fp16 dst=d1 src=d0 rows=s1 cols=s1 | wait m1 set m0
    mvl0a.fp16 dst=d3 src=d2 rows=s1 cols=s1 | wait m0 set m1
  endloop
  usync unit=move | set m40
endgrid
halt
vector:
barrier scope=group
szc size=s0 full=2
szc size=s1 full=6
szc size=s2 full=16
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
desc desc=d0 space=gm base=@arg1 pitch=32
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=32
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=32
grid loops=2 phase=0 t0=s0 t1=s1
  usync unit=load | if first(l0) wait m40
  ld.fp16 dst=d1 src=d0 rows=s2 cols=s2 | wait m1 set m0
  usync unit=vector | wait m0 set m1
  usync unit=load | if first(l0) set m41
endgrid
halt
"""
"""A cube core and two vector cores, the first of which takes what the cube has signalled and signals back."""


ROWS = """
.args 0
.entry unified 0 0:8
.entry unified 0 8:16
szc size=s0 full=5
szc size=s1 full=4
szc size=s2 full=3
szt size=s3 loop=l0 full=2 tail=3
sem sem=m0 value=0
sem sem=m1 value=0
sem sem=m2 value=0
grid loops=2 phase=0 t0=s0 t1=s1
  usync unit=load | if first(l1) set m0
  usync unit=vector | if last(l1) wait m0
  loop loop=l2 trip=s3
    usync unit=load | if first(l2) set m1
    usync unit=vector | if not_first(l2) wait m1
  endloop
  loop loop=l2 trip=s2
    usync unit=store | if first(l2) set m2
    usync unit=vector | if last(l2) wait m2
  endloop
endgrid
halt
"""
"""Whole rows of tiles but not those of the last row: what is set first in a row is waited for last."""

HALVES = """
.args 1
.entry unified 0 0:8
szc size=s0 full=8
szc size=s1 full=16
sem sem=m4 value=0
sem sem=m5 value=0
ring ring=g0 slot_bytes=1024 slots=2 ready=m0 free=m1
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=32
desc desc=d2 space=ub role=producer base=0x200 ring=g0 pitch=32
desc desc=d3 space=ub role=consumer base=0x0 ring=g0 pitch=32
grid loops=1 phase=0 t0=s0
  usync unit=load | wait m1 set m4
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s1
  vdup.fp16 dst=d2 rows=s1 cols=s1 imm=0x0 | wait m4
  usync unit=load | set m5
  usync unit=vector | wait m5 set m0
  st.fp16 dst=d0 src=d3 rows=s1 cols=s1 | wait m0 set m1
endgrid
halt
"""
"""Two units fill the halves of a slot at the same time."""

LAUNCHED = """
.args 1
.entry cube a 0:4
.entry vector v 0:4
.entry vector w 0:4
.entry cube b 0:4
.entry vector v2 0:4
.entry vector w 0:4
a:
sem sem=m52 value=0
sem sem=m53 value=2
barrier scope=launch
szc size=s0 full=4
grid loops=1 phase=0 t0=s0
  usync unit=fixpipe | wait m53 set m52
endgrid
halt
b:
barrier scope=launch
szc size=s0 full=4
szc size=s1 full=3
grid loops=1 phase=0 t0=s0
  loop loop=l1 trip=s1
    usync unit=fixpipe
  endloop
endgrid
halt
v:
barrier scope=launch
halt
v2:
barrier scope=launch
szc size=s0 full=4
szc size=s2 full=16
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
desc desc=d0 space=gm base=@arg0 pitch=32
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=32
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=32
grid loops=1 phase=0 t0=s0
  usync unit=load | wait m52
  ld.fp16 dst=d1 src=d0 rows=s2 cols=s2 | wait m1 set m0
  st.fp16 dst=d0 src=d2 rows=s2 cols=s2 | wait m0 set m1
  usync unit=load | set m53
endgrid
halt
w:
barrier scope=launch
halt
"""
"""A cube core that signals a vector core of another group; the other cores have nothing to do with it."""
