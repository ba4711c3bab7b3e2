# Rows of 8 int32 doubled through a ring of two slots: one in the first phase, and in the second, in which the ring begins anew with its
# first slot, two that are read where those slots lie.
.args 2
.entry unified 0
szc size=s0 full=1
szc size=s1 full=8
ring ring=g0 slot_bytes=32 slots=2 ready=m0 free=m1
sem sem=m2 value=0
desc desc=d0 space=gm base=@arg0
desc desc=d1 space=gm base=@arg0+32
desc desc=d2 space=gm base=@arg0+64
desc desc=d3 space=ub role=producer ring=g0 base=0x0
desc desc=d4 space=ub role=consumer ring=g0 base=0x0
desc desc=d5 space=ub base=0x100
desc desc=d6 space=gm base=@arg1
ld.int32 dst=d3 src=d0 rows=s0 cols=s1 | wait m1 set m0
vadd.int32 dst=d5 a=d4 b=d4 rows=s0 cols=s1 | wait m0 set m1 m2
st.int32 dst=d6 src=d5 rows=s0 cols=s1 | wait m2
barrier scope=core
ring ring=g0 slot_bytes=32 slots=2 ready=m0 free=m1
sem sem=m2 value=0
desc desc=d7 space=ub base=0x0
desc desc=d8 space=ub base=0x20
desc desc=d9 space=gm base=@arg1+32
ld.int32 dst=d3 src=d1 rows=s0 cols=s1 | wait m1 set m0
ld.int32 dst=d3 src=d2 rows=s0 cols=s1 | wait m1 set m0
barrier scope=core
vmov.int32 dst=d5 a=d7 rows=s0 cols=s1 | wait m0
vsub.int32 dst=d5 a=d5 b=d8 rows=s0 cols=s1 | wait m0 set m2 order
st.int32 dst=d9 src=d5 rows=s0 cols=s1 | wait m2
halt
