# A group of a cube core and two vector cores: four products of 16 x 16 with the same right operand go out to global memory; each vector
# core takes one half of the rows of each, adds 1, and gives a credit back.
.args 4
.entry cube cube
.entry vector upper
.entry vector lower
cube:
szc size=s0 full=4
szc size=s1 full=16
sem sem=m40 value=0
sem sem=m41 value=0
sem sem=m42 value=2
sem sem=m43 value=2
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=1 ready=m2 free=m3
ring ring=g2 slot_bytes=1024 slots=1 ready=m4 free=m5
sem sem=m6 value=0
sem sem=m7 value=0
barrier scope=group
desc desc=d0 space=gm base=@arg0 pitch=32
dstr desc=d0 loop=l0 stride=512
desc desc=d1 space=gm base=@arg1 pitch=32
desc desc=d2 space=l1 role=producer ring=g0 base=0x0 pitch=32
desc desc=d3 space=l1 role=consumer ring=g0 base=0x0 pitch=32
desc desc=d4 space=l1 base=0x1000 pitch=32
desc desc=d5 space=l0a role=producer ring=g1 base=0x0 pitch=32
desc desc=d6 space=l0a role=consumer ring=g1 base=0x0 pitch=32
desc desc=d7 space=l0b base=0x0 pitch=32
desc desc=d8 space=l0c role=producer ring=g2 base=0x0 pitch=64
desc desc=d9 space=l0c role=consumer ring=g2 base=0x0 pitch=64
desc desc=d10 space=gm base=@arg2 pitch=64
dstr desc=d10 loop=l0 stride=1024
ld.fp16 dst=d4 src=d1 rows=s1 cols=s1 | set m6
mvl0b.fp16 dst=d7 src=d4 rows=s1 cols=s1 | wait m6 set m7
usync unit=cube | wait m7
loop loop=l0 trip=s0
  ld.fp16 dst=d2 src=d0 rows=s1 cols=s1 | wait m1 set m0
  usync unit=move | wait m3
  mvl0a.fp16 dst=d5 src=d3 rows=s1 cols=s1 | wait m0 set m1 m2
  usync unit=cube | wait m5
  mma.fp16 dst=d8 a=d6 b=d7 m=s1 n=s1 k=s1 | wait m2 set m3 m4
  usync unit=fixpipe | wait m42 m43
  fix.fp32->fp32 dst=d10 src=d9 rows=s1 cols=s1 | wait m4 set m5 m40
  usync unit=fixpipe | set m41
endloop
barrier scope=launch
halt
upper:
barrier scope=group
szc size=s0 full=4
szc size=s1 full=8
szc size=s2 full=16
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=2 ready=m2 free=m3
desc desc=d0 space=gm base=@arg2 pitch=64
dstr desc=d0 loop=l0 stride=1024
desc desc=d1 space=ub role=producer ring=g0 base=0x0 pitch=64
desc desc=d2 space=ub role=consumer ring=g0 base=0x0 pitch=64
desc desc=d3 space=ub role=producer ring=g1 base=0x400 pitch=64
desc desc=d4 space=ub role=consumer ring=g1 base=0x400 pitch=64
desc desc=d5 space=gm base=@arg3 pitch=64
dstr desc=d5 loop=l0 stride=1024
loop loop=l0 trip=s0
  ld.fp32 dst=d1 src=d0 rows=s1 cols=s2 | wait m40 m1 set m0 m42
  usync unit=vector | wait m3
  vadds.fp32 dst=d3 a=d2 rows=s1 cols=s2 imm=1.0 | wait m0 set m1 m2
  st.fp32 dst=d5 src=d4 rows=s1 cols=s2 | wait m2 set m3
endloop
barrier scope=launch
halt
lower:
barrier scope=group
szc size=s0 full=4
szc size=s1 full=8
szc size=s2 full=16
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=2 ready=m2 free=m3
desc desc=d0 space=gm base=@arg2+512 pitch=64
dstr desc=d0 loop=l0 stride=1024
desc desc=d1 space=ub role=producer ring=g0 base=0x0 pitch=64
desc desc=d2 space=ub role=consumer ring=g0 base=0x0 pitch=64
desc desc=d3 space=ub role=producer ring=g1 base=0x400 pitch=64
desc desc=d4 space=ub role=consumer ring=g1 base=0x400 pitch=64
desc desc=d5 space=gm base=@arg3+512 pitch=64
dstr desc=d5 loop=l0 stride=1024
loop loop=l0 trip=s0
  ld.fp32 dst=d1 src=d0 rows=s1 cols=s2 | wait m41 m1 set m0 m43
  usync unit=vector | wait m3
  vadds.fp32 dst=d3 a=d2 rows=s1 cols=s2 imm=1.0 | wait m0 set m1 m2
  st.fp32 dst=d5 src=d4 rows=s1 cols=s2 | wait m2 set m3
endloop
barrier scope=launch
halt
