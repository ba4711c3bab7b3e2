# C = A B, fp16 with fp32 accumulators: 40 x 48 by 48 x 24 in 3 x 2 blocks of 16 x 16, tails of 8, in 3 steps of 16 along k.
.args 3
.entry unified 0 0:6
szc size=s0 full=3
szc size=s1 full=2
szc size=s2 full=3
szc size=s3 full=16
szt size=s4 loop=l0 full=16 tail=8
szt size=s5 loop=l1 full=16 tail=8
ring ring=g0 slot_bytes=1024 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=2 ready=m2 free=m3
ring ring=g2 slot_bytes=1024 slots=2 ready=m4 free=m5
desc desc=d0 space=gm base=@arg0 pitch=96
dstr desc=d0 loop=l0 stride=1536
dstr desc=d0 loop=l2 stride=32
desc desc=d1 space=gm base=@arg1 pitch=48
dstr desc=d1 loop=l1 stride=32
dstr desc=d1 loop=l2 stride=768
desc desc=d2 space=l1 role=producer ring=g0 base=0x0 pitch=32
desc desc=d3 space=l1 role=producer ring=g0 base=0x200 pitch=32
desc desc=d4 space=l1 role=consumer ring=g0 base=0x0 pitch=32
desc desc=d5 space=l1 role=consumer ring=g0 base=0x200 pitch=32
desc desc=d6 space=l0a role=producer ring=g1 base=0x0 pitch=32
desc desc=d7 space=l0b role=producer ring=g1 base=0x0 pitch=32
desc desc=d8 space=l0a role=consumer ring=g1 base=0x0 pitch=32
desc desc=d9 space=l0b role=consumer ring=g1 base=0x0 pitch=32
desc desc=d10 space=l0c role=producer ring=g2 base=0x0 pitch=64
desc desc=d11 space=l0c role=consumer ring=g2 base=0x0 pitch=64
desc desc=d12 space=gm base=@arg2 pitch=48
dstr desc=d12 loop=l0 stride=768
dstr desc=d12 loop=l1 stride=32
grid loops=2 phase=0 t0=s0 t1=s1
  usync unit=cube | wait m5
  loop loop=l2 trip=s2
    ld.fp16 dst=d2 src=d0 rows=s4 cols=s3 | wait m1
    ld.fp16 dst=d3 src=d1 rows=s3 cols=s5 | set m0
    mvl0a.fp16 dst=d6 src=d4 rows=s4 cols=s3 | wait m0 m3
    mvl0b.fp16 dst=d7 src=d5 rows=s3 cols=s5 | set m1 m2
    mma.fp16 dst=d10 a=d8 b=d9 m=s4 n=s5 k=s3 | if first(l2) wait m2 set m3
    mmac.fp16 dst=d10 a=d8 b=d9 m=s4 n=s5 k=s3 | if not_first(l2) wait m2 set m3 order
  endloop
  usync unit=cube | set m4 order
  fix.fp32->fp16 dst=d12 src=d11 rows=s4 cols=s5 act=none | wait m4 set m5
endgrid
halt
