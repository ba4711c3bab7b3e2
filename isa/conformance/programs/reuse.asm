# c[i, j] = a[i] + b[i, j], int32: the row a[i] is loaded once for all j. What is switched off takes no slot and gives no signal.
.args 3
.entry unified 0 1:11
szc size=s0 full=3
szc size=s1 full=4
szc size=s2 full=1
szc size=s3 full=16
ring ring=g0 slot_bytes=64 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=64 slots=3 ready=m2 free=m3
ring ring=g2 slot_bytes=64 slots=2 ready=m4 free=m5
desc desc=d0 space=gm base=@arg0
dstr desc=d0 loop=l0 stride=64
desc desc=d1 space=gm base=@arg1
dstr desc=d1 loop=l0 stride=256
dstr desc=d1 loop=l1 stride=64
desc desc=d2 space=gm base=@arg2
dstr desc=d2 loop=l0 stride=256
dstr desc=d2 loop=l1 stride=64
desc desc=d3 space=ub role=producer ring=g0 base=0x0
desc desc=d4 space=ub role=consumer ring=g0 base=0x0
desc desc=d5 space=ub role=producer ring=g1 base=0x100
desc desc=d6 space=ub role=consumer ring=g1 base=0x100
desc desc=d7 space=ub role=producer ring=g2 base=0x200
desc desc=d8 space=ub role=consumer ring=g2 base=0x200
grid loops=2 phase=0 t0=s0 t1=s1
  ld.int32 dst=d3 src=d0 rows=s2 cols=s3 | if changed(l0) wait m1 set m0
  ld.int32 dst=d5 src=d1 rows=s2 cols=s3 | wait m3 set m2
  usync unit=vector | if changed(l0) wait m0
  usync unit=vector | wait m5
  vadd.int32 dst=d7 a=d4 b=d6 rows=s2 cols=s3 | wait m2 set m3 m4
  usync unit=vector | if changes(l0) set m1 order
  st.int32 dst=d2 src=d8 rows=s2 cols=s3 | wait m4 set m5
endgrid
halt
