# y = 3 x, fp16, 187 rows of 64 in 12 tiles of 16 rows, the last one of 11: loaded, doubled, added, stored through two rings.
.args 2
.entry unified 0 0:12
szc size=s0 full=12
szc size=s1 full=64
szt size=s2 loop=l0 full=16 tail=11
ring ring=g0 slot_bytes=2048 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=2048 slots=3 ready=m2 free=m3
desc desc=d0 space=gm base=@arg0 pitch=128
dstr desc=d0 loop=l0 stride=2048
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=128
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=128
desc desc=d3 space=ub base=0x8000 pitch=128
desc desc=d4 space=ub role=producer base=0x1000 ring=g1 pitch=128
desc desc=d5 space=ub role=consumer base=0x1000 ring=g1 pitch=128
desc desc=d6 space=gm base=@arg1 pitch=128
dstr desc=d6 loop=l0 stride=2048
grid loops=1 phase=0 t0=s0
  ld.fp16 dst=d1 src=d0 rows=s2 cols=s1 | wait m1 set m0
  vmuls.fp16 dst=d3 a=d2 rows=s2 cols=s1 imm=2.0 | wait m0
  vadd.fp16 dst=d4 a=d3 b=d2 rows=s2 cols=s1 | wait m3 set m2 m1 order
  st.fp16 dst=d6 src=d5 rows=s2 cols=s1 | wait m2 set m3
endgrid
halt
